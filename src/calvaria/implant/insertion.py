"""The way in: along which direction an implant is put in, and what stands in its way there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calvaria.types import F32, F64
from calvaria.volume.distance import signed_distance
from calvaria.volume.gather import trilinear_at
from calvaria.volume.grid import Grid
from calvaria.volume.rotation import across
from calvaria.volume.volume import Volume

if TYPE_CHECKING:
    from calvaria.implant.site import Site
    from calvaria.implant.wish import Wish

FAR_STEP_MM = 1.2
"""Grid on which bone away from the rim, and bone in trial directions, is measured."""

FAR_LIMIT_MM = 8.0
"""Distances there are no more than this."""

ROUNDS_DEG = ((70.0, 10.0), (10.0, 5.0), (5.0, 2.5))
"""How far about the best direction so far others are tried, and how far apart: coarse to fine."""

TILT_COST = 0.03
"""What a direction costs that lies 90 degrees off the mean normal, as a share of the implant that is blocked: between
directions that are equally free the straight one is taken."""

STEP_MM = 1.0
"""Of the trial way."""

POINTS = 3000
"""So many points of the implant are tried."""


@dataclass(frozen=True)
class Way:
    """A direction and what it costs.

    Args:
        direction: (3,) unit, world, the way the implant moves when it is put in.
        blocked: share of the implant, by volume, that cannot go that way with its clearance.
    """

    direction: F64
    blocked: float


def far_field(site: Site) -> Volume:
    """Signed distance to the bone around a hole on a coarse grid along the world's axes, mm."""
    corners = site.bone.grid.corners_mm()
    low, high = corners.min(axis=0), corners.max(axis=0)
    i, j, k = (int(n) for n in np.ceil((high - low) / FAR_STEP_MM) + 1)
    grid = Grid.isotropic((i, j, k), FAR_STEP_MM, low)
    inside = site.smooth.holds(grid.centres_mm().reshape(-1, 3)).reshape(grid.shape)
    return Volume(signed_distance(Volume(inside, grid), limit_mm=FAR_LIMIT_MM), grid)


def far_mm(far: Volume, points_mm: F64) -> F32:
    """(N,) coarse distances of (N, 3) points to bone; the limit outside of the grid."""
    index = far.grid.to_index(points_mm).T
    return FAR_LIMIT_MM + trilinear_at(far.data.reshape(-1) - np.float32(FAR_LIMIT_MM), far.shape, index)


def mean_normal(site: Site, chosen: np.ndarray) -> F64:
    """(3,) unit mean of the outer surface's normals over a part of the lattice."""
    mean = site.sheet.normals[chosen].mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def find_way(site: Site, far: Volume, wish: Wish, travel_mm: float, away: F64 | None = None) -> Way:
    """The direction along which the least of an implant is in the way of bone.

    Args:
        site: the hole.
        far: see `far_field`.
        wish: what of the outer surface the implant covers, how thick and how clear it is.
        travel_mm: length of the way.
        away: (3,) unit; it must not come out towards there, where the other half of the implant may lie.
    """
    normal = mean_normal(site, wish.edge_mm < 0)
    if away is not None and normal @ away > 0:
        normal -= (normal @ away) * away
        normal /= np.linalg.norm(normal)
    points, clear = _points(site, wish)
    if not len(points):
        return Way(-normal, 0.0)
    steps = np.arange(STEP_MM, travel_mm + STEP_MM / 2, STEP_MM)
    best, least = Way(-normal, 1.0), np.inf
    for reach, apart in ROUNDS_DEG:
        for up in _around(-best.direction, reach, apart):
            if up @ normal < MIN_COSINE or (away is not None and up @ away > ALONG):
                continue
            tilt = TILT_COST * (1 - up @ normal)
            blocked = _blocked(far, points, up, steps, clearance_mm=clear, limit=least - tilt)
            cost = blocked + tilt
            if cost < least:
                best, least = Way(-up, blocked), cost
    return best


ALONG = 1e-9
"""A direction so little towards a plane is along it."""


MIN_COSINE = 0.2
"""Of a direction with the mean normal: nothing is put in sideways."""


def _points(site: Site, wish: Wish) -> tuple[F64, F64]:
    """Points of the implant that keep clear of bone where they end up, at three depths, and their clearance."""
    cells = np.flatnonzero(wish.edge_mm.ravel() < 0)
    cells = cells[:: max(1, len(DEPTHS) * len(cells) // POINTS)]
    points, normals = site.sheet.points_mm.reshape(-1, 3)[cells], site.sheet.normals.reshape(-1, 3)[cells]
    depths = np.array(DEPTHS)[:, None] * wish.thickness_mm.ravel()[cells]
    every = (points - depths[..., None] * normals).reshape(-1, 3)
    clear = np.tile(wish.clearance_mm.ravel()[cells], len(DEPTHS)).astype(np.float64)
    free = site.rim.distance_mm(every) >= clear
    return every[free], clear[free]


DEPTHS = (0.1, 0.5, 0.95)
"""Of the thickness."""


def _around(centre: F64, reach_deg: float, apart_deg: float) -> F64:
    """(N, 3) unit vectors within an angle of one, about evenly, itself first."""
    side, other = across(centre)
    out = [centre]
    for tilt in np.radians(np.arange(apart_deg, reach_deg + 1e-9, apart_deg)):
        count = max(6, round(2 * np.pi * np.sin(tilt) / np.radians(apart_deg)))
        for turn in np.arange(count) * 2 * np.pi / count:
            out.append(np.cos(tilt) * centre + np.sin(tilt) * (np.cos(turn) * side + np.sin(turn) * other))
    return np.array(out)


def _blocked(far: Volume, points: F64, up: F64, steps: F64, *, clearance_mm: F64, limit: float) -> float:
    """Share of points that come nearer to bone than their clearance on their way out.

    The coarse field is up to half a voxel wrong: only what comes clearly nearer counts. Above a limit the count ends.
    """
    least, shape = clearance_mm - FAR_STEP_MM / 2, np.array(far.shape)
    start, move = far.grid.to_index(points), up / FAR_STEP_MM  # the grid lies along the world's axes
    gone, free = 0, np.arange(len(points))
    for step in steps:
        index = np.rint(start[free] + step * move).astype(int)
        inside = ((index >= 0) & (index < shape)).all(axis=1)
        hit = np.zeros(len(free), bool)
        hit[inside] = far.data[tuple(index[inside].T)] < least[free[inside]]
        gone += int(np.count_nonzero(hit))
        # What has left the box around the bone is out for good.
        free = free[inside & ~hit]
        if not len(free) or gone > limit * len(points):
            break
    return gone / len(points)


__all__ = ["Way", "far_field", "far_mm", "find_way", "mean_normal"]
