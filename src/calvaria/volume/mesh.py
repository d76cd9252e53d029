"""Closed triangle surfaces in world LPS millimetres, and their extraction from voxels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import InputError
from calvaria.volume.components import fill_holes, label
from calvaria.volume.volume import Volume, bounding_box

NEAR_LEVEL = 1e-4
"""The level is raised by this share of the field's usual step across it, and values closer than that count as outside.
It moves the surface by 1e-4 voxels, and keeps it from passing exactly through a voxel centre or from two ways of
joining corners being equally good, where marching cubes would make triangles without area or edges used four times."""

VOLUME_RTOL = 5e-4
"""The level of a smoothed surface is sought until the volume is right to this part of it ..."""

MAX_STEPS = 16
"""... or so many times; from a good guess it takes two or three."""

MAX_VOLUME_ERROR = 5e-3
"""A smoothed surface further off than this part of the mask's volume is not used."""

CRUMBS = 2e-3
"""Loose bits that smoothing tears off are left out where they are less than this part of a piece's volume."""

HELD = 0.2
"""Where smoothing would tear thin parts, voxels are held this far on their own side of one half."""


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
    def shells(self) -> tuple[Mesh, ...]:
        """The connected parts of the surface, each a mesh; none for an empty mesh, itself where it is one.

        A closed mesh has one for each body, and one, with its normals inwards, for each cavity.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if self.is_empty:
            return ()
        size = len(self.vertices_mm)
        start, end = self.faces[:, [0, 0]].ravel(), self.faces[:, [1, 2]].ravel()
        edges = coo_array((np.ones(len(start), np.bool_), (start, end)), (size, size))
        _, part = connected_components(edges, directed=False)
        own = part[self.faces[:, 0]]
        if (own == own[0]).all():
            return (self,)
        order = np.argsort(own, kind="stable")
        groups = np.split(self.faces[order], np.flatnonzero(np.diff(own[order])) + 1)
        return tuple(_compact(self.vertices_mm, faces) for faces in groups)

    @cached_property
    def genus(self) -> int:
        """Handles of a closed mesh, such as the hole of a ring, over all of its shells (Euler's formula)."""
        used = int(np.count_nonzero(np.bincount(self.faces.ravel(), minlength=1)))
        return len(self.shells) - (used - len(self.faces) // 2) // 2

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


def _compact(vertices_mm: NDArray[np.float64], faces: NDArray[np.int64]) -> Mesh:
    """A mesh of some faces with the vertices that they use."""
    used, renumbered = np.unique(faces, return_inverse=True)
    return Mesh(vertices_mm[used], renumbered.reshape(faces.shape))


def joined(meshes: Sequence[Mesh]) -> Mesh:
    """Several meshes as one, the shells of one after those of another; none give an empty mesh."""
    if not meshes:
        return Mesh.empty()
    starts = np.cumsum([0, *(len(mesh.vertices_mm) for mesh in meshes[:-1])])
    return Mesh(
        np.concatenate([mesh.vertices_mm for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]),
    )


def extract_surface(volume: Volume, level: float = 0.5, *, inside_above: bool = True, smooth_mm: float = 0.0) -> Mesh:
    """The closed surface where a field crosses a level (marching cubes, Lewiner et al. 2003).

    Where the inside reaches the end of the array, the surface is closed half a voxel beyond the last centres.

    Args:
        volume: a mask (level 0.5), or an image such as a probability or a signed distance.
        level: the value on the surface; between the two values of a mask.
        inside_above: inside is where the field is above the level; False for signed distances (negative inside).
        smooth_mm: for masks only: sigma of a Gaussian, mm along each axis, that removes the voxel staircase. Each
            piece (6 neighbours) of the mask then becomes one shell: its cavities are filled, its volume, with them,
            is kept to 0.5 %, and where thin bone would tear it is smoothed less.

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
    """The surface of a smoothed mask: one shell for each of its pieces, each with the volume of its piece."""
    from scipy.ndimage import find_objects

    found = bounding_box(volume.mask)
    if found is None:
        return Mesh.empty()
    whole = fill_holes(volume.crop(found))
    # Each piece by itself: smoothed together, two with a gap of a voxel between them would flow into one another.
    labels, _ = label(whole.mask, connectivity=6)
    boxes = enumerate(find_objects(labels), 1)
    shells = [_smooth_shell(Volume(labels[box] == number, whole.grid.crop(box)), smooth_mm) for number, box in boxes]
    return joined(shells)


def _smooth_shell(piece: Volume, smooth_mm: float) -> Mesh:
    """The one shell of a mask that is one piece (6 neighbours) without cavities."""
    from scipy.ndimage import gaussian_filter

    sigma = smooth_mm / np.array(piece.grid.spacing_mm)
    i, j, k = (int(np.ceil(4 * s)) + 1 for s in sigma)
    part = piece.pad((i, j, k), (i, j, k))
    field = gaussian_filter(part.data.astype(np.float32), sigma, mode="constant", truncate=4.0)
    smooth = _main_shell(_at_volume(field, part))
    if smooth is not None and not _keeps_volume(smooth, part):
        smooth = None
    if smooth is not None and smooth.genus == 0:
        return smooth
    # Thin parts tore. With the field held above the level in the mask and below it elsewhere, the surface has the
    # mask's own topology: one shell, as piece and outside are each joined by faces, and no hole that the mask has not.
    held = np.where(part.mask, np.maximum(field, 0.5 + HELD), np.minimum(field, 0.5 - HELD))
    firm = _at_volume(held, part, 0.5 - HELD, 0.5 + HELD)
    if smooth is not None and smooth.genus <= firm.genus:
        return smooth
    return firm if _keeps_volume(firm, part) else _at_volume(part.data.astype(np.float32), part)


def _keeps_volume(mesh: Mesh, mask: Volume) -> bool:
    return abs(mesh.volume_ml - mask.volume_ml) <= MAX_VOLUME_ERROR * mask.volume_ml


def _main_shell(mesh: Mesh) -> Mesh | None:
    """The largest shell, where the others are crumbs and closed pits; None where a part that counts is torn off."""
    shells = mesh.shells
    if len(shells) == 1:
        return mesh
    volumes = np.array([shell.volume_ml for shell in shells])
    main = int(volumes.argmax())
    rest = float(np.abs(np.delete(volumes, main)).sum())
    return shells[main] if rest <= CRUMBS * volumes[main] else None


def _at_volume(field: NDArray[np.float32], mask: Volume, low: float = 0.0, high: float = 1.0) -> Mesh:
    """The surface of a field at the level between two at which it encloses a mask's volume, as nearly as may be.

    Args:
        field: (I, J, K) on the mask's grid; at most ``low`` at the array's end.
        mask: not empty.
        low: levels are above this.
        high: levels are below this.
    """
    from skimage import measure

    marching_cubes: Callable[..., Any] = measure.marching_cubes
    wanted = int(np.count_nonzero(mask.data))
    high = min(high, float(field.max()))
    low, high = low + 1e-3 * (high - low), high - 1e-3 * (high - low)
    above = field[field > low]
    # So many voxels lie above the level; the surface between them encloses a few percent more or less.
    level = (
        float(np.clip(np.partition(above, -wanted)[-wanted], low, high)) if wanted < above.size else (low + high) / 2
    )
    for _ in range(MAX_STEPS):
        vertices, faces, _, _ = marching_cubes(field, level, allow_degenerate=True)
        found, rate = _voxels_and_rate(field, vertices.astype(np.float64), faces[:, ::-1])
        if abs(found - wanted) <= VOLUME_RTOL * wanted:
            break
        low, high = (level, high) if found > wanted else (low, level)
        step = (wanted - found) / rate if rate < 0 else np.inf
        level = level + step if low < level + step < high else (low + high) / 2
    return _march(field - np.float32(level), mask.affine)


def _voxels_and_rate(
    field: NDArray[np.float32], vertices: NDArray[np.float64], faces: NDArray[np.integer]
) -> tuple[float, float]:
    """Voxels that a surface from marching cubes encloses, and how fast they change with its level."""
    middle = vertices.mean(axis=0)
    a, b, c = np.moveaxis((vertices - middle)[faces], 1, 0)
    normal = np.cross(b - a, c - a)  # as long as twice the area
    volume = float((a * np.cross(b, c)).sum()) / 6
    # A vertex lies on an edge between two voxels, and slides along it as the level changes.
    below = np.minimum(vertices.astype(np.intp), np.array(field.shape) - 2)
    axis = (vertices - below).argmax(axis=1)
    ahead = below + np.eye(3, dtype=np.intp)[axis]
    rise = field[tuple(ahead.T)].astype(np.float64) - field[tuple(below.T)]
    slide = np.divide(1.0, rise, out=np.zeros_like(rise), where=np.abs(rise) > 1e-6)
    rate = sum(
        float((slide[corner] * np.take_along_axis(normal, axis[corner, None], 1)[:, 0]).sum()) for corner in faces.T
    )
    return volume, rate / 6


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


__all__ = ["Mesh", "extract_surface", "joined"]
