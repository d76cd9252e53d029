"""Reflection about planes in torch: of volumes, points and the planes themselves, differentiable in all of them.

A batch of planes is a (B, 4) tensor: unit normal and offset, ``(n_x, n_y, n_z, d)``, for the points x with ``n . x =
d``, world mm. Reflection is its own inverse: exactly for points, and for volumes up to one interpolation.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from calvaria.errors import GeometryError
from calvaria.volume.grid import Grid


def unit_planes(planes: Tensor) -> Tensor:
    """(B, 4) planes with normals of length 1; the points of a plane stay.

    Raises:
        GeometryError: not (B, 4), or a normal is zero or not finite.
    """
    if planes.ndim != 2 or planes.shape[1] != 4 or not planes.is_floating_point():
        raise GeometryError(f"planes are (B, 4) floating-point values, normal and offset; got {tuple(planes.shape)}")
    length = planes[:, :3].norm(dim=1, keepdim=True)
    if not bool((torch.isfinite(planes).all(dim=1, keepdim=True) & (length > 0)).all()):
        raise GeometryError("a plane needs a normal that is not zero, and finite numbers")
    unit: Tensor = planes / length
    return unit


def reflection_matrices(planes: Tensor) -> Tensor:
    """(B, 4, 4) maps of world points to their mirror images: x - 2 (n . x - d) n.

    Args:
        planes: (B, 4), of unit normals.
    """
    normal, offset = planes[:, :3], planes[:, 3:]
    linear = torch.eye(3, dtype=planes.dtype, device=planes.device) - 2 * normal[:, :, None] * normal[:, None, :]
    upper = torch.cat([linear, (2 * offset * normal)[:, :, None]], dim=2)  # (B, 3, 4)
    last = upper.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(planes), 1, 4)
    return torch.cat([upper, last], dim=1)


def reflect_points(points_mm: Tensor, planes: Tensor) -> Tensor:
    """(B, N, 3) world points reflected about (B, 4) planes of unit normals."""
    normal, offset = planes[:, None, :3], planes[:, None, 3:]
    off = (points_mm * normal).sum(dim=-1, keepdim=True) - offset
    return points_mm - 2 * off * normal


def reflect_volumes(volumes: Tensor, grid: Grid, planes: Tensor) -> Tensor:
    """Volumes reflected about planes: at each voxel's centre, what stands at its mirror image.

    Args:
        volumes: (B, C, X, Y, Z), floating.
        grid: of all of them; any affine.
        planes: (B, 4), of unit normals, world mm.

    Returns:
        (B, C, X, Y, Z) on the same grid: trilinear, zero where the mirror image lies outside. Differentiable in the
        volumes and in the planes.

    Raises:
        GeometryError: shapes do not agree.
    """
    _check_volumes(volumes, grid)
    if planes.shape != (len(volumes), 4):
        raise GeometryError(f"one plane (4 values) a volume is wanted; got {tuple(planes.shape)} for {len(volumes)}")
    to_index = torch.from_numpy(grid.inverse.copy()).to(planes)
    to_world = torch.from_numpy(grid.affine.copy()).to(planes)
    theta = _unit_from_index(grid.shape, planes) @ to_index @ reflection_matrices(planes) @ to_world
    theta = (theta @ torch.linalg.inv(_unit_from_index(grid.shape, planes)))[:, :3]
    where = functional.affine_grid(theta.to(volumes.dtype), list(volumes.shape), align_corners=False)
    return functional.grid_sample(volumes, where, align_corners=False)


def read_volumes(volumes: Tensor, grid: Grid, points_mm: Tensor) -> Tensor:
    """Trilinear values of volumes at world points, zero outside.

    Args:
        volumes: (B, C, X, Y, Z), floating.
        grid: of all of them; any affine.
        points_mm: (B, N, 3).

    Returns:
        (B, C, N); differentiable in the volumes and in the points.

    Raises:
        GeometryError: the volumes are not on the grid.
    """
    _check_volumes(volumes, grid)
    to_index = torch.from_numpy(grid.inverse.copy()).to(points_mm)
    to_unit = _unit_from_index(grid.shape, points_mm) @ to_index
    unit = points_mm @ to_unit[:3, :3].T + to_unit[:3, 3]
    where = unit[:, :, None, None].to(volumes.dtype)  # (B, N, 1, 1, 3), already last axis first
    return functional.grid_sample(volumes, where, align_corners=False)[..., 0, 0]


def _unit_from_index(shape: tuple[int, int, int], like: Tensor) -> Tensor:
    """(4, 4) indices -> grid_sample's coordinates: last axis first, -1 and 1 at the outer faces of the volume."""
    return _unit_matrix(shape).to(like)


@lru_cache(maxsize=16)
def _unit_matrix(shape: tuple[int, int, int]) -> Tensor:
    matrix = torch.zeros(4, 4, dtype=torch.float64)
    for row, axis in enumerate((2, 1, 0)):
        matrix[row, axis] = 2 / shape[axis]
        matrix[row, 3] = 1 / shape[axis] - 1
    matrix[3, 3] = 1
    return matrix


def _check_volumes(volumes: Tensor, grid: Grid) -> None:
    if volumes.ndim != 5 or tuple(volumes.shape[2:]) != grid.shape or not volumes.is_floating_point():
        raise GeometryError(
            f"floating volumes (B, C, {', '.join(map(str, grid.shape))}) are wanted; got {tuple(volumes.shape)}"
        )


__all__ = ["read_volumes", "reflect_points", "reflect_volumes", "reflection_matrices", "unit_planes"]
