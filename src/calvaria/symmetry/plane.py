"""The mid-sagittal plane, and reflection about it: of points, meshes and volumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from calvaria.errors import GeometryError
from calvaria.types import F64
from calvaria.volume.resample import resample
from calvaria.volume.rotation import rotation_matrix
from calvaria.volume.volume import Volume

if TYPE_CHECKING:
    from calvaria.volume.grid import Grid


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

    @property
    def reflection(self) -> F64:
        """(4, 4) map of world points to their mirror images; its own inverse."""
        matrix = np.eye(4)
        matrix[:3, :3] -= 2.0 * np.outer(self.normal, self.normal)
        matrix[:3, 3] = 2.0 * self.offset_mm * self.normal
        return matrix

    def moved(self, world_to_world: ArrayLike) -> Plane:
        """The plane after an affine map of the world, (4, 4).

        Raises:
            GeometryError: the map is singular.

        >>> Plane([1.0, 0.0, 0.0], 10.0).moved(np.diag([2.0, 1.0, 1.0, 1.0])).offset_mm
        20.0
        """
        matrix = np.asarray(world_to_world, np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
            raise GeometryError("a plane is moved by a (4, 4) affine map that can be undone")
        covector = np.append(self.normal, -self.offset_mm) @ np.linalg.inv(matrix)
        return Plane(covector[:3], -float(covector[3]))

    def angle_deg(self, other: Plane) -> float:
        """Angle between two planes, 0 to 90 degrees."""
        # By the sine: the cosine of a small angle has no digits left.
        sine = float(np.linalg.norm(np.cross(self.normal, other.normal)))
        return float(np.degrees(np.arctan2(sine, abs(self.normal @ other.normal))))

    def apart_mm(self, other: Plane, point_mm: ArrayLike) -> float:
        """How far apart two planes lie at a point, mm: the middle of the head, where a tilt does not count twice."""
        point = np.asarray(point_mm, np.float64)
        sign = 1.0 if self.normal @ other.normal >= 0 else -1.0
        return float(abs(self.distance_mm(point) - sign * other.distance_mm(point)))


def onto_plane(to_world: F64, plane: Plane) -> F64:
    """A frame turned and shifted as little as possible until its x = 0 is a plane.

    Args:
        to_world: (4, 4) rigid, frame -> world mm.
        plane: in world mm; whichever way its normal points, x keeps its side.

    Returns:
        (4, 4) rigid, frame -> world mm. Turned about its origin, which then moves along the normal.
    """
    out = np.array(to_world, np.float64)
    x = out[:3, 0]
    sign = 1.0 if plane.normal @ x >= 0 else -1.0
    normal, offset_mm = sign * plane.normal, sign * plane.offset_mm
    axis = np.cross(x, normal)
    sine = float(np.linalg.norm(axis))
    if sine > 0:
        out[:3, :3] = rotation_matrix(axis / sine * np.arctan2(sine, x @ normal)) @ out[:3, :3]
    out[:3, 3] += (offset_mm - normal @ out[:3, 3]) * normal
    return out


def reflect_volume(volume: Volume, plane: Plane, grid: Grid | None = None) -> Volume:
    """The mirror image of a volume.

    Args:
        volume: any; a mask is read as 0 and 1.
        plane: what it is reflected about.
        grid: of the result; the volume's own by default.

    Returns:
        float32, trilinear, 0 where the mirror image lies outside of the volume. Threshold a reflected mask at 0.5.
    """
    # The mirror image is the same voxels on a reflected grid: exact; only bringing it to the wanted grid interpolates.
    there = Volume(volume.data.astype(np.float32), volume.grid.moved(plane.reflection))
    return resample(there, volume.grid if grid is None else grid)
