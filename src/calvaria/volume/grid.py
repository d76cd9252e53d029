"""Where voxels lie in the world: a shape and an affine, nothing else.

World coordinates are LPS millimetres. The affine takes voxel *centres* ``(i, j, k, 1)`` to world mm; any
invertible 3 x 3 part is legal (oblique, flipped, sheared, anisotropic).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import GeometryError

Box = tuple[slice, slice, slice]
"""Index ranges along the three axes, with plain non-negative starts and stops."""

SAME_GRID_ATOL_MM = 1e-3
"""Two grids are the same when no corner voxel of one lies further than this from its twin: files keep 5-7 digits."""

MIN_SINE = 0.05
"""Axes closer than about 3 degrees to one plane span no usable volume; gantry tilts reach 30 degrees, not 87."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape and position of a voxel grid.

    Args:
        shape: (I, J, K), each at least 1.
        affine: (4, 4) voxel centre -> world LPS mm; invertible, finite, last row 0 0 0 1.

    Raises:
        GeometryError: the shape is not three positive whole numbers, or the affine is not usable.

    >>> grid = Grid((2, 3, 4), np.diag([0.5, 0.5, 2.0, 1.0]))
    >>> grid.spacing_mm
    (0.5, 0.5, 2.0)
    >>> grid.voxel_volume_mm3
    0.5
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1 or shape != tuple(self.shape):
            raise GeometryError(f"a grid needs three axes of at least one voxel; got {tuple(self.shape)}")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4):
            raise GeometryError(f"an affine is 4 x 4; got {affine.shape}")
        if not np.isfinite(affine).all():
            raise GeometryError("the affine has NaN or infinite entries")
        if not np.array_equal(affine[3], [0.0, 0.0, 0.0, 1.0]):
            raise GeometryError("the last row of an affine is 0 0 0 1")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if not (lengths > 0).all():
            raise GeometryError(f"voxel spacing must be positive; got {tuple(float(v) for v in lengths)} mm")
        if abs(np.linalg.det(affine[:3, :3] / lengths)) < MIN_SINE:
            raise GeometryError("the directions are singular: the three axes do not span space")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def isotropic(cls, shape: tuple[int, int, int], spacing_mm: float, origin_mm: ArrayLike = (0.0, 0.0, 0.0)) -> Grid:
        """A grid along the world's axes; ``origin_mm`` is the centre of voxel (0, 0, 0)."""
        affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
        affine[:3, 3] = origin_mm
        return cls(shape, affine)

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Edge length of a voxel along each axis, mm."""
        a, b, c = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(a), float(b), float(c)

    @cached_property
    def voxel_volume_mm3(self) -> float:
        """Volume of a voxel, mm3 (positive whatever the handedness)."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @cached_property
    def inverse(self) -> NDArray[np.float64]:
        """(4, 4) world LPS mm -> voxel index."""
        inverse = np.asarray(np.linalg.inv(self.affine), dtype=np.float64)
        inverse.setflags(write=False)
        return inverse

    @property
    def size(self) -> int:
        """Number of voxels."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @cached_property
    def is_orthogonal(self) -> bool:
        """Whether the axes are at right angles, so that spacing alone describes distances."""
        unit = self.affine[:3, :3] / np.asarray(self.spacing_mm)
        return bool(np.abs(unit.T @ unit - np.eye(3)).max() < 1e-4)

    def to_world(self, index: ArrayLike) -> NDArray[np.float64]:
        """World mm of (..., 3) voxel indices, which may be fractional."""
        world: NDArray[np.float64] = np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]
        return world

    def to_index(self, world_mm: ArrayLike) -> NDArray[np.float64]:
        """Fractional voxel indices of (..., 3) world points, mm."""
        index: NDArray[np.float64] = (
            np.asarray(world_mm, dtype=np.float64) @ self.inverse[:3, :3].T + self.inverse[:3, 3]
        )
        return index

    def centres_mm(self) -> NDArray[np.float64]:
        """(I, J, K, 3) world mm of every voxel's centre: for coarse grids, it takes 24 bytes a voxel."""
        return self.to_world(np.moveaxis(np.indices(self.shape), 0, -1))

    def corners_mm(self) -> NDArray[np.float64]:
        """(8, 3) world mm of the corner voxels' centres."""
        ends = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)])
        return self.to_world(ends * (np.array(self.shape) - 1))

    def same_as(self, other: Grid, atol_mm: float = SAME_GRID_ATOL_MM) -> bool:
        """Whether both grids have one shape, and every voxel the same position within ``atol_mm``."""
        if self.shape != other.shape:
            return False
        return bool(np.abs(self.corners_mm() - other.corners_mm()).max() <= atol_mm)

    def require_same(self, other: Grid, what: str = "the two volumes") -> None:
        """Raise unless both grids are the same.

        Raises:
            GeometryError: with the shapes, or by how many mm the corners differ.
        """
        if self.shape != other.shape:
            raise GeometryError(f"{what} must lie on one grid; their shapes are {self.shape} and {other.shape}")
        if not self.same_as(other):
            off = float(np.abs(self.corners_mm() - other.corners_mm()).max())
            raise GeometryError(f"{what} must lie on one grid; their corners are up to {off:.3g} mm apart")

    def crop(self, box: Box) -> Grid:
        """The part of the grid inside ``box``; every kept voxel keeps its position.

        Raises:
            GeometryError: the box is empty, or has steps.
        """
        ranges = [s.indices(n) for s, n in zip(box, self.shape, strict=True)]
        if any(step != 1 for _, _, step in ranges):
            raise GeometryError("a crop takes whole ranges; use coarsen for steps")
        affine = self.affine.copy()
        affine[:3, 3] = self.to_world([start for start, _, _ in ranges])
        i, j, k = (max(stop - start, 0) for start, stop, _ in ranges)
        return Grid((i, j, k), affine)

    def pad(self, before: tuple[int, int, int], after: tuple[int, int, int]) -> Grid:
        """The grid with voxels added (negative: removed) at both ends of each axis.

        Raises:
            GeometryError: nothing is left.
        """
        affine = self.affine.copy()
        affine[:3, 3] = self.to_world([-b for b in before])
        i, j, k = (n + b + a for n, b, a in zip(self.shape, before, after, strict=True))
        return Grid((i, j, k), affine)

    def permute(self, order: tuple[int, int, int]) -> Grid:
        """The grid with its axes reordered; every voxel keeps its position.

        Raises:
            GeometryError: ``order`` is not a permutation of 0, 1, 2.
        """
        if sorted(order) != [0, 1, 2]:
            raise GeometryError(f"an axis order is a permutation of 0, 1, 2; got {order}")
        i, j, k = (self.shape[a] for a in order)
        return Grid((i, j, k), self.affine[:, [*order, 3]])

    def flip(self, axes: tuple[int, ...]) -> Grid:
        """The grid with axes running the other way; every voxel keeps its position.

        Raises:
            GeometryError: ``axes`` are not different numbers from 0 to 2.
        """
        if len(set(axes)) != len(axes) or not set(axes) <= {0, 1, 2}:
            raise GeometryError(f"the axes to flip are different numbers from 0 to 2; got {axes}")
        affine = self.affine.copy()
        for axis in axes:
            affine[:3, 3] += affine[:3, axis] * (self.shape[axis] - 1)
            affine[:3, axis] *= -1
        return Grid(self.shape, affine)

    def moved(self, world_to_world: ArrayLike) -> Grid:
        """The grid after a 4 x 4 map of the world: voxel (i, j, k) now lies where the map takes its old position.

        Raises:
            GeometryError: the map is not invertible.
        """
        return Grid(self.shape, np.asarray(world_to_world, dtype=np.float64) @ self.affine)
