"""Solids that are cut and joined without a crack: our meshes as those of manifold3d, and back.

All coordinates are held in double precision: far from the origin nothing is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import CalvariaError, InputError
from calvaria.types import F64, BoolArray
from calvaria.volume.mesh import Mesh

if TYPE_CHECKING:
    from manifold3d import Manifold

FINEST_MM = 1e-3
"""Edges shorter than this are always removed: far below what a printer makes, above what float32 files hold."""

COARSENING = 3.2
"""Tolerances that are tried lie by this factor apart."""

MAX_VOLUME_CHANGE = 2e-3
"""A simplified mesh whose volume differs by more than this part is not used."""

SEGMENTS = 32
"""Sides of a round hole; one of 2 mm is true to 0.005 mm."""

ROD_SEGMENTS = 24
"""Meridians of a rod's round ends."""


def to_solid(mesh: Mesh) -> Manifold:
    """A mesh as a solid to cut and join.

    Args:
        mesh: closed, outward normals, mm.

    Raises:
        InputError: the mesh is empty, not closed, or inside out.
    """
    from manifold3d import Error, Manifold, Mesh64

    if mesh.is_empty:
        raise InputError("a solid needs a closed mesh; this one is empty")
    solid = Manifold(Mesh64(np.ascontiguousarray(mesh.vertices_mm), mesh.faces.astype(np.uint64)))
    if solid.status() != Error.NoError or solid.is_empty():
        status = solid.status().name
        raise InputError(
            f"a solid needs a closed mesh; this one has {mesh.open_edges} open edges (manifold3d: {status})"
        )
    if solid.volume() <= 0:
        raise InputError(
            f"a solid needs a mesh with outward normals; this one encloses {solid.volume() / 1000:.3g} ml: flip it"
        )
    return solid


def to_mesh(solid: Manifold) -> Mesh:
    """A solid as a closed mesh, world mm, float64; the empty mesh for an empty solid.

    Raises:
        CalvariaError: what led to the solid went wrong, or its mesh is not closed.
    """
    from manifold3d import Error

    if solid.status() != Error.NoError:
        raise CalvariaError(f"cutting and joining solids failed (manifold3d: {solid.status().name}); please report it")
    found = solid.to_mesh64()
    vertices = np.array(found.vert_properties[:, :3], np.float64)
    faces = np.array(found.tri_verts, np.int64)
    if len(found.merge_from_vert):
        same = np.arange(len(vertices))
        same[np.asarray(found.merge_from_vert, np.int64)] = np.asarray(found.merge_to_vert, np.int64)
        faces = same[faces]
    used, faces = np.unique(faces, return_inverse=True)
    mesh = Mesh(vertices[used], faces.reshape(-1, 3))
    if not mesh.is_closed:
        raise CalvariaError(
            f"cutting and joining solids left {mesh.open_edges} open edges in {len(mesh.faces)} triangles; "
            "please report it"
        )
    return mesh


def simplified(mesh: Mesh, max_triangles: int, max_error_mm: float) -> tuple[Mesh, float]:
    """A mesh with fewer triangles, no more than a budget if the bound on the error allows it.

    The tolerance is raised in steps, from the mesh itself each time, until the budget is met. Edges below `FINEST_MM`
    (or below the bound, if that is smaller) go in any case.

    Args:
        mesh: closed, mm.
        max_triangles: the budget.
        max_error_mm: how far the surface may move.

    Returns:
        A closed mesh of as many pieces, its volume kept to 0.2 %; how far its surface may have moved, mm.

    Raises:
        InputError: the mesh is not closed or inside out; a budget under 4, or a bound that is not positive.
    """
    if max_triangles < 4 or not max_error_mm > 0:
        raise InputError(
            f"a mesh is simplified to 4 triangles or more, within a positive error; got {max_triangles}, "
            f"{max_error_mm:g} mm"
        )
    solid = to_solid(mesh)
    tolerances = _tolerances(min(FINEST_MM, max_error_mm), max_error_mm)
    tried = _Tried(solid, len(mesh.shells), tolerances)
    # The coarser the fewer triangles: the finest that meets the budget is found by halving, and only it is made a mesh.
    # A mesh that meets it already does so with the first.
    low, high = 0, len(tolerances)
    middle = 0 if len(mesh.faces) <= max_triangles else high // 2
    while low < high:
        if tried.few(middle, max_triangles) or not tried.sound(middle):
            high = middle
        else:
            low = middle + 1
        middle = (low + high) // 2
    for number in range(min(low, len(tolerances) - 1), -1, -1):
        found = tried.mesh(number)
        if found is not None:
            return found, tolerances[number]
    return mesh, 0.0


class _Tried:
    """Simplifications of a solid, each made when it is asked for."""

    def __init__(self, solid: Manifold, pieces: int, tolerances: Sequence[float]) -> None:
        self._solid, self._pieces, self._tolerances = solid, pieces, tolerances
        self._volume = solid.volume()
        self._made: dict[int, Manifold] = {}

    def _coarser(self, number: int) -> Manifold:
        if number not in self._made:
            self._made[number] = self._solid.simplify(self._tolerances[number])
        return self._made[number]

    def few(self, number: int, most: int) -> bool:
        """Whether it has no more triangles than a budget."""
        return int(self._coarser(number).num_tri()) <= most

    def sound(self, number: int) -> bool:
        """Whether its volume is that of the solid."""
        coarser = self._coarser(number)
        return not coarser.is_empty() and abs(coarser.volume() - self._volume) <= MAX_VOLUME_CHANGE * self._volume

    def mesh(self, number: int) -> Mesh | None:
        """As a mesh; None where it is not sound or has lost pieces."""
        if not self.sound(number):
            return None
        found = to_mesh(self._coarser(number))
        return found if len(found.shells) == self._pieces else None


def _tolerances(low: float, high: float) -> list[float]:
    """From low to high, both included, in equal factors."""
    steps = max(int(np.ceil(np.log(high / low) / np.log(COARSENING))), 1) if high > low else 0
    return [*np.geomspace(low, high, steps + 1)[:-1].tolist(), high]


def largest(solid: Manifold) -> Manifold:
    """The piece of a solid that has the most volume: without slivers that touching surfaces leave."""
    return max(solid.decompose(), key=lambda piece: piece.volume(), default=solid)


def cut(solid: Manifold, cutters: Sequence[Manifold]) -> Manifold:
    """A solid less others, in one step."""
    from manifold3d import Manifold, OpType

    return Manifold.batch_boolean([solid, *cutters], OpType.Subtract) if cutters else solid


def rod(start: F64, end: F64, radius_mm: float, end_radius_mm: float | None = None) -> Manifold:
    """A round straight rod (a cone, where its end has another radius) with flat ends.

    Args:
        start: (3,) middle of one end, mm.
        end: (3,) middle of the other.
        radius_mm: at the start; corners of the many-sided rod lie on it.
        end_radius_mm: at the end; None: the same.
    """
    from manifold3d import Manifold

    along = np.asarray(end, np.float64) - start
    length = float(np.linalg.norm(along))
    upright = Manifold.cylinder(length, radius_mm, -1.0 if end_radius_mm is None else end_radius_mm, SEGMENTS)
    return upright.transform(pose(upright_frame(along / length), np.asarray(start, np.float64)))


def round_rod(points: F64, radius_mm: float) -> Manifold:
    """A round rod with round ends along (N, 3) points, mm; N at least 2."""
    from manifold3d import Manifold, OpType

    ball = Manifold.sphere(radius_mm, ROD_SEGMENTS)
    balls = [ball.translate(tuple(point)) for point in np.asarray(points, np.float64).tolist()]
    links = [Manifold.batch_hull(balls[k : k + 2]) for k in range(len(balls) - 1)]
    return Manifold.batch_boolean(links, OpType.Add)


def between(lower: F64, upper: F64) -> Manifold:
    """The closed solid between two sheets of points, each column of which it fills.

    Args:
        lower: (I, J, 3) mm; upper - lower points the same way as the product of the steps along I and J.
        upper: (I, J, 3) mm, nowhere touching the lower.
    """
    i, j = lower.shape[:2]
    number = np.arange(i * j).reshape(i, j)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    return to_solid(prism(lower.reshape(-1, 3), upper.reshape(-1, 3), faces))


def prism(lower: F64, upper: F64, faces: NDArray[np.int64]) -> Mesh:
    """The closed mesh between a triangulated sheet and a copy of it with other positions.

    Args:
        lower: (V, 3) mm.
        upper: (V, 3) mm, on the side that the normals of the triangles point to.
        faces: (F, 3) of one sheet; its open edges get side walls.
    """
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    n = len(lower)
    there, back = edges[:, 0] * n + edges[:, 1], edges[:, 1] * n + edges[:, 0]
    a, b = edges[~np.isin(there, back)].T
    sides = np.concatenate([np.stack([a, b, b + n], 1), np.stack([a, b + n, a + n], 1)])
    return Mesh(np.concatenate([lower, upper]), np.concatenate([faces[:, ::-1], faces + n, sides]))


def upright_frame(normal: F64, along: F64 | None = None) -> F64:
    """(3, 3) orthonormal right-handed rows: two across a (3,) unit vector, the first near ``along``, and itself."""
    if along is None:
        along = np.eye(3)[np.abs(normal).argmin()]
    first = along - (along @ normal) * normal
    first = first / np.linalg.norm(first)
    return np.stack([first, np.cross(normal, first), normal])


def pose(frame: F64, origin: F64) -> F64:
    """(3, 4) map, as manifold3d takes it, from coordinates along a frame's (3, 3) rows to the world's, mm."""
    return np.concatenate([frame.T, np.asarray(origin, np.float64)[:, None]], axis=1)


def spans(mesh: Mesh, points: F64) -> tuple[F64, F64, NDArray[np.int64]]:
    """Where vertical lines meet a mesh.

    Args:
        mesh: closed, mm.
        points: (N, 2) x and y of the lines.

    Returns:
        (N,) z of the lowest and (N,) of the highest crossing, NaN where there is none; (N,) how many triangles were
        crossed (two for a body without undercuts; more where a line runs through an edge).
    """
    from scipy.spatial import cKDTree

    corners = mesh.vertices_mm[mesh.faces]
    flat = corners[:, :, :2]
    # A circle around each triangle's projection; triangles are sought by size, so that a few large cost little.
    middle = (flat.min(axis=1) + flat.max(axis=1)) / 2
    radius = np.linalg.norm(flat - middle[:, None], axis=2).max(axis=1)
    size = np.floor(np.log2(np.maximum(radius, 1e-3)))
    low, high = np.full(len(points), np.inf), np.full(len(points), -np.inf)
    count = np.zeros(len(points), np.int64)
    tree = cKDTree(points)
    for one in np.unique(size):
        group = np.flatnonzero(size == one)
        near = tree.query_ball_point(middle[group], radius[group] + 1e-9)
        sizes = np.fromiter(map(len, near), np.int64, len(near))
        if not sizes.any():
            continue
        which = np.fromiter((k for some in near for k in some), np.int64, int(sizes.sum()))
        z, inside = _heights(corners[np.repeat(group, sizes)], points[which])
        which = which[inside]
        np.minimum.at(low, which, z)
        np.maximum.at(high, which, z)
        count += np.bincount(which, minlength=len(points))
    none = count == 0
    low[none] = high[none] = np.nan
    return low, high, count


def _heights(corners: F64, points: F64) -> tuple[F64, BoolArray]:
    """Heights (M,) of those of N triangles (N, 3, 3) that hold their points (N, 2) in projection, and which (N,)."""
    a, b, c = np.moveaxis(corners, 1, 0)
    ab, ac, at = b[:, :2] - a[:, :2], c[:, :2] - a[:, :2], points - a[:, :2]
    area = _cross(ab, ac)
    flat = np.abs(area) > 1e-12
    safe = np.where(flat, area, 1.0)
    u, v = _cross(at, ac) / safe, _cross(ab, at) / safe
    inside = flat & (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9)
    z = a[:, 2] + u * (b[:, 2] - a[:, 2]) + v * (c[:, 2] - a[:, 2])
    return z[inside], inside


def _cross(a: F64, b: F64) -> Any:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def way_out(mesh: Mesh, start: F64, direction: F64) -> float:
    """How far it is from a point on a body's surface, or just outside, through the body to its other side.

    Args:
        mesh: closed, mm.
        start: (3,) mm.
        direction: (3,) unit, into the body.

    Returns:
        mm to the first place where the line leaves the body; NaN where it does not meet it.
    """
    frame = upright_frame(direction)
    corners = (mesh.vertices_mm - start) @ frame.T
    flat = corners[:, :2]
    reach = flat[mesh.faces]
    near = ((reach.min(axis=1) <= 0) & (reach.max(axis=1) >= 0)).all(axis=1)
    faces = corners[mesh.faces[near]]
    z, inside = _heights(faces, np.zeros((len(faces), 2)))
    a, b, c = np.moveaxis(faces[inside], 1, 0)
    leaves = _cross((b - a)[:, :2], (c - a)[:, :2]) > 0
    ahead = z[leaves & (z > LEAVING_MM)]
    return float(ahead.min()) if ahead.size else float("nan")


LEAVING_MM = 0.3
"""What a line leaves within this much of its start is the surface that it starts on."""

__all__ = [
    "between",
    "cut",
    "largest",
    "pose",
    "prism",
    "rod",
    "round_rod",
    "simplified",
    "spans",
    "to_mesh",
    "to_solid",
    "upright_frame",
    "way_out",
]
