"""Where a scan ends: the planes that cut a skull, beyond which nothing is known.

A head scan stops somewhere below the orbits or the jaw. The cut is a flat face of the bone's convex hull, far larger
than any face of a natural head; finding it there works after any rotation and resampling, where the file's grid says
nothing about it. Where bone runs into a face of the file's grid, the scan ends there as well, whichever way it faces;
poses are found without those: their robust weights tolerate what is missing, and mistaken for lower ends such faces
turned heads upside down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from calvaria.types import F64, BoolArray
from calvaria.volume.volume import Volume

FLAT_DEG = 5.0
"""Hull facets whose normals differ by less belong to one face."""

FLAT_MM = 2.5
"""... and whose offsets differ by less."""

MIN_FACE_MM2 = 4500.0
"""A hull face larger than this is a cut: vertex and temples have less than 2500 mm2, cuts 9000 to 25000."""

MIN_END_MM2 = 50.0
"""More bone than this in the outermost layer of voxels: the grid cuts the skull there. A vertex cut off by 5 mm shows
1500 mm2, the tip of a nose or the screw of an ear less than this; of 85 skulls none shows any but at its lower end."""


@dataclass(frozen=True, eq=False)
class CutPlane:
    """Beyond ``normal . x = offset_mm`` the scan shows nothing; the normal points outwards."""

    normal: F64
    offset_mm: float

    def moved(self, transform: F64) -> CutPlane:
        """The plane in another frame, by a rigid 4 x 4 map."""
        normal = transform[:3, :3] @ self.normal
        return CutPlane(normal, float(self.offset_mm + normal @ transform[:3, 3]))


def cut_planes(bone: Volume) -> tuple[CutPlane, ...]:
    """Planes at which the scan of a skull ends, largest first.

    Args:
        bone: (I, J, K) float, bone fraction of blocks of a few mm.

    Returns:
        Planes in world mm, at the outer edge of the outermost bone; none for a skull that ends nowhere abruptly.
    """
    from scipy.spatial import ConvexHull, QhullError

    index = np.argwhere(bone.data > 0.25)
    if len(index) < 100:
        return ()
    try:
        hull = ConvexHull(bone.grid.to_world(index))
    except QhullError:
        return ()
    corners = hull.points[hull.simplices]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    return tuple(_settled(plane, bone) for plane in _faces(hull.equations, areas))


def grid_ends(mask: Volume, counts: Callable[[F64], BoolArray] | None = None) -> tuple[CutPlane, ...]:
    """Those faces of a scan's grid that cut its bone.

    Args:
        mask: bone on the whole grid of the scan, any affine; not cropped to the bone, which touches every face then.
        counts: says of (N, 3) world points whether bone there matters; all does by default.

    Returns:
        Planes in world mm at the outer edge of the outermost voxels; none if the bone touches no face.
    """
    bone, grid = mask.mask, mask.grid
    # A row of the inverse is the covector that is constant on the layers of its axis.
    planes = []
    for axis, row in enumerate(grid.inverse[:3]):
        length = float(np.linalg.norm(row[:3]))
        area_mm2 = grid.voxel_volume_mm3 * length  # of a voxel's face across this axis
        for sign, layer in ((-1.0, 0), (1.0, grid.shape[axis] - 1)):
            index = np.insert(np.argwhere(np.moveaxis(bone, axis, 0)[layer]), axis, layer, axis=1)
            touching = len(index) if counts is None else np.count_nonzero(counts(grid.to_world(index)))
            if touching * area_mm2 > MIN_END_MM2:
                edge = layer + 0.5 * sign - row[3]
                planes.append(CutPlane(sign * row[:3] / length, float(sign * edge / length)))
    return tuple(planes)


def _settled(plane: CutPlane, bone: Volume) -> CutPlane:
    """The plane moved to where the bone ends: the hull only passes through the centres of outermost blocks with bone.

    A slab just inside has the cut's cross-section; the bone beyond it, divided by that, is how far the bone goes on.
    """
    index = np.argwhere(bone.data > 0)
    fraction = bone.data[tuple(index.T)].astype(np.float64)
    depth = bone.grid.to_world(index) @ plane.normal
    # How far one block reaches along the normal, about.
    width = float(np.abs(plane.normal @ bone.affine[:3, :3]).sum())
    start = plane.offset_mm - 1.5 * width

    def beyond(offset_mm: float) -> float:
        return float(fraction @ np.clip((depth - offset_mm) / width + 0.5, 0.0, 1.0))

    slab = beyond(start - width) - beyond(start)
    if slab <= 0:
        return plane
    return CutPlane(plane.normal, start + width * min(beyond(start) / slab, 3.0))


def _faces(equations: F64, areas: F64) -> list[CutPlane]:
    """Group coplanar facets greedily, the largest facet first; keep the large groups."""
    free = np.ones(len(areas), bool)
    planes: list[CutPlane] = []
    cosine = np.cos(np.radians(FLAT_DEG))
    for seed in np.argsort(-areas)[:20]:
        if not free[seed]:
            continue
        normal, offset = equations[seed, :3], -equations[seed, 3]
        for _ in range(3):
            one = free & (equations[:, :3] @ normal > cosine) & (np.abs(-equations[:, 3] - offset) < 4 * FLAT_MM)
            if not one.any():
                break
            normal = (equations[one, :3] * areas[one, None]).sum(0)
            normal /= np.linalg.norm(normal)
            offset = float(-(equations[one, 3] * areas[one]).sum() / areas[one].sum())
        if areas[one].sum() > MIN_FACE_MM2:
            planes.append(CutPlane(normal, offset))
        free &= ~one
    return planes
