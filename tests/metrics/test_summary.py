"""Many cases in a few figures."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from calvaria.metrics import summarise, worst_cases


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_the_worst_dice_is_the_lowest_and_the_mean_lies_between(values):
    found = summarise({str(number): {"dsc": value} for number, value in enumerate(values)})
    assert found["dsc"].worst == min(values)
    assert min(values) - 1e-12 <= found["dsc"].mean <= max(values) + 1e-12


def test_the_worst_volume_error_may_be_negative():
    found = summarise({"a": {"volume_error_percent": 5.0}, "b": {"volume_error_percent": -20.0}})
    assert found["volume_error_percent"].worst == -20.0


def test_the_median_of_some_empty_patches():
    cases = {str(number): {"hd95_mm": value} for number, value in enumerate((1.0, math.inf, 3.0, math.inf, 2.0))}
    assert summarise(cases)["hd95_mm"].median == 3.0
    del cases["0"]
    assert summarise(cases)["hd95_mm"].median == math.inf
    assert math.isnan(summarise({**cases, "nan": {"hd95_mm": math.nan}})["hd95_mm"].median)


def test_an_infinite_distance_is_not_hidden_in_the_mean():
    found = summarise({"a": {"hd95_mm": 1.0}, "b": {"hd95_mm": math.inf}})
    assert found["hd95_mm"].mean == math.inf
    assert math.isnan(found["hd95_mm"].sd)


def test_the_worst_case_has_a_name_and_an_undefined_value_is_the_worst():
    scores = {
        "a": {"dsc": 0.9, "hd95_mm": 1.0},
        "b": {"dsc": 0.7, "hd95_mm": 2.0},
        "c": {"dsc": 0.8, "hd95_mm": math.nan},
    }
    found = summarise(scores)
    assert (found["dsc"].worst_case, found["hd95_mm"].worst_case) == ("b", "c")
    assert worst_cases(scores, 2) == ["b", "c"]
    assert worst_cases(scores, 9, "hd95_mm") == ["c", "b", "a"]
    assert math.isnan(found["hd95_mm"].mean)


def test_no_case_has_no_summary():
    assert summarise({}) == {}
    assert worst_cases({}, 3) == []


def test_one_case_has_no_spread():
    assert math.isnan(summarise({"a": {"dsc": 0.9}})["dsc"].sd)
