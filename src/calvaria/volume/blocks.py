"""Coarser volumes by means over blocks of whole voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume


def coarsen(volume: Volume, spacing_mm: float) -> Volume:
    """Means over blocks of whole voxels, about ``spacing_mm`` wide; fast and with little memory on any memory order.

    Args:
        volume: a mask or an image, of any real dtype.
        spacing_mm: wanted spacing; along each axis, the nearest whole number of voxels (at least 1) is taken.

    Returns:
        A float32 volume; for a mask, the share of bone. Its first voxel covers the first whole block. The last block
        of an axis may reach beyond the array: it is the mean of the voxels that exist.

    Raises:
        InputError: the spacing is not a positive number, or the data are not real.

    >>> volume = Volume(np.arange(4.0).reshape(4, 1, 1), Grid.isotropic((4, 1, 1), 1.0))
    >>> coarse = coarsen(volume, 2.0)
    >>> coarse.data.ravel().tolist(), coarse.grid.to_world([0, 0, 0]).tolist()
    ([0.5, 2.5], [0.5, 0.0, 0.0])
    """
    if not (np.isfinite(spacing_mm) and spacing_mm > 0):
        raise InputError(f"the coarse spacing must be a positive number of mm; got {spacing_mm}")
    steps = tuple(
        min(max(1, round(spacing_mm / s)), n) for s, n in zip(volume.grid.spacing_mm, volume.shape, strict=True)
    )
    data = block_means(volume.data, steps)
    return Volume(data, grid_of_blocks(volume.grid, data.shape, steps))


def grid_of_blocks(grid: Grid, shape: tuple[int, ...], steps: tuple[int, ...]) -> Grid:
    """The grid of blocks of ``steps`` voxels."""
    to_fine = np.diag([*map(float, steps), 1.0])
    to_fine[:3, 3] = (np.array(steps) - 1) / 2
    i, j, k = shape
    return Grid((i, j, k), grid.affine @ to_fine)


def block_means(data: NDArray[Any], steps: tuple[int, ...]) -> NDArray[np.float32]:
    """Mean of each block of ``steps`` voxels; walks the array along its slowest axis, one slab of blocks at a time."""
    if data.dtype.kind not in "biuf":
        raise InputError(f"an image of real numbers is wanted here; got {data.dtype}")
    if all(step == 1 for step in steps):
        return np.array(data, np.float32, order="C")
    order = np.argsort([-abs(s) for s in data.strides], kind="stable")
    walked, (a, b, c) = data.transpose(order), (steps[axis] for axis in order)
    starts_a, starts_b, starts_c = (np.arange(0, n, step) for n, step in zip(walked.shape, (a, b, c), strict=True))
    narrow = data.dtype.kind == "b" or (data.dtype.itemsize == 1 and data.dtype.kind == "u")
    slab_dtype = np.uint16 if narrow and a < 256 else np.float64  # 256 * 255 fits in 16 bits
    out = np.zeros((len(starts_a), len(starts_b), len(starts_c)), np.float32)
    counts = np.outer(_counts(starts_b, walked.shape[1]), _counts(starts_c, walked.shape[2]))
    # Whole blocks all over; those beyond the array stay zero. Adding strided rows and columns beats np.add.reduceat.
    total = np.zeros((len(starts_b) * b, len(starts_c) * c), slab_dtype)
    inside = total[: walked.shape[1], : walked.shape[2]]
    for n, start in enumerate(starts_a):
        slab = walked[start : start + a]
        np.add.reduce(slab, axis=0, dtype=slab_dtype, out=inside)
        rows = np.add.reduce(total.reshape(len(starts_b), b, -1), axis=1, dtype=np.float64)
        sums = rows[:, ::c].copy()
        for column in range(1, c):
            sums += rows[:, column::c]
        out[n] = sums / (counts * len(slab))
    return np.ascontiguousarray(out.transpose(np.argsort(order)))


def _counts(starts: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    return np.diff(np.append(starts, n))


__all__ = ["block_means", "coarsen", "grid_of_blocks"]
