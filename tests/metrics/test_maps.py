"""Errors point by point, on shells whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest
from tests.metrics.test_border import shells

from calvaria.metrics import ErrorMap, error_maps
from calvaria.metrics.maps import LIMIT_MM
from calvaria.volume import Grid, Volume


def maps(proud_mm: float = 0.0, **kind):
    truth, bone = shells(**{key: value for key, value in kind.items() if key == "spacing"})
    patch, _ = shells(proud_mm, **kind)
    return error_maps(patch, truth, truth.with_data(bone))


def test_the_true_patch_has_no_error_anywhere():
    found = maps()
    assert not found.prediction_mm.values.any()
    assert not found.truth_mm.values.any()
    assert not found.curvature_mm2.values.any()


@pytest.mark.parametrize("proud", [-1.6, 1.6])
def test_a_patch_that_stands_proud_or_lies_deep_is_off_by_that_much_on_the_outside(proud):
    found = maps(proud)
    points, values = found.prediction_mm.points_mm, found.prediction_mm.values
    aside, far = np.hypot(points[:, 0], points[:, 1]), np.linalg.norm(points, axis=1)
    outside = (aside < 10) & (far > 57 + proud)
    assert np.median(values[outside]) == pytest.approx(proud, abs=0.2)
    # The same plate moved: where it goes out on top, it leaves the inside.
    assert np.median(values[(aside < 10) & ~outside]) == pytest.approx(-proud, abs=0.2)


def test_what_is_missing_shows_on_the_truth():
    truth, bone = shells()
    half = truth.with_data(truth.mask & (np.indices(truth.shape)[0] < 40))
    found = error_maps(half, truth, truth.with_data(bone)).truth_mm
    lost = truth.grid.to_index(found.points_mm)[:, 0] > 44
    free = np.hypot(found.points_mm[:, 0], found.points_mm[:, 1]) < 11
    assert found.values[lost & free].max() < -2
    assert found.values[lost].max() < 0
    kept = truth.grid.to_index(found.points_mm)[:, 0] < 35
    assert np.abs(found.values[kept]).max() < 1e-6


def test_empty_patches_and_limits():
    truth, bone = shells()
    empty, skull = truth.with_data(np.zeros_like(truth.mask)), truth.with_data(bone)
    found = error_maps(empty, truth, skull)
    assert len(found.prediction_mm.points_mm) == len(found.curvature_mm2.points_mm) == 0
    assert found.truth_mm.values.min() >= -LIMIT_MM
    assert (found.truth_mm.values <= 1e-6).all()
    assert (found.prediction_mm.at(np.zeros((2, 3))) == 0).all()


def test_a_sheared_grid_has_distances_and_no_curvature():
    affine = np.eye(4)
    affine[0, 1] = 0.3
    rng = np.random.default_rng(0)
    masks = [rng.random((9, 9, 9)) > 0.6 for _ in range(2)]
    case = [Volume(mask, Grid((9, 9, 9), affine)) for mask in (*masks, np.zeros((9, 9, 9), bool))]
    found = error_maps(*case)
    assert len(found.curvature_mm2.points_mm) == 0
    assert np.isfinite(found.prediction_mm.values).all()


def test_values_between_the_points_lie_between_theirs():
    line = ErrorMap(np.array([[0.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0]]), np.array([0.0, 1.0, 2.0]))
    found = line.at(np.array([[0.0, 0, 0], [0.9, 0, 0], [5.0, 0, 0]]))
    assert 0 <= found[0] < 0.5
    assert 0.5 < found[1] < 1.2
    assert 1 < found[2] <= 2
