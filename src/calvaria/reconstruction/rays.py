"""Rays from the head centre: what bone lies before and behind a point of the vault."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.types import BoolArray
from calvaria.volume.grid import Grid


def meets_bone(voxels: BoolArray, bone: BoolArray, steps_mm: NDArray[np.float64], grid: Grid) -> BoolArray:
    """Those voxels from which some step along the ray from the head centre ends in bone.

    Args:
        voxels: (I, J, K) bool: those in question.
        bone: (I, J, K) bool.
        steps_mm: (S,) positions along the ray, counted outwards from the voxel.
        grid: of both, isotropic, in canonical mm or in those of the common box.

    Returns:
        (I, J, K) bool, False outside of ``voxels``.
    """
    spacing_mm = grid.spacing_mm[0]
    index = np.argwhere(voxels)
    out = grid.to_world(index) - HEAD_CENTRE_MM
    # (N, 3) voxels for each mm outwards; at the head centre itself there is no direction to normalise.
    out /= spacing_mm * np.maximum(np.linalg.norm(out, axis=1, keepdims=True), spacing_mm)
    met = np.zeros(len(index), bool)
    for step_mm in steps_mm:
        there = np.rint(index + step_mm * out).astype(int)
        inside = ((there >= 0) & (there < bone.shape)).all(axis=1)
        met[inside] |= bone[tuple(there[inside].T)]
    meets = np.zeros_like(voxels)
    meets[tuple(index[met].T)] = True
    return meets


__all__ = ["meets_bone"]
