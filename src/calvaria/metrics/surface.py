"""Surfaces of masks as voxel centres, and the distances between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calvaria.volume.volume import BoolArray

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

FloatArray = NDArray[np.float64]

BLOCKS_MM = (5.0, 1.2)
"""Points are judged in blocks of these sizes before they are judged one by one."""

LEAF_POINTS = 64
"""Points in a leaf of the search trees: surfaces come in rings around holes, where deep trees are slow."""


def surface_voxels(mask: BoolArray) -> BoolArray:
    """The voxels that one erosion with the 6-neighbour cross takes away.

    Args:
        mask: (I, J, K) bool. Outside of the array there is background.

    Returns:
        (I, J, K) bool: voxels of the mask with a face on the background; empty for an empty mask.

    >>> surface_voxels(np.ones((3, 3, 3), bool)).sum()
    np.int64(26)
    """
    inside = mask.copy(order="K")
    for axis in range(mask.ndim):
        ahead, behind = _sides(axis, mask.ndim)
        inside[behind] &= mask[ahead]
        inside[ahead] &= mask[behind]
        for end in (0, -1):
            inside[(slice(None),) * axis + (end,)] = False
    surface: BoolArray = mask & ~inside
    return surface


def _sides(axis: int, ndim: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """All but the first, and all but the last, layer along an axis."""
    rest = [slice(None)] * ndim
    ahead, behind = rest.copy(), rest.copy()
    ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
    return tuple(ahead), tuple(behind)


def nearest_mm(points_mm: FloatArray, targets_mm: FloatArray) -> FloatArray:
    """Distance from each point to the nearest of the targets.

    Args:
        points_mm: (N, 3) mm.
        targets_mm: (M, 3) mm.

    Returns:
        (N,) mm; infinite everywhere when there are no targets.
    """
    if len(points_mm) == 0 or len(targets_mm) == 0:
        return np.full(len(points_mm), np.inf)
    distance: FloatArray = _tree(targets_mm).query(points_mm)[0]
    return distance


def within_mm(points_mm: FloatArray, targets_mm: FloatArray, reach_mm: float) -> BoolArray:
    """Which points have a target near them.

    Distance changes by no more than one goes, so whole blocks are decided by their centre, and only the points of
    blocks that the limit passes through are looked up: ten times faster than :func:`nearest_mm`, and as exact.

    Args:
        points_mm: (N, 3) mm.
        targets_mm: (M, 3) mm.
        reach_mm: largest distance, mm; a target at exactly this distance is near.

    Returns:
        (N,) bool; False everywhere when there are no targets.
    """
    if len(points_mm) == 0 or len(targets_mm) == 0:
        return np.zeros(len(points_mm), bool)
    return _within(points_mm, _tree(targets_mm), reach_mm, BLOCKS_MM)


def _within(points: FloatArray, tree: cKDTree, reach: float, sizes: tuple[float, ...]) -> BoolArray:
    if len(points) == 0 or not sizes:
        found: BoolArray = tree.query(points, distance_upper_bound=np.nextafter(reach, np.inf))[0] <= reach
        return found
    low, size, radius = points.min(axis=0), sizes[0], sizes[0] * np.sqrt(3.0) / 2.0
    block = np.floor((points - low) / size).astype(np.int64)
    shape = tuple(block.max(axis=0) + 1)
    flat, home = np.unique(np.ravel_multi_index(tuple(block.T), shape), return_inverse=True)
    centre = (np.stack(np.unravel_index(flat, shape), axis=1) + 0.5) * size + low
    distance = tree.query(centre, distance_upper_bound=reach + radius)[0]
    near: BoolArray = (distance + radius <= reach)[home]
    open_ = np.flatnonzero(~near & (distance - radius <= reach)[home])
    near[open_] = _within(points[open_], tree, reach, sizes[1:])
    return near


def _tree(targets_mm: FloatArray) -> cKDTree:
    from scipy.spatial import cKDTree

    return cKDTree(targets_mm, leafsize=LEAF_POINTS, balanced_tree=False)


def hausdorff_mm(there_mm: FloatArray, back_mm: FloatArray, percent: float = 95.0) -> float:
    """Percentile of both directed surface distance sets pooled (the challenge's HD95; 100: the Hausdorff distance).

    This is not the larger of two percentiles, as other tools have it.

    Args:
        there_mm: (N,) from each surface voxel of one mask to the other's nearest, mm.
        back_mm: (M,) the other way, mm.
        percent: which percentile, with linear interpolation.

    Returns:
        mm; 0 when both sets are empty, infinite when one is.

    >>> hausdorff_mm(np.zeros(3), np.full(1, 2.0), 100)
    2.0
    """
    if len(there_mm) == 0 and len(back_mm) == 0:
        return 0.0
    if len(there_mm) == 0 or len(back_mm) == 0:
        return float("inf")
    return float(np.percentile(np.concatenate([there_mm, back_mm]), percent))


__all__ = ["hausdorff_mm", "nearest_mm", "surface_voxels", "within_mm"]
