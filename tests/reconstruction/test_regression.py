"""The ridge regression against plain linear algebra."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from tests.heads import Head, family_model

from calvaria.reconstruction.box import box_grid
from calvaria.reconstruction.regression import Jitter, _solve, fit, jitters, trilinear
from calvaria.volume import Grid
from calvaria.volume.rotation import rotation_vector


@given(st.integers(0, 10**6), st.floats(0.3, 4))
def test_trilinear_reads_what_scipy_reads_and_the_nearest_edge_outside(seed, spacing):
    rng = np.random.default_rng(seed)
    grid = Grid.isotropic((5, 7, 6), spacing, rng.uniform(-9, 9, 3))
    values = rng.standard_normal(grid.shape)
    index = rng.uniform(-2, 8, (40, 3))
    expected = map_coordinates(values, index.T, order=1, mode="nearest")
    found = trilinear(grid, grid.to_world(index)) @ values.reshape(-1)
    np.testing.assert_allclose(found, expected, atol=2e-3)  # an edge is read 1e-4 voxels inside


def test_weights_of_a_read_add_up_to_one():
    read = trilinear(box_grid(4.8), np.random.default_rng(0).uniform(-150, 150, (50, 3)))
    np.testing.assert_allclose(np.asarray(read.sum(axis=1)).ravel(), 1, atol=1e-5)
    assert read.shape == (50, box_grid(4.8).size)


def by_hand(design: np.ndarray, right: np.ndarray, ridge: float) -> np.ndarray:
    """Least squares on the system with the prior's rows below it."""
    energy = (design.astype(float) ** 2).sum() / design.shape[1]
    rows = np.sqrt(ridge * energy) * np.eye(design.shape[1])
    return np.linalg.lstsq(np.vstack([design, rows]), np.concatenate([right, np.zeros(len(rows))]), rcond=None)[0]


@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 30), st.sampled_from([0.01, 0.1, 1.0]))
def test_both_forms_of_the_ridge_give_the_least_squares_solution(seed, points, columns, ridge):
    rng = np.random.default_rng(seed)
    design = rng.standard_normal((points, columns)).astype(np.float32)
    right = rng.standard_normal(points).astype(np.float32)
    np.testing.assert_allclose(_solve(design, right, ridge), by_hand(design, right, ridge), atol=2e-4)


def test_both_forms_agree_where_they_meet():
    rng = np.random.default_rng(1)
    design = rng.standard_normal((20, 20)).astype(np.float32)
    right = rng.standard_normal(20).astype(np.float32)
    wider = np.column_stack([design, np.zeros(20, np.float32)])
    # The same system with an idle column takes the other form; the ridge is a share of the mean energy.
    one, other = _solve(design, right, 0.1), _solve(wider, right, 0.1 * 21 / 20)
    np.testing.assert_allclose(other[:20], one, atol=1e-4)
    assert abs(other[20]) < 1e-6


def mirrored(move: Jitter) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    turn = rotation_vector(move.rotation) * [1, -1, -1]
    return move.scale, move.shift_mm * [-1, 1, 1], turn


@pytest.mark.parametrize(("pairs", "seed"), [(0, 1), (1, 5), (8, 1)])
def test_the_jitters_hold_their_own_mirror_images(pairs, seed):
    moves = jitters(pairs, seed)
    assert len(moves) == 2 * pairs + 1
    points = np.random.default_rng(0).uniform(-80, 80, (20, 3))
    np.testing.assert_array_equal(moves[0](points), points)
    flip = np.array([-1.0, 1.0, 1.0])
    for one, other in zip(moves[1::2], moves[2::2], strict=True):
        np.testing.assert_allclose(other(points * flip), one(points) * flip, atol=1e-9)
        for a, b in zip(mirrored(one), (other.scale, other.shift_mm, rotation_vector(other.rotation)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-9)


def test_the_same_seed_draws_the_same_jitters():
    for one, other in zip(jitters(3, 7), jitters(3, 7), strict=True):
        np.testing.assert_array_equal(one.rotation, other.rotation)
        np.testing.assert_array_equal(one.scale, other.scale)


def surface(head: Head, count: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """Points of the box near the upper half of a head, with their distances in it."""
    rng = np.random.default_rng(head.number)
    points = rng.uniform((-80, -98, 10), (80, 98, 88), (30 * count, 3)).astype(np.float32)
    distance = head.field_mm(points * head.scale)
    near = np.flatnonzero(np.abs(distance) < 6)[:count]
    return points[near], distance[near].astype(np.float32)


@pytest.mark.parametrize(("moves", "modes"), [(jitters(1), 10), (jitters(2), 999)])
def test_a_fit_read_at_its_points_gives_the_values_it_told(moves, modes):
    points, target = surface(Head(25))
    weight = np.random.default_rng(0).uniform(0.1, 1, len(points)).astype(np.float32)
    fitted, values = fit(family_model(), moves, points, target, weight, ridge=0.01, modes=modes)
    np.testing.assert_allclose(fitted.at(points), values, atol=5e-3)
    assert fitted.weights.shape == (len(moves), 1 + min(modes, family_model().count))
    misfit = np.sqrt((weight * (target - values) ** 2).sum() / weight.sum())
    assert fitted.misfit_mm == pytest.approx(misfit, rel=1e-4)


def test_a_stronger_prior_explains_less():
    points, target = surface(Head(25))
    weight = np.ones(len(points), np.float32)
    misfits = [
        fit(family_model(), jitters(1), points, target, weight, ridge=r, modes=31)[0].misfit_mm
        for r in (0.001, 0.1, 10)
    ]
    assert misfits == sorted(misfits)
    assert misfits[0] < 0.6 * misfits[2]


def test_an_overwhelming_prior_gives_the_mean_of_the_jittered_means():
    points, target = surface(Head(25), 300)
    model, moves = family_model(), jitters(2)
    _, values = fit(model, moves, points, target, np.ones(len(points), np.float32), ridge=1e9, modes=31)
    mean = np.mean([trilinear(model.grid, move(points)) @ model.mean for move in moves], axis=0)
    np.testing.assert_allclose(values, mean, atol=1e-3)
