"""Smooth, invertible deformations of heads: stationary velocity fields on a coarse lattice (Arsigny et al. 2006).

A deformation is the flow of a velocity field for one unit of time, so the flow of minus the field undoes it, fields can
be averaged and weighted, and a few thousand numbers hold one. Velocities and displacements are (B, 3, ...) tensors
in canonical mm, x, y, z.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from calvaria.volume.grid import Grid

LATTICE_VOXELS = 6
"""A skull's voxels between two nodes of a velocity field: at 1.6 mm 9.6 mm, finer than the skull's bosses and sutures
are wide."""

FLOW_VOXELS = 2
"""A skull's voxels along an edge of a voxel of the grid on which flows are computed: 3.2 mm at 1.6 mm."""

SQUARINGS = 5
"""A flow is its 32nd part, composed with itself so many times over: steps of at most half a millimetre for heads."""


def coarser(grid: Grid, voxels: int, *, nodes: bool = False) -> Grid:
    """The grid whose voxels are blocks of another one's; with ``nodes``, one whose outermost centres hold it all."""
    i, j, k = (-(-n // voxels) + int(nodes) for n in grid.shape)
    spacing = grid.spacing_mm[0] * voxels
    middle = grid.to_world([(n - 1) / 2 for n in grid.shape])
    return Grid.isotropic((i, j, k), spacing, middle - spacing * (torch.tensor([i, j, k]).numpy() - 1) / 2)


@dataclass(frozen=True, eq=False)
class DeformationGrids:
    """Where the deformations of skulls lie that share a grid.

    Args:
        lattice: nodes of a velocity field; its axes run along x, y, z.
        flow: where flows are computed; its axes run along x, y, z.
    """

    lattice: Grid
    flow: Grid

    @classmethod
    def over(cls, grid: Grid) -> DeformationGrids:
        """The grids for skulls on ``grid``: isotropic, along x, y, z; canonical mm."""
        return cls(coarser(grid, LATTICE_VOXELS, nodes=True), coarser(grid, FLOW_VOXELS))


@dataclass(frozen=True, eq=False)
class DisplacementFields:
    """Displacements of several heads: a point p goes to p + displacement(p).

    Args:
        values_mm: (B, 3, X, Y, Z) on ``grid``; beyond it the outermost voxels' go on.
        grid: canonical mm; its axes run along x, y, z.
    """

    values_mm: Tensor
    grid: Grid


@lru_cache(maxsize=8)
def centres(grid: Grid, device: str = "cpu") -> Tensor:
    """(3, X, Y, Z) canonical mm of every voxel's centre; the grid's axes run along x, y, z."""
    axes = [
        torch.arange(n, dtype=torch.float32, device=device) * spacing + float(origin)
        for n, spacing, origin in zip(grid.shape, grid.spacing_mm, grid.affine[:3, 3], strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def read(values: Tensor, grid: Grid, points_mm: Tensor, outside: str = "border") -> Tensor:
    """Trilinear values of fields at points.

    Args:
        values: (B or 1, C, X, Y, Z) on ``grid``.
        grid: along the axes of the world.
        points_mm: (B, 3, I, J, K) canonical mm.
        outside: "border" for the nearest voxel's value beyond the grid, "zeros" for zero.

    Returns:
        (B, C, I, J, K); differentiable in the values and in the points.
    """
    scale, shift = _to_unit(grid, values.device)
    unit = points_mm.movedim(1, -1) * scale + shift  # (B, I, J, K, 3), -1 and 1 at the outer faces
    if values.shape[0] != unit.shape[0]:
        values = values.expand(unit.shape[0], *values.shape[1:])
    out: Tensor = functional.grid_sample(values, unit.flip(-1), padding_mode=outside, align_corners=False)
    return out


@lru_cache(maxsize=16)
def _to_unit(grid: Grid, device: torch.device) -> tuple[Tensor, Tensor]:
    spacing = torch.tensor(grid.spacing_mm, dtype=torch.float32, device=device)
    origin = torch.tensor(grid.affine[:3, 3].copy(), dtype=torch.float32, device=device)
    size = spacing * torch.tensor(grid.shape, dtype=torch.float32, device=device)
    return 2 / size, (spacing - 2 * origin) / size - 1


def on_grid(field: Tensor, source: Grid, target: Grid) -> Tensor:
    """A smooth field read on another grid."""
    points = centres(target, str(field.device))
    return read(field, source, points.expand(field.shape[0], *points.shape))


def flow(velocity: Tensor, grids: DeformationGrids, squarings: int = SQUARINGS) -> Tensor:
    """The displacement that a velocity field brings about in one unit of time.

    Args:
        velocity: (B, 3, x, y, z) on ``grids.lattice``, mm.
        grids: of the velocity and of the result.
        squarings: see `SQUARINGS`.

    Returns:
        (B, 3, X, Y, Z) on ``grids.flow``, mm: a point p goes to p + displacement(p).
    """
    return exponential(on_grid(velocity, grids.lattice, grids.flow), grids.flow, squarings)


def exponential(velocity: Tensor, grid: Grid, squarings: int = SQUARINGS) -> Tensor:
    """The same as :func:`flow`, of a (B, 3, X, Y, Z) velocity that lies on the flow's own grid already."""
    step = velocity / 2.0**squarings
    for _ in range(squarings):
        step = compose(step, step, grid)
    return step


def compose(first: Tensor, then: Tensor, grid: Grid) -> Tensor:
    """The displacement of going by ``first`` and on from there by ``then``, both (B, 3, X, Y, Z) on ``grid``, mm."""
    return first + read(then, grid, centres(grid, str(first.device)) + first)


def jacobian(displacement: Tensor, grid: Grid) -> Tensor:
    """(B, X-1, Y-1, Z-1) determinant of the map p -> p + displacement(p); negative where it folds."""
    rows = []
    low = (slice(0, -1),) * 3
    for axis in range(3):
        high = tuple(slice(1, None) if a == axis else slice(0, -1) for a in range(3))
        rows.append((displacement[(..., *high)] - displacement[(..., *low)]) / grid.spacing_mm[axis])
    matrix = torch.stack(rows, dim=-1).movedim(1, -2)  # (B, X-1, Y-1, Z-1, 3, 3)
    volume: Tensor = torch.linalg.det(matrix + torch.eye(3, device=displacement.device))
    return volume


__all__ = [
    "DeformationGrids",
    "DisplacementFields",
    "centres",
    "coarser",
    "compose",
    "exponential",
    "flow",
    "jacobian",
    "on_grid",
    "read",
]
