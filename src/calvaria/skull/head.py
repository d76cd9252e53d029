"""The model head, in canonical mm: its centre, and an ellipsoid about the outer vault on which defects are placed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from calvaria.types import FloatArray
from calvaria.volume.namespace import Array, namespace_of

HEAD_CENTRE_MM = np.array([0.0, 0.0, 10.0])
"""The one centre of heads: about the middle of the braincase, on the mid-sagittal plane so that mirror images stay
simple. Outwards is the direction from here; heads are rotated, scaled and deformed about it. The coordinates
hold in a head's own canonical mm, and in those scaled to the mean skull's size (the common box): the caller
says which."""
HEAD_CENTRE_MM.setflags(write=False)

HEAD_HALF_AXES_MM = np.array([70.0, 88.0, 70.0])
"""An ellipsoid about the outer vault in the canonical frame; defects are placed on it."""


def direction(azimuth_deg: float, elevation_deg: float) -> FloatArray:
    """(3,) unit vector: azimuth 0 to the front and 90 to the left, elevation 90 straight up."""
    a, e = np.radians([azimuth_deg, elevation_deg])
    return np.array([np.cos(e) * np.sin(a), -np.cos(e) * np.cos(a), np.sin(e)])


def on_head(azimuth_deg: float, elevation_deg: float) -> FloatArray:
    """(3,) canonical mm: the point of the model head in a direction (of the ellipsoid stretched to a ball)."""
    point: FloatArray = HEAD_CENTRE_MM + HEAD_HALF_AXES_MM * direction(azimuth_deg, elevation_deg)
    return point


def normals(points_mm: ArrayLike) -> FloatArray:
    """(..., 3) unit outward normals of the model head's family of ellipsoids at (..., 3) points; not at its centre."""
    gradient = (np.asarray(points_mm, np.float64) - HEAD_CENTRE_MM) / HEAD_HALF_AXES_MM**2
    out: FloatArray = gradient / np.linalg.norm(gradient, axis=-1, keepdims=True)
    return out


def bend_radius_mm(point_mm: ArrayLike, normal: ArrayLike) -> float:
    """Radius of the sphere that bends like the model head at one of its points: of its mean curvature."""
    inverse = 1.0 / HEAD_HALF_AXES_MM**2
    n = np.asarray(normal, np.float64)
    gradient = float(np.linalg.norm((np.asarray(point_mm, np.float64) - HEAD_CENTRE_MM) * inverse))
    # Normal curvature along a tangent t: t.D t / gradient, D the diagonal of inverse squares; two tangents sum to this.
    return 2.0 * gradient / float(inverse.sum() - n @ (inverse * n))


def below_surface(points: Array) -> Array:
    """(N,) mm that (3, N) points lie below the model head's surface, right to first order there; negative outside."""
    xp = namespace_of(points)
    (x, y, z), (a, b, c) = HEAD_CENTRE_MM.tolist(), HEAD_HALF_AXES_MM.tolist()
    u, v, w = (points[0] - x) / a, (points[1] - y) / b, (points[2] - z) / c
    rho = xp.sqrt(u * u + v * v + w * w)
    gradient = xp.sqrt((u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2)
    return (1.0 - rho) * rho / xp.clip(gradient, 1e-6, None)


__all__ = [
    "HEAD_CENTRE_MM",
    "HEAD_HALF_AXES_MM",
    "below_surface",
    "bend_radius_mm",
    "direction",
    "normals",
    "on_head",
]
