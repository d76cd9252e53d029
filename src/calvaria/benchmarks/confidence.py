"""The regression behind the expected accuracy, fitted to a benchmark's rows.

::

    python -m calvaria.benchmarks.reconstruction --data ROOT --split validation -o validation.csv
    python -m calvaria.benchmarks.confidence validation.csv

Prints the calibration as it is stored with the model, and how well it predicts subjects left out.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calvaria.benchmarks.reconstruction import tell
from calvaria.benchmarks.table import Row, read_rows
from calvaria.errors import InputError
from calvaria.models import Calibration, find
from calvaria.models.registry import CALIBRATION, SHAPE_PRIOR

MIN_ROWS = 10
"""Fewer rows are no regression."""

DIGITS = 4
"""Decimals of a stored calibration: a ten thousandth of DSC."""


@dataclass(frozen=True)
class Regression:
    """A calibration, and how well it predicts subjects that it was not fitted on.

    Args:
        calibration: fitted on all rows; its spread is that of the subjects left out in turn.
        correlation: of expected and true DSC, likewise.
    """

    calibration: Calibration
    correlation: float


def fit_regression(rows: Sequence[Row], origin: str = "") -> Regression:
    """Least squares on the rows in which a hole was found, each person left out in turn for the error.

    Args:
        rows: of one model.
        origin: their origin in a few words; stored with the calibration.

    Raises:
        InputError: there are too few such rows, or all are of one person.
    """
    used = [row for row in rows if not row.error and row.misfit_mm > 0 and row.area_cm2 > 0]
    persons = np.array([row.person for row in used])
    if len(used) < MIN_ROWS or len(set(persons)) < 2:
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
    return Regression(Calibration(a, b, c, d, rms, worst, largest, origin), correlation)


def check(rows: Sequence[Row], used: Calibration) -> tuple[int, float, float, float]:
    """How a calibration predicts rows that it may not have seen.

    Returns:
        Number of cases that get an expectation, mean of true minus expected DSC, root mean square of it, and the share
        that lies within twice the stated spread; NaN without such cases.
    """
    judged = [row for row in rows if 0 < row.misfit_mm <= used.worst_misfit_mm and 0 < row.area_cm2 <= used.largest_cm2]
    if not judged:
        return 0, math.nan, math.nan, math.nan
    off = np.array([row.dsc - used.expected_dsc(row.misfit_mm, row.area_cm2, row.frontal_share) for row in judged])
    within = float((np.abs(off) < 2 * used.spread_dsc).mean())
    return len(judged), float(off.mean()), float(np.sqrt((off**2).mean())), within


def stored(found: Calibration) -> str:
    """The entry of an index of models: ``"calibration": {...}``, rounded as the shipped one is."""
    entry = {name: round(v, DIGITS) if isinstance(v, float) else v for name, v in found.to_entry().items()}
    return f'"{CALIBRATION}": {json.dumps(entry)}'


def _solve(features: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.lstsq(features, truth, rcond=None)[0])


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(prog="python -m calvaria.benchmarks.confidence", description="fit the expectation")
    parser.add_argument("rows", type=Path, help="CSV of the benchmark on the validation split")
    parser.add_argument("--model", default=SHAPE_PRIOR, help="that made the rows; its calibration in use is checked")
    options = parser.parse_args(arguments)
    rows = read_rows(options.rows)
    found = fit_regression(rows, f"{options.rows.name}, made with {options.model}")
    fitted = found.calibration
    tell(
        f"expected DSC = {fitted.intercept:.3f} {fitted.per_misfit_mm:+.3f} x mm {fitted.per_log_area:+.4f} x ln cm2 "
        f"{fitted.per_frontal:+.3f} x frontal share"
    )
    tell(f"on persons left out: rms {fitted.spread_dsc:.3f}, correlation {found.correlation:.2f}")
    tell(f"tested up to a misfit of {fitted.worst_misfit_mm:.2f} mm and an area of {fitted.largest_cm2:.0f} cm2")
    tell(f"to be stored in the model's entry of its index.json: {stored(fitted)}")
    used = find(options.model).calibration
    if used is None:
        tell(f"{options.model} has no calibration in use")
        return
    # Rows of a model that had a calibration say where nothing was expected, for another doubt than those checked here.
    expected = [row for row in rows if math.isfinite(row.expected_dsc)]
    count, bias, rms, within = check(expected or rows, used)
    tell(
        f"as it is in use, on {count} of {len(rows)} cases: true minus expected {bias:+.3f}, rms {rms:.3f}, "
        f"{within:.0%} within twice +-{used.spread_dsc}"
    )


if __name__ == "__main__":
    main()


__all__ = ["Regression", "check", "fit_regression", "stored"]
