"""Our 3MF files, read back by the consortium's own library in its strict mode."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.io.test_meshes import tetrahedra, tetrahedron

from calvaria.errors import InputError
from calvaria.io import write_3mf
from calvaria.volume import Mesh

lib3mf = pytest.importorskip("lib3mf")
wrapper = lib3mf.get_wrapper()


def model_of(path: Path):
    """The file as lib3mf reads it; any deviation from the specification is an error."""
    model = wrapper.CreateModel()
    reader = model.QueryReader("3mf")
    reader.SetStrictModeActive(True)
    reader.ReadFromFile(str(path))
    assert reader.GetWarningCount() == 0
    return model


def objects_of(model) -> dict[str, Mesh]:
    found, every = {}, model.GetMeshObjects()
    while every.MoveNext():
        one = every.GetCurrentMeshObject()
        assert one.IsManifoldAndOriented()
        vertices = np.array([tuple(point.Coordinates) for point in one.GetVertices()], float)
        faces = np.array([tuple(triangle.Indices) for triangle in one.GetTriangleIndices()])
        found[one.GetName()] = Mesh(vertices, faces)
    return found


def told_by(model) -> dict[str, str]:
    group = model.GetMetaDataGroup()
    each = (group.GetMetaData(n) for n in range(group.GetMetaDataCount()))
    return {one.GetName(): one.GetValue() for one in each}


@given(tetrahedra())
def test_the_oracle_reads_the_mesh_that_was_written(tmp_path_factory, mesh):
    path = tmp_path_factory.mktemp("3mf") / "implant.3mf"
    write_3mf(path, [("implant", mesh)], {})
    model = model_of(path)
    (read,) = objects_of(model).values()
    assert np.array_equal(read.faces, mesh.faces)
    np.testing.assert_allclose(read.vertices_mm, mesh.vertices_mm, atol=3e-5)  # the oracle holds float32
    assert model.GetUnit() == lib3mf.ModelUnit.MilliMeter


def test_several_meshes_are_several_objects_on_the_plate(tmp_path):
    path = tmp_path / "implant.3mf"
    write_3mf(path, [("implant-1", tetrahedron()), ("implant-2", tetrahedron(shift=(-90.0, 3.0, 1.0)))], {})
    model = model_of(path)
    assert list(objects_of(model)) == ["implant-1", "implant-2"]
    items, names = model.GetBuildItems(), []
    while items.MoveNext():
        names.append(items.GetCurrent().GetObjectResource().GetName())
        assert not items.GetCurrent().HasObjectTransform()
    assert names == ["implant-1", "implant-2"]


def test_the_metadata_is_what_was_given_whatever_stands_in_it(tmp_path):
    told = {"Title": 'a < b & "c" > d', "Application": "calvaria 1", "Description": "LPS mm, 0.7 mm ± 0, ä 骨 ]]> <!--"}
    write_3mf(tmp_path / "a.3mf", [('the "one" & <only>', tetrahedron())], told)
    model = model_of(tmp_path / "a.3mf")
    assert told_by(model) == told
    assert list(objects_of(model)) == ['the "one" & <only>']


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn")), max_size=30))
def test_any_text_survives(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("3mf") / "a.3mf"
    write_3mf(path, [("implant", tetrahedron())], {"Title": f"_{text}_"})
    assert told_by(model_of(path)) == {"Title": f"_{text}_"}


def test_the_same_mesh_gives_the_same_bytes_and_says_nothing_of_when_and_where(tmp_path):
    for name in ("a", "b"):
        write_3mf(tmp_path / f"{name}.3mf", [("implant", tetrahedron())], {"Title": "x"})
    assert (tmp_path / "a.3mf").read_bytes() == (tmp_path / "b.3mf").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.3mf") as archive:
        assert [one.filename for one in archive.infolist()] == [
            "[Content_Types].xml",
            "_rels/.rels",
            "3D/3dmodel.model",
        ]
        assert {one.date_time for one in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {one.create_system for one in archive.infolist()} == {0}
        assert archive.testzip() is None


def test_a_number_has_no_exponent_and_no_minus_zero(tmp_path):
    mesh = tetrahedron(scale=30.0, shift=(-1e-9, 2e5, 0.0))
    write_3mf(tmp_path / "a.3mf", [("implant", mesh)], {})
    with zipfile.ZipFile(tmp_path / "a.3mf") as archive:
        text = archive.read("3D/3dmodel.model").decode()
    assert '<vertex x="0.00000" y="200000.00000" z="0.00000"/>' in text


@pytest.mark.parametrize(
    ("name", "meshes", "metadata", "message"),
    [
        ("a.stl", [("implant", tetrahedron())], {}, r"a\.stl: a 3MF file's name ends in \.3mf"),
        ("a.3mf", [], {}, r"a\.3mf: a 3MF file holds one mesh or more; got none"),
        ("a.3mf", [("nil", Mesh.empty())], {}, r"a\.3mf: a 3MF file holds closed meshes; 'nil' has no triangle"),
        (
            "a.3mf",
            [("open", Mesh(tetrahedron().vertices_mm, tetrahedron().faces[1:]))],
            {},
            r"a\.3mf: a 3MF file holds closed meshes; 'open' has 3 open edges",
        ),
        ("a.3mf", [("implant", tetrahedron())], {"Patient": "x"}, r"metadata of a 3MF file is one of .*; got Patient"),
        ("a.3mf", [("implant", tetrahedron())], {"Title": "a\x07b"}, r"'a\\x07b' has characters that XML cannot hold"),
        ("a.3mf", [("\ud800", tetrahedron())], {}, r"'\\ud800' has characters that XML cannot hold; take them out"),
    ],
)
def test_what_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path, name, meshes, metadata, message):
    with pytest.raises(InputError, match=message):
        write_3mf(tmp_path / name, meshes, metadata)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_stays_when_the_new_one_fails(tmp_path, monkeypatch):
    path = tmp_path / "a.3mf"
    path.write_text("old")

    def refuse(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zipfile.ZipFile.writestr", refuse)
    with pytest.raises(InputError, match=r"a\.3mf: cannot be written: No space left on device"):
        write_3mf(path, [("implant", tetrahedron())], {})
    assert [one.read_text() for one in tmp_path.iterdir()] == ["old"]
