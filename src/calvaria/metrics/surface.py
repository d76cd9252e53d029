"""Surfaces of masks as voxel centres, and the distances between them."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.types import F64, BoolArray
from calvaria.volume.grid import Box
from calvaria.volume.volume import bounding_box

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

Voxels = NDArray[np.intp]
"""(N, 3) indices."""

AROUND = np.array([step for step in product((-1, 0, 1), repeat=3) if any(step)])
"""Steps to the 26 neighbours of a voxel."""

FACES = AROUND[np.abs(AROUND).sum(axis=1) == 1]
"""Steps to the 6 neighbours that share a face."""

BLOCKS_MM = (5.0, 2.0, 0.8)
"""Points are judged in blocks of these sizes before they are judged one by one."""

LEAF_POINTS = 64
"""Points in a leaf of the search trees: surfaces come in rings around holes, where deep trees are slow."""


def surface_voxels(mask: BoolArray, solid: BoolArray | None = None) -> Voxels:
    """The voxels that one erosion with the 6-neighbour cross takes away.

    Args:
        mask: (I, J, K) bool. Outside of the array there is background.
        solid: (I, J, K) bool that holds the mask: what is eroded; None: the mask itself.

    Returns:
        (N, 3) indices, in C order: voxels of the mask with a face on the background; none for an empty mask.

    >>> surface_voxels(np.ones((3, 3, 3), bool)).shape
    (26, 3)
    """
    box = bounding_box(mask)
    if box is None:
        return np.zeros((0, 3), np.intp)
    # Only voxels of the mask are looked at, in a box with an empty rim: a step never leaves the array.
    inner = np.pad(mask[box], 1)
    body = inner if solid is None else _with_rim(solid, box)
    flat, full = np.flatnonzero(inner), body.ravel()
    covered = np.ones(len(flat), bool)
    for step in (inner.shape[1] * inner.shape[2], inner.shape[2], 1):
        covered &= full[flat + step]
        covered &= full[flat - step]
    index = np.stack(np.unravel_index(flat[~covered], inner.shape), axis=1)
    return np.asarray(index + [s.start - 1 for s in box])


def _with_rim(solid: BoolArray, box: Box) -> BoolArray:
    """The part of an array in a box, and one voxel around it; background beyond the array."""
    wide = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
    rim = [(int(s.start == 0), int(s.stop == n)) for s, n in zip(box, solid.shape, strict=True)]
    return np.pad(solid[wide], rim)


def any_beside(voxels: Voxels, mask: BoolArray, steps: ArrayLike) -> BoolArray:
    """Which voxels have one of a mask at one of some steps from them.

    Args:
        voxels: (N, 3) indices.
        mask: (I, J, K) bool. Outside of the array there is background.
        steps: (S, 3) whole steps along the axes: `FACES` or `AROUND`.

    Returns:
        (N,) bool.
    """
    found = np.zeros(len(voxels), bool)
    for step in np.asarray(steps):
        found |= _values_at(voxels + step, mask)
    return found


def beside(voxels: Voxels, mask: BoolArray, steps: ArrayLike) -> Voxels:
    """The voxels of a mask at some steps from given ones, each once.

    Args:
        voxels: (N, 3) indices.
        mask: (I, J, K) bool.
        steps: (S, 3) whole steps along the axes.

    Returns:
        (M, 3) indices, in C order.
    """
    near = (voxels[:, None] + np.asarray(steps)).reshape(-1, 3)
    near = near[_values_at(near, mask)]
    flat = np.unique(np.ravel_multi_index(tuple(near.T), mask.shape))
    return np.stack(np.unravel_index(flat, mask.shape), axis=1)


def _values_at(voxels: Voxels, mask: BoolArray) -> BoolArray:
    inside = np.ones(len(voxels), bool)
    for at, n in zip(voxels.T, mask.shape, strict=True):
        inside &= (at >= 0) & (at < n)
    found = np.zeros(len(voxels), bool)
    found[inside] = mask[tuple(voxels[inside].T)]
    return found


def nearest_mm(points_mm: F64, targets_mm: F64) -> F64:
    """Distance from each point to the nearest of the targets.

    Args:
        points_mm: (N, 3) mm.
        targets_mm: (M, 3) mm.

    Returns:
        (N,) mm; infinite everywhere when there are no targets.
    """
    if len(points_mm) == 0 or len(targets_mm) == 0:
        return np.full(len(points_mm), np.inf)
    distance: F64 = _tree(targets_mm).query(points_mm, workers=-1)[0]
    return distance


def within_mm(points_mm: F64, targets_mm: F64, reach_mm: float) -> BoolArray:
    """Which points have a target near them.

    Distance changes by no more than one goes, so whole blocks are decided by their centre, and only the points of
    blocks that the limit passes through are looked up: many times faster than :func:`nearest_mm`, and as exact.

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


def _within(points: F64, tree: cKDTree, reach: float, sizes: tuple[float, ...]) -> BoolArray:
    if len(points) == 0:
        return np.zeros(0, bool)
    if not sizes:
        found: BoolArray = tree.query(points, distance_upper_bound=np.nextafter(reach, np.inf), workers=-1)[0] <= reach
        return found
    low, size, radius = points.min(axis=0), sizes[0], sizes[0] * np.sqrt(3.0) / 2.0
    block = np.floor((points - low) / size).astype(np.int64)
    shape = tuple(block.max(axis=0) + 1)
    flat, home = np.unique(np.ravel_multi_index(tuple(block.T), shape), return_inverse=True)
    centre = (np.stack(np.unravel_index(flat, shape), axis=1) + 0.5) * size + low
    distance, nearest = tree.query(centre, distance_upper_bound=reach + radius, workers=-1)
    near: BoolArray = (distance + radius <= reach)[home]
    open_ = np.flatnonzero(~near & (distance - radius <= reach)[home])
    # What is nearest to the centre is near enough for half of the others.
    gap = points[open_] - tree.data[nearest[home[open_]]]
    near[open_] = np.einsum("ni,ni->n", gap, gap) <= reach**2
    open_ = open_[~near[open_]]
    near[open_] = _within(points[open_], tree, reach, sizes[1:])
    return near


def _tree(targets_mm: F64) -> cKDTree:
    from scipy.spatial import cKDTree

    return cKDTree(targets_mm, leafsize=LEAF_POINTS, balanced_tree=False)


def hausdorff_mm(there_mm: F64, back_mm: F64, percent: float = 95.0) -> float:
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


__all__ = [
    "AROUND",
    "FACES",
    "Voxels",
    "any_beside",
    "beside",
    "hausdorff_mm",
    "nearest_mm",
    "surface_voxels",
    "within_mm",
]
