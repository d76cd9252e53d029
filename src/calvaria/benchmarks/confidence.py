"""The regression behind the expected accuracy, fitted to a benchmark's rows.

::

    python -m calvaria.benchmarks.reconstruction --data ROOT --split validation -o validation.csv
    python -m calvaria.benchmarks.confidence validation.csv

Prints the constants of :mod:`calvaria.reconstruction.confidence` and how well they predict persons left out.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calvaria.benchmarks.reconstruction import tell
from calvaria.benchmarks.table import Row, read_rows
from calvaria.errors import InputError
from calvaria.reconstruction.confidence import LARGEST_CM2, SPREAD_DSC, WORST_MISFIT_MM, expected_dsc

FEWEST_ROWS = 10


@dataclass(frozen=True)
class Regression:
    """Expected DSC: intercept + per_misfit_mm * misfit + per_log_area * ln(area in cm2) + per_frontal * frontal share.

    Args:
        intercept: see above.
        per_misfit_mm: see above.
        per_log_area: see above.
        per_frontal: see above.
        rms: root mean square of what is left over, on persons that the coefficients were not fitted on.
        correlation: of expected and true DSC, likewise.
        worst_misfit_mm: largest misfit among the rows.
        largest_cm2: largest area among them.
    """

    intercept: float
    per_misfit_mm: float
    per_log_area: float
    per_frontal: float
    rms: float
    correlation: float
    worst_misfit_mm: float
    largest_cm2: float


def fit_regression(rows: Sequence[Row]) -> Regression:
    """Least squares on the rows in which a hole was found, each person left out in turn for the error.

    Raises:
        InputError: there are too few such rows, or all are of one person.
    """
    used = [row for row in rows if not row.error and row.misfit_mm > 0 and row.area_cm2 > 0]
    persons = np.array([row.person for row in used])
    if len(used) < FEWEST_ROWS or len(set(persons)) < 2:
        raise InputError(f"{len(used)} rows with a hole, {len(set(persons))} persons: too few for a regression")
    features = np.array([[1.0, row.misfit_mm, np.log(max(row.area_cm2, 1.0)), row.frontal_share] for row in used])
    truth = np.array([row.dsc for row in used])
    expected = np.empty(len(used))
    for person in set(persons):
        out = persons == person
        expected[out] = features[out] @ _solve(features[~out], truth[~out])
    a, b, c, d = (float(v) for v in _solve(features, truth))
    rms = float(np.sqrt(np.mean((expected - truth) ** 2)))
    correlation = float(np.corrcoef(expected, truth)[0, 1])
    worst, largest = max(row.misfit_mm for row in used), max(row.area_cm2 for row in used)
    return Regression(a, b, c, d, rms, correlation, worst, largest)


def check(rows: Sequence[Row]) -> tuple[int, float, float, float]:
    """How the constants in use predict rows that they may not have seen.

    Returns:
        Number of cases that get an expectation, mean of true minus expected DSC, root mean square of it, and the share
        that lies within twice the stated spread; NaN without such cases.
    """
    used = [row for row in rows if 0 < row.misfit_mm <= WORST_MISFIT_MM and 0 < row.area_cm2 <= LARGEST_CM2]
    if not used:
        return 0, math.nan, math.nan, math.nan
    off = np.array([row.dsc - expected_dsc(row.misfit_mm, row.area_cm2, row.frontal_share) for row in used])
    within = float((np.abs(off) < 2 * SPREAD_DSC).mean())
    return len(used), float(off.mean()), float(np.sqrt((off**2).mean())), within


def _solve(features: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.lstsq(features, truth, rcond=None)[0])


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(prog="python -m calvaria.benchmarks.confidence", description="fit the expectation")
    parser.add_argument("rows", type=Path, help="CSV of the benchmark on the validation split")
    rows = read_rows(parser.parse_args(arguments).rows)
    found = fit_regression(rows)
    tell(
        f"expected DSC = {found.intercept:.3f} {found.per_misfit_mm:+.3f} x mm {found.per_log_area:+.4f} x ln cm2 "
        f"{found.per_frontal:+.3f} x frontal share"
    )
    tell(f"on persons left out: rms {found.rms:.3f}, correlation {found.correlation:.2f}")
    tell(f"tested up to a misfit of {found.worst_misfit_mm:.2f} mm and an area of {found.largest_cm2:.0f} cm2")
    count, bias, rms, within = check(rows)
    tell(
        f"as it is in use, on {count} of {len(rows)} cases: true minus expected {bias:+.3f}, rms {rms:.3f}, "
        f"{within:.0%} within twice +-{SPREAD_DSC}"
    )


if __name__ == "__main__":
    main()


__all__ = ["Regression", "check", "fit_regression"]
