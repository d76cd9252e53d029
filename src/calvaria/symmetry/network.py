"""The symmetry network SN: an encoder and a regressor that predict a skull's mid-sagittal plane.

Wodzinski et al. name a 3-D vision transformer and a 3-D ResNet as encoders and leave their sizes open; these are small
enough for a laptop. Input and output are explained in :mod:`calvaria.symmetry.frame`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from calvaria.errors import InputError
from calvaria.symmetry.frame import ARMS_MM, SIZE, UNIT_MM
from calvaria.symmetry.reflection import unit_planes

ENCODERS = ("vit", "resnet")
"""Names of the encoders."""

TOKEN_FEATURES = 16
"""Features of each token of the transformer that the regressor is given.

The mean over all tokens, as in image classification, was tried: three tokens in four hold no bone, and nothing was
learned in 2000 samples, with small random position codes or with waves; given one by one, the loss fell within 600."""

HIDDEN = 128
"""Width of the regressor."""


@dataclass(frozen=True)
class ViTSettings:
    """A vision transformer (Dosovitskiy et al. 2021) with a convolutional stem (Xiao et al. 2021).

    Args:
        width: of a token; one stands for 16^3 voxels.
        depth: blocks.
        heads: of attention.
        stem: channels of the stem's first step; the second has twice as many.
    """

    width: int = 128
    depth: int = 6
    heads: int = 4
    stem: int = 32


@dataclass(frozen=True)
class ResNetSettings:
    """A 3-D ResNet-18 (He et al. 2016), thin, with group norms.

    Args:
        widths: channels of the stages, each of half the resolution.
        blocks: residual blocks in each.
        groups: of the group norms.
    """

    widths: tuple[int, ...] = (16, 32, 64, 128)
    blocks: int = 2
    groups: int = 8


class Patches(nn.Module):
    """Patches of a cube and of its mirror image, each pair as one vector.

    A convolution over both, whose stride is its width. The mirror image is never made: its patches are the cube's own,
    in mirrored order, and which weight meets which voxel is learned.

    Args:
        after: channels of the vector.
        edge: voxels along a patch.
    """

    def __init__(self, after: int, edge: int) -> None:
        super().__init__()
        self.edge = edge
        self.linear = nn.Linear(edge**3, 2 * after)

    def forward(self, cubes: Tensor) -> Tensor:
        """(B, X, Y, Z) -> (B, X / e, Y / e, Z / e, C); channels last."""
        batch, *size = cubes.shape
        i, j, k = (n // self.edge for n in size)
        e = self.edge
        blocks = cubes.reshape(batch, i, e, j, e, k, e).permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, i, j, k, e**3)
        own, mirrored = self.linear(blocks).chunk(2, dim=-1)
        out: Tensor = own + mirrored.flip(1)
        return out


class Block(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        batch, count, width = tokens.shape
        qkv = self.qkv(self.norm_1(tokens)).reshape(batch, count, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (B, H, T, W / H) each
        mixed = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.out(mixed.transpose(1, 2).reshape(batch, count, width))
        moved: Tensor = self.narrow(functional.gelu(self.wide(self.norm_2(tokens))))
        return tokens + moved


def waves(count: int, width: int) -> Tensor:
    """(count^3, width) position code of each token: sines and cosines along three axes, to be read linearly.

    Small random codes, as for images, cannot be separated with these few data: nothing is learned then.
    """
    along = (torch.arange(count) + 0.5) / count - 0.5
    rates = math.pi * 2.0 ** torch.linspace(0, math.log2(count), width // 6)
    one = torch.cat([torch.sin(along[:, None] * rates), torch.cos(along[:, None] * rates)], dim=1)  # (count, W / 3)
    parts = [one[where.reshape(-1)] for where in torch.meshgrid(*[torch.arange(count)] * 3, indexing="ij")]
    return functional.pad(torch.cat(parts, dim=1), (0, width - 3 * one.shape[1]))


class ViTEncoder(nn.Module):
    """A cube of bone -> one feature vector."""

    def __init__(self, settings: ViTSettings) -> None:
        super().__init__()
        self.width = TOKEN_FEATURES * (SIZE // 16) ** 3
        self.patches = Patches(settings.stem, 4)
        self.stem_1 = nn.Conv3d(settings.stem, 2 * settings.stem, 3, stride=2, padding=1)
        self.stem_2 = nn.Conv3d(2 * settings.stem, settings.width, 3, stride=2, padding=1)
        self.norm_1, self.norm_2 = nn.LayerNorm(settings.stem), nn.LayerNorm(2 * settings.stem)
        self.place = nn.Parameter(waves(SIZE // 16, settings.width)[None])
        self.blocks = nn.ModuleList(Block(settings.width, settings.heads) for _ in range(settings.depth))
        self.norm, self.told = nn.LayerNorm(settings.width), nn.Linear(settings.width, TOKEN_FEATURES)

    def forward(self, cubes: Tensor) -> Tensor:
        """(B, 96, 96, 96) -> (B, W)."""
        x = functional.gelu(self.norm_1(self.patches(cubes)))  # (B, 24, 24, 24, C)
        x = self.stem_1(x.movedim(-1, 1)).movedim(1, -1)  # (B, 12, 12, 12, 2 C)
        x = functional.gelu(self.norm_2(x))
        tokens = self.stem_2(x.movedim(-1, 1)).flatten(2).transpose(1, 2)  # (B, T, W)
        tokens = tokens + self.place
        for block in self.blocks:
            tokens = block(tokens)
        features: Tensor = self.told(self.norm(tokens)).flatten(1)
        return features


class Residual(nn.Module):
    """Two convolutions and the connection around them."""

    def __init__(self, before: int, after: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv3d(before, after, 3, stride=stride, padding=1, bias=False)
        self.conv_2 = nn.Conv3d(after, after, 3, padding=1, bias=False)
        self.norm_1, self.norm_2 = nn.GroupNorm(groups, after), nn.GroupNorm(groups, after)
        self.around: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.around = nn.Conv3d(before, after, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) -> (B, C', X', Y', Z')."""
        moved = self.norm_2(self.conv_2(functional.relu(self.norm_1(self.conv_1(x)))))
        return functional.relu(moved + self.around(x))


class ResNetEncoder(nn.Module):
    """A cube of bone -> one feature vector."""

    def __init__(self, settings: ResNetSettings) -> None:
        super().__init__()
        self.width = settings.widths[-1]
        first = settings.widths[0]
        self.stem, self.norm = Patches(first, 4), nn.GroupNorm(settings.groups, first)
        layers: list[nn.Module] = []
        before = first
        for stage, width in enumerate(settings.widths):
            for block in range(settings.blocks):
                stride = 2 if stage and not block else 1
                layers.append(Residual(before, width, stride, settings.groups))
                before = width
        self.layers = nn.Sequential(*layers)

    def forward(self, cubes: Tensor) -> Tensor:
        """(B, 96, 96, 96) -> (B, W)."""
        x = functional.relu(self.norm(self.stem(cubes).movedim(-1, 1).contiguous()))
        pooled: Tensor = self.layers(x).mean(dim=(2, 3, 4))
        return pooled


class SymmetryNetwork(nn.Module):
    """Cubes of bone -> the three parameters of a plane each.

    Args:
        encoder: "vit" or "resnet".
        settings: of the encoder; its defaults where None.
    """

    def __init__(self, encoder: str = "vit", settings: ViTSettings | ResNetSettings | None = None) -> None:
        super().__init__()
        self.encoder: ViTEncoder | ResNetEncoder
        if encoder == "vit" and not isinstance(settings, ResNetSettings):
            self.encoder = ViTEncoder(settings or ViTSettings())
        elif encoder == "resnet" and not isinstance(settings, ViTSettings):
            self.encoder = ResNetEncoder(settings or ResNetSettings())
        else:
            raise InputError(f"the encoder is one of {', '.join(ENCODERS)}, with its settings; got {encoder!r}")
        self.hidden, self.numbers = nn.Linear(self.encoder.width, HIDDEN), nn.Linear(HIDDEN, 3)
        # The first answer is the plane x = 0 of the cube, which is nearly right for most heads.
        nn.init.zeros_(self.numbers.weight)
        nn.init.zeros_(self.numbers.bias)

    def forward(self, cubes: Tensor) -> Tensor:
        """(B, 1, 96, 96, 96) bone fractions -> (B, 3) parameters."""
        numbers: Tensor = self.numbers(functional.gelu(self.hidden(self.encoder(cubes[:, 0]))))
        return numbers


def settings_of(encoder: str, values: Mapping[str, Any]) -> ViTSettings | ResNetSettings:
    """The settings of an encoder as a file's header names them.

    Raises:
        InputError: an encoder, or a setting of it, that this version does not know.
    """
    try:
        if encoder == "vit":
            return ViTSettings(**values)
        if encoder == "resnet":
            return ResNetSettings(**{**values, "widths": tuple(values["widths"])})
    except (TypeError, KeyError) as error:
        raise InputError(f"the weights were made by another version: {error}") from None
    raise InputError(f"the encoder is one of {', '.join(ENCODERS)}; got {encoder!r}")


def planes_of(numbers: Tensor) -> Tensor:
    """(B, 4) planes, in mm from the cube's centre, of (B, 3) parameters."""
    mm = numbers * UNIT_MM
    one = torch.ones_like(mm[:, :1])
    return unit_planes(torch.cat([one, -mm[:, :2] / mm.new_tensor(ARMS_MM), mm[:, 2:]], dim=1))


__all__ = ["ENCODERS", "ResNetSettings", "SymmetryNetwork", "ViTSettings", "planes_of", "settings_of"]
