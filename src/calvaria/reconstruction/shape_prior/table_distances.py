"""The cranial vault as two surfaces: how far points lie from the outer and from the inner table.

A signed distance to bone has a crest halfway between the two tables. Skulls whose tables do not quite coincide add up
to a crest that is too low, and what varies in one table leaks into the other. The distances to each table alone run
straight through the bone, which lies where both are negative.

Along a ray from the head centre, the outer table is the surface beyond which there is no more bone, the inner table
the surface before which there is none. So the vault has these two and nothing else. At the face, the orbital roofs and
the frontal sinuses other surfaces lie between, and the two tables describe bone badly there.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from calvaria.reconstruction.box import BoxField, box_grid
from calvaria.reconstruction.surface import crossings
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.types import F32, F64, BoolArray
from calvaria.volume.gather import trilinear_at

Points = NDArray[np.floating]
Scale = tuple[float, float, float]

RAY_DEG = 1.0
"""Angle between neighbouring rays from the head centre: 1.3 mm at the skull."""

RAY_STEP_MM = 0.8
"""Spacing of the samples along a ray."""

MIN_RAY_MM, MAX_RAY_MM = 20.0, 132.0
"""Rays are sampled between these distances from the head centre: all of the vault lies there."""

SAME_MM = 2.4
"""Bone sampled this near to a surface is that surface's own."""

ALONG_NORMAL_MM = 3.2
"""Nearer to a surface than this, distances are measured along its normal."""

FACING = 0.1
"""A surface belongs to a table only if the cosine between its normal and the ray is more than this."""

SMOOTH = 0.5
"""Normals are those of the distance field blurred by this, in voxels."""


@dataclass(frozen=True, eq=False)
class TableDistances:
    """Signed distances of points to the two tables, in the skull's own mm.

    Args:
        outer_mm: (N,) float32, distance to the outer table; positive outside the head.
        inner_mm: (N,) float32, distance to the inner table; positive in the cranial cavity.
    """

    outer_mm: F32
    inner_mm: F32


@dataclass(frozen=True, eq=False)
class _Surface:
    """The surface of bone, both tables and all else.

    Args:
        points_mm: (S, 3) where edges of the grid cross the surface, scaled canonical mm.
        normals: (S, 3) unit vectors out of bone, in the skull's own mm.
    """

    points_mm: F64
    normals: F64


@dataclass(frozen=True, eq=False)
class _Limit:
    """Where the last bone (or the first) lies along every ray from the head centre.

    Args:
        bone_mm: (A, E) distance of that bone from the centre, by azimuth and elevation; 0 (or inf) where there is none.
        sign: 1 for the last bone, which bounds the outside of the head; -1 for the first, which bounds the cavity.
    """

    bone_mm: F64
    sign: int

    def clearance_mm(self, points_mm: Points) -> F64:
        """(N,) how far points lie beyond the last bone, or before the first; negative for the others."""
        radial = points_mm - HEAD_CENTRE_MM
        far = np.linalg.norm(radial, axis=1)
        azimuth = np.degrees(np.arctan2(radial[:, 1], radial[:, 0])) + 180
        # The head centre itself has no direction: the small constant gives it one.
        elevation = np.degrees(np.arcsin(np.clip(radial[:, 2] / (far + 1e-9), -1, 1))) + 90
        # The nearest ray; azimuth 360 is azimuth 0.
        row = np.rint(azimuth / RAY_DEG).astype(int) % self.bone_mm.shape[0]
        return np.asarray(self.sign * (far - self.bone_mm[row, np.rint(elevation / RAY_DEG).astype(int)]))


def table_distances_at(field: BoxField, points_mm: Points, limit_mm: float) -> TableDistances:
    """The distances of points of the box to the two tables of a skull.

    Args:
        field: a skull without a hole, or a completed one.
        points_mm: (N, 3), scaled canonical mm.
        limit_mm: distances are cut off here.
    """
    surface = _surface(field)
    outside, cavity = _limits(field.distance_mm)
    with ThreadPoolExecutor(1) as beside:
        outer = beside.submit(_distance, surface, outside, points_mm, field.scale, limit_mm)
        inner = _distance(surface, cavity, points_mm, field.scale, limit_mm)
        return TableDistances(outer.result(), inner)


def known_within(known: BoolArray, scale: Scale, spacing_mm: float) -> F32:
    """How far every voxel is from what the scan does not show, less a voxel: a longer distance may end there.

    Args:
        known: (I, J, K) where the scan shows anything, on the box's grid of any spacing.
        scale: of the skull's `BoxField`.
        spacing_mm: of that grid.

    Returns:
        (I, J, K) float32, the skull's own mm, negative where nothing is known; inf if all is.
    """
    from scipy import ndimage

    if known.all():
        return np.full(known.shape, np.inf, np.float32)
    # The box is scaled to the mean skull; distances are in the skull's own mm.
    steps = spacing_mm * np.asarray(scale)
    return np.asarray(ndimage.distance_transform_edt(known, sampling=steps) - steps.max(), np.float32)


def _distance(surface: _Surface, limit: _Limit, points_mm: Points, box_scale: Scale, limit_mm: float) -> F32:
    """Distance to one table.

    Args:
        surface: that of the skull.
        limit: the last bone for the outer table, the first for the inner one.
        points_mm: (N, 3) where.
        box_scale: the scale of the skull's `BoxField`.
        limit_mm: as for `table_distances_at`.

    Returns:
        (N,) float32, mm, positive where no bone lies beyond (or before).
    """
    from scipy.spatial import cKDTree

    scale = np.asarray(box_scale)
    radial = (surface.points_mm - HEAD_CENTRE_MM) * scale
    # The outer table faces away from the head centre, the inner one faces it.
    facing = limit.sign * np.einsum("nk,nk->n", surface.normals, radial) > FACING * np.linalg.norm(radial, axis=1)
    own = facing & (limit.clearance_mm(surface.points_mm) > -SAME_MM)
    # Points with no table nearby keep the truncated distance, with the sign that the rays give.
    out = np.where(limit.clearance_mm(points_mm) > 0, limit_mm, -limit_mm).astype(np.float32)
    if not own.any():
        return out
    feet, normals, points = surface.points_mm[own] * scale, surface.normals[own], points_mm * scale
    # (N,) distance to the nearest point of the table, inf beyond the limit, and which point that is.
    apart, foot = cKDTree(feet).query(points, distance_upper_bound=limit_mm)
    hit = np.flatnonzero(np.isfinite(apart))
    apart, foot = apart[hit], foot[hit]
    # The table's points are a voxel apart: near it, the distance to its tangent plane is more exact, in its sign, too.
    along = np.einsum("nk,nk->n", points[hit] - feet[foot], normals[foot])
    straight = np.copysign(np.minimum(np.abs(along), apart), along)
    out[hit] = np.where(apart < ALONG_NORMAL_MM, straight, np.copysign(apart, out[hit]))
    return out


def _surface(field: BoxField) -> _Surface:
    from scipy import ndimage

    distance, grid = field.distance_mm, box_grid()
    index = crossings(distance, 0.0)
    smooth = ndimage.gaussian_filter(distance, SMOOTH)
    # Positive outwards; divided by the scale, gradients are those in the skull's own mm.
    gradients = [np.gradient(smooth, axis=axis).reshape(-1) / field.scale[axis] for axis in range(3)]
    normals = trilinear_at(np.stack(gradients, axis=1), grid.shape, index).astype(np.float64)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    return _Surface(grid.to_world(index.T), normals)


def _limits(distance_mm: F32) -> tuple[_Limit, _Limit]:
    """The last and the first bone along every ray."""
    voxels = ray_voxels()
    # (R, D) bone along the rays; beyond the box there is air.
    bone = np.append(distance_mm.reshape(-1) < 0, False)[voxels]
    far = MIN_RAY_MM + RAY_STEP_MM * np.arange(len(voxels))
    none = ~bone.any(axis=0)
    # `argmax` gives the first True along the ray; from the far end, the last.
    first = np.where(none, np.inf, far[bone.argmax(axis=0)])
    last = np.where(none, 0.0, far[::-1][bone[::-1].argmax(axis=0)])
    shape = (round(360 / RAY_DEG), round(180 / RAY_DEG) + 1)
    return _Limit(last.reshape(shape), 1), _Limit(first.reshape(shape), -1)


@lru_cache(maxsize=1)
def ray_voxels() -> NDArray[np.int32]:
    """(R, D) flat indices of the box's voxels at R distances from the head centre along D rays.

    Beyond the box the index is the number of its voxels. 37 MB, and half a second to make.
    """
    grid = box_grid()
    azimuth = np.radians(np.arange(-180, 180, RAY_DEG))[:, None]
    # Both poles are rays, hence one elevation more than the range holds steps.
    elevation = np.radians(np.arange(-90, 90 + RAY_DEG / 2, RAY_DEG))[None, :]
    along_x, along_y = np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation)
    directions = np.stack([along_x, along_y, np.sin(elevation) + 0 * azimuth])
    # (3, D) voxels for each mm along a ray.
    steps = directions.reshape(3, -1) / grid.spacing_mm[0]
    start = grid.to_index(HEAD_CENTRE_MM)[:, None]
    far = np.arange(MIN_RAY_MM, MAX_RAY_MM, RAY_STEP_MM)
    out = np.empty((len(far), steps.shape[1]), np.int32)
    _, ny, nz = grid.shape
    for row, distance in zip(out, far, strict=True):
        i, j, k = np.rint(start + distance * steps).astype(np.int32)
        within = np.ones(len(row), bool)
        for index, count in zip((i, j, k), grid.shape, strict=True):
            within &= (index >= 0) & (index < count)
        row[:] = np.where(within, (i * ny + j) * nz + k, grid.size)
    # Cached and shared between calls.
    out.setflags(write=False)
    return out
