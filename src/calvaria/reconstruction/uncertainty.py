"""How far the completed surface may lie elsewhere: an engine's own spread, calibrated on skulls whose bone is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from calvaria.models.calibration import LEVELS, SurfaceCalibration
from calvaria.reconstruction.box import box_grid, box_to_world
from calvaria.reconstruction.protocol import SoftField
from calvaria.reconstruction.surface import gradients
from calvaria.skull.canonical import CanonicalFrame
from calvaria.types import F64, BoolArray

SPREAD_NEIGHBOURS = 4
"""Between points, the spread is a mean of so many, weighted by the inverse of their distance."""

SOFTENED_MM = 0.5
"""... to which this is added."""

MAX_OFF_MM = 3.0
"""The surface that is blended of several fits lies so near to that of the first."""

MEDIAN_CM2, SIZE_POWER = 50.0, 0.3
"""Patches larger than the first are off by more than their own fit knows: by their area over it, to this power. Found
on validation persons; 0.2 and 0.4 hold nearly as well."""

SPOKEN_SHARE = 0.9
"""Share of the outer surface that a result speaks of."""


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """How far a completed surface may lie elsewhere along its normal.

    Args:
        points_mm: (N, 3) points along the surface, world mm.
        outer: (N,) whether a point lies on the outer table; the others lie on the inner.
        sd_mm: (N,) the engine's own standard deviation, mm, larger for large holes.
        calibration: what that has meant.
    """

    points_mm: F64
    outer: BoolArray
    sd_mm: F64
    calibration: SurfaceCalibration

    @classmethod
    def of(
        cls, soft: SoftField, frame: CanonicalFrame, calibration: SurfaceCalibration | None, area_cm2: float
    ) -> Self | None:
        """That of a completion; None where its engine cannot say, or was not calibrated.

        Args:
            soft: the completion.
            frame: its frame.
            calibration: of its engine.
            area_cm2: of all holes together.
        """
        if soft.spread is None or calibration is None:
            return None
        grid = box_grid()
        index = grid.to_index(soft.spread.points_mm)
        # Pieces may have been dropped since.
        there = soft.distance_mm[tuple(np.rint(index).astype(int).T)] < MAX_OFF_MM
        if not there.any():
            return None
        points, sd_mm = soft.spread.points_mm[there], soft.spread.sd_mm[there]
        out = gradients(soft.distance_mm, index[there].T)
        # Seen from the middle of the head, the outer table faces away.
        outer = np.einsum("nk,nk->n", out, points) > 0
        to_world = box_to_world(frame)
        placed = points @ to_world[:3, :3].T + to_world[:3, 3]
        larger = (max(area_cm2, MEDIAN_CM2) / MEDIAN_CM2) ** SIZE_POWER
        return cls(placed, outer, sd_mm.astype(np.float64) * larger, calibration)

    def half_width_mm(self, level: float) -> F64:
        """(N,) half the width of the interval that holds the true surface with this probability.

        Args:
            level: one of `LEVELS`.
        """
        number = LEVELS.index(level)
        calibrated = self.calibration
        return self.sd_mm * np.where(self.outer, calibrated.outer[number], calibrated.inner[number])

    def at(self, points_mm: NDArray[np.floating], level: float) -> F64:
        """The same at any points near the surface.

        Args:
            points_mm: (P, 3) world mm.
            level: one of `LEVELS`.
        """
        from scipy.spatial import cKDTree

        count = min(SPREAD_NEIGHBOURS, len(self.points_mm))
        apart, nearest = cKDTree(self.points_mm).query(points_mm, k=[*range(1, count + 1)])
        weight = 1 / (apart + SOFTENED_MM)
        return np.asarray((self.half_width_mm(level)[nearest] * weight).sum(axis=1) / weight.sum(axis=1))

    def outer_within_mm(self, share: float = SPOKEN_SHARE) -> float:
        """How far off the true outer surface is expected to be at most, on a share of the patch.

        Each point's distance has the calibrated distribution: known at `LEVELS`, straight between them.
        """
        sd = self.sd_mm[self.outer] if self.outer.any() else self.sd_mm
        ends = self.calibration.outer
        steps = np.array([0.0, *ends, 2 * ends[-1]])
        shares = np.array([0.0, *LEVELS, 1.0])
        low, high = 0.0, float(2 * ends[-1] * sd.max())
        for _ in range(40):
            middle = (low + high) / 2
            if np.interp(middle / np.maximum(sd, 1e-6), steps, shares).mean() < share:
                low = middle
            else:
                high = middle
        return high


__all__ = ["SPOKEN_SHARE", "Uncertainty"]
