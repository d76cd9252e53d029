"""A whole clinical table brought in: case by case, resumed where it stopped, with a report of what was refused and why.

The folder that is left::

    OUT/cases/ID/defective.nrrd, patch.nrrd, implant.nrrd   masks on the aligned grid: world mm are canonical mm
    OUT/cases/ID/case.json       how the parts sat, frame to the file's world, hashes, warnings; no name of a file
    OUT/index.csv                one row a case that can be used
    OUT/refused.csv              id, line, reason
    OUT/population.json          mean and standard deviation of length, breadth and height
    OUT/report.json              counts, settings, warnings

A case folder appears whole or not at all. A case that is present, made by the same settings from files of the same
bytes, is not made again.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from calvaria.clinical.table import ClinicalRow, ClinicalTable, Refusal, read_table
from calvaria.errors import CalvariaError, InputError, one_line
from calvaria.files import atomic_folder, write_csv
from calvaria.io.images import write_volume
from calvaria.io.result import sha256_of, write_result_json
from calvaria.jobs import DIED, Progress, counted, in_processes

TYPE = "calvaria clinical case"
SCHEMA = 1
"""Form of a case folder; cases of another form are made again."""

CASES, RECORD, INDEX, REFUSED, POPULATION, REPORT = (
    "cases",
    "case.json",
    "index.csv",
    "refused.csv",
    "population.json",
    "report.json",
)
MASKS = ("defective", "patch", "implant")

INDEX_COLUMNS = (
    "id",
    "person",
    *MASKS,
    "patch_ml",
    "patch_convention",
    "implant_ml",
    "implant_convention",
    "length_mm",
    "breadth_mm",
    "height_mm",
    "warnings",
)


@dataclass(frozen=True)
class ImportReport:
    """What came of a table.

    Args:
        output: the folder.
        done: ids that can be used, in the table's order.
        kept: how many of them were there already.
        refused: the others, in the table's order.
        warnings: case (or the table's name) -> lines.
        population: mean proportions, JSON-ready; None without a case.
    """

    output: Path
    done: tuple[str, ...]
    kept: int
    refused: tuple[Refusal, ...]
    warnings: dict[str, list[str]]
    population: dict[str, Any] | None


@dataclass(frozen=True)
class _Outcome:
    """What came of a row: a record, or the reason why there is none."""

    row: ClinicalRow
    record: dict[str, Any] | None = None
    reason: str = ""
    kept: bool = False


def import_clinical(
    table: str | Path,
    output: str | Path,
    *,
    spacing_mm: float = 0.8,
    jobs: int = 1,
    progress: Progress | None = None,
) -> ImportReport:
    """Bring in the cases of a table.

    Args:
        table: the CSV, see `calvaria.clinical.table`.
        output: folder of the results; made if it is not there. Cases of an earlier run that are still right are kept.
        spacing_mm: voxel edge of the aligned grid.
        jobs: cases at the same time, each in a process of its own; 1 works here.
        progress: called with the cases done and the time left.

    Returns:
        Which cases can be used and which were refused, with reasons. The same stands in the folder.

    Raises:
        InputError: the table as a whole cannot be used, the spacing is not usable, or the folder cannot be written to.
    """
    from calvaria.clinical.case import ImportSettings

    settings = ImportSettings(spacing_mm)
    found = read_table(table)
    output = Path(output)
    try:
        (output / CASES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output}: this folder cannot be made ({error.strerror}); choose another") from error
    work = partial(_attempt, folder=output / CASES, settings=settings)
    come = in_processes(work, found.rows, jobs, lost=lambda row: _Outcome(row, reason=DIED))
    outcomes = {row.id: outcome for row, outcome in counted(come, len(found.rows), progress)}
    return _write_report(output, Path(table).name, found, outcomes, settings)


def _attempt(row: ClinicalRow, folder: Path, settings: Any) -> _Outcome:
    """Bring in one case; whatever is wrong with it is its outcome."""
    home = folder / row.id
    try:
        key = _key(row, settings)
        kept = _kept(home, key)
        if kept is not None:
            return _Outcome(row, kept, kept=True)
        return _Outcome(row, _make(row, home, key, settings))
    except CalvariaError as error:
        if (home / RECORD).is_file():  # an earlier run's, from other files: it must not be taken for this case
            shutil.rmtree(home)
        return _Outcome(row, reason=one_line(error))
    except MemoryError:
        return _Outcome(row, reason="out of memory: crop the volume, or use fewer jobs")


def _key(row: ClinicalRow, settings: Any) -> dict[str, Any]:
    """All that a case's result depends on."""
    files = {"skull": row.skull, "implant": row.implant, "patch": row.patch}
    return {
        "schema": SCHEMA,
        "settings": asdict(settings),
        "kind": row.kind,
        "convention": row.convention,
        "sha256": {what: None if path is None else sha256_of(path) for what, path in files.items()},
    }


def _kept(home: Path, key: dict[str, Any]) -> dict[str, Any] | None:
    """The record of a case that is present and still right."""
    try:
        record: dict[str, Any] = json.loads((home / RECORD).read_text(encoding="utf-8"))
        whole = record["input"] == key and all(sha256_of(home / name) == sha for name, sha in record["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError):
        return None
    return record if whole else None


def _make(row: ClinicalRow, home: Path, key: dict[str, Any], settings: Any) -> dict[str, Any]:
    """Load a case and write its folder."""
    from calvaria import __version__
    from calvaria.clinical.case import load_case

    case = load_case(row, settings)
    masks = {"defective": case.defective, "patch": case.patch, "implant": case.implant}
    record: dict[str, Any] = {
        "type": TYPE,
        "calvaria": __version__,
        "id": row.id,
        "input": key,
        "warnings": list(case.warnings),
        **case.record,
    }
    with atomic_folder(home) as part:
        for name, mask in masks.items():
            if mask is not None:
                write_volume(part / f"{name}.nrrd", mask)
        record["files"] = {path.name: sha256_of(path) for path in sorted(part.iterdir())}
        write_result_json(part / RECORD, record)
    return record


def _write_report(
    output: Path, name: str, table: ClinicalTable, outcomes: dict[str, _Outcome], settings: Any
) -> ImportReport:
    """Index, refusals, population and report, from what came of each row."""
    from calvaria import __version__
    from calvaria.skull.proportions import Proportions, population, write_population

    rows = [outcomes[row.id] for row in table.rows]
    done = [outcome for outcome in rows if outcome.record is not None]
    late = [Refusal(o.row.id, o.row.line, o.reason) for o in rows if o.record is None]
    refused = tuple(sorted((*table.refused, *late), key=lambda one: one.line))
    write_csv(output / INDEX, INDEX_COLUMNS, [_index_row(outcome) for outcome in done])
    write_csv(output / REFUSED, ("id", "line", "reason"), [[one.id, one.line, one.reason] for one in refused])
    warnings = {o.row.id: list(o.record["warnings"]) for o in done if o.record and o.record["warnings"]}
    if table.warnings:
        warnings[name] = list(table.warnings)
    measured = None
    (output / POPULATION).unlink(missing_ok=True)
    if done:
        size = population([Proportions(**o.record["proportions"]) for o in done if o.record])
        write_population(output / POPULATION, size)
        measured = asdict(size)
    summary = {
        "calvaria": __version__,
        "settings": asdict(settings),
        "usable": len(done),
        "refused": len(refused),
        "reasons": {one.name: one.reason for one in refused},
        "warnings": warnings,
        "population": measured,
    }
    write_result_json(output / REPORT, summary)
    kept = sum(outcome.kept for outcome in done)
    return ImportReport(output, tuple(o.row.id for o in done), kept, refused, warnings, measured)


def _index_row(outcome: _Outcome) -> list[Any]:
    record = outcome.record or {}
    files = [f"{CASES}/{outcome.row.id}/{name}.nrrd" if f"{name}.nrrd" in record["files"] else "" for name in MASKS]
    parts = [record.get(what, {}) for what in ("patch", "implant")]
    figures = [value for part in parts for value in (part.get("volume_ml", ""), part.get("convention", ""))]
    sizes = record["proportions"]
    return [
        outcome.row.id,
        outcome.row.person,
        *files,
        *figures,
        *(sizes[name] for name in ("length_mm", "breadth_mm", "height_mm")),
        len(record["warnings"]),
    ]


__all__ = ["ImportReport", "import_clinical"]
