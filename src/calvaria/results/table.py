"""One table of what became of every case of a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calvaria.files import write_csv

if TYPE_CHECKING:
    from calvaria.results.folder import Outcome

RESULTS, DESIGNS = "results.csv", "designs.csv"
"""Names of the tables of reconstructions and of designs, which may lie in one folder."""

_COMMON = (
    *("expected_dsc", "dsc_low", "dsc_high", "warnings", "checks_passed", "checks_warned", "checks_failed", "failed"),
    "seconds",
)
_BEGIN = ("case", "status", "error")

COLUMNS: Mapping[str, tuple[str, ...]] = {
    RESULTS: (*_BEGIN, "holes", "ml", "cm2", *_COMMON),
    DESIGNS: (*_BEGIN, "implants", "ml", "cm2", *_COMMON),
}
"""Of each table. ``status`` is "done", "kept" (by an earlier run) or "failed" (then ``error`` says why, and the rest is
empty); ``ml`` and ``cm2`` are those of the missing bone, or of the implants; ``warnings`` are counted; ``failed`` are
the names of the checks that did; ``seconds`` are those of the run that made the case."""

Row = dict[str, Any]


def table_rows(table: str, outcomes: Sequence[Outcome[Any]]) -> list[Row]:
    """A row for each case, in the order given.

    Args:
        table: `RESULTS` or `DESIGNS`.
        outcomes: what became of each.
    """
    rows = []
    for outcome in outcomes:
        row: Row = dict.fromkeys(COLUMNS[table], "")
        row |= {"case": outcome.name, "status": _status(outcome), "error": outcome.error or ""}
        if outcome.record is not None:
            found = outcome.record.to_json()
            row |= (_of_holes(found) if table == RESULTS else _of_parts(found)) | _of_either(found)
        rows.append(row)
    return rows


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write a table; the file, whose name says which, appears whole or not at all.

    Raises:
        InputError: the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = COLUMNS[path.name]
    write_csv(path, columns, [[row[name] for name in columns] for row in rows])


def _status(outcome: Outcome[Any]) -> str:
    return "failed" if outcome.record is None else "kept" if outcome.kept else "done"


def _of_holes(found: Mapping[str, Any]) -> Row:
    holes = found["holes"]
    return {
        "holes": len(holes),
        "ml": found["patch"]["volume_ml"],
        "cm2": round(sum(one["area_cm2"] for one in holes), 4),
    }


def _of_parts(found: Mapping[str, Any]) -> Row:
    parts = found["parts"]
    return {
        "implants": len(parts),
        "ml": round(sum(one["volume_ml"] for one in parts), 4),
        "cm2": round(sum(one["area_cm2"] for one in parts), 4),
    }


def _of_either(found: Mapping[str, Any]) -> Row:
    """What both kinds of records have; what is not known stays empty."""
    confidence = found["confidence"]
    dsc: Mapping[str, Any] = next((one for one in confidence["expected"] if one["name"] == "dsc"), {})
    verdicts = [one["verdict"] for one in found["checks"]]
    expected = confidence["expected_dsc"]
    failed = (f"{one['name']} of {one['part']}" if one["part"] else one["name"] for one in _failed(found))
    return {
        "expected_dsc": "" if expected is None else expected,
        "dsc_low": dsc.get("low", ""),
        "dsc_high": dsc.get("high", ""),
        "warnings": len(found["warnings"]),
        "checks_passed": verdicts.count("pass"),
        "checks_warned": verdicts.count("warn"),
        "checks_failed": verdicts.count("fail"),
        "failed": "; ".join(failed),
        "seconds": found["seconds"]["total"],
    }


def _failed(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for one in found["checks"] if one["verdict"] == "fail"]


__all__ = ["COLUMNS", "DESIGNS", "RESULTS", "table_rows", "write_table"]
