"""Correlations against scipy's own intervals, values that are known, and lists that say nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from calvaria.errors import InputError
from calvaria.metrics import correlate


@given(st.integers(0, 10**6), st.integers(5, 60), st.floats(-0.95, 0.95))
def test_coefficients_and_chances_are_scipys(seed, count, share):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(count)
    y = share * x + math.sqrt(1 - share**2) * rng.standard_normal(count)
    found, pearson, spearman = correlate(x, y), stats.pearsonr(x, y), stats.spearmanr(x, y)
    interval = pearson.confidence_interval(0.95)
    assert (found.pearson, found.p_pearson) == pytest.approx((pearson.statistic, pearson.pvalue))
    assert (found.pearson_low, found.pearson_high) == pytest.approx((interval.low, interval.high))
    assert (found.spearman, found.p_spearman) == pytest.approx((spearman.statistic, spearman.pvalue))
    assert found.spearman_low <= found.spearman <= found.spearman_high
    assert found.cases == count


def test_the_interval_of_ranks_holds_the_true_value_about_as_often_as_it_says():
    rng = np.random.default_rng(7)
    share, draws = 0.6, 600
    true = 6 / math.pi * math.asin(share / 2)  # Spearman's of a normal pair
    held = 0
    for _ in range(draws):
        x = rng.standard_normal(40)
        found = correlate(x, share * x + 0.8 * rng.standard_normal(40))
        held += found.spearman_low <= true <= found.spearman_high
    assert 0.92 < held / draws < 0.975


def test_a_perfect_order_leaves_no_doubt():
    found = correlate([1, 2, 3, 4, 5], [1, 4, 9, 16, 25])
    assert (found.spearman, found.spearman_low, found.spearman_high) == pytest.approx((1, 1, 1))
    assert 0.9 < found.pearson < 1


def test_infinite_distances_have_ranks_but_no_pearson():
    found = correlate([1, 2, 3, 4, math.inf], [5, 4, 3, 2, 1])
    assert found.spearman == pytest.approx(-1)
    assert math.isnan(found.pearson)
    assert math.isnan(found.pearson_low)


def test_cases_without_a_value_are_left_out():
    assert correlate([1, 2, math.nan, 3, 4, 5], [1, 2, 9, 3, 4, 5]).cases == 5


@pytest.mark.parametrize("same", [([2.0] * 6, range(6)), (range(6), [2.0] * 6), ([math.inf] * 6, range(6))])
def test_a_list_that_is_all_the_same_agrees_with_nothing(same):
    found = correlate(list(same[0]), list(same[1]))
    assert math.isnan(found.pearson)
    assert math.isnan(found.spearman)


@pytest.mark.parametrize(
    ("values", "scores", "text"),
    [
        ([1, 2], [1, 2, 3], "of one length"),
        ([1, 2, 3, 4], [1, 2, 3, 4], "4 cases: at least 5"),
        ([1, 2, 3, 4, math.nan], [1, 2, 3, 4, 5], "4 cases: at least 5"),
        ([1, 2, 3, 4, 5], [1, 2, 3, 4, math.nan], "not a finite number"),
    ],
)
def test_bad_lists_are_refused(values, scores, text):
    with pytest.raises(InputError, match=text):
        correlate(values, scores)
