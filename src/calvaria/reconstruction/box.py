"""The common box: a skull in the canonical frame, scaled to the mean skull's size, as a truncated signed distance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from calvaria.skull.canonical import SPACING_MM, CanonicalFrame
from calvaria.volume.grid import Grid
from calvaria.volume.resample import coarsen, resample
from calvaria.volume.sampler import known_mask
from calvaria.volume.volume import Volume

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

HALF_X_MM, HALF_Y_MM = 86.4, 105.6
"""Half extents of the box: the mean head's 72 x 92 mm and room for the truncated distance."""

BOTTOM_MM, TOP_MM = -56.0, 91.2
"""Lower and upper end: from below the orbits (vertex at about +80) to above the vertex."""

TRUNCATION_MM = 12.7
"""Distances are cut off here: 127 steps of 0.1 mm, and no place in the hole's rim is further from bone that matters."""

FINE_MM = 0.95
"""Bone is averaged to about this before distances are measured; sub-voxel surfaces come from the fractions."""


def box_grid(spacing_mm: float = SPACING_MM) -> Grid:
    """Grid of the common box in scaled canonical mm; symmetric in x with a voxel layer at x = 0."""
    nx, ny = (2 * round(half / spacing_mm) + 1 for half in (HALF_X_MM, HALF_Y_MM))
    nz = round((TOP_MM - BOTTOM_MM) / spacing_mm) + 1
    corner = (-spacing_mm * (nx // 2), -spacing_mm * (ny // 2), BOTTOM_MM)
    return Grid.isotropic((nx, ny, nz), spacing_mm, corner)


FRONT_FLOOR_MM, FLOOR_SLOPE, LOWEST_MM = -18.0, -0.25, -40.0
"""Missing bone is looked for above z = -18 mm at the brow (y = -80), falling by a quarter of the way back, and above
z = -40 mm anywhere: vault, brow and the orbits' upper edge, about SkullBreak's landmark plane."""

INNER_CENTRE_MM, INNER_HALF_AXES_MM, INNER_TOP_MM = np.array([0.0, 0.0, 10.0]), np.array([50.0, 62.0, 62.0]), 20.0
"""... and outside this ellipsoid on the mean skull below z = 20 mm: in it lie the depth of the orbits' roofs and the
skull base, whose lamellae come and go between people and scans, so that absent bone there is no hole."""


@lru_cache(maxsize=4)
def vault(spacing_mm: float = SPACING_MM) -> BoolArray:
    """Bool on `box_grid(spacing_mm)`: where missing bone is looked for."""
    points = box_grid(spacing_mm).centres_mm()
    outside = (((points - INNER_CENTRE_MM) / INNER_HALF_AXES_MM) ** 2).sum(axis=-1) > 1
    outside |= points[..., 2] > INNER_TOP_MM
    floor = np.maximum(FRONT_FLOOR_MM + FLOOR_SLOPE * (points[..., 1] + 80.0), LOWEST_MM)
    zone = outside & (points[..., 2] > floor)
    zone.setflags(write=False)
    return np.asarray(zone)


FLOOR_Y_MM, FLOOR_Z_MM = -20.0, 15.0
"""The frontal floor lies before and below: orbits' roofs, crista galli, sinus walls."""


@lru_cache(maxsize=1)
def frontal_floor() -> BoolArray:
    """Bool on the box grid: where thin lamellae are part of a hole in some people, and were never there in others."""
    points = box_grid().centres_mm()
    zone = (points[..., 1] < FLOOR_Y_MM) & (points[..., 2] < FLOOR_Z_MM)
    zone.setflags(write=False)
    return np.asarray(zone)


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


def to_box(mask: Volume, frame: CanonicalFrame) -> BoxField:
    """Bring bone into the common box.

    Args:
        mask: bone on any grid; may be cropped to what lies in the box.
        frame: its canonical frame.
    """
    grid = box_grid()
    moved = grid.moved(box_to_world(frame))
    fraction = resample(coarsen(mask, FINE_MM), moved)
    # How far one step along each axis of the box goes in the skull's own mm.
    distance = subvoxel_distance(fraction.data, tuple(SPACING_MM * frame.scale), TRUNCATION_MM)
    known = known_mask(Volume(distance, moved), [cut.moved(frame.to_world) for cut in frame.cuts])
    return BoxField(distance, known, scale_of(frame))


def scale_of(frame: CanonicalFrame) -> tuple[float, float, float]:
    """The scale of a frame's box."""
    x, y, z = (float(factor) for factor in frame.scale)
    return x, y, z


def subvoxel_distance(fraction: F32, spacing_mm: tuple[float, ...], limit_mm: float) -> F32:
    """Signed distance to the half-level surface of a fraction field, with sub-voxel surfaces.

    Every voxel next to a sign change gets the mean of its edge crossings; any other voxel takes the distance to the
    crossing of its nearest such voxel, measured along the field's gradient where it is close.

    Args:
        fraction: (I, J, K) float32, 0 outside to 1 inside.
        spacing_mm: voxel edges, mm.
        limit_mm: distances are cut off here.

    Returns:
        (I, J, K) float32, mm, negative inside. All +limit for an empty field.
    """
    from scipy import ndimage

    spacing = np.asarray(spacing_mm, np.float32)
    inside = fraction > 0.5
    crossing, count = _crossings(fraction, inside)
    out = np.full(fraction.shape, limit_mm, np.float32)
    seeds = count > 0
    if not seeds.any():
        return np.where(inside, -out, out)
    distance, nearest = ndimage.distance_transform_edt(~seeds, sampling=spacing_mm, return_indices=True)
    close = distance < limit_mm + 2 * float(spacing.max())
    seed = np.ravel_multi_index(tuple(axis[close] for axis in nearest), fraction.shape)
    here = np.argwhere(close).astype(np.float32)
    there = np.stack(np.unravel_index(seed, fraction.shape), axis=1).astype(np.float32)
    foot = there + (crossing.reshape(3, -1)[:, seed] / count.reshape(-1)[seed]).T
    step = (here - foot) * spacing
    length = np.linalg.norm(step, axis=1)
    blurred = ndimage.gaussian_filter(fraction, 0.7)
    next_to = np.flatnonzero(distance[close] < 1.2 * float(spacing.max()))
    normal = np.stack([g.reshape(-1)[seed[next_to]] for g in np.gradient(blurred)], axis=1) / spacing
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-6
    along = np.abs((step[next_to] * normal).sum(axis=1))
    length[next_to] = np.minimum(along, length[next_to])
    out[close] = np.minimum(length, limit_mm)
    return np.where(inside, -out, out)


def _crossings(fraction: F32, inside: BoolArray) -> tuple[F32, F32]:
    """Sum of offsets (voxels) from each voxel to the crossings on its edges, (3, I, J, K), and their number."""
    total = np.zeros((3, *fraction.shape), np.float32)
    count = np.zeros(fraction.shape, np.float32)
    for axis in range(3):
        low = tuple(slice(0, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        crossed = inside[low] != inside[high]
        rise = np.where(crossed, fraction[high] - fraction[low], 1)
        part = np.where(crossed, (0.5 - fraction[low]) / rise, 0)
        total[axis][low] += part
        total[axis][high] -= np.where(crossed, 1 - part, 0)
        count[low] += crossed
        count[high] += crossed
    return total, count
