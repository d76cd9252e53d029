"""The common box: a skull in the canonical frame, scaled to the mean skull's size, as a truncated signed distance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from calvaria.skull.canonical import SPACING_MM, CanonicalFrame
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.types import F32, F64, BoolArray
from calvaria.volume.gather import trilinear_at
from calvaria.volume.grid import Grid

HALF_X_MM, HALF_Y_MM = 86.4, 105.6
"""Half extents of the box: the mean head's 72 x 92 mm and room for the truncated distance."""

BOTTOM_MM, TOP_MM = -56.0, 91.2
"""Lower and upper end: from below the orbits (vertex at about +80) to above the vertex."""

TRUNCATION_MM = 12.7
"""Distances are cut off here: 127 steps of 0.1 mm, and no point of a hole's rim is farther from bone that matters."""

FINE_MM = 0.95
"""Bone is averaged to about this before distances are measured; sub-voxel surfaces come from the fractions."""

AIR_MM = 9.0
"""Value of a soft field where no bone is missing: nothing within this distance matters to a patch."""

FRONT_FLOOR_MM, FLOOR_SLOPE, MIN_FLOOR_MM = -18.0, -0.25, -40.0
"""Holes may lie above z = -18 mm at the brow (y = -80), falling by a quarter of the way back, and above
z = -40 mm anywhere: vault, brow and the orbits' upper edge, about SkullBreak's landmark plane."""

INNER_HALF_AXES_MM, INNER_TOP_MM = np.array([50.0, 62.0, 62.0]), 20.0
"""... and outside this ellipsoid about the head centre below z = 20 mm: in it lie the depth of the orbital roofs and
the skull base, whose lamellae differ between subjects and scans, so that absent bone there is no hole."""

FLOOR_Y_MM, FLOOR_Z_MM = -20.0, 15.0
"""The frontal floor lies before and below: orbital roofs, crista galli, sinus walls."""


def box_grid(spacing_mm: float = SPACING_MM) -> Grid:
    """Grid of the common box in scaled canonical mm; symmetric in x with a voxel layer at x = 0."""
    nx, ny = (2 * round(half / spacing_mm) + 1 for half in (HALF_X_MM, HALF_Y_MM))
    nz = round((TOP_MM - BOTTOM_MM) / spacing_mm) + 1
    corner = (-spacing_mm * (nx // 2), -spacing_mm * (ny // 2), BOTTOM_MM)
    return Grid.isotropic((nx, ny, nz), spacing_mm, corner)


@lru_cache(maxsize=4)
def vault(spacing_mm: float = SPACING_MM) -> BoolArray:
    """Bool on `box_grid(spacing_mm)`: where missing bone may lie."""
    x, y, z = _axes_mm(box_grid(spacing_mm))
    axes = zip((x, y, z), HEAD_CENTRE_MM, INNER_HALF_AXES_MM, strict=True)
    from_x, from_y, from_z = (((along - centre) / half) ** 2 for along, centre, half in axes)
    outside = (from_x + from_y + from_z > 1) | (z > INNER_TOP_MM)
    floor = np.maximum(FRONT_FLOOR_MM + FLOOR_SLOPE * (y + 80.0), MIN_FLOOR_MM)
    zone = outside & (z > floor)
    zone.setflags(write=False)
    return np.asarray(zone)


def _axes_mm(grid: Grid) -> tuple[F64, F64, F64]:
    """(I, 1, 1), (1, J, 1) and (1, 1, K) positions of the voxels of a box, mm: its axes are those of its frame."""
    nx, ny, nz = grid.shape
    step, start = np.diag(grid.affine)[:3], grid.affine[:3, 3]
    x, y, z = (start[axis] + step[axis] * np.arange(count) for axis, count in enumerate((nx, ny, nz)))
    return x[:, None, None], y[None, :, None], z[None, None, :]


@lru_cache(maxsize=1)
def frontal_floor() -> BoolArray:
    """Bool on the box grid: where thin lamellae are part of a hole in some subjects, and never existed in others."""
    _, y, z = _axes_mm(box_grid())
    return np.broadcast_to((y < FLOOR_Y_MM) & (z < FLOOR_Z_MM), box_grid().shape)


@dataclass(frozen=True, eq=False)
class BoxField:
    """A skull in the common box.

    Args:
        distance_mm: float32 on `box_grid()`, signed distance in the skull's own mm, negative in bone, truncated.
        known: bool, where the scan shows anything.
        scale: of the box's axes: scaled canonical mm times these are the skull's own.
    """

    distance_mm: F32
    known: BoolArray
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)


def box_to_world(frame: CanonicalFrame) -> F64:
    """(4, 4) scaled canonical mm -> world LPS mm."""
    return np.asarray(frame.to_world @ np.diag([*frame.scale, 1.0]))


def scale_of(frame: CanonicalFrame) -> tuple[float, float, float]:
    """The scale of a frame's box."""
    x, y, z = (float(factor) for factor in frame.scale)
    return x, y, z


def read_box(values: F32, points_mm: NDArray[np.floating], outside: float, place: Grid | None = None) -> F32:
    """Values on the box grid at scattered points, trilinear.

    Args:
        values: (I, J, K) float32 on `box_grid()`.
        points_mm: (N, 3) positions.
        outside: value beyond the outermost voxel centres.
        place: the box grid in the frame of the points; by default they are scaled canonical mm.

    Returns:
        (N,) float32.
    """
    grid = box_grid() if place is None else place
    # Shifted, since `trilinear_at` gives zero beyond the grid.
    shifted = values - np.float32(outside) if outside else values
    read = trilinear_at(shifted.reshape(-1), grid.shape, grid.to_index(points_mm).T)
    return read + np.float32(outside) if outside else read


def on_box(values: F32, spacing_mm: float) -> F32:
    """A volume on `box_grid(spacing_mm)` read on the box grid itself, trilinear; its edge goes on beyond it."""
    from scipy import ndimage

    fine, coarse = box_grid(), box_grid(spacing_mm)
    start = (fine.affine[:3, 3] - coarse.affine[:3, 3]) / spacing_mm
    step = np.full(3, SPACING_MM / spacing_mm)
    return np.asarray(ndimage.affine_transform(values, step, start, output_shape=fine.shape, order=1, mode="nearest"))
