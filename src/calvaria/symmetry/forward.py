"""The forward pass of the vision transformer in NumPy: it is a few matrix products.

So the plane is found in the plain installation, without torch or another run time. It computes what
:class:`calvaria.symmetry.network.SymmetryNetwork` computes with the encoder "vit"; tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np

from calvaria.types import F32

Weights = Mapping[str, F32]

EPSILON = 1e-5
"""Of the layer norms, torch's."""


def vit_numbers(weights: Weights, heads: int, cube: F32) -> F32:
    """The plane's three parameters that a trained vision transformer predicts from a cube.

    Args:
        weights: its parameters by their names in torch, float32.
        heads: of its attention.
        cube: (96, 96, 96) bone fractions.

    Returns:
        (3,) parameters of the plane, see :mod:`calvaria.symmetry.frame`.
    """
    x = _gelu(_norm(_patches(cube, 4, weights, "encoder.patches.linear"), weights, "encoder.norm_1"))
    x = _gelu(_norm(_convolved(x, weights, "encoder.stem_1"), weights, "encoder.norm_2"))
    tokens = _convolved(x, weights, "encoder.stem_2")
    tokens = tokens.reshape(-1, tokens.shape[-1]) + weights["encoder.place"][0]
    depth = 0
    while f"encoder.blocks.{depth}.qkv.weight" in weights:
        tokens = _block(tokens, weights, f"encoder.blocks.{depth}", heads)
        depth += 1
    features = _linear(_norm(tokens, weights, "encoder.norm"), weights, "encoder.told").reshape(-1)
    return _linear(_gelu(_linear(features, weights, "hidden")), weights, "numbers")


def _block(tokens: F32, weights: Weights, name: str, heads: int) -> F32:
    count, width = tokens.shape
    qkv = _linear(_norm(tokens, weights, f"{name}.norm_1"), weights, f"{name}.qkv")
    query, key, value = qkv.reshape(count, 3, heads, width // heads).transpose(1, 2, 0, 3)
    score = query @ key.transpose(0, 2, 1) * np.float32((width // heads) ** -0.5)
    score = np.exp(score - score.max(axis=-1, keepdims=True))
    score /= score.sum(axis=-1, keepdims=True)
    mixed = (score @ value).transpose(1, 0, 2).reshape(count, width)
    tokens = tokens + _linear(mixed, weights, f"{name}.out")
    wide = _gelu(_linear(_norm(tokens, weights, f"{name}.norm_2"), weights, f"{name}.wide"))
    return tokens + _linear(wide, weights, f"{name}.narrow")


def _linear(x: F32, weights: Weights, name: str) -> F32:
    out: F32 = x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    return out


def _norm(x: F32, weights: Weights, name: str) -> F32:
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(EPSILON))
    out: F32 = centred / scale * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return out


def _gelu(x: F32) -> F32:
    from scipy.special import erf

    out: F32 = x * (erf(x * np.float32(0.5**0.5)) + 1) * np.float32(0.5)
    return out


def _patches(cube: F32, edge: int, weights: Weights, name: str) -> F32:
    """(X, Y, Z) -> (X / e, Y / e, Z / e, C): features of the patches of a cube and of its mirror image, summed."""
    i, j, k = (n // edge for n in cube.shape)
    parts = cube.reshape(i, edge, j, edge, k, edge).transpose(0, 2, 4, 1, 3, 5)
    features = _linear(parts.reshape(-1, edge**3), weights, name)  # one product, not one for each row
    own, mirrored = np.split(features.reshape(i, j, k, -1), 2, axis=-1)
    out: F32 = own + mirrored[::-1]
    return out


def _convolved(x: F32, weights: Weights, name: str) -> F32:
    """A convolution of width 3 and stride 2 with a border of zeros: (X, Y, Z, C) -> (X / 2, Y / 2, Z / 2, C')."""
    kernel = weights[f"{name}.weight"]  # (C', C, 3, 3, 3)
    i, j, k = (n // 2 for n in x.shape[:3])
    padded = np.pad(x, ((1, 1), (1, 1), (1, 1), (0, 0)))
    seen = np.concatenate(
        [padded[a : a + 2 * i : 2, b : b + 2 * j : 2, c : c + 2 * k : 2] for a, b, c in product(range(3), repeat=3)],
        axis=-1,
    )
    flat = kernel.transpose(2, 3, 4, 1, 0).reshape(-1, len(kernel))
    out: F32 = seen.reshape(i * j * k, -1) @ flat + weights[f"{name}.bias"]
    return out.reshape(i, j, k, -1)


__all__ = ["vit_numbers"]
