"""The vault's wall as two surfaces: how far points lie from the outermost and from the innermost bone.

A signed distance to bone has a crest in the middle of the wall. Skulls whose walls do not quite coincide add up to a
crest that is too low, and what varies on one side of the wall is told to the other. The distances to the two sides, the
outer and the inner table, run straight through the wall; bone lies where both are negative.

Seen from the head's middle, a surface is of the outer side where no bone lies beyond it, of the inner side where none
lies before it. So the vault has these two and nothing else. At the face, the orbits' roofs and the frontal sinuses
other surfaces lie between, and the two sides say little there.
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
"""Between two directions in which one looks from the head's middle: 1.3 mm at the skull."""

RAY_STEP_MM = 0.8
"""Between two places along a direction."""

MIN_RAY_MM, MAX_RAY_MM = 20.0, 132.0
"""Bone of the skull is seen between these."""

SAME_MM = 2.4
"""Bone that is seen so near to a surface is that surface's own."""

ALONG_NORMAL_MM = 3.2
"""Nearer to a surface than this a distance is measured along its normal."""

FACING = 0.1
"""A surface is of a side only if its normal and the direction of the look agree so far (cosine)."""

SMOOTH = 0.5
"""Normals are those of the distances blurred by so many voxels."""


@dataclass(frozen=True, eq=False)
class TableDistances:
    """Where points lie to the two sides of the wall, in the skull's own mm.

    Args:
        outer_mm: (N,) float32, distance to the outer side; positive outside the head.
        inner_mm: (N,) float32, distance to the inner side; positive in the cavity.
    """

    outer_mm: F32
    inner_mm: F32


@dataclass(frozen=True, eq=False)
class _Surface:
    """Where bone begins along the box's axes.

    Args:
        points_mm: (S, 3), scaled canonical mm.
        normals: (S, 3) unit vectors out of bone, in the skull's own mm.
    """

    points_mm: F64
    normals: F64


@dataclass(frozen=True, eq=False)
class _View:
    """What bone ends the view of the outside, or of the cavity, in every direction from the head's middle.

    Args:
        bone_mm: (T, R) how far the last bone is, or the first, by turn and rise; 0 or inf where there is none.
        way: 1 for the outside, -1 for the cavity.
    """

    bone_mm: F64
    way: int

    def free_mm(self, points_mm: Points) -> F64:
        """(N,) how far points lie beyond the last bone, or before the first; negative for the others."""
        away = points_mm - HEAD_CENTRE_MM
        far = np.linalg.norm(away, axis=1)
        turn = np.degrees(np.arctan2(away[:, 1], away[:, 0])) + 180
        rise = np.degrees(np.arcsin(np.clip(away[:, 2] / (far + 1e-9), -1, 1))) + 90
        columns = np.rint(turn / RAY_DEG).astype(int) % self.bone_mm.shape[0]
        return np.asarray(self.way * (far - self.bone_mm[columns, np.rint(rise / RAY_DEG).astype(int)]))


def table_distances_at(field: BoxField, points_mm: Points, limit_mm: float) -> TableDistances:
    """The distances of points of the box to the two sides of a skull's wall.

    Args:
        field: a skull without a hole, or whose hole is filled.
        points_mm: (N, 3), scaled canonical mm.
        limit_mm: distances are cut off here.
    """
    surface = _surface(field)
    outside, cavity = _seen(field.distance_mm)
    with ThreadPoolExecutor(1) as beside:
        outer = beside.submit(_distance, surface, outside, points_mm, field.scale, limit_mm)
        inner = _distance(surface, cavity, points_mm, field.scale, limit_mm)
        return TableDistances(outer.result(), inner)


def known_within(known: BoolArray, scale: Scale, spacing_mm: float) -> F32:
    """How far every place is from what the scan does not show, less a voxel: a longer distance may end there.

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
    steps = spacing_mm * np.asarray(scale)
    return np.asarray(ndimage.distance_transform_edt(known, sampling=steps) - steps.max(), np.float32)


def _distance(surface: _Surface, view: _View, points_mm: Points, box_scale: Scale, limit_mm: float) -> F32:
    """Distance to one side.

    Args:
        surface: that of the skull.
        view: of the side.
        points_mm: (N, 3) where.
        box_scale: the scale of the skull's `BoxField`.
        limit_mm: as for `table_distances_at`.

    Returns:
        (N,) float32, mm, positive where the view is free.
    """
    from scipy.spatial import cKDTree

    scale = np.asarray(box_scale)
    away = (surface.points_mm - HEAD_CENTRE_MM) * scale
    facing = view.way * np.einsum("nk,nk->n", surface.normals, away) > FACING * np.linalg.norm(away, axis=1)
    own = facing & (view.free_mm(surface.points_mm) > -SAME_MM)
    out = np.where(view.free_mm(points_mm) > 0, limit_mm, -limit_mm).astype(np.float32)
    if not own.any():
        return out
    feet, normals, points = surface.points_mm[own] * scale, surface.normals[own], points_mm * scale
    apart, foot = cKDTree(feet).query(points, distance_upper_bound=limit_mm)
    hit = np.flatnonzero(np.isfinite(apart))
    apart, foot = apart[hit], foot[hit]
    along = np.einsum("nk,nk->n", points[hit] - feet[foot], normals[foot])
    straight = np.copysign(np.minimum(np.abs(along), apart), along)
    out[hit] = np.where(apart < ALONG_NORMAL_MM, straight, np.copysign(apart, out[hit]))
    return out


def _surface(field: BoxField) -> _Surface:
    from scipy import ndimage

    distance, grid = field.distance_mm, box_grid()
    index = crossings(distance, 0.0)
    smooth = ndimage.gaussian_filter(distance, SMOOTH)
    slopes = [np.gradient(smooth, axis=axis).reshape(-1) / field.scale[axis] for axis in range(3)]
    normals = trilinear_at(np.stack(slopes, axis=1), grid.shape, index).astype(np.float64)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    return _Surface(grid.to_world(index.T), normals)


def _seen(distance_mm: F32) -> tuple[_View, _View]:
    """The views of the outside and of the cavity."""
    voxels = ray_voxels()
    # Beyond the box there is air.
    bone = np.append(distance_mm.reshape(-1) < 0, False)[voxels]
    far = MIN_RAY_MM + RAY_STEP_MM * np.arange(len(voxels))
    none = ~bone.any(axis=0)
    first = np.where(none, np.inf, far[bone.argmax(axis=0)])
    last = np.where(none, 0.0, far[::-1][bone[::-1].argmax(axis=0)])
    shape = (round(360 / RAY_DEG), round(180 / RAY_DEG) + 1)
    return _View(last.reshape(shape), 1), _View(first.reshape(shape), -1)


@lru_cache(maxsize=1)
def ray_voxels() -> NDArray[np.int32]:
    """(R, D) flat indices of the box's voxels at R distances from the head's middle in D directions.

    Beyond the box the index is the number of its voxels. 37 MB, and half a second to make.
    """
    grid = box_grid()
    turn = np.radians(np.arange(-180, 180, RAY_DEG))[:, None]
    rise = np.radians(np.arange(-90, 90 + RAY_DEG / 2, RAY_DEG))[None, :]
    ways = np.stack([np.cos(turn) * np.cos(rise), np.sin(turn) * np.cos(rise), np.sin(rise) + 0 * turn])
    steps = ways.reshape(3, -1) / grid.spacing_mm[0]
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
    out.setflags(write=False)
    return out
