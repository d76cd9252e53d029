"""One case from its file to its folder of results: what ``reconstruct`` and ``demo`` both do."""

from __future__ import annotations

import json
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calvaria import __version__
from calvaria.cli.options import Device, Kind
from calvaria.cli.screen import Progress, json_ready
from calvaria.errors import InputError
from calvaria.results.names import image_suffix, is_mesh
from calvaria.results.staging import staged

if TYPE_CHECKING:
    from calvaria.metrics import Scores
    from calvaria.pipeline import Reconstruction
    from calvaria.volume import Volume

SCHEMA = 1
"""Version of the layout of result.json."""

ENGINE_SHARE = (0.1, 0.8)
"""Where the engine's part of the progress bar begins and ends; reading comes before, writing after."""

SURFACE_SMOOTH_MM = 0.5
"""Sigma of the Gaussian that takes the voxels' steps off patch.stl: about a voxel of a head CT, well below its bone."""

IMAGE_ENDINGS = {".nii": ".nii.gz", ".nii.gz": ".nii.gz", ".mha": ".mha", ".mhd": ".mha"}
"""Input suffix -> the suffix of the images written; everything else gives NRRD."""

FILE_NAMES = (
    *(f"{name}{ending}" for name in ("patch", "completed") for ending in (".nrrd", ".nii.gz", ".mha")),
    "patch.stl",
    "preview.png",
    "result.json",
)
"""Every file that a run may leave in its output folder."""


@dataclass(frozen=True)
class Settings:
    """What is asked for; stands in result.json as ``parameters``.

    Args:
        engine: name of the model that completes the skull, or its weights file.
        kind: ``mask``, ``ct``, or ``auto`` to tell by the values.
        orientation: where the voxel axes run (``LPS``), for files that do not say it.
        preview: whether to draw preview.png.
        device: where a network runs.
        min_hole_ml: holes of less missing bone are left open.
    """

    engine: str = "shape-prior"
    kind: Kind = "auto"
    orientation: str | None = None
    preview: bool = True
    device: Device = "auto"
    min_hole_ml: float = 5.0


class _Clock:
    """Seconds between laps, by name."""

    def __init__(self) -> None:
        self._begin = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._laps[name] = now - self._last
        self._last = now

    def total(self, inner: dict[str, float]) -> dict[str, Any]:
        """The laps, what the stages inside ``reconstruct`` took, and the whole, rounded to ms."""
        laps = {name: round(seconds, 3) for name, seconds in self._laps.items()}
        stages = {name: round(float(seconds), 3) for name, seconds in inner.items()}
        return {**laps, "stages": stages, "total": round(time.perf_counter() - self._begin, 3)}


def run_case(
    source: Path, output: Path, settings: Settings, progress: Progress | None = None, reference: Volume | None = None
) -> dict[str, Any]:
    """Reconstruct one file and write patch, completed skull, surface, picture and result.json.

    Args:
        source: a CT or a mask of a skull, or its bone as a closed mesh.
        output: folder for the results; nothing half written is ever in it.
        settings: what is asked for.
        progress: told the stage and the fraction done.
        reference: the true patch on the same grid, if it is known: drawn beside the result and scored.

    Returns:
        What result.json holds, as read back from it.

    Raises:
        CalvariaError: the file cannot be read or used, or the folder cannot be written to.
    """
    tell = progress or (lambda stage, fraction: None)
    clock = _Clock()
    tell("read", 0.0)
    _require_apart(source, output)
    volume = _read(source, settings.orientation)
    clock.lap("read")
    from calvaria.pipeline import reconstruct  # after reading: a bad file is told at once

    clock.lap("load")
    start, end = ENGINE_SHARE
    result = reconstruct(
        volume,
        engine=settings.engine,
        kind=settings.kind,
        device=settings.device,
        min_hole_ml=settings.min_hole_ml,
        progress=lambda stage, fraction: tell(stage, start + (end - start) * fraction),
    )
    clock.lap("reconstruct")
    tell("write", end)
    with staged(output, FILE_NAMES, last="result.json") as folder:
        with ThreadPoolExecutor(1) as beside:
            written = beside.submit(_write_images, folder, result, IMAGE_ENDINGS.get(image_suffix(source), ".nrrd"))
            if settings.preview:
                tell("picture", 0.9)
                _draw(folder / "preview.png", result, reference)
                clock.lap("picture")
            written.result()
            clock.lap("write")
        record = _write_record(
            folder / "result.json",
            source=source,
            volume=volume,
            settings=settings,
            result=result,
            reference=reference,
            clock=clock,
        )
    tell("done", 1.0)
    return record


def _require_apart(source: Path, output: Path) -> None:
    """Raise where the results would take the input's place."""
    if source.name in FILE_NAMES and source.resolve().parent == output.resolve():
        raise InputError(f"{source.name}: the results would replace the input; give another folder with -o")


def _read(source: Path, orientation: str | None) -> Volume:
    """An image as it is; a closed mesh as a mask on a grid of its own."""
    from calvaria.io import read_as_mask, read_volume

    if is_mesh(source):
        return read_as_mask(source)
    return read_volume(source, orientation=orientation)


def peak_memory_mb() -> float | None:
    """The most memory this process has held so far, MB (10^6 bytes); None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def _write_images(folder: Path, result: Reconstruction, ending: str) -> None:
    """Patch and completed skull as images, and the patch as a surface (none for an empty patch)."""
    from calvaria.io import write_mesh, write_volume
    from calvaria.volume import extract_surface

    write_volume(folder / f"patch{ending}", result.patch)
    write_volume(folder / f"completed{ending}", result.completed)
    if result.patch.mask.any():
        write_mesh(folder / "patch.stl", extract_surface(result.patch, smooth_mm=SURFACE_SMOOTH_MM))


def _draw(path: Path, result: Reconstruction, reference: Volume | None) -> None:
    """The picture, with the head upright."""
    from calvaria.report import render_case

    render_case(result.defective, result.patch, reference, frame=result.frame.to_world).save(path)


def _write_record(
    path: Path,
    *,
    source: Path,
    volume: Volume,
    settings: Settings,
    result: Reconstruction,
    reference: Volume | None,
    clock: _Clock,
) -> dict[str, Any]:
    """Write result.json beside the other files, and give back what it holds."""
    from calvaria.io import sha256_of, write_result_json
    from calvaria.pipeline import evaluate

    scores = None if reference is None else evaluate(result.patch, reference, result.defective)
    record = {
        "schema": SCHEMA,
        "versions": _versions(),
        "input": _describe_input(source, volume) | {"sha256": sha256_of(source)},
        # Of a weights file the name, beside its hash: its folders may be named after people.
        "parameters": asdict(settings) | {"engine": Path(settings.engine).name},
        **_describe_result(result, scores),
        "seconds": clock.total(result.report.get("seconds", {})),
        "peak_memory_mb": peak_memory_mb(),
        "files": sorted([*(file.name for file in path.parent.iterdir()), path.name]),
    }
    write_result_json(path, json_ready(record))
    written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return written


def _versions() -> dict[str, str]:
    return {
        "calvaria": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "scipy")},
    }


def _describe_input(source: Path, volume: Volume) -> dict[str, Any]:
    """The input without a trace of whose it is: its name may be the patient's, so only the suffix is kept."""
    return {
        "format": image_suffix(source) or source.suffix.lower(),
        "shape": list(volume.shape),
        "spacing_mm": [round(step, 6) for step in volume.grid.spacing_mm],
    }


def _describe_result(result: Reconstruction, scores: Scores | None) -> dict[str, Any]:
    """The figures of a reconstruction, and its report but for the seconds."""
    normal, offset_mm = result.plane.normal, result.plane.offset_mm
    record: dict[str, Any] = {
        "patch": {"empty": not result.patch.mask.any(), "volume_ml": round(result.patch.volume_ml, 4)},
        "holes": [
            {
                "volume_ml": round(float(hole.volume_ml), 4),
                "area_cm2": round(float(hole.area_cm2), 4),
                "centre_mm": [round(float(x), 3) for x in hole.centre_mm],
            }
            for hole in result.holes
        ],
        "plane": {"normal": [float(x) for x in normal], "offset_mm": float(offset_mm)},
        "confidence": asdict(result.confidence),
    }
    record |= {key: value for key, value in result.report.items() if key not in {"seconds", *record}}
    record.setdefault("warnings", [])
    return record if scores is None else record | {"scores": asdict(scores)}
