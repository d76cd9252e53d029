"""Thicker and thinner vaults: the inner table moves along the head's radius, the outer one stays.

The outside of a head says nothing of how thick its bone is, and what thickens it in life (age, hyperostosis) grows
inwards; the outside's own variety comes from bending the head (:mod:`calvaria.deformation.bend`). The surface is moved
as in continuous morphology (Brockett and Maragos 1994): soft bone obeys ds/dt = max(0, ds/dr) for thickening, with
upwind differences (Osher and Sethian 1988), so that what does not move keeps its very values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calvaria.deformation.bend import SPLINE_VARIANCE, basis, knots_mm
from calvaria.deformation.warp import check_volumes
from calvaria.errors import InputError
from calvaria.skull.canonical import LANDMARK_MM, LANDMARK_NORMAL
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.types import F64
from calvaria.volume.grid import Box, Grid

KNOT_MM = 50.0
"""Distance of the knots of the variation: thickness changes from bone to bone, not from place to place."""

MAX_VARIED = 1.5
"""The variation makes a change at most so many times its mean, and at least nothing of it."""

MAX_MM = 3.0
"""Largest mean change. The vaults of eight subjects of AutoImplant 2020 were 7.2 mm thick on average, with a standard
deviation of 1.1 mm."""

FADE_MM = 20.0
"""The change is whole so far above the landmark plane, and fades to nothing towards it: base and face keep theirs,
where orbits and air cells are bounded by plates of a voxel."""

MIN_PLATE_MM = 3.0
"""Plates are thinned down to about this and not further: thinner ones come and go between voxels, and a hole that opens
in the truth would be a defect that no network should learn to leave."""

MIN_SHARE = 1e-6
"""Keeps shares of nothing from being divided by nothing."""


@dataclass(frozen=True)
class Thickness:
    """How the vault's thickness is changed.

    Args:
        change_mm: mean change, positive is thicker.
        variation: standard deviation of its smooth variation from place to place, as a share of the mean.
        seed: which variation.

    Raises:
        InputError: a change beyond `MAX_MM`, or a negative variation.
    """

    change_mm: float
    variation: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        if not abs(self.change_mm) <= MAX_MM:
            raise InputError(f"a vault's thickness is changed by {MAX_MM:g} mm at most; got {self.change_mm}")
        if not 0 <= self.variation < np.inf:
            raise InputError(f"a thickness's variation is a share of at least 0; got {self.variation}")

    def change_on(self, grid: Grid, device: torch.device | str = "cpu") -> Tensor:
        """(X, Y, Z) float32 mm, at least 0: by how much the inner table moves, without the sign."""
        x, y, z = (torch.from_numpy(at).float().to(device) for at in axes_mm(grid))
        normal = LANDMARK_NORMAL.tolist()
        below = (normal[0] * x)[:, None, None] + (normal[1] * y)[:, None] + normal[2] * z
        fade: Tensor = ((LANDMARK_MM - below) / FADE_MM).clamp_(0, 1)
        if self.variation == 0:
            return fade.mul_(abs(self.change_mm))
        count = knots_mm(KNOT_MM).size
        control = np.random.default_rng(self.seed).standard_normal((count, count, count)) / SPLINE_VARIANCE**1.5
        bx, by, bz = (
            torch.from_numpy(basis(at - middle, KNOT_MM)).float().to(device)
            for at, middle in zip(axes_mm(grid), HEAD_CENTRE_MM, strict=True)
        )
        values = by @ (torch.from_numpy(control).float().to(device) @ bz.T)  # (N, Y, Z)
        share: Tensor = (bx @ values.flatten(1)).reshape(grid.shape).mul_(self.variation).add_(1).clamp_(0, MAX_VARIED)
        return share.mul_(fade).mul_(abs(self.change_mm))


def axes_mm(grid: Grid) -> tuple[F64, F64, F64]:
    """Three arrays, (X,), (Y,), (Z,): positions of the voxel centres of a grid along the canonical axes, mm."""
    x, y, z = (
        np.arange(n) * step + origin
        for n, step, origin in zip(grid.shape, grid.spacing_mm, grid.affine[:3, 3], strict=True)
    )
    return x, y, z


def change_thickness(
    complete: Tensor, grid: Grid, changes: Sequence[Thickness | None], patch: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Make vaults thicker or thinner.

    New bone belongs to the patch where the bone it grew from does. Plates are not thinned below `MIN_PLATE_MM`,
    so that no hole opens.

    Args:
        complete: (B, X, Y, Z) complete skulls in the canonical pose: soft bone (floating, 0 to 1) or bool.
        grid: canonical mm.
        changes: B changes; None leaves a head as it is, bit by bit.
        patch: the patches within them, of the same shape and dtype, or None.

    Returns:
        The complete skulls and the patches, of the same shape, dtype and device; masks are cut at 0.5 last.

    Raises:
        GeometryError: a tensor does not lie on the grid.
        InputError: as many changes as heads are wanted; a dtype that is neither floating nor bool.
    """
    check_volumes(complete, grid, len(changes))
    if patch is not None:
        check_volumes(patch, grid, len(changes))
    if not any(change is not None and change.change_mm for change in changes):
        return complete, patch
    outward = _outward(grid, complete.device)
    bones, patches = [], []
    for item, change in enumerate(changes):
        bone, part = complete[item], None if patch is None else patch[item]
        if change is not None and change.change_mm:
            bone, part = _changed(bone, part, grid, change, outward)
        bones.append(bone)
        patches.append(part)
    return torch.stack(bones), None if patch is None else torch.stack([p for p in patches if p is not None])


def _outward(grid: Grid, device: torch.device) -> list[Tensor]:
    """Three (X, Y, Z): the size of the components of the unit vectors away from the head centre."""
    x, y, z = (
        torch.from_numpy(at - middle).float().to(device).abs()
        for at, middle in zip(axes_mm(grid), HEAD_CENTRE_MM, strict=True)
    )
    x, y = x[:, None, None], y[:, None]
    over_length = (x * x + y * y + z * z).clamp_(min=1.0).rsqrt_()
    return [x * over_length, y * over_length, z * over_length]


def _changed(
    bone: Tensor, patch: Tensor | None, grid: Grid, change: Thickness, outward: list[Tensor]
) -> tuple[Tensor, Tensor | None]:
    """One head, (X, Y, Z), in steps short enough to be stable (Courant, Friedrichs and Lewy 1928)."""
    steps = int(np.ceil(MAX_VARIED * abs(change.change_mm) * np.sqrt(3) / min(grid.spacing_mm)))
    amount = change.change_on(grid, bone.device).div_(steps)
    soft, part = bone.float(), None if patch is None else patch.float()
    floor = _least(soft, outward, grid) if change.change_mm < 0 else soft
    for _ in range(steps):
        if change.change_mm > 0:
            soft, part = _thickened(soft, part, amount, outward, grid)
        else:
            soft, part = _thinned(soft, part, amount, outward, grid, floor=floor)
    if bone.dtype == torch.bool:
        return soft > 0.5, None if part is None else (soft > 0.5) & (part > 0.5 * soft)
    return soft.to(bone.dtype), None if part is None else part.to(bone.dtype)


def _thickened(
    soft: Tensor, patch: Tensor | None, amount: Tensor, outward: list[Tensor], grid: Grid
) -> tuple[Tensor, Tensor | None]:
    """One step: a voxel takes bone from its neighbours further out."""
    growth, rise = torch.zeros_like(soft), torch.zeros_like(soft)
    for here, outer, part, step in _pairs(grid, outward, outwards=True):
        torch.sub(soft[outer], soft[here], out=rise[here])
        growth[here].addcmul_(rise[here], part[here], value=1 / step)
    growth.clamp_(min=0).mul_(amount)
    if patch is not None:
        source, source_patch = torch.zeros_like(soft), torch.zeros_like(soft)
        for here, outer, part, step in _pairs(grid, outward, outwards=True):
            source[here].addcmul_(soft[outer], part[here], value=1 / step)
            source_patch[here].addcmul_(patch[outer], part[here], value=1 / step)
        patch = torch.addcmul(patch, growth, source_patch.div_(source.clamp_(min=MIN_SHARE)))
    return growth.add_(soft), patch


def _thinned(
    soft: Tensor, patch: Tensor | None, amount: Tensor, outward: list[Tensor], grid: Grid, *, floor: Tensor
) -> tuple[Tensor, Tensor | None]:
    """One step: a voxel loses bone to its neighbours further in, down to its floor."""
    left, fall = torch.zeros_like(soft), torch.zeros_like(soft)
    for here, inner, part, step in _pairs(grid, outward, outwards=False):
        torch.sub(soft[inner], soft[here], out=fall[here])
        left[here].addcmul_(fall[here], part[here], value=1 / step)
    left = torch.maximum(left.clamp_(max=0).mul_(amount).add_(soft), floor)
    if patch is not None:
        patch = patch * (left / soft.clamp(min=MIN_SHARE))
    return left, patch


def _least(soft: Tensor, outward: list[Tensor], grid: Grid) -> Tensor:
    """(X, Y, Z) what has to stay in each voxel, so that with those further out a plate keeps `MIN_PLATE_MM`."""
    voxel = min(grid.spacing_mm)
    step_mm = voxel / np.sqrt(3)  # the longest that is stable in every direction
    count = max(1, round(MIN_PLATE_MM / step_mm))
    lacking, beyond, rise = torch.full_like(soft, count), soft, torch.zeros_like(soft)
    for _ in range(count):
        further = beyond.clone()
        for here, outer, part, step in _pairs(grid, outward, outwards=True):
            torch.sub(beyond[outer], beyond[here], out=rise[here])
            further[here].addcmul_(rise[here], part[here], value=step_mm / step)
        lacking -= further
        beyond = further
    return lacking.mul_(step_mm / voxel).clamp_(min=0).minimum(soft)


def _pairs(grid: Grid, parts: list[Tensor], outwards: bool) -> Iterator[tuple[Box, Box, Tensor, float]]:
    """Boxes of voxels, of their neighbours away from the head centre (or towards it), the axis's part and step in mm.

    Voxels whose neighbour lies outside of the array have none: what is not seen changes nothing.
    """
    for axis, part in enumerate(parts):
        n = grid.shape[axis]
        middle = int(np.searchsorted(axes_mm(grid)[axis], HEAD_CENTRE_MM[axis]))
        if outwards:  # below the middle the neighbour before, above it the one after
            pairs = ((1, middle, -1), (middle, n - 1, 1))
        else:
            pairs = ((0, min(middle, n - 1), 1), (max(middle, 1), n, -1))
        for start, stop, step in pairs:
            if start < stop:
                yield _along(axis, start, stop), _along(axis, start + step, stop + step), part, grid.spacing_mm[axis]


def _along(axis: int, start: int, stop: int) -> Box:
    i, j, k = (slice(start, stop) if a == axis else slice(None) for a in range(3))
    return i, j, k


__all__ = ["FADE_MM", "MAX_MM", "Thickness", "axes_mm", "change_thickness"]
