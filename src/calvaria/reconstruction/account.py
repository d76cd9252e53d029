"""What is told of a reconstruction beside its volumes: the model, the pose, seconds of each stage, warnings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from calvaria.jobs import Progress
from calvaria.models import ModelInfo
from calvaria.reconstruction.checks import Check
from calvaria.reconstruction.holes import LeftOpen
from calvaria.reconstruction.own_bone.scans import OwnBoneReport
from calvaria.skull.canonical import CanonicalFrame

PLAIN_STAGES = {"bone": 0.0, "pose": 0.05, "hole": 0.2, "completion": 0.5, "patch": 0.85, "done": 1.0}
"""Stages of a plain reconstruction in their order, with the share of the time that is over when each begins."""

REFINING_STAGES = {
    "bone": 0.0,
    "pose": 0.04,
    "given": 0.14,
    "hole": 0.16,
    "completion": 0.3,
    "patch": 0.5,
    "refinement": 0.55,
    "done": 1.0,
}
"""The same where a patch is refined: one that was given, or else the engine's."""

OWN_STAGES = {"bone": 0.0, "pose": 0.03, "hole": 0.12, "completion": 0.35, "patch": 0.55, "own": 0.6, "done": 1.0}
"""The same where the patient's own bone is put in."""


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

    @classmethod
    def of(cls, model: ModelInfo) -> ModelUsed:
        """What is said of an installed model."""
        return cls(model.name, model.sha256, model.licence)


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
        left_open: openings of the vault that were found and not filled, each with its reason, largest first.
        checks: the gates; one that failed says that the patch must not be used as it is.
        own_bone: how the patient's own bone fits, where it was given.
    """

    model: ModelUsed
    pose: PoseReport
    seconds: dict[str, float]
    warnings: tuple[str, ...] = ()
    left_open: tuple[LeftOpen, ...] = ()
    checks: tuple[Check, ...] = ()
    own_bone: OwnBoneReport | None = None


@dataclass
class Clock:
    """Times the stages and tells the caller which begins.

    Args:
        progress: is told.
        begins: stage -> share of the time that is over when it begins, in their order; the last is "done".
        seconds: stage -> how long it took.
    """

    progress: Progress
    begins: Mapping[str, float]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        self.progress(name, self.begins[name])
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)

    def within(self, name: str) -> Progress:
        """Tells how far a stage is, from 0 to 1."""
        start = self.begins[name]
        end = min(share for share in self.begins.values() if share > start)
        return lambda _, fraction: self.progress(name, start + (end - start) * fraction)

    def done(self) -> None:
        """Tell that all is over."""
        self.progress("done", self.begins["done"])

    def report(
        self,
        model: ModelInfo,
        frame: CanonicalFrame,
        warnings: tuple[str, ...],
        *,
        left_open: tuple[LeftOpen, ...] = (),
        checks: tuple[Check, ...] = (),
        own_bone: OwnBoneReport | None = None,
    ) -> Report:
        """Tell that all is over, and say what is known; see `Report`."""
        self.done()
        pose = PoseReport.of(frame)
        return Report(ModelUsed.of(model), pose, self.seconds, warnings, left_open, checks, own_bone)


__all__ = ["OWN_STAGES", "PLAIN_STAGES", "REFINING_STAGES", "Clock", "ModelUsed", "PoseReport", "Report"]
