"""Closed triangle surfaces in world LPS millimetres, and their extraction from voxels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import InputError
from calvaria.volume.volume import Volume, bounding_box

NEAR_LEVEL = 1e-4
"""The level is raised by this share of the field's usual step across it, and values closer than that count as outside.
It moves the surface by 1e-4 voxels, and keeps it from passing exactly through a voxel centre or from two ways of
joining corners being equally good, where marching cubes would make triangles without area or edges used four times."""


VOLUME_TOLERANCE = 1e-3
"""A smoothed surface encloses the mask's volume within this share, where a level does."""

VOLUME_STEPS = 8
"""Most surfaces that are tried for it; two or three do for a plate."""

LEVEL_STEP = 0.01
"""First change of the level of a smoothed mask."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle surface.

    Args:
        vertices_mm: (V, 3) world LPS mm.
        faces: (F, 3) vertex numbers, counter-clockwise seen from outside.

    Raises:
        InputError: wrong shapes, vertices that are not finite, or faces with vertex numbers that do not exist.

    >>> Mesh(np.zeros((0, 3)), np.zeros((0, 3), int)).volume_ml
    0.0
    """

    vertices_mm: NDArray[np.float64]
    faces: NDArray[np.int64]

    def __post_init__(self) -> None:
        vertices = np.asarray(self.vertices_mm, dtype=np.float64)
        faces = np.asarray(self.faces)
        if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
            raise InputError(f"a mesh is (V, 3) vertices and (F, 3) faces; got {vertices.shape} and {faces.shape}")
        if faces.dtype.kind not in "iu":
            raise InputError(f"the faces of a mesh are whole vertex numbers; got {faces.dtype}")
        if not np.isfinite(vertices).all():
            raise InputError("the mesh has vertices that are NaN or infinite")
        if faces.size and (faces.min() < 0 or faces.max() >= len(vertices)):
            raise InputError(
                f"the faces of a mesh name vertices 0 to {len(vertices) - 1}; got {faces.min()} to {faces.max()}"
            )
        object.__setattr__(self, "vertices_mm", vertices)
        object.__setattr__(self, "faces", faces.astype(np.int64, copy=False))

    @classmethod
    def empty(cls) -> Mesh:
        """A mesh without triangles: closed, of volume and area 0."""
        return cls(np.zeros((0, 3)), np.zeros((0, 3), np.int64))

    @property
    def is_empty(self) -> bool:
        """Whether there is no triangle."""
        return len(self.faces) == 0

    @cached_property
    def is_closed(self) -> bool:
        """Whether every edge is used exactly twice, once in each direction; True for an empty mesh."""
        start = self.faces.ravel()
        end = self.faces[:, [1, 2, 0]].ravel()
        n = np.int64(max(len(self.vertices_mm), 1))
        there, back = np.sort(start * n + end), np.sort(end * n + start)
        return bool(np.array_equal(there, back) and (np.diff(there) > 0).all() and (start != end).all())

    @cached_property
    def open_edges(self) -> int:
        """Edges not walked as often in one direction as in the other; 0 where a surface bounds a volume.

        `is_closed` asks for more: an edge where two parts of a body touch is walked twice each way, which is as good a
        boundary though no manifold.
        """
        start, end = self.faces.ravel(), self.faces[:, [1, 2, 0]].ravel()
        n = np.int64(max(len(self.vertices_mm), 1))
        edges, walked = np.unique(np.minimum(start, end) * n + np.maximum(start, end), return_inverse=True)
        balance = np.bincount(walked, weights=np.sign(end - start), minlength=len(edges))
        return int(np.count_nonzero(balance))

    @cached_property
    def volume_ml(self) -> float:
        """Enclosed volume of a closed mesh, ml; negative when its normals point inwards, 0 when empty."""
        if self.is_empty:
            return 0.0
        a, b, c = self._corners()
        return float(np.einsum("ij,ij->", a, np.cross(b, c))) / 6000.0

    @cached_property
    def area_mm2(self) -> float:
        """Surface area, mm2; 0 when empty."""
        a, b, c = self._corners()
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()) / 2.0

    @cached_property
    def vertex_normals(self) -> NDArray[np.float64]:
        """(V, 3) unit normals: means over the triangles at each vertex, weighted by area; 0 at a vertex of none."""
        a, b, c = self._corners()
        face = np.cross(b - a, c - a)  # as long as twice the area
        normals = np.zeros((len(self.vertices_mm), 3))
        for corner in self.faces.T:
            for axis in range(3):
                normals[:, axis] += np.bincount(corner, face[:, axis], len(normals))
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        return np.asarray(np.divide(normals, length, out=np.zeros_like(normals), where=length > 0))

    def flipped(self) -> Mesh:
        """The same surface with its normals the other way."""
        return Mesh(self.vertices_mm, self.faces[:, ::-1])

    def moved(self, world_to_world: ArrayLike) -> Mesh:
        """The mesh after a 4 x 4 map of the world; outward normals stay outward under a mirror image."""
        matrix = np.asarray(world_to_world, dtype=np.float64)
        faces = self.faces[:, ::-1] if np.linalg.det(matrix[:3, :3]) < 0 else self.faces
        return Mesh(self.vertices_mm @ matrix[:3, :3].T + matrix[:3, 3], faces)

    def _corners(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Three (F, 3) arrays, about the mesh's centre so that large coordinates cost no digits."""
        middle = self.vertices_mm.mean(axis=0) if len(self.vertices_mm) else 0.0
        a, b, c = np.moveaxis((self.vertices_mm - middle)[self.faces], 1, 0)
        return a, b, c


def extract_surface(volume: Volume, level: float = 0.5, *, inside_above: bool = True, smooth_mm: float = 0.0) -> Mesh:
    """The closed surface where a field crosses a level (marching cubes, Lewiner et al. 2003).

    Where the inside reaches the end of the array, the surface is closed half a voxel beyond the last centres.

    Args:
        volume: a mask (level 0.5), or an image such as a probability or a signed distance.
        level: the value on the surface; between the two values of a mask.
        inside_above: inside is where the field is above the level; False for signed distances (negative inside).
        smooth_mm: for masks only: sigma of a Gaussian, mm along each axis, that removes the voxel staircase; the
            level is then chosen so that the volume stays the mask's. Bone thinner than about ``2 * smooth_mm`` thins.

    Returns:
        A closed mesh in world LPS mm with outward normals whatever the affine's handedness; empty if nothing is inside.

    Raises:
        InputError: the field or the level is NaN, smoothing is negative or asked for an image, or a mask's level is
            not between 0 and 1.
    """
    if volume.is_mask and not 0 < level < 1:
        raise InputError(f"the surface of a mask lies at a level between 0 and 1; got {level}")
    if not np.isfinite(level):
        raise InputError(f"the level of a surface must be a finite number; got {level}")
    if not (np.isfinite(smooth_mm) and smooth_mm >= 0):
        raise InputError(f"smoothing must be 0 mm or more; got {smooth_mm}")
    if smooth_mm and not volume.is_mask:
        raise InputError(f"smoothing before a surface is for masks; the volume holds {volume.data.dtype}")
    inside = volume.data if volume.is_mask else _inside(volume.data, level, inside_above)
    if smooth_mm > 0:
        return _smooth_surface(volume, smooth_mm)
    box = bounding_box(inside, (1, 1, 1))
    if box is None:
        return Mesh.empty()
    part = volume.crop(box)
    field = part.data.astype(np.float32) - np.float32(level)
    if not inside_above and not volume.is_mask:
        np.negative(field, out=field)
    return _march(field, part.affine)


def _inside(data: NDArray[Any], level: float, above: bool) -> NDArray[np.bool_]:
    if np.isnan(data.min()):
        raise InputError("the field has NaN values; a surface needs a number at every voxel")
    return data > level if above else data < level


def _smooth_surface(volume: Volume, smooth_mm: float) -> Mesh:
    """The surface of a smoothed mask, at the level that keeps its volume."""
    from scipy.ndimage import gaussian_filter

    found = bounding_box(volume.mask)
    if found is None:
        return Mesh.empty()
    sigma = smooth_mm / np.array(volume.grid.spacing_mm)
    i, j, k = (int(np.ceil(4 * s)) + 1 for s in sigma)
    part = volume.crop(found).pad((i, j, k), (i, j, k))
    field = gaussian_filter(part.data.astype(np.float32), sigma, mode="constant", truncate=4.0)
    n = int(np.count_nonzero(part.data))
    outside, inside = np.partition(field, (field.size - n - 1, field.size - n), axis=None)[
        field.size - n - 1 : field.size - n + 1
    ]
    # This level has as many voxels inside as the mask. The surface between them encloses a little more, the more so the
    # thinner a plate: it is moved until the volumes agree.
    return _of_volume(field, float(outside + inside) / 2, part.affine, volume.volume_ml)


def _of_volume(field: NDArray[np.float32], level: float, affine: NDArray[np.float64], wanted_ml: float) -> Mesh:
    """The surface at the level, near the one given, that encloses a volume: secant steps on the level."""
    mesh = _march(field - np.float32(level), affine)
    before, step = None, LEVEL_STEP
    for _ in range(VOLUME_STEPS):
        excess = mesh.volume_ml / wanted_ml - 1
        if abs(excess) < VOLUME_TOLERANCE:
            break
        if before is not None and excess != before[1]:
            step = float(np.clip(-excess * (level - before[0]) / (excess - before[1]), -4 * LEVEL_STEP, 4 * LEVEL_STEP))
        else:
            step = float(np.copysign(LEVEL_STEP, excess))  # a higher level encloses less
        before = (level, excess)
        moved = float(np.clip(level + step, 0.02, 0.98))
        if not (field > moved).any():
            break
        level = moved
        mesh = _march(field - np.float32(level), affine)
    return mesh


def _march(field: NDArray[np.float32], affine: NDArray[np.float64]) -> Mesh:
    """Surface at 0 of a field that is positive inside somewhere; the array is closed with one layer of outside."""
    from skimage import measure

    finite = np.isfinite(field)
    most = float(np.abs(field[finite]).max()) if finite.any() else 1.0
    field = np.pad(np.clip(field, -most, most), 1, mode="edge")
    for axis in range(3):
        for end in (0, -1):
            face = np.moveaxis(field, axis, 0)[end]
            np.negative(np.abs(face), out=face)
    inside = field[:, :, :-1] > 0
    crossing = inside != (field[:, :, 1:] > 0)
    near = np.float32(NEAR_LEVEL) * np.median(np.abs(np.diff(field, axis=2)[crossing]))
    field -= near
    field[np.abs(field) < near] = -near
    marching_cubes: Callable[..., Any] = measure.marching_cubes
    vertices, faces, _, _ = marching_cubes(field, 0.0, allow_degenerate=True)
    if np.linalg.det(affine[:3, :3]) > 0:  # skimage's triangles face inwards in its own, right-handed, index frame
        faces = faces[:, ::-1]
    index = vertices.astype(np.float64) - 1.0
    return Mesh(index @ affine[:3, :3].T + affine[:3, 3], faces.astype(np.int64))


__all__ = ["Mesh", "extract_surface"]
