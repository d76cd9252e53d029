"""The optimiser on a made-up head that is symmetric about a known plane, whole and with a hole."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tests.heads import rigid
from tests.strategies import rotations

from calvaria.errors import InputError
from calvaria.symmetry.optimise import (
    LEVELS,
    ROBUST,
    Comparison,
    frame_of,
    hemisphere,
    optimise,
    plane_at,
    turned,
)
from calvaria.symmetry.plane import Plane
from calvaria.volume.grid import Grid
from calvaria.volume.sampler import Region, Sampler
from calvaria.volume.volume import Volume

FOUND_DEG, FOUND_MM = 0.05, 0.05
"""How well a plane must be found that is exact; the worst measured is 0.011 degrees and 0.002 mm."""

HOLE_DEG, HOLE_MM = 0.3, 0.1
"""The same with a hole on one side; the worst measured is 0.05 degrees and 0.01 mm."""

HEAD = rigid((12.0, -17.0, 9.0), (14.0, -22.0, 31.0))
"""The head's own frame -> world."""

TRUTH = Plane(HEAD[:3, 0], float(HEAD[:3, 0] @ HEAD[:3, 3]))

HALF_MM = np.array([42.0, 56.0, 50.0])
"""Half width, half length and height of the shell, all different."""

BUMPS = (((20, -44, 25), 13), ((26, 40, 20), 15), ((10, 5, 52), 12), ((38, -15, -20), 11), ((22, 12, -44), 14))
"""Centre and radius of balls of bone, mm, on both sides of x = 0: without them the shell has three planes."""

HOLE = ((30.0, 10.0, 35.0), 20.0)
"""A ball without bone, on one side."""

BOX: Region = ((-68.0, 68.0), (-68.0, 68.0), (-68.0, 68.0))


def field_mm(points_mm: np.ndarray, bumps: bool, hole: bool) -> np.ndarray:
    """Distance to the bone, negative inside, at points of the head's frame."""
    at = points_mm / HALF_MM
    length, slope = np.linalg.norm(at, axis=-1), np.linalg.norm(at / HALF_MM, axis=-1)
    depth = (length - 1) * length / np.maximum(slope, 1e-3)
    field = np.maximum(depth, -depth - 7.0)
    both_sides = np.concatenate([np.abs(points_mm[..., :1]), points_mm[..., 1:]], axis=-1)
    for centre, radius in BUMPS if bumps else ():
        field = np.minimum(field, np.linalg.norm(both_sides - centre, axis=-1) - radius)
    if hole:
        field = np.maximum(field, HOLE[1] - np.linalg.norm(points_mm - HOLE[0], axis=-1))
    return field


@lru_cache(maxsize=8)
def head(spacing_mm: tuple[float, float, float] = (2.5, 2.5, 2.5), *, bumps: bool = True, hole: bool = False) -> Volume:
    """Bone fractions on a grid that is oblique to the world and to the head."""
    axes = Rotation.from_euler("xyz", [-8, 21, 35], degrees=True).as_matrix()
    i, j, k = (int(n) for n in np.array([132, 140, 136]) / spacing_mm)
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing_mm
    affine[:3, 3] = HEAD[:3, 3] - affine[:3, :3] @ ((np.array([i, j, k]) - 1) / 2)
    grid = Grid((i, j, k), affine)
    field = field_mm((grid.centres_mm() - HEAD[:3, 3]) @ HEAD[:3, :3], bumps, hole)
    return Volume(np.clip(0.5 - field / np.mean(spacing_mm), 0, 1).astype(np.float32), grid)


def all_around(count: int = 40) -> list[np.ndarray]:
    """Starts in all directions, through a point beside the middle."""
    centre = HEAD[:3, 3] + [3.0, -4.0, 2.0]
    return [frame_of(Plane(normal, float(normal @ centre)), centre) for normal in hemisphere(count)]


def beside(yaw_deg: float, roll_deg: float, shift_mm: float) -> np.ndarray:
    """The true frame, turned about its y and z axes and moved along x."""
    return turned(frame_of(TRUTH, HEAD[:3, 3]), [np.radians(yaw_deg), np.radians(roll_deg), shift_mm])


def off(plane: Plane) -> tuple[float, float]:
    """Degrees from the truth, and mm in the head's middle."""
    return plane.angle_deg(TRUTH), plane.apart_mm(TRUTH, HEAD[:3, 3])


@dataclass(frozen=True)
class Side:
    """Unknown from ``offset_mm`` on."""

    normal: np.ndarray
    offset_mm: float


# ---- what it finds


def test_the_plane_is_found_from_all_around():
    found = optimise(head(), BOX, all_around(), robust=None)
    degrees, mm = off(found.plane)
    assert degrees < FOUND_DEG
    assert mm < FOUND_MM
    assert found.loss < 1e-3
    assert found.second > 0.05  # the bumps tell the planes of the ellipsoid from one another


def test_a_hole_on_one_side_is_no_harm_from_all_around():
    found = optimise(head(hole=True), BOX, all_around())
    degrees, mm = off(found.plane)
    assert degrees < HOLE_DEG
    assert mm < HOLE_MM
    assert found.second > 2 * found.loss


@pytest.mark.parametrize(
    ("spacing", "start", "robust"),
    [
        ((2.5, 2.5, 2.5), (10.6, -10.6, 10.0), None),
        ((2.5, 2.5, 2.5), (-15.0, 0.0, -10.0), ROBUST),
        ((1.5, 2.0, 3.0), (0.0, 15.0, 10.0), None),
        ((1.5, 2.0, 3.0), (10.6, 10.6, -10.0), ROBUST),
    ],
)
def test_the_plane_is_found_from_one_start_that_is_15_degrees_and_10_mm_off(spacing, start, robust):
    first = beside(*start)
    assert Plane(first[:3, 0], float(first[:3, 0] @ first[:3, 3])).angle_deg(TRUTH) == pytest.approx(15, abs=0.1)
    found = optimise(head(spacing), BOX, [first], robust=robust)
    degrees, mm = off(found.plane)
    assert degrees < FOUND_DEG
    assert mm < FOUND_MM
    assert found.second == float("inf")
    np.testing.assert_allclose(found.to_world[:3, :3].T @ found.to_world[:3, :3], np.eye(3), atol=1e-12)
    np.testing.assert_array_equal(found.to_world[3], [0, 0, 0, 1])


def test_a_hole_on_one_side_does_not_pull_and_pulls_where_all_counts_alike():
    defective = head(hole=True)
    robust = optimise(defective, BOX, [beside(-10.0, 11.0, 8.0)])
    degrees, mm = off(robust.plane)
    assert degrees < HOLE_DEG
    assert mm < HOLE_MM
    plain = optimise(defective, BOX, [beside(-10.0, 11.0, 8.0)], robust=None)
    assert off(plain.plane)[0] > 2 * degrees
    assert plain.loss < robust.loss  # it is the loss that the plain one makes small


def test_bone_that_was_completed_about_another_plane_does_not_count():
    whole, centre, radius = head(), np.array([34.0, 5.0, 20.0]), 42.0
    wrong = beside(3.0, -4.0, 2.0)
    world = whole.grid.centres_mm()
    turned_head = field_mm((world - wrong[:3, 3]) @ wrong[:3, :3], bumps=True, hole=False)
    there = HEAD[:3, :3] @ centre + HEAD[:3, 3]
    in_hole = np.linalg.norm(world - there, axis=-1) < radius
    drawn = np.clip(0.5 - turned_head / 2.5, 0, 1).astype(np.float32)
    completed = Comparison.build(whole.with_data(np.where(in_hole, drawn, whole.data)), BOX, 3.0, 5.0)

    def absent(world_mm):
        return np.linalg.norm(world_mm - there, axis=-1) < radius + 8.0

    start = beside(1.0, 1.0, 1.0)
    pulled = off(plane_at(completed.descend(start)))
    found = off(plane_at(completed.without(start, absent).descend(start)))
    assert found[0] < HOLE_DEG
    assert found[1] < HOLE_MM
    assert pulled[0] > 4 * found[0]


def test_where_nearly_all_is_absent_all_of_it_counts():
    whole = Comparison.build(head(), BOX, 3.0, 8.0)
    assert whole.without(HEAD, lambda world_mm: np.ones(len(world_mm), bool)) is whole
    half = whole.without(HEAD, lambda world_mm: (world_mm - HEAD[:3, 3]) @ HEAD[:3, 1] > 0)
    assert 0.4 < len(half.right) / len(whole.right) < 0.6


def test_where_little_is_absent_all_of_it_counts():
    whole = Comparison.build(head(), BOX, 3.0, 8.0)
    for height_mm, counts in ((60.0, True), (40.0, False)):
        some = whole.without(HEAD, lambda world_mm, z=height_mm: (world_mm - HEAD[:3, 3]) @ HEAD[:3, 2] > z)
        assert (some is whole) == counts


def test_an_ellipsoid_has_another_plane_that_is_as_good():
    found = optimise(head(bumps=False), BOX, all_around(), levels=LEVELS[:1])
    assert min(found.plane.angle_deg(Plane(HEAD[:3, axis], 0.0)) for axis in range(3)) < 0.1
    assert found.loss < 1e-3
    assert found.second < 1e-3


def test_starts_may_come_in_any_order():
    starts = all_around(20)
    one, other = (optimise(head(), BOX, some, levels=((8.0, 12.0),)) for some in (starts, starts[::-1]))
    np.testing.assert_array_equal(one.to_world, other.to_world)
    assert (one.loss, one.second) == (other.loss, other.second)


def test_without_a_start_nothing_is_looked_for():
    with pytest.raises(InputError, match="the search for the plane needs at least one start; got none"):
        optimise(head(), BOX, [])


def test_without_bone_the_start_comes_back():
    empty = Volume(np.zeros((9, 9, 9), np.float32), Grid.isotropic((9, 9, 9), 3.0))
    start = beside(5.0, 5.0, 5.0)
    found = optimise(empty, BOX, [start])
    np.testing.assert_array_equal(found.to_world, start)
    assert found.loss == 1


# ---- its parts


def test_on_the_plane_nothing_is_lost_and_beside_it_something_is():
    level = Comparison.build(head(), BOX, 4.0, 6.0)
    assert 0 < level.loss(beside(0, 0, 0)) < 5e-4
    for step in ((2.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 0.0, 2.0)):
        assert level.loss(beside(*step)) > 10 * level.loss(beside(0, 0, 0))
        assert level.loss(beside(*step)) == pytest.approx(level.loss(beside(*np.negative(step))), rel=0.02)


def test_without_bone_in_sight_all_is_lost_and_nothing_moves():
    far = rigid((0, 5, 5), (900.0, 0, 0))
    for robust in (None, ROBUST):
        level = Comparison.build(head(), BOX, 4.0, 8.0)
        assert level.loss(far) == 1
        np.testing.assert_array_equal(level.descend(far, robust=robust), far)


def test_points_beyond_the_scan_do_not_count():
    cut = Side(HEAD[:3, :3] @ [0.6, 0.0, 0.8], float(HEAD[:3, :3] @ [0.6, 0.0, 0.8] @ HEAD[:3, 3]) + 30.0)
    whole = head()
    seen = whole.with_data(np.where(whole.grid.centres_mm() @ cut.normal < cut.offset_mm, whole.data, 0))
    told, untold = (Comparison.build(seen, BOX, 4.0, 6.0, unknown) for unknown in ((cut,), ()))
    assert told.loss(beside(0, 0, 0)) < 0.02
    assert untold.loss(beside(0, 0, 0)) > 0.1
    degrees, mm = off(optimise(seen, BOX, [beside(4.0, -5.0, 4.0)], unknown=(cut,), levels=LEVELS[1:]).plane)
    assert degrees < 2 * HOLE_DEG
    assert mm < 2 * HOLE_MM


def test_every_point_of_the_box_has_its_mirror_image():
    level = Comparison.of(Sampler.smooth(head(), 8.0), ((-21.0, 21.0), (-9.0, 3.0), (0.0, 12.0)), 6.0)
    along_x, along_y, along_z = (np.unique(level.right[:, axis]) for axis in range(3))
    np.testing.assert_allclose(along_x, [3, 9, 15, 21])
    np.testing.assert_allclose(along_y, [-9, -3, 3])
    np.testing.assert_allclose(along_z, [0, 6, 12])
    assert len(level.right) == 4 * 3 * 3


def test_the_simplex_search_makes_the_loss_smaller_and_ends(monkeypatch):
    bone, start = head(hole=True), beside(3.0, -2.0, 2.0)
    rough = optimise(bone, BOX, [start], robust=None, levels=LEVELS[1:], polish=False)
    calls = []
    plain_loss = Comparison.loss
    monkeypatch.setattr(Comparison, "loss", lambda self, frame: calls.append(1) or plain_loss(self, frame))
    fine = optimise(bone, BOX, [start], robust=None, levels=LEVELS[1:])
    assert fine.loss <= rough.loss
    # From steps of 0.3 to 0.005 in three numbers: some 60 losses, not all that it may take.
    assert 20 < len(calls) < 100


def test_only_the_plane_moves():
    start = beside(6.0, -4.0, 3.0)
    step = np.linalg.inv(start) @ Comparison.build(head(), BOX, 4.0, 6.0).descend(start)
    turn = Rotation.from_matrix(step[:3, :3]).as_rotvec(degrees=True)
    assert abs(turn[0]) < 0.5  # what two turns make of pitch
    assert np.abs(turn[1:]).min() > 3
    assert np.abs(step[1:3, 3]).max() < 0.5


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(-20, 20), rotations())
def test_a_step_turns_about_y_and_z_and_moves_along_x(about_y, about_z, along_x, rotation):
    frame = np.eye(4)
    frame[:3, :3], frame[:3, 3] = rotation, [1.0, 2.0, 3.0]
    moved = turned(frame, [about_y, about_z, along_x])
    np.testing.assert_allclose(moved[:3, 3], frame[:3, 3] + along_x * rotation[:, 0], atol=1e-12)
    step = Rotation.from_matrix(rotation.T @ moved[:3, :3]).as_rotvec()
    np.testing.assert_allclose(step, [0.0, about_y, about_z], atol=1e-9)


@given(rotations(), st.floats(-200, 200), rotations(), st.tuples(*[st.floats(-200, 200)] * 3))
def test_the_frame_of_a_plane_is_right_handed_and_has_the_plane(turn, offset, other, centre):
    plane, up, centre = Plane(turn[:, 0], offset), other[:, 1], np.array(centre)
    frame = frame_of(plane, centre, up.tolist())
    rotation, origin = frame[:3, :3], frame[:3, 3]
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(rotation[:, 0], plane.normal, atol=1e-12)
    assert plane.distance_mm(origin) == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(np.cross(origin - centre, plane.normal), 0, atol=1e-9)  # the nearest point
    within = up - (up @ plane.normal) * plane.normal
    if np.linalg.norm(within) > 0.11:
        np.testing.assert_allclose(rotation[:, 2], within / np.linalg.norm(within), atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_up_may_lie_across_the_plane(axis, sign):
    normal = np.eye(3)[axis]
    frame = frame_of(Plane(normal, 7.0), np.array([1.0, 2.0, 3.0]), (sign * normal).tolist())
    np.testing.assert_allclose(frame[:3, :3].T @ frame[:3, :3], np.eye(3), atol=1e-12)
    assert np.linalg.det(frame[:3, :3]) == pytest.approx(1)
    np.testing.assert_array_equal(frame[:3, 0], normal)


@pytest.mark.parametrize("count", [7, 20, 60, 200])
def test_directions_are_spread_over_the_hemisphere(count):
    found = hemisphere(count)
    assert found.shape == (count, 3)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    np.testing.assert_array_equal(found[0], [1, 0, 0])
    assert (found[:, 0] > 0).all()
    # A direction's share of the hemisphere is a cap of radius sqrt(2 / count): none is nearer to another than two
    # thirds of that, and nothing is further from all than twice that.
    share = np.sqrt(2 / count)
    alike = np.abs(found @ found.T) - 2 * np.eye(count)
    assert np.arccos(alike.max()) > 2 / 3 * share
    anywhere = np.random.default_rng(0).standard_normal((2000, 3))
    anywhere /= np.linalg.norm(anywhere, axis=1, keepdims=True)
    assert np.arccos(np.abs(anywhere @ found.T).max(axis=1).min()) < 2 * share


def test_there_may_be_one_direction_or_none():
    np.testing.assert_array_equal(hemisphere(1), [[1, 0, 0]])
    assert hemisphere(0).shape == (0, 3)
