"""Every skull laid over the mean skull by a smooth, invertible deformation (log-demons, Vercauteren et al. 2008).

First by how much bone there is in a neighbourhood, which brings the vaults near each other, then by the signed distance
to the bone's surface, which brings outside to outside and inside to inside. A step moves each point against the
difference along the gradient; steps are averaged over a neighbourhood, by how much each point knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from calvaria.deformation.flow import FLOW_VOXELS, DeformationGrids, centres, exponential, flow, on_grid, read
from calvaria.errors import InputError
from calvaria.types import BoolArray
from calvaria.volume.grid import Grid

LIMIT_MM = 10.0
"""Distances are cut off here."""

FLOOR_MM = -45.0
"""Below this the skull base and the face differ too much to be laid over each other; the deformation only follows."""

NEAR_MM = 4.0
"""How far from a surface a distance counts: more would tie inside and outside of thick bone together."""

ALIEN_MM = 9.0
"""Distances that differ by more do not belong to one surface."""

STIFF_MM = 3.8
"""Standard deviation of the smoothing of the whole velocity after each step."""

UNSURE = 0.02
"""Knowledge of a neighbourhood below which its step is shortened."""

DOUBT = 8
"""Power of the blurred known part that is the weight of blurred bone: where a quarter of it comes from what is not
known, it counts a tenth."""

SOFT_MM = 0.8
"""Distance over which a mean skull's share of bone falls from a half to about a quarter: half a voxel of 1.6 mm."""

REFITS = 3
"""Times that what the lattice failed to hold is added: 0.03 mm rms are left, 0.16 without."""


@dataclass(frozen=True)
class Stage:
    """A part of the way.

    Args:
        blur_mm: bone is blurred so far and compared; 0 compares distances.
        reach_mm: standard deviation of the neighbourhood over which steps are averaged.
        steps: how many.
    """

    blur_mm: float
    reach_mm: float
    steps: int


STAGES = (Stage(12.8, 20.0, 8), Stage(8.0, 14.0, 8), Stage(0.0, 12.0, 8), Stage(0.0, 9.0, 8))


@dataclass(frozen=True, eq=False)
class Surface:
    """A skull as the registration sees it, on the flow's grid (`DeformationGrids.flow`).

    Args:
        distance_mm: (1, 1, X, Y, Z) signed distance to the bone's surface, negative in bone, cut off.
        bone: (1, 1, X, Y, Z) share of bone.
        known: (1, 1, X, Y, Z) 1 where the skull is known, 0 where bone may be missing unseen.
        felt: (1, 1, X, Y, Z) 1 where the distance is to a known surface: what may be missing lies farther away.
    """

    distance_mm: Tensor
    bone: Tensor
    known: Tensor
    felt: Tensor


def surface_of(bone: BoolArray, grid: Grid, hidden: BoolArray | None = None) -> Surface:
    """A skull, ready for registration.

    Args:
        bone: mask on ``grid``, holes filled as well as can be: blurred, their lack would be felt far around.
        grid: that the deformations' grids lie over (`DeformationGrids.over`): isotropic, about 1.6 mm; canonical mm.
        hidden: on ``grid``: where bone was missing, there the skull has no weight.

    Raises:
        InputError: the mask is not on the grid.
    """
    from scipy import ndimage

    if bone.shape != grid.shape:
        raise InputError(f"a skull on a grid of {grid.shape} is wanted for registration; got a mask of {bone.shape}")
    spacing_mm = grid.spacing_mm[0]
    distance = _distance(bone, spacing_mm)
    known = felt = np.ones(bone.shape, np.float32)
    if hidden is not None and hidden.any():
        known = 1 - hidden.astype(np.float32)
        felt = (ndimage.distance_transform_edt(~hidden) * spacing_mm > np.abs(distance)).astype(np.float32)
    return Surface(*(_halved(array) for array in (distance, bone.astype(np.float32), known, felt)))


def _halved(values: NDArray[np.float32]) -> Tensor:
    return functional.avg_pool3d(torch.from_numpy(values)[None, None], FLOW_VOXELS)


def _distance(bone: BoolArray, spacing_mm: float) -> NDArray[np.float32]:
    """Signed distance to the voxels' faces, mm, cut off."""
    from scipy import ndimage

    inner, outer = (ndimage.distance_transform_edt(mask) - 0.5 for mask in (bone, ~bone))
    signed = np.where(bone, -inner, outer) * spacing_mm
    return np.asarray(np.clip(signed, -LIMIT_MM, LIMIT_MM), np.float32)


def mean_surface(distance_mm: Tensor, grid: Grid, grids: DeformationGrids) -> Surface:
    """A mean skull, ready to be laid under others: known everywhere.

    Args:
        distance_mm: (X, Y, Z) signed distance to the bone's surface on ``grid``, negative in bone.
        grid: of the distances; its axes run along x, y, z, canonical mm.
        grids: of the deformations.
    """
    distance = on_grid(distance_mm[None, None], grid, grids.flow)
    ones = torch.ones_like(distance)
    return Surface(distance, torch.sigmoid(-distance / SOFT_MM), ones, ones)


def register(skull: Surface, mean: Surface, grids: DeformationGrids) -> Tensor:
    """The velocity field whose flow takes the mean skull's points to a skull's.

    Args:
        skull: where the flow shall end.
        mean: where it begins.
        grids: of both, and of the velocity.

    Returns:
        (1, 3, x, y, z) on ``grids.lattice``, mm: with u its flow, ``skull(p + u(p))`` is close to ``mean(p)``.
    """
    device, grid = skull.bone.device, grids.flow
    points = centres(grid, str(device))[None]
    floor = (points[:, 2:] > FLOOR_MM).float()
    velocity = torch.zeros_like(points)
    for stage in STAGES:
        fixed, moving = (_blurred(s, grid, stage.blur_mm) for s in (mean, skull))
        trust = blur(skull.known, grid, stage.blur_mm) ** DOUBT if stage.blur_mm else skull.felt
        for _ in range(stage.steps):
            path = points + exponential(velocity, grid)
            known = floor * read(trust, grid, path)
            step, weight = _step(fixed, read(moving, grid, path), grid, stage.blur_mm)
            weight = weight * known
            sure = blur(weight, grid, stage.reach_mm) + UNSURE
            velocity = blur(velocity + blur(step * weight, grid, stage.reach_mm) / sure, grid, STIFF_MM)
    return to_lattice(velocity, grids)


def _blurred(surface: Surface, grid: Grid, blur_mm: float) -> Tensor:
    return blur(surface.bone, grid, blur_mm) if blur_mm else surface.distance_mm


def _step(fixed: Tensor, moving: Tensor, grid: Grid, blur_mm: float) -> tuple[Tensor, Tensor]:
    """Where each point should go, mm, and how much it knows of that, 0 to 1."""
    off, gradient = moving - fixed, _gradient(moving, grid)
    square = (gradient**2).sum(dim=1, keepdim=True)
    if blur_mm:  # a share of bone over mm: steps are held below some mm by the difference itself
        usual = square.mean()
        step = -off * gradient / (square + off**2 / 36 + 0.1 * usual)
        return step, square / (square + 0.3 * usual + off**2 / 16)
    step = -off * gradient / (square + 0.3)  # distances: the gradient is 1 but for ridges
    close = torch.minimum(moving.abs(), fixed.abs())
    return step, torch.exp(-((close / NEAR_MM) ** 2)) * (off.abs() < ALIEN_MM)


def _gradient(values: Tensor, grid: Grid) -> Tensor:
    """(1, 3, X, Y, Z) a mm; the outermost voxels see their neighbours across the border, where no skull is."""
    step_mm = 2 * grid.spacing_mm[0]
    parts = [(values.roll(-1, axis) - values.roll(1, axis)) / step_mm for axis in (2, 3, 4)]
    return torch.cat(parts, dim=1)


def blur(values: Tensor, grid: Grid, sigma_mm: float) -> Tensor:
    """A Gaussian along each axis of (B, C, X, Y, Z) values; beyond the border the outermost values go on.

    Args:
        values: on ``grid``.
        grid: isotropic.
        sigma_mm: standard deviation.
    """
    sigma = sigma_mm / grid.spacing_mm[0]
    reach = int(3 * sigma) + 1
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32, device=values.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    channels = values.shape[1]
    for axis in range(3):
        shape, pad = [1, 1, 1], [0] * 6
        shape[axis] = 2 * reach + 1
        pad[2 * (2 - axis) : 2 * (2 - axis) + 2] = reach, reach
        weight = kernel.reshape(1, 1, *shape).expand(channels, 1, *shape)
        values = functional.conv3d(functional.pad(values, pad, mode="replicate"), weight, groups=channels)
    return values


def to_lattice(velocity: Tensor, grids: DeformationGrids) -> Tensor:
    """The lattice's velocity that comes nearest to one on the flow's grid."""
    sigma_mm = 0.45 * grids.lattice.spacing_mm[0]

    def thinned(field: Tensor) -> Tensor:
        return on_grid(blur(field, grids.flow, sigma_mm), grids.flow, grids.lattice)

    out = thinned(velocity)
    for _ in range(REFITS):
        out = out + thinned(velocity - on_grid(out, grids.lattice, grids.flow))
    return out


def misfit_mm(velocity: Tensor, skull: Surface, mean: Surface, grids: DeformationGrids) -> Tensor:
    """How far the deformed mean skull's surface lies off a skull's, at the mean skull's surface voxels above the floor.

    Args:
        velocity: (1, 3, x, y, z) on ``grids.lattice``, mm, as `register` gives it.
        skull: where its flow ends.
        mean: where it begins.
        grids: of all of them.

    Returns:
        (N,) mm: the skull's distance where the mean skull's is zero, corrected for the voxel centres' own distance.
    """
    points = centres(grids.flow, str(velocity.device))[None]
    path = points + flow(velocity, grids)
    off = (read(skull.distance_mm, grids.flow, path) - mean.distance_mm).abs()
    surface = at_surface(mean, grids.flow) & (read(skull.known, grids.flow, path) > 0.99)
    return off[surface]


def at_surface(mean: Surface, grid: Grid) -> Tensor:
    """(1, 1, X, Y, Z) bool: the voxels of ``grid``, the flow's, in a mean skull's surface and above the floor."""
    points = centres(grid, str(mean.distance_mm.device))[None]
    return (mean.distance_mm.abs() < grid.spacing_mm[0] / 2) & (points[:, 2:] > FLOOR_MM)


__all__ = [
    "STAGES",
    "Stage",
    "Surface",
    "at_surface",
    "blur",
    "mean_surface",
    "misfit_mm",
    "register",
    "surface_of",
    "to_lattice",
]
