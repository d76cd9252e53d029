"""The whole way, once: from a head with a hole to the missing bone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from threadpoolctl import threadpool_limits

from calvaria.errors import InputError
from calvaria.models import ModelInfo, find
from calvaria.reconstruction.box import box_to_world
from calvaria.reconstruction.confidence import Confidence, judge
from calvaria.reconstruction.doubts import doubts, openings_within, require_known_bone, unseen, within_scan
from calvaria.reconstruction.engines import load_engine
from calvaria.reconstruction.holes import Hole, holes_in, left_open, left_open_line
from calvaria.reconstruction.postprocess import MIN_PIECE_ML, to_patch
from calvaria.reconstruction.protocol import Engine, Surveyor
from calvaria.reconstruction.repose import settle
from calvaria.reconstruction.surface import BoneSurface
from calvaria.skull.canonical import CanonicalFrame, locate
from calvaria.skull.checks import lost_spacing, require_adult, require_head_sized
from calvaria.skull.segment import kind_of, segment_bone
from calvaria.symmetry.plane import Plane
from calvaria.volume import Volume, bounding_box

if TYPE_CHECKING:
    from calvaria.metrics import Scores

MIN_HOLE_ML = 5.0
"""Holes of less missing bone are left open unless asked otherwise: smaller ones are natural openings as often."""

Progress = Callable[[str, float], None]
"""Called with the stage that begins and the fraction of the whole that is done."""

STAGES = {"bone": 0.0, "pose": 0.05, "hole": 0.2, "completion": 0.5, "patch": 0.85, "done": 1.0}
"""Stages in their order, with the share of the time that is over when each begins."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What `reconstruct` gives back; all volumes are masks on the input's grid.

    Args:
        patch: the missing bone; empty if no defect was found.
        completed: defective skull and patch together.
        defective: the bone that is there: the input, or what was segmented out of a CT.
        plane: the mid-sagittal plane, world mm.
        frame: the canonical frame of this skull.
        holes: what was filled, largest first.
        confidence: what accuracy to expect, or why none can be said.
        report: JSON-ready: model and its hash, seconds of each stage, warnings.
    """

    patch: Volume
    completed: Volume
    defective: Volume
    plane: Plane
    frame: CanonicalFrame
    holes: tuple[Hole, ...]
    confidence: Confidence
    report: dict[str, Any]


@dataclass
class _Clock:
    """Times the stages and tells the caller which begins."""

    progress: Progress | None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        if self.progress is not None:
            self.progress(name, STAGES[name])
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def reconstruct(
    volume: Volume,
    *,
    engine: str = "shape-prior",
    kind: Literal["auto", "mask", "ct"] = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    min_hole_ml: float = MIN_HOLE_ML,
    progress: Progress | None = None,
) -> Reconstruction:
    """Give back the missing bone of a skull.

    Args:
        volume: a bone mask (two values) or a CT in HU.
        engine: name of the model that completes the skull, or its weights file.
        kind: what the volume is; "auto" tells by its values.
        device: where a network runs; the shape prior runs on the CPU.
        min_hole_ml: holes of less missing bone than this are left open, and told in the report.
        progress: called when a stage begins.

    Returns:
        The patch and everything known about it. A skull without a defect gives an empty patch, and a warning says so.

    Raises:
        InputError: the volume is neither mask nor CT, or shows no skull; or there is no such model or device,
            or it cannot fill holes as small as that.
    """
    completer = _filling(load_engine(engine, device), engine, min_hole_ml)
    # Two threads load parts of scipy; racing for the package itself, one was seen to fail (KeyError: 'scipy').
    import_module("scipy.linalg")
    # Linear algebra that shares its work by itself waits by spinning, beside the engine's own two threads
    # (benchmarks/threads_speed.py).
    with threadpool_limits(1, user_api="blas"):
        return _reconstruct(volume, completer, find(engine), kind, _Clock(progress), min_hole_ml=min_hole_ml)


def _filling(completer: Engine, name: str, min_hole_ml: float) -> Engine:
    """The engine, told which holes to leave."""
    if not MIN_PIECE_ML <= min_hole_ml < math.inf:
        raise InputError(f"the smallest hole to fill must be {MIN_PIECE_ML} ml or more; got {min_hole_ml} ml")
    if min_hole_ml == MIN_HOLE_ML:
        return completer
    if not isinstance(completer, Surveyor):
        raise InputError(f"the smallest hole to fill cannot be set for {name!r}, which finds holes in its own way")
    return completer.with_min_hole_ml(min_hole_ml)


def _reconstruct(
    volume: Volume,
    completer: Engine,
    model: ModelInfo,
    kind: Literal["auto", "mask", "ct"],
    clock: _Clock,
    *,
    min_hole_ml: float,
) -> Reconstruction:
    """The stages of `reconstruct`, one after the other."""
    with ThreadPoolExecutor(1) as beside:
        ready = beside.submit(completer.prepare)
        with clock.stage("bone"):
            defective = bone_of(volume, kind)
            box = bounding_box(defective.mask)
            if box is None:
                raise InputError("the mask is empty: no voxel is bone")
            skull = defective.crop(box)
            require_head_sized(skull)
        with clock.stage("pose"):
            frame = locate(skull, completer.template)
            require_adult(frame, defective.grid)
            surface = BoneSurface.of(skull)  # while the engine is not ready yet
            ready.result()
    with clock.stage("hole"):
        frame, boxed, sketch = settle(skull, frame, completer, surface)
    with clock.stage("completion"):
        soft = completer.complete(boxed, sketch)
        require_known_bone(soft)
        soft = within_scan(soft, boxed, frame, defective.grid, min_hole_ml)
    with clock.stage("patch"):
        patch = to_patch(soft, frame, defective)
        completed = defective.with_data(defective.mask | patch.mask)
        holes = holes_in(patch)
        rest: tuple[Hole, ...] = ()
        if isinstance(completer, Surveyor):
            rest = left_open(openings_within(completer.left_open(boxed, soft), frame, defective.grid), frame)
    confidence = judge(soft, boxed, frame, holes, calibrated=completer.calibrated)
    lines = doubts(frame, soft, defective.grid)
    confidence = confidence.doubted(lines)
    lines += unseen(defective, frame, lines) + tuple(left_open_line(hole) for hole in rest)
    lines += lost_spacing(defective.grid)
    if clock.progress is not None:
        clock.progress("done", STAGES["done"])
    report = {
        "model": {"name": model.name, "sha256": model.sha256, "licence": model.licence},
        "seconds": clock.seconds,
        "left_open": [asdict(hole) | {"across_mm": round(hole.across_mm, 1)} for hole in rest],
        "warnings": _warnings(frame, holes, confidence, lines, min_hole_ml),
        "pose": {
            "canonical_to_world": box_to_world(frame).round(6).tolist(),
            "scale": frame.scale.round(4).tolist(),
            "mismatch": round(frame.cost, 4),
            "scan_ends": len(frame.cuts),
        },
    }
    return Reconstruction(patch, completed, defective, frame.plane, frame, holes, confidence, report)


def bone_of(volume: Volume, kind: Literal["auto", "mask", "ct"] = "auto") -> Volume:
    """The bone of a CT, or the mask itself, as booleans.

    Raises:
        InputError: the volume is not what ``kind`` says, or nothing that is known.
    """
    found = kind_of(volume) if kind == "auto" else kind
    if found == "ct":
        return segment_bone(volume)
    return volume if volume.is_mask else volume.with_data(volume.data > 0)


def _warnings(
    frame: CanonicalFrame,
    holes: tuple[Hole, ...],
    confidence: Confidence,
    lines: tuple[str, ...],
    min_hole_ml: float,
) -> list[str]:
    warnings = []
    if not holes:
        warnings.append(f"no defect of {min_hole_ml:g} ml or more was found: the patch is empty")
    elif confidence.expected_dsc is None:
        warnings.append(confidence.reason)
    warnings += [line for line in lines if line not in warnings]
    up = frame.to_world[2, 2]
    if up < 0.5:
        warnings.append("the head does not stand upright in the file's coordinates: check the orientation of the input")
    return warnings


def evaluate(patch: Volume, truth: Volume, defective: Volume) -> Scores:
    """Score a patch by the challenge's definitions; see `calvaria.metrics.score`."""
    from calvaria.metrics import score

    return score(patch, truth, defective)
