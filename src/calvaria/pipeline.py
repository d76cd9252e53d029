"""The whole way, once: from a head with a hole to the missing bone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, cast

from threadpoolctl import threadpool_limits

from calvaria.errors import naming
from calvaria.models import ModelInfo, find
from calvaria.reconstruction.box import box_to_world
from calvaria.reconstruction.confidence import Confidence, judge
from calvaria.reconstruction.engines import load_engine
from calvaria.reconstruction.holes import Hole, holes_in
from calvaria.reconstruction.postprocess import to_patch
from calvaria.reconstruction.protocol import Engine
from calvaria.reconstruction.repose import settle
from calvaria.reconstruction.surface import BoneSurface
from calvaria.skull.bone import bone_of
from calvaria.skull.canonical import CanonicalFrame, locate
from calvaria.symmetry.plane import Plane
from calvaria.volume import Box, Volume, bounding_box

if TYPE_CHECKING:
    from calvaria.metrics import Scores

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
    progress: Progress | None = None,
    threshold_hu: float | None = None,
    name: str = "the volume",
) -> Reconstruction:
    """Give back the missing bone of a skull.

    Args:
        volume: a bone mask (two values) or a CT in HU.
        engine: name of the model that completes the skull, or its weights file.
        kind: what the volume is; "auto" tells by its values.
        device: where a network runs; the shape prior runs on the CPU.
        progress: called when a stage begins.
        threshold_hu: bone lies above it in a CT; None for the usual one.
        name: of the file or case; messages on the volume begin with it.

    Returns:
        The patch and everything known about it. A skull without a defect gives an empty patch, and a warning says so.

    Raises:
        InputError: the volume is neither mask nor CT, or shows no skull; or there is no such model or device.
    """
    completer = load_engine(engine, device)
    # Two threads load parts of scipy; racing for the package itself, one was seen to fail (KeyError: 'scipy').
    import_module("scipy.linalg")
    # Linear algebra that shares its work by itself waits by spinning, beside the engine's own two threads
    # (benchmarks/threads_speed.py).
    with threadpool_limits(1, user_api="blas"):
        clock = _Clock(progress)
        return _reconstruct(volume, completer, find(engine), clock, kind=kind, threshold_hu=threshold_hu, name=name)


def _reconstruct(
    volume: Volume,
    completer: Engine,
    model: ModelInfo,
    clock: _Clock,
    *,
    kind: Literal["auto", "mask", "ct"],
    threshold_hu: float | None,
    name: str,
) -> Reconstruction:
    """The stages of `reconstruct`, one after the other."""
    with ThreadPoolExecutor(1) as beside:
        ready = beside.submit(completer.prepare)
        with clock.stage("bone"):
            segmented = bone_of(volume, kind, threshold_hu, name=name)
            defective = segmented.bone
            skull = defective.crop(cast(Box, bounding_box(defective.mask)))  # there is bone
        with clock.stage("pose"), naming(name):
            frame = locate(skull, completer.template)
            surface = BoneSurface.of(skull)  # while the engine is not ready yet
            ready.result()
    with clock.stage("hole"):
        frame, boxed, sketch = settle(skull, frame, completer, surface)
    with clock.stage("completion"):
        soft = completer.complete(boxed, sketch)
    with clock.stage("patch"):
        patch = to_patch(soft, frame, defective)
        completed = defective.with_data(defective.mask | patch.mask)
        holes = holes_in(patch)
    confidence = judge(soft, boxed, frame, holes, calibrated=completer.calibrated)
    if clock.progress is not None:
        clock.progress("done", STAGES["done"])
    report = {
        "model": {"name": model.name, "sha256": model.sha256, "licence": model.licence},
        "seconds": clock.seconds,
        "warnings": [*segmented.notes, *_warnings(frame, holes, confidence)],
        "pose": {
            "canonical_to_world": box_to_world(frame).round(6).tolist(),
            "scale": frame.scale.round(4).tolist(),
            "mismatch": round(frame.cost, 4),
            "scan_ends": len(frame.cuts),
        },
    }
    return Reconstruction(patch, completed, defective, frame.plane, frame, holes, confidence, report)


def _warnings(frame: CanonicalFrame, holes: tuple[Hole, ...], confidence: Confidence) -> list[str]:
    warnings = []
    if not holes:
        warnings.append("no defect was found: the patch is empty")
    elif confidence.expected_dsc is None:
        warnings.append(confidence.reason)
    up = frame.to_world[2, 2]
    if up < 0.5:
        warnings.append("the head does not stand upright in the file's coordinates: check the orientation of the input")
    return warnings


def evaluate(patch: Volume, truth: Volume, defective: Volume) -> Scores:
    """Score a patch by the challenge's definitions; see `calvaria.metrics.score`."""
    from calvaria.metrics import score

    return score(patch, truth, defective)
