"""Implants of a ball with a window, whose every measure is known, and what cannot be designed."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from scipy.spatial import cKDTree
from tests.clinical.head import GRID, POSE, SPEC, inside, skull
from tests.clinical.head import implant as head_implant
from tests.implant.shapes import INNER_MM, OUTER_MM, ball_with_hole

from calvaria.errors import GeometryError, InputError
from calvaria.implant.design import design, design_bodies
from calvaria.implant.memory import Memory
from calvaria.implant.parts import Part
from calvaria.implant.settings import ImplantSettings
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.skull.partial import Scan
from calvaria.types import F64
from calvaria.volume import Grid, Mesh, Volume, distance_to

WINDOW_DEG = 18.0
VOXEL_MM = 0.8


@lru_cache(maxsize=8)
def made(**changes: object) -> Part:
    bone, hole = ball_with_hole(VOXEL_MM, WINDOW_DEG)
    (part,) = design_bodies(bone, hole, np.eye(4), ImplantSettings(**changes))
    return part


def polar(mesh: Mesh) -> tuple[F64, F64]:
    """Radius about the ball's centre, mm, and angle from +x, degrees, of the vertices."""
    arm = mesh.vertices_mm - HEAD_CENTRE_MM
    radius = np.linalg.norm(arm, axis=1)
    return radius, np.degrees(np.arccos(arm[:, 0] / radius))


@pytest.mark.parametrize("thickness", [2.5, 4.0, 6.0])
def test_the_outer_surface_is_the_balls_and_the_thickness_is_kept(thickness):
    part = made(thickness_mm=thickness, smooth_mm=8.0)
    assert part.mesh.is_closed
    assert len(part.mesh.shells) == 1
    assert part.mesh.genus == 0
    radius, angle = polar(part.mesh)
    faces = radius[angle < WINDOW_DEG - 6]
    outer, inner = faces[faces > OUTER_MM - thickness / 2], faces[faces < OUTER_MM - thickness / 2]
    assert np.median(outer) == pytest.approx(OUTER_MM, abs=0.1)
    assert np.median(outer) - np.median(inner) == pytest.approx(thickness, abs=0.05)
    # A ball's mask has terraces of 0.8 mm that are up to 11 mm wide; less than a tenth of them is left.
    assert max(outer.std(), inner.std()) < 0.06
    assert part.direction[0] < -0.95
    assert part.relief.depth_mm < 0.3


@pytest.mark.parametrize(
    ("clearance", "bevel", "widening"), [(0.7, 0.0, 0.0), (1.5, 0.0, 0.0), (0.5, 20.0, 0.0), (0.7, 0.0, 1.2)]
)
def test_the_rim_keeps_its_clearance_and_leans_as_asked(clearance, bevel, widening):
    part = made(clearance_mm=clearance, bevel_deg=bevel, widening_mm=widening)
    radius, angle = polar(part.mesh)
    depth = OUTER_MM - radius
    wall = (angle > WINDOW_DEG - 8) & (depth > 1.2) & (depth < 3.4)
    # The window is a cone: its side is straight, and the gap to it is measured square to that.
    gap = np.sin(np.radians(WINDOW_DEG - angle[wall])) * radius[wall]
    slope, start = np.polyfit(depth[wall], gap, 1)
    assert start == pytest.approx(clearance, abs=0.15)
    assert slope == pytest.approx(np.tan(np.radians(bevel)) + widening / 4.0, abs=0.07)


def test_what_was_asked_for_at_the_rim_is_what_is_there():
    part = made(clearance_mm=0.9)
    rim = np.isfinite(part.asked_mm)
    assert part.asked_mm[rim] == pytest.approx(0.9)
    radius, angle = polar(part.body)
    gap = np.sin(np.radians(WINDOW_DEG - angle[rim])) * radius[rim]
    # A mask's edge is known to a third of a voxel.
    assert np.quantile(np.abs(gap - 0.9), 0.95) < VOXEL_MM / 3
    assert not rim[angle < WINDOW_DEG - 4].any()
    assert rim.sum() > 100


def test_the_outline_runs_along_the_rim_with_the_bone_beside_it():
    part = made()
    (line,) = part.outline
    arm = line.points_mm - HEAD_CENTRE_MM
    edge = WINDOW_DEG - np.degrees(0.7 / OUTER_MM)
    some = np.degrees(VOXEL_MM / 2.5 / OUTER_MM)
    assert np.degrees(np.arccos(arm[:, 0] / np.linalg.norm(arm, axis=1))) == pytest.approx(edge, abs=some)
    assert len(line.points_mm) == pytest.approx(2 * np.pi * OUTER_MM * np.sin(np.radians(edge)), rel=0.02)
    steps = np.linalg.norm(np.diff(line.points_mm, axis=0, append=line.points_mm[:1]), axis=1)
    assert steps == pytest.approx(1.0, abs=0.1)
    assert (line.away[:, 0] < 0).all()
    assert np.einsum("nk,nk->n", line.away, line.normals) == pytest.approx(0, abs=0.02)
    assert line.bone_mm == pytest.approx(7.0, abs=0.8)


def test_an_implant_may_lie_lower_and_flatter():
    radius, angle = polar(made(offset_mm=1.5).mesh)
    assert np.median(radius[(angle < 12) & (radius > 77)]) == pytest.approx(OUTER_MM - 1.5, abs=0.05)
    radius, angle = polar(made(flatten=1.0).mesh)
    # The membrane over a round window is flat: in its middle it lies below the ball by the window's height.
    assert radius[angle < 2].max() == pytest.approx(OUTER_MM * np.cos(np.radians(WINDOW_DEG)), abs=0.3)
    assert radius[angle > WINDOW_DEG - 3].max() == pytest.approx(OUTER_MM, abs=0.3)


def test_the_bones_own_thickness_is_followed():
    part = made(thickness="bone")
    radius, angle = polar(part.mesh)
    faces = radius[angle < WINDOW_DEG - 8]
    assert np.median(faces[faces < 77]) == pytest.approx(73.0, abs=0.4)


def test_a_flange_overlaps_the_bone_and_keeps_off_it():
    part = made(flange_width_mm=6.0, flange_mm=1.5)
    radius, angle = polar(part.mesh)
    reach = np.radians(angle - WINDOW_DEG) * OUTER_MM
    over = reach > 1.0
    assert reach.max() == pytest.approx(6.0, abs=VOXEL_MM)
    assert np.median(radius[over & (radius > 81.2)]) == pytest.approx(OUTER_MM + 0.3 + 1.5, abs=0.5)
    assert radius[over].min() > OUTER_MM
    assert np.median(radius[(angle < 8) & (radius > 78)]) == pytest.approx(OUTER_MM, abs=0.05)
    assert part.mesh.genus == 0
    assert len(part.mesh.shells) == 1


def test_two_holes_get_an_implant_each():
    bone, hole = ball_with_hole(1.0, 12.0)
    mirror = hole.data[::-1]
    both = design_bodies(bone.with_data(bone.mask & ~mirror), hole.with_data(hole.mask | mirror), np.eye(4))
    assert [part.name for part in both] == ["implant-1", "implant-2"]
    assert sorted(round(part.direction[0]) for part in both) == [-1, 1]
    assert both[0].mesh.volume_ml == pytest.approx(both[1].mesh.volume_ml, rel=0.02)


def test_an_implant_may_lie_in_any_pose():
    bone, hole = ball_with_hole(1.2, 12.0)
    volumes = []
    for pose in (np.eye(4), POSE):
        (part,) = design_bodies(
            Volume(bone.data, bone.grid.moved(pose)), Volume(hole.data, hole.grid.moved(pose)), pose
        )
        volumes.append(part.mesh.volume_ml)
        assert part.direction @ pose[:3, 0] < -0.95
    assert volumes[1] == pytest.approx(volumes[0], rel=0.02)


def test_an_implant_keeps_off_the_bone_of_a_head():
    gap = distance_to(skull(), limit_mm=10.0)[inside(head_implant(), GRID)]
    # From voxel centre to voxel centre; bone begins about half a voxel before its first centre.
    assert gap.min() >= SPEC.clearance_mm
    assert head_implant().is_closed


def test_what_cannot_be_designed_is_refused():
    bone, hole = ball_with_hole(1.0, 4.0)
    with pytest.raises(InputError, match="the patch has nothing to design an implant for: it is empty"):
        design_bodies(bone, hole.with_data(np.zeros(hole.shape, bool)), np.eye(4))
    with pytest.raises(InputError, match=r"(covers? only \d+%|nothing is left) of .*a hole of [01]\.\d cm2"):
        design_bodies(bone, hole, np.eye(4), ImplantSettings(clearance_mm=4.0))
    with pytest.raises(InputError, match="there is no bone"):
        design_bodies(bone.with_data(np.zeros(bone.shape, bool)), hole, np.eye(4))
    with pytest.raises(GeometryError, match="patch and defective skull must lie on one grid"):
        design_bodies(bone, hole.crop((slice(5, 50), slice(0, 50), slice(0, 50))), np.eye(4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thickness_mm": 1.0}, "thickness_mm must be 2 to 10 mm; got 1"),
        ({"clearance_mm": float("nan")}, "clearance_mm must be a number; got nan"),
        ({"plate_seats": 2.5}, "plate_seats must be a whole number; got 2.5"),
        ({"thickness": "thick"}, "thickness must be one of constant, bone; got 'thick'"),
        ({"thickness_mm": 2.0, "min_wall_mm": 3.0}, "no wall is thicker than the body"),
        ({"mark": "x" * 30}, "a mark has up to 24 printable characters"),
        ({"bevel_deg": True}, "bevel_deg must be a number; got True"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        ImplantSettings(**changes)


def test_settings_come_back_from_json():
    settings = ImplantSettings(thickness_mm=5.0, mark="L", plate_seats=4)
    assert ImplantSettings.from_json(settings.to_json()) == settings
    with pytest.raises(InputError, match="an implant has no parameter colour"):
        ImplantSettings.from_json({"colour": 1})


def bridged() -> tuple[Volume, Volume]:
    """The ball with its window, and an arch of bone over it, 8 mm above the surface, along y."""
    bone, hole = ball_with_hole(1.0, WINDOW_DEG)
    bone, hole = (one.pad((0, 0, 0), (14, 0, 0)) for one in (bone, hole))
    arm = bone.grid.centres_mm() - HEAD_CENTRE_MM
    radius = np.linalg.norm(arm, axis=-1)
    arch = (radius > 88.0) & (radius < 92.0) & (arm[..., 0] > 60.0) & (np.abs(arm[..., 2]) < 3.0)
    return bone.with_data(bone.mask | arch), hole


def test_where_one_piece_cannot_be_put_in_two_are_made():
    bone, hole = bridged()
    both, said = design_bodies_and_notes(bone, hole, ImplantSettings())
    for count, (parts, notes) in (
        (2, (both, said)),
        (1, design_bodies_and_notes(bone, hole, ImplantSettings(split="never"))),
    ):
        assert len(parts) == count
        assert re.search(r"in the best single direction bone is in the way of \d+% of the implant", notes[0])
    one, other = both
    # Each comes out on its own side of the arch, and they keep the joint between them.
    assert one.direction[2] * other.direction[2] < 0
    gaps, _ = cKDTree(one.mesh.vertices_mm).query(other.mesh.vertices_mm)
    assert gaps.min() == pytest.approx(0.3, abs=0.1)
    for part in (one, other):
        assert way_free_mm(part, bone) > 0.2


def design_bodies_and_notes(bone: Volume, hole: Volume, settings: ImplantSettings):
    from calvaria.implant.design import _bodies, _Clock, _Given
    from calvaria.jobs import unheard

    return _bodies(_Given(bone, hole, np.eye(4)), settings, _Clock(), unheard)[:2]


def way_free_mm(part: Part, bone: Volume) -> float:
    """Least distance of an implant's vertices to voxels of bone over 30 mm of travel, less half a voxel."""
    far = distance_to(bone.pad((40, 40, 40), (40, 40, 40)), limit_mm=5.0)
    grid = bone.grid.pad((40, 40, 40), (40, 40, 40))
    found = np.inf
    for step in np.arange(0.0, 30.5, 0.5):
        index = np.rint(grid.to_index(part.mesh.vertices_mm - step * part.direction)).astype(int)
        inside = ((index >= 0) & (index < np.array(grid.shape))).all(axis=1)
        found = min(found, float(far[tuple(index[inside].T)].min()) - 0.5)
    return found


def scanned(slice_mm: float) -> tuple[Volume, Volume, Volume]:
    """A CT of the ball with its window, thick slices along z, bone 1000 HU and the rest 0; its mask, and the patch."""
    grid = Grid(
        (48, 86, int(90 / slice_mm)),
        np.array([[0.8, 0, 0, 60.0], [0, 0.8, 0, -34.0], [0, 0, slice_mm, -35.0], [0, 0, 0, 1]]),
    )
    fine = np.zeros(grid.shape)
    patch = np.zeros(grid.shape)
    for offset in (np.arange(6) + 0.5) / 6 - 0.5:
        arm = grid.centres_mm() + np.array([0.0, 0.0, offset * slice_mm]) - HEAD_CENTRE_MM
        radius = np.linalg.norm(arm, axis=-1)
        shell = (radius <= OUTER_MM) & (radius >= INNER_MM)
        window = arm[..., 0] > np.cos(np.radians(WINDOW_DEG)) * np.maximum(radius, 1.0)
        fine += (shell & ~window) / 6
        patch += (shell & window) / 6
    ct = Volume((1000 * fine).astype(np.int16), grid)
    bone = fine > 0.5
    return ct, ct.with_data(bone), ct.with_data((patch > 0.5) & ~bone)


def test_between_thick_slices_a_scan_says_where_bone_ends():
    ct, bone, hole = scanned(2.5)
    off = []
    for scan in (Scan(ct, 500.0), None):
        made = design(bone, hole, np.eye(4), ImplantSettings(), scan=scan)
        part = made.parts[0]
        rim = np.isfinite(part.asked_mm)
        radius, angle = polar(part.body)
        gap = np.sin(np.radians(WINDOW_DEG - angle[rim])) * radius[rim]
        off.append(np.abs(gap - 0.7).mean())
    assert off[0] < 0.2 < off[1]


def test_another_design_for_the_same_hole_finds_nothing_twice_and_is_the_same(monkeypatch):
    bone, hole = ball_with_hole(1.5, WINDOW_DEG)
    memory = Memory()
    seen: list[int] = []
    design(bone, hole, np.eye(4), ImplantSettings(), memory=memory, formed=lambda parts: seen.append(len(parts)))
    wanted = ImplantSettings(clearance_mm=1.2)
    sharp = replace(wanted, bevel_deg=20.0)
    fresh, fresh_sharp = (design(bone, hole, np.eye(4), one) for one in (wanted, sharp))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("found again")

    for name in ("site_of", "far_field", "_host"):
        monkeypatch.setattr(f"calvaria.implant.design.{name}", refuse)
    again = design(bone, hole, np.eye(4), wanted, memory=memory)
    assert seen == [1]
    np.testing.assert_array_equal(again.parts[0].mesh.vertices_mm, fresh.parts[0].mesh.vertices_mm)
    np.testing.assert_array_equal(again.host.vertices_mm, fresh.host.vertices_mm)
    assert again.checks == fresh.checks
    monkeypatch.setattr("calvaria.implant.body.Laid.of", refuse)  # a bevel moves none of the nodes
    again = design(bone, hole, np.eye(4), sharp, memory=memory)
    np.testing.assert_array_equal(again.parts[0].mesh.vertices_mm, fresh_sharp.parts[0].mesh.vertices_mm)
    assert again.checks == fresh_sharp.checks
    for name in ("design.build_body", "checks.measured"):
        monkeypatch.setattr(f"calvaria.implant.{name}", refuse)
    holed = design(bone, hole, np.eye(4), replace(sharp, perforations=True), memory=memory)
    assert holed.parts[0].mesh.genus > 0 == again.parts[0].mesh.genus
    with pytest.raises(AssertionError, match="found again"):  # the body before is not held
        design(bone, hole, np.eye(4), wanted, memory=memory)
    with pytest.raises(AssertionError, match="found again"):  # what was found with another smoothing does not serve
        design(bone, hole, np.eye(4), ImplantSettings(smooth_mm=9.0), memory=memory)
