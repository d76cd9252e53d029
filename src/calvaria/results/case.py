"""One case from its file to its folder of results: what ``reconstruct``, ``refine`` and ``demo`` do alike."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from calvaria import __version__
from calvaria.errors import InputError
from calvaria.jobs import Progress, unheard
from calvaria.results.dicom_out import Archive, DicomAsked, archive_for
from calvaria.results.images import UNCERTAINTY, write_images
from calvaria.results.names import (
    DESIGN,
    RESULT,
    WRITTEN,
    image_suffix,
    is_dicom,
    names_of_design,
    names_of_dicom,
)
from calvaria.results.own_files import OwnFiles
from calvaria.results.reading import input_of, read_case
from calvaria.results.record import Input, Patch, Record, Seconds, SymmetryPlane, rounded_refinement
from calvaria.results.settings import Settings
from calvaria.results.staging import files_in, require_room, staged
from calvaria.results.word import read_word, with_hashes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from calvaria.io.dicom import DicomSource
    from calvaria.metrics import Scores
    from calvaria.pipeline import Reconstruction
    from calvaria.reconstruction.holes import Hole
    from calvaria.refinement.refine import Refinement
    from calvaria.volume import Volume

    H = TypeVar("H", bound=Hole)

ENGINE_SHARE = (0.1, 0.8)
"""Where the engine's part of the progress bar begins and ends; reading comes before, writing after."""

IMAGE_ENDINGS = {".nii": ".nii.gz", ".nii.gz": ".nii.gz", ".mha": ".mha", ".mhd": ".mha"}
"""Input suffix -> the suffix of the images written; everything else gives NRRD."""

FILE_NAMES = (
    *(f"{name}{ending}" for name in ("patch", "completed") for ending in WRITTEN),
    "patch.stl",
    UNCERTAINTY,
    "preview.png",
    "refinement.png",
    RESULT,
)
"""Every file that a run may leave in its output folder."""


class Clock:
    """Seconds between laps, by name."""

    def __init__(self) -> None:
        """Begin now."""
        self._begin = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """What was done since the last lap has this name."""
        now = time.perf_counter()
        self._laps[name] = now - self._last
        self._last = now

    def seconds(self, stages: dict[str, float]) -> Seconds:
        """The laps so far, what the stages inside ``reconstruct`` took, and the whole, rounded to ms."""
        laps, inner = (
            {name: round(float(seconds), 3) for name, seconds in found.items()} for found in (self._laps, stages)
        )
        return Seconds(laps, inner, round(time.perf_counter() - self._begin, 3))


def run_case(
    source: Path,
    output: Path,
    settings: Settings,
    progress: Progress = unheard,
    reference: Volume | None = None,
    *,
    dicom: DicomAsked | None = None,
    study: int | None = None,
    own: OwnFiles | None = None,
) -> Record:
    """Reconstruct one file and write patch, completed skull, surface, picture and result.json.

    Args:
        source: a CT or a mask of a skull, or its bone as a closed mesh.
        output: folder for the results; nothing half written is ever in it.
        settings: what is asked for.
        progress: called with the stage and the fraction done.
        reference: the true patch on the same grid, if it is known: drawn beside the result and scored.
        dicom: what is asked for of DICOM; None: nothing.
        study: which one of several in the source; None: as the settings have it.
        own: what only this patient has.

    Returns:
        What result.json holds.

    Raises:
        CalvariaError: the file cannot be read or used, or the folder cannot be written to: this before any reading.
    """
    clock = Clock()
    progress("read", 0.0)
    require_place(output, source, *_own_sources(own))
    require_dicom(source, dicom)
    settings = with_hashes(settings, source)
    notes: list[str] = []
    settings = settings.of_study(study)
    result, inputs = reconstructed(source, settings, clock=clock, notes=notes, progress=progress, own=own)
    return publish(
        result,
        inputs,
        output,
        settings,
        clock=clock,
        notes=notes,
        progress=progress,
        reference=reference,
        archive=archive_for(source.name, inputs.dicom, dicom),
    )


def require_dicom(source: Path, asked: DicomAsked | None) -> None:
    """Raise, before any reading, where results are asked for as DICOM and the input is none.

    Raises:
        InputError: that is so.
    """
    if asked is not None and not is_dicom(source):
        archive_for(source.name, None, asked)


def reconstructed(
    source: Path,
    settings: Settings,
    *,
    clock: Clock,
    notes: list[str],
    progress: Progress = unheard,
    own: OwnFiles | None = None,
) -> tuple[Reconstruction, Inputs]:
    """Read one file and reconstruct it; nothing is written.

    Args:
        source: a CT or a mask of a skull, or its bone as a closed mesh.
        settings: what is asked for, from `with_hashes`.
        clock: of the steps, which are added to it.
        notes: what is doubtful of the file as it was read is added to them.
        progress: called with the stage and the fraction done.
        own: what only this patient has.
    """
    read = read_case(source, settings, notes)
    word = read_word(settings.word, read.volume.grid, settings.orientation) if settings.word.said else None
    scans: list[Input] = []
    given = {} if own is None else own.read(lambda path: _own_scan(path, notes, scans))
    clock.lap("read")
    from calvaria.pipeline import reconstruct  # after reading: a bad file is reported at once

    clock.lap("load")
    result = reconstruct(
        read.volume,
        engine=settings.engine,
        kind=read.kind(settings.kind),
        device=settings.device,
        threshold_hu=settings.threshold_hu,
        min_hole_ml=settings.min_hole_ml,
        refine=settings.refine,
        word=word,
        **given,
        progress=engine_share(progress),
        name=source.name,
    )
    clock.lap("reconstruct")
    skull = input_of(source, read.volume, read.geometry)
    return result, Inputs(source, skull, dicom=read.dicom, own_scan=scans[0] if scans else None)


def _own_sources(own: OwnFiles | None) -> list[Path]:
    """The file of the patient's own bone, where there is one."""
    return [own.path] if own is not None and own.path is not None else []


def _own_scan(path: Path, notes: list[str], scans: list[Input]) -> Volume:
    """The scan of the patient's own bone; what is recorded of it is added to ``scans``."""
    lines: list[str] = []
    read = read_case(path, Settings(), lines)
    notes += [f"the scan of the patient's own bone: {line}" for line in lines]  # its name may be the patient's
    scans.append(input_of(path, read.volume, read.geometry))
    return read.volume


@dataclass(frozen=True)
class Inputs:
    """What results were made of.

    Args:
        source: the skull's file.
        skull: what is recorded of it.
        patch: what is recorded of a patch that was given.
        dicom: where a DICOM series comes from; it says who the patient is, so it is kept out of all records.
        own_scan: what is recorded of a scan of the patient's own bone.
    """

    source: Path
    skull: Input
    patch: Input | None = None
    dicom: DicomSource | None = field(default=None, repr=False)
    own_scan: Input | None = None


def require_place(output: Path, *sources: Path, names: Sequence[str] = ()) -> None:
    """Make sure, before any reading, that results can be written and take no input's place.

    Args:
        output: folder for the results.
        sources: the inputs.
        names: every file that may be written or taken away; by default those of a reconstruction.

    Raises:
        InputError: they cannot, or would.
    """
    names = names or names_in(output)
    for source in sources:
        if source.name in names and source.resolve().parent == output.resolve():
            raise InputError(f"{source.name}: the results would replace the input; give another folder with -o")
    require_room(output, names)


def names_in(output: Path) -> list[str]:
    """Every file that a run may leave in its folder or take away there: the implant of an earlier patch has to go."""
    return [*FILE_NAMES, *names_of_dicom(output), *(names_of_design(output) if (output / DESIGN).is_file() else [])]


def engine_share(progress: Progress) -> Progress:
    """The engine's own progress as its part of the whole."""
    start, end = ENGINE_SHARE
    return lambda stage, fraction: progress(stage, start + (end - start) * fraction)


def publish(
    result: Reconstruction,
    inputs: Inputs,
    output: Path,
    settings: Settings,
    *,
    clock: Clock,
    notes: list[str],
    progress: Progress = unheard,
    reference: Volume | None = None,
    archive: Archive | None = None,
) -> Record:
    """Write patch, completed skull, surface, pictures and result.json: all of them, or none.

    Args:
        result: what was made.
        inputs: what it was made of; images are written in the skull's format.
        output: folder for the results.
        settings: what was asked for.
        clock: of the steps so far.
        notes: what is doubtful of the inputs as they were read.
        progress: called with the stage and the fraction done.
        reference: the true patch on the same grid, if it is known: drawn beside the result and scored.
        archive: the scan whose archive the results go to as DICOM, if that is asked for.

    Returns:
        What result.json holds.
    """
    with staged(output, names_in(output), last=RESULT) as folder:
        record = fill(
            folder,
            result,
            inputs,
            settings,
            clock=clock,
            notes=notes,
            progress=progress,
            reference=reference,
            archive=archive,
        )
    progress("done", 1.0)
    return record


def fill(
    folder: Path,
    result: Reconstruction,
    inputs: Inputs,
    settings: Settings,
    *,
    clock: Clock,
    notes: list[str],
    progress: Progress = unheard,
    reference: Volume | None = None,
    archive: Archive | None = None,
) -> Record:
    """Write the files of `publish` into a folder that is there and empty."""
    progress("write", ENGINE_SHARE[1])
    ending = written_ending(inputs.source)
    with ThreadPoolExecutor(1) as beside:
        written = beside.submit(write_images, folder, result, ending)
        if settings.preview:
            progress("picture", 0.9)
            _draw(folder, result, reference)
            clock.lap("picture")
        written.result()
        clock.lap("write")
    if archive is not None:
        _write_dicom(folder, result, archive)
        clock.lap("dicom")
    scores = None if reference is None else _score(result, reference)
    files = sorted([*files_in(folder), RESULT])
    record = _record(inputs, settings, result, notes=notes, scores=scores, clock=clock, files=files)
    if archive is not None:
        record = replace(record, dicom=DicomAsked(archive.deidentify))
    _write(folder / RESULT, record)
    return record


def written_ending(source: Path) -> str:
    """The suffix of the images that are written for an input.

    >>> written_ending(Path("head.nii")), written_ending(Path("bone.stl"))
    ('.nii.gz', '.nrrd')
    """
    return IMAGE_ENDINGS.get(image_suffix(source), ".nrrd")


def peak_memory_mb() -> float | None:
    """The most memory this process has held so far, MB (10^6 bytes); None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def _write_dicom(folder: Path, result: Reconstruction, archive: Archive) -> None:
    """Patch, completed skull and the picture that was drawn, for an archive."""
    from calvaria.results.dicom_out import picture_in, write_dicom

    picture = picture_in(folder / "preview.png")
    write_dicom(folder, archive, patch=result.patch, completed=result.completed, picture=picture)


def _draw(folder: Path, result: Reconstruction, reference: Volume | None) -> None:
    """The pictures, with the head upright: the case, and beside it what a refinement did."""
    from calvaria.report import render_case, render_refinement

    frame = result.frame.to_world

    def draw_refinement(done: Refinement, before: Volume) -> None:
        picture = render_refinement(result.defective, before, result.patch, done.displacement, frame=frame)
        picture.save(folder / "refinement.png")

    with ThreadPoolExecutor(1) as beside:
        drawn = None
        if result.refinement is not None and result.unrefined is not None and result.patch.mask.any():
            drawn = beside.submit(draw_refinement, result.refinement, result.unrefined)
        doubt, left_open = _off_by(result), result.open_places
        sheet = render_case(result.defective, result.patch, reference, frame, left_open, off_by=doubt)
        sheet.save(folder / "preview.png", compress_level=4)  # half the time of 6, 4 % more bytes
        if drawn is not None:
            drawn.result()


def _off_by(result: Reconstruction) -> Callable[[NDArray[np.floating]], NDArray[np.floating]] | None:
    """How far the patch may be off at points; None where that was not held against truth."""
    from calvaria.results.images import LEVEL

    if result.uncertainty is None:
        return None
    return partial(result.uncertainty.at, level=LEVEL)


def _score(result: Reconstruction, reference: Volume) -> Scores:
    from calvaria.pipeline import evaluate

    return evaluate(result.patch, reference, result.defective)


def _write(path: Path, record: Record) -> None:
    from calvaria.io import write_result_json

    write_result_json(path, record.to_json())


def _record(
    inputs: Inputs,
    settings: Settings,
    result: Reconstruction,
    *,
    notes: list[str],
    scores: Scores | None,
    clock: Clock,
    files: list[str],
) -> Record:
    """The record of a case that is all but written."""
    report = result.report
    plane = SymmetryPlane(tuple(float(x) for x in result.plane.normal), float(result.plane.offset_mm))
    return Record(
        versions=versions(),
        input=inputs.skull,
        parameters=settings.without_folders(),
        patch=Patch(not result.patch.mask.any(), round(result.patch.volume_ml, 4)),
        holes=tuple(_rounded(hole) for hole in result.holes),
        left_open=tuple(_rounded(hole) for hole in report.left_open),
        plane=plane,
        confidence=result.confidence,
        model=report.model,
        pose=report.pose,
        warnings=(*notes, *report.warnings),
        seconds=clock.seconds(report.seconds),
        peak_memory_mb=peak_memory_mb(),
        files=tuple(files),
        scores=scores,
        refinement=None if result.refinement is None else rounded_refinement(result.refinement.report),
        given_patch=inputs.patch,
        checks=report.checks,
        own_bone=report.own_bone,
        own_scan=inputs.own_scan,
    )


def versions(*more: str) -> dict[str, str]:
    """Of calvaria, Python, what it always computes with, and more packages."""
    return {
        "calvaria": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "scipy", *more)},
    }


def _rounded(hole: H) -> H:
    """A hole in figures that mean something: 0.1 mm3, 0.01 mm2, um."""
    x, y, z = (round(float(x), 3) for x in hole.centre_mm)
    return replace(
        hole,
        volume_ml=round(float(hole.volume_ml), 4),
        area_cm2=round(float(hole.area_cm2), 4),
        centre_mm=(x, y, z),
    )


__all__ = [
    "FILE_NAMES",
    "Clock",
    "Inputs",
    "engine_share",
    "fill",
    "peak_memory_mb",
    "publish",
    "reconstructed",
    "require_dicom",
    "require_place",
    "run_case",
    "versions",
    "written_ending",
]
