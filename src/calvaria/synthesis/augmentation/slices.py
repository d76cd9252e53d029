"""Thick slices: bone averaged over tilted slabs, cut at a threshold there, and read back between the slices.

A scanner's table moves along z and its gantry leans: the slices are tilted planes one above the other, and each column
of voxels along z crosses them at its own heights. The average over a slab is taken along the column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calvaria.errors import InputError
from calvaria.volume.grid import Grid

SHARPEST = 3.0
"""A threshold works on pixels far finer than a slice is thick: within a slice the share of bone is made sharper by so
much, and stays soft at edges across it."""


@dataclass(frozen=True)
class Slices:
    """How thick slices lie.

    Args:
        thickness_mm: of a slice, and the distance of their middles, along their normal.
        pitch_deg: the slices turned about x: positive rises towards the back.
        roll_deg: turned about y: positive rises towards the left.
        phase: where the first slice begins, in slices, 0 to 1.

    Raises:
        InputError: a thickness that is not positive, or slices tilted by 60 degrees or more.
    """

    thickness_mm: float
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    phase: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.thickness_mm < np.inf:
            raise InputError(f"a slice has a positive thickness in mm; got {self.thickness_mm}")
        if not max(abs(self.pitch_deg), abs(self.roll_deg)) < 60:
            raise InputError(f"slices are tilted by less than 60 degrees; got {self.pitch_deg} and {self.roll_deg}")


def through_slices(picture: Tensor, grid: Grid, slices: Slices, level: float = 0.5, gain: float = 1.0) -> Tensor:
    """Soft bone as it comes back from thick slices.

    Args:
        picture: (X, Y, Z) float32, brightness in dense bone's.
        grid: canonical mm, axes along x, y, z.
        slices: how they lie.
        level: threshold within the slices.
        gain: how much sharper edges get at the threshold; at least `SHARPEST` is taken.

    Returns:
        (X, Y, Z) float32, 0 to 1, linear between the middles of the slices.
    """
    first, per_voxel, count = _slice_positions(grid, slices, picture.device)
    means = _means(picture, first, per_voxel, count)
    bone = means.sub_(level).mul_(max(gain, SHARPEST)).add_(0.5).clamp_(0, 1)  # (X, Y, K)
    at = torch.arange(grid.shape[2], device=picture.device) * per_voxel + first[:, :, None] - 0.5  # in slices' middles
    low = at.floor()
    at.sub_(low)
    below = low.long().clamp_(0, count - 2)
    return bone.gather(2, below).lerp_(bone.gather(2, below + 1), at)


def _slice_positions(grid: Grid, slices: Slices, device: torch.device) -> tuple[Tensor, float, int]:
    """(X, Y) where voxel 0 of each column lies, in slices counted from the lowest; slices a voxel; how many slices."""
    pitch, roll = np.tan(np.radians([slices.pitch_deg, slices.roll_deg]))
    per_mm = np.sqrt(1 + pitch**2 + roll**2) ** -1 / slices.thickness_mm  # slices along z
    (nx, ny, nz), (dx, dy, dz) = grid.shape, grid.spacing_mm
    # Planes z = pitch y + roll x: what lies further back or left is lower in the stack.
    first = -(roll * dx * np.arange(nx)[:, None] + pitch * dy * np.arange(ny)) * per_mm + slices.phase
    first -= np.floor(first.min()) - 1  # a slice to spare below, so that reading back needs no cases
    per_voxel = dz * per_mm
    count = int(np.ceil(first.max() + nz * per_voxel)) + 1
    return torch.from_numpy(first).float().to(device), float(per_voxel), count


def _means(picture: Tensor, first: Tensor, per_voxel: float, count: int) -> Tensor:
    """(X, Y, K) mean brightness of the slices, as far as they lie in the array; beyond it, that of its last voxel."""
    n = picture.shape[2]
    sums = torch.zeros((*picture.shape[:2], n + 1), dtype=picture.dtype, device=picture.device)
    torch.cumsum(picture, 2, out=sums[:, :, 1:])  # [k]: below the lower face of voxel k
    edges = torch.arange(count + 1, device=picture.device) - first[:, :, None]
    at = edges.div_(per_voxel).add_(0.5)  # in voxels' faces: voxel 0 reaches half a voxel below its centre
    lower = at[:, :, :-1].clamp(0, n - 1)
    upper = at[:, :, 1:].clamp(0, n).maximum(lower + 1)
    return (_between(sums, upper) - _between(sums, lower)).div_(upper - lower)


def _between(sums: Tensor, at: Tensor) -> Tensor:
    """Values of (X, Y, N) columns at (X, Y, K) fractional positions within them."""
    below = at.long().clamp_(max=sums.shape[2] - 2)
    return sums.gather(2, below).lerp_(sums.gather(2, below + 1), at - below)


__all__ = ["SHARPEST", "Slices", "through_slices"]
