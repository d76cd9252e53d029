"""The symmetry loss as a term of training: SL of the completed skull, about the plane of a frozen network.

Wodzinski et al., eq. 2: the loss of Seg-SN is Dice(Rec, truth) + alpha SL(V with Rec). Gradients flow into the
reconstruction along two paths, through the skull that is mirrored and through the plane of the mirror. The equation
itself is in :func:`calvaria.symmetry.loss.symmetry_loss`; here are the plane, and the window that is compared.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from calvaria.errors import InputError
from calvaria.symmetry.frame import SIZE, network_grid
from calvaria.symmetry.loss import symmetry_loss
from calvaria.symmetry.network import planes_of
from calvaria.symmetry.reflection import read_volumes, reflect_volumes
from calvaria.volume.grid import Grid
from calvaria.volume.sampler import Region

WINDOWS = ("skull", "calvaria", "patch")
"""Where the two sides are compared: everywhere; in the calvaria, without face and base; only where the patch or its
mirror image lies."""

SEEN_MM = 3.2
"""Edge over which bone was averaged when the symmetry network was trained."""


def completed(shown: Tensor, patch: Tensor) -> Tensor:
    """Skull and patch together: 1 - (1 - a)(1 - b). In bone the patch has no gradient, elsewhere one of 1."""
    return 1 - (1 - shown) * (1 - patch)


class SymmetryTerm(nn.Module):
    """SL of completed skulls.

    Args:
        network: (B, 1, 96, 96, 96) cubes -> (B, 3) parameters of a plane, see :mod:`calvaria.symmetry.frame`; frozen.
        grid: of the volumes; axes along the canonical frame's.
        region_mm: canonical mm: where the window "calvaria" compares the sides.
        window: one of `WINDOWS`.

    Raises:
        InputError: an unknown window.
    """

    calvaria: Tensor

    def __init__(self, network: nn.Module, grid: Grid, region_mm: Region, window: str = "calvaria") -> None:
        super().__init__()
        if window not in WINDOWS:
            raise InputError(f"the window is one of {', '.join(WINDOWS)}; got {window!r}")
        self.network = network.eval().requires_grad_(requires_grad=False)
        self.grid, self.window = grid, window
        points = torch.from_numpy(grid.centres_mm())
        low, high = torch.tensor(region_mm, dtype=points.dtype).T
        self.register_buffer("calvaria", ((points >= low) & (points <= high)).all(dim=-1)[None, None].float())
        cube = torch.from_numpy(network_grid().centres_mm()).float()
        self.register_buffer("_cube", cube.reshape(1, -1, 3), persistent=False)

    def planes(self, skull: Tensor) -> Tensor:
        """(B, 4) planes, canonical mm, of (B, 1, X, Y, Z) skulls."""
        batch = len(skull)
        seen = skull
        if self.grid.spacing_mm[0] < 0.75 * SEEN_MM:
            seen = functional.avg_pool3d(functional.pad(skull, (1, 1, 1, 1, 1, 1)), 3, stride=1)
        with torch.no_grad():  # where the head lies has no gradient: a threshold decides what is bone
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
        return symmetry_loss(skull, self.grid, planes, self._weights(patch, planes))

    def _weights(self, patch: Tensor, planes: Tensor) -> Tensor | None:
        """The window as weights of the voxels, (B or 1, 1, X, Y, Z); None: all alike."""
        if self.window == "skull":
            return None
        if self.window == "calvaria":
            return self.calvaria
        with torch.no_grad():  # a window that could be made smaller would be
            return completed(patch, reflect_volumes(patch, self.grid, planes))


__all__ = ["SEEN_MM", "WINDOWS", "SymmetryTerm", "completed"]
