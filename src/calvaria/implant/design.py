"""An implant for a hole whose patch is known: constant thickness below the patch's smoothed outer surface.

It keeps clear of the bone by a gap that widens with depth, so that its rim is bevelled and it can be put in from
outside.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import InputError
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.types import F64, BoolArray
from calvaria.volume.components import largest_component
from calvaria.volume.distance import distance_to, reach_voxels
from calvaria.volume.grid import Grid
from calvaria.volume.mesh import Mesh, extract_surface
from calvaria.volume.volume import Volume, bounding_box

SMOOTH_MM = 0.7
"""Smoothing of the implant's surface: removes the voxel staircase."""

OUTER_SMOOTH_MM = 3.0
"""Standard deviation of the smoothing of the outer surface: larger than sutures, smaller than the head's shape."""

FROM_CENTRE_MM = 80.0
"""How far a vault lies from the head centre, about: what an angle means in mm."""

CELL_RAD = 0.012
"""Cells in which the outer surface is held: 1 mm there."""

MARGIN_MM = 4.0
"""Around the patch; the outer surface is continued by so much."""

STEP_MM = 0.6
"""Voxel edge of the grid that an implant is designed on."""


@dataclass(frozen=True)
class ImplantSpec:
    """How an implant is made.

    Args:
        thickness_mm: constant, below the outer surface.
        clearance_mm: gap to the bone at the outer surface.
        bevel: what the gap widens by, mm per mm of depth.

    Raises:
        InputError: a thickness of 0, or a negative clearance or bevel.
    """

    thickness_mm: float = 4.0
    clearance_mm: float = 1.0
    bevel: float = 0.2

    def __post_init__(self) -> None:
        if not (self.thickness_mm > 0 and self.clearance_mm >= 0 and self.bevel >= 0):
            raise InputError(
                f"an implant needs a thickness, a clearance of 0 mm or more and a bevel; got {asdict(self)}"
            )


def design_implant(defective: Volume, patch: Volume, spec: ImplantSpec, frame_to_world: ArrayLike) -> Mesh:
    """A simple implant for a hole whose patch is known.

    Args:
        defective: mask of the defective skull.
        patch: mask of the missing bone, on the same grid.
        spec: thickness, clearance, bevel.
        frame_to_world: (4, 4) canonical mm -> world LPS mm of this skull.

    Returns:
        A closed mesh in one piece, world LPS mm.

    Raises:
        GeometryError: the grids differ.
        InputError: a volume is no mask, the patch is empty, or nothing is left of it after the clearance.
    """
    patch.grid.require_same(defective.grid, "patch and defective skull")
    box = bounding_box(patch.mask, reach_voxels(patch.grid, 2 * MARGIN_MM))
    if box is None:
        raise InputError("the patch is empty: there is nothing to design an implant for")
    missing, bone = patch.crop(box), defective.crop(box)
    to_canonical = np.linalg.inv(np.asarray(frame_to_world, dtype=np.float64))
    grid = _fine(missing.grid)
    near = np.flatnonzero(
        _distance_at(missing, grid, MARGIN_MM + spec.thickness_mm) < spec.thickness_mm + MARGIN_MM / 2
    )
    beyond, footprint = _beyond_head(missing, grid, near, to_canonical)
    depth = distance_to(Volume(beyond, grid), limit_mm=spec.thickness_mm + 2 * STEP_MM)
    gap = _distance_at(bone, grid, spec.clearance_mm + spec.bevel * spec.thickness_mm + 2.0)
    # A voxel belongs to it by its centre, which lies half a step below the surface that is its upper face.
    below = depth - STEP_MM / 2
    body = (
        ~beyond
        & footprint
        & (below <= spec.thickness_mm - STEP_MM / 2)
        & (gap >= spec.clearance_mm + spec.bevel * below)
    )
    whole = largest_component(Volume(body, grid), connectivity=6)
    if not whole.mask.any():
        raise InputError(
            f"nothing is left of a patch of {patch.volume_ml:.1f} ml after a clearance of {spec.clearance_mm:g} mm"
        )
    return extract_surface(whole, smooth_mm=SMOOTH_MM)


def _fine(grid: Grid) -> Grid:
    """An isotropic grid along the world's axes that holds another one."""
    corners = grid.corners_mm()
    low, high = corners.min(axis=0) - MARGIN_MM, corners.max(axis=0) + MARGIN_MM
    i, j, k = (int(n) + 1 for n in np.ceil((high - low) / STEP_MM))
    return Grid.isotropic((i, j, k), STEP_MM, low)


def _beyond_head(patch: Volume, grid: Grid, near: NDArray[np.intp], to_canonical: F64) -> tuple[BoolArray, BoolArray]:
    """What lies outside the patch's outer surface, and what lies above or below the patch, on a grid.

    The outer surface is a radius about the head centre for each direction; a calvaria hides no part of itself there.
    Only the voxels ``near`` (flat indices) are looked at; the others are neither.
    """
    from scipy.ndimage import binary_closing, map_coordinates

    arms = _arms(patch.grid, np.argwhere(patch.mask), to_canonical)
    axes = _axes(arms)
    cells, radius = _cells(arms, axes)
    margin = round(MARGIN_MM / FROM_CENTRE_MM / CELL_RAD)
    low = np.floor(cells.min(axis=0)) - margin
    i, j = (int(n) for n in np.ceil(cells.max(axis=0)) - low + margin + 1)
    outer = np.zeros((i, j))
    # A mask reaches half a voxel beyond its outermost centres.
    half = float(np.mean(patch.grid.spacing_mm)) / 2
    np.maximum.at(outer, tuple((cells - low).round().astype(int).T), radius + half)
    surface = _calm(outer)
    covered = binary_closing(np.pad(outer > 0, 4), iterations=3)[4:-4, 4:-4]
    index = np.stack(np.unravel_index(near, grid.shape), axis=1)
    cells, radius = _cells(_arms(grid, index, to_canonical), axes)
    at = (cells - low).T
    beyond, footprint = np.zeros(grid.size, bool), np.zeros(grid.size, bool)
    footprint[near] = map_coordinates(covered.astype(np.float32), at, order=1, cval=0.0) > 0.5
    beyond[near] = radius > map_coordinates(surface, at, order=1, mode="nearest")
    return beyond.reshape(grid.shape), footprint.reshape(grid.shape)


def _arms(grid: Grid, index: NDArray[Any], to_canonical: F64) -> F64:
    """(N, 3) from the head centre to voxels, canonical mm."""
    matrix = to_canonical @ grid.affine
    return np.asarray(index @ matrix[:3, :3].T + (matrix[:3, 3] - HEAD_CENTRE_MM))


def _axes(arms: F64) -> F64:
    """(3, 3) rows: the mean direction of arms and two across it."""
    out = arms.mean(axis=0)
    out = out / np.linalg.norm(out)
    side = np.cross(out, np.eye(3)[np.abs(out).argmin()])
    side /= np.linalg.norm(side)
    return np.stack([out, side, np.cross(out, side)])


def _cells(arms: F64, axes: F64) -> tuple[F64, F64]:
    """Cells (N, 2), fractional, and lengths (N,) of arms: angles from the mean direction, equidistant."""
    along, *across = axes @ arms.T
    wide = np.hypot(*across)
    angle = np.arctan2(wide, along) / np.maximum(wide, 1e-9) / CELL_RAD
    return np.stack([across[0] * angle, across[1] * angle], axis=1), np.hypot(along, wide)


def _calm(outer: F64) -> F64:
    """The outer surface without gaps and steps: smoothed where it is known, continued where it is not."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter, median_filter

    known = outer > 0
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled = median_filter(outer[tuple(nearest)], 5)
    sigma = OUTER_SMOOTH_MM / FROM_CENTRE_MM / CELL_RAD
    weight = gaussian_filter(known.astype(float), sigma) + 1e-6
    blurred = gaussian_filter(np.where(known, filled, 0.0), sigma) / weight
    smooth: F64 = np.where(weight > 1e-3, blurred, filled)
    return smooth


def _distance_at(bone: Volume, grid: Grid, limit_mm: float) -> NDArray[np.float32]:
    """Distance to the surface of bone at the voxels of another grid, mm, cut at a limit."""
    from calvaria.volume.distance import signed_distance
    from calvaria.volume.resample import resample

    field = signed_distance(bone, limit_mm=limit_mm)
    found: NDArray[np.float32] = resample(Volume(field, bone.grid), grid, fill=limit_mm).data
    return found


__all__ = ["ImplantSpec", "design_implant"]
