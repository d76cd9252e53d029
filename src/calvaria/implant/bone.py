"""Bone's surface around an implant, free of the steps of voxels, and distances to it.

It is the half level of the bone's mask blurred by a Gaussian: the same surface is measured against and printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calvaria.reconstruction.surface import crossings, gradients
from calvaria.types import F32, F64, BoolArray
from calvaria.volume.gather import trilinear_at
from calvaria.volume.grid import Grid
from calvaria.volume.mesh import Mesh, extract_surface
from calvaria.volume.resample import resample
from calvaria.volume.volume import Volume

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

SMOOTH_MM = 0.3
"""Sigma of the blur: below a voxel of a head CT. Without it there would be steps; it rounds edges of bone a little."""

LIMIT_MM = 6.0
"""Distances are no more than this."""

FINE_MM = 0.9
"""Wider voxels are divided: the surface's points lie a voxel apart."""

HALF = 0.5

HELD = 0.25
"""Voxels are held so far on their own side of a half: thin bone and notches are there after the blur, too."""


@dataclass(frozen=True, eq=False)
class SmoothBone:
    """Bone as a smooth body.

    Args:
        fraction: the blurred mask, 0 to 1, with air around; bone where it is above a half.
        points_mm: (N, 3) of the surface, world mm, a voxel apart.
        normals: (N, 3) unit, out of the bone.
    """

    fraction: Volume
    points_mm: F64
    normals: F64

    @classmethod
    def of(cls, bone: Volume, smooth_mm: float = SMOOTH_MM, *, finer: bool = True) -> SmoothBone:
        """Blur bone and find its surface.

        Args:
            bone: a mask or fractions, on any grid.
            smooth_mm: sigma of the blur.
            finer: divide voxels wider than `FINE_MM`.
        """
        from scipy.ndimage import gaussian_filter

        sigma = np.minimum(smooth_mm / np.asarray(bone.grid.spacing_mm), 1.0)
        room = (3, 3, 3)
        padded = bone.with_data(bone.data.astype(np.float32)).pad(room, room)
        blurred = gaussian_filter(padded.data, sigma, mode="constant", truncate=3.0)
        if bone.is_mask:
            # Where the blur alone would lose a spike of bone or fill a notch, its voxels' centres stay on their side.
            inside = padded.data > HALF
            blurred = np.where(inside, np.maximum(blurred, HALF + HELD), np.minimum(blurred, HALF - HELD))
        fraction = padded.with_data(blurred.astype(np.float32))
        fraction = _finer(fraction) if finer else fraction
        index = crossings(fraction.data, HALF)
        normals = -gradients(fraction.data, index) @ fraction.grid.inverse[:3, :3]
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
        return cls(fraction, fraction.grid.to_world(index.T), normals)

    def mesh(self) -> Mesh:
        """The surface as closed triangles, outward normals."""
        return extract_surface(self.fraction, HALF)

    def holds(self, points_mm: F64) -> BoolArray:
        """Whether (N, 3) world points lie in bone."""
        index = self.fraction.grid.to_index(points_mm).T
        out: BoolArray = trilinear_at(self.fraction.data.reshape(-1), self.fraction.shape, index) > HALF
        return out

    def near(self, chosen: BoolArray) -> Nearest:
        """Distances to a part of the surface: those of the points."""
        from scipy.spatial import cKDTree

        points = self.points_mm[chosen]
        return Nearest(self, cKDTree(points, leafsize=24, balanced_tree=False, compact_nodes=False))


def _finer(fraction: Volume) -> Volume:
    """The same field on a grid of at most `FINE_MM`, its voxels' centres among the nodes: linear between them."""
    times = np.ceil(np.asarray(fraction.grid.spacing_mm) / FINE_MM).astype(int)
    if (times == 1).all():
        return fraction
    affine = fraction.affine.copy()
    affine[:3, :3] /= times
    i, j, k = ((n - 1) * int(by) + 1 for n, by in zip(fraction.shape, times, strict=True))
    return resample(fraction, Grid((i, j, k), affine))


@dataclass(frozen=True, eq=False)
class Nearest:
    """Distances to bone's surface near some place."""

    bone: SmoothBone
    tree: cKDTree

    def distance_mm(self, points_mm: F64, limit_mm: float = LIMIT_MM) -> F32:
        """(N,) signed distance of (N, 3) world points, negative in bone, cut off at a limit.

        The surface's points are a voxel apart: at 0.7 mm a distance is at most 0.04 mm too large.
        """
        far, _ = self.tree.query(points_mm, distance_upper_bound=limit_mm, workers=2)
        far = np.minimum(far, limit_mm).astype(np.float32)
        out: F32 = np.where(self.bone.holds(points_mm), -far, far)
        return out


__all__ = ["LIMIT_MM", "SMOOTH_MM", "Nearest", "SmoothBone"]
