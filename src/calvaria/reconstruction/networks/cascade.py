"""The cascade of Kodym, Spanel and Herout (2021): a coarse network of the whole head, a fine one of windows of it.

Both have two heads, one for the patch and one for the implant (eq. 3-6). The coarse network g sees the defective skull
and its mirror image; the fine network f sees a window of the skull at full resolution and the same window of both
coarse answers, upscaled. Both answers are soft.

The paper gives the initial channels (12), the resolutions and the heads. Depth, blocks, norms and the way of going up
and down are ours: those of `runet`. Where the paper has a softmax of two classes there is one logit here: it says the
same. This project's own form differs by what `Form` lists, each alone if wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from calvaria.reconstruction.networks.cascade_inputs import prior_logit
from calvaria.reconstruction.networks.forms import BRANCHES, FIRST_LOGIT, Form
from calvaria.reconstruction.networks.runet import ResidualBlock, _beside, _down, _fitted, _up

PATCH_HEAD = BRANCHES.index("patch")
"""The head that corrects the shape prior where a network stands behind it."""


class Stage(nn.Module):
    """One network of the cascade: a U-Net, and a head for each of `BRANCHES`.

    Args:
        channels: of its input.
        form: its sizes.
    """

    def __init__(self, channels: int, form: Form) -> None:
        super().__init__()
        widths = [form.width * 2**level for level in range(form.depth)]
        steps = list(pairwise(widths))
        w = form.width
        self.halved = form.halved
        self.first = _down(channels, w) if form.halved else ResidualBlock(channels, w)
        self.downs = nn.ModuleList(nn.Sequential(_down(a, a), ResidualBlock(a, b)) for a, b in steps)
        self.ups = nn.ModuleList(_up(b, a) for a, b in reversed(steps))
        self.joins = nn.ModuleList(ResidualBlock(2 * a, a) for a, _ in reversed(steps))
        self.last = _up(w, w) if form.halved else nn.Identity()
        self.heads = nn.ModuleList(_head(w) for _ in BRANCHES)

    def features(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) -> (B, width, X, Y, Z)."""
        y = self.first(x)
        skips = []
        for down in self.downs:
            skips.append(y)
            y = down(y)
        for up, join, skip in zip(self.ups, self.joins, reversed(skips), strict=True):
            y = join(_beside(up(y), skip))
        return _fitted(self.last(y), x)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) -> (B, 2, X, Y, Z) logits in the order of `BRANCHES`, about -4 before it is trained."""
        shared = self.features(x)
        return torch.cat([head(shared) for head in self.heads], dim=1) + FIRST_LOGIT


def _head(width: int) -> nn.Sequential:
    """As published: convolution, rectifier, convolution, with as many features as the last layer before it."""
    return nn.Sequential(nn.Conv3d(width, width, 3, padding=1), nn.ReLU(), nn.Conv3d(width, 1, 1))


class CascadeNet(nn.Module):
    """Both networks.

    Args:
        form: which, see `calvaria.reconstruction.networks.forms`.
    """

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form
        if not form.behind:
            self.coarse = Stage(form.coarse_channels, form)
        self.fine = Stage(form.fine_channels, form)
        if form.behind:
            for part in self.fine.heads[PATCH_HEAD][-1].parameters():  # type: ignore[index]
                nn.init.zeros_(part)  # nothing is corrected yet

    def refine(self, window: Tensor, maps: Tensor, start: Tensor, zoom: int, depth: Tensor | None = None) -> Tensor:
        """The fine answer of windows.

        Args:
            window: (B, 1, W, W, W) the skull at full resolution.
            maps: (B, C, X, Y, Z) on the coarse grid: both coarse answers, and what else `Form` has.
            start: (B, 3) first voxel of each window on the full grid.
            zoom: voxels of the full grid along a coarse one.
            depth: (B, 1, W, W, W) of the prior's completion, see `missing_depth`; for a network behind it.

        Returns:
            (B, 2, W, W, W) logits, differentiable in window and maps.
        """
        x, y, z = window.shape[2:]
        shown = [window] if depth is None else [window, depth]
        if maps.shape[1]:
            shown.append(upscaled(maps, start, (x, y, z), zoom))
        out: Tensor = self.fine(torch.cat(shown, dim=1))
        if depth is None:
            return out
        begun = prior_logit(depth[:, 0])
        return torch.cat([(out[:, PATCH_HEAD] + begun)[:, None], out[:, 1:]], dim=1)


def upscaled(maps: Tensor, start: Tensor, size: tuple[int, int, int], zoom: int) -> Tensor:
    r"""Windows of coarse maps at full resolution, trilinear; beyond the grid its edge goes on.

    Args:
        maps: (B, C, X, Y, Z).
        start: (B, 3) first voxel of each window on the full grid; may lie outside.
        size: voxels of a window.
        zoom: voxels of the full grid along a coarse one.

    Returns:
        (B, C, \*size); differentiable in the maps.
    """
    axes = []
    for axis, (count, coarse) in enumerate(zip(size, maps.shape[2:], strict=True)):
        index = start[:, axis, None] + torch.arange(count, device=maps.device)  # (B, W)
        # -1 and 1 are the outer faces of the first and last coarse voxel.
        axes.append((2 * (index + 0.5) / (zoom * coarse) - 1).to(maps.dtype))
    x, y, z = axes
    shape = (len(maps), *size)
    where = torch.stack(
        [z[:, None, None, :].expand(shape), y[:, None, :, None].expand(shape), x[:, :, None, None].expand(shape)], -1
    )
    return functional.grid_sample(maps, where, padding_mode="border", align_corners=False)


def make_cascade(about: Mapping[str, Any]) -> CascadeNet:
    """An untrained cascade of the form that a weights file tells; arguments and errors as for `Form.of`."""
    return CascadeNet(Form.of(about))


__all__ = ["CascadeNet", "Stage", "make_cascade", "upscaled"]
