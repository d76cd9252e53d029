"""Measures of a spherical implant, whose every figure is known, and of the same one spoiled."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.implant.caps import fine_ball, polar, the_cap, thinned, with_body
from tests.implant.shapes import CLEARANCE_MM, OUTER_MM, THICKNESS_MM, WINDOW_DEG, cap, edge_deg

from calvaria.implant import measure
from calvaria.reconstruction.surface import BoneSurface
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.volume import Grid, Mesh, Volume, extract_surface

SURFACE = measure.surface_around(the_cap(), fine_ball(), 30.0)


def box_mesh(size: tuple[float, float, float]) -> Mesh:
    solid = trimesh.creation.box(size)
    return Mesh(solid.vertices, solid.faces)


def test_a_finer_surface_is_found_in_the_voxels_of_the_scan():
    coarse, fine = BoneSurface.of(fine_ball()), BoneSurface.of(fine_ball(), measure.BONE_MM)
    assert max(fine.fraction.grid.spacing_mm) == pytest.approx(0.5)
    assert max(coarse.fraction.grid.spacing_mm) == pytest.approx(1.0)
    assert len(fine.points_mm) > 3 * len(coarse.points_mm)


@pytest.mark.parametrize("off_mm", [-0.3, 0.0, 0.2, 0.7, 2.0])
def test_the_distance_to_bone_is_right_also_nearer_than_a_voxel(off_mm):
    turn = np.random.default_rng(1).uniform(0, 2 * np.pi, 400)
    angle = np.radians(WINDOW_DEG + 5.0)
    ring = np.stack([np.full(400, np.cos(angle)), np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn)], 1)
    found = measure.bone_distances(SURFACE, HEAD_CENTRE_MM + (OUTER_MM + off_mm) * ring)
    # Voxels put bone's surface up to a quarter of a millimetre off.
    assert np.mean(np.abs(np.abs(found) - abs(off_mm))) < 0.15
    assert np.mean(np.abs(found)) == pytest.approx(abs(off_mm), abs=0.13)
    if abs(off_mm) > 0.29:
        assert (np.sign(found) == np.sign(off_mm)).mean() > 0.99


def test_without_bone_all_is_infinitely_far():
    air = measure.surface_around(the_cap(), fine_ball().with_data(np.zeros(fine_ball().shape, bool)), 30.0)
    assert np.isinf(measure.bone_distances(air, np.zeros((3, 3)))).all()
    assert measure.collision(the_cap(), air, 30.0) == (np.inf, 0.0)


def test_samples_lie_on_their_triangles_and_everywhere():
    corners = np.array([[0.0, 0, 0], [20.0, 0, 0], [0.0, 0.5, 0]])
    spots = measure.samples(Mesh(corners, np.array([[0, 1, 2]])), 0.5)
    assert len(spots.points_mm) == 30
    assert (spots.normals == [0, 0, 1]).all()
    x, y = spots.points_mm[:, 0], spots.points_mm[:, 1]
    assert (y <= 0.5 - x / 40 + 1e-9).all()
    assert (x >= 0).all()
    assert (y >= 0).all()
    assert np.diff(np.sort(x)).max() < 3.0
    assert not len(measure.samples(Mesh.empty()).points_mm)


def test_the_thickness_of_a_cap_is_exact_off_its_rim():
    thick = measure.thickness_map(the_cap())
    radius, angle = polar(the_cap().body.vertices_mm)
    assert np.nanmax(np.abs(thick - THICKNESS_MM)) < 0.02
    rim = angle > np.radians(edge_deg()) - 0.9 * THICKNESS_MM / OUTER_MM
    assert np.isnan(thick[rim]).all()
    well_inside = angle < np.radians(edge_deg()) - 1.2 * THICKNESS_MM / OUTER_MM
    assert np.isfinite(thick[well_inside]).all()
    assert {True, False} == set((radius[np.isfinite(thick)] > OUTER_MM - 2).tolist())


@given(by=st.floats(-1.5, 2.0), within=st.floats(10.0, 20.0))
@settings(max_examples=8, deadline=None)
def test_the_thickness_follows_where_a_body_is_thinned(by, within):
    part = thinned(the_cap(), by, within)
    thick = measure.thickness_map(part)
    _, angle = polar(part.body.vertices_mm)
    middle = angle < np.radians(within - 2.0)
    assert np.nanmax(np.abs(thick[middle] - (THICKNESS_MM - by))) < 0.03
    beyond = (angle > np.radians(within + 2.0)) & np.isfinite(thick)
    assert np.abs(thick[beyond] - THICKNESS_MM).max(initial=0.0) < 0.03


def test_a_side_of_two_triangles_is_measured_in_its_middle():
    mesh = trimesh.creation.box((60.0, 60.0, 4.0)).apply_translation(HEAD_CENTRE_MM)
    turned = np.array([[0, 0, 1.0], [1, 0, 0], [0, 1, 0]])
    corners = (mesh.vertices - HEAD_CENTRE_MM) @ turned.T + HEAD_CENTRE_MM + [78.0, 0, 0]
    middles = np.array([corners[corners[:, 0] > HEAD_CENTRE_MM[0] + 78].mean(axis=0)])
    assert np.isfinite(middles).all()
    body = Mesh(corners, mesh.faces)
    spots = measure.samples(body)
    inner = spots.normals[:, 0] < -0.5
    way = np.tile([-1.0, 0, 0], (1, 1))
    across = measure._across(
        middles, way, np.array([3.0]), measure.Samples(spots.points_mm[inner], spots.normals[inner])
    )
    assert across == pytest.approx([4.0], abs=1e-6)


def test_the_clearance_is_measured_where_it_was_asked_for():
    part = the_cap()
    clearance = measure.maps(part, SURFACE).clearance_mm
    assert (np.isnan(clearance) == np.isnan(part.asked_mm)).all()
    off = clearance[np.isfinite(clearance)] - CLEARANCE_MM
    assert abs(off.mean()) < 0.06
    assert (np.abs(off) < 0.2).mean() > 0.95


@pytest.mark.parametrize("wall", [0.9, 1.5, 2.2])
def test_the_thinnest_wall_of_a_plate_is_its_thickness(wall):
    assert measure.thinnest_wall(box_mesh((20.0, 14.0, wall)), 2.5) == pytest.approx(wall, abs=0.03)
    assert measure.thinnest_wall(box_mesh((20.0, 14.0, 5.0)), 2.5) == 2.5


def hull(points: list[list[float]]) -> Mesh:
    """The convex body of points in the plane, 20 mm deep."""
    solid = trimesh.PointCloud([[x, y, z] for x, y in points for z in (0.0, 20.0)]).convex_hull
    return Mesh(solid.vertices, solid.faces)


def test_a_bevelled_edge_is_no_wall_but_a_fin_is():
    assert measure.thinnest_wall(hull([[0, 0], [30, 0], [26, 4], [4, 4]]), 3.0) == 3.0  # 45 degrees
    assert measure.thinnest_wall(hull([[0, 0], [30, 0], [15, 4]]), 3.0) < 1.0  # 15 degrees


def test_a_cap_passes_on_its_way_in_and_other_ways_do_not():
    part = the_cap()
    passed = measure.collision(part, SURFACE, 30.0)
    assert passed.clearance_mm == pytest.approx(CLEARANCE_MM, abs=0.3)
    assert passed.overlap_ml == 0
    outwards = replace(part, direction=-part.direction)
    wrong = measure.collision(outwards, measure.surface_around(outwards, fine_ball(), 30.0), 30.0)
    assert wrong.clearance_mm < -1.0
    assert wrong.overlap_ml == 0  # in place it is where it was
    aslant = replace(part, direction=np.array([-np.cos(1.2), np.sin(1.2), 0.0]))
    assert measure.collision(aslant, measure.surface_around(aslant, fine_ball(), 30.0), 30.0).clearance_mm < 0


def test_a_part_moved_into_bone_overlaps_it_by_what_can_be_worked_out():
    part = with_body(the_cap(), the_cap().body.vertices_mm + np.array([0.0, 3.0, 0.0]))
    found = measure.collision(part, SURFACE, 30.0)
    # The bone's own mesh, cut with the moved one.
    import manifold3d

    bone = extract_surface(fine_ball())
    solids = [
        manifold3d.Manifold(manifold3d.Mesh64(mesh.vertices_mm.copy(), mesh.faces.astype(np.uint64)))
        for mesh in (bone, part.body)
    ]
    assert found.overlap_ml == pytest.approx((solids[0] ^ solids[1]).volume() / 1000, rel=0.05)
    assert found.overlap_ml > 0.3
    assert found.clearance_mm < -1.5


@lru_cache(maxsize=1)
def bone_for_fcl() -> trimesh.collision.CollisionManager:
    host = extract_surface(fine_ball(), smooth_mm=0.3)
    manager = trimesh.collision.CollisionManager()
    manager.add_object("bone", trimesh.Trimesh(host.vertices_mm, host.faces, process=False))
    return manager


@pytest.mark.parametrize(
    ("moved", "direction"),
    [
        ((0.0, 0.0, 0.0), (-1.0, 0.0, 0.0)),
        ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0)),
        ((0.0, 0.0, 0.0), (-0.9, 0.44, 0.0)),
        ((0.0, 0.0, 0.0), (-0.3, 0.0, 0.954)),
        ((0.0, 1.5, 0.0), (-1.0, 0.0, 0.0)),
    ],
)
def test_the_collision_of_meshes_agrees(moved, direction):
    """By fcl, an implementation of its own: bone's mesh and the moved implant's."""
    pytest.importorskip("fcl", reason="python-fcl is missing: pip install python-fcl")
    part = with_body(the_cap(), the_cap().body.vertices_mm + moved)
    part = replace(part, direction=np.array(direction) / np.linalg.norm(direction))
    manager = bone_for_fcl()
    body = trimesh.Trimesh(part.body.vertices_mm, part.body.faces, process=False)
    mover = trimesh.collision.CollisionManager()
    mover.add_object("implant", body)

    def hits(way: float) -> bool:
        mover.set_transform("implant", trimesh.transformations.translation_matrix(-way * part.direction))
        return bool(manager.in_collision_other(mover))

    hit = any(hits(way) for way in np.arange(0.0, 30.1, 1.0))
    found = measure.collision(part, measure.surface_around(part, fine_ball(), 30.0), 30.0)
    assert (found.clearance_mm <= 0) == hit


def test_the_completed_ball_is_symmetric_and_a_bulge_is_not():
    bone = cap().bone
    assert measure.symmetry_mm(the_cap(), bone, np.eye(4)) == pytest.approx(0.0, abs=0.25)
    arm = the_cap().body.vertices_mm - HEAD_CENTRE_MM
    bulged = with_body(the_cap(), HEAD_CENTRE_MM + arm * (1 + 6.0 / np.linalg.norm(arm, axis=1, keepdims=True)))
    assert measure.symmetry_mm(bulged, bone, np.eye(4)) == pytest.approx(6.0, abs=0.3)


def test_there_is_no_other_side_across_the_midline_or_where_it_is_missing_too():
    turned = np.eye(4)[[1, 0, 2, 3]]  # the cap's middle now lies in the plane x = 0
    turned[:3, 3] = [HEAD_CENTRE_MM[0] - HEAD_CENTRE_MM[1], HEAD_CENTRE_MM[1] - HEAD_CENTRE_MM[0], 0]
    assert measure.symmetry_mm(the_cap(), cap().bone, turned) is None
    x = cap().bone.grid.centres_mm()[..., 0] - HEAD_CENTRE_MM[0]
    bare = cap().bone.with_data(cap().bone.mask & (x > 0))
    assert measure.symmetry_mm(the_cap(), bare, np.eye(4)) is None


def test_area_and_extents_of_a_cap():
    area = 2 * np.pi * OUTER_MM**2 * (1 - np.cos(np.radians(edge_deg())))
    assert measure.outer_area_mm2(the_cap()) == pytest.approx(area, rel=0.02)
    long, wide, high = measure.extents_mm(the_cap().body)
    across = 2 * OUTER_MM * np.sin(np.radians(edge_deg()))
    assert (long, wide) == pytest.approx((across, across), abs=0.6)
    inner = (OUTER_MM - THICKNESS_MM) * np.cos(np.radians(edge_deg()))
    assert high == pytest.approx(OUTER_MM - inner, abs=0.3)


def test_the_areas_of_vertices_add_up():
    assert measure.vertex_areas(the_cap().body).sum() == pytest.approx(the_cap().body.area_mm2)


def test_bone_is_cropped_to_what_is_near_and_never_to_nothing():
    bone = Volume(np.ones((20, 20, 20), bool), Grid.isotropic((20, 20, 20), 2.0))
    assert measure.near_bone(bone, np.array([[10.0, 10.0, 10.0]]), 3.9).shape == (5, 5, 5)
    assert measure.near_bone(bone, np.array([[500.0, 10.0, 10.0]]), 4.0).shape[0] == 1


def test_small_triangles_share_their_points():
    ball = trimesh.creation.icosphere(subdivisions=5, radius=5.0)  # 0.015 mm2 each
    spots = measure.samples(Mesh(ball.vertices, ball.faces), 0.5)
    assert len(spots.points_mm) == pytest.approx(ball.area * 1.5 / 0.25, rel=0.01)
    assert len(spots.points_mm) < len(ball.faces)
    from scipy.spatial import cKDTree

    assert cKDTree(spots.points_mm).query(ball.vertices)[0].max() < 0.9
