"""A head whose vault is an ellipsoid with two tables and a diploe, and what surgeons leave in it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from calvaria.volume import Grid, Volume
from calvaria.volume.blocks import block_means, grid_of_blocks

F64 = NDArray[np.float64]

SEMI_AXES_MM = np.array([72.0, 92.0, 78.0])
TABLE, DIPLOE, BRAIN, MUSCLE, FAT, AIR = 1300.0, 600.0, 38.0, 45.0, -90.0, -1000.0
THICK_MM = 7.0
AXIS = np.array([0.75, 0.1, 0.65]) / np.linalg.norm([0.75, 0.1, 0.65])
"""Through the middle of the hole, from the middle of the head."""


class Phantom:
    """HU on a grid, to be changed before it is scanned.

    Args:
        spacing: mm.
    """

    def __init__(self, spacing: tuple[float, float, float] = (1.5, 1.5, 1.5)) -> None:
        self.__dict__ |= _drawn(spacing)
        self.hu = self.hu.copy()

    grid: Grid
    points: F64
    depth: F64
    aside: F64
    hu: F64
    bone: NDArray[np.bool_]

    def _draw(self, spacing: tuple[float, float, float]) -> None:
        low, high = np.array([-92.0, -112.0, -70.0]), np.array([92.0, 112.0, 96.0])
        i, j, k = (int(n) for n in np.ceil((high - low) / spacing))
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = low
        self.grid = Grid((i, j, k), affine)
        self.points = self.grid.centres_mm()
        x, y, _ = np.moveaxis(self.points, -1, 0)
        self.depth = self._depth(self.points)
        density = 1 + 0.12 * np.sin(x / 9) * np.cos(y / 11)
        self.hu = np.full(self.grid.shape, AIR)
        self.hu[self.depth > -7] = FAT
        self.hu[self.depth > -4] = MUSCLE
        self.hu[self.depth > THICK_MM] = BRAIN
        self.bone = (self.depth > 0) & (self.depth <= THICK_MM)
        tables = (self.depth < 2) | (self.depth > THICK_MM - 2)
        self.hu[self.bone] = (np.where(tables, TABLE, DIPLOE) * density)[self.bone]
        along = self.points @ AXIS
        self.aside = np.where(along > 0, np.linalg.norm(self.points - along[..., None] * AXIS, axis=-1), 999.0)

    @staticmethod
    def _depth(points: F64) -> F64:
        rho = np.maximum(np.linalg.norm(points / SEMI_AXES_MM, axis=-1), 1e-3)
        out: F64 = np.linalg.norm(points, axis=-1) * (1 / rho - 1)
        return out

    def fill(self, where: NDArray[np.bool_], hu: float) -> Phantom:
        """Set a value somewhere."""
        self.hu[where] = hu
        return self

    def hole(self, radius_mm: float = 34.0) -> NDArray[np.bool_]:
        """The vault around the axis."""
        return self.bone & (self.aside < radius_mm)

    def flap(self, radius_mm: float, kerf_mm: float, shift_mm: float = 0.0) -> Phantom:
        """Cut a round flap out and put it back, a way off along the axis."""
        moved = self.points - shift_mm * AXIS
        depth, along = self._depth(moved), moved @ AXIS
        aside = np.where(along > 0, np.linalg.norm(moved - along[..., None] * AXIS, axis=-1), 999.0)
        piece = (depth > 0) & (depth <= THICK_MM) & (aside < radius_mm)
        self.hu[self.hole(radius_mm + kerf_mm)] = BRAIN
        self.hu[piece] = np.where((depth < 2) | (depth > THICK_MM - 2), TABLE, DIPLOE)[piece]
        return self

    def scan(self, noise: float = 10.0, thick_mm: float = 0.0) -> Volume:
        """The CT; its slices the means over a thickness, or as thin as they are drawn."""
        hu = gaussian_filter(self.hu, [0.5 / s for s in self.grid.spacing_mm])
        hu += np.random.default_rng(1).normal(0, noise, hu.shape)
        out = Volume(hu, self.grid)
        if thick_mm:
            steps = (1, 1, max(1, round(thick_mm / self.grid.spacing_mm[2])))
            means = block_means(hu, steps)
            out = Volume(means, grid_of_blocks(self.grid, means.shape, steps))
        return out.with_data(np.clip(np.round(out.data), -1024, 3071).astype(np.int16))


@lru_cache(maxsize=2)
def _drawn(spacing: tuple[float, float, float]) -> dict[str, Any]:
    """The attributes of an intact head."""
    head = Phantom.__new__(Phantom)
    head._draw(spacing)
    return head.__dict__


__all__ = ["AXIS", "Phantom"]
