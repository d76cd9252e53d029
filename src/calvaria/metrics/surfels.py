"""Surface elements with their areas, as Nikolov et al. 2018 (arXiv:1809.04430) define the surface Dice.

Where eight voxels meet and are not all alike there is a *surfel*: a point at their common corner, with the area of the
triangles that marching cubes would draw there. Distances weighted by area do not depend on how a surface lies in the
grid, as counts of voxels do. Values are those of the authors' library (`surface-distance`), also on oblique and sheared
grids, which it does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import product

import numpy as np

from calvaria.metrics.surface import Voxels, surface_voxels
from calvaria.types import F64, BoolArray
from calvaria.volume.grid import Grid
from calvaria.volume.volume import bounding_box


@dataclass(frozen=True, eq=False)
class Surfels:
    """The surface of a mask.

    Args:
        points_mm: (N, 3) world mm, corners between voxels.
        area_mm2: (N,) area there.
    """

    points_mm: F64
    area_mm2: F64


def surfels(mask: BoolArray, grid: Grid, surface: Voxels | None = None) -> Surfels:
    """The surface elements of a mask.

    Args:
        mask: (I, J, K) bool; outside of the array there is background. May be empty.
        grid: its grid.
        surface: (N, 3) its surface voxels, where they are known already.
    """
    box = bounding_box(mask)
    if box is None:
        return Surfels(np.zeros((0, 3)), np.zeros(0))
    start = np.array([s.start for s in box])
    inner = np.pad(mask[box], 1)
    # Eight voxels that are not all alike have a surface voxel among them, so no others are looked at.
    edge = (surface_voxels(mask) if surface is None else surface) - start + 1
    flat = np.ravel_multi_index(tuple(edge.T), inner.shape)
    row, layer = inner.shape[2], inner.shape[1] * inner.shape[2]
    steps = [i * layer + j * row + k for i, j, k in product((0, 1), repeat=3)]
    mixed = np.zeros(inner.size, bool)
    for step in steps:
        mixed[flat - step] = True
    cells, body = np.flatnonzero(mixed), inner.ravel().view(np.uint8)
    codes = np.zeros(len(cells), np.uint8)
    for bit, step in enumerate(steps):
        codes |= body[cells + step] << np.uint8(7 - bit)  # the first of the eight is the highest bit, as in the table
    part = codes != 255
    corner = np.stack(np.unravel_index(cells[part], inner.shape), axis=1) + start - 0.5
    return Surfels(grid.to_world(corner), _areas(grid)[codes[part]])


def _areas(grid: Grid) -> F64:
    """(256,) area of each code in mm^2."""
    # An area vector in the grid's own axes becomes one in the world by the cofactors of the affine.
    matrix = grid.affine[:3, :3]
    cofactors = np.abs(np.linalg.det(matrix)) * np.linalg.inv(matrix).T
    vectors = _table()
    return np.asarray(np.linalg.norm(vectors @ cofactors.T, axis=-1).sum(axis=1))


@lru_cache(maxsize=1)
def _table() -> F64:
    """(256, 4, 3) area vectors of the triangles of each code, in voxel faces; unused ones are 0."""
    text = (files("calvaria.metrics") / "surfels.txt").read_text(encoding="utf-8")
    table = np.zeros((256, 4, 3))
    for code, line in enumerate(row for row in text.splitlines() if not row.startswith("#")):
        for number, triangle in enumerate(part for part in line.split(";") if part):
            table[code, number] = [int(value) / 8 for value in triangle.split()]
    return table


def surface_dice(there: F64, back: F64, there_mm2: F64, back_mm2: F64, tolerance_mm: float) -> float:
    """Share of both surfaces that lies within a tolerance of the other.

    Args:
        there: (N,) distances from the surfels of one surface to the other, mm.
        back: (M,) the other way.
        there_mm2: (N,) areas of the first.
        back_mm2: (M,) areas of the second.
        tolerance_mm: at exactly this distance a surfel is within.

    Returns:
        0 to 1; 1 if both surfaces are empty.
    """
    total = float(there_mm2.sum() + back_mm2.sum())
    if total == 0:
        return 1.0
    within = there_mm2[there <= tolerance_mm + TOLERANCE_ATOL_MM].sum()
    within += back_mm2[back <= tolerance_mm + TOLERANCE_ATOL_MM].sum()
    return float(within) / total


TOLERANCE_ATOL_MM = 1e-6
"""A computed distance may lie this much above the exact one."""


def weighted_mean(distance_mm: F64, area_mm2: F64) -> float:
    """Mean distance weighted by area, mm; infinite if the other surface is empty, NaN if this one is."""
    if not len(distance_mm):
        return float("nan")
    if not np.isfinite(distance_mm).all():
        return float("inf")
    return float(np.average(distance_mm, weights=area_mm2))


def weighted_percentile(distance_mm: F64, area_mm2: F64, percent: float) -> float:
    """Least distance within which ``percent`` of the area lies, mm; 0 for no surface."""
    if not len(distance_mm):
        return 0.0
    order = np.argsort(distance_mm, kind="stable")
    share = np.cumsum(area_mm2[order]) / area_mm2.sum()
    place = min(int(np.searchsorted(share, percent / 100.0)), len(order) - 1)
    return float(distance_mm[order][place])


__all__ = ["Surfels", "surface_dice", "surfels", "weighted_mean", "weighted_percentile"]
