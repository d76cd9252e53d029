"""The localised regression against plain linear algebra."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from tests.heads import Head, family_model

from calvaria.reconstruction.box import box_grid
from calvaria.reconstruction.shape_prior.regression import ANCHOR_MM, LOCAL_MM, Jitter, cubic, fit, jitters, trilinear
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


@given(st.integers(0, 10**6), st.floats(0.3, 4))
def test_cubic_convolution_reads_quadratics_as_they_are(seed, spacing):
    rng = np.random.default_rng(seed)
    grid = Grid.isotropic((6, 9, 7), spacing, rng.uniform(-9, 9, 3))
    linear, square = rng.standard_normal(3), rng.standard_normal((3, 3))

    def values(index):
        return index @ linear + np.einsum("...i,ij,...j->...", index, square, index)

    inside = rng.uniform(1, np.array(grid.shape) - 2.001, (40, 3))
    nodes = values(np.stack(np.indices(grid.shape), axis=-1).astype(float))
    found = cubic(grid, grid.to_world(inside)) @ nodes.reshape(-1)
    np.testing.assert_allclose(found, values(inside), atol=2e-3 * np.abs(nodes).max() / 10)


@pytest.mark.parametrize("reads", [trilinear, cubic])
def test_weights_of_a_read_add_up_to_one(reads):
    read = reads(box_grid(4.8), np.random.default_rng(0).uniform(-150, 150, (50, 3)))
    np.testing.assert_allclose(np.asarray(read.sum(axis=1)).ravel(), 1, atol=1e-5)
    assert read.shape == (50, box_grid(4.8).size)


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


def by_hand(moves, modes, points, target, noise, where) -> tuple[np.ndarray, np.ndarray]:
    """The textbook's Gaussian process: mean and covariance matrices written out, observed at points, read elsewhere."""
    model = family_model()
    volumes = np.column_stack([model.mean, model.rows(np.arange(model.grid.size), modes)]).astype(float)
    anchors = box_grid(ANCHOR_MM)
    places = anchors.centres_mm().reshape(-1, 3)
    places[:, 0] = np.abs(places[:, 0])  # both sides of the head lie over each other
    taper = np.exp(-(np.linalg.norm(places[:, None] - places, axis=2) ** 2) / (2 * LOCAL_MM**2))

    def features(places):
        seen = np.stack([trilinear(model.grid, move(places)) @ volumes for move in moves])
        mean = seen[:, :, 0].mean(axis=0)
        seen[:, :, 0] -= mean
        near = trilinear(anchors, places).toarray()
        near /= np.sqrt(np.diag(near @ taper @ near.T))[:, None]
        return mean, np.concatenate(list(seen), axis=1) / np.sqrt(len(moves)), near

    mean_here, here, near_here = features(points)
    mean_there, there, near_there = features(where)
    system = (here @ here.T) * (near_here @ taper @ near_here.T) + np.diag(noise.astype(float) ** 2)
    told = (there @ here.T) * (near_there @ taper @ near_here.T)
    left = (there**2).sum(axis=1) - np.einsum("np,np->n", told, np.linalg.solve(system, told.T).T)
    return mean_there + told @ np.linalg.solve(system, target - mean_here), np.sqrt(np.maximum(left, 0))


@pytest.mark.parametrize(("moves", "modes"), [(jitters(0), 10), (jitters(2), 31)])
def test_a_fit_is_that_of_a_gaussian_process_with_the_localised_covariance(moves, modes):
    points, target = surface(Head(25), 400)
    where, _ = surface(Head(26), 100)
    noise = np.random.default_rng(0).uniform(0.2, 1, len(points)).astype(np.float32)
    fitted = fit(family_model(), moves, points, target, noise, modes=modes)
    values = fitted.at(points)
    np.testing.assert_allclose(fitted.at(where), by_hand(moves, modes, points, target, noise, where)[0], atol=5e-3)
    np.testing.assert_allclose(values, by_hand(moves, modes, points, target, noise, points)[0], atol=5e-3)
    misfit = np.sqrt((((target - values) / noise) ** 2).sum() / (1 / noise**2).sum())
    assert fitted.misfit_mm == pytest.approx(misfit, rel=2e-3)


@pytest.mark.parametrize(("moves", "modes"), [(jitters(0), 10), (jitters(2), 31)])
def test_how_sure_a_fit_is_is_what_the_textbook_says(moves, modes):
    points, target = surface(Head(25), 400)
    where, _ = surface(Head(26), 101)
    noise = np.random.default_rng(0).uniform(0.2, 1, len(points)).astype(np.float32)
    fitted = fit(family_model(), moves, points, target, noise, modes=modes, posterior=True)
    _, expected = by_hand(moves, modes, points, target, noise, where)
    np.testing.assert_allclose(fitted.posterior.sd_at(where), expected, atol=5e-3)
    plain = fit(family_model(), moves, points, target, noise, modes=modes)
    assert plain.posterior is None
    np.testing.assert_array_equal(plain.at(where), fitted.at(where))


def test_a_fit_is_surer_where_bone_was_seen():
    points, target = surface(Head(25))
    seen = points[:, 0] > 0
    noise = np.full(int(seen.sum()), 0.2, np.float32)
    fitted = fit(family_model(), jitters(2), points[seen], target[seen], noise, modes=31, posterior=True)
    # The right half of the head is known, and the left one's front less than what lies right beside it.
    assert fitted.posterior.sd_at(points[seen]).mean() < 0.7 * fitted.posterior.sd_at(points[~seen]).mean()


def test_a_fit_can_be_read_nowhere():
    points, target = surface(Head(25), 300)
    fitted = fit(family_model(), jitters(1), points, target, np.full(len(points), 0.3, np.float32), modes=999)
    assert fitted.at(points[:0]).shape == (0,)


def test_the_more_noise_is_allowed_the_less_is_explained():
    points, target = surface(Head(25))
    misfits = [
        fit(family_model(), jitters(1), points, target, np.full(len(points), noise, np.float32), modes=31).misfit_mm
        for noise in (0.1, 1, 10)
    ]
    assert misfits == sorted(misfits)
    assert misfits[0] < 0.6 * misfits[2]


def test_only_distances_near_the_surface_are_read_with_care():
    points, target = surface(Head(25), 400)
    fitted = fit(family_model(), jitters(2), points, target, np.full(len(points), 0.3, np.float32), modes=31)
    where = np.random.default_rng(1).uniform((-80, -95, 0), (80, 95, 85), (600, 3))
    plain, careful, all_of_it = (fitted.at(where, exact_mm) for exact_mm in (0.0, 2.0, np.inf))
    near = np.abs(plain) < 2.0
    assert near.any()
    assert not near.all()
    np.testing.assert_array_equal(careful[~near], plain[~near])
    np.testing.assert_allclose(careful[near], all_of_it[near], atol=1e-4)
    assert np.abs(careful - plain)[near].max() > 1e-3


def test_points_that_say_nothing_leave_the_mean_of_the_jittered_means():
    points, target = surface(Head(25), 300)
    model, moves = family_model(), jitters(2)
    values = fit(model, moves, points, target, np.full(len(points), 1e5, np.float32), modes=31).at(points)
    mean = np.mean([trilinear(model.grid, move(points)) @ model.mean for move in moves], axis=0)
    np.testing.assert_allclose(values, mean, atol=1e-3)


def test_what_is_observed_far_away_changes_little():
    points, target = surface(Head(25))
    front, back = points[:, 1] < -70, points[:, 1] > 60
    noise = np.full(len(points), 0.3, np.float32)

    def told(bent: np.ndarray) -> np.ndarray:
        there = np.where(bent, target + 2.0, target).astype(np.float32)
        used = front | back
        fitted = fit(family_model(), jitters(1), points[used], there[used], noise[used], modes=31)
        return fitted.at(points[front])

    as_it_is = told(np.zeros(len(points), bool))
    assert np.abs(told(back) - as_it_is).mean() < 0.15 * np.abs(told(front) - as_it_is).mean()
