"""Smooth, invertible deformations of heads: stationary velocity fields on a coarse lattice (Arsigny et al. 2006).

A deformation is the flow of a velocity field for one unit of time, so the flow of minus the field undoes it, fields can
be averaged and weighted, and a few thousand numbers hold one. Velocities and displacements are (B, 3, ...) tensors
in canonical mm, x, y, z.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from calvaria.datasets.cache import training_grid
from calvaria.volume.grid import Grid

LATTICE_VOXELS = 6
"""Coarse voxels between two nodes of a velocity field: 9.6 mm, finer than the skull's bosses and sutures are wide."""

FLOW_VOXELS = 2
"""Coarse voxels along an edge of a voxel of the grid on which flows are computed."""

SQUARINGS = 5
"""A flow is its 32nd part, composed with itself so many times over: steps of at most half a millimetre for heads."""


def coarser(grid: Grid, voxels: int, *, nodes: bool = False) -> Grid:
    """The grid whose voxels are blocks of another one's; with ``nodes``, one whose outermost centres hold it all."""
    i, j, k = (-(-n // voxels) + int(nodes) for n in grid.shape)
    spacing = grid.spacing_mm[0] * voxels
    middle = grid.to_world([(n - 1) / 2 for n in grid.shape])
    return Grid.isotropic((i, j, k), spacing, middle - spacing * (torch.tensor([i, j, k]).numpy() - 1) / 2)


@lru_cache(maxsize=4)
def lattice() -> Grid:
    """Nodes of a velocity field."""
    return coarser(training_grid(), LATTICE_VOXELS, nodes=True)


@lru_cache(maxsize=4)
def flow_grid() -> Grid:
    """Where flows are computed: 3.2 mm."""
    return coarser(training_grid(), FLOW_VOXELS)


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


def flow(velocity: Tensor, squarings: int = SQUARINGS) -> Tensor:
    """The displacement that a velocity field brings about in one unit of time.

    Args:
        velocity: (B, 3, x, y, z) on `lattice()`, mm.
        squarings: see `SQUARINGS`.

    Returns:
        (B, 3, X, Y, Z) on `flow_grid()`, mm: a point p goes to p + displacement(p).
    """
    return exponential(on_grid(velocity, lattice(), flow_grid()), squarings)


def exponential(velocity: Tensor, squarings: int = SQUARINGS) -> Tensor:
    """The same as :func:`flow`, of a velocity that lies on `flow_grid()` already."""
    step = velocity / 2.0**squarings
    for _ in range(squarings):
        step = compose(step, step)
    return step


def compose(first: Tensor, then: Tensor) -> Tensor:
    """The displacement of going by ``first`` and on from there by ``then``, both on `flow_grid()`."""
    return first + read(then, flow_grid(), centres(flow_grid(), str(first.device)) + first)


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
    "centres",
    "coarser",
    "compose",
    "exponential",
    "flow",
    "flow_grid",
    "jacobian",
    "lattice",
    "on_grid",
    "read",
]
