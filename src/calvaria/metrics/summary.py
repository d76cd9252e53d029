"""Metrics of many cases in a few figures, and which cases are the worst."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calvaria.metrics.catalog import METRICS

Scores = Mapping[str, Mapping[str, float]]
"""Case -> metric -> value; every case has the same metrics."""


@dataclass(frozen=True)
class Summary:
    """One metric over all cases.

    Args:
        cases: how many.
        mean: infinite where a distance is: an empty patch is not left out. NaN where the metric is not defined for a
            case.
        sd: sample standard deviation; NaN where the mean is not finite, or for one case.
        median: also of infinite values; of two middle ones the larger, where only that is infinite.
        worst: the value furthest from good.
        worst_case: whose it is.
    """

    cases: int
    mean: float
    sd: float
    median: float
    worst: float
    worst_case: str


def summarise(scores: Scores) -> dict[str, Summary]:
    """Each metric over all cases.

    Args:
        scores: case -> metric -> value; every case has the same metrics.

    Returns:
        Metric -> summary; empty for no case.

    >>> found = summarise({"a": {"dsc": 0.5}, "b": {"dsc": 1.0}})["dsc"]
    >>> (found.mean, found.worst, found.worst_case)
    (0.75, 0.5, 'a')
    """
    names = next(iter(scores.values()), {})
    return {name: _summary(name, {case: values[name] for case, values in scores.items()}) for name in names}


def worst_cases(scores: Scores, count: int, metric: str = "dsc") -> list[str]:
    """The names of the worst cases by one metric, the worst first; NaN counts as the worst of all.

    >>> worst_cases({"a": {"dsc": 0.9}, "b": {"dsc": 0.5}, "c": {"dsc": 0.7}}, 2)
    ['b', 'c']
    """
    return sorted(scores, key=lambda case: (-_badness(metric, scores[case][metric]), case))[:count]


def _badness(name: str, value: float) -> float:
    if math.isnan(value):
        return math.inf
    return -value if METRICS[name].better == "higher" else abs(value)


def _summary(name: str, values: dict[str, float]) -> Summary:
    column = np.array(list(values.values()), np.float64)
    spread = len(column) > 1 and bool(np.isfinite(column).all())
    worst = max(values, key=lambda case: _badness(name, values[case]))
    return Summary(
        cases=len(column),
        mean=float(column.mean()),
        sd=float(column.std(ddof=1)) if spread else math.nan,
        median=_median(column),
        worst=values[worst],
        worst_case=worst,
    )


def _median(values: NDArray[np.float64]) -> float:
    ordered = sorted(values.tolist())
    if any(math.isnan(value) for value in ordered):
        return math.nan
    return float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


__all__ = ["Summary", "summarise", "worst_cases"]
