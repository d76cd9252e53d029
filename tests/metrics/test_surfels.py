"""Surface elements against the library of the authors of the surface Dice, and areas that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from surface_distance import metrics
from tests.strategies import grids, rotations, shapes, spacings

from calvaria.metrics.surface import nearest_mm
from calvaria.metrics.surfels import surface_dice, surfels, weighted_mean, weighted_percentile
from calvaria.volume import Grid


def blobs(seed: int, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Two smooth masks that are alike."""
    rng = np.random.default_rng(seed)
    first, second = (ndimage.gaussian_filter(rng.standard_normal(shape), 1.5) for _ in range(2))
    return first > 0.02, first + 0.4 * second > 0.02


@pytest.fixture(scope="module")
def oracle():
    """The library, which asks scipy for names that it no longer has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ndimage, "filters", ndimage, raising=False)
        patch.setattr(ndimage, "morphology", ndimage, raising=False)
        yield metrics


@settings(max_examples=25)
@given(st.integers(0, 10**6), shapes(6, 14), spacings(0.3, 2.5), st.floats(0.2, 3.0))
def test_every_figure_is_that_of_the_authors_library(oracle, seed, shape, spacing, tolerance):
    truth, guess = blobs(seed, shape)
    if not truth.any() or not guess.any():
        return
    grid = Grid(shape, np.diag([*spacing, 1.0]))
    ours, true = surfels(guess, grid), surfels(truth, grid)
    there, back = nearest_mm(ours.points_mm, true.points_mm), nearest_mm(true.points_mm, ours.points_mm)
    theirs = oracle.compute_surface_distances(truth, guess, spacing)
    assert ours.area_mm2.sum() == pytest.approx(theirs["surfel_areas_pred"].sum())
    np.testing.assert_allclose(np.sort(there), theirs["distances_pred_to_gt"], atol=1e-6)
    np.testing.assert_allclose(np.sort(back), theirs["distances_gt_to_pred"], atol=1e-6)
    to_guess, to_truth = oracle.compute_average_surface_distance(theirs)
    assert weighted_mean(there, ours.area_mm2) == pytest.approx(to_truth)
    assert weighted_mean(back, true.area_mm2) == pytest.approx(to_guess)
    robust = max(weighted_percentile(there, ours.area_mm2, 95), weighted_percentile(back, true.area_mm2, 95))
    assert robust == pytest.approx(oracle.compute_robust_hausdorff(theirs, 95), abs=1e-6)
    dice = surface_dice(there, back, ours.area_mm2, true.area_mm2, tolerance)
    assert dice == pytest.approx(oracle.compute_surface_dice_at_tolerance(theirs, tolerance), abs=1e-9)


@given(grids(shapes(6, 9), spacings(0.4, 2.0)))
def test_a_plane_has_its_area_on_any_grid(grid):
    mask = np.zeros(grid.shape, bool)
    mask[:, :, : grid.shape[2] // 2] = True
    found = surfels(mask, grid)
    index = grid.to_index(found.points_mm)
    top = np.isclose(index[:, 2], grid.shape[2] // 2 - 0.5, atol=1e-6)
    inner = top & (index[:, :2] > 0).all(axis=1) & (index[:, :2] < np.array(grid.shape[:2]) - 1).all(axis=1)
    one_face = np.linalg.norm(np.cross(grid.affine[:3, 0], grid.affine[:3, 1]))
    np.testing.assert_allclose(found.area_mm2[inner], one_face, rtol=1e-9)
    assert inner.sum() == (grid.shape[0] - 1) * (grid.shape[1] - 1)


@settings(max_examples=10)
@given(st.integers(0, 10**6), rotations())
def test_a_turned_grid_has_the_same_areas_and_turned_points(seed, turn):
    mask, _ = blobs(seed, (9, 8, 7))
    spacing = np.diag([0.5, 1.0, 1.5])
    plain, turned = np.eye(4), np.eye(4)
    plain[:3, :3], turned[:3, :3] = spacing, turn @ spacing
    here, there = surfels(mask, Grid(mask.shape, plain)), surfels(mask, Grid(mask.shape, turned))
    np.testing.assert_allclose(there.area_mm2, here.area_mm2, rtol=1e-9)
    np.testing.assert_allclose(there.points_mm, here.points_mm @ turn.T, atol=1e-9)


def test_two_planes_half_a_millimetre_apart():
    grid = Grid.isotropic((20, 20, 20), 0.5)
    first, second = (np.indices(grid.shape)[0] < n for n in (10, 11))
    ours, true = surfels(first, grid), surfels(second, grid)
    there, back = nearest_mm(ours.points_mm, true.points_mm), nearest_mm(true.points_mm, ours.points_mm)
    assert weighted_percentile(there, ours.area_mm2, 95) == pytest.approx(0.5)
    assert surface_dice(there, back, ours.area_mm2, true.area_mm2, 0.5) == 1
    assert surface_dice(there, back, ours.area_mm2, true.area_mm2, 0.49) < 0.9


def test_empty_surfaces():
    grid = Grid.isotropic((4, 4, 4), 1.0)
    none, full = surfels(np.zeros(grid.shape, bool), grid), surfels(np.ones(grid.shape, bool), grid)
    assert none.points_mm.shape == (0, 3)
    assert len(full.points_mm) == 5**3 - 3**3
    nothing, far = np.zeros(0), np.full(len(full.area_mm2), np.inf)
    assert surface_dice(nothing, nothing, nothing, nothing, 1.0) == 1
    assert surface_dice(nothing, far, nothing, full.area_mm2, 1.0) == 0
    assert np.isnan(weighted_mean(nothing, nothing))
    assert weighted_mean(far, full.area_mm2) == np.inf
    assert weighted_percentile(nothing, nothing, 95) == 0
    assert weighted_percentile(far, full.area_mm2, 95) == np.inf
