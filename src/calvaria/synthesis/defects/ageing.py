"""Changes of the rim applied to a defective skull; what they are stands in `calvaria.synthesis.defects.rim_changes`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import InputError
from calvaria.synthesis.defects.cutting import islands, to_canonical_of
from calvaria.synthesis.defects.rim_changes import Fragments, Rim, in_order
from calvaria.synthesis.defects.soundness import ISLAND_ML
from calvaria.types import BoolArray, FloatArray
from calvaria.volume.components import label
from calvaria.volume.distance import distance_to, reach_voxels
from calvaria.volume.grid import Box
from calvaria.volume.volume import Volume, bounding_box

SMALL_ML = 0.1
"""A piece of the patch up to this size that a change cut off from the rest goes back to the skull."""


def apply_rims(
    defective: Volume, patch: Volume, rims: Sequence[Rim], frame_to_world: ArrayLike
) -> tuple[Volume, Volume]:
    """Let a rim heal, thin or crumble, and leave fragments in the hole.

    Args:
        defective: mask of the defective skull; not changed.
        patch: mask of the patch on the same grid; not changed. An empty one stays empty.
        rims: the changes, one after the other, fragments last; none changes nothing.
        frame_to_world: (4, 4) canonical mm -> world LPS mm of this skull.

    Returns:
        The defective skull and the patch as they are afterwards: together they are what they were together, and they
        do not overlap. Small components of bone that a change cut loose are in the patch, those of the patch that it
        cut off are in the skull.

    Raises:
        GeometryError: the grids differ, or the frame is no invertible 4 x 4 matrix.
        InputError: the masks are none, or overlap.
    """
    defective.grid.require_same(patch.grid, "defective skull and patch")
    if (defective.mask & patch.mask).any():
        raise InputError("defective skull and patch overlap: the patch is the bone that is missing; give that")
    to_canonical = to_canonical_of(defective.grid, frame_to_world)
    bone, hole = defective.mask.copy(), patch.mask.copy()
    for rim in in_order(rims):
        if hole.any():
            _change(Volume(bone, defective.grid), Volume(hole, patch.grid), rim, to_canonical)
    return defective.with_data(bone), patch.with_data(hole)


def _change(bone: Volume, hole: Volume, rim: Rim, to_canonical: FloatArray) -> None:
    """Apply one change to both masks, in place."""
    grid = bone.grid
    margin = reach_voxels(grid, max(rim.reach_mm, rim.depth_mm) + 2 * max(grid.spacing_mm))
    box = bounding_box(hole.mask, margin)
    if box is None:
        return
    part, gap = bone.crop(box), hole.crop(box)
    beyond = _beyond(part, gap, rim.reach_mm)
    near = (part.mask | gap.mask) & (beyond >= -rim.reach_mm)
    index = np.nonzero(near)
    shape = (len(index[0]),)
    depth = _depth(part, gap, rim.depth_mm)[near] if rim.depth_mm > 0 else np.zeros(shape, np.float32)
    points = _points(index, box, to_canonical)
    stays = rim.bone(beyond[near], depth, points)
    part.mask[index], gap.mask[index] = stays, ~stays
    if not isinstance(rim, Fragments):
        _tidy(bone, hole, box)


def _beyond(bone: Volume, hole: Volume, reach_mm: float) -> NDArray[np.float32]:
    """How far each voxel of bone and hole lies beyond the rim, mm; negative in the skull, right up to the reach."""
    half = np.float32(min(bone.grid.spacing_mm) / 2)
    limit = reach_mm + 2 * float(half) + 1.0
    into, away = distance_to(bone, limit_mm=limit) - half, distance_to(hole, limit_mm=limit) - half
    return np.where(hole.mask, into, -away)


def _depth(bone: Volume, hole: Volume, limit_mm: float) -> NDArray[np.float32]:
    """How far each voxel of the complete bone lies under its free surface, mm."""
    half = np.float32(min(bone.grid.spacing_mm) / 2)
    return distance_to(bone.with_data(~(bone.mask | hole.mask)), limit_mm=limit_mm + 2 * float(half)) - half


def _points(index: tuple[NDArray[np.intp], ...], box: Box, to_canonical: FloatArray) -> NDArray[np.float32]:
    """(3, N) canonical mm of voxels of a box."""
    at = np.stack([axis + s.start for axis, s in zip(index, box, strict=True)]).astype(np.float64)
    return np.asarray(to_canonical[:3, :3] @ at + to_canonical[:3, 3:], np.float32)


def _tidy(bone: Volume, hole: Volume, box: Box) -> None:
    """Small components of the patch go back to the skull, those of the skull to the patch; in place."""
    voxels_per_ml = 1000.0 / bone.grid.voxel_volume_mm3
    labels, _ = label(hole.mask[box], connectivity=6)
    sizes = np.bincount(labels.ravel(order="K"))
    small = sizes <= SMALL_ML * voxels_per_ml
    small[0] = False
    small[np.argmax(np.where(np.arange(len(sizes)) > 0, sizes, 0))] = False  # a patch that is small itself stays
    fragments: BoolArray = small[labels]
    hole.mask[box] &= ~fragments
    bone.mask[box] |= fragments
    for where in islands(bone.mask, hole.mask, box):
        if len(where[0]) <= ISLAND_ML * voxels_per_ml:
            bone.mask[where], hole.mask[where] = False, True


__all__ = ["apply_rims"]
