"""How symmetric a patch makes a skull: its outside, mirrored, against the other side."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from calvaria.metrics.border import outer_surface
from calvaria.metrics.surface import nearest_mm
from calvaria.types import F64
from calvaria.volume.distance import reach_voxels
from calvaria.volume.volume import Volume

Mirror = Callable[[F64], F64]
"""(N, 3) world mm -> the same points reflected about the mid-sagittal plane: ``Plane.reflect``."""

SEARCH_MM = 20.0
"""The other side is looked for in a box that is so much wider than the mirrored patch."""


def asymmetry_mm(outside_mm: F64, completed: Volume, head_mm: F64, mirror: Mirror) -> float:
    """Mean distance from the outside of a patch, mirrored, to the outside of the completed skull.

    Args:
        outside_mm: (N, 3) world mm of the patch's outer voxels.
        completed: mask of the defective skull with the patch in it.
        head_mm: (3,) any point inside the head.
        mirror: the reflection.

    Returns:
        mm; about half a voxel for a skull that is symmetric, as the two sides are sampled at different points. Points
        whose mirror image lies outside of the picture do not count. NaN without a patch, and where nothing is left.

    Raises:
        GeometryError: the grid is sheared.
    """
    if not len(outside_mm):
        return float("nan")
    there = mirror(outside_mm)
    index = completed.grid.to_index(there)
    seen = ((index > -0.5) & (index < np.array(completed.shape) - 0.5)).all(axis=1)
    if not seen.any():
        return float("nan")
    there, index = there[seen], index[seen]
    margin = np.array(reach_voxels(completed.grid, SEARCH_MM))
    low = np.maximum(np.floor(index.min(axis=0)).astype(int) - margin, 0)
    high = np.minimum(np.ceil(index.max(axis=0)).astype(int) + margin + 1, completed.shape)
    part = completed.crop((slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])))
    other = outer_surface(part, np.zeros(part.shape, bool), head_mm).points_mm
    return float(nearest_mm(there, other).mean()) if len(other) else float("nan")


__all__ = ["SEARCH_MM", "Mirror", "asymmetry_mm"]
