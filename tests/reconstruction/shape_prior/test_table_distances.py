"""Distances to the wall's two sides, on heads whose walls are known by formula."""

from __future__ import annotations

import numpy as np
import pytest
from tests.heads import SIDE, Head, boxed

from calvaria.reconstruction.box import BoxField, box_grid
from calvaria.reconstruction.shape_prior.table_distances import known_within, table_distances_at
from calvaria.skull.head import HEAD_CENTRE_MM

LIMIT_MM = 10.0


def ball_shell(outer_mm: float = 70.0, inner_mm: float = 64.0, scale=(1.0, 1.0, 1.0)) -> BoxField:
    """A shell about the head's middle, a ball in the skull's own mm, seen in a scaled box."""
    away = np.linalg.norm((box_grid().centres_mm() - HEAD_CENTRE_MM) * scale, axis=-1)
    distance = np.clip(np.maximum(away - outer_mm, inner_mm - away), -12.7, 12.7).astype(np.float32)
    return BoxField(distance, np.ones(distance.shape, bool), scale)


def places(
    away_mm: tuple[float, float], scale=(1.0, 1.0, 1.0), count: int = 4000, lowest_mm: float = -30.0
) -> np.ndarray:
    """Points so far from the head's middle in the skull's own mm, well within the box."""
    rng = np.random.default_rng(0)
    ways = rng.standard_normal((count, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    points = HEAD_CENTRE_MM + ways * rng.uniform(*away_mm, (count, 1)) / scale
    return points[points[:, 2] > lowest_mm]


@pytest.mark.parametrize(
    "scale", [(1.0, 1.0, 1.0), (0.93, 1.04, 1.08)], ids=["a ball in the box", "an ellipsoid there"]
)
def test_distances_to_a_ball_are_those_to_its_two_sides(scale):
    points = places((50.0, 84.0), scale)
    sides = table_distances_at(ball_shell(scale=scale), points, LIMIT_MM)
    away = np.linalg.norm((points - HEAD_CENTRE_MM) * scale, axis=1)
    for found, true in ((sides.outer_mm, away - 70.0), (sides.inner_mm, 64.0 - away)):
        near = np.abs(true) < 0.9 * LIMIT_MM
        assert near.mean() > 0.3
        assert np.abs(found - true)[near].max() < 0.25
        assert np.abs(found - true)[near].mean() < 0.05
        apart = np.abs(true) > 0.3
        np.testing.assert_array_equal(np.sign(found)[apart], np.sign(true)[apart])
        far = np.abs(true) > 1.1 * LIMIT_MM
        np.testing.assert_allclose(found[far], np.sign(true[far]) * LIMIT_MM)
        assert found.dtype == np.float32


def test_bone_is_where_both_are_negative():
    field = boxed(Head(20))
    grid = box_grid()
    vault = grid.centres_mm()[..., 2] > 20.0
    sides = table_distances_at(field, grid.centres_mm()[vault], LIMIT_MM)
    told, true = np.maximum(sides.outer_mm, sides.inner_mm), field.distance_mm[vault]
    # Either side of the middle of the wall the nearer surface is the side's own.
    near = np.abs(true) < 5.0
    assert np.abs(told - true)[near].mean() < 0.15
    assert ((told < 0) == (true < 0))[np.abs(true) > 0.2].mean() > 0.999


def test_both_run_straight_through_the_wall():
    """The crest of the distance to bone is gone: the sum of the two is minus the thickness, everywhere across it."""
    points = places((61.0, 73.0))
    sides = table_distances_at(ball_shell(), points, LIMIT_MM)
    np.testing.assert_allclose(sides.outer_mm + sides.inner_mm, -6.0, atol=0.3)


def test_a_mirrored_skull_has_the_mirrored_distances():
    field = boxed(Head(21, (SIDE,)))
    mirrored = BoxField(np.ascontiguousarray(field.distance_mm[::-1]), field.known[::-1], field.scale)
    points = box_grid(4.8).centres_mm().reshape(-1, 3)
    one = table_distances_at(field, points, LIMIT_MM)
    other = table_distances_at(mirrored, points * [-1.0, 1.0, 1.0], LIMIT_MM)
    for name in ("outer_mm", "inner_mm"):
        apart = np.abs(getattr(one, name) - getattr(other, name))
        # Two places equally near, or a look that just misses an edge, may be told apart by rounding alone.
        assert (apart > 0.01).mean() < 2e-3
    assert np.abs(one.outer_mm - table_distances_at(field, points * [-1.0, 1.0, 1.0], LIMIT_MM).outer_mm).mean() > 0.1


def test_what_lies_between_two_walls_belongs_to_neither_side():
    away = box_grid().centres_mm() - HEAD_CENTRE_MM
    far = np.linalg.norm(away, axis=-1)
    forehead = away[..., 1] < -0.75 * far
    # As before a frontal sinus: a wall at 70 to 74 mm all around, and at the forehead another at 52 to 56 mm.
    front, back = np.maximum(far - 74.0, 70.0 - far), np.maximum(far - 56.0, 52.0 - far)
    distance = np.minimum(front, np.where(forehead, back, 9.0))
    double = BoxField(np.clip(distance, -9.0, 9.0).astype(np.float32), np.ones(far.shape, bool))
    points = places((48.0, 80.0)) - HEAD_CENTRE_MM
    far = np.linalg.norm(points, axis=1)
    middle = points[:, 1] < -0.92 * far
    assert middle.sum() > 50
    sides = table_distances_at(double, points[middle] + HEAD_CENTRE_MM, LIMIT_MM)
    far = far[middle]
    np.testing.assert_allclose(sides.outer_mm, np.clip(far - 74.0, -LIMIT_MM, LIMIT_MM), atol=0.3)
    np.testing.assert_allclose(sides.inner_mm, np.clip(52.0 - far, -LIMIT_MM, LIMIT_MM), atol=0.3)


@pytest.mark.parametrize(("value", "outer", "inner"), [(9.0, LIMIT_MM, LIMIT_MM), (-9.0, -LIMIT_MM, -LIMIT_MM)])
def test_a_box_of_air_or_of_bone_alone_has_no_sides(value, outer, inner):
    shape = box_grid().shape
    sides = table_distances_at(
        BoxField(np.full(shape, value, np.float32), np.ones(shape, bool)), places((30.0, 60.0)), LIMIT_MM
    )
    np.testing.assert_array_equal(sides.outer_mm, outer)
    np.testing.assert_array_equal(sides.inner_mm, inner)


def test_what_is_near_the_end_of_the_scan_is_not_known():
    known = np.ones((20, 20, 20), bool)
    assert np.isinf(known_within(known, (1.0, 1.0, 1.0), 2.0)).all()
    known[:, :, :5] = False
    found = known_within(known, (1.0, 1.0, 1.5), 2.0)
    np.testing.assert_allclose(found[3, 4, 5:], 3.0 * np.arange(1, 16) - 3.0)
    assert (found[~known] < 0).all()
