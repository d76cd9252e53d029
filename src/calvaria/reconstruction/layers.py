"""The layers of a small convolutional network, in numpy: what the core runs without a deep-learning framework.

All take and give (C, X, Y, Z) float32 and compute what torch's layers of the same names do.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

CHUNK = 1024
"""Voxels convolved at a time: their neighbours in all channels stay in the processor's cache."""

SLOPE, GROUPS, EPSILON = 0.05, 4, 1e-5
"""Of `leaky`, and of `normed`."""


def conv(x: F32, weight: F32, bias: F32) -> F32:
    """A convolution of 3 x 3 x 3 with zeros around the volume.

    Args:
        x: (C, X, Y, Z).
        weight: (D, C, 3, 3, 3).
        bias: (D,).

    Returns:
        (D, X, Y, Z).
    """
    channels, nx, ny, nz = x.shape
    padded = np.zeros((channels, nx + 2, ny + 2, nz + 2), np.float32)
    padded[:, 1:-1, 1:-1, 1:-1] = x
    flat = padded.reshape(channels, -1)
    # In flat order a neighbour is a fixed number of places away; what is computed for the border is thrown away.
    sy = nz + 2
    sx = sy * (ny + 2)
    steps = [i * sx + j * sy + k for i, j, k in product((-1, 0, 1), repeat=3)]
    matrix = np.ascontiguousarray(weight.transpose(0, 2, 3, 4, 1).reshape(len(weight), -1))
    out = np.empty((len(weight), flat.shape[1]), np.float32)
    around = np.empty((27 * channels, CHUNK), np.float32)
    first, end = sx + sy + 1, nx * sx + ny * sy + nz + 1
    for start in range(first, end, CHUNK):
        count = min(CHUNK, end - start)
        for row, step in enumerate(steps):
            around[row * channels : (row + 1) * channels, :count] = flat[:, start + step : start + step + count]
        np.matmul(matrix, around[:, :count], out=out[:, start : start + count])
    inner = out.reshape(-1, nx + 2, ny + 2, nz + 2)[:, 1:-1, 1:-1, 1:-1]
    return np.asarray(inner + bias[:, None, None, None], np.float32)


def halved(x: F32, weight: F32, bias: F32) -> F32:
    """A convolution of 2 x 2 x 2 with stride 2: (C, X, Y, Z) by (D, C, 2, 2, 2) -> (D, X/2, Y/2, Z/2)."""
    c, nx, ny, nz = x.shape
    blocks = x.reshape(c, nx // 2, 2, ny // 2, 2, nz // 2, 2).transpose(0, 2, 4, 6, 1, 3, 5).reshape(8 * c, -1)
    out = weight.reshape(len(weight), -1) @ blocks + bias[:, None]
    return out.reshape(len(weight), nx // 2, ny // 2, nz // 2)


def doubled(x: F32, weight: F32, bias: F32) -> F32:
    """Its transpose: (C, X, Y, Z) by (C, D, 2, 2, 2) -> (D, 2 X, 2 Y, 2 Z)."""
    c, nx, ny, nz = x.shape
    many = weight.reshape(c, -1).T @ x.reshape(c, -1)
    parts = many.reshape(-1, 2, 2, 2, nx, ny, nz).transpose(0, 4, 1, 5, 2, 6, 3)
    return parts.reshape(-1, 2 * nx, 2 * ny, 2 * nz) + bias[:, None, None, None]


def point(x: F32, weight: F32, bias: F32) -> F32:
    """A convolution of 1 x 1 x 1: (C, X, Y, Z) by (D, C, 1, 1, 1) -> (D, X, Y, Z)."""
    out = weight.reshape(len(weight), -1) @ x.reshape(len(x), -1) + bias[:, None]
    return out.reshape(-1, *x.shape[1:])


def normed(x: F32, weight: F32, bias: F32) -> F32:
    """Group normalisation, in `GROUPS` groups of channels."""
    flat = x.reshape(GROUPS, -1)
    mean = flat.mean(axis=1, dtype=np.float64)
    spread = np.sqrt(np.maximum(np.einsum("gn,gn->g", flat, flat) / flat.shape[1] - mean**2, 0) + EPSILON)
    each = len(x) // GROUPS
    gain = weight / np.repeat(spread, each)
    shift = bias - np.repeat(mean, each) * gain
    return np.asarray(x * gain[:, None, None, None] + shift[:, None, None, None], np.float32)


def leaky(x: F32) -> F32:
    """Leaky rectification, in place."""
    np.maximum(x, np.float32(SLOPE) * x, out=x)
    return x


__all__ = ["conv", "doubled", "halved", "leaky", "normed", "point"]
