"""Dilation, erosion, opening and closing by balls in mm, on any grid.

Beyond the end of the array nothing is known, so nothing there counts: dilation takes nothing in from outside, and
erosion removes nothing just because the array ends. Opening therefore never adds and closing never removes a voxel,
also at the array's end.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.types import BoolArray
from calvaria.volume.distance import distance_to, reach_voxels, shifted
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume, bounding_box

RADIUS_ATOL_MM = 1e-4
"""A voxel this much further away than the radius still belongs to the ball: spacings in files keep 5-7 digits."""

MAX_LINES = 300
"""Balls of more lines of voxels than this are slower to apply than a distance transform."""


def dilate_mm(volume: Volume, radius_mm: float) -> Volume:
    """All voxels whose centre is within a radius of a True voxel's centre.

    Args:
        volume: a mask; an empty one stays empty.
        radius_mm: 0 or more.

    Returns:
        A mask on the same grid.

    Raises:
        InputError: the volume is not a mask, or the radius is negative or not finite.
    """
    return _apply(volume, radius_mm, _dilated)


def erode_mm(volume: Volume, radius_mm: float) -> Volume:
    """All True voxels without a False voxel's centre within a radius; a full mask stays full.

    Args:
        volume: a mask; an empty one stays empty.
        radius_mm: 0 or more.

    Returns:
        A mask on the same grid.

    Raises:
        InputError: the volume is not a mask, or the radius is negative or not finite.
    """
    return _apply(volume, radius_mm, _eroded)


def ball_offsets(grid: Grid, radius_mm: float) -> NDArray[np.int64]:
    """The voxels of a ball about a voxel: offsets no longer than a radius, on any grid.

    Args:
        grid: its shape does not matter.
        radius_mm: 0 or more.

    Returns:
        (N, 3) index offsets in C order; (0, 0, 0) is always among them.

    Raises:
        InputError: the radius is negative or not finite.

    >>> len(ball_offsets(Grid.isotropic((1, 1, 1), 1.0), 1.0))
    7
    """
    _check_radius(radius_mm)
    reach = reach_voxels(grid, radius_mm + RADIUS_ATOL_MM)
    offsets = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    lengths = np.linalg.norm(offsets @ grid.affine[:3, :3].T, axis=1)
    inside: NDArray[np.int64] = offsets[lengths <= radius_mm + RADIUS_ATOL_MM].astype(np.int64)
    return inside


def _check_radius(radius_mm: float) -> None:
    if not (np.isfinite(radius_mm) and radius_mm >= 0):
        raise InputError(f"a radius must be 0 mm or more; got {radius_mm}")


def _apply(volume: Volume, radius_mm: float, work: Callable[[Volume, float], Volume]) -> Volume:
    """Work on a copy of the mask's neighbourhood, a radius wide; the rest is False."""
    _check_radius(radius_mm)
    out = np.zeros(volume.shape, np.bool_)
    a, b, c = reach_voxels(volume.grid, radius_mm + RADIUS_ATOL_MM)
    box = bounding_box(volume.mask, (a + 1, b + 1, c + 1))
    if box is not None:
        part = volume.crop(box)
        out[box] = work(part.with_data(np.ascontiguousarray(part.data)), radius_mm).data
    return volume.with_data(out)


def _eroded(part: Volume, radius_mm: float) -> Volume:
    return part.with_data(~_dilated(part.with_data(~part.mask), radius_mm).data)


def _dilated(part: Volume, radius_mm: float) -> Volume:
    lines = _lines(part.grid, radius_mm)
    if len(lines) > MAX_LINES:
        near = distance_to(part, limit_mm=radius_mm + 2 * RADIUS_ATOL_MM) <= radius_mm + RADIUS_ATOL_MM
        return part.with_data(near)
    out = np.zeros(part.shape, np.bool_)
    for run in sorted(set(lines.values())):
        widened = _widened(part.mask, *run)
        for (i, j), other in lines.items():
            if other == run:
                _merge(out, widened, i, j)
    return part.with_data(out)


def _lines(grid: Grid, radius_mm: float) -> dict[tuple[int, int], tuple[int, int]]:
    """The ball as lines along the last axis: for each (i, j), the first and last k. A ball is convex: no gaps."""
    lines: dict[tuple[int, int], tuple[int, int]] = {}
    for i, j, k in ball_offsets(grid, radius_mm).tolist():
        first, _ = lines.get((i, j), (k, k))
        lines[i, j] = (first, k)
    return lines


def _widened(mask: BoolArray, first: int, last: int) -> BoolArray:
    """Dilation by the line from ``first`` to ``last`` along the last axis."""
    if first > 0:
        return shifted(_ahead(mask, last - first), (0, 0, -first))
    if last < 0:
        return np.flip(_widened(np.flip(mask, 2), -last, -first), 2)
    return _ahead(mask, last) | np.flip(_ahead(np.flip(mask, 2), -first), 2)


def _ahead(mask: BoolArray, steps: int) -> BoolArray:
    """Whether there is a True at a voxel or in the ``steps`` voxels before it on the last axis; by doubling."""
    out, done = mask.copy(), 0
    while done < steps:
        step = min(done + 1, steps - done)
        longer = out.copy()
        longer[:, :, step:] |= out[:, :, :-step]
        out, done = longer, done + step
    return out


def _merge(out: BoolArray, mask: BoolArray, i: int, j: int) -> None:
    """Add a mask moved by (i, j) voxels to ``out``, in place."""
    n, m = out.shape[0] - abs(i), out.shape[1] - abs(j)
    if n > 0 and m > 0:
        a, b = max(i, 0), max(j, 0)
        c, d = max(-i, 0), max(-j, 0)
        out[a : a + n, b : b + m] |= mask[c : c + n, d : d + m]


__all__ = ["ball_offsets", "dilate_mm", "erode_mm"]
