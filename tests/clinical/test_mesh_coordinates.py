"""Conventions of mesh files, and how the right one is found."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.clinical.head import FRAME, GRID, POSE, TIGHT, around, implant, inside, patch, skull
from tests.heads import SIDE, Ball, Head, rigid, scan, true_frame, truth_of
from tests.strategies import grids

from calvaria.clinical.mesh_coordinates import (
    CLEAR,
    MIN_FIT,
    Placement,
    Sit,
    Surroundings,
    mask_conventions,
    mesh_conventions,
    place,
)
from calvaria.errors import InputError
from calvaria.implant.design import design_bodies
from calvaria.implant.settings import ImplantSettings
from calvaria.volume import Grid


def world_points(mask=None):
    mask = inside(implant(), GRID) if mask is None else mask
    return GRID.to_world(np.argwhere(mask))


def mapped(to, points):
    return np.asarray(points) @ to[:3, :3].T + to[:3, 3]


@given(grids(), st.tuples(*[st.floats(-5, 20)] * 3))
def test_every_convention_means_what_it_says(grid, at):
    known, index = mesh_conventions(grid), np.array(at)
    world = grid.to_world(index)
    spacing = np.array(grid.spacing_mm)
    first = grid.affine[:3, 3]
    flipped = np.array([index[0], grid.shape[1] - 1 - index[1], index[2]])
    as_file = {
        "lps": world,
        "ras": world * [-1, -1, 1],
        "lps-corner": world - first,
        "ras-corner": (world - first) * [-1, -1, 1],
        "box": index * spacing,
        "box-flip": flipped * spacing,
        "box-zyx": (index * spacing)[::-1],
        "index": index,
        "index-flip": flipped,
        "index-zyx": index[::-1],
    }
    for name, point in as_file.items():
        np.testing.assert_allclose(mapped(known[name], point), world, atol=1e-6)
    np.testing.assert_allclose(mapped(known["box-flip-cm"], as_file["box-flip"] / 10), world, atol=1e-6)
    np.testing.assert_allclose(mapped(known["ras-m"], as_file["ras"] / 1000), world, atol=1e-6)
    assert len(known) == 7 * 3 + 3


def test_a_mask_without_its_header_may_lie_on_the_skulls_grid():
    lost = Grid.isotropic(GRID.shape, 1.0)
    known = mask_conventions(lost, GRID)
    np.testing.assert_allclose(mapped(known["skull-grid"], lost.to_world([3, 4, 5])), GRID.to_world([3, 4, 5]))
    np.testing.assert_array_equal(known["header"], np.eye(4))
    assert list(mask_conventions(GRID, GRID)) == ["header"]
    assert list(mask_conventions(Grid.isotropic((5, 5, 5), 1.0), GRID)) == ["header"]


def test_what_was_cut_out_sits_and_what_is_bone_does_not():
    sat = around().sit(world_points())
    assert sat.fit > 0.95
    assert around().sit(world_points(patch().mask)).fit > 0.85
    # The same on the other side lies in bone.
    mirrored = FRAME.plane.reflect(world_points())
    assert around().sit(mirrored).in_bone > 0.5
    assert around().sit(mirrored).fit < 0.05


@pytest.mark.parametrize("shift", [(0, 20, 0), (0, -20, 0), (25, 0, 0), (0, 0, 25), (0, 0, -20)])
def test_what_is_shifted_sits_worse_than_is_believed(shift):
    moved = world_points() + FRAME.to_world[:3, :3] @ np.array(shift)
    assert around().sit(moved).fit < MIN_FIT


def test_what_floats_above_bone_does_not_sit():
    out = FRAME.to_world[:3, 0]  # the hole is on the left
    assert around().sit(world_points() + 12 * out).contact < 0.3
    assert around().sit(world_points() + 200 * out).fit == 0


def test_the_vault_is_all_there_but_for_the_hole():
    whole = scan(Head(20), None, (3.0, 3.0, 3.0))
    assert Surroundings.of(whole, true_frame(Head(20))).vault_share() > 0.99
    assert 0.85 < around().vault_share() < 0.98


@pytest.mark.parametrize("name", list(mesh_conventions(GRID)))
def test_every_convention_is_found(name):
    known = mesh_conventions(GRID)
    there = world_points()
    found = place(mapped(np.linalg.inv(known[name]), there), known, around(), "implant.stl")
    off = np.linalg.norm(mapped(found.to_world, mapped(np.linalg.inv(known[name]), there)) - there, axis=1)
    assert off.max() < 1e-6
    assert found.sit.fit > 0.95
    assert found.second is None or found.second[1].fit < found.sit.fit - CLEAR


@pytest.mark.parametrize("name", ["box", "box-zyx", "box-m"])
def test_a_mirror_image_in_the_same_hole_is_never_taken(name):
    # As thick as the bone, it fills the hole as its mirror image does.
    mesh = design_bodies(skull(), patch(), POSE, ImplantSettings(thickness="bone"))[0].mesh
    known, there = mesh_conventions(TIGHT), world_points(inside(mesh, GRID))
    in_file = mapped(np.linalg.inv(known[name]), there)
    twins = sorted([name, {"box": "box-zyx", "box-zyx": "box", "box-m": "box-zyx-m"}[name]])
    sits = {twin: around().sit(mapped(known[twin], in_file)) for twin in twins}
    assert max(sits, key=lambda twin: sits[twin].fit) == name
    assert min(sit.fit for sit in sits.values()) > MIN_FIT  # either could be believed alone
    with pytest.raises(InputError, match="sits about as well by two conventions, " + name):
        place(in_file, known, around(), "implant.stl")
    assert place(in_file, {name: known[name]}, around(), "implant.stl").convention == name


def test_what_sits_nowhere_is_refused_with_the_figures():
    with pytest.raises(InputError, match=r"implant.stl: does not sit .* best is here \(fit 0.*of the.*inside bone\)"):
        place(FRAME.plane.reflect(world_points()), {"here": np.eye(4)}, around(), "implant.stl")


def test_a_dot_or_a_house_is_no_implant():
    for factor in (0.01, 100.0):
        with pytest.raises(InputError, match="no implant or patch in voxels, mm, cm or m"):
            place(world_points() * factor, {"lps": np.eye(4)}, around(), "implant.stl")


def test_two_holes_alike_need_a_persons_word():
    head = Head(20, (SIDE, Ball((-58.0, 8.0, 46.0), 26.0)), even=True)
    skull = scan(head, None, (3.0, 3.0, 3.0))
    truth = truth_of(head, skull).mask.copy()
    points = skull.grid.to_world(np.argwhere(truth))
    one = points[points[:, 0] > 0]
    both = Surroundings.of(skull, true_frame(head))
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
    with pytest.raises(InputError, match=r"by two conventions, .*name the right one in the table's column convention"):
        place(one, {"left": np.eye(4), "right": mirror}, both, "patch.stl")
    assert place(one, {"right": mirror}, both, "patch.stl").convention == "right"


def test_a_place_close_by_is_said():
    beside = np.eye(4)
    beside[:3, 3] = 1.2 * FRAME.to_world[:3, 2]
    found = place(world_points(), {"here": np.eye(4), "beside": beside}, around(), "implant.stl")
    assert found.twin is not None
    assert found.twin[1] == pytest.approx(1.2)
    assert "fits about as well, 1.2 mm away" in found.doubts("implant.stl")[0]
    assert Placement("lps", np.eye(4), Sit(1, 1, 1, 0)).doubts("implant.stl") == ()


@given(*[st.floats(0, 1)] * 4)
def test_a_fit_is_a_share_and_falls_with_bone(over_hole, contact, on_shell, in_bone):
    sit = Sit(over_hole, contact, on_shell, in_bone)
    assert 0 <= sit.fit <= 1
    assert sit.fit <= Sit(over_hole, contact, on_shell, 0.0).fit


def test_the_frame_of_the_field_is_the_skulls():
    turn = rigid((0, 0, 90), (100, 0, 0))
    frame = SimpleNamespace(to_world=turn @ FRAME.to_world, to_canonical=np.linalg.inv(turn @ FRAME.to_world))
    moved = Surroundings(around().distance, frame.to_canonical, FRAME.scale)
    assert moved.sit(mapped(turn, world_points())).fit == pytest.approx(around().sit(world_points()).fit, abs=1e-6)
