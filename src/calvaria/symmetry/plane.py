"""The mid-sagittal plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import GeometryError

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plane:
    """Points x with ``normal . x = offset_mm``, in world mm.

    Args:
        normal: (3,) of any length but zero; stored as a unit vector.
        offset_mm: offset for the normal as given; stored for the unit vector.

    Raises:
        GeometryError: the normal is not three finite numbers or all zero, or the offset is not finite.

    >>> Plane([2.0, 0.0, 0.0], 10.0).reflect([[6.0, 1.0, 2.0]])
    array([[4., 1., 2.]])
    """

    normal: F64
    offset_mm: float

    def __post_init__(self) -> None:
        normal = np.array(self.normal, dtype=np.float64)
        length = float(np.linalg.norm(normal)) if normal.shape == (3,) else 0.0
        if not np.isfinite(length) or length == 0:
            raise GeometryError(f"a plane needs a normal of three finite numbers, not all zero; got {self.normal}")
        if not np.isfinite(self.offset_mm):
            raise GeometryError(f"a plane's offset is a finite number of mm; got {self.offset_mm}")
        normal /= length
        normal.setflags(write=False)
        object.__setattr__(self, "normal", normal)
        object.__setattr__(self, "offset_mm", float(self.offset_mm) / length)

    def distance_mm(self, points_mm: ArrayLike) -> F64:
        """Signed distance of (..., 3) points, mm, positive where the normal points."""
        return np.asarray(points_mm, dtype=np.float64) @ self.normal - self.offset_mm

    def reflect(self, points_mm: ArrayLike) -> F64:
        """(..., 3) points reflected about the plane."""
        points = np.asarray(points_mm, dtype=np.float64)
        return points - 2.0 * self.distance_mm(points)[..., None] * self.normal

    def angle_deg(self, other: Plane) -> float:
        """Angle between two planes, 0 to 90 degrees."""
        return float(np.degrees(np.arccos(np.clip(abs(self.normal @ other.normal), 0.0, 1.0))))
