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
        undefined: for how many of them the metric is not defined (NaN); all that follows is of the others.
        mean: infinite where a distance is: an empty patch is not left out. NaN where no case has a value.
        sd: sample standard deviation; NaN where the mean is not finite, or for one value.
        median: also of infinite values; of two middle ones the larger, where only that is infinite.
        worst: the value furthest from good.
        worst_case: whose it is; empty where no case has a value.
    """

    cases: int
    undefined: int
    mean: float
    sd: float
    median: float
    worst: float
    worst_case: str


def summarise(scores: Scores) -> dict[str, Summary]:
    """Each metric over all cases that have a value of it.

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
    defined = {case: value for case, value in values.items() if not math.isnan(value)}
    undefined = len(values) - len(defined)
    if not defined:
        return Summary(len(values), undefined, math.nan, math.nan, math.nan, math.nan, "")
    column = np.array(list(defined.values()), np.float64)
    spread = len(column) > 1 and bool(np.isfinite(column).all())
    worst = max(defined, key=lambda case: _badness(name, defined[case]))
    return Summary(
        cases=len(values),
        undefined=undefined,
        mean=float(column.mean()),
        sd=float(column.std(ddof=1)) if spread else math.nan,
        median=_median(column),
        worst=defined[worst],
        worst_case=worst,
    )


def _median(values: NDArray[np.float64]) -> float:
    ordered = sorted(values.tolist())
    return float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


__all__ = ["Summary", "summarise", "worst_cases"]
