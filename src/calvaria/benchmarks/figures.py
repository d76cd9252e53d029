"""What tables of benchmarks have in common: means, and paired tests over persons."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

import numpy as np

from calvaria.metrics.statistics import MIN_PAIRS, PairedTest, compare_pairs


class CaseRow(Protocol):
    """A row of a benchmark that tells whose case it is, and why it failed if it did."""

    @property
    def case(self) -> str:
        """Case id."""
        ...

    @property
    def person(self) -> str:
        """Person id."""
        ...

    @property
    def kind(self) -> str:
        """Kind of defect."""
        ...

    @property
    def error(self) -> str:
        """Empty if it did not fail."""
        ...


R = TypeVar("R", bound=CaseRow)


def pairs_of(first: Iterable[R], second: Iterable[R]) -> list[tuple[R, R]]:
    """The rows of the same cases by two methods, failed ones left out, in the order of the first."""
    one, other = ({(row.case, row.kind): row for row in rows if not row.error} for rows in (first, second))
    return [(row, other[key]) for key, row in one.items() if key in other]


def compare_persons(cases: Iterable[tuple[R, R]], name: str, *, higher_is_better: bool) -> PairedTest | None:
    """Test whether the second method is better, each person by the mean of the cases in which both have the figure.

    Args:
        cases: rows of the first and of the second method.
        name: of the figure.
        higher_is_better: as for :func:`calvaria.metrics.statistics.compare_pairs`.

    Returns:
        The test; None for too few persons.
    """
    persons: dict[str, list[tuple[float, float]]] = {}
    for before, after in cases:
        pair = float(getattr(before, name)), float(getattr(after, name))
        if all(map(math.isfinite, pair)):
            persons.setdefault(before.person, []).append(pair)
    if len(persons) < MIN_PAIRS:
        return None
    # Cases of one person are no independent trials.
    first, second = np.array([np.mean(pairs, axis=0) for pairs in persons.values()]).T
    return compare_pairs(first, second, higher_is_better=higher_is_better)


def finite(rows: Iterable[object], name: str) -> list[float]:
    """A figure of the rows that have it: where nothing was found is counted on its own."""
    return [value for row in rows if math.isfinite(value := float(getattr(row, name)))]


def mean_text(values: Sequence[float], digits: int) -> str:
    """The mean; nothing where there is no value."""
    return f"{math.fsum(values) / len(values):.{digits}f}" if values else ""


def mean_sd_text(values: Sequence[float], digits: int) -> str:
    """The mean, and the sample's standard deviation where there is one."""
    sd = f" {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{mean_text(values, digits)}{sd}"


__all__ = ["CaseRow", "compare_persons", "finite", "mean_sd_text", "mean_text", "pairs_of"]
