"""Trilinear values at scattered points, several times as fast as scipy's general interpolation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calvaria.types import F32

CHUNK = 8192
"""Points read at a time: what they need stays in the processor's cache."""


def trilinear_at(table: F32, shape: tuple[int, int, int], index: NDArray[np.floating]) -> F32:
    """Interpolate between voxel centres; 0 outside the outermost centres.

    Args:
        table: (V,) float32, a volume flat in C order, or (V, C), C volumes side by side, read together.
        shape: (I, J, K) of the volume, at least 2 voxels along each axis.
        index: (3, N) fractional indices.

    Returns:
        (N,) or (N, C) float32.

    >>> trilinear_at(np.arange(8, dtype=np.float32), (2, 2, 2), np.array([[0.5], [0.5], [0.5]])).tolist()
    [3.5]
    """
    count = index.shape[1]
    out = np.empty((count, *table.shape[1:]), np.float32)
    for start in range(0, count, CHUNK):
        out[start : start + CHUNK] = _chunk(table, shape, index[:, start : start + CHUNK])
    return out


def _chunk(table: F32, shape: tuple[int, int, int], index: NDArray[np.floating]) -> F32:
    top = np.array(shape)[:, None] - 1
    inside = ((index >= 0) & (index <= top)).all(axis=0)
    low = np.clip(index, 0, top - 1).astype(np.intp)
    part = (index - low).astype(np.float32)
    x, y, z = part if table.ndim == 1 else part[:, :, None]
    _, ny, nz = shape
    base = (low[0] * ny + low[1]) * nz + low[2]
    out = np.zeros((len(base), *table.shape[1:]), np.float32)
    for i, wx in ((0, 1 - x), (1, x)):
        for j, wy in ((0, 1 - y), (1, y)):
            corner = base + (i * ny + j) * nz
            # All indices are in range; "clip" only spares numpy its own check.
            here = table.take(corner, axis=0, mode="clip")
            step = table.take(corner + 1, axis=0, mode="clip")
            step -= here
            step *= z
            here += step
            here *= wx * wy
            out += here
    out[~inside] = 0
    return out
