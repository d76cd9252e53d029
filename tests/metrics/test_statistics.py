"""Paired statistics against textbook numbers, scipy called plainly, and what must hold for any data."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from calvaria.errors import InputError
from calvaria.metrics.statistics import compare_all, compare_pairs, holm, mean_interval

DARWIN = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], float)
"""Darwin's 15 pairs of maize (eighths of an inch), cross- less self-fertilised: t = 2.148, two-sided p = 0.0497, and
signed-rank two-sided p = 0.0413 exactly (Fisher, The Design of Experiments, 1935)."""


def test_darwins_maize():
    found = compare_pairs(np.zeros(15), DARWIN, higher_is_better=True)
    assert found.p_t == pytest.approx(0.0497 / 2, abs=5e-5)
    assert found.p_wilcoxon == pytest.approx(0.0413 / 2, abs=5e-5)
    assert (found.pairs, found.better, found.worse) == (15, 13, 2)
    assert found.p_sign == pytest.approx(sum(comb(15, k) for k in range(13, 16)) / 2**15)
    assert found.effect == pytest.approx(2.148 / np.sqrt(15), abs=1e-3)
    assert found.mean_gain == pytest.approx(DARWIN.mean())
    assert found.low < found.mean_gain < found.high


def test_less_is_better_for_a_distance():
    rng = np.random.default_rng(0)
    first = rng.uniform(1, 2, 20)
    found = compare_pairs(first, first - rng.uniform(0.1, 0.3, 20), higher_is_better=False)
    assert found.mean_gain > 0.1
    assert found.better == 20
    assert found.p_wilcoxon == pytest.approx(2.0**-20)
    assert found.rank_effect == 1


@given(st.integers(0, 10**6), st.integers(5, 40))
def test_swapping_the_methods_turns_every_sign(seed, count):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, count))
    there, back = (compare_pairs(*pair, higher_is_better=True) for pair in ((a, b), (b, a)))
    assert there.mean_gain == pytest.approx(-back.mean_gain)
    assert there.effect == pytest.approx(-back.effect)
    assert there.rank_effect == pytest.approx(-back.rank_effect)
    assert there.p_t + back.p_t == pytest.approx(1)
    assert (there.better, there.worse) == (back.worse, back.better)
    assert there.p_t == pytest.approx(stats.ttest_rel(b, a, alternative="greater").pvalue)
    assert there.p_wilcoxon == pytest.approx(stats.wilcoxon(b, a, alternative="greater").pvalue)


def test_an_empty_patch_counts_as_the_worst_and_leaves_no_mean():
    first = np.array([1.0, 1.2, 1.1, 0.9, np.inf, np.inf])
    second = np.array([0.9, 1.1, 1.0, 0.8, 1.0, np.inf])
    found = compare_pairs(first, second, higher_is_better=False)
    assert np.isnan([found.mean_gain, found.low, found.high, found.p_t, found.effect]).all()
    assert (found.better, found.worse) == (5, 0)
    assert found.p_wilcoxon == pytest.approx(2.0**-5)
    assert found.p_sign == pytest.approx(2.0**-5)
    worse = compare_pairs(second, first, higher_is_better=False)
    assert worse.rank_effect == -1


def test_equal_methods_differ_in_nothing():
    found = compare_pairs(np.full(9, 0.9), np.full(9, 0.9), higher_is_better=True)
    assert (found.better, found.worse, found.effect, found.rank_effect) == (0, 0, 0, 0)
    assert (found.low, found.high) == (0, 0)
    assert found.p_wilcoxon == found.p_sign == 1
    assert found.p_t == 0.5


@pytest.mark.parametrize(("gain", "p"), [(0.5, 0.0), (-0.5, 1.0)])
def test_a_constant_gain_is_certain(gain, p):
    found = compare_pairs(np.ones(5), np.ones(5) + gain, higher_is_better=True)
    assert found.p_t == p
    assert found.effect == np.copysign(np.inf, gain)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([1, 2, 3], [1, 2], "one length"),
        ([1, 2], [1, 3], "2 pairs: at least 3"),
        ([1, 2, np.nan], [1, 2, 3], "not a number"),
        ([[1, 2, 3]], [[1, 2, 3]], "one length"),
    ],
)
def test_what_is_no_set_of_pairs_is_refused(first, second, words):
    with pytest.raises(InputError, match=words):
        compare_pairs(first, second, higher_is_better=True)


def test_holm_against_the_definition():
    p = [0.001, 0.01, 0.02, 0.4, 0.9]
    assert holm(p) == pytest.approx([0.005, 0.04, 0.06, 0.8, 0.9])
    assert holm(p[::-1]) == pytest.approx(holm(p)[::-1])
    assert holm([0.7, 0.8]) == [1, 1]
    assert holm([]) == []


def test_several_figures_are_corrected_together():
    rng = np.random.default_rng(1)
    first = {"dsc": rng.normal(0.9, 0.02, 12), "hd95_mm": rng.normal(1.5, 0.2, 12), "note": np.zeros(12)}
    second = {"dsc": first["dsc"] + rng.normal(0.01, 0.01, 12), "hd95_mm": first["hd95_mm"] + rng.normal(0, 0.1, 12)}
    found = compare_all(first, second, {"dsc": True, "hd95_mm": False, "bdsc": True})
    assert list(found) == ["dsc", "hd95_mm"]
    assert [test.p_adjusted for test in found.values()] == holm([test.p_wilcoxon for test in found.values()])
    with pytest.raises(InputError, match="no figure in common"):
        compare_all({"a": [1, 2, 3]}, {"b": [1, 2, 3]}, {"a": True, "b": True})


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    hits = 0
    for seed in range(60):
        low, high = mean_interval(rng.exponential(size=25), seed)
        hits += low <= 1.0 <= high
    assert 48 <= hits <= 60  # 95 % of 60 is 57; fewer than 48 would happen once in ten thousand times


def test_the_interval_is_the_same_for_the_same_seed():
    values = np.random.default_rng(3).normal(size=15)
    assert mean_interval(values, 7) == mean_interval(values, 7)
    assert mean_interval(values, 7) != mean_interval(values, 8)
