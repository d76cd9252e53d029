"""Surfaces laid onto each other: the pose is known, and so is what must not pull it."""

from __future__ import annotations

import numpy as np
import pytest
from tests.heads import rigid
from tests.reconstruction.own_bone.parts import HEAD, POSE, defective, old_skull, surface

from calvaria.reconstruction.own_bone.rigid import Points, lay_onto, pairs, points_of, turned
from calvaria.reconstruction.surface import BoneSurface
from calvaria.volume import Grid, Volume


def ball(centre_mm: tuple[float, float, float], radius_mm: float = 20.0) -> BoneSurface:
    """A ball's surface, exact between voxels."""
    grid = Grid.isotropic((60, 60, 60), 1.0, (-30.0, -30.0, -30.0))
    off = np.linalg.norm(grid.centres_mm() - centre_mm, axis=-1) - radius_mm
    return BoneSurface.of(Volume(np.clip(0.5 - off, 0, 1).astype(np.float32), grid))


def test_a_head_with_a_hole_is_laid_onto_the_whole_one_between_voxels():
    start = POSE @ rigid((6, -5, 8), (6, 5, -7))
    found = lay_onto(points_of(surface()).thinned(4000), old_skull().surface, start)
    off = np.linalg.inv(POSE) @ found
    corners = np.array([[x, y, z] for x in (-70, 70) for y in (-90, 90) for z in (0, 80)])
    assert np.linalg.norm(corners @ off[:3, :3].T + off[:3, 3] - corners, axis=1).max() < 0.25
    np.testing.assert_allclose(off[:3, :3] @ off[:3, :3].T, np.eye(3), atol=1e-9)
    assert HEAD.holes


def test_the_distance_between_two_balls_is_found_along_the_normal():
    one, other = points_of(ball((0, 0, 0))), ball((0.6, 0, 0))
    two = pairs(one, other, 5.0)
    assert two.found.all()
    expected = 0.6 * one.normals[:, 0]  # the part of the shift along the normal
    assert np.abs(two.off_mm + expected).max() < 0.2  # of 0.6 mm: normals of voxels are off by some degrees


def test_points_beyond_the_limit_or_facing_the_other_way_have_no_partner():
    one = points_of(ball((0, 0, 0)))
    far = Points(one.at_mm + 100, one.normals, one.weight)
    assert not pairs(far, ball((0, 0, 0)), 5.0).found.any()
    flipped = Points(one.at_mm, -one.normals, one.weight)
    assert not pairs(flipped, ball((0, 0, 0)), 5.0).found.any()
    assert pairs(one, ball((0, 0, 0)), 5.0).found.all()


def test_nothing_is_laid_onto_nothing_and_stays_where_it_was():
    empty = BoneSurface.of(Volume(np.zeros((5, 5, 5), bool), Grid.isotropic((5, 5, 5), 1.0)))
    np.testing.assert_array_equal(lay_onto(points_of(ball((0, 0, 0))), empty, POSE), POSE)
    assert not pairs(points_of(ball((0, 0, 0))), empty, 5.0).found.any()


def test_points_are_thinned_evenly_and_always_the_same():
    points = points_of(ball((0, 0, 0)))
    some = points.thinned(100)
    assert len(some.at_mm) == len(some.normals) == len(some.weight) == 100
    np.testing.assert_array_equal(some.at_mm, points.thinned(100).at_mm)
    assert points.thinned(10**9) is points


def test_a_step_turns_about_the_centre_that_is_given():
    centre = np.array([10.0, 20.0, 30.0])
    step = turned(np.array([0.1, -0.2, 0.3, 1.0, 2.0, 3.0]), centre)
    np.testing.assert_allclose(step[:3, :3] @ centre + step[:3, 3], [11.0, 22.0, 33.0])
    np.testing.assert_allclose(np.linalg.det(step[:3, :3]), 1)


@pytest.mark.parametrize("count", [1, 3])
def test_a_map_moves_points_and_turns_normals(count):
    points = points_of(ball((0, 0, 0))).thinned(count).moved(POSE)
    back = points.moved(np.linalg.inv(POSE))
    np.testing.assert_allclose(back.at_mm, points_of(ball((0, 0, 0))).thinned(count).at_mm, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(points.normals, axis=1), 1, atol=1e-6)
    assert defective().mask.any()
