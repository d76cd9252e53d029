"""Do two methods differ? Paired statistics of one figure over the same cases, as the field's papers use them.

Both papers that calvaria follows test pairs: Wodzinski et al. by the signed-rank test (p < 0.01), Kodym et al. by the
one-sided paired t-test (level 0.05) and a "Wilcox sign test", which may be either of the two rank tests; so all three
are given. Neither gives an interval or corrects for many figures; here both are given as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from calvaria.errors import InputError
from calvaria.types import F64

CONFIDENCE = 0.95
"""Level of every interval."""

RESAMPLES = 9999
"""Draws of a bootstrap: the third digit of an interval's end stays when the seed changes."""

MIN_PAIRS = 3
"""Fewer pairs than this say nothing."""


@dataclass(frozen=True)
class PairedTest:
    """How much better the second of two methods is, over the same cases.

    "Better" is larger for a Dice and smaller for a distance; every gain is counted so that positive means better. Every
    p value is one-sided: the chance of a gain as large or larger if the second method is no better than the first.

    Args:
        pairs: cases that both methods have.
        better: cases in which the second is better.
        worse: cases in which it is worse; the rest are ties.
        mean_first: mean of the first method's figure.
        mean_second: of the second's.
        mean_gain: mean of the gains.
        low: lower end of the 95 % bootstrap interval (BCa) of the mean gain.
        high: upper end.
        median_gain: median of the gains.
        effect: Cohen's d of the pairs: mean gain over the standard deviation of the gains.
        rank_effect: matched-pairs rank-biserial correlation, -1 (always worse) to 1 (always better).
        p_t: paired t-test.
        p_wilcoxon: Wilcoxon signed-rank test; ties in the pairs are left out.
        p_sign: sign test; ties are left out.
        p_adjusted: ``p_wilcoxon`` after Holm's correction over all figures that were compared together.
    """

    pairs: int
    better: int
    worse: int
    mean_first: float
    mean_second: float
    mean_gain: float
    low: float
    high: float
    median_gain: float
    effect: float
    rank_effect: float
    p_t: float
    p_wilcoxon: float
    p_sign: float
    p_adjusted: float


def compare_pairs(first: ArrayLike, second: ArrayLike, *, higher_is_better: bool, seed: int = 0) -> PairedTest:
    """Test whether the second method is better than the first.

    An infinite distance (an empty patch) is larger than any other: it counts in the rank tests and in the counts, while
    means, the interval and the t-test are NaN, since no mean exists.

    Args:
        first: (N,) the figure of the first method.
        second: (N,) of the second, the cases in the same order.
        higher_is_better: True for overlaps, False for distances and errors.
        seed: of the bootstrap.

    Returns:
        The test, ``p_adjusted`` equal to ``p_wilcoxon``.

    Raises:
        InputError: the two differ in length, hold NaN, or there are fewer than three pairs.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise InputError(f"pairs are wanted, two lists of one length; got {a.shape} and {b.shape}")
    if np.isnan(a).any() or np.isnan(b).any():
        raise InputError("a figure is not a number; leave that case out of both methods")
    if len(a) < MIN_PAIRS:
        raise InputError(f"{len(a)} pairs: at least {MIN_PAIRS} are needed for a comparison")
    gain = _gains(a, b) if higher_is_better else _gains(b, a)
    ranked = _finite_ranks(gain)
    finite = bool(np.isfinite(a).all() and np.isfinite(b).all())
    low, high = mean_interval(gain, seed) if finite else (np.nan, np.nan)
    p_wilcoxon = _wilcoxon(ranked)
    return PairedTest(
        pairs=len(a),
        better=int((gain > 0).sum()),
        worse=int((gain < 0).sum()),
        mean_first=float(a.mean()),
        mean_second=float(b.mean()),
        mean_gain=float(gain.mean()) if finite else np.nan,
        low=low,
        high=high,
        median_gain=float(np.median(gain)),
        effect=_cohen(gain) if finite else np.nan,
        rank_effect=_rank_biserial(ranked),
        p_t=_paired_t(gain) if finite else np.nan,
        p_wilcoxon=p_wilcoxon,
        p_sign=_sign(gain),
        p_adjusted=p_wilcoxon,
    )


def compare_all(
    first: Mapping[str, ArrayLike], second: Mapping[str, ArrayLike], higher_is_better: Mapping[str, bool], seed: int = 0
) -> dict[str, PairedTest]:
    """Compare several figures of two methods, with Holm's correction over them.

    Args:
        first: figure -> (N,) values of the first method.
        second: the same figures of the second.
        higher_is_better: for each figure; figures that are not here are left out.
        seed: of the bootstraps.

    Raises:
        InputError: as for `compare_pairs`; or the two methods have no figure in common.
    """
    names = [name for name in higher_is_better if name in first and name in second]
    if not names:
        raise InputError("the two results have no figure in common that can be compared")
    found = {
        name: compare_pairs(first[name], second[name], higher_is_better=higher_is_better[name], seed=seed)
        for name in names
    }
    adjusted = holm([test.p_wilcoxon for test in found.values()])
    return {name: replace(found[name], p_adjusted=p) for name, p in zip(names, adjusted, strict=True)}


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the chance of any false claim among all stays below the level.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)
    steps = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    out = np.empty_like(p)
    out[order] = steps
    return [float(v) for v in out]


def mean_interval(values: ArrayLike, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval (bias-corrected and accelerated) of a mean.

    Args:
        values: (N,) finite numbers, N >= 2.
        seed: of the draws.

    Returns:
        Lower and upper end; both the value itself where all are equal.
    """
    from scipy.stats import bootstrap

    sample = np.asarray(values, np.float64)
    if np.ptp(sample) == 0:
        return float(sample[0]), float(sample[0])
    found = bootstrap(
        (sample,), np.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, rng=np.random.default_rng(seed)
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _gains(worse: F64, better: F64) -> F64:
    """Difference, 0 where both are infinite."""
    equal = worse == better
    out = np.zeros_like(worse)
    np.subtract(better, worse, out=out, where=~equal)
    return out


def _finite_ranks(gain: F64) -> F64:
    """The gains with infinite ones beyond all others, at one finite size: only ranks may be taken of them."""
    finite = np.abs(gain[np.isfinite(gain)])
    far = 2.0 * float(finite.max(initial=0.0)) + 1.0
    return np.clip(gain, -far, far)


def _cohen(gain: F64) -> float:
    spread = float(gain.std(ddof=1))
    if spread == 0:
        return 0.0 if gain[0] == 0 else float(np.copysign(np.inf, gain[0]))
    return float(gain.mean()) / spread


def _rank_biserial(gain: F64) -> float:
    from scipy.stats import rankdata

    moved = gain[gain != 0]
    if not len(moved):
        return 0.0
    rank = rankdata(np.abs(moved))
    return float((rank * np.sign(moved)).sum() / rank.sum())


def _paired_t(gain: F64) -> float:
    from scipy.stats import ttest_1samp

    if np.ptp(gain) == 0:  # no spread: certain if there is a gain, nothing if there is none
        return 0.0 if gain[0] > 0 else (1.0 if gain[0] < 0 else 0.5)
    return float(ttest_1samp(gain, 0.0, alternative="greater").pvalue)


def _wilcoxon(gain: F64) -> float:
    from scipy.stats import wilcoxon

    if not gain.any():
        return 1.0
    return float(wilcoxon(gain, alternative="greater").pvalue)


def _sign(gain: F64) -> float:
    from scipy.stats import binomtest

    better, worse = int((gain > 0).sum()), int((gain < 0).sum())
    if better + worse == 0:
        return 1.0
    return float(binomtest(better, better + worse, 0.5, alternative="greater").pvalue)


__all__ = ["PairedTest", "compare_all", "compare_pairs", "holm", "mean_interval"]
