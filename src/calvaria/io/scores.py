"""Tables of scores as CSV: one row a case, one column a metric."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from calvaria.errors import FormatError
from calvaria.files import require_file, write_text

CASE = "case"
"""The column that names the case."""

KEYS = (CASE, "kind")
"""Columns that tell rows apart: one person may have several defects."""

Scores = dict[str, dict[str, float]]
"""Case -> metric -> value; NaN where a metric says nothing, infinite where a patch is empty."""


def write_scores(path: Path, scores: Mapping[str, Mapping[str, float]]) -> Path:
    """Write a table; it is whole or not there.

    Args:
        path: the file; one that is there gives way.
        scores: case -> metric -> value; every case has the same metrics.

    Raises:
        InputError: the folder does not exist, or the disk refuses the file.
    """
    columns = [CASE, *next(iter(scores.values()), {})]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for name, values in scores.items():
        writer.writerow({CASE: name, **{key: repr(float(value)) for key, value in values.items()}})
    write_text(path, text.getvalue())
    return path


def read_scores(path: Path) -> Scores:
    """Read a table of scores: one from `write_scores`, or any CSV with a column ``case``.

    Columns that are no numbers are left out; with a column ``kind`` a case is named "case kind".

    Raises:
        InputError: there is no such file.
        FormatError: it is no table with a column ``case``, a case stands in it twice, or it has no numbers.
    """
    path = require_file(path)
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise FormatError(f"{path.name}: this is no CSV table: {error}") from error
    if not rows or CASE not in rows[0]:
        raise FormatError(f"{path.name}: a CSV table with a column '{CASE}' and a row for each case is wanted")
    scores: Scores = {}
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise FormatError(f"{path.name}: line {number} has not as many values as the first line has names")
        name = " ".join(row[key] for key in KEYS if key in row)
        if name in scores:
            raise FormatError(f"{path.name}: {name} stands there twice, again in line {number}")
        numbers = {key: _number(text) for key, text in row.items() if key not in KEYS}
        scores[name] = {key: value for key, value in numbers.items() if value is not None}
    common = set.intersection(*(set(values) for values in scores.values()))
    if not common:
        raise FormatError(f"{path.name}: no column holds a number for every case")
    return {name: {key: value for key, value in values.items() if key in common} for name, values in scores.items()}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


__all__ = ["CASE", "Scores", "read_scores", "write_scores"]
