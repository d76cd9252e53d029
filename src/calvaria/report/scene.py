"""From masks to one smooth field on one fine grid: what the pictures are taken of.

The surface is that of all layers together, so where two layers touch there is neither a seam nor a gap; which layer
a point of the surface belongs to is asked afterwards, of the layers' own fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.types import F32
from calvaria.volume.gather import trilinear_at
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume, bounding_box

Colour = tuple[int, int, int]

LEVEL = 0.42
"""Partial volume at which the surface is drawn: somewhat under a half, so that thin bone does not break up."""

STEPS_ACROSS = 225
"""The working grid has about this many steps along the longest side of what is shown."""

MAX_STEPS = 2 * STEPS_ACROSS
"""Layers that lie so far apart that the working grid would have more steps along a side are drawn in less detail."""

WIDEST_STEP = 1.5
"""Voxels up to this many steps wide are used as they are; wider ones (thick slices) are divided."""

SMOOTHING_STEPS = 0.8
"""Standard deviation of the smoothing, in steps of the working grid."""

SMOOTHING_PER_SPACING = 0.55
"""... but at least this part of the layer's widest spacing, so that thick slices do not show as terraces."""

MARGIN_STEPS = 4
"""Empty steps kept around what is shown: as far as the smoothing reaches."""


@dataclass(frozen=True)
class Layer:
    """Something to be drawn in one colour.

    Args:
        volume: a mask, or a soft mask with values from 0 to 1. May be empty.
        colour: (red, green, blue), 0-255.
        name: for messages.
    """

    volume: Volume
    colour: Colour
    name: str = "layer"

    def __post_init__(self) -> None:
        if min(self.colour) < 0 or max(self.colour) > 255:
            raise InputError(f"{self.name}: a colour is three numbers from 0 to 255; got {self.colour}")
        data = self.volume.data
        if data.dtype == np.bool_:
            return
        if data.dtype.kind not in "iuf":
            raise InputError(f"{self.name}: a mask or a soft mask from 0 to 1 is drawn; got {data.dtype}")
        low, high = float(data.min()), float(data.max())
        if not (low >= 0.0 and high <= 1.0):
            raise InputError(f"{self.name}: a soft mask has values from 0 to 1; these go from {low:g} to {high:g}")


@dataclass(frozen=True)
class Field:
    """A smooth field on a box of the working grid; 0 outside the box.

    Args:
        data: (I, J, K) float32.
        start: index of its first voxel in the working grid.
    """

    data: F32
    start: tuple[int, int, int]

    def at(self, index: NDArray[np.floating]) -> F32:
        """Trilinear values at (3, N) fractional indices of the working grid."""
        local = index - np.array(self.start)[:, None]
        if self.data.flags.c_contiguous:
            return trilinear_at(self.data.reshape(-1), self.data.shape, local)
        return trilinear_at(self.data.T.reshape(-1), self.data.shape[::-1], local[::-1])


@dataclass(frozen=True, eq=False)
class Scene:
    """Layers on a common working grid.

    Args:
        grid: orthogonal, with spacings of about a millimetre for a head.
        surface: field of all layers together, over the whole grid.
        layers: each layer's own field, and its colour.
        detail_mm: widest spacing of the layers' voxels: what is smaller than this is not real.
    """

    grid: Grid
    surface: Field
    layers: tuple[tuple[Field, Colour], ...]
    detail_mm: float


@dataclass(frozen=True, eq=False)
class _Part:
    """The occupied part of a layer, as sums over blocks of voxels; ``full`` is the sum over a full block."""

    sums: Volume
    full: int
    colour: Colour


def build_scene(layers: Sequence[Layer]) -> Scene | None:
    """Bring layers onto one working grid, which holds all of every one of them.

    Args:
        layers: on any grids. Those that are empty are left out.

    Returns:
        The scene, or None when every layer is empty.
    """
    parts = [part for layer in layers if (part := _occupied_part(layer)) is not None]
    if not parts:
        return None
    grid = _working_grid([part.sums.grid for part in parts])
    fields = tuple((_field(part, grid), part.colour) for part in parts)
    first = fields[0][0].data
    surface = Field(np.zeros(grid.shape, np.float32, "F" if first.flags.f_contiguous else "C"), (0, 0, 0))
    for field, _ in fields:
        _add(surface.data, field)
    return Scene(grid, surface, fields, max(max(part.sums.grid.spacing_mm) for part in parts))


def build_scenes(layer: Layer, added: Sequence[Layer]) -> list[Scene] | None:
    """One layer alone, and the same with each of some others, all on one working grid that holds all of them.

    The work for the first layer is done once.

    Args:
        layer: what all scenes show.
        added: on any grids, also reaching beyond the first layer.

    Returns:
        The scene of the layer alone, then one for each of ``added`` with that layer last; for an empty one the first
        scene itself. None when the layer is empty.
    """
    first = _occupied_part(layer)
    if first is None:
        return None
    parts = [_occupied_part(other) for other in added]
    grid = _working_grid([part.sums.grid for part in (first, *parts) if part is not None])
    field = _field(first, grid)
    surface = Field(np.zeros(grid.shape, np.float32, "F" if field.data.flags.f_contiguous else "C"), (0, 0, 0))
    _add(surface.data, field)
    bare = Scene(grid, surface, ((field, first.colour),), max(first.sums.grid.spacing_mm))
    return [bare, *(bare if part is None else _with_part(bare, part) for part in parts)]


def _with_part(scene: Scene, part: _Part) -> Scene:
    """A scene with one more part, which its working grid holds."""
    field = _field(part, scene.grid)
    surface = Field(scene.surface.data.copy(), (0, 0, 0))
    _add(surface.data, field)
    detail_mm = max(scene.detail_mm, *part.sums.grid.spacing_mm)
    return Scene(scene.grid, surface, (*scene.layers, (field, part.colour)), detail_mm)


def _occupied_part(layer: Layer) -> _Part | None:
    """The occupied part of a layer, coarsened where its voxels are much finer than a picture needs.

    Empty voxels are left around it, for the smoothing, and so that bone cut off at the volume's edge gets a closed
    surface. None for an empty layer.
    """
    volume = layer.volume
    box = bounding_box(volume.data if volume.is_mask else volume.data > 0)
    if box is None:
        return None
    part = volume.crop(box)
    step = _step_mm([part.grid])
    factors = [max(round(step / s), 1) for s in part.grid.spacing_mm]
    full = int(np.prod(factors))
    i, j, k = (-(-n // f) + 2 * MARGIN_STEPS for n, f in zip(part.shape, factors, strict=True))
    dtype = np.uint8 if part.is_mask and full < 256 else np.float32
    order: Literal["C", "F"] = "F" if abs(part.data.strides[0]) < abs(part.data.strides[2]) else "C"
    sums = np.zeros((i, j, k), dtype, order)
    for offset in product(*map(range, factors)):
        piece = part.data[tuple(slice(o, None, f) for o, f in zip(offset, factors, strict=True))]
        sums[tuple(slice(MARGIN_STEPS, MARGIN_STEPS + n) for n in piece.shape)] += piece
    affine = part.affine.copy()
    affine[:3, :3] *= factors
    affine[:3, 3] = part.grid.to_world([(f - 1) / 2 - f * MARGIN_STEPS for f in factors])
    return _Part(Volume(sums, Grid((i, j, k), affine)), full, layer.colour)


def _step_mm(grids: Sequence[Grid]) -> float:
    """The step wanted for the largest of some grids."""
    return max(s * n for g in grids for s, n in zip(g.spacing_mm, g.shape, strict=True)) / STEPS_ACROSS


def _working_grid(grids: Sequence[Grid]) -> Grid:
    """The grid of the largest layer, made orthogonal and its thick slices divided, and wide enough for all layers."""
    lead = max(grids, key=lambda g: g.size * g.voxel_volume_mm3)
    step = max(_step_mm(grids), min(lead.spacing_mm))
    spacing = np.array([s if s <= WIDEST_STEP * step else s / np.ceil(s / step) for s in lead.spacing_mm])
    affine = lead.affine.copy()
    if not lead.is_orthogonal:
        left, _, right = np.linalg.svd(lead.affine[:3, :3] / lead.spacing_mm)
        affine[:3, :3] = left @ right
    else:
        affine[:3, :3] /= lead.spacing_mm
    affine[:3, :3] *= spacing
    index = np.concatenate([Grid((1, 1, 1), affine).to_index(g.corners_mm()) for g in grids])
    wide = max(float(np.ptp(index, axis=0).max()) / MAX_STEPS, 1.0)
    affine[:3, :3] *= wide
    index /= wide
    grid = Grid((1, 1, 1), affine)
    before = np.ceil(-index.min(axis=0) - 1e-6).astype(int)
    after = np.ceil(index.max(axis=0) - 1e-6).astype(int)
    i, j, k = (int(n) for n in before)
    x, y, z = (int(n) for n in after)
    return grid.pad((i, j, k), (x, y, z))


def _field(part: _Part, grid: Grid) -> Field:
    """A part on its box of the working grid, from 0 to 1, smoothed."""
    from scipy.ndimage import affine_transform, gaussian_filter

    sums = part.sums
    index = grid.to_index(sums.grid.corners_mm())
    starts = np.clip(np.floor(index.min(axis=0) + 1e-6), 0, np.array(grid.shape) - 1).astype(int)
    stops = np.clip(np.ceil(index.max(axis=0) - 1e-6) + 1, starts + 1, grid.shape).astype(int)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True))
    target = grid.crop((i, j, k))
    if target.same_as(sums.grid):
        data = sums.data.astype(np.float32)
    else:
        aligned = _aligned(sums, target)
        mapping = aligned.grid.inverse @ target.affine
        data = affine_transform(
            aligned.data, mapping[:3, :3], mapping[:3, 3], target.shape, np.float32, order=1, mode="constant"
        )
    wide = max(SMOOTHING_STEPS * min(grid.spacing_mm), SMOOTHING_PER_SPACING * max(sums.grid.spacing_mm))
    gaussian_filter(data, [wide / s for s in grid.spacing_mm], output=data, truncate=3.0)
    data /= part.full
    return Field(data, (i.start, j.start, k.start))


def _aligned(soft: Volume, grid: Grid) -> Volume:
    """The same voxels with their axes in the grid's order, C ordered: resampling then walks both alike (4 x faster)."""
    turn = np.abs(soft.grid.inverse[:3, :3] @ grid.affine[:3, :3])
    first = int(np.argmax(turn[:, 0]))
    second, third = (a for a in range(3) if a != first)
    if turn[second, 1] + turn[third, 2] < turn[third, 1] + turn[second, 2]:
        second, third = third, second
    permuted = soft.permute((first, second, third))
    return permuted.with_data(np.ascontiguousarray(permuted.data))


def _add(total: F32, field: Field) -> None:
    """Add a field in place; where layers overlap the sum stays at most 1."""
    box = tuple(slice(s, s + n) for s, n in zip(field.start, field.data.shape, strict=True))
    total[box] += field.data
    np.minimum(total[box], 1.0, out=total[box])
