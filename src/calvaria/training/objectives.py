"""What a reconstruction network is taught by: the overlap with the true patch, and the symmetry of the whole skull.

Wodzinski et al., eq. 2: the loss of Seg-SN is Dice(Rec, truth) + alpha SL(V with Rec). The symmetry network that names
the plane is frozen; slopes flow into the reconstruction by two ways, through the skull that is mirrored and through the
plane about which it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from calvaria.errors import InputError
from calvaria.skull.canonical import REGION_MM
from calvaria.symmetry.frame import SIZE, network_grid
from calvaria.symmetry.loss import dice_loss
from calvaria.symmetry.network import planes_of
from calvaria.symmetry.reflection import read_volumes, reflect_volumes
from calvaria.volume.grid import Grid

WINDOWS = ("skull", "calvaria", "patch")
"""Where the two sides are compared: everywhere; in the calvaria, without face and base; only where the patch or its
mirror image lies."""

SEEN_MM = 3.2
"""The symmetry network learned on bone averaged over so much."""


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


def completed(shown: Tensor, patch: Tensor) -> Tensor:
    """Skull and patch together: 1 - (1 - a)(1 - b). In bone the patch has no slope, elsewhere one of 1."""
    return 1 - (1 - shown) * (1 - patch)


class SymmetryTerm(nn.Module):
    """SL of the completed skull about the plane that a frozen symmetry network sees in it.

    Args:
        network: (B, 1, 96, 96, 96) cubes -> (B, 3) numbers, see :mod:`calvaria.symmetry.frame`.
        grid: of the volumes; axes along the canonical frame's.
        window: one of `WINDOWS`.

    Raises:
        InputError: an unknown window.
    """

    calvaria: Tensor

    def __init__(self, network: nn.Module, grid: Grid, window: str = "calvaria") -> None:
        super().__init__()
        if window not in WINDOWS:
            raise InputError(f"the window is one of {', '.join(WINDOWS)}; got {window!r}")
        self.network = network.eval().requires_grad_(requires_grad=False)
        self.grid, self.window = grid, window
        points = torch.from_numpy(grid.centres_mm())
        low, high = torch.tensor(REGION_MM, dtype=points.dtype).T
        self.register_buffer("calvaria", ((points >= low) & (points <= high)).all(dim=-1)[None, None].float())
        cube = torch.from_numpy(network_grid().centres_mm()).float()
        self.register_buffer("_cube", cube.reshape(1, -1, 3), persistent=False)

    def planes(self, skull: Tensor) -> Tensor:
        """(B, 4) planes, canonical mm, of (B, 1, X, Y, Z) skulls."""
        batch = len(skull)
        seen = skull
        if self.grid.spacing_mm[0] < 0.75 * SEEN_MM:
            seen = functional.avg_pool3d(functional.pad(skull, (1, 1, 1, 1, 1, 1)), 3, stride=1)
        with torch.no_grad():
            points = torch.from_numpy(self.grid.centres_mm()).to(skull).reshape(-1, 3)
            bone = (skull > 0.5).reshape(batch, -1).to(skull.dtype)
            centre = bone @ points / bone.sum(dim=1, keepdim=True).clamp(min=1)  # (B, 3)
        cubes = read_volumes(seen, self.grid, self.get_buffer("_cube").expand(batch, -1, -1) + centre[:, None])
        planes = planes_of(self.network(cubes.reshape(batch, 1, SIZE, SIZE, SIZE)))
        offset = planes[:, 3:] + (planes[:, :3] * centre).sum(dim=1, keepdim=True)
        return torch.cat([planes[:, :3], offset], dim=1)

    def forward(self, shown: Tensor, logits: Tensor) -> Tensor:
        """(B,) losses of (B, 1, X, Y, Z) defective skulls and logits of their patches."""
        patch = torch.sigmoid(logits)
        skull = completed(shown, patch)
        planes = self.planes(skull)
        mirrored = reflect_volumes(skull, self.grid, planes)
        if self.window == "skull":
            return dice_loss(skull, mirrored)
        if self.window == "calvaria":
            return dice_loss(skull, mirrored, self.calvaria)
        with torch.no_grad():  # a window that could be made smaller would be
            here = completed(patch, reflect_volumes(patch, self.grid, planes))
        return dice_loss(skull, mirrored, here)


__all__ = ["WINDOWS", "SymmetryTerm", "completed", "cross_entropy", "overlap_loss"]
