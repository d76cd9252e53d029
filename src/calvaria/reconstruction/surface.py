"""Where a skull's bone ends, found once on its own grid, and how far the nodes of any box lie from there.

The common box has voxels of 1.6 mm, and the walls of orbits and sinuses are thinner. A surface interpolated
between such voxels loses them, or puts them elsewhere in every subject. So bone's surface is taken from the scan's own
voxels, as points with normals, and only the distances to it are sampled on the box's grid.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calvaria.reconstruction.box import FINE_MM, TRUNCATION_MM, BoxField, box_grid, box_to_world, scale_of
from calvaria.skull.canonical import CanonicalFrame
from calvaria.types import F32, F64, BoolArray
from calvaria.volume.grid import Grid
from calvaria.volume.resample import coarsen, resample
from calvaria.volume.sampler import known_mask
from calvaria.volume.volume import Volume

if TYPE_CHECKING:
    from scipy.spatial import cKDTree


HALF = 0.4999
"""Bone fraction at its surface; a hair below a half, or plates of two voxels that fall into two blocks were lost."""

BLUR_MM = 1.1
"""Normals are those of bone blurred by this: a mask has a voxel staircase."""

STRAIGHT_MM, STRAIGHT = 1.9, 1.2
"""Nearer to a surface than the first, or than the second times the scan's widest voxel edge, a distance is measured
along the surface's normal: its points are a voxel apart."""

NEAR_MM = 3.2
"""Nodes nearer than this to a voxel with surface in it use the nearest point itself; others use that voxel's mean."""


@dataclass(frozen=True, eq=False)
class BoneSurface:
    """The surface of a skull's bone, in world mm.

    Args:
        fraction: bone fractions on the skull's own grid, about `FINE_MM` or what was asked for, with air around.
        points_mm: (S, 3) where edges of that grid cross the half level.
        normals: (S, 3) unit vectors into bone; 0 where there is no gradient.
        tree: of the points; None if there are none.
    """

    fraction: Volume
    points_mm: F64
    normals: F64
    tree: cKDTree | None

    @classmethod
    def of(cls, bone: Volume, fine_mm: float = FINE_MM) -> BoneSurface:
        """Find the surface.

        Args:
            bone: a mask or fractions, on any grid; may be cropped to what matters.
            fine_mm: blocks of voxels about so wide are averaged first; with less than a voxel none are.
        """
        from scipy.ndimage import gaussian_filter
        from scipy.spatial import cKDTree

        fraction = coarsen(bone, fine_mm).pad((1, 1, 1), (1, 1, 1))
        index = crossings(fraction.data, HALF)
        blurred = gaussian_filter(fraction.data, BLUR_MM / np.asarray(fraction.grid.spacing_mm))
        # In index space the gradient is a covector: it goes to the world by the inverse's transpose.
        normals = gradients(blurred, index) @ fraction.grid.inverse[:3, :3]
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
        points = fraction.grid.to_world(index.T)
        # Half as long to build as a balanced tree, and as fast to ask.
        tree = cKDTree(points, leafsize=24, balanced_tree=False, compact_nodes=False) if len(points) else None
        return cls(fraction, points, normals, tree)

    def in_box(self, frame: CanonicalFrame, *, exact: bool = True) -> BoxField:
        """The skull in the common box of its frame.

        Args:
            frame: which.
            exact: as for `distances`.
        """
        grid = box_grid().moved(box_to_world(frame))
        distance = self.distances(grid, TRUNCATION_MM, exact=exact)
        known = known_mask(Volume(distance, grid), [cut.moved(frame.to_world) for cut in frame.cuts])
        return BoxField(distance, known, scale_of(frame))

    def distances(self, grid: Grid, limit_mm: float, *, exact: bool = True) -> F32:
        """Signed distances at the voxel centres of a grid.

        Args:
            grid: where; its axes must be at right angles.
            limit_mm: distances are cut off here.
            exact: near the surface too, where else they are those to the mean of a voxel's points: some tenths of a mm
                off, in half the time.

        Returns:
            (I, J, K) float32, world mm, negative in bone.
        """
        with ThreadPoolExecutor(1) as beside:
            soft = beside.submit(resample, self.fraction, grid)
            out = self._unsigned(grid, limit_mm, exact=exact)
            return np.where(soft.result().data > HALF, -out, out)

    def _unsigned(self, grid: Grid, limit_mm: float, *, exact: bool) -> F32:
        """The distances of `distances` without their sign."""
        out = np.full(grid.shape, limit_mm, np.float32)
        if self.tree is None:
            return out
        voxels = _Voxels.of(self.points_mm, self.normals, grid)
        if voxels.filled.any():
            apart, seed = voxels.nearest()
            out = voxels.distances(apart, seed, limit_mm)
            if exact:
                near = apart < NEAR_MM
                out[near] = self._near(self.tree, grid.to_world(np.argwhere(near)))
        return np.minimum(out, np.float32(limit_mm))

    def _near(self, tree: cKDTree, points_mm: F64) -> F32:
        """Distances of points that lie near the surface, without sign."""
        apart, foot = tree.query(points_mm, workers=2)
        along = np.abs(np.einsum("nk,nk->n", points_mm - self.points_mm[foot], self.normals[foot]))
        widest = max(STRAIGHT_MM, STRAIGHT * max(self.fraction.grid.spacing_mm))
        straight = (apart < widest) & self.normals[foot].any(axis=1)
        out: F32 = np.where(straight, np.minimum(along, apart), apart).astype(np.float32)
        return out


def to_box(bone: Volume, frame: CanonicalFrame) -> BoxField:
    """Bring bone into the common box.

    Args:
        bone: a mask or fractions on any grid; may be cropped to what lies in the box.
        frame: its canonical frame.
    """
    return BoneSurface.of(bone).in_box(frame)


@dataclass(frozen=True, eq=False)
class _Voxels:
    """Voxels of a grid before and behind the surface, and the mean of its points next to each.

    Args:
        filled: (I, J, K) whether there is any.
        middle: (3, V) float32, that mean, in voxels off the centre; 0 where there is none.
        step_mm: (3,) voxel edges.
    """

    filled: BoolArray
    middle: F32
    step_mm: F64

    @classmethod
    def of(cls, points_mm: F64, normals: F64, grid: Grid) -> _Voxels:
        step = np.linalg.norm(grid.affine[:3, :3], axis=0)
        index = grid.to_index(points_mm)
        # Half a voxel to either side: two layers separate better which points are nearest.
        aside = normals @ (grid.affine[:3, :3] / step) / 2
        both = np.concatenate([index, index])
        voxel = np.rint(np.concatenate([index - aside, index + aside])).astype(np.intp)
        here = ((voxel >= 0) & (voxel < np.array(grid.shape))).all(axis=1)
        flat = np.ravel_multi_index(tuple(voxel[here].T), grid.shape)
        count = np.bincount(flat, minlength=grid.size)
        off = (both[here] - voxel[here]).T
        total = np.stack([np.bincount(flat, axis, minlength=grid.size) for axis in off]).astype(np.float32)
        middle = np.asarray(total / np.maximum(count, 1), np.float32)
        return cls((count > 0).reshape(grid.shape), middle, step)

    def nearest(self) -> tuple[F32, NDArray[Any]]:
        """Distance from each voxel's centre to that of the nearest one with surface, and which that is."""
        from scipy.ndimage import distance_transform_edt

        apart, seed = distance_transform_edt(~self.filled, sampling=tuple(self.step_mm), return_indices=True)
        return apart.astype(np.float32), seed

    def distances(self, apart_mm: F32, seed: NDArray[Any], limit_mm: float) -> F32:
        """Distance to the mean of the nearest voxel's points; more than the limit is not made exact."""
        out = apart_mm.copy()
        close = np.flatnonzero(apart_mm < limit_mm + 2 * self.step_mm.max())
        there = seed.reshape(3, -1)[:, close]
        own = np.stack(np.unravel_index(close, apart_mm.shape)).astype(np.float32)
        off = own - there.astype(np.float32) - self.middle[:, np.ravel_multi_index(tuple(there), apart_mm.shape)]
        out.reshape(-1)[close] = np.linalg.norm(off * self.step_mm[:, None].astype(np.float32), axis=0)
        return out


def crossings(values: F32, level: float) -> F64:
    """(3, S) indices, between voxel centres along one axis each, where a field crosses a level."""
    below = values < level
    found = []
    for axis in range(3):
        low = tuple(slice(0, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        crossed = np.nonzero(below[low] != below[high])
        before, after = values[low][crossed], values[high][crossed]
        index = np.stack(crossed).astype(np.float64)
        index[axis] += (level - before) / (after - before)
        found.append(index)
    return np.concatenate(found, axis=1)


def gradients(values: F32, index: F64) -> F64:
    """(S, 3) central differences at the voxels nearest to (3, S) indices."""
    voxel = np.stack([np.clip(np.rint(i).astype(np.intp), 1, n - 2) for i, n in zip(index, values.shape, strict=True)])
    strides = (values.shape[1] * values.shape[2], values.shape[2], 1)
    flat, at = values.reshape(-1), np.tensordot(strides, voxel, 1)
    return np.stack([flat[at + step] - flat[at - step] for step in strides], axis=1).astype(np.float64) / 2


__all__ = ["BoneSurface", "crossings", "gradients", "to_box"]
