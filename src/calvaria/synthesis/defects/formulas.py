"""Formulas of shapes as functions of canonical mm, written once for numpy arrays and torch tensors.

Points are (3, N) float32, the three coordinates one after the other; what comes back is of the same kind and on the
same device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calvaria.skull.canonical import LANDMARK_MM, LANDMARK_NORMAL
from calvaria.volume.namespace import Array, namespace_of

GRAIN_MM = 4.0
"""The roughness is correlated like noise smoothed by a Gaussian of this sigma: that of the published warp at 0.4 mm."""

WAVES = 48
"""Plane waves that make up the roughness."""

REACH_SD = 4.0
"""The roughness is cut at this many standard deviations."""


def roughened(field: Array, points: Array, ragged_mm: float, seed: int) -> Array:
    """A field with a rough edge: random plane waves are added near its zero (in place), and only there.

    Args:
        field: (N,) float32 mm, negative inside; changed.
        points: (3, N) canonical mm.
        ragged_mm: standard deviation of the roughness; 0 changes nothing.
        seed: which roughness.
    """
    if ragged_mm > 0:
        xp = namespace_of(points)
        near = xp.abs(field) < REACH_SD * ragged_mm
        field[near] += ragged_mm * roughness(points[:, near], seed)
    return field


def roughness(points: Array, seed: int) -> Array:
    """(N,) smooth noise of unit variance at (3, N) points in mm: random plane waves (Rahimi and Recht 2007)."""
    xp = namespace_of(points)
    rng = np.random.default_rng(seed)
    # White noise smoothed by sigma has covariance exp(-d^2 / 4 sigma^2), so wave vectors of sd 1 / (sqrt(2) sigma).
    waves = rng.normal(scale=1.0 / (np.sqrt(2.0) * GRAIN_MM), size=(WAVES, 3)).astype(np.float32).tolist()
    phases = rng.uniform(0.0, 2.0 * np.pi, size=WAVES).astype(np.float32).tolist()
    noise = xp.zeros_like(points[0])
    for (a, b, c), phase in zip(waves, phases, strict=True):
        noise += xp.cos(a * points[0] + b * points[1] + c * points[2] + phase)
    noise *= float(np.sqrt(2.0 / WAVES))
    return xp.clip(noise, -REACH_SD, REACH_SD)


def above_landmarks(points: Array) -> Array:
    """(N,) mm: how far (3, N) points lie below the landmark plane; negative above it.

    SkullBreak's skulls are cut off at the landmark plane: its defects take the brow, never the orbit's depth.
    """
    a, b, c = LANDMARK_NORMAL.tolist()
    return a * points[0] + b * points[1] + c * points[2] - LANDMARK_MM


def polygon(a: Array, b: Array, vertices: Sequence[tuple[float, float]]) -> Array:
    """(N,) signed distance from points (a, b) of a plane to a simple polygon, negative inside (Quilez 2019).

    Args:
        a: (N,) first coordinate.
        b: (N,) second coordinate.
        vertices: at least three, in either sense.
    """
    xp = namespace_of(a)
    squared, inside = None, None
    for (a0, b0), (a1, b1) in zip(vertices, [*vertices[1:], vertices[0]], strict=True):
        da, db = a1 - a0, b1 - b0
        u, v = a - a0, b - b0
        along = xp.clip((u * da + v * db) * (1.0 / (da * da + db * db)), 0.0, 1.0)
        near = (u - da * along) ** 2 + (v - db * along) ** 2
        squared = near if squared is None else xp.minimum(squared, near)
        # A ray along +a crosses this edge: the point lies between its ends in b, on the side that a points away from.
        crosses = ((v >= 0) != (b >= b1)) & ((v * da > u * db) == (db > 0))
        inside = crosses if inside is None else inside ^ crosses
    distance = xp.sqrt(squared)
    return xp.where(inside, -distance, distance)


def smooth_minimum(a: Array, b: Array, width_mm: float) -> Array:
    """The smaller of both, rounded by a parabola where they differ by less than the width (Quilez 2013)."""
    xp = namespace_of(a)
    overlap = xp.clip(width_mm - xp.abs(a - b), 0.0, None)
    return xp.minimum(a, b) - overlap * overlap * (0.25 / width_mm)


__all__ = [
    "GRAIN_MM",
    "REACH_SD",
    "WAVES",
    "above_landmarks",
    "polygon",
    "roughened",
    "roughness",
    "smooth_minimum",
]
