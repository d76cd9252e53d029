"""Observations: points near a hole whose distance is known and does not depend on the hole.

A signed distance near a hole already shows where the missing surface lies, so a point counts only if its nearest known
surface is nearer than the hole. The farther from the hole, the fewer points are used and the less each counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from calvaria.reconstruction.box import box_grid, read_box
from calvaria.reconstruction.shape_prior.model import MODEL_TRUNCATION_MM
from calvaria.types import F32, BoolArray

MIRRORED = np.array([-1.0, 1.0, 1.0], np.float32)

LEVELS = (1.0, 4.0, 32.0)
"""How many points one point stands for when the lattice is thinned."""


@dataclass(frozen=True, eq=False)
class Observations:
    """Points near a hole whose distance is known and does not depend on the hole.

    Args:
        mm: (P, 3) their positions in the box, scaled canonical mm.
        distance_mm: (P,) signed distance there.
        noise_mm: (P,) observation noise, a standard deviation.
    """

    mm: F32
    distance_mm: F32
    noise_mm: F32


@dataclass(frozen=True)
class Falloff:
    """How the weight of a point falls with its distance to the hole.

    Args:
        noise_mm: observation noise at the hole's rim, a standard deviation.
        fade_mm: over this distance a point's weight (1 / variance) falls to 1/e.
        mirror_mm: a point beside the hole's mirror image counts as if it lay this far from the hole.
        reach_mm: points farther from the hole are left out.
    """

    noise_mm: float
    fade_mm: float
    mirror_mm: float
    reach_mm: float


@dataclass(frozen=True, eq=False)
class Around:
    """The points of the lattice around a hole, whatever is known there.

    Args:
        mm: (N, 3) their positions in the box, scaled canonical mm.
        gap_mm: (N,) distance to the hole.
        noise_mm: (N,) as for `Observations`.
    """

    mm: F32
    gap_mm: F32
    noise_mm: F32

    def observations(self, distance_mm: F32, known: BoolArray) -> Observations:
        """Those whose nearest surface is nearer than the hole.

        Args:
            distance_mm: (N,) the distances there.
            known: (N,) whether the scan says anything there.
        """
        # The examples of the model are cut off there, too.
        clipped = np.clip(distance_mm, -MODEL_TRUNCATION_MM, MODEL_TRUNCATION_MM)
        # Farther points may have their nearest surface in the hole: their distance would be too large.
        own = (np.abs(clipped) <= self.gap_mm) & known
        return Observations(self.mm[own], clipped[own], self.noise_mm[own])


def around(gap_mm: F32, spacing_mm: float, dense_mm: tuple[float, float], falloff: Falloff) -> Around:
    """The points around a hole that a fit may use.

    Args:
        gap_mm: on the box grid, the distance to the hole.
        spacing_mm: of the model's grid.
        dense_mm: nearer to the hole than the first every point of the lattice is used, nearer than the second every
            fourth, farther every 32nd.
        falloff: how they count.
    """
    points = lattice(spacing_mm)
    gap = read_box(gap_mm, points.mm, 0.0)
    # The other side of the head helps to predict this one, but less than the hole's own rim does.
    far = np.minimum(gap, read_box(gap_mm, points.mm * MIRRORED, 0.0) + falloff.mirror_mm)
    # (N,) how many points of the full lattice each point must stand for at its distance.
    share = np.select([far < reach for reach in dense_mm], LEVELS[:2], LEVELS[2])
    used = (gap > 0) & (far < falloff.reach_mm) & (points.level >= share)
    # A point that stands for several gets the noise of their mean.
    variance = falloff.noise_mm**2 * np.exp(far[used] / falloff.fade_mm) / share[used]
    return Around(points.mm[used], gap[used], np.sqrt(variance).astype(np.float32))


@dataclass(frozen=True, eq=False)
class Lattice:
    """Points that a fit may use, symmetric about x = 0, so that mirrored skulls are fitted at mirrored points.

    Args:
        mm: (P, 3) float32: every other voxel centre of the model's grid, as on a chessboard.
        level: (P,) float32: the largest of `LEVELS` to whose thinned lattice each belongs.
    """

    mm: F32
    level: F32


@lru_cache(maxsize=2)
def lattice(spacing_mm: float) -> Lattice:
    """The points for a model with voxels of ``spacing_mm``."""
    grid = box_grid(spacing_mm)
    index = np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3)
    # Counted from the midline, so that the lattice is symmetric whatever the grid's size is.
    offset = np.column_stack([np.abs(index[:, 0] - grid.shape[0] // 2), index[:, 1:]])
    # Every other voxel as on a chessboard: half the points, evenly spread along all three axes.
    board = offset.sum(axis=1) % 2 == 0
    even = [(offset[board] % step == 0).all(axis=1) for step in (4, 2)]
    return Lattice(grid.to_world(index[board]).astype(np.float32), np.select(even, LEVELS[:0:-1], LEVELS[0]))
