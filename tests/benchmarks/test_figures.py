"""Means of tables, and paired tests in which a person counts once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from calvaria.benchmarks.figures import compare_persons, finite, mean_sd_text, mean_text, pairs_of
from calvaria.metrics.statistics import compare_pairs


@dataclass(frozen=True)
class Row:
    case: str
    person: str
    dsc: float
    kind: str = "official"
    error: str = ""


def rows(*figures: tuple[str, float], error: str = "") -> list[Row]:
    return [Row(f"c{number}", person, dsc, error=error) for number, (person, dsc) in enumerate(figures)]


def test_pairs_are_of_the_same_case_and_kind_in_the_order_of_the_first():
    first = [Row("b", "p", 0.1), Row("a", "p", 0.2), Row("a", "p", 0.3, kind="bur"), Row("d", "p", 0.4, error="no")]
    second = [Row("a", "p", 0.5), Row("b", "p", 0.6, error="no"), Row("d", "p", 0.7), Row("a", "p", 0.8, kind="bur")]
    assert [(one.dsc, other.dsc) for one, other in pairs_of(first, second)] == [(0.2, 0.5), (0.3, 0.8)]


def test_a_person_counts_once_by_the_mean_of_the_cases_in_which_both_have_the_figure():
    before = rows(("p", 0.5), ("q", 0.6), ("p", 0.7), ("r", 0.5), ("r", math.nan))
    after = rows(("p", 0.7), ("q", 0.7), ("p", 0.8), ("r", 0.9), ("r", 0.1))
    found = compare_persons(zip(before, after, strict=True), "dsc", higher_is_better=True)
    assert found == compare_pairs([0.6, 0.6, 0.5], [0.75, 0.7, 0.9], higher_is_better=True)
    assert compare_persons(pairs_of(before[:3], after[:3]), "dsc", higher_is_better=True) is None


@pytest.mark.parametrize(
    ("values", "text"), [([], ""), ([0.25], "0.25"), ([0.25, 0.75], "0.50 0.35")], ids=["none", "one", "two"]
)
def test_there_is_a_deviation_of_two_values_or_more(values, text):
    assert mean_sd_text(values, 2) == text
    assert mean_text(values, 2) == text.split(" ")[0]


def test_only_finite_figures_count():
    assert finite(rows(("p", 0.5), ("p", math.inf), ("p", math.nan)), "dsc") == [0.5]
