"""Triangle meshes in and out: STL, PLY, and OBJ in.

A mesh file says its frame with ``SPACE=LPS`` (or RAS) in its header, as 3D Slicer writes and reads it; without that,
LPS mm is meant. Reading is trimesh's, after the file's size has been held against its header.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import FormatError, InputError
from calvaria.files import PathLike, atomic_path, require_file
from calvaria.io.frames import frame_to_lps
from calvaria.volume.mesh import Mesh

STL_HEADER = b"calvaria output. SPACE=LPS".ljust(80)
"""3D Slicer looks for SPACE= in it; it must not begin with ``solid``, the first word of a text STL."""

_STL_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_PLY_FACE = np.dtype([("count", "u1"), ("vertices", "<i4", 3)])
_PLY_TYPES = {"float": "<f4", "uchar": "u1"}
_STL_START = 84  # header and the number of triangles
_HEAD = 1 << 16

MESHES = (".stl", ".ply", ".obj")
"""Extensions of meshes that are read."""


def read_mesh(path: PathLike, *, require_closed: bool = True) -> Mesh:
    """Read a triangle mesh.

    Corners at exactly the same point become one vertex, unless the mesh is closed as it is, and triangles left with two
    corners are dropped. A closed mesh whose normals point inwards is turned.

    Args:
        path: ``.stl`` (text or binary), ``.ply`` or ``.obj``; lengths in mm. ``SPACE=RAS`` in the header or a comment
            is converted; without it the file is in LPS.
        require_closed: refuse a surface with open edges, which encloses no volume.

    Returns:
        The mesh in LPS mm, with at least one triangle.

    Raises:
        InputError: there is no such file, it is of another kind, has no triangle, or is open though it must be closed.
        FormatError: the file is truncated or damaged.
    """
    path = require_file(path)
    extension = path.suffix.lower()
    if extension not in MESHES:
        raise InputError(f"{path.name}: a mesh is read from {', '.join(MESHES)}; got {extension or 'no extension'}")
    comments = {".stl": _check_stl, ".ply": _check_ply, ".obj": _obj_comments}[extension](path)
    vertices, faces = _load(path, extension)
    try:
        mesh = Mesh(vertices, faces)
        mesh = mesh if mesh.is_closed else _merged(mesh)
        space = re.search(rb"SPACE\s*=\s*([A-Za-z]{3})\b", comments)
        if space:
            to_lps = np.eye(4)
            to_lps[:3, :3] = frame_to_lps(space.group(1).decode())
            mesh = mesh.moved(to_lps)
    except InputError as error:
        raise FormatError(f"{path.name}: {error}") from error
    if mesh.is_empty:
        raise InputError(f"{path.name}: the mesh has no triangles")
    open_edges = mesh.open_edges
    if require_closed and open_edges:
        raise InputError(
            f"{path.name}: the mesh must be closed; {open_edges} of its edges have no partner (holes, or triangles of "
            "opposite sense); repair it first, e.g. in Meshmixer or MeshLab"
        )
    return mesh.flipped() if not open_edges and mesh.volume_ml < 0 else mesh


def write_mesh(
    path: PathLike, mesh: Mesh, *, values: ArrayLike | None = None, colours: ArrayLike | None = None
) -> None:
    """Write a mesh in LPS mm as binary STL or PLY; the file appears whole or not at all.

    Coordinates are float32 (1e-5 mm for a head). PLY keeps vertices shared; STL repeats them with every triangle.

    Args:
        path: ends with ``.stl`` or ``.ply``; replaced if it is there.
        mesh: may be empty; the file then has no triangle.
        values: (V,) a number at each vertex; PLY only, as the property ``quality``, with the vertices' normals.
        colours: (V, 3) of each vertex, 0-255; PLY only, with the vertices' normals.

    Raises:
        InputError: another extension, values or colours that are not one a vertex or not for PLY, no such folder, or
            the disk refuses.
    """
    path = Path(path)
    extension = path.suffix.lower()
    if extension not in (".stl", ".ply"):
        raise InputError(f"{path.name}: a mesh is written as .stl, .ply; choose one of these extensions")
    extra = _vertex_properties(path, mesh, values, colours)
    with atomic_path(path) as part:
        part.write_bytes(stl_bytes(mesh) if extension == ".stl" else _ply_bytes(mesh, extra))


def _vertex_properties(
    path: Path, mesh: Mesh, values: ArrayLike | None, colours: ArrayLike | None
) -> list[tuple[str, str, NDArray[Any]]]:
    """Name, PLY type and (V,) data of each further property of the vertices."""
    if values is None and colours is None:
        return []
    if path.suffix.lower() != ".ply":
        raise InputError(f"{path.name}: only PLY holds values and colours; let the name end in .ply")
    extra = [(name, "float", column) for name, column in zip(("nx", "ny", "nz"), mesh.vertex_normals.T, strict=True)]
    count = len(mesh.vertices_mm)
    for what, given, shape in (("values", values, (count,)), ("colours", colours, (count, 3))):
        if given is not None and np.shape(given) != shape:
            raise InputError(f"{path.name}: {what} of a mesh of {count} vertices are {shape}; got {np.shape(given)}")
    if colours is not None:
        shades = np.clip(np.asarray(colours), 0, 255).astype(np.uint8)
        extra += [(name, "uchar", column) for name, column in zip(("red", "green", "blue"), shades.T, strict=True)]
    if values is not None:
        extra.append(("quality", "float", np.asarray(values)))
    return extra


def stl_bytes(mesh: Mesh) -> bytes:
    """A mesh in LPS mm as the bytes of a binary STL file, which says its frame in its header."""
    triangles = np.zeros(len(mesh.faces), _STL_TRIANGLE)
    corners = mesh.vertices_mm[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    triangles["normal"] = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    triangles["corners"] = corners
    return STL_HEADER + len(triangles).to_bytes(4, "little") + triangles.tobytes()


def _ply_bytes(mesh: Mesh, extra: list[tuple[str, str, NDArray[Any]]]) -> bytes:
    columns = [(name, "float", column) for name, column in zip("xyz", mesh.vertices_mm.T, strict=True)] + extra
    vertices = np.zeros(len(mesh.vertices_mm), [(name, _PLY_TYPES[kind]) for name, kind, _ in columns])
    for name, _, column in columns:
        vertices[name] = column
    properties = "".join(f"property {kind} {name}\n" for name, kind, _ in columns)
    faces = np.zeros(len(mesh.faces), _PLY_FACE)
    faces["count"] = 3
    faces["vertices"] = mesh.faces
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment calvaria output. SPACE=LPS\n"
        f"element vertex {len(vertices)}\n{properties}"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    return header.encode("ascii") + vertices.tobytes() + faces.tobytes()


def _load(path: Path, extension: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    import trimesh

    try:
        with path.open("rb") as file, np.errstate(all="ignore"):
            loaded: Any = trimesh.load_mesh(file, file_type=extension[1:], process=False, skip_materials=True)
        vertices = np.array(loaded.vertices, dtype=np.float64).reshape(-1, 3)
        return vertices, np.array(loaded.faces, dtype=np.int64).reshape(-1, 3)
    except Exception as error:  # a parser that is given garbage may raise anything at all
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise FormatError(f"{path.name}: the {extension[1:].upper()} mesh is damaged: {reason[:120]}") from error


def _merged(mesh: Mesh) -> Mesh:
    """The mesh with one vertex for each point, in the order of first use, and without triangles of two corners."""
    x, y, z = mesh.vertices_mm.T
    order = np.lexsort((z, y, x))  # stable: equal points stay in their order
    sorted_mm = mesh.vertices_mm[order]
    is_new = np.r_[True, (sorted_mm[1:] != sorted_mm[:-1]).any(axis=1)] if len(order) else np.zeros(0, bool)
    first = order[is_new]
    place = np.zeros(len(order), np.int64)
    place[order] = np.cumsum(is_new) - 1
    rank = np.argsort(np.argsort(first))
    faces = rank[place][mesh.faces]
    a, b, c = faces.T
    return Mesh(mesh.vertices_mm[np.sort(first)], faces[(a != b) & (b != c) & (c != a)])


def _check_stl(path: Path) -> bytes:
    """The text of an STL header, once the file's size fits it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_STL_START)
        file.seek(max(0, size - _STL_START * 3))
        tail = file.read()
    count = int.from_bytes(head[80:_STL_START], "little")
    wanted = _STL_START + count * _STL_TRIANGLE.itemsize
    if size == wanted:
        return head[:80]
    if head.lstrip().lower().startswith(b"solid"):
        if b"endsolid" not in tail.lower():
            raise FormatError(f"{path.name}: truncated: the STL text does not end with 'endsolid'")
        return head.splitlines()[0]
    raise FormatError(f"{path.name}: truncated or no STL: {count} triangles need {wanted} bytes, the file has {size}")


def _check_ply(path: Path) -> bytes:
    """The comments of a PLY header, once the file can hold the elements it counts."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    header, end, _ = head.partition(b"end_header")
    if not header.startswith(b"ply") or not end:
        raise FormatError(f"{path.name}: no PLY header (it begins with 'ply' and ends with 'end_header')")
    wanted = 0
    for element in re.split(rb"(?=^element )", header, flags=re.MULTILINE)[1:]:
        count = re.match(rb"element \S+ +(\d{1,18})\s", element)
        least = 2 if b"format ascii" in header else 1  # bytes a property takes at least
        wanted += int(count.group(1)) * least * element.count(b"property") if count else 0
    stored = path.stat().st_size - len(header)
    if wanted > stored:
        raise FormatError(f"{path.name}: truncated: its header counts {wanted} bytes or more, the file has {stored}")
    return b"\n".join(line for line in header.splitlines() if line.startswith((b"comment", b"obj_info")))


def _obj_comments(path: Path) -> bytes:
    with path.open("rb") as file:
        lines = file.read(_HEAD).splitlines()
    return b"\n".join(line for line in lines if line.startswith(b"#"))
