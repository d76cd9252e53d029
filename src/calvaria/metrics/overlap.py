"""Overlap of two masks, in the whole and near the bone."""

from __future__ import annotations

import numpy as np

from calvaria.errors import GeometryError
from calvaria.metrics.surface import surface_voxels, within_mm
from calvaria.types import BoolArray
from calvaria.volume.grid import Grid
from calvaria.volume.volume import bounding_box, indices_of

BORDER_REACH_MM = 10.0
"""The border Dice counts voxels up to this far from the defective skull (the challenge's definition)."""

REACH_ATOL_MM = 1e-6
"""A voxel at exactly the reach counts as near; its computed distance may lie this much above."""


def dice(a: BoolArray, b: BoolArray) -> float:
    """Dice overlap of two masks.

    Args:
        a: bool, any shape.
        b: bool, of the same shape.

    Returns:
        ``2 |a & b| / (|a| + |b|)``, 0 to 1; 1.0 when both are empty.

    Raises:
        GeometryError: the shapes differ.

    >>> dice(np.array([True, True, False]), np.array([False, True, False]))
    0.6666666666666666
    """
    if a.shape != b.shape:
        raise GeometryError(f"two masks of one shape are wanted; got {a.shape} and {b.shape}")
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2.0 * int(np.count_nonzero(a & b)) / total if total else 1.0


def near_bone(mask: BoolArray, bone: BoolArray, grid: Grid, reach_mm: float = BORDER_REACH_MM) -> BoolArray:
    """The voxels of a mask that lie near bone.

    Args:
        mask: (I, J, K) bool; may overlap the bone.
        bone: (I, J, K) bool, the whole defective skull or the part of it within ``reach_mm`` of the mask.
        grid: the grid of both; its full matrix gives the distances, whatever its shear.
        reach_mm: largest distance between voxel centres, mm. Voxels at exactly this distance stay.

    Returns:
        (I, J, K) bool, part of ``mask``; empty when there is no bone.
    """
    near = mask & bone
    box = bounding_box(mask)
    if box is None:
        return near
    margin = np.ceil((reach_mm + REACH_ATOL_MM) * np.linalg.norm(grid.inverse[:3, :3], axis=1)).astype(int)
    around = bounding_box(mask, (int(margin[0]), int(margin[1]), int(margin[2])))
    if around is None or not bone[around].any():
        return near
    rim = grid.crop(around).to_world(surface_voxels(bone[around]))
    far = indices_of((mask & ~bone)[box]) + [s.start for s in box]
    kept = far[within_mm(grid.to_world(far), rim, reach_mm + REACH_ATOL_MM)]
    near[tuple(kept.T)] = True
    return near


__all__ = ["BORDER_REACH_MM", "REACH_ATOL_MM", "dice", "near_bone"]
