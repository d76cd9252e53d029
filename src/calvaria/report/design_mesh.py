"""The meshes of a design as the viewer of its report reads them: few triangles, whole numbers, base64."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calvaria.report.design_scene import (
    UNKNOWN,
    Scale,
    clearance_on,
    clearance_scale,
    directions_of,
    mean_direction,
    part_colour,
    rest_of_skull,
    thickness_on,
    thickness_scale,
)
from calvaria.report.mesh_raster import Solid, solid
from calvaria.report.scene import Colour
from calvaria.report.sheet import BONE
from calvaria.report.views import PARALLEL_COSINE, View, frame_axes
from calvaria.types import F64
from calvaria.volume.mesh import Mesh, joined

if TYPE_CHECKING:
    from manifold3d import Manifold

    from calvaria.implant.parts import Design, Maps, Part

HOST_TRIANGLES, REST_TRIANGLES, PART_TRIANGLES = 60_000, 24_000, 70_000
"""At most so many, of all implants together: about 3 MB in the file."""

FIRST_ERROR_MM, ERROR_STEP, LAST_ERROR_MM = 0.02, 1.3, 1.5
"""What leaving triangles out may cost: from the first, times the step, until they are few enough."""

EDGE_MM = 2.0
"""Edges of an implant are no longer than this, so that a map has values to show."""

RIBBON_MM = 3.0
"""The clearance is shown on what lies within this of the rim's walls too, which from outside are seen edge-on."""

FACING_MM = 3.0
"""A place that faces another way counts as so much further away for each unit that the normals differ by."""

STEPS = 65535
"""Places are whole numbers over the box that holds everything: some thousandths of a millimetre each."""

BORDER = 1.35
"""How much wider than the implants the first view is."""


def viewer_data(design: Design) -> str:
    """What `viewer.js` shows, as JSON.

    ``low`` and ``size`` (mm) give the box that places are parts of; each mesh has ``places`` (uint16, 3 a vertex),
    ``normals`` (int8, 4 a vertex), ``faces`` (unsigned, ``width`` bytes each), its ``colour``, ``layer`` and
    ``direction``, and ``maps`` (uint8 a vertex, 0 for none, 1 to 255 over the scale), all base64 and little-endian.

    Args:
        design: with at least one implant.
    """
    axes = frame_axes(design.frame_to_world)
    budget = PART_TRIANGLES // len(design.parts)
    scales = _scales(design)
    bone = joined([fewer(design.host, HOST_TRIANGLES), _clustered(rest_of_skull(design), REST_TRIANGLES)])
    solids: list[tuple[Solid, int | None]] = [(solid(bone, BONE), None)]
    for number, part in enumerate(design.parts):
        solids.append((solid(_refined(fewer(part.mesh, budget // 2), budget), part_colour(number)), number))
    points = np.concatenate([one.vertices_mm for one, _ in solids])
    low, high = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
    size = np.maximum(high - low, 1e-3)
    of_parts = np.concatenate([part.mesh.vertices_mm for part in design.parts])
    view = _first_view(design, axes)
    group = np.concatenate([design.parts[n].mesh.vertices_mm for n in directions_of(design)[0]])
    across = np.ptp(group @ view.T, axis=0)[:2].max()
    return json.dumps(
        {
            "low": low.tolist(),
            "size": size.tolist(),
            "middle": ((of_parts.min(axis=0) + of_parts.max(axis=0)) / 2).tolist(),
            "depth": 2 * float(np.linalg.norm(size)),
            "span": float(across * BORDER),
            "view": view.ravel().tolist(),
            "axes": axes.ravel().tolist(),
            "unknown": list(UNKNOWN),
            "scales": {name: {"values": one.values, "colours": one.colours} for name, one in scales.items()},
            "meshes": [_packed(design, one, number, scales, (low, size)) for one, number in solids],
        },
        separators=(",", ":"),
    )


def fewer(mesh: Mesh, triangles: int) -> Mesh:
    """The same mesh with no more triangles than that, if it can be: with as little error as that takes.

    Args:
        mesh: where it is closed it stays so.
        triangles: wanted at most.
    """
    from manifold3d import Error

    if len(mesh.faces) <= triangles:
        return mesh
    body = _manifold(mesh)
    if body.status() != Error.NoError or body.is_empty():
        return _clustered(mesh, triangles)
    error_mm = FIRST_ERROR_MM
    while body.num_tri() > triangles and error_mm <= LAST_ERROR_MM:
        body, error_mm = body.simplify(error_mm), ERROR_STEP * error_mm
    return _mesh(body)


def _clustered(mesh: Mesh, triangles: int) -> Mesh:
    """Fewer triangles of any surface, also an open one: the vertices of a cell become one."""
    cell = 1.0
    while len(mesh.faces) > triangles:
        _, cells = np.unique(np.floor(mesh.vertices_mm / cell), axis=0, return_inverse=True)
        cells = cells.ravel()
        counts = np.bincount(cells)
        means = np.stack([np.bincount(cells, line) / counts for line in mesh.vertices_mm.T], axis=1)
        faces = cells[mesh.faces]
        faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
        mesh, cell = Mesh(means, faces), cell * 1.4
    return mesh


def _refined(mesh: Mesh, triangles: int) -> Mesh:
    """The same surface with long edges divided, so that a map shows on it; itself where that makes too many."""
    from manifold3d import Error

    body = _manifold(mesh)
    if body.status() != Error.NoError or body.is_empty():
        return mesh
    body = body.refine_to_length(EDGE_MM)
    return _mesh(body) if body.num_tri() <= triangles else mesh


def _manifold(mesh: Mesh) -> Manifold:
    from manifold3d import Manifold, Mesh64

    # It takes only arrays in C order that may be written to.
    vertices, faces = np.array(mesh.vertices_mm, order="C"), np.array(mesh.faces, np.uint64, order="C")
    return Manifold(Mesh64(vert_properties=vertices, tri_verts=faces))


def _mesh(body: Manifold) -> Mesh:
    found = body.to_mesh64()
    return Mesh(np.array(found.vert_properties)[:, :3], np.asarray(found.tri_verts).astype(np.int64))


def _scales(design: Design) -> dict[str, Scale]:
    """Of the maps that the design has."""
    if len(design.maps) != len(design.parts):
        return {}
    return {"thickness": thickness_scale(design), "clearance": clearance_scale(design)}


def _first_view(design: Design, axes: F64) -> F64:
    """(3, 3) rows right, down, away, in the world: onto the first implants, from a little beside their way in."""
    way = axes.T @ mean_direction(design, directions_of(design)[0])
    front = np.array([0.0, -1.0, 0.2]) if abs(way[1]) < 0.8 else np.array([1.0, 0.0, 0.2])
    x, y, z = (float(v) for v in way - 0.45 * (front - (front @ way) * way))
    up = (0.0, 0.0, 1.0) if abs(z) < PARALLEL_COSINE * np.linalg.norm((x, y, z)) else (0.0, -1.0, 0.0)
    return np.asarray(View("", (x, y, z), up).axes() @ axes.T)


def _packed(
    design: Design, drawn: Solid, number: int | None, scales: dict[str, Scale], box: tuple[F64, F64]
) -> dict[str, Any]:
    """One mesh of the JSON."""
    maps: dict[str, NDArray[np.uint8]] = {}
    if number is not None and scales:
        thickness, clearance = _values(design.parts[number], design.maps[number], drawn)
        maps = {
            "thickness": _levels(thickness, scales["thickness"]),
            "clearance": _levels(clearance, scales["clearance"]),
        }
    # Corners of a crease whose normals are alike become one vertex again; vertices that no face has are left out.
    normals = np.rint(drawn.normals * 127).astype(np.int8)
    key = np.column_stack([drawn.origin, normals, *maps.values()]).astype(np.int32)
    used = np.unique(drawn.faces)
    _, first, same = np.unique(key[used], axis=0, return_index=True, return_inverse=True)
    kept, renumbered = used[first], np.zeros(len(key), np.int64)
    renumbered[used] = same.ravel()
    low, size = box
    places = np.rint((drawn.vertices_mm[kept] - low) / size * STEPS).clip(0, STEPS)
    width = 2 if len(kept) <= STEPS else 4
    colour: Colour = BONE if number is None else part_colour(number)
    return {
        "layer": "bone" if number is None else "implant",
        "part": number,
        "direction": [0.0, 0.0, 0.0] if number is None else design.parts[number].direction.tolist(),
        "colour": list(colour),
        "places": _base64(places.astype("<u2")),
        "normals": _base64(np.pad(normals[kept], ((0, 0), (0, 1)))),
        "faces": _base64(renumbered[drawn.faces].astype(f"<u{width}")),
        "width": width,
        "maps": {name: _base64(values[kept]) for name, values in maps.items()},
    }


def _values(part: Part, maps: Maps, drawn: Solid) -> tuple[F64, F64]:
    """(N,) thickness and clearance on a mesh that is not the one that was measured.

    Those of the nearest place there that faces about the same way: a wall's for a wall.
    """
    from scipy.spatial import cKDTree

    if part.body.is_empty:
        return np.full(len(drawn.origin), np.nan), np.full(len(drawn.origin), np.nan)
    body = solid(part.body, UNKNOWN)
    used = np.unique(body.faces)
    tree = cKDTree(np.hstack([body.vertices_mm, FACING_MM * body.normals])[used])
    _, nearest = tree.query(np.hstack([drawn.vertices_mm, FACING_MM * drawn.normals]), workers=2)
    thickness = thickness_on(np.asarray(maps.thickness_mm)[body.origin], body)
    clearance = clearance_on(np.asarray(maps.clearance_mm)[body.origin], body)
    thickness, clearance = thickness[used[nearest]], clearance[used[nearest]]
    known = np.isfinite(clearance)
    if known.any():
        apart, rim = cKDTree(drawn.vertices_mm[known]).query(drawn.vertices_mm, distance_upper_bound=RIBBON_MM)
        near = np.isfinite(apart)
        clearance[near] = clearance[known][rim[near]]
    return thickness, clearance


def _levels(values: F64, scale: Scale) -> NDArray[np.uint8]:
    """1 to 255 over a scale; 0 for NaN."""
    low, high = scale.values[0], scale.values[-1]
    level = 1 + np.rint(np.clip((np.nan_to_num(values, nan=low) - low) / (high - low), 0, 1) * 254)
    return np.where(np.isnan(values), 0, level).astype(np.uint8)


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


__all__ = ["fewer", "viewer_data"]
