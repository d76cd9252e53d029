"""What the symmetry network sees of a skull, and what its numbers mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.heads import rigid
from tests.strategies import grids, rotations, shapes, spacings

from calvaria.errors import InputError
from calvaria.symmetry.frame import (
    ARMS_MM,
    COARSE_MM,
    HALF,
    HEIGHT_MM,
    SIZE,
    SPACING_MM,
    UNIT_MM,
    coarse_bone,
    cube_of,
    head_frame,
    network_grid,
    numbers_of,
    plane_of,
)
from calvaria.symmetry.plane import Plane
from calvaria.volume.grid import Grid
from calvaria.volume.resample import resample
from calvaria.volume.volume import Volume

CUBE_ATOL = 1e-4
"""Fractions read in 32 bits by two ways of interpolating."""

numbers = st.tuples(*[st.floats(-8.0, 8.0)] * 3).map(np.array)
places = st.tuples(*[st.floats(-500.0, 500.0)] * 3).map(np.array)


def middle(grid: Grid) -> np.ndarray:
    return grid.to_world((np.array(grid.shape) - 1) / 2)


def ball(grid: Grid, centre_mm: np.ndarray, radius_mm: float) -> Volume:
    """Bone fractions of a ball."""
    depth = radius_mm - np.linalg.norm(grid.centres_mm() - centre_mm, axis=-1)
    return Volume(np.clip(0.5 + depth / np.mean(grid.spacing_mm), 0, 1).astype(np.float32), grid)


def column(low_mm: float, high_mm: float, side_mm: float = 12.0) -> Volume:
    """A square column of bone about the z axis, in voxels of 1.9 mm: no two of them lie 150 mm above one another."""
    count = int((high_mm - low_mm) / 1.9) + 4
    grid = Grid.isotropic((20, 20, count), 1.9, (-18.05, -18.05, low_mm - 2.0))
    centres = grid.centres_mm()
    inside = (np.abs(centres[..., :2]) < side_mm).all(axis=-1)
    inside &= (centres[..., 2] > low_mm) & (centres[..., 2] < high_mm)
    return Volume(inside.astype(np.float32), grid)


# ---- numbers


@given(numbers, places)
def test_numbers_become_a_plane_and_the_same_numbers_again(u_v_w, centre):
    np.testing.assert_allclose(numbers_of(plane_of(u_v_w, centre), centre), u_v_w, atol=1e-9)


@given(rotations(), st.floats(-200, 200), places, st.sampled_from([-1.0, 1.0]))
def test_a_plane_becomes_numbers_and_the_same_plane_again(turn, offset, centre, sign):
    normal = sign * turn[:, int(np.argmax(np.abs(turn[0])))]  # within 55 degrees of the x axis
    plane = Plane(normal, offset)
    found = plane_of(numbers_of(plane, centre), centre)
    assert found.angle_deg(plane) < 1e-9
    assert found.apart_mm(plane, centre) < 1e-9


@given(numbers, places, st.floats(-100, 100), st.floats(-100, 100))
def test_the_plane_is_the_graph_that_is_promised(u_v_w, centre, y, z):
    u, v, w = u_v_w
    x = UNIT_MM * (u * y / ARMS_MM[0] + v * z / ARMS_MM[1] + w)
    plane = plane_of(u_v_w, centre)
    assert plane.distance_mm(centre + np.array([x, y, z])) == pytest.approx(0, abs=1e-9)
    assert plane.normal[0] > 0


def test_no_numbers_are_the_plane_through_the_centre_and_each_moves_it_by_10_mm_at_its_arm():
    centre = np.array([3.0, -4.0, 5.0])
    still = plane_of([0, 0, 0], centre)
    np.testing.assert_array_equal(still.normal, [1, 0, 0])
    assert still.offset_mm == 3
    for one, place in (([1, 0, 0], [10, 23, 0]), ([0, 1, 0], [10, 0, 13]), ([0, 0, 1], [10, 20, -30])):
        assert plane_of(one, centre).distance_mm(centre + place) == pytest.approx(0, abs=1e-12)


@given(numbers, places, places)
def test_where_in_the_world_a_head_lies_changes_nothing_in_its_numbers(u_v_w, centre, shift):
    plane = plane_of(u_v_w, centre)
    moved = plane.moved(rigid((0, 0, 0), shift))
    np.testing.assert_allclose(numbers_of(moved, centre + shift), u_v_w, atol=1e-9)


@given(numbers, places)
def test_which_way_the_normal_points_changes_nothing(u_v_w, centre):
    plane = plane_of(u_v_w, centre)
    np.testing.assert_allclose(numbers_of(Plane(-plane.normal, -plane.offset_mm), centre), u_v_w, atol=1e-9)


@pytest.mark.parametrize("normal", [[0, 1, 0], [0, 0.6, -0.8], [1e-8, 1, 0]])
def test_a_plane_that_holds_the_x_axis_has_no_numbers(normal):
    with pytest.raises(InputError, match="a plane that contains the left-right axis has no such parameters"):
        numbers_of(Plane(normal, 3.0), np.zeros(3))


# ---- coarse bone


def test_a_mask_is_averaged_to_2_mm_around_its_bone_and_a_voxel_of_air():
    mask = np.zeros((40, 50, 60), bool)
    mask[10:20, 12:16, 30:37] = True  # 5, 2 and 3.5 mm
    bone = coarse_bone(Volume(mask, Grid.isotropic(mask.shape, 0.5, (100.0, -50.0, 7.0))))
    assert bone.grid.spacing_mm == (COARSE_MM, COARSE_MM, COARSE_MM)
    np.testing.assert_array_equal(bone.data, np.pad(np.ones((3, 1, 2)), 1))
    np.testing.assert_allclose(bone.grid.to_world([1, 1, 1]), [100 + 5.75, -50 + 6.75, 7 + 15.75])
    assert bone.data.dtype == np.float32


def test_without_bone_there_is_nothing_to_see():
    grid = Grid.isotropic((5, 6, 7), 1.0)
    with pytest.raises(InputError, match="there is no bone: the mask is empty"):
        coarse_bone(Volume(np.zeros(grid.shape, bool), grid))
    with pytest.raises(InputError, match="there is no bone: all fractions are below a half"):
        head_frame(Volume(np.full(grid.shape, 0.4, np.float32), grid), np.eye(3))


# ---- the head's frame


@given(grids(shapes(24, 28), spacings(1.5, 2.0), sheared=False), rotations(), places)
@settings(max_examples=10)
def test_a_ball_has_its_frame_in_its_middle_along_the_axes_given(grid, axes, beside):
    centre = middle(grid) + beside / 500
    frame = head_frame(ball(grid, centre, 12.0), axes)
    np.testing.assert_allclose(frame[:3, 3], centre, atol=0.25)  # whole voxels are counted
    np.testing.assert_array_equal(frame[:3, :3], axes)
    np.testing.assert_array_equal(frame[3], [0, 0, 0, 1])


def test_only_the_upper_150_mm_count():
    frame = head_frame(column(-400.0, 100.0), np.eye(3))
    np.testing.assert_allclose(frame[:3, 3], [0, 0, 100 - HEIGHT_MM / 2], atol=2.0)
    short = head_frame(column(0.0, 100.0), np.eye(3))
    np.testing.assert_allclose(short[:3, 3], [0, 0, 50], atol=1.0)


def test_up_is_where_the_third_axis_points():
    upside_down = np.diag([-1.0, 1.0, -1.0])
    frame = head_frame(column(-400.0, 100.0), upside_down)
    np.testing.assert_allclose(frame[:3, 3], [0, 0, -400 + HEIGHT_MM / 2], atol=2.0)


@given(rotations(), places)
@settings(max_examples=10)
def test_the_frame_goes_with_the_head(turn, shift):
    bone, moved = column(-250.0, 100.0), np.eye(4)
    moved[:3, :3], moved[:3, 3] = turn, shift
    there = head_frame(Volume(bone.data, bone.grid.moved(moved)), turn)
    np.testing.assert_allclose(there, moved @ head_frame(bone, np.eye(3)), atol=1e-6)


def test_of_a_large_head_some_voxels_do():
    grid = Grid.isotropic((64, 60, 56), 2.0, (-63.0, -59.0, -55.0))
    frame = head_frame(Volume(np.ones(grid.shape, np.float32), grid), np.eye(3))
    np.testing.assert_allclose(frame[:3, 3], 0, atol=2.0)  # a voxel


# ---- the cube


def test_the_cube_lies_about_its_centre():
    grid = network_grid((10.0, -20.0, 30.0))
    assert grid.shape == (SIZE, SIZE, SIZE)
    assert grid.spacing_mm == (SPACING_MM, SPACING_MM, SPACING_MM)
    np.testing.assert_allclose(middle(grid), [10, -20, 30])


def plain_cube(bone: Volume, frame: np.ndarray) -> np.ndarray:
    """What the cube shows of a skull with air around it, by the general interpolation, every voxel read."""
    there = resample(bone, network_grid().moved(frame)).data
    bright = np.flatnonzero((there > HALF).any(axis=(0, 1)))
    if len(bright):
        there[:, :, : max(0, bright[-1] - round(HEIGHT_MM / SPACING_MM))] = 0
    return there


@given(grids(shapes(4, 40), spacings(1.2, 4.0)), rotations(), places, st.integers(0, 10**6))
@settings(max_examples=12)
def test_lone_voxels_of_any_grid_are_seen_as_by_plain_resampling(grid, axes, beside, seed):
    rng = np.random.default_rng(seed)
    data = np.zeros(grid.shape, np.float32)
    inner = rng.integers(1, np.array(grid.shape) - 1, (40, 3))
    data[tuple(inner.T)] = rng.uniform(0.01, 1.0, len(inner))
    frame = np.eye(4)
    frame[:3, :3], frame[:3, 3] = axes, middle(grid) + beside / 10
    bone = Volume(data, grid)
    np.testing.assert_allclose(cube_of(bone, frame), plain_cube(bone, frame), atol=CUBE_ATOL)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_shell_is_seen_as_by_plain_resampling(order):
    grid = Grid.isotropic((90, 96, 84), 2.0, (-92.0, -90.0, -85.0))
    outer, inner = (ball(grid, np.array([3.0, 5.0, 1.0]), radius).data for radius in (74.0, 68.0))
    bone = Volume(np.asarray(outer - inner, order=order), grid)
    frame = head_frame(bone, rigid((7, -25, 12))[:3, :3])
    found = cube_of(bone, frame)
    assert found.dtype == np.float32
    assert found.shape == (SIZE, SIZE, SIZE)
    np.testing.assert_allclose(found, plain_cube(bone, frame), atol=CUBE_ATOL)
    # The shell's volume, in voxels of the cube; 148 mm high, so its floor is left.
    wanted = 4 / 3 * np.pi * (74**3 - 68**3) / SPACING_MM**3
    assert found.sum() == pytest.approx(wanted, rel=0.01)


def test_a_head_of_a_mask_is_seen_to_its_ends():
    grid = Grid.isotropic((60, 60, 60), 2.0, (-59.0, -59.0, -59.0))
    mask = ball(grid, np.zeros(3), 50.0).data > HALF  # 25 voxels to every side
    bone = coarse_bone(Volume(mask, grid))
    whole = resample(Volume(mask.astype(np.float32), grid), network_grid())
    np.testing.assert_allclose(cube_of(bone, np.eye(4)), whole.data, atol=CUBE_ATOL)


def test_bone_more_than_150_mm_below_the_top_is_left_out():
    found = cube_of(column(-110.0, 100.0), np.eye(4))
    heights = network_grid().centres_mm()[0, 0, :, 2]
    seen = heights[found.any(axis=(0, 1))]
    top = heights[(found > HALF).any(axis=(0, 1))].max()
    assert top == pytest.approx(100, abs=SPACING_MM)
    assert seen.min() == top - HEIGHT_MM
    faint = column(-110.0, 100.0)
    unseen_top = cube_of(faint.with_data(np.float32(0.4) * faint.data), np.eye(4))
    assert heights[unseen_top.any(axis=(0, 1))].min() < -105  # nothing says where the top is


def test_a_skull_beside_the_cube_is_not_seen_and_a_speck_is_no_harm():
    bone = column(0.0, 100.0)
    assert not cube_of(bone, rigid((0, 0, 0), (500.0, 0, 0))).any()
    speck = np.zeros((7, 7, 7), bool)
    speck[3, 3, 3] = True
    one = coarse_bone(Volume(speck, Grid.isotropic((7, 7, 7), 0.5)))
    found = cube_of(one, head_frame(one, np.eye(3)))
    assert found.shape == (SIZE, SIZE, SIZE)
    assert 0 <= found.min() <= found.max() <= 1


def test_the_mirror_image_of_a_head_is_seen_mirrored():
    grid = Grid.isotropic((50, 52, 48), 2.0, (-49.0, -51.0, -47.0))
    data = np.pad(np.random.default_rng(0).random((48, 50, 46), np.float32), 1)
    one, other = Volume(data, grid), Volume(np.ascontiguousarray(data[::-1]), grid)
    np.testing.assert_allclose(cube_of(other, np.eye(4)), cube_of(one, np.eye(4))[::-1], atol=CUBE_ATOL)
