"""All metrics together: their names, the cases that are known by heart, and that they agree with one another."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from tests.metrics.test_border import shells

from calvaria.errors import GeometryError, InputError
from calvaria.metrics import METRICS, Comparison, measure, score, surface_dice_at
from calvaria.metrics.measures import outer_mm
from calvaria.symmetry.plane import Plane
from calvaria.volume import Grid, Volume


def volumes(*masks: np.ndarray, grid: Grid | None = None) -> list[Volume]:
    return [Volume(mask, grid or Grid.isotropic(masks[0].shape, 0.5)) for mask in masks]


def blobs(seed: int, shape=(16, 15, 14)) -> list[np.ndarray]:
    """A prediction and a truth that are alike, and a skull around them."""
    rng = np.random.default_rng(seed)
    first, second, third = (ndimage.gaussian_filter(rng.standard_normal(shape), 1.5) for _ in range(3))
    truth = first > 0.05
    return [first + 0.3 * second > 0.05, truth, (third > 0.05) & ~truth]


def test_every_metric_of_the_catalogue_is_measured_and_no_other():
    patch, bone = shells()
    skull = patch.with_data(bone)
    assert list(measure(patch, patch, skull, Plane([1, 0, 0], 0.0).reflect)) == list(METRICS)
    without = [name for name, metric in METRICS.items() if metric.scope != "symmetry"]
    assert list(measure(patch, patch, skull)) == without


def test_every_metric_says_what_it_is_and_has_a_form():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.definition.endswith(".")
        assert metric.source
        assert format(1.0, metric.form).startswith(("1", "+1"))


def test_the_true_patch_is_perfect_by_every_metric():
    patch, bone = shells()
    found = measure(patch, patch, patch.with_data(bone))
    for name, value in found.items():
        assert value == (1 if METRICS[name].better == "higher" else 0), name


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_the_figures_of_the_challenge_are_those_of_score_and_definitions_keep_their_order(seed):
    case = volumes(*blobs(seed))
    if not (case[0].mask.any() and case[1].mask.any()):
        return
    found, scores = measure(*case), score(*case)
    assert outer_mm(Comparison(*case), case[2]) == found["outer_mm"]
    assert (found["dsc"], found["bdsc"], found["hd95_mm"]) == (scores.dsc, scores.bdsc, scores.hd95_mm)
    assert found["hd95_max_mm"] >= found["hd95_mm"] - 1e-9
    assert found["hd_mm"] >= found["hd95_max_mm"]
    assert found["sdsc_1mm"] >= found["sdsc_0.5mm"]
    assert found["overlap_ml"] == pytest.approx(scores.overlap_voxels * 0.5**3 / 1000)


def test_a_surface_moved_by_a_millimetre_is_a_millimetre_off():
    grid = Grid.isotropic((40, 40, 30), 0.5)
    z = np.indices(grid.shape)[2]
    slab, moved = (z >= 8) & (z < 18), (z >= 8) & (z < 20)
    inner = (slice(4, -4), slice(4, -4), slice(None))
    masks = [np.zeros(grid.shape, bool) for _ in range(2)]
    masks[0][inner], masks[1][inner] = moved[inner], slab[inner]
    found = measure(*volumes(*masks, np.zeros(grid.shape, bool), grid=grid))
    assert found["hd_mm"] == pytest.approx(1.0)
    assert found["hd95_mm"] == found["hd95_max_mm"] == found["hd95_area_mm"] == pytest.approx(1.0)
    assert found["sdsc_1mm"] == 1
    assert found["volume_error_percent"] == pytest.approx(20)
    # One of two faces is off by 1 mm, and parts of the sides.
    assert 0.2 < found["msd_mm"] < 0.6


def test_a_thinner_patch_leaves_a_gap_and_a_larger_one_overlaps():
    patch, bone = shells(spacing=0.5)
    small, _ = shells(spacing=0.5, gap_mm=1.0)
    skull = patch.with_data(bone)
    assert measure(small, patch, skull)["gap_mm"] == pytest.approx(1.0, abs=0.35)
    large = patch.with_data(ndimage.binary_dilation(patch.mask, iterations=2))
    found = measure(large, patch, skull)
    assert found["gap_mm"] == 0
    assert found["overlap_ml"] > 0.1


def test_the_surface_dice_has_any_tolerance():
    masks = blobs(3)[:2]
    case = volumes(*masks)
    found = measure(*case, case[0].with_data(np.zeros_like(masks[0])))
    assert surface_dice_at(*case, 0.5) == found["sdsc_0.5mm"]
    assert surface_dice_at(*case, 1.0) == found["sdsc_1mm"]
    steps = [surface_dice_at(*case, mm) for mm in (0.0, 0.3, 0.9, 2.0, 50.0)]
    assert steps == sorted(steps)
    assert steps[-1] == 1
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="0 or more"):
            surface_dice_at(*case, bad)


def test_empty_patches():
    patch, bone = shells()
    nothing, skull = patch.with_data(np.zeros_like(patch.mask)), patch.with_data(bone)
    both = measure(nothing, nothing, skull)
    assert both["dsc"] == both["sdsc_1mm"] == 1
    assert {both[name] for name in ("hd_mm", "hd95_area_mm", "msd_mm", "assd_mm", "outer_mm", "gap_mm")} == {0}
    for case in ((nothing, patch), (patch, nothing)):
        one = measure(*case, skull)
        assert one["dsc"] == one["sdsc_1mm"] == 0
        for name in ("hd_mm", "hd95_mm", "hd95_max_mm", "hd95_area_mm", "msd_mm", "assd_mm", "outer_mm"):
            assert one[name] == math.inf, name
    assert measure(nothing, patch, skull)["gap_mm"] == math.inf
    assert math.isnan(measure(nothing, patch, skull)["border_mm"])


INF, NAN = math.inf, math.nan
EMPTY_CASES = {
    # metric: both are empty, the prediction is, the truth is
    "dsc": (1, 0, 0),
    "bdsc": (1, 0, 0),
    "hd_mm": (0, INF, INF),
    "hd95_mm": (0, INF, INF),
    "hd95_max_mm": (0, INF, INF),
    "hd95_area_mm": (0, INF, INF),
    "sdsc_0.5mm": (1, 0, 0),
    "sdsc_1mm": (1, 0, 0),
    "msd_mm": (0, INF, INF),
    "assd_mm": (0, INF, INF),
    "volume_error_percent": (0, -100, NAN),
    "outer_mm": (0, INF, INF),
    "border_mm": (NAN, NAN, INF),
    "border_curvature_mse_mm4": (NAN, NAN, NAN),
    "gap_mm": (0, INF, NAN),
    "overlap_ml": (0, 0, 0),
    "asymmetry_excess_mm": (NAN, NAN, NAN),
}
"""What every metric says where there is little to compare; the asymmetry of a prediction needs no truth."""


@pytest.mark.parametrize("which", [0, 1, 2], ids=["both", "prediction", "truth"])
def test_every_metric_says_what_it_is_worth_where_a_patch_is_empty(which):
    patch, bone = shells()
    nothing, skull = patch.with_data(np.zeros_like(patch.mask)), patch.with_data(bone)
    prediction, truth = ((nothing, nothing), (nothing, patch), (patch, nothing))[which]
    found = measure(prediction, truth, skull, Plane([1, 0, 0], 0.0).reflect)
    asymmetry = found.pop("asymmetry_mm")
    assert math.isfinite(asymmetry) if which == 2 else math.isnan(asymmetry)
    assert found == pytest.approx({name: values[which] for name, values in EMPTY_CASES.items()}, nan_ok=True)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.tuples(*[st.sampled_from(["blob", "speck", "empty"])] * 3))
def test_no_figure_is_larger_than_the_things_that_are_compared(seed, kinds):
    shape = (12, 11, 10)
    rng = np.random.default_rng(seed)
    masks = []
    for kind in kinds:
        mask = (
            ndimage.gaussian_filter(rng.standard_normal(shape), 1.5) > 0.05 if kind == "blob" else np.zeros(shape, bool)
        )
        if kind == "speck":
            mask[tuple(rng.integers(0, shape))] = True
        masks.append(mask)
    prediction, truth, bone = masks
    found = measure(*volumes(prediction, truth, bone & ~truth))
    for name, value in found.items():
        if name == "volume_error_percent":
            assert math.isnan(value) or abs(value) <= 100 * max(1, prediction.sum() / max(truth.sum(), 1))
            assert math.isnan(value) == (prediction.any() and not truth.any())
        elif METRICS[name].better == "higher":
            assert math.isnan(value) or 0 <= value <= 1, name
        elif name.endswith("_mm"):
            diagonal = 0.5 * np.linalg.norm(shape)
            assert math.isnan(value) or value == math.inf or 0 <= value <= diagonal, name


def test_a_truth_that_touches_no_bone_has_no_gap():
    patch, _ = shells()
    assert math.isnan(measure(patch, patch, patch.with_data(np.zeros_like(patch.mask)))["gap_mm"])


def test_bad_input_is_refused_and_a_sheared_grid_has_no_border():
    patch, bone = shells()
    skull = patch.with_data(bone)
    with pytest.raises(GeometryError, match="grid"):
        measure(patch.crop((slice(1, None), slice(None), slice(None))), patch, skull)
    with pytest.raises(InputError, match="mask"):
        measure(patch.with_data(np.arange(patch.mask.size, dtype=np.float32).reshape(patch.shape)), patch, skull)
    sheared = np.eye(4)
    sheared[0, 1] = 0.3
    found = measure(*volumes(*blobs(0), grid=Grid((16, 15, 14), sheared)))
    assert {name for name, value in found.items() if math.isnan(value)} == {
        "outer_mm",
        "border_mm",
        "border_curvature_mse_mm4",
    }


def test_the_page_on_metrics_defines_every_one_as_the_catalogue_does():
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8").replace("&#124;", "|")
    for metric in METRICS.values():
        assert f"| `{metric.name}` | {metric.better} | {metric.definition} | {metric.source} |" in page
