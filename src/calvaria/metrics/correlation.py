"""How well a metric agrees with an expert's scores (Kodym et al. 2021, appendix A)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import InputError

MIN_CASES = 5
"""With fewer cases an interval of a correlation says nothing."""

WIDTH = 1.959963984540054
"""Half the width of a 95 % interval in standard errors."""


@dataclass(frozen=True)
class Correlation:
    """How two lists of values go together over the same cases.

    Args:
        cases: how many have both values.
        pearson: of the values; NaN where one of them is the same for all cases, or infinite.
        pearson_low: lower end of its 95 % interval (Fisher's transformation).
        pearson_high: upper end.
        p_pearson: chance of one as far from 0 without any connection, two-sided.
        spearman: of the ranks, which infinite values have too; NaN where one list is the same for all cases.
        spearman_low: lower end of its 95 % interval (Bonett & Wright 2000).
        spearman_high: upper end.
        p_spearman: two-sided, as above.
    """

    cases: int
    pearson: float
    pearson_low: float
    pearson_high: float
    p_pearson: float
    spearman: float
    spearman_low: float
    spearman_high: float
    p_spearman: float


def correlate(values: ArrayLike, scores: ArrayLike) -> Correlation:
    """Correlate the values of a metric with scores.

    Args:
        values: (N,) one a case; cases whose value is NaN are left out.
        scores: (N,) of the same cases, finite.

    Raises:
        InputError: the lists differ in length, a score is not a finite number, or fewer than five cases are left.

    >>> found = correlate([1, 2, 3, 4, 5, 6], [1, 3, 2, 5, 4, 6])
    >>> round(found.spearman, 3), round(found.spearman_low, 2), round(found.spearman_high, 2)
    (0.886, 0.07, 0.99)
    """
    x, y = np.asarray(values, np.float64), np.asarray(scores, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise InputError(f"values and scores are two lists of one length; got {x.shape} and {y.shape}")
    if not np.isfinite(y).all():
        raise InputError("a score is not a finite number; leave that case out")
    there = ~np.isnan(x)
    x, y = x[there], y[there]
    if len(x) < MIN_CASES:
        raise InputError(f"{len(x)} cases: at least {MIN_CASES} are needed for a correlation")
    pearson, p_pearson = _pearson(x, y)
    spearman, p_spearman = _spearman(x, y)
    # Bonett & Wright 2000: ranks have a variance larger by half the square of their correlation.
    low, high = _interval(spearman, np.sqrt((1 + spearman**2 / 2) / (len(x) - 3)))
    return Correlation(
        len(x),
        pearson,
        *_interval(pearson, 1 / np.sqrt(len(x) - 3)),
        p_pearson,
        spearman,
        low,
        high,
        p_spearman,
    )


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    from scipy.stats import pearsonr

    if not np.isfinite(x).all() or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan, np.nan
    found = pearsonr(x, y)
    return float(found.statistic), float(found.pvalue)


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    from scipy.stats import spearmanr

    if (x == x[0]).all() or (y == y[0]).all():
        return np.nan, np.nan
    found = spearmanr(x, y)
    return float(found.statistic), float(found.pvalue)


def _interval(coefficient: float, error: float) -> tuple[float, float]:
    """95 % interval by Fisher's transformation; the coefficient itself where it is 1 or -1."""
    if abs(coefficient) >= 1:
        return coefficient, coefficient
    middle = np.arctanh(coefficient)
    return float(np.tanh(middle - WIDTH * error)), float(np.tanh(middle + WIDTH * error))


__all__ = ["Correlation", "correlate"]
