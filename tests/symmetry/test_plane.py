"""The plane: reflections, distances, angles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation
from tests.strategies import rotations

from calvaria.errors import GeometryError
from calvaria.symmetry.plane import Plane

points = hnp.arrays(np.float64, (5, 3), elements=st.floats(-300, 300))


@st.composite
def planes(draw: st.DrawFn) -> Plane:
    """Any plane within 200 mm, its normal of any length."""
    return Plane(draw(rotations())[:, 0] * draw(st.floats(0.01, 50)), draw(st.floats(-200, 200)))


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
