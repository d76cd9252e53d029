"""What the viewer of a design's report is given: the same surfaces, fewer triangles, and their maps."""

import base64
import dataclasses
import json
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from scipy.spatial import cKDTree
from tests.implant.shapes import OUTER_MM, THICKNESS_MM, cap, edge_deg
from tests.report.test_design_picture import light, mapped, two_sided

from calvaria.report.design_mesh import FIRST_ERROR_MM, HOST_TRIANGLES, PART_TRIANGLES, fewer, viewer_data
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.volume.mesh import Mesh


@lru_cache
def data() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(viewer_data(mapped()))
    return found


def array(text: str, dtype: str, columns: int) -> Any:
    return np.frombuffer(base64.b64decode(text), dtype).reshape(-1, columns)


def places(one: dict[str, Any], given: dict[str, Any]) -> Any:
    return np.array(given["low"]) + array(one["places"], "<u2", 3) / 65535 * np.array(given["size"])


def test_the_implant_keeps_its_surface_its_normals_and_its_orientation():
    given = data()
    one = given["meshes"][1]
    found, faces = places(one, given), array(one["faces"], f"<u{one['width']}", 3)
    assert faces.max() < len(found)
    assert len(faces) <= PART_TRIANGLES
    mesh = Mesh(found, faces.astype(np.int64))
    assert mesh.volume_ml == pytest.approx(cap().parts[0].mesh.volume_ml, rel=0.01)
    arm = found - HEAD_CENTRE_MM
    radius = np.linalg.norm(arm, axis=1)
    angle = np.degrees(np.arccos(arm[:, 0] / radius))
    inside = angle < edge_deg() - 2
    off = np.minimum(np.abs(radius - OUTER_MM), np.abs(radius - OUTER_MM + THICKNESS_MM))
    assert np.percentile(off[inside], 99) < 0.1
    normals = array(one["normals"], "i1", 4)[:, :3] / 127
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1, abs=0.02)
    outer = inside & (radius > OUTER_MM - 1)
    outwards = np.einsum("nk,nk->n", normals, arm / radius[:, None])[outer]
    assert np.mean(outwards > 0.97) > 0.99


def test_the_maps_survive():
    given = data()
    one = given["meshes"][1]
    arm = places(one, given) - HEAD_CENTRE_MM
    level = {name: array(text, "u1", 1)[:, 0].astype(float) for name, text in one["maps"].items()}
    low, high = given["scales"]["thickness"]["values"][0], given["scales"]["thickness"]["values"][-1]
    thickness = low + (level["thickness"] - 1) / 254 * (high - low)
    angle = np.degrees(np.arccos(arm[:, 0] / np.linalg.norm(arm, axis=1)))
    face = (angle < edge_deg() - 3) & (np.abs(arm[:, 2]) > 3)
    assert (level["thickness"][face] > 0).all()
    assert thickness[face] == pytest.approx(np.where(arm[face, 2] > 0, 5.0, 3.0), abs=0.01)
    assert (level["clearance"][angle < edge_deg() - 6] == 0).all()
    rim = (np.abs(angle - edge_deg()) < 0.1) & (np.abs(arm[:, 2]) > 3)
    assert rim.sum() > 200
    assert np.mean(level["clearance"][rim] > 0) > 0.95
    wide = level["clearance"][rim & (arm[:, 2] > 0)]
    tight = level["clearance"][rim & (arm[:, 2] < 0)]
    assert np.median(wide) == 255
    assert np.median(tight) == pytest.approx(1 + 254 * 0.05 / 1.4, abs=1)


def test_without_maps_there_are_no_scales():
    given = json.loads(viewer_data(light()))
    assert given["scales"] == {}
    assert all(one["maps"] == {} for one in given["meshes"])


def test_the_bone_is_one_layer_and_each_implant_has_its_own_way():
    given = json.loads(viewer_data(two_sided()))
    assert [(one["layer"], one["part"]) for one in given["meshes"]] == [("bone", None), ("implant", 0), ("implant", 1)]
    assert [one["direction"][0] for one in given["meshes"]] == [0, -1, 1]
    bone = given["meshes"][0]
    apart, _ = cKDTree(cap().host.vertices_mm).query(places(bone, given))
    assert np.percentile(apart, 99) < 1.2
    assert len(array(bone["faces"], f"<u{bone['width']}", 3)) <= HOST_TRIANGLES


def test_fewer_triangles_are_the_same_body():
    mesh = cap().parts[0].mesh
    found = fewer(mesh, 4000)
    assert len(found.faces) <= 4000
    assert found.is_closed
    assert found.volume_ml == pytest.approx(mesh.volume_ml, rel=0.01)
    assert fewer(mesh, len(mesh.faces)) is mesh
    assert FIRST_ERROR_MM < 0.05


def test_what_is_no_solid_is_made_coarser_all_the_same():
    mesh = cap().parts[0].mesh
    opened = Mesh(mesh.vertices_mm, mesh.faces[1000:])
    found = fewer(opened, 4000)
    assert 500 < len(found.faces) <= 4000
    apart, _ = cKDTree(mesh.vertices_mm).query(found.vertices_mm)
    assert apart.max() < 2.5


def test_a_measured_body_without_triangles_gives_no_values():
    design = mapped()
    part = dataclasses.replace(design.parts[0], body=Mesh.empty())
    empty = dataclasses.replace(design.maps[0], thickness_mm=np.zeros(0), clearance_mm=np.zeros(0))
    given = json.loads(viewer_data(dataclasses.replace(design, parts=(part,), maps=(empty,))))
    levels = array(given["meshes"][1]["maps"]["thickness"], "u1", 1)
    assert (levels == 0).all()
