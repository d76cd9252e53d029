"""RUNet, the residual U-Net of Wodzinski et al.: sizes and steps as in the code that they published (MWod/AutoImplant).

The paper names "RUNet" and leaves its sizes open; that the published network is meant is inferred. It has no block and
no skip connection at full resolution, so it is four to five times cheaper than a plain U-Net of as many parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from calvaria.errors import InputError

NEGATIVE_SLOPE = 0.01
"""Slope of the leaky rectifiers below zero."""

SPACE = (2, 3, 4)
"""The last three axes of a batch."""


@dataclass(frozen=True)
class RUNetSettings:
    """Sizes of a RUNet.

    Args:
        width: channels of the first step down; each of the next three has twice as many. 16 is the published one.

    Raises:
        InputError: a width below 1.
    """

    width: int = 16

    def __post_init__(self) -> None:
        if self.width < 1:
            raise InputError(f"width is 1 channel or more; got {self.width}")


class ChannelNorm(nn.GroupNorm):
    """A norm over each channel of each head: a group norm whose groups are single channels.

    In training on a CPU its gradient is written out here: torch's own takes nearly half of a step.

    Args:
        channels: of its input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) -> the same shape."""
        if x.is_cuda or not (torch.is_grad_enabled() and x.requires_grad):
            return super().forward(x)
        out: Tensor = _Normed.apply(x, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        return out


class _Normed(torch.autograd.Function):
    """y = w (x - mean) / sd + b, mean and sd over the last three axes; statistics in 32 bits at least."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        variance, mean = torch.var_mean(wide, SPACE, correction=0, keepdim=True)
        over_sd, weight = torch.rsqrt(variance + eps), _along_channels(weight)
        ctx.save_for_backward(x, mean, over_sd, weight)
        scale = over_sd * weight
        return torch.addcmul((_along_channels(bias) - mean * scale).to(x.dtype), x, scale.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, mean, over_sd, weight = ctx.saved_tensors
        (dy,) = given
        n = x[0, 0].numel()
        # With z = (x - mean) / sd: sums of dy and of dy z, which are the gradients of b and w.
        of_bias = dy.sum(SPACE, keepdim=True, dtype=mean.dtype)
        of_weight = ((dy * x).sum(SPACE, keepdim=True, dtype=mean.dtype) - mean * of_bias) * over_sd
        # dx = w / sd (dy - mean(dy) - z mean(dy z)), its terms gathered as a dy + k x + c.
        a = weight * over_sd
        k = -a * over_sd * of_weight / n
        c = -a * of_bias / n - k * mean
        dx = torch.addcmul(torch.addcmul(c.to(x.dtype), x, k.to(x.dtype)), dy, a.to(x.dtype))
        return dx, of_weight.sum(dim=(0, *SPACE)), of_bias.sum(dim=(0, *SPACE)), None


def _along_channels(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _after(channels: int) -> tuple[nn.Module, nn.Module]:
    """What follows a convolution: a norm over each channel of each head, and the rectifier."""
    return ChannelNorm(channels), nn.LeakyReLU(NEGATIVE_SLOPE)


class ResidualBlock(nn.Module):
    """Two convolutions, and a third of width 1 around them."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv3d(before, after, 3, padding=1),
            *_after(after),
            nn.Conv3d(after, after, 3, padding=1),
            *_after(after),
        )
        self.around = nn.Conv3d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) -> (B, C', X, Y, Z)."""
        out: Tensor = self.main(x) + self.around(x)
        return out


def _down(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(before, after, 4, stride=2, padding=1), *_after(after))


def _up(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose3d(before, after, 4, stride=2, padding=1), *_after(after))


class RUNet(nn.Module):
    """Defective skull -> logits of the missing bone.

    Args:
        channels: of the input: the defective skull, and what else is given.
        settings: its sizes.
    """

    def __init__(self, channels: int = 1, settings: RUNetSettings | None = None) -> None:
        super().__init__()
        w = (settings or RUNetSettings()).width
        self.down_1 = _down(channels, w)
        self.down_2 = nn.Sequential(ResidualBlock(w, 2 * w), _down(2 * w, 2 * w))
        self.down_3 = nn.Sequential(ResidualBlock(2 * w, 4 * w), ResidualBlock(4 * w, 4 * w), _down(4 * w, 4 * w))
        self.down_4 = nn.Sequential(ResidualBlock(4 * w, 8 * w), ResidualBlock(8 * w, 8 * w), _down(8 * w, 8 * w))
        self.up_4 = nn.Sequential(ResidualBlock(8 * w, 16 * w), ResidualBlock(16 * w, 16 * w), _up(16 * w, 8 * w))
        self.up_3 = nn.Sequential(ResidualBlock(12 * w, 4 * w), _up(4 * w, 4 * w))
        self.up_2 = nn.Sequential(ResidualBlock(6 * w, 2 * w), _up(2 * w, 2 * w))
        self.up_1 = nn.Sequential(ResidualBlock(3 * w, w), _up(w, w))
        self.last = nn.Conv3d(w, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) -> (B, 1, X, Y, Z) logits; 16 voxels along each axis or more."""
        half = self.down_1(x)
        quarter = self.down_2(half)
        eighth = self.down_3(quarter)
        y = _beside(self.up_4(self.down_4(eighth)), eighth)
        y = _beside(self.up_3(y), quarter)
        y = _beside(self.up_2(y), half)
        out: Tensor = self.last(_fitted(self.up_1(y), x))
        return out


def _fitted(x: Tensor, like: Tensor) -> Tensor:
    """With zeros at the far ends, where halving dropped an odd voxel."""
    missing = [n - m for n, m in zip(like.shape[2:], x.shape[2:], strict=True)]
    return functional.pad(x, [v for n in reversed(missing) for v in (0, n)]) if any(missing) else x


def _beside(x: Tensor, skip: Tensor) -> Tensor:
    return torch.cat([_fitted(x, skip), skip], dim=1)


__all__ = ["ChannelNorm", "RUNet", "RUNetSettings", "ResidualBlock"]
