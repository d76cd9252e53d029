"""The vault of a head laid out flat: Hounsfield units along rays from the middle of the braincase.

What is put into a vault, cut out of it or has slipped is a plate in a shell. On a map of directions (equal areas, the
vertex in the middle) it is a region with an edge, whatever the grid, the gantry's tilt and the head's pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calvaria.types import F32, F64, BoolArray
from calvaria.volume.blocks import coarsen
from calvaria.volume.volume import Volume, indices_of

PIXEL = 0.0188
"""Pixel edge of the map, of a unit sphere: 1.6 mm on a vault of 85 mm."""

REACH_DEGREES = 98.0
"""The map ends so far from the vertex: over the brow and the ears, without face and base."""

DEPTHS_MM = np.arange(-21.0, 14.1, 1.0)
"""Where rays are read, above the vault's smooth outer surface: a vault is up to 12 mm thick, and a flap may sink."""

COARSE_MM = 2.0
"""The smooth surface is fitted to blocks of about this size."""

DEGREE = 8
"""Of the polynomial on the map that is the smooth surface: it follows a vault within 2 mm and spans a hole."""

CENTRE_SHARE = 0.45
"""The rays start below the vertex by so much of the vault's length: 80 mm in an adult."""

VAULT_MM = (25.0, 70.0)
"""The slab below the vertex whose middle is that of the head."""

MIN_KNOWN_SHARE = 0.25
"""With bone on fewer of the map's rays than this, there is no vault to look at."""


@dataclass(frozen=True, eq=False)
class Shell:
    """Hounsfield units around the vault's outer surface.

    Args:
        centre_mm: (3,) where the rays start, world LPS.
        hu: (P, P, D) float32 on the map's pixels and at ``DEPTHS_MM``; -1000 outside of the scan.
        counted: (P, P, D) where that is bone, by the mask that was given.
        known: (P, P) rays that lie in the map and in the scan.
        surface_mm: (P, P) float32 from the centre to the smooth outer surface.
    """

    centre_mm: F64
    hu: F32
    counted: BoolArray
    known: BoolArray
    surface_mm: F32

    @property
    def pixel_cm2(self) -> F32:
        """(P, P) area of the outer surface on each pixel."""
        area: F32 = np.square(self.surface_mm * np.float32(PIXEL / 10))
        return area

    def points_mm(self, pixels: F64, height_mm: F64) -> F64:
        """(N, 3) world mm of (N, 2) pixels at a height above the smooth surface."""
        at = np.rint(pixels).astype(int)
        radius = self.surface_mm[at[:, 0], at[:, 1]] + height_mm
        out: F64 = self.centre_mm + directions_of(pixels - (self.hu.shape[0] - 1) / 2) * radius[:, None]
        return out

    def place_of(self, points_mm: F64) -> tuple[F64, F64]:
        """(N, 2) pixels of (N, 3) world points, and (N,) their heights above the smooth surface, mm."""
        apart = points_mm - self.centre_mm
        radius = np.maximum(np.linalg.norm(apart, axis=1), 1e-6)
        pixels = pixels_of(apart / radius[:, None]) + (self.hu.shape[0] - 1) / 2
        at = np.clip(np.rint(pixels), 0, self.hu.shape[0] - 1).astype(int)
        return pixels, radius - self.surface_mm[at[:, 0], at[:, 1]]


def directions_of(offsets: F64) -> F64:
    """(N, 3) unit vectors of (N, 2) pixels counted from the map's middle (Lambert's equal-area projection)."""
    across = offsets * PIXEL
    square = np.minimum((across**2).sum(axis=-1), 3.99)
    out: F64 = np.concatenate([across * np.sqrt(1 - square / 4)[:, None], (1 - square / 2)[:, None]], axis=1)
    return out


def pixels_of(directions: F64) -> F64:
    """(N, 2) pixels, counted from the map's middle, of (N, 3) unit vectors."""
    out: F64 = directions[:, :2] * np.sqrt(2 / np.maximum(1 + directions[:, 2], 1e-3))[:, None] / PIXEL
    return out


def shell_of(ct: Volume, bone: Volume, offset_hu: float) -> Shell | None:
    """The map of a vault.

    Args:
        ct: in HU + ``offset_hu``, upright in world LPS mm.
        bone: mask on its grid, most of which is the skull.
        offset_hu: what has to be taken from the values to have HU.

    Returns:
        The map; None where too little of a vault is in the scan.
    """
    coarse = coarsen(bone, COARSE_MM)
    points = coarse.grid.to_world(indices_of(coarse.data > 0.4))
    centre = _centre_mm(points)
    if centre is None:
        return None
    half = int(np.ceil(2 * np.sin(np.deg2rad(REACH_DEGREES) / 2) / PIXEL))
    offsets = np.stack(np.meshgrid(*[np.arange(-half, half + 1.0)] * 2, indexing="ij"), axis=-1)
    within = np.linalg.norm(offsets, axis=-1) <= half
    surface = _smooth_surface(points - centre, offsets, half)
    if surface is None:
        return None
    values, counted, outside = _read(ct, bone, centre, (directions_of(offsets[within]), surface[within]))
    shape = (*within.shape, len(DEPTHS_MM))
    out = np.full(shape, -1000.0, np.float32)
    out[within] = np.where(outside, np.float32(-1000), values - np.float32(offset_hu))
    marked = np.zeros(shape, bool)
    marked[within] = counted
    seen = np.zeros(within.shape, bool)
    seen[within] = ~outside[:, DEPTHS_MM <= 0].any(axis=1)
    return Shell(centre, out, marked, seen, surface)


def _centre_mm(points: F64) -> F64 | None:
    """(3,) about the middle of the braincase: of bone at (N, 3) points."""
    if len(points) < 1000:
        return None
    top = np.percentile(points[:, 2], 99.9)
    slab = points[(points[:, 2] < top - VAULT_MM[0]) & (points[:, 2] > top - VAULT_MM[1])]
    if len(slab) < 300:
        return None
    low, high = np.percentile(slab[:, :2], [0.5, 99.5], axis=0)
    middle = (low + high) / 2
    return np.array([*middle, top - CENTRE_SHARE * (high[1] - low[1])])


def _smooth_surface(apart: F64, offsets: F64, half: int) -> F32 | None:
    """(P, P) mm from the centre to a smooth outer surface through bone at (N, 3) points from there."""
    step, side = 3, 2 * half + 1
    radius = np.linalg.norm(apart, axis=1)
    kept = radius > 20
    pixels = pixels_of(apart[kept] / radius[kept, None])
    cells = np.floor((pixels + half) / step).astype(int)
    inside = (np.linalg.norm(pixels, axis=1) <= half) & (cells >= 0).all(axis=1) & (cells <= side // step).all(axis=1)
    width = side // step + 1
    outer = np.zeros(width * width)
    np.maximum.at(outer, cells[inside] @ [width, 1], radius[kept][inside])
    at = np.flatnonzero(outer)
    if len(at) < MIN_KNOWN_SHARE * np.pi * (half / step) ** 2:
        return None
    middles = (np.stack(np.divmod(at, width), axis=1) + 0.5) * step - half - 0.5
    values = outer[at]
    matrix = terms(middles / half)
    weight = np.ones(len(at))
    for _ in range(6):
        solution = np.linalg.lstsq(matrix * weight[:, None], values * weight, rcond=None)[0]
        off = values - matrix @ solution
        # What stands out (a flap, a plate, a neck muscle's line) and what lies deep (a hole's inner edge) counts less.
        weight = 1 / np.sqrt(1 + (off / 2.0) ** 2)
    inner = np.minimum(1.0, half / np.maximum(np.linalg.norm(offsets, axis=-1, keepdims=True), 1e-6))
    surface = terms((offsets * inner).reshape(-1, 2) / half) @ solution
    low, high = np.percentile(values, [2, 98])
    return np.clip(surface, low - 5, high + 5).reshape(offsets.shape[:2]).astype(np.float32)


def terms(places: F64, degree: int = DEGREE) -> F64:
    """(N, T) products of Chebyshev polynomials up to a degree in all, at (N, 2) places from -1 to 1."""
    u, v = (np.polynomial.chebyshev.chebvander(np.clip(one, -1, 1), degree) for one in places.T)
    return np.stack([u[:, i] * v[:, j] for i in range(degree + 1) for j in range(degree + 1 - i)], axis=1)


def _read(ct: Volume, bone: Volume, centre: F64, reach_mm: tuple[F64, F32]) -> tuple[F32, BoolArray, BoolArray]:
    """(N, D) values and bone along rays, (directions, mm to the smooth surface), and what lies outside of the scan."""
    from scipy.ndimage import map_coordinates

    rays, surface = reach_mm
    grid = ct.grid
    start, along = grid.to_index(centre), rays @ grid.inverse[:3, :3].T
    reach = surface[:, None].astype(np.float64) + DEPTHS_MM
    index = start[:, None, None] + along.T[:, :, None] * reach
    last = np.array(grid.shape)[:, None, None] - 1
    outside: BoolArray = np.any((index < -0.5) | (index > last + 0.5), axis=0)
    # The outermost half voxel has its value.
    np.clip(index, 0, last, out=index)
    hu = map_coordinates(ct.data, index, output=np.float32, order=1)
    counted = bone.mask[tuple(np.rint(index).astype(np.intp))] & ~outside
    return hu, counted, outside


__all__ = ["DEPTHS_MM", "PIXEL", "Shell", "directions_of", "pixels_of", "shell_of", "terms"]
