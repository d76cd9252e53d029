"""The voxels whose centres lie inside a closed mesh."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.volume.grid import Grid
from calvaria.volume.mesh import Mesh
from calvaria.volume.volume import Volume

SLAB_VOXELS = 1 << 22
"""Voxels of the winding numbers that are held at once."""

CHUNK_FACES = 1 << 18
"""Triangles that are cut into rows at once."""

TIE_VOXELS = 1e-7
"""A surface that passes a voxel centre by less, along the third axis, passes through it. Triangles of one plane meet a
line at the same place but for rounding (about 1e-12 voxels), and without this would disagree about centres on it."""


def voxelise(mesh: Mesh, grid: Grid) -> Volume:
    """The voxels whose centres lie inside a closed mesh.

    Each line of voxels along the third axis is cut with the triangles, and a voxel is inside where the triangles passed
    so far do not cancel (winding number other than 0), so overlapping shells are joined and normals may point either
    way. A line that meets an edge or a vertex exactly belongs to one of the triangles there, always the same: an edge's
    crossing is computed once from its two end points, and every range is closed at its lower and open at its upper end.
    A voxel centre exactly on the surface is inside at the lower end of an index range and outside at the upper.

    Args:
        mesh: closed, world LPS mm; parts of it may touch along edges. An empty one gives an empty mask.
        grid: any grid; the mesh may reach beyond it.

    Returns:
        A mask on the grid.

    Raises:
        InputError: the mesh is open, or its faces do not agree on the outside.
    """
    if mesh.open_edges:
        raise InputError(
            f"a mesh of {len(mesh.faces)} triangles is not closed ({mesh.open_edges} edges are not walked as often in "
            "one direction as in the other); repair it first"
        )
    out = np.zeros(grid.shape, np.bool_)
    if mesh.is_empty:
        return Volume(out, grid)
    points = grid.to_index(mesh.vertices_mm)
    crossings = [
        _crossings(points, mesh.faces[n : n + CHUNK_FACES], grid.shape) for n in range(0, len(mesh.faces), CHUNK_FACES)
    ]
    line = np.concatenate([c.line for c in crossings])
    order = np.argsort(line, kind="stable")
    at = np.concatenate([c.k for c in crossings])[order]
    sign = np.concatenate([c.sign for c in crossings])[order]
    line = line[order]
    lines = max(1, SLAB_VOXELS // grid.shape[2])
    flat = out.reshape(-1, grid.shape[2])
    for first in range(0, len(flat), lines):
        start, stop = np.searchsorted(line, [first, first + lines])
        if start < stop:
            steps = np.zeros((min(lines, len(flat) - first), grid.shape[2] + 1), np.int16)
            np.add.at(steps, (line[start:stop] - first, at[start:stop]), sign[start:stop])
            flat[first : first + lines] = np.cumsum(steps[:, :-1], axis=1, dtype=np.int16, out=steps[:, :-1]) != 0
    return Volume(out, grid)


class _Crossings(NamedTuple):
    """Where lines of voxels pass through triangles."""

    line: NDArray[np.int64]  # (N,) i * J + j
    k: NDArray[np.int64]  # (N,) first voxel behind the triangle, 0 to K
    sign: NDArray[np.int16]  # (N,) +1 or -1, by the side the triangle is passed from


class _Edges(NamedTuple):
    """Where the edges of one direction cross rows of constant j."""

    i: NDArray[np.float64]
    k: NDArray[np.float64]


def _crossings(points: NDArray[np.float64], faces: NDArray[np.int64], shape: tuple[int, int, int]) -> _Crossings:
    """All crossings of triangles with the lines of a grid along its third axis; indices are the grid's."""
    low, high = points[faces].min(axis=1), points[faces].max(axis=1)
    # Rows j of each triangle, closed below and open above: a vertex on a row belongs to the triangles above it.
    first_j, last_j = _range(low[:, 1], high[:, 1], shape[1])
    first_i, last_i = _range(low[:, 0], high[:, 0], shape[0])
    seen = (last_j > first_j) & (last_i > first_i)
    faces, first_j, last_j = faces[seen], first_j[seen], last_j[seen]
    which, row = _expand(first_j, last_j)
    up, down = _row_edges(points, faces[which], row)
    start, stop = _range(np.minimum(up.i, down.i), np.maximum(up.i, down.i), shape[0])
    where, column = _expand(start, stop)
    run = down.i[where] - up.i[where]
    share = np.clip((column - up.i[where]) / run, 0.0, 1.0)
    depth = up.k[where] + share * (down.k[where] - up.k[where])
    k = np.ceil(np.clip(depth - TIE_VOXELS, 0, shape[2])).astype(np.int64)
    return _Crossings(column * shape[1] + row[where], k, np.where(run > 0, 1, -1).astype(np.int16))


def _range(low: NDArray[np.float64], high: NDArray[np.float64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Whole numbers from ``low`` (with) to ``high`` (without), within 0 to n."""
    start, stop = (np.ceil(np.clip(v, -1, n)).clip(0, n).astype(np.int64) for v in (low, high))
    return start, stop


def _expand(start: NDArray[np.int64], stop: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every number of every range, with the range it is from."""
    counts = np.maximum(stop - start, 0)
    which = np.repeat(np.arange(len(counts)), counts)
    begins = np.cumsum(counts) - counts
    return which, np.arange(len(which)) - begins[which] + start[which]


def _row_edges(points: NDArray[np.float64], faces: NDArray[np.int64], row: NDArray[np.int64]) -> tuple[_Edges, _Edges]:
    """Where the edges of triangles cross rows: each row has one edge upward in j and one downward."""
    up = _Edges(np.zeros(len(row)), np.zeros(len(row)))
    down = _Edges(np.zeros(len(row)), np.zeros(len(row)))
    for a, b in ((0, 1), (1, 2), (2, 0)):
        start, end = faces[:, a], faces[:, b]
        below_start, below_end = points[start, 1] <= row, points[end, 1] <= row
        for edges, crossed in ((up, below_start & ~below_end), (down, ~below_start & below_end)):
            chosen = np.flatnonzero(crossed)
            # From the lower vertex number to the higher, so that both triangles of an edge get the same bits.
            one = points[np.minimum(start[chosen], end[chosen])]
            two = points[np.maximum(start[chosen], end[chosen])]
            share = (row[chosen] - one[:, 1]) / (two[:, 1] - one[:, 1])
            edges.i[chosen] = one[:, 0] + share * (two[:, 0] - one[:, 0])
            edges.k[chosen] = one[:, 2] + share * (two[:, 2] - one[:, 2])
    return up, down


__all__ = ["voxelise"]
