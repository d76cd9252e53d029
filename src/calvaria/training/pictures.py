"""Pictures of validation cases in training: slices and surfaces, true patch beside the network's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calvaria.report.render import render_surfaces
from calvaria.report.scene import Layer
from calvaria.report.views import view_onto
from calvaria.types import F32
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume, bounding_box

Picture = NDArray[np.uint8]

BONE, TRUE, FOUND = (222, 214, 196), (86, 156, 92), (70, 118, 190)
"""Colours of the defective skull, of the true patch and of the network's."""

SIZE_PX = 240
"""Side of each of the parts."""


def picture_of(seen: F32, truth: F32, found: F32, grid: Grid) -> Picture:
    """One case: above the surfaces, below the three slices through the middle of the true patch.

    Args:
        seen: (X, Y, Z) how much of each voxel is bone.
        truth: how much is missing bone.
        found: the probability of missing bone that the network gives.
        grid: of all three.

    Returns:
        (2 x 240, 3 x 240, 3): true patch, the network's, both as contours on the slices.
    """
    bone, true, ours = (Volume(np.clip(part, 0, 1), grid) for part in (seen, truth, found))
    box = bounding_box(truth > 0.5) or bounding_box(truth > 0) or tuple(slice(0, n) for n in grid.shape)
    middle = [(part.start + part.stop) // 2 for part in box]
    hole = Volume(truth > 0.5 * float(truth.max()), grid) if truth.any() else Volume(seen > 0.5, grid)
    view = view_onto(hole, bone.with_data(bone.data > 0.5))
    above = [
        render_surfaces([Layer(bone, BONE), *more], view, SIZE_PX)
        for more in ([], [Layer(true, TRUE)], [Layer(ours, FOUND)])
    ]
    below = [_slice(seen, truth, found, axis, middle[axis]) for axis in range(3)]
    return np.concatenate([np.concatenate(above, axis=1), np.concatenate(below, axis=1)])


def _slice(seen: F32, truth: F32, found: F32, axis: int, index: int) -> Picture:
    """Bone grey, true patch in the green, the network's in the blue; up and front are above."""
    bone, true, ours = (np.take(part, index, axis=axis).T for part in (seen, truth, found))
    if axis < 2:
        bone, true, ours = bone[::-1], true[::-1], ours[::-1]
    grey = 0.7 * bone
    flat = np.stack([grey, np.maximum(grey, true), np.maximum(grey, ours)], axis=-1)
    every = -(-max(flat.shape[:2]) // SIZE_PX)  # a slice larger than the picture is thinned, not cut
    flat = flat[::every, ::every]
    scale = max(1, SIZE_PX // max(flat.shape[:2]))
    large = np.kron(np.clip(flat, 0, 1), np.ones((scale, scale, 1)))
    out = np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)
    top, left = ((SIZE_PX - n) // 2 for n in large.shape[:2])
    out[top : top + large.shape[0], left : left + large.shape[1]] = (large * 255).astype(np.uint8)
    return out


__all__ = ["picture_of"]
