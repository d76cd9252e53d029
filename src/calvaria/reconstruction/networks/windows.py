"""Windows over the part of a grid that matters: where they lie, how their answers are blended, coarse maps in them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.types import F32, BoolArray
from calvaria.volume.grid import Box

Triple = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows in rows along the axes of a box, each row overlapping the next.

    Args:
        starts: first voxels of the windows along each axis, rising; on the whole grid.
        size: voxels along a window's edge.
        needed: (A, B, C) bool, which windows hold anything that matters, by their place in the rows.
    """

    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    size: int
    needed: BoolArray

    @classmethod
    def over(cls, wanted: BoolArray, zoom: int, size: int, overlap: int) -> Windows:
        """The windows that hold all that is wanted.

        Args:
            wanted: (X, Y, Z) on the coarse grid; not empty.
            zoom: voxels of the full grid along a coarse one.
            size: voxels of the full grid along a window's edge.
            overlap: by so many voxels neighbours overlap at least.

        Raises:
            InputError: nothing is wanted, or windows would overlap by half of their size or more.
        """
        if not wanted.any():
            raise InputError("there is nothing that windows could be laid over")
        if not 0 <= 2 * overlap < size:
            raise InputError(f"windows of {size} voxels overlap by 0 to {(size - 1) // 2}; got {overlap}")
        rows = []
        for axis in range(3):
            there = np.flatnonzero(wanted.any(axis=tuple(a for a in range(3) if a != axis)))
            rows.append(_row(zoom * int(there[0]), zoom * int(there[-1] + 1), size, overlap))
        x, y, z = rows
        needed = np.zeros((len(x), len(y), len(z)), bool)
        for place in product(*(range(len(row)) for row in rows)):
            parts = tuple(
                slice(max(0, row[n] // zoom), max(0, -(-(row[n] + size) // zoom)))
                for row, n in zip(rows, place, strict=True)
            )
            needed[place] = wanted[parts].any()
        return cls((x, y, z), size, needed)

    @property
    def box(self) -> Box:
        """What they cover, on the whole grid; may reach beyond it."""
        x, y, z = (slice(row[0], row[-1] + self.size) for row in self.starts)
        return x, y, z

    def __len__(self) -> int:
        return int(np.count_nonzero(self.needed))

    def each(self) -> list[tuple[Triple, F32]]:
        """First voxel and weights (W, W, W) of each window that is needed.

        At every voxel the weights of all windows sum to 1, and so do those of the needed ones wherever anything is
        wanted.
        """
        ramps = [_ramps(row, self.size) for row in self.starts]
        found = []
        for a, b, c in np.argwhere(self.needed):
            weight = ramps[0][a][:, None, None] * ramps[1][b][None, :, None] * ramps[2][c][None, None, :]
            found.append(((self.starts[0][a], self.starts[1][b], self.starts[2][c]), weight))
        return found


def _row(first: int, last: int, size: int, overlap: int) -> tuple[int, ...]:
    """Starts of the fewest windows from voxel ``first`` to before ``last``, evenly spread about their middle."""
    length = last - first
    count = max(1, -(-(length - overlap) // (size - overlap)))
    covered = max(length, size)
    begin = first - (covered - length) // 2
    steps = np.linspace(0, covered - size, count)
    return tuple(begin + int(n) for n in np.rint(steps))


def _ramps(row: tuple[int, ...], size: int) -> list[F32]:
    """(W,) weights of the windows of a row: straight up and down where neighbours overlap, summing to 1."""
    # Half a voxel in from the ends, so that no weight is 0.
    tent = np.minimum(np.arange(size) + 0.5, size - np.arange(size) - 0.5)
    total = np.zeros(row[-1] + size - row[0])
    flat = [np.minimum(tent, _least_overlap(row, size)) for _ in row]
    for start, weight in zip(row, flat, strict=True):
        total[start - row[0] : start - row[0] + size] += weight
    return [
        (weight / total[start - row[0] : start - row[0] + size]).astype(np.float32)
        for start, weight in zip(row, flat, strict=True)
    ]


def _least_overlap(row: tuple[int, ...], size: int) -> float:
    """Voxels over which a window gives way to the next; a single one to none."""
    laps = [before + size - after for before, after in pairwise(row)]
    return max(0.5, min(laps, default=0.5))


def upscaled_window(coarse: F32, start: Triple, size: Triple, zoom: int) -> F32:
    """A window of a coarse map at full resolution, trilinear; beyond the grid its edge goes on.

    Args:
        coarse: (X, Y, Z).
        start: first voxel on the full grid; may lie outside.
        size: voxels of the window.
        zoom: voxels of the full grid along a coarse one.
    """
    out = coarse
    for axis, (first, count) in enumerate(zip(start, size, strict=True)):
        at = np.clip((np.arange(first, first + count) + 0.5) / zoom - 0.5, 0, coarse.shape[axis] - 1)
        low = np.minimum(np.floor(at).astype(np.intp), max(coarse.shape[axis] - 2, 0))
        share = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        high = np.minimum(low + 1, coarse.shape[axis] - 1)
        out = out.take(low, axis) * (1 - share) + out.take(high, axis) * share
    return out


def cut_window(volume: NDArray[np.generic], start: Triple, size: Triple) -> NDArray[np.generic]:
    """A window of a volume, with zeros beyond it."""
    out = np.zeros(size, volume.dtype)
    here, there = [], []
    for first, count, n in zip(start, size, volume.shape, strict=True):
        low, high = max(first, 0), min(first + count, n)
        if high <= low:
            return out
        there.append(slice(low, high))
        here.append(slice(low - first, high - first))
    out[tuple(here)] = volume[tuple(there)]
    return out


__all__ = ["Windows", "cut_window", "upscaled_window"]
