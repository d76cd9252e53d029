"""The whole way, once: from a head with a hole to the missing bone."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Literal, cast

from threadpoolctl import threadpool_limits

from calvaria.errors import InputError, naming
from calvaria.jobs import Progress, unheard
from calvaria.models import ModelInfo, find
from calvaria.reconstruction.confidence import Confidence, judge
from calvaria.reconstruction.doubts import doubts, openings_within, require_known_bone, unseen, within_scan
from calvaria.reconstruction.engines import load_engine
from calvaria.reconstruction.holes import Hole, holes_in, left_open, left_open_line, place_of
from calvaria.reconstruction.postprocess import MIN_PIECE_ML, to_patch
from calvaria.reconstruction.protocol import Engine, Surveyor
from calvaria.reconstruction.surface import BoneSurface
from calvaria.skull.bone import bone_of
from calvaria.skull.canonical import CanonicalFrame, locate
from calvaria.skull.checks import require_adult, require_head_sized
from calvaria.symmetry.plane import Plane
from calvaria.volume import Box, Volume, bounding_box

if TYPE_CHECKING:
    from calvaria.metrics import Scores

MIN_HOLE_ML = 5.0
"""Holes of less missing bone are left open unless asked otherwise: smaller ones are natural openings as often."""

Kind = Literal["auto", "mask", "ct"]
"""What a volume holds; "auto" tells by its values."""

Device = Literal["auto", "cpu", "cuda"]
"""Where a network runs."""

STAGES = {"bone": 0.0, "pose": 0.05, "hole": 0.2, "completion": 0.5, "patch": 0.85, "done": 1.0}
"""Stages in their order, with the share of the time that is over when each begins."""

MIN_UPRIGHT = 0.5
"""Cosine of the angle between the head's axis and the file's, 60 degrees, below which a head counts as lying."""


@dataclass(frozen=True)
class ModelUsed:
    """The model that completed a skull.

    Args:
        name: under which it is registered.
        sha256: of its weights.
        licence: that holds for what comes from it.
    """

    name: str
    sha256: str
    licence: str


@dataclass(frozen=True)
class PoseReport:
    """How the head lies.

    Args:
        canonical_to_world: (4, 4), rows; canonical mm -> world LPS mm. Always rigid: its scales stand apart.
        scale: size of this skull over the mean skull along x, y, z.
        mismatch: how unlike the head is to those known; see `calvaria.skull.canonical`.
        scan_ends: number of the volume's faces that cut through the head.
    """

    canonical_to_world: tuple[tuple[float, ...], ...]
    scale: tuple[float, ...]
    mismatch: float
    scan_ends: int

    @classmethod
    def of(cls, frame: CanonicalFrame) -> PoseReport:
        """What is said of a canonical frame."""
        rows = tuple(tuple(row) for row in frame.to_world.round(9).tolist())
        return cls(rows, tuple(frame.scale.round(6).tolist()), round(float(frame.cost), 4), len(frame.cuts))


@dataclass(frozen=True)
class Report:
    """What is known of a reconstruction beside its volumes and figures.

    Args:
        model: what completed the skull.
        pose: how the head lies.
        seconds: stage -> how long it took.
        warnings: one line each, for the user to read.
        left_open: openings of the vault that are smaller than what was asked to be filled, largest first.
    """

    model: ModelUsed
    pose: PoseReport
    seconds: dict[str, float]
    warnings: tuple[str, ...] = ()
    left_open: tuple[Hole, ...] = ()


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
        report: model and its hash, pose, seconds of each stage, warnings.
    """

    patch: Volume
    completed: Volume
    defective: Volume
    plane: Plane
    frame: CanonicalFrame
    holes: tuple[Hole, ...]
    confidence: Confidence
    report: Report


@dataclass
class _Clock:
    """Times the stages and tells the caller which begins."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.progress(name, STAGES[name])
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def reconstruct(
    volume: Volume,
    *,
    engine: str = "shape-prior",
    kind: Kind = "auto",
    device: Device = "auto",
    threshold_hu: float | None = None,
    min_hole_ml: float = MIN_HOLE_ML,
    progress: Progress = unheard,
    name: str = "the volume",
) -> Reconstruction:
    """Give back the missing bone of a skull.

    Args:
        volume: a bone mask (two values) or a CT in HU.
        engine: name of the model that completes the skull, or its weights file.
        kind: what the volume is; "auto" tells by its values.
        device: where a network runs; the shape prior runs on the CPU.
        threshold_hu: bone of a CT lies above it, HU; None: the usual one, `calvaria.skull.segment.BONE_HU`.
        min_hole_ml: holes of less missing bone than this are left open, and told in the report.
        progress: called when a stage begins.
        name: of the file or case; messages on the volume begin with it.

    Returns:
        The patch and everything known about it. A skull without a defect gives an empty patch, and a warning says so.

    Raises:
        InputError: the volume is neither mask nor CT, or shows no skull; a threshold is given for a mask; or there is
            no such model or device, or it cannot fill holes as small as that.
    """
    completer = _filling(load_engine(engine, device), engine, min_hole_ml)
    # Two threads load parts of scipy; racing for the package itself, one was seen to fail (KeyError: 'scipy').
    import_module("scipy.linalg")
    # Linear algebra that shares its work by itself waits by spinning, beside the engine's own two threads
    # (benchmarks/threads_speed.py).
    with threadpool_limits(1, user_api="blas"):
        clock, asked = _Clock(progress), _Asked(kind, threshold_hu, min_hole_ml, name)
        with naming(name):
            return _reconstruct(volume, completer, find(engine), clock, asked)


def _filling(completer: Engine, name: str, min_hole_ml: float) -> Engine:
    """The engine, told which holes to leave."""
    if not MIN_PIECE_ML <= min_hole_ml < math.inf:
        raise InputError(f"the smallest hole to fill must be {MIN_PIECE_ML} ml or more; got {min_hole_ml} ml")
    if min_hole_ml == MIN_HOLE_ML:
        return completer
    if not isinstance(completer, Surveyor):
        raise InputError(f"the smallest hole to fill cannot be set for {name!r}, which finds holes in its own way")
    return completer.with_min_hole_ml(min_hole_ml)


@dataclass(frozen=True)
class _Asked:
    """What `reconstruct` was asked for, as its arguments of the same names."""

    kind: Kind
    threshold_hu: float | None
    min_hole_ml: float
    name: str


def _reconstruct(volume: Volume, completer: Engine, model: ModelInfo, clock: _Clock, asked: _Asked) -> Reconstruction:
    """The stages of `reconstruct`, one after the other."""
    with ThreadPoolExecutor(1) as beside:
        ready = beside.submit(completer.prepare)
        with clock.stage("bone"):
            segmented = bone_of(volume, asked.kind, asked.threshold_hu, name=asked.name)
            defective = segmented.bone
            skull = defective.crop(cast(Box, bounding_box(defective.mask)))  # there is bone
            require_head_sized(skull)
        with clock.stage("pose"):
            frame = locate(skull, completer.template)
            require_adult(frame, defective.grid)
            surface = BoneSurface.of(skull)  # while the engine is not ready yet
            ready.result()
    done = completer.reconstruct(skull, frame, surface, clock.stage)  # the stages hole and completion
    require_known_bone(done.soft)
    frame = done.frame
    done = done._replace(soft=within_scan(done.soft, done.field, frame, defective.grid, asked.min_hole_ml))
    with clock.stage("patch"):
        patch = to_patch(done.soft, frame, defective)
        completed = defective.with_data(defective.mask | patch.mask)
        holes = tuple(replace(hole, place=place_of(hole.centre_mm, frame)) for hole in holes_in(patch))
        rest: tuple[Hole, ...] = ()
        if isinstance(completer, Surveyor):
            openings = completer.left_open(done.field, done.soft)
            rest = left_open(openings_within(openings, frame, defective.grid), frame)
    lines = doubts(frame, done.soft, defective.grid)
    confidence = judge(done, holes, completer.calibration).doubted(lines)
    lines += unseen(defective, frame, lines) + tuple(left_open_line(hole) for hole in rest)
    clock.progress("done", STAGES["done"])
    report = Report(
        ModelUsed(model.name, model.sha256, model.licence),
        PoseReport.of(frame),
        clock.seconds,
        (*segmented.notes, *_warnings(frame, holes, confidence, lines, asked.min_hole_ml)),
        rest,
    )
    return Reconstruction(patch, completed, defective, frame.plane, frame, holes, confidence, report)


def _warnings(
    frame: CanonicalFrame,
    holes: tuple[Hole, ...],
    confidence: Confidence,
    lines: tuple[str, ...],
    min_hole_ml: float,
) -> Iterator[str]:
    """What the user should read, a line a matter, each once."""
    first = tuple(_of_holes(holes, confidence, min_hole_ml))
    yield from first
    yield from (line for line in lines if line not in first)
    yield from _of_posture(frame)


def _of_holes(holes: tuple[Hole, ...], confidence: Confidence, min_hole_ml: float) -> Iterator[str]:
    if not holes:
        yield f"no defect of {min_hole_ml:g} ml or more was found: the patch is empty"
    elif confidence.expected_dsc is None:
        yield confidence.reason


def _of_posture(frame: CanonicalFrame) -> Iterator[str]:
    if frame.to_world[2, 2] < MIN_UPRIGHT:
        yield "the head does not stand upright in the file's coordinates: check the orientation of the input"


def evaluate(patch: Volume, truth: Volume, defective: Volume) -> Scores:
    """Score a patch by the challenge's definitions; see `calvaria.metrics.score`."""
    from calvaria.metrics import score

    return score(patch, truth, defective)
