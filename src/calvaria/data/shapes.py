"""The shape of a synthetic defect: balls joined smoothly, with a roughened edge, as a function of canonical mm."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import InputError
from calvaria.skull.canonical import LANDMARK_MM, LANDMARK_NORMAL

FloatArray = NDArray[np.floating[Any]]

KINDS = ("bilateral", "frontoorbital", "parietotemporal", "random_1", "random_2", "ball")
"""The five kinds of SkullBreak, and the plain ball."""

BLEND_MM = 4.0
"""Creases between balls are rounded over this width, as healing does."""

GRAIN_MM = 4.0
"""The roughness is correlated like noise smoothed by a Gaussian of this sigma: that of the published warp at 0.4 mm."""

WAVES = 48
"""Plane waves that make up the roughness."""

REACH_SD = 4.0
"""The roughness is cut at this many standard deviations."""


@dataclass(frozen=True)
class DefectSpec:
    """One defect's shape, in canonical mm.

    Args:
        kind: one of ``KINDS``.
        balls_mm: centre and radius (x, y, z, r) of each ball.
        ragged_mm: standard deviation of the edge's roughness; 0 for a smooth edge.
        ragged_seed: which roughness.

    Raises:
        InputError: an unknown kind, no ball, or a ball without a positive radius.
    """

    kind: str
    balls_mm: tuple[tuple[float, float, float, float], ...]
    ragged_mm: float = 0.0
    ragged_seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"a defect's kind is one of {', '.join(KINDS)}; got {self.kind!r}")
        balls = np.array(self.balls_mm, dtype=float)
        if balls.ndim != 2 or balls.shape[1] != 4 or not np.isfinite(balls).all() or not (balls[:, 3] > 0).all():
            raise InputError(f"a defect needs balls (x, y, z, radius > 0) in mm; got {self.balls_mm}")
        if not self.ragged_mm >= 0:
            raise InputError(f"the roughness of a defect's edge is at least 0 mm; got {self.ragged_mm}")

    def to_json(self) -> str:
        """The spec as one line of JSON; :meth:`from_json` gives it back exactly."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> DefectSpec:
        """The spec that :meth:`to_json` wrote.

        Raises:
            InputError: the text is not a spec.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            values["balls_mm"] = tuple(tuple(float(v) for v in ball) for ball in values["balls_mm"])
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a defect spec: {error}; see DefectSpec.to_json") from None

    def field_mm(self, points_mm: ArrayLike) -> FloatArray:
        """Signed distance, roughly, to the shape's edge.

        Args:
            points_mm: (N, 3) canonical mm.

        Returns:
            (N,) float32 mm, negative inside the shape. Exact for one smooth ball; elsewhere the edge is right and the
            distance is within the roughness and the blend.
        """
        points = np.ascontiguousarray(np.asarray(points_mm, dtype=np.float32).T)
        field = _distance(points, self.balls_mm[0])
        for ball in self.balls_mm[1:]:
            field = _smooth_minimum(field, _distance(points, ball))
        if self.ragged_mm > 0:
            band = np.flatnonzero(np.abs(field) < REACH_SD * self.ragged_mm)
            field[band] += np.float32(self.ragged_mm) * _roughness(points[:, band], self.ragged_seed)
        # SkullBreak's skulls are cut off at the landmark plane: its defects take the brow, never the orbit's depth.
        floor = LANDMARK_NORMAL.astype(np.float32) @ points - np.float32(LANDMARK_MM)
        shape: FloatArray = np.maximum(field, floor)
        return shape

    def bounds_mm(self) -> FloatArray:
        """(2, 3) canonical mm: a box that holds the whole shape."""
        balls = np.array(self.balls_mm)
        reach = balls[:, 3:] + BLEND_MM + REACH_SD * self.ragged_mm
        bounds: FloatArray = np.stack([(balls[:, :3] - reach).min(axis=0), (balls[:, :3] + reach).max(axis=0)])
        return bounds


def _distance(points: FloatArray, ball: tuple[float, float, float, float]) -> FloatArray:
    """(N,) mm from (3, N) points to a ball, negative inside."""
    x, y, z, radius = (np.float32(value) for value in ball)
    distance: FloatArray = np.sqrt((points[0] - x) ** 2 + (points[1] - y) ** 2 + (points[2] - z) ** 2) - radius
    return distance


def _smooth_minimum(a: FloatArray, b: FloatArray) -> FloatArray:
    """The smaller of both, rounded by a parabola where they differ by less than the blend (Quilez 2013)."""
    overlap = np.maximum(np.float32(BLEND_MM) - np.abs(a - b), np.float32(0))
    smooth: FloatArray = np.minimum(a, b) - overlap * overlap * np.float32(0.25 / BLEND_MM)
    return smooth


def _roughness(points: FloatArray, seed: int) -> FloatArray:
    """(N,) smooth noise of unit variance at (3, N) points in mm: random plane waves (Rahimi and Recht 2007)."""
    rng = np.random.default_rng(seed)
    # White noise smoothed by sigma has covariance exp(-d^2 / 4 sigma^2), so wave vectors of sd 1 / (sqrt(2) sigma).
    waves = rng.normal(scale=1.0 / (np.sqrt(2.0) * GRAIN_MM), size=(WAVES, 3)).astype(np.float32)
    phases = rng.uniform(0.0, 2.0 * np.pi, size=WAVES).astype(np.float32)
    noise = np.zeros(points.shape[1], np.float32)
    for wave, phase in zip(waves, phases, strict=True):
        noise += np.cos(wave[0] * points[0] + wave[1] * points[1] + wave[2] * points[2] + phase)
    noise *= np.float32(np.sqrt(2.0 / WAVES))
    return np.clip(noise, -REACH_SD, REACH_SD, out=noise)


__all__ = ["BLEND_MM", "GRAIN_MM", "KINDS", "DefectSpec"]
