"""Voxels with their position: the value that travels through the whole program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import GeometryError, InputError
from calvaria.types import BoolArray
from calvaria.volume.grid import Box, Grid


@dataclass(frozen=True, eq=False)
class Volume:
    """An image or a mask on a grid.

    Args:
        data: (I, J, K) array: bool for a mask, numbers for an image. Not copied.
        grid: its grid, of the same shape.

    Raises:
        GeometryError: the array's shape is not the grid's.

    >>> volume = Volume(np.ones((2, 2, 2), bool), Grid.isotropic((2, 2, 2), 10.0))
    >>> round(volume.volume_ml, 6)
    8.0
    """

    data: NDArray[Any]
    grid: Grid

    def __post_init__(self) -> None:
        data: object = self.data
        if not (isinstance(data, np.ndarray) and data.shape == self.grid.shape):
            found = getattr(data, "shape", type(data).__name__)
            raise GeometryError(f"the data must be an array of the grid's shape {self.grid.shape}; got {found}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(I, J, K)."""
        return self.grid.shape

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4) voxel centre -> world LPS mm."""
        return self.grid.affine

    @property
    def is_mask(self) -> bool:
        """Whether the data are booleans."""
        return self.data.dtype == np.bool_

    @property
    def mask(self) -> BoolArray:
        """The data as booleans, without a copy.

        Raises:
            InputError: the volume is an image, not a mask.
        """
        if not self.is_mask:
            raise InputError(f"a mask is wanted here, the volume holds {self.data.dtype}; threshold it first")
        return self.data

    @property
    def volume_ml(self) -> float:
        """Volume of the mask in ml; 0 for an empty one."""
        return float(np.count_nonzero(self.mask)) * self.grid.voxel_volume_mm3 / 1000.0

    def with_data(self, data: NDArray[Any]) -> Volume:
        """Other data on the same grid."""
        return Volume(data, self.grid)

    def crop(self, box: Box) -> Volume:
        """A view of the part inside ``box``; every voxel keeps its position.

        Raises:
            GeometryError: the box is empty, or has steps.
        """
        return Volume(self.data[box], self.grid.crop(box))

    def pad(self, before: tuple[int, int, int], after: tuple[int, int, int], fill: float | bool = 0) -> Volume:
        """A copy with voxels of value ``fill`` added (negative: removed) at both ends of each axis.

        Raises:
            GeometryError: nothing is left.
        """
        grid = self.grid.pad(before, after)
        width = [(max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True)]
        i, j, k = (slice(max(-b, 0), max(-b, 0) + n) for b, n in zip(before, grid.shape, strict=True))
        return Volume(np.pad(self.data, width, constant_values=fill)[i, j, k], grid)

    def permute(self, order: tuple[int, int, int]) -> Volume:
        """A view with the axes reordered; every voxel keeps its position.

        Raises:
            GeometryError: ``order`` is not a permutation of 0, 1, 2.
        """
        grid = self.grid.permute(order)
        return Volume(np.transpose(self.data, order), grid)

    def flip(self, axes: tuple[int, ...]) -> Volume:
        """A view with axes running the other way; every voxel keeps its position.

        Raises:
            GeometryError: ``axes`` are not different numbers from 0 to 2.
        """
        grid = self.grid.flip(axes)
        return Volume(np.flip(self.data, axes), grid)


def bounding_box(mask: BoolArray, margin: tuple[int, int, int] = (0, 0, 0)) -> Box | None:
    """The smallest box around a mask, grown by ``margin`` voxels and cut at the array's edge.

    Args:
        mask: (I, J, K) bool.
        margin: voxels added on both sides of each axis.

    Returns:
        Three slices, or None for an empty mask.

    >>> bounding_box(np.eye(3, dtype=bool)[:, :, None])
    (slice(0, 3, None), slice(0, 3, None), slice(0, 1, None))
    """
    # One pass over the large array; the two remaining projections are small.
    flat: BoolArray = np.any(mask, axis=2)
    if not flat.any():
        return None
    i_range, j_range = _ends(np.any(flat, axis=1)), _ends(np.any(flat, axis=0))
    k: BoolArray = np.any(mask[i_range[0] : i_range[1], j_range[0] : j_range[1]], axis=(0, 1))
    a, b, c = (
        slice(max(start - m, 0), min(stop + m, n))
        for (start, stop), m, n in zip((i_range, j_range, _ends(k)), margin, mask.shape, strict=True)
    )
    return a, b, c


def indices_of(mask: BoolArray) -> NDArray[np.intp]:
    """Indices of the voxels of a mask: what ``np.argwhere`` gives, ten times as fast where few voxels are set.

    Args:
        mask: (I, J, K) bool.

    Returns:
        (N, 3), in C order.

    >>> indices_of(np.eye(2, dtype=bool)[:, :, None]).tolist()
    [[0, 0, 0], [1, 1, 0]]
    """
    flat = np.flatnonzero(np.ascontiguousarray(mask))
    return np.stack(np.unravel_index(flat, mask.shape), axis=1)


def _ends(line: BoolArray) -> tuple[int, int]:
    inside = np.flatnonzero(line)
    return int(inside[0]), int(inside[-1]) + 1
