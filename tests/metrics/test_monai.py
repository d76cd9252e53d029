"""The metrics that MONAI has, by MONAI."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metrics.test_surfels import blobs
from tests.strategies import shapes, spacings

from calvaria.metrics import Comparison, measure
from calvaria.volume import Grid, Volume

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated.*:FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def monai():
    """The library: loading it warns of its own and of torch's future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("monai.metrics", reason="monai is not installed: its figures were not compared")


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), shapes(6, 14), spacings(0.3, 2.5))
def test_every_figure_that_both_have_is_the_same(monai, seed, shape, spacing):
    import torch

    truth, guess = blobs(seed, shape)
    if not truth.any() or not guess.any():
        return
    grid = Grid(shape, np.diag([*spacing, 1.0]))
    case = [Volume(mask, grid) for mask in (guess, truth, np.zeros_like(truth))]
    found, ours = measure(*case), Comparison(*case)
    pair = {"y_pred": torch.from_numpy(guess)[None, None], "y": torch.from_numpy(truth)[None, None]}
    options = {"include_background": True, "spacing": list(grid.spacing_mm)}
    assert found["dsc"] == pytest.approx(float(monai.compute_dice(**pair)), abs=1e-6)
    hausdorff = monai.compute_hausdorff_distance(**pair, **options)
    assert found["hd_mm"] == pytest.approx(float(hausdorff), rel=1e-5)
    hausdorff = monai.compute_hausdorff_distance(**pair, **options, percentile=95)
    assert found["hd95_max_mm"] == pytest.approx(float(hausdorff), rel=1e-5)
    there = monai.compute_average_surface_distance(**pair, **options)
    assert ours.to_truth_mm.mean() == pytest.approx(float(there), rel=1e-5, abs=1e-6)
    # MONAI's symmetric distance pools the voxels of both surfaces; ours, as MedPy's, is the mean of two means.
    pooled = monai.compute_average_surface_distance(**pair, **options, symmetric=True)
    both = np.concatenate([ours.to_truth_mm, ours.to_prediction_mm])
    assert both.mean() == pytest.approx(float(pooled), rel=1e-5, abs=1e-6)
    assert found["assd_mm"] == pytest.approx((ours.to_truth_mm.mean() + ours.to_prediction_mm.mean()) / 2)
