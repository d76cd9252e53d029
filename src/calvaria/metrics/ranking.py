"""Methods in order, as the AutoImplant challenge ranks them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import InputError
from calvaria.types import F64

RESAMPLES = 2000
"""Draws of cases for the interval of a place."""

FAR = 1e12
"""Stands for an infinite distance where means are taken: worse than any, and the same for all."""


@dataclass(frozen=True)
class Standing:
    """Where a method stands.

    Args:
        method: its name.
        means: metric -> mean over the cases.
        ranks: metric -> rank of that mean, 1 the best; equal means share the mean of their ranks.
        mean_rank: mean of the ranks.
        place: 1 for the least mean rank; equal ones share the better place.
        low: best place in 95 % of draws of as many cases, with replacement.
        high: worst place in them.
    """

    method: str
    means: dict[str, float]
    ranks: dict[str, float]
    mean_rank: float
    place: int
    low: int
    high: int


def rank_methods(
    values: Mapping[str, Mapping[str, ArrayLike]], higher_is_better: Mapping[str, bool], seed: int = 0
) -> list[Standing]:
    """Rank methods by the mean of their ranks in each metric.

    Args:
        values: method -> metric -> (N,) values over the same cases in the same order. An infinite distance makes a mean
            infinite: the last rank.
        higher_is_better: the metrics that count, and which way each is better.
        seed: of the draws of cases.

    Returns:
        One for each method, the best first.

    Raises:
        InputError: fewer than two methods, no metric, lists of different lengths, or a value that is not a number.

    >>> one, two = rank_methods({"a": {"dsc": [0.8, 0.9]}, "b": {"dsc": [0.9, 0.95]}}, {"dsc": True})
    >>> (one.method, one.place, two.method, two.place)
    ('b', 1, 'a', 2)
    """
    methods, metrics = list(values), list(higher_is_better)
    if len(methods) < 2 or not metrics:
        raise InputError(f"a ranking takes two methods and one metric at least; got {len(methods)} and {len(metrics)}")
    table = _table(values, methods, metrics)  # (methods, metrics, cases)
    sign = np.array([-1.0 if higher_is_better[metric] else 1.0 for metric in metrics])
    ranks = _ranks(table.mean(axis=2), sign)
    mean = ranks.mean(axis=1)
    count = table.shape[2]
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES) / count
    drawn = _ranks(np.moveaxis(table @ draws.T, 2, 0), sign).mean(axis=-1)  # (draws, methods)
    low, high = np.percentile(_places(drawn), (2.5, 97.5), axis=0, method="nearest")
    place = _places(mean)
    standings = [
        Standing(
            method=method,
            means={metric: float(np.mean(np.asarray(values[method][metric], np.float64))) for metric in metrics},
            ranks=dict(zip(metrics, map(float, ranks[row]), strict=True)),
            mean_rank=float(mean[row]),
            place=int(place[row]),
            low=int(low[row]),
            high=int(high[row]),
        )
        for row, method in enumerate(methods)
    ]
    return sorted(standings, key=lambda standing: standing.mean_rank)


def _table(values: Mapping[str, Mapping[str, ArrayLike]], methods: list[str], metrics: list[str]) -> F64:
    rows = [[np.asarray(values[method][metric], np.float64) for metric in metrics] for method in methods]
    shapes = {row.shape for columns in rows for row in columns}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 1 or shape == (0,):
        raise InputError("every method needs one value a case in every metric, over the same cases")
    table = np.array(rows)
    if np.isnan(table).any():
        raise InputError("a value is not a number; leave that case out of every method")
    return np.asarray(np.clip(table, -FAR, FAR))


def _ranks(means: F64, sign: F64) -> F64:
    """Ranks of the methods (second last axis) in each metric (last axis)."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(means * sign, axis=-2))


def _places(mean_rank: F64) -> NDArray[np.int64]:
    """Places along the last axis."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(np.round(mean_rank, 9), method="min", axis=-1), np.int64)


__all__ = ["Standing", "rank_methods"]
