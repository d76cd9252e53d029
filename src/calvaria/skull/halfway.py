"""Where bone ends in a CT: half way up its edge, whatever the edge's height.

A scanner blurs an edge evenly to both sides, so bone ends where the image is half way from what lies beside it to what
it reaches within. One threshold for the whole head puts dense bone's surface too far out: cortex of 1300 HU passes 250
a third of a millimetre before its edge on slices of 1 mm, and a millimetre on slices of 5. Bone that is thinner than
the blur shows half of its height at its edge no more; there, and in bone of little density, the threshold that found
the bone stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calvaria.types import F32, F64, BoolArray
from calvaria.volume.blocks import grid_of_blocks
from calvaria.volume.volume import Volume, indices_of

BLOCK_MM = 1.0
"""Highest and lowest values are taken over blocks of about this size, and their neighbours: from 1.5 to 3 mm."""

MAX_STEP_MM = 2.0
"""Across wider steps than this the lowest values are not looked for: two slices of 5 mm on, over the vertex, is air,
and not what lies beside bone."""

MAX_BONE_HU = 1600.0
"""Cortex shows no more, but for the ear's; enamel and metal must not raise the level of the bone beside them."""

MAX_SOFT_HU = 100.0
"""What lies beside bone is soft tissue or air; where bone is all around, it is taken for soft tissue."""

DEEP_MM = 1.6
"""No more than this is taken off: the blur of 5 mm slices or of a soft kernel reaches no further within a slice, and
spongy bone under a thin cortex stays."""

MIN_OUTSIDE_ML = 5.0
"""Smaller cavities in bone (marrow, air cells) do not grow."""

MIN_RISE_HU = 300.0
"""Edges are taken for at least so high where the share of bone in a voxel is told."""


@dataclass(frozen=True, eq=False)
class Edges:
    """How high bone's edges are in a part of a CT.

    Args:
        highest: near each place, on blocks; in the CT's own values, float32.
        lowest: the same.
        empty: mask of the blocks without any value above ``floor``.
        steps: voxels to a block.
        offset: what has to be taken from the values to have HU.
        floor: the threshold, in the CT's own values, that found the bone: no level lies below.
    """

    highest: Volume
    lowest: Volume
    empty: Volume
    steps: tuple[int, ...]
    offset: float
    floor: float

    @classmethod
    def of(cls, part: Volume, offset: float, floor: float) -> Edges:
        """Measure them.

        Args:
            part: of a CT, in HU + ``offset``.
            offset: see above.
            floor: see above.
        """
        steps = tuple(max(round(BLOCK_MM / s), 1) for s in part.grid.spacing_mm)
        high, low = part.data, part.data
        for axis, step in enumerate(steps):
            high, low = _over_blocks(np.maximum, high, axis, step), _over_blocks(np.minimum, low, axis, step)
        grid = grid_of_blocks(part.grid, high.shape, steps)
        empty = Volume(high <= floor, grid)
        for axis, step_mm in enumerate(part.grid.spacing_mm):
            high = over_neighbours(np.maximum, high, axis)
            if step_mm <= MAX_STEP_MM:
                low = over_neighbours(np.minimum, low, axis)
        wide = Volume(high.astype(np.float32), grid), Volume(low.astype(np.float32), grid)
        return cls(*wide, empty, steps, float(offset), float(floor))

    @property
    def ceiling(self) -> float:
        """No level lies above this, in the CT's own values."""
        return max((MAX_BONE_HU + MAX_SOFT_HU) / 2 + self.offset, self.floor)

    def outside(self, shape: tuple[int, int, int]) -> BoolArray:
        """Voxels in and next to blocks without bone that lie together; small cavities in bone are left out.

        Args:
            shape: of the part.
        """
        from scipy.ndimage import label

        pieces, _ = label(self.empty.mask)
        wide = np.bincount(pieces.reshape(-1)) * self.empty.grid.voxel_volume_mm3 > 1000 * MIN_OUTSIDE_ML
        wide[0] = False
        near: BoolArray = wide[pieces]
        for axis, (step, n) in enumerate(zip(self.steps, shape, strict=True)):
            near = over_neighbours(np.logical_or, near, axis).repeat(step, axis).take(range(n), axis)
        return near

    def at(self, points_mm: F64) -> tuple[F32, F32]:
        """The level at which bone ends, and how high its edge is.

        Args:
            points_mm: (N, 3) in the world.

        Returns:
            (N,) levels in the CT's own values, and (N,) heights.
        """
        from scipy.ndimage import map_coordinates

        index = self.highest.grid.to_index(points_mm).T
        high = map_coordinates(self.highest.data, index, order=1, mode="nearest")
        low = map_coordinates(self.lowest.data, index, order=1, mode="nearest")
        np.minimum(high, np.float32(MAX_BONE_HU + self.offset), out=high)
        np.minimum(low, np.float32(MAX_SOFT_HU + self.offset), out=low)
        return np.maximum((high + low) / 2, np.float32(self.floor)), np.maximum(high - low, np.float32(MIN_RISE_HU))


def draw_in(bone: BoolArray, part: Volume, edges: Edges) -> None:
    """Take off, in place, what lies outside of half the edge: from the outside inwards, `DEEP_MM` at most.

    Args:
        bone: mask on the grid of ``part``: where a threshold was passed.
        part: of the CT.
        edges: of the same part.
    """
    index = indices_of(bone & (part.data < edges.ceiling))
    if not len(index):
        return
    level, _ = edges.at(part.grid.to_world(index))
    index = index[part.data[tuple(index.T)] < level]
    # With a margin that is not outside: where the scan ends, bone does not.
    outside = np.pad(edges.outside(part.shape) & ~bone, 1)
    strides = [s // outside.itemsize for s in outside.strides]
    flat = outside.reshape(-1)  # a view: padding gives an array in order
    left = np.ravel_multi_index(tuple(index.T + 1), outside.shape)
    for layer in range(1 + int(DEEP_MM / min(part.grid.spacing_mm))):
        near = [s for s, step in zip(strides, part.grid.spacing_mm, strict=True) if layer * step < DEEP_MM]
        touches = np.logical_or.reduce([flat[left + aside] for s in near for aside in (-s, s)])
        if not touches.any():
            break
        flat[left[touches]] = True
        left = left[~touches]
    taken = flat[np.ravel_multi_index(tuple(index.T + 1), outside.shape)]
    bone[tuple(index[taken].T)] = False


def _over_blocks(extreme: np.ufunc, data: NDArray[Any], axis: int, step: int) -> NDArray[Any]:
    """The highest or lowest of each run of voxels along an axis; the last run may be shorter."""
    along = np.moveaxis(data, axis, 0)
    out = along[::step].copy()
    for start in range(1, step):
        part = along[start::step]
        extreme(out[: len(part)], part, out=out[: len(part)])
    return np.moveaxis(out, 0, axis)


def over_neighbours(extreme: np.ufunc, data: NDArray[Any], axis: int) -> NDArray[Any]:
    """The highest or lowest of each value and the two beside it along an axis."""
    along = np.moveaxis(data, axis, 0)
    out = along.copy()
    extreme(out[1:], along[:-1], out=out[1:])
    extreme(out[:-1], along[1:], out=out[:-1])
    return np.moveaxis(out, 0, axis)


__all__ = ["Edges", "draw_in", "over_neighbours"]
