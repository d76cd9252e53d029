"""Triangle meshes drawn without a graphics card: which triangle each pixel sees, where, and how it is lit.

A depth buffer in numpy. Triangles are cut into runs of pixels along the picture's rows; of all runs over a pixel the
nearest triangle is kept, and only what is seen is coloured and lit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.report.raycast import Camera, Hits
from calvaria.report.render import BACKGROUND, BORDER, Picture, light
from calvaria.report.scene import Colour
from calvaria.types import F32, F64
from calvaria.volume.mesh import Mesh

SUPERSAMPLING = 2
"""Samples per pixel along each side, before the picture is averaged down."""

CREASE_COSINE = 0.82
"""Faces that meet at more than 35 degrees are lit as an edge, others as one smooth surface."""

SMOOTH_ENOUGH = 0.94
"""A vertex whose faces all lie within 20 degrees of its mean normal has no crease."""

OVERLAP_PX = 2e-3
"""Runs are longer by this at both ends, so that rounding leaves no gap between neighbours."""

NOTHING = np.iinfo(np.uint64).max


@dataclass(frozen=True, eq=False)
class Solid:
    """A closed mesh made ready to be drawn: on a crease each side has vertices of its own.

    Args:
        vertices_mm: (N, 3) world LPS mm.
        normals: (N, 3) unit, to light them by.
        faces: (F, 3) vertex numbers, counter-clockwise seen from outside.
        colours: (N, 3), 0-255.
        origin: (N,) which vertex of the mesh each was.
    """

    vertices_mm: F32
    normals: F32
    faces: NDArray[np.int32]
    colours: F32
    origin: NDArray[np.int32]

    def moved(self, shift_mm: ArrayLike) -> Solid:
        """The same, (3,) mm further."""
        return replace(self, vertices_mm=self.vertices_mm + np.asarray(shift_mm, np.float32))

    def painted(self, colours: ArrayLike) -> Solid:
        """The same in another colour, (3,), or in one for each of its own vertices, (N, 3)."""
        return replace(self, colours=_of_vertices(colours, len(self.vertices_mm)))


def solid(mesh: Mesh, colour: ArrayLike) -> Solid:
    """Make a mesh ready to be drawn: lit as smooth over gentle bends, each side for itself at an edge.

    Args:
        mesh: closed; what faces away from the viewer is not drawn. May be empty.
        colour: (3,), 0-255.
    """
    faces = mesh.faces.astype(np.int32)
    smooth, origin = mesh.vertex_normals.astype(np.float32), np.arange(len(mesh.vertices_mm), dtype=np.int32)
    a, b, c = (mesh.vertices_mm[corner] for corner in mesh.faces.T)
    area = np.cross(b - a, c - a).astype(np.float32)
    face = area / np.maximum(np.linalg.norm(area, axis=1, keepdims=True), 1e-12)
    bent = np.zeros(len(smooth), bool)
    for corner in faces.T:
        bent[corner[np.einsum("fk,fk->f", face, smooth[corner]) < SMOOTH_ENOUGH]] = True
    at = np.flatnonzero(bent[faces].ravel())
    at = at[np.argsort(faces.ravel()[at], kind="stable")]
    vertex = faces.ravel()[at]
    faces.reshape(-1)[at] = len(smooth) + np.arange(len(at))
    origin = np.concatenate([origin, vertex])
    normals = np.concatenate([smooth, _edge_normals(vertex, face[at // 3], area[at // 3])])
    vertices = mesh.vertices_mm.astype(np.float32)[origin]
    return Solid(vertices, normals, faces, _of_vertices(colour, len(vertices)), origin)


def _edge_normals(vertex: NDArray[np.int32], face: F32, area: F32) -> F32:
    """(N, 3) normals of corners of faces, sorted by their vertex: means over the faces there that look alike."""
    _, starts, counts = np.unique(vertex, return_index=True, return_counts=True)
    own = np.repeat(np.arange(len(vertex)), np.repeat(counts, counts))  # all pairs of corners at a vertex
    other = np.repeat(starts, counts**2) + _within_runs(counts**2) % np.repeat(counts, counts**2)
    near = np.einsum("nk,nk->n", face[own], face[other]) > CREASE_COSINE
    own, other = own[near], other[near]
    sums = np.stack([np.bincount(own, area[other, axis], len(vertex)) for axis in range(3)], axis=1)
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(length > 0, sums / np.maximum(length, 1e-12), face).astype(np.float32)


def mesh_camera(directions: F64, points_mm: ArrayLike, size_px: tuple[int, int], border: float = BORDER) -> Camera:
    """The camera of a picture that holds some points; finer than its pixels, so that edges come out smooth.

    Args:
        directions: (3, 3) rows in the world: right, down, away from the viewer.
        points_mm: (N, 3), at least one.
        size_px: width and height.
        border: part of the picture left free on each side; negative: the points reach beyond it.
    """
    size = np.array(size_px)
    flat = np.asarray(points_mm, np.float64) @ directions.T
    low, high = flat.min(axis=0), flat.max(axis=0)
    pixel_mm = max(float(((high - low)[:2] / (size * (1 - 2 * border))).max()), 1e-3)
    width, height = (int(n) for n in size * SUPERSAMPLING)
    return Camera(((low + high) / 2) @ directions, directions, pixel_mm / SUPERSAMPLING, (width, height))


def render_meshes(solids: Sequence[Solid], camera: Camera, background: Colour = BACKGROUND) -> Picture:
    """A picture of some meshes, lit as those of `render_surfaces` are.

    Args:
        solids: what is shown; may be none.
        camera: from `mesh_camera`.
        background: colour where nothing is.

    Returns:
        (H, W, 3) uint8, rows from the top, `SUPERSAMPLING` times smaller than the camera's.
    """
    return lit(*look(solids, camera), camera, background)


def lit(hits: Hits, colours: F32, camera: Camera, background: Colour = BACKGROUND) -> Picture:
    """The picture of what `look` saw.

    Args:
        hits: from `look`; may be none.
        colours: (N, 3) the surface's own, 0-255.
        camera: that they were seen with.
        background: colour where nothing is.

    Returns:
        (H, W, 3) uint8, `SUPERSAMPLING` times smaller than the camera's.
    """
    from PIL import Image

    width, height = camera.size_px
    picture = np.empty((height * width, 3), np.float32)
    picture[:] = background
    if hits.flat.size:
        diffuse, mirrored = light(hits.normal, hits, camera)
        picture[hits.flat] = colours * diffuse[:, None] + 255.0 * mirrored[:, None]
    pixels = np.clip(picture, 0, 255).astype(np.uint8).reshape(height, width, 3)
    return np.asarray(Image.fromarray(pixels).reduce(SUPERSAMPLING))


def look(solids: Sequence[Solid], camera: Camera) -> tuple[Hits, F32]:
    """What each pixel of a camera sees.

    Args:
        solids: closed meshes; may be none.
        camera: parallel rays.

    Returns:
        The hits, ``index`` in world mm; (N, 3) the meshes' own colours there.
    """
    one = _joined([one for one in solids if len(one.faces)])
    points = _project(one, camera)
    width, height = camera.size_px
    buffer = np.full(width * height, NOTHING, np.uint64)
    nearest = float(points[:, 2].min(initial=0.0))
    _draw(buffer, points, one.faces, nearest, camera.size_px)
    flat = np.flatnonzero(buffer != NOTHING)
    seen = buffer[flat]
    depth = (seen >> np.uint64(32)).astype(np.uint32).view(np.float32) + np.float32(nearest - 1)
    face = (seen & np.uint64(0xFFFFFFFF)).astype(np.intp)
    row, column = (part.astype(np.float32) for part in np.divmod(flat, width))
    corners = one.faces[face]
    shares = _shares([points[:, :2][corner] for corner in corners.T], column, row)
    normal = _mixed(one.normals @ camera.axes.T.astype(np.float32), corners, shares)
    normal /= np.maximum(np.sqrt(np.einsum("nk,nk->n", normal, normal)), 1e-9)[:, None]
    across = (np.stack([column, row]) - np.array([[width - 1], [height - 1]], np.float32) / 2) * camera.pixel_mm
    place = camera.axes.T @ np.concatenate([across, depth[None]]) + camera.centre_mm[:, None]
    hits = Hits(flat, place.astype(np.float32), depth, np.ascontiguousarray(normal.T))
    return hits, _mixed(one.colours, corners, shares)


def _joined(solids: Sequence[Solid]) -> Solid:
    """All in one."""
    if len(solids) == 1:
        return solids[0]
    starts = np.cumsum([0, *(len(one.vertices_mm) for one in solids)])
    none, numbers = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
    return Solid(
        np.concatenate([none, *(one.vertices_mm for one in solids)]),
        np.concatenate([none, *(one.normals for one in solids)]),
        np.concatenate([numbers, *(one.faces + np.int32(n) for one, n in zip(solids, starts, strict=False))]),
        np.concatenate([none, *(one.colours for one in solids)]),
        np.concatenate([numbers[:, 0], *(one.origin for one in solids)]),
    )


def _of_vertices(colours: ArrayLike, count: int) -> F32:
    return np.ascontiguousarray(np.broadcast_to(np.asarray(colours, np.float32), (count, 3)))


def _within_runs(lengths: NDArray[np.integer]) -> NDArray[np.intp]:
    """0, 1, 2 ... anew for each run."""
    ends = np.cumsum(lengths)
    return np.asarray(np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - lengths, lengths), np.intp)


def _project(one: Solid, camera: Camera) -> F32:
    """(V, 3) column and row in pixels, and depth in mm."""
    width, height = camera.size_px
    points = (one.vertices_mm - camera.centre_mm.astype(np.float32)) @ camera.axes.T.astype(np.float32)
    points[:, :2] /= np.float32(camera.pixel_mm)
    points[:, :2] += np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
    return points


def _draw(
    buffer: NDArray[np.uint64], points: F32, faces: NDArray[np.int32], nearest: float, size_px: tuple[int, int]
) -> None:
    """Enter faces into a depth buffer: depth in a pixel's upper half, the face's number in the lower."""
    width, height = size_px
    (ax, bx, cx), (ay, by, cy) = (tuple(line[corner] for corner in faces.T) for line in points.T[:2].copy())
    # Clockwise in the picture, as rows grow downwards: facing the viewer.
    facing = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    first = np.maximum(np.ceil(np.minimum(np.minimum(ay, by), cy)), 0).astype(np.int32)
    rows = np.minimum(np.floor(np.maximum(np.maximum(ay, by), cy)), height - 1).astype(np.int32) - first + 1
    wide = (np.maximum(np.maximum(ax, bx), cx) >= 0) & (np.minimum(np.minimum(ax, bx), cx) <= width - 1)
    kept = np.flatnonzero((facing < 0) & (rows > 0) & wide)
    triangles, rows, first, facing = points[faces[kept]], rows[kept], first[kept], facing[kept]
    slope = _slopes(triangles, facing)
    order = np.argsort(triangles[..., 1], axis=1)[..., None]
    high, middle, low = np.moveaxis(np.take_along_axis(triangles[..., :2], order, axis=1), 1, 0)
    which = np.repeat(np.arange(len(kept), dtype=np.int32), rows)
    row = (first[which] + _within_runs(rows)).astype(np.float32)
    long = _edge(high, low)
    upper, lower = _edge(high, middle), _edge(middle, low)
    one = high[which, 0] + (row - high[which, 1]) * long[which]
    above = row < middle[which, 1]
    other = np.where(
        above,
        high[which, 0] + (row - high[which, 1]) * upper[which],
        middle[which, 0] + (row - middle[which, 1]) * lower[which],
    )
    left = np.maximum(np.ceil(np.minimum(one, other) - OVERLAP_PX), 0).astype(np.int32)
    right = np.minimum(np.floor(np.maximum(one, other) + OVERLAP_PX), width - 1).astype(np.int32)
    used = np.flatnonzero(right >= left)
    which, row, left, count = which[used], row[used], left[used], (right - left + 1)[used]
    corner = triangles[which, 0]
    begin = corner[:, 2] + slope[which, 0] * (left - corner[:, 0]) + slope[which, 1] * (row - corner[:, 1])
    along = _within_runs(count).astype(np.int32)
    from_nearest = (begin - (nearest - 1)).astype(np.float32)
    depth = np.repeat(from_nearest, count) + np.repeat(slope[which, 0], count) * along.astype(np.float32)
    key = np.maximum(depth, np.float32(1e-3)).view(np.uint32).astype(np.uint64) << np.uint64(32)
    key |= np.repeat(kept[which].astype(np.uint64), count)
    pixel = np.repeat(row.astype(np.intp) * width + left, count) + along
    np.minimum.at(buffer, pixel, key)


def _edge(upper: F32, lower: F32) -> F32:
    """(F,) columns per row between two corners; 0 where they lie in one row."""
    rise = lower[:, 1] - upper[:, 1]
    return np.where(rise > 0, (lower[:, 0] - upper[:, 0]) / np.maximum(rise, 1e-9), 0).astype(np.float32)


def _slopes(triangles: F32, facing: F32) -> F32:
    """(F, 2) mm of depth per column and per row."""
    one, two = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    across = one[:, 2] * two[:, 1] - two[:, 2] * one[:, 1]
    down = two[:, 2] * one[:, 0] - one[:, 2] * two[:, 0]
    return np.asarray(np.stack([across, down], axis=1) / facing[:, None], np.float32)


def _shares(corners: Sequence[F32], column: F32, row: F32) -> tuple[F32, F32, F32]:
    """(N,) shares of each of its face's three corners, (N, 2) columns and rows, that a pixel has."""
    (ax, ay), (bx, by), (cx, cy) = ((corner[:, 0] - column, corner[:, 1] - row) for corner in corners)
    # Twice the areas of the three triangles that the pixel makes; all are negative inside.
    a, b, c = (np.maximum(area, 0) for area in (by * cx - bx * cy, cy * ax - cx * ay, ay * bx - ax * by))
    whole = np.maximum(a + b + c, 1e-20)
    return a / whole, b / whole, c / whole


def _mixed(values: F32, corners: NDArray[np.int32], shares: tuple[F32, F32, F32]) -> F32:
    """(N, 3) means of the values at three corners."""
    a, b, c = (share[:, None] * values[corner] for share, corner in zip(shares, corners.T, strict=True))
    mean: F32 = a + b + c
    return mean


__all__ = ["SUPERSAMPLING", "Solid", "lit", "look", "mesh_camera", "render_meshes", "solid"]
