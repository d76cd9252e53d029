"""What a reconstruction network is taught by: the overlap with the true patch, and the symmetry of the whole skull.

Wodzinski et al., eq. 2: the loss of Seg-SN is Dice(Rec, truth) + alpha SL(V with Rec). The second term is
:mod:`calvaria.symmetry.training_term`, asked for in the region of the canonical frame where skulls are compared.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from calvaria.skull.canonical import REGION_MM
from calvaria.symmetry.loss import dice_loss
from calvaria.symmetry.training_term import SymmetryTerm
from calvaria.volume.grid import Grid


def overlap_loss(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """(B,) soft Dice losses of patches, with squares below (Milletari et al. 2016).

    For fractions, unlike that of the Dice without squares, its least lies at the truth: surfaces between voxels are
    learned.

    Args:
        logits: (B, 1, X, Y, Z).
        truth: the same shape: how much of each voxel is missing bone.
        weight: the same shape: 0 where the truth is not known.
    """
    return dice_loss(torch.sigmoid(logits), truth, weight)


def cross_entropy(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """(B,) means of the binary cross entropy over the voxels whose truth is known; arguments as above."""
    each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (each * weight).flatten(1).sum(dim=1) / weight.flatten(1).sum(dim=1).clamp(min=1)


def symmetry_term(network: nn.Module, grid: Grid, window: str) -> SymmetryTerm:
    """The symmetry of completed skulls in the canonical frame, the calvaria being `REGION_MM`.

    Args:
        network: a symmetry network, which is frozen.
        grid: of the volumes; axes along the canonical frame's.
        window: one of :data:`calvaria.symmetry.training_term.WINDOWS`.

    Raises:
        InputError: an unknown window.
    """
    return SymmetryTerm(network, grid, REGION_MM, window)


__all__ = ["cross_entropy", "overlap_loss", "symmetry_term"]
