"""The head's outer surface over a hole and around it: one smooth sheet, without the steps of voxels.

The surface is a radius about the head centre for each direction, a cubic B-spline over a lattice of directions with a
penalty on its bending (P-splines; Eilers and Marx 1996, doi 10.1214/ss/1038425655): it is twice continuously
differentiable, so that implant and bone share tangent and curvature across the rim. It is fitted to where the bone
around the hole and the patch's own outer surface are, robustly: an arch of bone far above the surface, or a suture,
does not pull it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.implant.parts import Sheet
from calvaria.types import F64, BoolArray
from calvaria.volume.rotation import across

if TYPE_CHECKING:
    from scipy.sparse import csr_array, dia_array

Sizes = tuple[int, int]
"""Numbers of splines along the two sides of the lattice."""

CELL_MM = 0.7
"""Between neighbours of the sheet's lattice, about, at the vault."""

KNOT_MM, KNOTS_A_WAVE = 3.5, 0.45
"""Between knots of the spline; less where waves are kept that are not twice as long."""

MARGIN_MM = 22.0
"""The sheet goes on beyond the missing bone by so much, over the bone around it."""

FIT_MM = 14.0
"""Bone farther from the hole than this does not count."""

OUTWARD = 0.5
"""Cosine, to the ray from the head centre, from which on a surface looks outwards: 60 degrees. Below the brow's edge
the roof of the orbit does not."""

FIRST_MM, NEAR_MM = 6.0, 1.5
"""How far a point may lie off the sheet and count, in the first fit and in the last: nearer ones are the surface."""

ARCH_MM, ARCH_INSIDE_MM = 3.0, 6.0
"""Bone so far above the missing bone, and so far from its edge as seen from the head centre, is an arch over it."""

FITS = 4
"""The first, and three with the points that lie near to the one before; then a last one."""

BEYOND = 1e-10
"""Pull towards the middle radius, relative to the bending: the sheet is determined where there is no data either."""

MIN_POINTS = 50
"""Fewer outward points of the missing bone are no surface."""

WIDEST_RAD = 2.4
"""Directions farther than this from the middle one come too near to the far side, where the lattice folds."""


class Surfaces:
    """Points with outward normals on the outer surfaces of bone and patch."""

    def __init__(self, bone: tuple[F64, F64], patch: tuple[F64, F64], centre_mm: F64) -> None:
        """Keep those that look outwards.

        Args:
            bone: (N, 3) points and (N, 3) unit normals out of the bone, world mm.
            patch: the same of the missing bone.
            centre_mm: (3,) head centre.
        """
        self.centre_mm = centre_mm
        self.bone = _outward(*bone, centre_mm)
        self.patch = _outward(*patch, centre_mm)


def _outward(points_mm: F64, normals: F64, centre_mm: F64) -> F64:
    arm = points_mm - centre_mm
    arm = arm / np.linalg.norm(arm, axis=1, keepdims=True)
    return np.asarray(points_mm[np.einsum("nk,nk->n", arm, normals) > OUTWARD])


def fit_sheet(surfaces: Surfaces, smooth_mm: float) -> Sheet:
    """The outer surface, without knowing yet what of it is the hole's.

    Args:
        surfaces: outer surfaces of the bone and of the missing bone.
        smooth_mm: waves shorter than about this are smoothed away; one of just this length is halved.

    Raises:
        InputError: the missing bone has no outer surface as seen from the head centre.
    """
    if len(surfaces.patch) < MIN_POINTS:
        raise InputError("the missing bone has no outer surface, as seen from the middle of the head")
    arms = surfaces.patch - surfaces.centre_mm
    radius_mm = float(np.median(np.linalg.norm(arms, axis=1)))
    axes = _axes(arms)
    blank = Sheet(
        np.zeros((2, 2, 3)), np.zeros((2, 2, 3)), np.zeros((2, 2), bool), surfaces.centre_mm, axes, np.zeros(2), 1.0
    )
    cell_rad = CELL_MM / radius_mm
    place = replace(blank, cell_rad=cell_rad)
    patch_cells, bone_cells = place.cells(surfaces.patch), place.cells(surfaces.bone)
    if not np.hypot(*patch_cells.T).max() * cell_rad < WIDEST_RAD:
        raise InputError("the missing bone goes round more than half of the head: no single sheet covers it")
    margin = MARGIN_MM / CELL_MM
    low = np.floor(patch_cells.min(axis=0) - margin)
    shape = np.ceil(patch_cells.max(axis=0) + margin - low).astype(int) + 1
    near = _near(bone_cells, patch_cells, FIT_MM / CELL_MM, low, shape)
    patch_radius, bone_radius = (
        np.linalg.norm(of - surfaces.centre_mm, axis=1) for of in (surfaces.patch, surfaces.bone)
    )
    near[near] = ~_arches(bone_cells[near] - low, bone_radius[near], patch_cells - low, patch_radius, shape)
    cells = np.concatenate([patch_cells, bone_cells[near]]) - low
    radius = np.concatenate([patch_radius, bone_radius[near]])
    heights = _fitted(cells, radius, (int(shape[0]), int(shape[1])), smooth_mm)
    return sheet_of(replace(place, low=low), heights)


def _axes(arms: F64) -> F64:
    """(3, 3) rows: the mean direction of arms and two across it, right-handed."""
    out = arms.mean(axis=0)
    out = out / np.linalg.norm(out)
    return np.stack([out, *across(out)])


def _near(cells: F64, others: F64, reach: float, low: F64, shape: NDArray[np.intp]) -> BoolArray:
    """Which cells lie within a reach of some of the others, all in lattice units."""
    from scipy.ndimage import distance_transform_edt

    taken = np.ones(shape, bool)
    taken[tuple((others - low).round().astype(int).T)] = False
    far = distance_transform_edt(taken)
    index = (cells - low).round().astype(int)
    inside = ((index >= 0) & (index < shape)).all(axis=1)
    out = np.zeros(len(cells), bool)
    out[inside] = far[tuple(index[inside].T)] <= reach
    return out


def _arches(cells: F64, radius: F64, patch_cells: F64, patch_radius: F64, shape: NDArray[np.intp]) -> BoolArray:
    """Which points of bone lie over the missing bone, far above it: of an arch, not of the outer surface."""
    from scipy.ndimage import binary_erosion

    top = np.zeros(shape // 3 + 2)
    np.maximum.at(top, tuple((patch_cells / 3).astype(int).T), patch_radius)
    # Along the rim bone may rise beside the missing bone, as the brow's edge does.
    top[~binary_erosion(top > 0, iterations=round(ARCH_INSIDE_MM / CELL_MM / 3))] = np.inf
    out: BoolArray = radius > top[tuple((cells / 3).astype(int).T)] + ARCH_MM
    return out


def _fitted(cells: F64, radius: F64, shape: tuple[int, int], smooth_mm: float) -> F64:
    """(I, J) radii on the lattice: the penalised spline through points, refitted to those that lie near it."""
    knot = min(KNOT_MM, KNOTS_A_WAVE * smooth_mm) / CELL_MM
    sizes = (_knots(shape[0], knot), _knots(shape[1], knot))
    # With a point for each mm2, bending of weight lambda halves a wave of length L where lambda = (L / 2 pi)^4.
    penalty = _bending(*sizes, knot * CELL_MM) * (smooth_mm / (2 * np.pi)) ** 4
    chosen = _outermost(cells, radius, FIRST_MM)
    coefficients = np.zeros(0)
    for limit in np.geomspace(FIRST_MM, NEAR_MM, FITS):
        coefficients = _solve(*_binned(cells[chosen], radius[chosen]), sizes, knot, penalty)
        chosen = np.abs(radius - _matrix(cells, sizes, knot) @ coefficients) < limit
    coefficients = _solve(*_binned(cells[chosen], radius[chosen]), sizes, knot, penalty)
    return _on_lattice(coefficients, sizes, shape, knot)


def _knots(count: int, knot: float) -> int:
    """Splines that are needed along a side of so many lattice points."""
    return int(np.ceil((count - 1) / knot)) + 3


def _outermost(cells: F64, radius: F64, within_mm: float) -> BoolArray:
    """Points within a distance of the outermost of their square of 3 x 3 cells."""
    key = _squares(cells, 3.0)
    top = np.zeros(key.max() + 1)
    np.maximum.at(top, key, radius)
    out: BoolArray = radius > top[key] - within_mm / 3
    return out


def _binned(cells: F64, radius: F64) -> tuple[F64, F64]:
    """Mean points of squares of about 1 mm2, so that dense voxels weigh no more than sparse ones."""
    key = _squares(cells, 1.0 / CELL_MM)
    count = np.bincount(key)
    taken = count > 0
    sums = [np.bincount(key, values)[taken] for values in (*cells.T, radius)]
    mean = [total / count[taken] for total in sums]
    return np.stack(mean[:2], axis=1), mean[2]


def _squares(cells: F64, side: float) -> NDArray[np.intp]:
    """(N,) number of the square of the lattice in which each point lies."""
    index = (cells / side).astype(np.intp)
    out: NDArray[np.intp] = index[:, 0] * (index[:, 1].max() + 1) + index[:, 1]
    return out


def _basis(at: F64, size: int, knot: float) -> tuple[NDArray[np.intp], F64]:
    """First of four cubic B-splines at (N,) lattice positions, and their (N, 4) values."""
    along = np.clip(at / knot, 0, size - 3 - 1e-9)
    first = along.astype(np.intp)
    t = along - first
    values = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    return first, values


def _matrix(cells: F64, sizes: Sizes, knot: float) -> csr_array:
    """Sparse (N, K) matrix from the spline's coefficients to values at (N, 2) lattice positions."""
    from scipy.sparse import csr_array

    (i, u), (j, v) = (_basis(cells[:, axis], sizes[axis], knot) for axis in range(2))
    steps = np.arange(4)
    column = (i[:, None, None] + steps[:, None]) * sizes[1] + j[:, None, None] + steps
    value = u[:, :, None] * v[:, None, :]
    row = np.arange(0, 16 * len(cells) + 1, 16)
    return csr_array((value.ravel(), column.ravel(), row), (len(cells), sizes[0] * sizes[1]))


def _bending(rows: int, columns: int, knot_mm: float) -> csr_array:
    """The integral of the squared second derivatives over the surface, as a sparse matrix of coefficients."""
    from scipy.sparse import csr_array, diags_array, eye_array, kron

    def difference(size: int, order: int) -> dia_array:
        kernel = {1: [-1.0, 1.0], 2: [1.0, -2.0, 1.0]}[order]
        return diags_array(kernel, offsets=range(len(kernel)), shape=(size - order, size))

    across, along = eye_array(rows), eye_array(columns)
    second, mixed, third = (
        kron(difference(rows, 2), along),
        kron(difference(rows, 1), difference(columns, 1)),
        kron(across, difference(columns, 2)),
    )
    # Differences over knot^2 are second derivatives; a knot's square has the area knot^2.
    return csr_array((second.T @ second + 2 * (mixed.T @ mixed) + third.T @ third) / knot_mm**2)


def _solve(cells: F64, radius: F64, sizes: Sizes, knot: float, penalty: csr_array) -> F64:
    """The coefficients of least squares plus bending."""
    from scipy.sparse import csc_array, diags_array
    from scipy.sparse.linalg import spsolve

    matrix = _matrix(cells, sizes, knot)
    middle = float(np.median(radius))
    # B-splines sum to 1: constant coefficients are a constant surface, of which bending says nothing.
    held = BEYOND * float(penalty.diagonal().max()) * diags_array(np.ones(matrix.shape[1]))
    found = spsolve(csc_array(matrix.T @ matrix + penalty + held), matrix.T @ (radius - middle))
    return np.asarray(found) + middle


def _on_lattice(coefficients: F64, sizes: Sizes, shape: tuple[int, int], knot: float) -> F64:
    """(I, J) values of the spline."""
    table = coefficients.reshape(sizes)
    for axis, n in enumerate(shape):
        first, values = _basis(np.arange(n, dtype=np.float64), sizes[axis], knot)
        rows = np.moveaxis(table, axis, 0)
        table = np.moveaxis(np.einsum("nk,nkm->nm", values, rows[first[:, None] + np.arange(4)]), 0, axis)
    return np.asarray(table)


def sheet_of(place: Sheet, heights: F64) -> Sheet:
    """The surface of (I, J) radii on the lattice of another; nothing of it is the hole's yet."""
    index = np.moveaxis(np.indices(heights.shape), 0, -1) + place.low
    angle = np.hypot(index[..., 0], index[..., 1]) * place.cell_rad
    # sin(angle) / angle, for the two components across.
    across = index * place.cell_rad * np.sinc(angle / np.pi)[..., None]
    rays = np.concatenate([np.cos(angle)[..., None], across], axis=-1) @ place.axes
    points = place.centre_mm + heights[..., None] * rays
    along, beside = np.gradient(points, axis=(0, 1))
    normals = np.cross(along, beside)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return replace(place, points_mm=points, normals=normals, hole=np.zeros(heights.shape, bool))
