"""Meshes: LPS, closed, outward, whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calvaria.errors import CalvariaError, FormatError, InputError
from calvaria.io import read_mesh, write_mesh
from calvaria.volume.mesh import Mesh

trimesh = pytest.importorskip("trimesh")

WRITTEN = (".stl", ".ply")
TETRAHEDRON = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
TETRAHEDRON_FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def tetrahedron(scale=30.0, shift=(10.0, -20.0, 5.0)):
    return Mesh(TETRAHEDRON * scale + shift, TETRAHEDRON_FACES)


def sphere(radius=20.0):
    shape = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    return Mesh(shape.vertices + np.array([5.0, 6.0, 7.0]), np.array(shape.faces))


@st.composite
def tetrahedra(draw):
    """A few separate, positively turned tetrahedra with float32 corners."""
    count = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    corners = TETRAHEDRON + rng.uniform(-0.2, 0.2, (count, 4, 3)) + 3 * np.arange(count)[:, None, None]
    vertices = (corners * draw(st.floats(0.5, 80))).astype(np.float32).astype(float).reshape(-1, 3)
    return Mesh(vertices, np.concatenate([TETRAHEDRON_FACES + 4 * n for n in range(count)]))


def triangles(mesh):
    """The triangles as a set, whatever the order of vertices and faces."""
    corners = mesh.vertices_mm[mesh.faces]
    first = [min(range(3), key=lambda n: tuple(t[n])) for t in corners]
    return sorted(np.roll(t, -n, axis=0).tolist() for t, n in zip(corners, first, strict=True))


def test_the_surface_comes_back_with_its_vertices_shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mesh")

    @given(tetrahedra())
    def check(mesh):
        for extension in WRITTEN:
            write_mesh(folder / f"a{extension}", mesh)
            back = read_mesh(folder / f"a{extension}")
            assert triangles(back) == triangles(mesh)
            assert len(back.vertices_mm) == len(mesh.vertices_mm)
            assert back.is_closed
            np.testing.assert_allclose(back.volume_ml, mesh.volume_ml, rtol=1e-6)

    check()


def test_ply_keeps_the_order_of_vertices_and_faces(tmp_path):
    mesh = sphere()
    write_mesh(tmp_path / "a.ply", mesh)
    back = read_mesh(tmp_path / "a.ply")
    np.testing.assert_array_equal(back.faces, mesh.faces)
    np.testing.assert_array_equal(back.vertices_mm, mesh.vertices_mm.astype(np.float32))


@pytest.mark.parametrize("extension", WRITTEN)
def test_trimesh_reads_what_we_write(extension, tmp_path):
    mesh = sphere()
    write_mesh(tmp_path / f"a{extension}", mesh)
    other = trimesh.load_mesh(tmp_path / f"a{extension}")
    assert other.is_watertight
    np.testing.assert_allclose(other.volume, mesh.volume_ml * 1000, rtol=1e-5)
    np.testing.assert_allclose(other.bounds, [mesh.vertices_mm.min(0), mesh.vertices_mm.max(0)], atol=1e-5)


def test_stl_says_lps_as_slicer_does_and_its_normals_point_outward(tmp_path):
    mesh = sphere()
    write_mesh(tmp_path / "a.stl", mesh)
    raw = (tmp_path / "a.stl").read_bytes()
    assert b"SPACE=LPS" in raw[:80]
    assert b"calvaria" in raw[:80]
    assert not raw.startswith(b"solid")
    assert len(raw) == 84 + 50 * len(mesh.faces)
    records = np.frombuffer(raw[84:], np.dtype([("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")]))
    outward = records["v"].mean(axis=1) - [5, 6, 7]
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    assert ((records["n"] * outward).sum(axis=1) > 0.99).all()
    np.testing.assert_allclose(np.linalg.norm(records["n"], axis=1), 1.0, atol=1e-6)


def test_ply_says_lps(tmp_path):
    write_mesh(tmp_path / "a.ply", tetrahedron())
    header = (tmp_path / "a.ply").read_bytes().partition(b"end_header")[0]
    assert b"\ncomment calvaria output. SPACE=LPS\n" in header


def test_a_triangle_without_area_has_no_normal(tmp_path):
    write_mesh(tmp_path / "a.stl", Mesh(np.ones((3, 3)), np.array([[0, 1, 2]])))
    assert (tmp_path / "a.stl").read_bytes()[84:96] == bytes(12)


@pytest.mark.parametrize("extension", WRITTEN)
def test_an_empty_mesh_can_be_written_but_is_no_input(extension, tmp_path):
    write_mesh(tmp_path / f"a{extension}", Mesh.empty())
    with pytest.raises(CalvariaError, match=rf"^a{extension}: .*(no triangles|damaged)"):
        read_mesh(tmp_path / f"a{extension}")


@pytest.mark.parametrize("name", ["a.obj", "a.vtk", "a"])
def test_other_extensions_are_not_written(name, tmp_path):
    with pytest.raises(InputError, match=rf"^{name}: a mesh is written as \.stl, \.ply"):
        write_mesh(tmp_path / name, tetrahedron())


def with_space(path, space):
    """Name another frame in the header of a file that we wrote."""
    path.write_bytes(path.read_bytes().replace(b"SPACE=LPS", f"SPACE={space}".encode(), 1))


@pytest.mark.parametrize("extension", WRITTEN)
def test_ras_in_the_header_becomes_lps(extension, tmp_path):
    mesh, path = tetrahedron(), tmp_path / f"a{extension}"
    write_mesh(path, mesh)
    with_space(path, "RAS")
    assert triangles(read_mesh(path)) == triangles(mesh.moved(np.diag([-1.0, -1, 1, 1])))
    write_mesh(path, mesh)
    with_space(path, "LAS")
    mirrored = read_mesh(path)
    assert mirrored.volume_ml > 0  # a mirror image, its normals still outward
    np.testing.assert_allclose(mirrored.vertices_mm.min(axis=0), [10, -10, 5], atol=1e-5)


@pytest.mark.parametrize("extension", WRITTEN)
def test_a_space_that_is_none_is_refused(extension, tmp_path):
    path = tmp_path / f"a{extension}"
    write_mesh(path, tetrahedron())
    with_space(path, "XYZ")
    with pytest.raises(FormatError, match=rf"^a{extension}: orientation must be three letters"):
        read_mesh(path)


def test_without_a_space_lps_is_meant(tmp_path):
    path = tmp_path / "a.stl"
    write_mesh(path, tetrahedron())
    path.write_bytes(bytes(80) + path.read_bytes()[80:])
    assert triangles(read_mesh(path)) == triangles(tetrahedron())


@pytest.mark.parametrize("space", ["LPS", "RAS"])
@pytest.mark.parametrize("form", ["stl_ascii", "ply_ascii", "obj", "obj_quads"])
def test_text_formats_are_read(form, space, tmp_path):
    mesh = tetrahedron()
    other = trimesh.Trimesh(mesh.vertices_mm, mesh.faces, process=False)
    if form == "obj_quads":
        box = trimesh.creation.box((2, 3, 4))
        mesh = Mesh(np.array(box.vertices), np.array(box.faces))
        corners = "".join(f"v {x} {y} {z}\n" for x in (-1, 1) for y in (-1.5, 1.5) for z in (-2, 2))
        text = corners + "f 1 2 4 3\nf 5 7 8 6\nf 1 5 6 2\nf 3 4 8 7\nf 1 3 7 5\nf 2 6 8 4\n"
    elif form == "ply_ascii":
        text = other.export(file_type="ply", encoding="ascii").decode()
    else:
        text = other.export(file_type=form)
    extension = form.split("_")[0]
    text = {
        "stl": text.replace("solid", f"solid SPACE={space}", 1),
        "ply": text.replace("\nelement", f"\ncomment SPACE={space}\nelement", 1),
        "obj": f"# SPACE={space}\n{text}",
    }[extension]
    path = tmp_path / f"a.{extension}"
    path.write_text(text)
    back = read_mesh(path)
    assert back.is_closed
    np.testing.assert_allclose(back.volume_ml, mesh.volume_ml, rtol=1e-5)
    wanted = mesh.vertices_mm * ([-1, -1, 1] if space == "RAS" else 1)
    np.testing.assert_allclose(np.sort(back.vertices_mm, axis=0), np.sort(wanted, axis=0), atol=1e-5)


@pytest.mark.parametrize("extension", WRITTEN)
def test_a_mesh_turned_inside_out_is_turned_back(extension, tmp_path):
    write_mesh(tmp_path / f"a{extension}", tetrahedron().flipped())
    assert read_mesh(tmp_path / f"a{extension}").volume_ml == pytest.approx(tetrahedron().volume_ml, rel=1e-5)


@pytest.mark.parametrize("extension", WRITTEN)
def test_an_open_mesh_is_refused_unless_allowed(extension, tmp_path):
    mesh = tetrahedron()
    write_mesh(tmp_path / f"a{extension}", Mesh(mesh.vertices_mm, mesh.faces[1:]))
    with pytest.raises(InputError, match=rf"^a{extension}: the mesh must be closed; 3 of its edges have no partner"):
        read_mesh(tmp_path / f"a{extension}")
    assert len(read_mesh(tmp_path / f"a{extension}", require_closed=False).faces) == 3


def test_a_triangle_of_opposite_sense_opens_its_edges(tmp_path):
    mesh = tetrahedron()
    faces = mesh.faces.copy()
    faces[0] = faces[0, ::-1]
    write_mesh(tmp_path / "a.ply", Mesh(mesh.vertices_mm, faces))
    with pytest.raises(InputError, match="3 of its edges have no partner"):
        read_mesh(tmp_path / "a.ply")


def test_triangles_that_lose_their_area_by_merging_are_dropped(tmp_path):
    mesh = tetrahedron()
    vertices = np.vstack([mesh.vertices_mm, mesh.vertices_mm[:1]])
    faces = np.vstack([mesh.faces, [[0, 4, 1]]])
    write_mesh(tmp_path / "a.stl", Mesh(vertices, faces))
    assert triangles(read_mesh(tmp_path / "a.stl")) == triangles(mesh)


@pytest.mark.parametrize("extension", [".stl", ".ply", ".obj"])
def test_a_path_that_is_no_mesh_is_refused(extension, tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        read_mesh(tmp_path / f"none{extension}")
    (tmp_path / f"empty{extension}").write_bytes(b"")
    with pytest.raises(InputError, match="the file is empty"):
        read_mesh(tmp_path / f"empty{extension}")
    for content in (b"garbage", bytes(1000), b"\xff" * 1000, b"solid x\n", b"ply\n", b"ply\nend_header\n", b"v 1\n"):
        (tmp_path / f"a{extension}").write_bytes(content)
        with pytest.raises(InputError, match=rf"^a{extension}: "):
            read_mesh(tmp_path / f"a{extension}")


def test_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "a.vtk").write_bytes(b"x")
    with pytest.raises(InputError, match=r"^a\.vtk: a mesh is read from \.stl, \.ply, \.obj; got \.vtk"):
        read_mesh(tmp_path / "a.vtk")


@pytest.mark.parametrize("form", ["stl", "stl_ascii", "ply", "ply_ascii"])
def test_a_truncated_mesh_is_refused_in_one_line(form, tmp_path):
    mesh = sphere()
    path = tmp_path / f"a.{form.split('_')[0]}"
    write_mesh(path, mesh)
    if form.endswith("ascii"):
        other = trimesh.Trimesh(mesh.vertices_mm, mesh.faces, process=False)
        exported = other.export(file_type="ply", encoding="ascii") if form[0] == "p" else other.export(file_type=form)
        path.write_bytes(exported if isinstance(exported, bytes) else exported.encode())
    content = path.read_bytes()
    for share in (0.001, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(InputError, match=rf"^{path.name}: ") as caught:
            read_mesh(path)
        assert "\n" not in str(caught.value)


def test_an_absurd_count_is_refused_before_any_memory_is_taken(tmp_path, peak_memory):
    (tmp_path / "a.stl").write_bytes(bytes(80) + b"\xff\xff\xff\x7f" + bytes(500))
    header = "ply\nformat binary_little_endian 1.0\nelement vertex 99999999999\nproperty float x\nproperty float y\n"
    (tmp_path / "a.ply").write_bytes((header + "property float z\nend_header\n").encode() + bytes(500))
    for name in ("a.stl", "a.ply"):
        with peak_memory() as peak, pytest.raises(FormatError, match=rf"^{name}: truncated"):
            read_mesh(tmp_path / name)
        assert peak.mb < 1


def test_vertices_that_are_no_numbers_are_refused(tmp_path):
    vertices = TETRAHEDRON.copy()
    write_mesh(tmp_path / "a.ply", Mesh(vertices, TETRAHEDRON_FACES))
    raw = bytearray((tmp_path / "a.ply").read_bytes())
    start = raw.index(b"end_header\n") + 11
    raw[start : start + 4] = np.float32(np.nan).tobytes()
    (tmp_path / "a.ply").write_bytes(raw)
    with pytest.raises(FormatError, match=r"^a\.ply: the mesh has vertices that are NaN or infinite"):
        read_mesh(tmp_path / "a.ply")


def test_faces_of_vertices_that_do_not_exist_are_refused(tmp_path):
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n")
    with pytest.raises(FormatError, match=r"^a\.obj: "):
        read_mesh(tmp_path / "a.obj")


def test_values_and_colours_stand_at_the_vertices_of_a_ply(tmp_path):
    mesh, path = sphere(), tmp_path / "a.ply"
    values = mesh.vertices_mm[:, 2]
    colours = np.clip(mesh.vertices_mm * 10, 0, 255)
    write_mesh(path, mesh, values=values, colours=colours)
    assert triangles(read_mesh(path)) == triangles(Mesh(mesh.vertices_mm.astype(np.float32).astype(float), mesh.faces))
    loaded = trimesh.load_mesh(path, process=False)
    assert (loaded.visual.vertex_colors[:, :3] == colours.astype(np.uint8)).all()
    data = loaded.metadata["_ply_raw"]["vertex"]["data"]
    np.testing.assert_allclose(data["quality"], values, rtol=1e-6)
    # The normals of a sphere point from its middle.
    outward = (mesh.vertices_mm - [5, 6, 7]) / 20
    normals = np.stack([data[name] for name in ("nx", "ny", "nz")], axis=1)
    assert np.einsum("ni,ni->n", normals, outward).min() > 0.99


def test_values_are_for_ply_and_one_a_vertex(tmp_path):
    mesh = tetrahedron()
    with pytest.raises(InputError, match="only PLY holds values"):
        write_mesh(tmp_path / "a.stl", mesh, values=[0, 1, 2, 3])
    with pytest.raises(InputError, match=r"values of a mesh of 4 vertices are \(4,\); got \(3,\)"):
        write_mesh(tmp_path / "a.ply", mesh, values=[0, 1, 2])
    with pytest.raises(InputError, match=r"colours of a mesh of 4 vertices are \(4, 3\)"):
        write_mesh(tmp_path / "a.ply", mesh, colours=[0, 1, 2])
    assert not list(tmp_path.iterdir())


def test_a_vertex_of_no_triangle_has_no_normal():
    lone = Mesh(np.vstack([tetrahedron().vertices_mm, [0, 0, 0]]), TETRAHEDRON_FACES)
    assert (lone.vertex_normals[4] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(lone.vertex_normals[:4], axis=1), 1)
