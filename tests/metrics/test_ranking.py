"""The challenge's ranking, on tables whose order is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calvaria.errors import InputError
from calvaria.metrics import rank_methods

BETTER = {"dsc": True, "bdsc": True, "hd95_mm": False}


def test_the_mean_of_the_ranks_decides():
    table = {
        "a": {"dsc": [0.9, 0.9], "bdsc": [0.8, 0.8], "hd95_mm": [1.0, 1.0]},  # ranks 1, 2, 1
        "b": {"dsc": [0.8, 0.8], "bdsc": [0.9, 0.9], "hd95_mm": [2.0, 2.0]},  # 2, 1, 2
        "c": {"dsc": [0.7, 0.7], "bdsc": [0.7, 0.7], "hd95_mm": [3.0, 3.0]},
    }
    standings = rank_methods(table, BETTER)
    assert [one.method for one in standings] == ["a", "b", "c"]
    assert standings[0].ranks == {"dsc": 1, "bdsc": 2, "hd95_mm": 1}
    assert standings[0].mean_rank == pytest.approx(4 / 3)
    assert [(one.place, one.low, one.high) for one in standings] == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]
    assert standings[0].means["dsc"] == pytest.approx(0.9)


def test_equal_methods_share_the_better_place():
    table = {name: {"dsc": [0.5, 0.7]} for name in "ab"}
    standings = rank_methods(table, {"dsc": True})
    assert [(one.place, one.mean_rank) for one in standings] == [(1, 1.5), (1, 1.5)]


def test_an_empty_patch_puts_a_method_last():
    table = {"a": {"hd95_mm": [0.1, math.inf]}, "b": {"hd95_mm": [5.0, 6.0]}}
    first, last = rank_methods(table, {"hd95_mm": False})
    assert (first.method, last.means["hd95_mm"]) == ("b", math.inf)


def test_methods_that_cases_do_not_tell_apart_change_places():
    rng = np.random.default_rng(1)
    skill = rng.uniform(0.8, 0.9, 20)
    table = {name: {"dsc": skill + 0.02 * rng.standard_normal(20)} for name in "ab"}
    table["c"] = {"dsc": skill - 0.1}
    found = {one.method: one for one in rank_methods(table, {"dsc": True})}
    assert (found["a"].low, found["a"].high) == (1, 2)
    assert (found["c"].low, found["c"].high) == (3, 3)


@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(1, 12))
def test_names_and_the_order_of_tables_do_not_matter(seed, methods, cases):
    rng = np.random.default_rng(seed)
    table = {f"m{n}": {"dsc": rng.random(cases), "hd95_mm": rng.random(cases)} for n in range(methods)}
    better = {"dsc": True, "hd95_mm": False}
    found = {one.method: (one.mean_rank, one.place) for one in rank_methods(table, better)}
    turned = {one.method: (one.mean_rank, one.place) for one in rank_methods(dict(reversed(table.items())), better)}
    assert found == turned
    assert sum(rank for rank, _ in found.values()) == pytest.approx(methods * (methods + 1) / 2)


@pytest.mark.parametrize(
    ("table", "better", "text"),
    [
        ({"a": {"dsc": [1]}}, {"dsc": True}, "two methods"),
        ({"a": {"dsc": [1]}, "b": {"dsc": [1]}}, {}, "one metric"),
        ({"a": {"dsc": [1]}, "b": {"dsc": [1, 2]}}, {"dsc": True}, "over the same cases"),
        ({"a": {"dsc": []}, "b": {"dsc": []}}, {"dsc": True}, "one value a case"),
        ({"a": {"dsc": [1]}, "b": {"dsc": [math.nan]}}, {"dsc": True}, "not a number"),
    ],
)
def test_bad_tables_are_refused(table, better, text):
    with pytest.raises(InputError, match=text):
        rank_methods(table, better)
