"""A scan from before the operation: found to be the same person's, laid onto the skull, and told how well it fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calvaria.errors import InputError
from calvaria.reconstruction.box import box_grid, box_to_world, vault
from calvaria.reconstruction.own_bone.fill import END_MM, FITTING_MM, OwnBone
from calvaria.reconstruction.own_bone.rigid import STAGES, Points, lay_onto, pairs, points_of, turned
from calvaria.reconstruction.surface import BoneSurface
from calvaria.skull.canonical import CanonicalFrame
from calvaria.types import F64, BoolArray
from calvaria.volume.grid import Grid

FITTED_POINTS, JUDGED_POINTS = 6000, 20_000
"""Points of the skull's surface by which it is laid onto the other, and by which the fit is then judged."""

SHARED_MM = 3.0
"""Surface that has a partner nearer than this is shown by both scans."""

MIN_AGREEING = 0.42
"""Share of the vault's surface that has to agree within ``FITTING_MM``. Simulated scans of one person on slices of 1
and 2.5 mm have 0.92 to 0.99, on slices of 5 mm 0.66; the best fits of two persons at most 0.25, and there what
both show lies 1.0 mm apart and more (`calvaria.benchmarks.own_bone`)."""

TURNS_DEGREES = 25.0
"""Where the poses found do not fit, others turned by so much are tried."""


@dataclass(frozen=True)
class PreOpFit:
    """How well a scan from before the operation lies on the skull.

    Args:
        mean_mm: distance of the surfaces that both show.
        p95_mm: 95th percentile of it.
        agreeing: share of the skull's vault that agrees within ``FITTING_MM``.
        to_skull: (4, 4) rows: world of the old scan -> world of the skull, mm.
        rotation_degrees: angle between the two.
        shift_mm: how far the head's centre is moved.
    """

    mean_mm: float
    p95_mm: float
    agreeing: float
    to_skull: tuple[tuple[float, ...], ...]
    rotation_degrees: float
    shift_mm: float


@dataclass(frozen=True, eq=False)
class OldSkull:
    """The skull before the operation.

    Args:
        surface: of its bone.
        frame: its pose.
        grid: of the scan, whole.
    """

    surface: BoneSurface
    frame: CanonicalFrame
    grid: Grid

    def shown(self, points_mm: F64) -> BoolArray:
        """Whether (N, 3) points lie in the scan, and not at its end."""
        margin = END_MM / np.asarray(self.grid.spacing_mm)
        index = self.grid.to_index(points_mm)
        inside = ((index > margin - 0.5) & (index < np.array(self.grid.shape) - 0.5 - margin)).all(axis=1)
        for cut in self.frame.cuts:
            there = cut.moved(self.frame.to_world)
            inside &= points_mm @ there.normal < there.offset_mm - END_MM
        return np.asarray(inside)


def lay_pre_op(old: OldSkull, skull: BoneSurface, frame: CanonicalFrame) -> tuple[OwnBone, PreOpFit]:
    """Lay a skull from before onto the one with the hole, and refuse another person's.

    Args:
        old: from before.
        skull: surface of the bone that is there.
        frame: its pose.

    Returns:
        The old bone in its place, and how well it fits.

    Raises:
        InputError: it is another person's, or shows too little of the same bone.
    """
    bone, fit = best_fit(old, skull, frame)
    if fit.agreeing < MIN_AGREEING:
        raise InputError(
            f"this seems to be another person's: only {fit.agreeing:.0%} of the vault's surface agrees within "
            f"{FITTING_MM:g} mm, and what both show lies {fit.mean_mm:.1f} mm apart (one person's scans: more than "
            f"{MIN_AGREEING:.0%}, below 0.5 mm); give a scan of this patient, or leave it out"
        )
    return bone, fit


def best_fit(old: OldSkull, skull: BoneSurface, frame: CanonicalFrame) -> tuple[OwnBone, PreOpFit]:
    """The best rigid fit of two skulls, whosever they are; arguments as for `lay_pre_op`."""
    points = vault_points(skull, frame)
    start = old.frame.to_world @ frame.to_canonical
    some = points.thinned(FITTED_POINTS)
    pose = lay_onto(some, old.surface, start)
    if _agreeing(some, old, pose) < MIN_AGREEING:
        pose = max([pose, _best_turned(some, old, frame, start)], key=lambda one: _agreeing(some, old, one))
    return OwnBone(old.surface, pose, old.shown), judged(points, old, pose, frame)


def vault_points(skull: BoneSurface, frame: CanonicalFrame) -> Points:
    """The surface of the vault, where neither jaw nor neck nor the scan's end matter."""
    grid = box_grid().moved(box_to_world(frame))
    index = np.rint(grid.to_index(skull.points_mm)).astype(int)
    kept: BoolArray = np.asarray(((index >= 0) & (index < np.array(grid.shape))).all(axis=1))
    kept[kept] = vault()[tuple(index[kept].T)]
    for cut in frame.cuts:
        there = cut.moved(frame.to_world)
        kept &= skull.points_mm @ there.normal < there.offset_mm - END_MM
    return points_of(skull, kept)


def judged(points: Points, old: OldSkull, pose: F64, frame: CanonicalFrame) -> PreOpFit:
    """The figures of a fit.

    Args:
        points: of the skull's vault, in its world.
        old: the other skull.
        pose: (4, 4) world of the skull -> world of the other.
        frame: the skull's.
    """
    here = points.thinned(JUDGED_POINTS).moved(pose)
    here = here.where(old.shown(here.at_mm))
    two = pairs(here, old.surface, SHARED_MM)
    off = np.abs(two.off_mm[two.found])
    agreeing = float((two.found & (np.abs(two.off_mm) < FITTING_MM)).mean()) if len(here.at_mm) else 0.0
    mean, p95 = (float(off.mean()), float(np.percentile(off, 95))) if len(off) else (np.inf, np.inf)
    back = np.linalg.inv(pose)
    angle = np.degrees(np.arccos(np.clip((np.trace(back[:3, :3]) - 1) / 2, -1, 1)))
    centre = frame.to_world[:3, 3]
    shift = float(np.linalg.norm(pose[:3, :3] @ centre + pose[:3, 3] - centre))
    rows = tuple(tuple(row) for row in back.round(6).tolist())
    return PreOpFit(round(mean, 3), round(p95, 3), round(agreeing, 3), rows, round(float(angle), 2), round(shift, 2))


def _agreeing(points: Points, old: OldSkull, pose: F64) -> float:
    two = pairs(points.moved(pose), old.surface, SHARED_MM)
    return float((two.found & (np.abs(two.off_mm) < FITTING_MM)).mean())


def _best_turned(points: Points, old: OldSkull, frame: CanonicalFrame, start: F64) -> F64:
    """The best of the fits from poses turned a little."""
    few = points.thinned(1500)
    centre = old.frame.to_world[:3, 3]
    tried = []
    for axis in old.frame.to_world[:3, :3].T:
        for sign in (1.0, -1.0):
            step = np.concatenate([sign * np.radians(TURNS_DEGREES) * axis, np.zeros(3)])
            tried.append(lay_onto(few, old.surface, turned(step, centre) @ start, STAGES[:2]))
    best = max(tried, key=lambda pose: _agreeing(few, old, pose))
    return lay_onto(points, old.surface, best)


__all__ = ["MIN_AGREEING", "OldSkull", "PreOpFit", "best_fit", "judged", "lay_pre_op", "vault_points"]
