"""The plane: reflections of points, meshes and volumes, distances, angles, and planes in a world that is moved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation
from tests.strategies import axis_orders, flips, grids, rotations, shapes, spacings

from calvaria.errors import GeometryError
from calvaria.symmetry.plane import Plane, reflect_volume
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

points = hnp.arrays(np.float64, (5, 3), elements=st.floats(-300, 300))

MIN_ANGLE_DEG = 1e-6
"""An angle that the cosine cannot tell from 0 in 64 bits: 1 - cos = 1.5e-16."""


@st.composite
def planes(draw: st.DrawFn) -> Plane:
    """Any plane within 200 mm, its normal of any length."""
    return Plane(draw(rotations())[:, 0] * draw(st.floats(0.01, 50)), draw(st.floats(-200, 200)))


@st.composite
def maps(draw: st.DrawFn) -> np.ndarray:
    """(4, 4) maps of the world that can be undone: turned, stretched, sheared, mirrored or not, and moved."""
    matrix = np.eye(4)
    stretch = np.diag([draw(st.sampled_from([-1.0, 1.0])) * draw(st.floats(0.2, 5.0)) for _ in range(3)])
    shear = np.eye(3) + np.triu([[draw(st.floats(-1.0, 1.0)) for _ in range(3)] for _ in range(3)], 1)
    matrix[:3, :3] = draw(rotations()) @ stretch @ shear
    matrix[:3, 3] = [draw(st.floats(-500.0, 500.0)) for _ in range(3)]
    return matrix


def mapped(matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N, 3) points after a (4, 4) map."""
    return x @ matrix[:3, :3].T + matrix[:3, 3]


@given(planes(), points)
def test_reflecting_twice_changes_nothing(plane, x):
    np.testing.assert_allclose(plane.reflect(plane.reflect(x)), x, atol=1e-6)


@given(planes(), points)
def test_a_reflected_point_lies_as_far_on_the_other_side(plane, x):
    np.testing.assert_allclose(plane.distance_mm(plane.reflect(x)), -plane.distance_mm(x), atol=1e-6)
    middle = (x + plane.reflect(x)) / 2
    np.testing.assert_allclose(plane.distance_mm(middle), 0, atol=1e-6)


@given(planes(), points)
def test_reflection_keeps_distances_between_points(plane, x):
    y = plane.reflect(x)
    np.testing.assert_allclose(np.linalg.norm(y[1:] - y[0], axis=1), np.linalg.norm(x[1:] - x[0], axis=1), atol=1e-6)


@given(rotations(), st.floats(-100, 100), st.floats(0.1, 10), points)
def test_the_length_of_the_normal_does_not_matter(turn, offset, length, x):
    one, other = Plane(turn[:, 2], offset), Plane(length * turn[:, 2], length * offset)
    np.testing.assert_allclose(one.distance_mm(x), other.distance_mm(x), atol=1e-9)
    assert np.linalg.norm(other.normal) == pytest.approx(1)


@given(rotations(), st.floats(0, 90), st.booleans())
def test_the_angle_is_that_of_the_turn_whatever_the_normals_sign(turn, degrees, flipped):
    axis, normal = turn[:, 0], turn[:, 1]
    other = Rotation.from_rotvec(np.radians(degrees) * axis).apply(normal) * (-1 if flipped else 1)
    assert Plane(normal, 3.0).angle_deg(Plane(other, -8.0)) == pytest.approx(degrees, abs=1e-4)


def test_no_points_give_no_points():
    assert Plane([0, 0, 1], 2.0).reflect(np.zeros((0, 3))).shape == (0, 3)


def test_the_normal_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        Plane([0, 0, 1], 2.0).normal[0] = 1


@pytest.mark.parametrize("normal", [[0, 0, 0], [1, 0], [np.nan, 0, 1], [np.inf, 0, 1], [[1, 0, 0]]])
def test_a_normal_that_is_none_is_refused(normal):
    with pytest.raises(GeometryError, match="a plane needs a normal of three finite numbers, not all zero; got"):
        Plane(normal, 0.0)


@pytest.mark.parametrize("offset", [np.nan, np.inf])
def test_an_offset_that_is_none_is_refused(offset):
    with pytest.raises(GeometryError, match="a plane's offset is a finite number of mm; got"):
        Plane([1, 0, 0], offset)


# ---- the reflection as a matrix


@given(planes(), points)
def test_the_matrix_does_what_reflect_does_and_undoes_itself(plane, x):
    matrix = plane.reflection
    np.testing.assert_allclose(mapped(matrix, x), plane.reflect(x), atol=1e-9)
    np.testing.assert_allclose(matrix @ matrix, np.eye(4), atol=1e-9)
    assert np.linalg.det(matrix) == pytest.approx(-1)


@given(planes(), points)
def test_points_of_the_plane_stay(plane, x):
    on = x - plane.distance_mm(x)[:, None] * plane.normal
    np.testing.assert_allclose(plane.reflect(on), on, atol=1e-9)


# ---- planes that are moved


@given(planes(), maps(), points)
def test_points_of_the_plane_stay_on_it_when_the_world_is_moved(plane, matrix, x):
    on = x - plane.distance_mm(x)[:, None] * plane.normal
    np.testing.assert_allclose(plane.moved(matrix).distance_mm(mapped(matrix, on)), 0, atol=1e-7)


@given(planes(), rotations(), st.booleans(), hnp.arrays(np.float64, 3, elements=st.floats(-500, 500)), points)
def test_mirror_images_go_with_a_rigid_or_mirrored_world(plane, turn, mirrored, shift, x):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn * (-1 if mirrored else 1), shift
    moved = plane.moved(matrix)
    np.testing.assert_allclose(moved.reflect(mapped(matrix, x)), mapped(matrix, plane.reflect(x)), atol=1e-7)
    np.testing.assert_allclose(moved.distance_mm(mapped(matrix, x)), plane.distance_mm(x), atol=1e-7)


@given(planes(), maps())
def test_a_plane_moved_there_and_back_is_the_same(plane, matrix):
    back = plane.moved(matrix).moved(np.linalg.inv(matrix))
    np.testing.assert_allclose(back.normal, plane.normal, atol=1e-9)
    assert back.offset_mm == pytest.approx(plane.offset_mm, abs=1e-6)


@pytest.mark.parametrize(
    "matrix",
    [np.diag([1.0, 1.0, 0.0, 1.0]), np.eye(3), np.diag([1.0, np.nan, 1.0, 1.0]), np.diag([np.inf, 1.0, 1.0, 1.0])],
    ids=["flat", "3 x 3", "not a number", "infinite"],
)
def test_a_map_that_cannot_be_undone_is_refused(matrix):
    with pytest.raises(GeometryError, match=r"a plane is moved by a \(4, 4\) affine map that can be undone"):
        Plane([1, 0, 0], 0.0).moved(matrix)


# ---- how far two planes are from one another


@given(rotations(), st.floats(0.5, 2.0))
def test_the_smallest_angle_is_told(turn, share):
    degrees = share * MIN_ANGLE_DEG
    other = np.cos(np.radians(degrees)) * turn[:, 1] + np.sin(np.radians(degrees)) * turn[:, 2]
    found = Plane(turn[:, 1], 3.0).angle_deg(Plane(-other, 5.0))
    assert found == pytest.approx(degrees, rel=1e-5)


@given(planes(), st.floats(-50, 50), points)
def test_parallel_planes_are_as_far_apart_everywhere(plane, gap, x):
    other = Plane(plane.normal, plane.offset_mm + gap)
    for point in x:
        assert plane.apart_mm(other, point) == pytest.approx(abs(gap), abs=1e-9)


@given(planes(), planes(), points)
def test_which_way_the_normals_point_does_not_change_how_far_apart(one, other, x):
    assume(abs(one.normal @ other.normal) > 1e-9)  # of planes at right angles no side is the same side
    turned = Plane(-other.normal, -other.offset_mm)
    assert one.apart_mm(turned, x[0]) == pytest.approx(one.apart_mm(other, x[0]), abs=1e-9)
    assert other.apart_mm(one, x[0]) == pytest.approx(one.apart_mm(other, x[0]), abs=1e-9)
    assert one.apart_mm(turned, x[0]) >= 0


def test_planes_that_cross_at_a_point_are_not_apart_there():
    one, other = Plane([1, 0, 0], 5.0), Plane([0.8, 0.6, 0], 0.8 * 5 + 0.6 * 7)
    assert one.apart_mm(other, [5.0, 7.0, -3.0]) == pytest.approx(0, abs=1e-12)
    assert one.apart_mm(other, [5.0, 17.0, -3.0]) == pytest.approx(6.0)


# ---- volumes


@st.composite
def layered_grids(draw: st.DrawFn) -> tuple[Grid, int]:
    """A grid on which flat layers lie straight above one another, and the axis across them.

    Mirror images about planes between layers are lattice points then: the two other axes may be sheared against one
    another, the whole oblique, axes in any order and direction, spacing uneven.
    """
    unit = np.eye(3)
    unit[0, 1] = np.tan(np.radians(draw(st.floats(-30.0, 30.0))))
    unit = draw(rotations()) @ (unit / np.linalg.norm(unit, axis=0))
    affine = np.eye(4)
    affine[:3, :3] = unit * draw(spacings())
    affine[:3, 3] = [draw(st.floats(-300.0, 300.0)) for _ in range(3)]
    order = draw(axis_orders())
    grid = Grid(draw(shapes(2, 7)), affine).permute(order).flip(draw(flips()))
    return grid, order.index(2)


def layer_plane(grid: Grid, axis: int, index: float) -> Plane:
    """The plane across an axis at an index of it."""
    normal = np.cross(*np.delete(grid.affine[:3, :3], axis, axis=1).T)
    at = np.zeros(3)
    at[axis] = index
    return Plane(normal, float(normal @ grid.to_world(at)))


def noise(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


@given(layered_grids(), st.sampled_from([-1.0, 1.0]))
def test_about_the_middle_layer_a_volume_is_flipped_to_the_bit(layered, sign):
    grid, axis = layered
    plane = layer_plane(grid, axis, (grid.shape[axis] - 1) / 2)
    volume = Volume(noise(grid.shape), grid)
    out = reflect_volume(volume, Plane(sign * plane.normal, sign * plane.offset_mm))
    np.testing.assert_array_equal(out.data, np.flip(volume.data, axis))
    assert out.grid is grid
    assert out.data.dtype == np.float32


@given(layered_grids(), st.integers(-3, 17))
def test_about_any_layer_or_between_two_voxels_are_copied_and_air_comes_in(layered, twice):
    grid, axis = layered
    data = noise(grid.shape)
    out = reflect_volume(Volume(data, grid), layer_plane(grid, axis, twice / 2)).data
    source = twice - np.arange(grid.shape[axis])  # the voxel whose mirror image stands at each
    inside = (source >= 0) & (source < grid.shape[axis])
    wanted = np.take(data, np.clip(source, 0, grid.shape[axis] - 1), axis)
    wanted = np.moveaxis(np.moveaxis(wanted, axis, -1) * inside, -1, axis)
    np.testing.assert_array_equal(out, wanted)


@given(rotations(), st.floats(0.5, 3.0), axis_orders())
def test_about_the_diagonal_of_two_axes_they_change_places(turn, spacing, order):
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing
    a, b, c = order
    plane = Plane(turn[:, a] - turn[:, b], 0.0)
    out = reflect_volume(Volume(noise((6, 6, 6)), Grid((6, 6, 6), affine)), plane).data
    exchange = [0, 0, 0]
    exchange[a], exchange[b], exchange[c] = b, a, c
    np.testing.assert_array_equal(out, noise((6, 6, 6)).transpose(exchange))


@given(grids(shapes(24, 28), spacings(0.8, 1.2)), rotations(), st.floats(-2.0, 2.0))
@settings(max_examples=20)
def test_a_smooth_field_reflected_twice_is_itself_but_for_the_interpolation(grid, turn, beside_mm):
    # A cloud of standard deviation s: a trilinear value is off by at most the sum of h^2 / 8 times the curvature, and
    # that by at most 1 / s^2 along each axis; twice.
    deviation, middle = 3.5, grid.to_world((np.array(grid.shape) - 1) / 2)
    from_middle = grid.centres_mm() - middle
    cloud = Volume(np.exp(-0.5 * (from_middle**2).sum(axis=-1) / deviation**2), grid)
    plane = Plane(turn[:, 0], float(turn[:, 0] @ middle) + beside_mm)
    seen_twice = 2 * 3 * max(grid.spacing_mm) ** 2 / 8 / deviation**2
    once, twice = reflect_volume(cloud, plane), reflect_volume(reflect_volume(cloud, plane), plane)
    near = np.linalg.norm(from_middle, axis=-1) < 1.5  # its mirror image lies well inside, twice
    assert near.any()
    np.testing.assert_allclose(twice.data[near], cloud.data[near], atol=seen_twice)
    moved = grid.centres_mm() - plane.reflect(middle)
    wanted = np.exp(-0.5 * (moved**2).sum(axis=-1) / deviation**2)
    np.testing.assert_allclose(once.data[near], wanted[near], atol=seen_twice / 2)


@given(grids(shapes(4, 6)), grids(shapes(3, 5), spacings(0.3, 1.0)), planes())
def test_a_linear_field_is_exact_on_another_grid(grid, elsewhere, plane):
    def middle(one: Grid) -> np.ndarray:
        return one.to_world((np.array(one.shape) - 1) / 2)

    shift = np.eye(4)
    shift[:3, 3] = plane.reflect(middle(grid)) - middle(elsewhere)
    other = elsewhere.moved(shift)  # about the mirror image of the first one's middle
    out = reflect_volume(Volume(grid.centres_mm() @ [0.3, -0.2, 0.1] + 7.0, grid), plane, other)
    mirrored = plane.reflect(other.centres_mm())
    index = grid.to_index(mirrored)
    inside = ((index >= 0) & (index <= np.array(grid.shape) - 1)).all(axis=-1)
    beyond = ((index < -0.501) | (index > np.array(grid.shape) - 0.499)).any(axis=-1)
    assert inside.any()
    np.testing.assert_allclose(out.data[inside], (mirrored @ [0.3, -0.2, 0.1] + 7.0)[inside], atol=1e-3)
    assert (out.data[beyond] == 0).all()
    assert out.grid is other


def test_a_mask_is_read_as_0_and_1():
    grid = Grid.isotropic((4, 3, 2), 2.0, (1.0, 0.0, 0.0))
    mask = noise(grid.shape) > 0.5
    out = reflect_volume(Volume(mask, grid), Plane([1, 0, 0], 4.0))
    np.testing.assert_array_equal(out.data, mask[::-1].astype(np.float32))
    assert out.data.dtype == np.float32
