"""Changes of the rim on whole batches: the torch twin of :mod:`calvaria.synthesis.defects.ageing`.

The changes are the same formulas (:mod:`calvaria.synthesis.defects.rim_changes`), and small components follow
the same rules.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from calvaria.errors import GeometryError, InputError
from calvaria.synthesis.batched.components import pieces
from calvaria.synthesis.batched.cutting_torch import points_of, take_islands
from calvaria.synthesis.defects.ageing import SMALL_ML
from calvaria.synthesis.defects.rim_changes import Fragments, Rim, in_order
from calvaria.synthesis.defects.soundness import ISLAND_ML
from calvaria.volume.distance import reach_voxels
from calvaria.volume.grid import Box, Grid

FAR_MM2 = 1e6
"""Stands for "no voxel is that near"; any head is smaller."""


def apply_rims(defective: Tensor, patch: Tensor, grid: Grid, rims: Sequence[Sequence[Rim]]) -> tuple[Tensor, Tensor]:
    """Change the rims of a batch.

    Args:
        defective: (B, X, Y, Z) bool; not changed.
        patch: (B, X, Y, Z) bool, no voxel of it in the defective skull; not changed.
        grid: where the voxels lie in canonical mm; its axes are at right angles.
        rims: the changes of each item; an empty list changes nothing.

    Returns:
        The defective skulls and the patches afterwards, as
        :func:`calvaria.synthesis.defects.ageing.apply_rims` gives them.

    Raises:
        GeometryError: the batches do not lie on the grid, or its axes are not at right angles.
        InputError: there are more or fewer lists than skulls, or the masks are not of booleans.
    """
    if defective.ndim != 4 or defective.shape != patch.shape or tuple(patch.shape[1:]) != grid.shape:
        raise GeometryError(f"batches are (B, *{grid.shape}); got {tuple(defective.shape)} and {tuple(patch.shape)}")
    if not grid.is_orthogonal:
        raise GeometryError("the axes of a training grid are at right angles; these are not: resample first")
    if len(rims) != len(patch):
        raise InputError(f"each skull gets a list of changes; got {len(patch)} skulls and {len(rims)} lists")
    if defective.dtype != torch.bool or patch.dtype != torch.bool:
        raise InputError(f"masks are wanted here; got {defective.dtype} and {patch.dtype}; threshold them first")
    bone, hole = defective.clone(), patch.clone()
    for item, changes in enumerate(rims):
        for rim in in_order(changes):
            _change(bone[item], hole[item], grid, rim)
    return bone, hole


def _change(bone: Tensor, hole: Tensor, grid: Grid, rim: Rim) -> None:
    """Apply one change to both masks, in place."""
    box = _box_around(hole, reach_voxels(grid, max(rim.reach_mm, rim.depth_mm) + 2 * max(grid.spacing_mm)))
    if box is None:
        return
    part, gap = bone[box], hole[box]
    half = min(grid.spacing_mm) / 2
    limit = rim.reach_mm + 2 * half + 1.0
    complete = part | gap
    beyond = torch.where(gap, near_mm(part, grid, limit) - half, half - near_mm(gap, grid, limit))
    near = (complete & (beyond >= -rim.reach_mm)).nonzero(as_tuple=True)
    if rim.depth_mm > 0:
        depth = (near_mm(~complete, grid, rim.depth_mm + 2 * half) - half)[near]
    else:
        depth = torch.zeros_like(beyond[near])
    stays = rim.bone(beyond[near], depth, points_of(torch.stack(near, dim=1), box, grid))
    part[near], gap[near] = stays, ~stays
    if not isinstance(rim, Fragments):
        _tidy(bone, hole, box, 1000.0 / grid.voxel_volume_mm3)


def _tidy(bone: Tensor, hole: Tensor, box: Box, voxels_per_ml: float) -> None:
    """Small components of the patch go back to the skull, those of the skull to the patch; in place."""
    labels, sizes = pieces(hole[box])
    small = sizes <= SMALL_ML * voxels_per_ml
    small[0] = small[sizes.argmax()] = False  # a patch that is small itself stays
    fragments = small[labels]
    hole[box] &= ~fragments
    bone[box] |= fragments
    take_islands(bone, hole, box, ISLAND_ML * voxels_per_ml)
    bone &= ~hole


def near_mm(mask: Tensor, grid: Grid, limit_mm: float) -> Tensor:
    """Distance from each voxel to the nearest voxel of a mask, exact up to a limit and cut there.

    Squared distances are lowered along one axis after the other, over the few voxels that the limit spans: the exact
    transform (Felzenszwalb and Huttenlocher 2012) without its search.

    Args:
        mask: (X, Y, Z) bool; may be empty.
        grid: its spacing counts; axes at right angles.
        limit_mm: above 0.

    Returns:
        (X, Y, Z) float32 mm.
    """
    squared = torch.where(mask, 0.0, FAR_MM2)
    for axis, spacing in enumerate(grid.spacing_mm):
        length = mask.shape[axis]
        source, lowest = squared, squared.clone()
        for step in range(1, min(int(np.ceil(limit_mm / spacing)), length - 1) + 1):
            rest, cost = length - step, (step * spacing) ** 2
            low, high = lowest.narrow(axis, 0, rest), lowest.narrow(axis, step, rest)
            torch.minimum(low, source.narrow(axis, step, rest) + cost, out=low)
            torch.minimum(high, source.narrow(axis, 0, rest) + cost, out=high)
        squared = lowest
    return squared.sqrt_().clamp_(max=limit_mm)


def _box_around(mask: Tensor, margin: tuple[int, int, int]) -> Box | None:
    """The smallest box around a mask, grown by a margin and cut at the array's edge; None for an empty mask."""
    flat = mask.any(dim=2)
    lines = (flat.any(dim=1), flat.any(dim=0), mask.any(dim=0).any(dim=0))
    ends = [line.nonzero()[:, 0].tolist() for line in lines]
    if not ends[0]:
        return None
    i, j, k = (
        slice(max(line[0] - m, 0), min(line[-1] + 1 + m, n))
        for line, m, n in zip(ends, margin, mask.shape, strict=True)
    )
    return i, j, k


__all__ = ["apply_rims", "near_mm"]
