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


def test_an_infinite_distance_is_not_hidden_in_the_mean():
    found = summarise({"a": {"hd95_mm": 1.0}, "b": {"hd95_mm": math.inf}})
    assert found["hd95_mm"].mean == math.inf
    assert math.isnan(found["hd95_mm"].sd)


def test_undefined_values_are_left_out_and_counted():
    cases = {"a": 5.0, "b": math.nan, "c": -20.0, "d": math.nan, "e": 6.0}
    found = summarise({case: {"volume_error_percent": value} for case, value in cases.items()})["volume_error_percent"]
    assert (found.cases, found.undefined) == (5, 2)
    assert (found.mean, found.median, found.worst, found.worst_case) == (-3.0, 5.0, -20.0, "c")
    assert math.isfinite(found.sd)
    found = summarise({"a": {"border_mm": math.nan}, "b": {"border_mm": math.nan}})["border_mm"]
    assert (found.cases, found.undefined, found.worst_case) == (2, 2, "")
    assert all(math.isnan(value) for value in (found.mean, found.sd, found.median, found.worst))


def test_the_worst_case_has_a_name_and_to_be_drawn_an_undefined_value_is_the_worst():
    scores = {
        "a": {"dsc": 0.9, "hd95_mm": 1.0},
        "b": {"dsc": 0.7, "hd95_mm": 2.0},
        "c": {"dsc": 0.8, "hd95_mm": math.nan},
    }
    found = summarise(scores)
    assert (found["dsc"].worst_case, found["hd95_mm"].worst_case) == ("b", "b")
    assert worst_cases(scores, 2) == ["b", "c"]
    assert worst_cases(scores, 9, "hd95_mm") == ["c", "b", "a"]
    assert (found["hd95_mm"].mean, found["hd95_mm"].undefined, found["dsc"].undefined) == (1.5, 1, 0)


def test_no_case_has_no_summary():
    assert summarise({}) == {}
    assert worst_cases({}, 3) == []


def test_one_case_has_no_spread():
    assert math.isnan(summarise({"a": {"dsc": 0.9}})["dsc"].sd)
