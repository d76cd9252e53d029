"""The regressions behind the expected accuracy, fitted to rows of benchmarks.

::

    python -m calvaria.benchmarks.reconstruction --data ROOT --split validation -o masks.csv
    calvaria benchmark scans --data ROOT --side validation -o scans.csv
    python -m calvaria.benchmarks.confidence masks.csv scans.csv

Masks bring every kind and size of hole, scans thick slices and other kernels. Prints the calibration as it is stored
with the model, how well it predicts persons left out, and how the one in use predicts these rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calvaria.benchmarks.reconstruction import tell
from calvaria.benchmarks.script import run_while_read
from calvaria.errors import CalvariaError, FormatError, InputError
from calvaria.models import Calibration, find
from calvaria.models.calibration import FEATURES, MEASURES, SHARE_WITHIN, Cues, Regression, loss_of, measure_of
from calvaria.models.registry import CALIBRATION, SHAPE_PRIOR
from calvaria.types import F64, BoolArray

MIN_ROWS = 10
"""Fewer rows are no regression."""

DIGITS = 4
"""Decimals of a stored calibration."""

MIN_LOSS = 1e-3
"""Smaller losses count as this: a thousandth of Dice, a micrometre."""

MISSED_MM = 20.0
"""With a larger HD95 a hole was left open, as small ones are beside others. A result tells of them by itself; what is
expected is the accuracy of what was completed."""

HUBER = 1.5
"""Residuals above so many typical ones weigh less: one case in fifty is completed wrongly altogether."""

ROUNDS = 20
"""Of the reweighted fit."""

COLUMNS = ("person", "kind", "misfit_mm", "area_cm2", "frontal_share", "voxel_mm", *MEASURES)
"""What is read of a table; others may stand beside them."""


@dataclass(frozen=True)
class Case:
    """One completion whose truth is known.

    Args:
        person: whose it is; the persons are left out in turn.
        kind: of the hole, and how it was scanned.
        cues: what was known before.
        truth: (4,) its `MEASURES`.
    """

    person: str
    kind: str
    cues: Cues
    truth: tuple[float, ...]


@dataclass(frozen=True)
class Fitted:
    """A calibration, and how well it predicts persons that it was not fitted on.

    Args:
        calibration: fitted on all cases; its intervals are those of the persons left out in turn.
        off: (N, 4) true minus expected logarithm of the loss, each person left out.
    """

    calibration: Calibration
    off: F64


def read_cases(paths: Sequence[Path]) -> list[Case]:
    """The cases of tables in which a hole was found and completed.

    Raises:
        InputError: a file is not there.
        FormatError: a table lacks a column, or a value is no number.
    """
    cases = []
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: no such file; it is made by a benchmark of reconstructions or scans")
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise FormatError(f"{path.name}: there is no column {missing[0]}; make it again with this version")
            for line in reader:
                try:
                    numbers = [float(line[name]) for name in COLUMNS[2:]]
                except (TypeError, ValueError) as error:
                    raise FormatError(f"{path.name}: a line is damaged ({error})") from error
                cues, truth = Cues(*numbers[:4]), tuple(numbers[4:])
                missed = truth[MEASURES.index("hd95_mm")] > MISSED_MM
                if not line.get("error") and cues.misfit_mm > 0 and all(map(math.isfinite, truth)) and not missed:
                    variant = line.get("variant", "")
                    cases.append(Case(line["person"], f"{line['kind']} {variant}".strip(), cues, truth))
    return cases


def fit(cases: Sequence[Case], origin: str = "") -> Fitted:
    """Robust least squares, each person left out in turn for the intervals.

    Args:
        cases: of one model.
        origin: their origin in a few words; stored with the calibration.

    Raises:
        InputError: there are too few cases, or all are of one person.
    """
    persons = np.array([case.person for case in cases])
    if len(cases) < MIN_ROWS or len(set(persons)) < 2:
        raise InputError(f"{len(cases)} rows with a hole, {len(set(persons))} persons: too few for a regression")
    features = np.array([case.cues.features for case in cases])
    weight = _weights(persons)
    measures, off = {}, np.empty((len(cases), len(MEASURES)))
    low, high = (1 - SHARE_WITHIN) / 2, (1 + SHARE_WITHIN) / 2
    for column, name in enumerate(MEASURES):
        truth = np.log([max(loss_of(name, case.truth[column]), MIN_LOSS) for case in cases])
        for person in set(persons):
            out = persons == person
            off[out, column] = truth[out] - features[out] @ _solve(features[~out], truth[~out], weight[~out])
        solved = _solve(features, truth, weight)
        ends = [_quantile(off[:, column], weight, level) for level in (low, high)]
        measures[name] = Regression(tuple(float(w) for w in solved), max(-ends[0], 0.0), max(ends[1], 0.0))
    worst, largest, thickest = (
        float(max(getattr(case.cues, name) for case in cases)) for name in ("misfit_mm", "area_cm2", "voxel_mm")
    )
    return Fitted(Calibration(measures, worst, largest, thickest, origin), off)


def check(cases: Sequence[Case], used: Calibration) -> list[str]:
    """How a calibration predicts cases that it may not have seen: a line a measure, then a line a kind."""
    judged = [case for case in cases if used.beyond(case.cues) is None]
    lines = [f"{len(judged)} of {len(cases)} cases lie within what was tested"]
    if not judged:
        return lines
    kinds = np.array([case.kind for case in judged])
    inside = np.empty((len(judged), len(MEASURES)), bool)
    for column, name in enumerate(MEASURES):
        expected = [used.measures[name].expected(name, case.cues) for case in judged]
        truth = np.array([case.truth[column] for case in judged])
        values = np.array([one.value for one in expected])
        inside[:, column] = [one.low <= true <= one.high for one, true in zip(expected, truth, strict=True)]
        correlation = np.corrcoef(values, truth)[0, 1] if len(judged) > 2 else math.nan
        lines.append(
            f"{name}: expected {values.mean():.3f}, true {truth.mean():.3f}, correlation {correlation:.2f}, "
            f"{inside[:, column].mean():.0%} within the limits"
        )
    lines += [_line(kind, inside[kinds == kind]) for kind in dict.fromkeys(kinds)]
    return lines


def _line(kind: str, inside: BoolArray) -> str:
    shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(MEASURES, inside.mean(axis=0), strict=True))
    return f"  {kind} (n = {len(inside)}): {shares}"


def stored(found: Calibration) -> str:
    """The entry of an index of models: ``"calibration": {...}``, rounded as the shipped one is."""
    measures = {
        name: Regression(tuple(round(w, DIGITS) for w in one.weights), round(one.low, DIGITS), round(one.high, DIGITS))
        for name, one in found.measures.items()
    }
    limits = {name: round(getattr(found, name), DIGITS) for name in ("worst_misfit_mm", "largest_cm2", "thickest_mm")}
    return f'"{CALIBRATION}": {json.dumps(replace(found, measures=measures, **limits).to_entry())}'


def _weights(persons: np.ndarray) -> F64:
    """Every person counts the same, however many cases there are of one."""
    _, which, count = np.unique(persons, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / count[which])


def _solve(features: F64, truth: F64, weight: F64) -> F64:
    """Weighted least squares with Huber's weights on top, by rounds."""
    robust: F64 = np.ones(len(truth))
    solved: F64 = np.zeros(features.shape[1])
    for _ in range(ROUNDS):
        root = np.sqrt(weight * robust)
        solved = np.asarray(np.linalg.lstsq(features * root[:, None], truth * root, rcond=None)[0], np.float64)
        off = np.abs(truth - features @ solved)
        typical = max(float(np.median(off)) * 1.4826, 1e-9)
        robust = np.minimum(1.0, HUBER * typical / np.maximum(off, 1e-12))
    return np.asarray(solved)


def _quantile(values: F64, weight: F64, level: float) -> float:
    order = np.argsort(values)
    below = np.cumsum(weight[order]) / weight.sum()
    return float(values[order][min(int(np.searchsorted(below, level)), len(values) - 1)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m calvaria.benchmarks.confidence", description="fit the expectation")
    parser.add_argument("rows", type=Path, nargs="+", help="CSVs of benchmarks on the validation split")
    parser.add_argument("--model", default=SHAPE_PRIOR, help="that made the rows; its calibration in use is checked")
    parser.add_argument("--figure", type=Path, help="expected against true values of the calibration in use, .png")
    options = parser.parse_args(arguments)
    try:
        cases = read_cases(options.rows)
        used = find(options.model).calibration
        names = ", ".join(path.name for path in options.rows)
        found = fit(cases, f"{len(cases)} cases of {len({case.person for case in cases})} persons, {names}")
    except CalvariaError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    tell("logarithm of the loss = " + " + ".join(f"w{n} x {name}" for n, name in enumerate(FEATURES)))
    for column, (name, one) in enumerate(found.calibration.measures.items()):
        weights = " ".join(f"{w:+.3f}" for w in one.weights)
        typical = measure_of(name, float(np.median([one.log_loss(case.cues) for case in cases])))
        rms = float(np.sqrt(np.mean(found.off[:, column] ** 2)))
        tell(f"{name}: {weights}; typically {typical:.3f}; persons left out: rms of the logarithm {rms:.2f}")
    limits = found.calibration
    tell(
        f"tested up to a misfit of {limits.worst_misfit_mm:.2f} mm, an area of {limits.largest_cm2:.0f} cm2 and voxels "
        f"of {limits.thickest_mm:.1f} mm"
    )
    kept = replace(found.calibration, surface=None if used is None else used.surface)
    tell(f"to be stored in the model's entry of its index.json: {stored(kept)}")
    if used is None:
        tell(f"{options.model} has no calibration in use")
        return 0
    tell("the calibration in use, on these rows:")
    for line in check(cases, used):
        tell(line)
    if options.figure is not None:
        draw(options.figure, cases, used)
    return 0


def draw(path: Path, cases: Sequence[Case], used: Calibration) -> None:
    """Draw what a calibration expects of cases against their truth.

    Raises:
        InputError: none of the cases lies within what was tested, or the file cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    from calvaria.report import save_png
    from calvaria.report.figures import expectations

    judged = [case for case in cases if used.beyond(case.cues) is None]
    expected = {name: [used.measures[name].expected(name, case.cues) for case in judged] for name in MEASURES}
    truth = {name: [case.truth[column] for case in judged] for column, name in enumerate(MEASURES)}
    save_png(path, expectations(expected, truth, [case.kind for case in judged]))


if __name__ == "__main__":
    sys.exit(run_while_read(main))


__all__ = ["Case", "Fitted", "check", "fit", "read_cases", "stored"]
