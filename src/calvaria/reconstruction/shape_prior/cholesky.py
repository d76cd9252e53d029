"""The Cholesky factor of a large system, in tiles that two threads share.

With thousands of unknowns it takes long enough to be worth a second thread. A linear algebra library with two threads
of its own is as fast, but its threads wait by spinning, and two cases at a time on two cores slow each other down.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from calvaria.types import F32

TILES = 10
"""Tiles along an edge: with more the products are small, with fewer a thread waits for the other."""

MIN_TILED = 1000
"""Smaller systems are factored without tiles."""


def factor_lower(system: F32) -> None:
    """Replace the lower triangle of a symmetric, positive definite system by its Cholesky factor.

    Args:
        system: (N, N) float32; what lies above the diagonal is neither read nor, outside the diagonal's tiles, written.

    Raises:
        LinAlgError: the system is not positive definite.
    """
    from scipy.linalg import cholesky, solve_triangular

    count = len(system)
    ends = np.linspace(0, count, (TILES if count >= MIN_TILED else 1) + 1).astype(int).tolist()
    tiles = [slice(start, stop) for start, stop in pairwise(ends)]
    with ThreadPoolExecutor(2) as pool:
        for done, tile in enumerate(tiles):
            corner = cholesky(system[tile, tile], lower=True, check_finite=False)
            # The corner's upper triangle is written as zeros; nothing reads it later.
            system[tile, tile] = corner
            below = tiles[done + 1 :]

            def solve(rows: slice, tile: slice = tile, corner: F32 = corner) -> None:
                system[rows, tile] = solve_triangular(corner, system[rows, tile].T, lower=True, check_finite=False).T

            def subtract(rows: slice, tile: slice = tile) -> None:
                columns = slice(tile.stop, rows.stop)
                system[rows, columns] -= system[rows, tile] @ system[columns, tile].T

            for _ in pool.map(solve, below):
                pass
            for _ in pool.map(subtract, reversed(below)):  # the longest first
                pass


__all__ = ["factor_lower"]
