"""Parallel rays against a smooth field: where each first meets the surface, and how the surface lies there.

No graphics library: the voxels at the surface are projected to find about where each ray has to look, then the ray
is followed in small steps and the crossing interpolated. Rays that slip past an edge leap through empty space.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from calvaria.report.scene import LEVEL, Field, Scene
from calvaria.types import F32, BoolArray
from calvaria.volume.grid import Grid

RAY_STEP = 0.9
"""Length of a step near the surface, in steps of the working grid."""

EMPTY_STEP = 2.0
"""Length of a step where the field is nothing: the smoothing reaches that far, so no surface is nearer."""

NOTHING = 1e-4
"""Field values under this are nothing."""

HALVINGS = 2
"""How often a step that ended inside is halved, if it was a long one."""

LOOK_BEFORE = 1.3
"""A ray starts this many steps before the first surface voxel in or beside its cell."""

PATIENT_STEPS = 7
"""After this many small steps without a hit a ray has slipped past an edge, and leaps."""

BLOCK = 4
"""Empty space is known in blocks of this many voxels."""

BLOCK_REACH = (BLOCK + 1) * 3**0.5
"""In voxels: how far from a block's centre its voxels can act, plus how far a point can lie from its block's centre."""

NORMAL_REACH = 1.2
"""The gradient is taken over this many steps."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A scene made ready for rays.

    Args:
        grid: the working grid.
        field: the surface is where it passes LEVEL.
        shell: (3, N) indices of the voxels inside the surface that have a neighbour outside.
        clearance: mm that are empty around every point of a block; at most 0 where there may be surface.
    """

    grid: Grid
    field: Field
    shell: F32
    clearance: F32

    @property
    def step_mm(self) -> float:
        """Step of the working grid, mm."""
        return min(self.grid.spacing_mm)


@dataclass(frozen=True, eq=False)
class Camera:
    """Parallel rays, one for each pixel.

    Args:
        centre_mm: (3,) the world point in the middle of the picture.
        axes: (3, 3) rows in the world: right, down, away from the viewer.
        pixel_mm: edge of a pixel.
        size_px: width and height.
    """

    centre_mm: NDArray[np.float64]
    axes: NDArray[np.float64]
    pixel_mm: float
    size_px: tuple[int, int]

    def project(self, grid: Grid, index: NDArray[np.floating]) -> F32:
        """(3, N) column and row in pixels, and depth in mm, of (3, N) indices of a grid."""
        scale = np.array([1 / self.pixel_mm, 1 / self.pixel_mm, 1.0])
        turn = (self.axes @ grid.affine[:3, :3]) * scale[:, None]
        width, height = self.size_px
        middle = np.array([(width - 1) / 2, (height - 1) / 2, 0.0])
        shift = (self.axes @ (grid.affine[:3, 3] - self.centre_mm)) * scale + middle
        projected: F32 = turn.astype(np.float32) @ index.astype(np.float32, copy=False)
        projected += shift.astype(np.float32)[:, None]
        return projected

    def rays(self, grid: Grid, flat: NDArray[np.intp]) -> tuple[F32, F32]:
        """(3, N) grid indices at depth 0 of pixels given by flat number, and the (3,) index step for 1 mm of depth."""
        width, height = self.size_px
        row, column = np.divmod(flat, width)
        turn = (grid.inverse[:3, :3] @ self.axes.T).astype(np.float32)
        across = np.stack([column - (width - 1) / 2, row - (height - 1) / 2]) * self.pixel_mm
        origin = turn[:, :2] @ across.astype(np.float32)
        origin += grid.to_index(self.centre_mm).astype(np.float32)[:, None]
        return origin, turn[:, 2]


@dataclass(frozen=True, eq=False)
class Hits:
    """What the rays of a camera met.

    Args:
        flat: (N,) flat numbers of the pixels whose ray met the surface.
        index: (3, N) where, as indices of the working grid.
        depth_mm: (N,) distance from the plane through the camera's centre, growing away from the viewer.
        normal: (3, N) unit normals out of the surface, in the camera's axes (right, down, away).
    """

    flat: NDArray[np.intp]
    index: F32
    depth_mm: F32
    normal: F32


def prepare(scene: Scene) -> Surface:
    """Find the surface voxels and the empty space of a scene."""
    from scipy.ndimage import distance_transform_edt

    solid = scene.surface.data > LEVEL
    inner = solid.copy()
    for axis in range(3):
        ahead = _along(axis, slice(1, None))
        behind = _along(axis, slice(None, -1))
        inner[ahead] &= solid[behind]
        inner[behind] &= solid[ahead]
    shell = np.stack(np.nonzero(solid & ~inner)).astype(np.float32)
    shape = tuple(-(-n // BLOCK) for n in solid.shape)
    blocks = np.zeros(shape, bool)
    blocks[tuple((shell // BLOCK).astype(np.intp))] = True
    clearance = np.full(shape, np.inf, np.float32)
    if blocks.any():
        distance = distance_transform_edt(~blocks, sampling=[BLOCK * s for s in scene.grid.spacing_mm])
        clearance = (distance - BLOCK_REACH * max(scene.grid.spacing_mm)).astype(np.float32)
    return Surface(scene.grid, scene.surface, shell, clearance)


def cast(surface: Surface, camera: Camera, window: BoolArray | None = None) -> Hits:
    """Follow the rays of a camera to the surface.

    Args:
        surface: may be empty.
        camera: its rays.
        window: (height, width) bool, the pixels wanted; None: all.

    Returns:
        The hits, in the order of the pixels; none where nothing is in sight.
    """
    first, last = _start_depths(surface, camera)
    wanted = np.isfinite(first)
    flat = np.flatnonzero(wanted if window is None else wanted & window.ravel())
    origin, away = camera.rays(surface.grid, flat)
    depth = _trace(surface, origin, away, first[flat], last)
    found = np.isfinite(depth)
    flat, depth = flat[found], depth[found]
    index = origin[:, found] + away[:, None] * depth
    normal = _normals(surface, camera, index)
    return Hits(flat, index, depth, normal)


def recast(surface: Surface, camera: Camera, before: Hits, added: Field) -> Hits:
    """The hits after a field was added to a scene: only rays that pass through its box are followed again.

    Args:
        surface: of the scene with the field.
        camera: the one that ``before`` was cast with.
        before: hits of the scene without the field, on the same working grid.
        added: the field.

    Returns:
        The same as ``cast(surface, camera)``.
    """
    ends = np.array(list(product((0, 1), repeat=3))).T * (np.array(added.data.shape)[:, None] - 1)
    column, row, _ = camera.project(surface.grid, ends + np.array(added.start)[:, None])
    width, height = camera.size_px
    across = np.abs(np.arange(width) - (column.min() + column.max()) / 2) <= np.ptp(column) / 2 + 1
    down = np.abs(np.arange(height) - (row.min() + row.max()) / 2) <= np.ptp(row) / 2 + 1
    window = down[:, None] & across
    new = cast(surface, camera, window)
    old = ~window.ravel()[before.flat]
    order = np.argsort(flat := np.concatenate([before.flat[old], new.flat]), kind="stable")
    return Hits(
        flat[order],
        np.concatenate([before.index[:, old], new.index], axis=1)[:, order],
        np.concatenate([before.depth_mm[old], new.depth_mm])[order],
        np.concatenate([before.normal[:, old], new.normal], axis=1)[:, order],
    )


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return tuple(part if a == axis else slice(None) for a in range(3))


def _start_depths(surface: Surface, camera: Camera) -> tuple[F32, float]:
    """For each pixel the depth, mm, to begin at (inf: nothing there); and the depth where all is passed."""
    from scipy.ndimage import minimum_filter

    width, height = camera.size_px
    start = np.full(width * height, np.inf, np.float32)
    if not surface.shell.shape[1]:
        return start, 0.0
    column, row, depth = camera.project(surface.grid, surface.shell)
    cell = max(max(surface.grid.spacing_mm) / camera.pixel_mm, 1.0)
    across, down = int(width / cell) + 3, int(height / cell) + 3
    i = np.rint(row / cell).astype(np.intp) + 1
    j = np.rint(column / cell).astype(np.intp) + 1
    seen = (i >= 0) & (i < down) & (j >= 0) & (j < across)
    nearest = np.full(down * across, np.inf, np.float32)
    np.minimum.at(nearest, (i * across + j)[seen], depth[seen])
    nearest = minimum_filter(nearest.reshape(down, across), 3, mode="constant", cval=np.inf)
    rows = np.rint(np.arange(height) / cell).astype(np.intp) + 1
    columns = np.rint(np.arange(width) / cell).astype(np.intp) + 1
    start = nearest[rows[:, None], columns[None, :]].ravel() - np.float32(LOOK_BEFORE * surface.step_mm)
    return start, float(depth.max()) + surface.step_mm


def _trace(surface: Surface, origin: F32, away: F32, start: F32, last: float) -> F32:
    """(N,) depth in mm at which each ray passes LEVEL; inf where it never does."""
    result = np.full(start.shape, np.inf, np.float32)
    which = np.arange(start.size)
    near, empty = (np.float32(f * surface.step_mm) for f in (RAY_STEP, EMPTY_STEP))
    depth, step, before = start.copy(), np.full_like(start, near), np.zeros_like(start)
    # Every turn goes forward by a small step at least.
    for turn in range(int((last - start.min(initial=last)) / near) + 2):
        if not which.size:
            break
        here = origin[:, which] + away[:, None] * depth
        value = surface.field.at(here)
        hit = value > LEVEL
        ends = np.stack([depth, step, before, value])[:, hit]
        result[which[hit]] = _crossing(surface, origin[:, which[hit]], away, ends)
        step = np.where(value < NOTHING, empty, near)
        if turn >= PATIENT_STEPS:
            step = np.maximum(step, _clearance(surface, here))
        depth = depth + step
        keep = ~hit & (depth < last)
        which, depth, step, before = which[keep], depth[keep], step[keep], value[keep]
    return result


def _crossing(surface: Surface, origin: F32, away: F32, ends: F32) -> F32:
    """Where rays pass LEVEL within their last step; long steps are halved first.

    ``ends`` is (4, N): the depth reached, the last step, the field's value before it and at its end.
    """
    depth, step, before, value = ends.copy()
    for _ in range(HALVINGS):
        long = np.flatnonzero(step > 1.01 * RAY_STEP * surface.step_mm)
        if not long.size:
            break
        step[long] /= 2
        middle = depth[long] - step[long]
        between = surface.field.at(origin[:, long] + away[:, None] * middle)
        past = between > LEVEL
        depth[long] = np.where(past, middle, depth[long])
        value[long] = np.where(past, between, value[long])
        before[long] = np.where(past, before[long], between)
    part = (value - LEVEL) / np.maximum(value - before, 1e-6)
    return np.asarray(depth - step * np.clip(part, 0.0, 1.0), np.float32)


def _clearance(surface: Surface, index: F32) -> F32:
    limits = np.array(surface.clearance.shape)[:, None] - 1
    i, j, k = np.clip((index // BLOCK).astype(np.intp), 0, limits)
    found: F32 = surface.clearance[i, j, k]
    return found


def _normals(surface: Surface, camera: Camera, index: F32) -> F32:
    """(3, N) from four samples at the corners of a tetrahedron, in the camera's axes."""
    turn = (surface.grid.inverse[:3, :3] @ camera.axes.T).astype(np.float32)
    normal = np.zeros_like(index)
    for corner in product((-1.0, 1.0), repeat=3):
        if np.prod(corner) > 0:
            direction = np.array(corner, np.float32)[:, None]
            reach = NORMAL_REACH * surface.step_mm / 3**0.5
            normal -= direction * surface.field.at(index + turn @ (direction * np.float32(reach)))
    normal /= np.maximum(np.linalg.norm(normal, axis=0), 1e-12)
    return normal
