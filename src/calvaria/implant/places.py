"""Where on an implant something can be put: how far edges, the rim's wall and earlier details are."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from calvaria.implant.parts import Part
from calvaria.types import F64, BoolArray

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

EDGE_STEP_MM = 0.25
"""Spacing of the points that stand for an outline."""

RIM_STEP_MM = 0.8
"""Spacing of the points that stand for the rim's wall: at 1 mm a distance to it is true to 0.1 mm."""

DEPTH_STEP_MM = 1.0
"""Spacing along the axis of a hole of the points whose distance to the rim is measured."""

FAR_MM = 1e6
"""Where there is nothing to keep away from."""


class Places:
    """A part's room for details: what is taken is remembered.

    Args:
        part: whose outer surface, outlines, thickness and rim count.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self._points = np.zeros((0, 3))
        self._radii = np.zeros(0)

    def take(self, points_mm: F64, radius_mm: float) -> None:
        """Keep what comes later out of balls about (N, 3) points on the outer surface."""
        self._points = np.concatenate([self._points, points_mm])
        self._radii = np.concatenate([self._radii, np.full(len(points_mm), radius_mm)])

    def thickness_mm(self, cells: F64) -> F64:
        """(N,) thickness asked for at (N, 2) cells of the sheet; 0 where none is."""
        from scipy.ndimage import map_coordinates

        return np.asarray(map_coordinates(np.nan_to_num(self.part.thickness_mm), cells.T, order=1, mode="nearest"))

    def within(self, cells: F64) -> BoolArray:
        """(N,) whether (N, 2) cells of the sheet lie inside the outlines, and where bone is missing."""
        from skimage import measure

        points_in_poly: Callable[..., Any] = measure.points_in_poly
        inside = np.zeros(len(cells), np.bool_)
        for outline in self.part.outline:
            inside ^= points_in_poly(cells, self.part.sheet.cells(outline.points_mm))
        hole = self.part.sheet.hole
        i, j = np.clip(np.rint(cells).astype(int), 0, np.array(hole.shape) - 1).T
        return np.asarray(inside & hole[i, j])

    def to_edge_mm(self, points_mm: F64) -> F64:
        """(N,) from points on the outer surface to the nearest outline."""
        return np.asarray(self._edge.query(points_mm)[0])

    def to_rim_mm(self, points_mm: F64, normals: F64, depth_mm: F64, most_mm: float = FAR_MM) -> F64:
        """(N,) from axes, that go from the outer surface inwards for (N,) depths, to the rim; inf beyond most."""
        if self._rim is None:
            return np.full(len(points_mm), FAR_MM)
        steps = int(np.ceil(depth_mm.max() / DEPTH_STEP_MM)) + 1 if len(depth_mm) else 1
        at = points_mm - np.linspace(0, 1, steps)[:, None, None] * (depth_mm[:, None] * normals)
        distance, _ = self._rim.query(at.reshape(-1, 3), distance_upper_bound=most_mm)
        return np.asarray(distance.reshape(steps, -1).min(axis=0))

    def to_taken_mm(self, points_mm: F64) -> F64:
        """(N,) from points on the outer surface to the nearest ball that is taken; negative within."""
        from scipy.spatial import cKDTree

        nearest = np.full(len(points_mm), FAR_MM)
        for radius in np.unique(self._radii):
            tree = cKDTree(self._points[self._radii == radius])
            np.minimum(nearest, tree.query(points_mm)[0] - radius, out=nearest)
        return nearest

    def fit(self, cells: F64, radius_mm: float, *, edge_mm: float, wall_mm: float, thick_mm: float) -> BoolArray:
        """Which of N round holes along the normal can be there.

        Args:
            cells: (N, 2) of the sheet.
            radius_mm: of the holes.
            edge_mm: from their edge to every outline.
            wall_mm: from their edge to the rim's wall, at any depth, and to what is taken.
            thick_mm: the body must be as thick.
        """
        points, normals = self.part.sheet.at(cells)
        thick = self.thickness_mm(cells)
        fine = self.within(cells) & (thick >= thick_mm)
        at = np.flatnonzero(fine)
        fine[at] = self.to_edge_mm(points[at]) >= radius_mm + edge_mm
        at = np.flatnonzero(fine)
        fine[at] = self.to_taken_mm(points[at]) >= radius_mm + wall_mm
        at = np.flatnonzero(fine)
        need = radius_mm + wall_mm
        fine[at] = self.to_rim_mm(points[at], normals[at], thick[at], need) >= need
        return fine

    @cached_property
    def cell_mm(self) -> float:
        """What a cell of the sheet measures, about: along a line from its middle, where the surface is square to it."""
        sheet = self.part.sheet
        points = sheet.points_mm[sheet.hole] if sheet.hole.any() else sheet.points_mm.reshape(-1, 3)
        return float(np.median(np.linalg.norm(points - sheet.centre_mm, axis=1))) * sheet.cell_rad

    @cached_property
    def middle(self) -> F64:
        """(2,) cell in the middle of the implant."""
        cells = np.argwhere(self.part.sheet.hole).astype(np.float64)
        own = cells[self.within(cells)]
        return np.asarray((own if len(own) else cells).mean(axis=0))

    @cached_property
    def _edge(self) -> cKDTree:
        from scipy.spatial import cKDTree

        lines = []
        for outline in self.part.outline:
            start, end = outline.points_mm, np.roll(outline.points_mm, -1, axis=0)
            longest = float(np.linalg.norm(end - start, axis=1).max())
            share = np.linspace(0, 1, max(int(np.ceil(longest / EDGE_STEP_MM)), 1), endpoint=False)[:, None, None]
            lines.append((start + share * (end - start)).reshape(-1, 3))
        return cKDTree(np.concatenate(lines))

    @cached_property
    def _rim(self) -> cKDTree | None:
        """Points all over the body's surface where clearance to bone is asked for; None where there is none."""
        from scipy.spatial import cKDTree

        body = self.part.body
        corners = body.vertices_mm[body.faces[np.isfinite(self.part.asked_mm)[body.faces].all(axis=1)]]
        if not len(corners):
            return None
        longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
        count = np.ceil(longest / RIM_STEP_MM).astype(int)
        return cKDTree(np.concatenate([_points_over(corners[count == n], int(n)) for n in np.unique(count)]))


def spread(points: F64, allowed: BoolArray, count: int, apart_mm: float) -> list[int]:
    """Up to ``count`` allowed points of a closed line, each the nearest to one of as many even positions.

    Args:
        points: (R, K) mm, in their order.
        allowed: (R,) which may be chosen.
        count: how many are wanted.
        apart_mm: no two chosen ones are nearer to each other along the line.
    """
    run, length = run_mm(points)
    chosen: list[int] = []
    for target in np.arange(count) * length / count:
        off = np.abs(run - target)
        off = np.minimum(off, length - off)
        free = allowed.copy()
        for other in chosen:
            from_it = np.abs(run - run[other])
            free &= np.minimum(from_it, length - from_it) >= apart_mm
        if free.any():
            chosen.append(int(np.where(free, off, np.inf).argmin()))
    return chosen


def run_mm(points: F64) -> tuple[F64, float]:
    """(R,) lengths along a closed line to each of its (R, K) points, and all around it."""
    steps = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)[:-1]]), float(steps.sum())


def _points_over(corners: F64, count: int) -> F64:
    """(N, 3) points all over (T, 3, 3) triangles, whose edges they divide into so many."""
    i, j = np.meshgrid(np.arange(count + 1), np.arange(count + 1))
    own = i + j <= count
    shares = np.stack([i[own], j[own], count - i[own] - j[own]], axis=1) / max(count, 1)
    return np.asarray(np.einsum("pk,tkx->tpx", shares, corners).reshape(-1, 3))


__all__ = ["Places", "run_mm", "spread"]
