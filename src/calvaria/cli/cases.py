"""What the commands that take a case or a folder of cases do alike: the input, and what became of each case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import typer

from calvaria.cli.screen import Screen
from calvaria.errors import InputError
from calvaria.results.folder import Outcome
from calvaria.results.kept import Wanted, split
from calvaria.results.names import Case, find_studies
from calvaria.results.table import RESULTS, table_rows, write_table

MAX_SHOWN = 30
"""Rows of the table that is shown; the file has all."""


class Told(Protocol):
    """A record of a case."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line each."""

    def to_json(self) -> dict[str, Any]:
        """What its file holds."""


R = TypeVar("R", bound=Told)


def the_input(positional: Path | None, option: Path | None, command: str) -> Path:
    """The input, given in one of two spellings.

    Raises:
        InputError: there is none, or two, or it does not exist.
    """
    if positional is not None and option is not None and positional != option:
        raise InputError(f"two inputs were given, {positional.name} and {option.name}; give one")
    path = positional if positional is not None else option
    if path is None:
        raise InputError(f"no input was given; try: calvaria {command} skull.nrrd -o out")
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    return path


def several(
    path: Path, series: str | None, study: int | None, screen: Screen, *, by_folder: bool = False
) -> list[Case]:
    """The studies of a DICOM input as cases, where it holds several and none was asked for; what is left out is said.

    Args:
        path: the input.
        series: that was asked for.
        study: that was asked for.
        screen: where it is said.
        by_folder: whether they are called by their folders.
    """
    if study is not None:
        return []
    notes: list[str] = []
    cases = find_studies(path, series, by_folder=by_folder, notes=notes)
    for text in notes:
        screen.warn(text)
    return cases


def require_scheduler(scheduler: str | None) -> None:
    """Make sure, before any work, that cases could be sent to a scheduler where that is asked for.

    Raises:
        MissingExtraError: Dask is not installed.
    """
    if scheduler is not None:
        from calvaria.results.cluster import require_cluster

        require_cluster()


def require_alone(scheduler: str | None, path: Path) -> None:
    """Raise where one case is to be sent to a scheduler.

    Raises:
        InputError: it is.
    """
    if scheduler is not None:
        raise InputError(f"--scheduler: {path.name} is one case; give a folder of cases, or leave this out")


def heard(outcomes: Iterable[Outcome[R]], screen: Screen, lines: Callable[[R], list[str]]) -> list[Outcome[R]]:
    """Say what became of each case as soon as it is known; returns them.

    Args:
        outcomes: as they come.
        screen: where it is said.
        lines: a record in words.
    """
    done = []
    for outcome in outcomes:
        done.append(outcome)
        if outcome.record is None:
            screen.error(f"{outcome.name}: {outcome.error}")
            continue
        for text in outcome.record.warnings:
            screen.warn(f"{outcome.name}: {text}")
        screen.say(f"{outcome.name}: " + "; ".join(lines(outcome.record)))
    return done


def parted(
    cases: Sequence[Case], output: Path, wanted: Wanted, screen: Screen, *, again: bool
) -> tuple[list[Case], list[Outcome[Any]]]:
    """The cases that are to be run, and those that an earlier run has left as they would become; how many is said.

    Args:
        cases: all of them.
        output: the folder of the result folders.
        wanted: what is asked for.
        screen: where it is said.
        again: run all.
    """
    with screen.progress() as progress:
        progress("looking for what is done", 0.0)
        left, kept = split(wanted, cases, output, again=again)
    if kept:
        screen.say(f"{len(kept)} of {len(cases)} cases are done already; --again runs them, too")
    return left, list(kept)


def tabled(outcomes: Sequence[Outcome[Any]], path: Path, screen: Screen) -> None:
    """Write what became of all cases into a table, and show it: cases that want a look first, then by name.

    Args:
        outcomes: by name.
        path: `calvaria.results.table.RESULTS` or ``DESIGNS`` in the output folder.
        screen: where it is shown.
    """
    rows = table_rows(path.name, outcomes)
    write_table(path, rows)
    if screen.quiet or screen.as_json:
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("case", "status", "holes" if path.name == RESULTS else "implants", "ml", "DSC", "checks", "s"):
        table.add_column(name, justify="left" if name in {"case", "status", "checks"} else "right")
    first = sorted(rows, key=lambda row: row["status"] != "failed" and not row["checks_failed"])
    for row in first[:MAX_SHOWN]:
        table.add_row(*_cells(row))
    screen.show(table)
    more = f"; {len(rows) - MAX_SHOWN} more cases" if len(rows) > MAX_SHOWN else ""
    screen.say(f"table: {path}{more}")


def _cells(row: dict[str, Any]) -> list[str]:
    """A row in few words."""
    if row["status"] == "failed":
        return [row["case"], "failed", *[""] * 5]
    dsc = "unknown" if row["expected_dsc"] == "" else f"{row['expected_dsc']:.2f}"
    if row["dsc_low"] != "":
        dsc += f" ({row['dsc_low']:.2f} to {row['dsc_high']:.2f})"
    counts = {name: row[f"checks_{name}"] for name in ("passed", "warned", "failed")}
    checks = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    number = row["holes"] if "holes" in row else row["implants"]
    return [row["case"], row["status"], str(number), f"{row['ml']:.1f}", dsc, checks, f"{row['seconds']:.1f}"]


def by_name(outcomes: Sequence[Outcome[Any]]) -> list[Outcome[Any]]:
    """In the order of the cases' names."""
    return sorted(outcomes, key=lambda outcome: outcome.name)


def told(outcomes: Sequence[Outcome[R]], output: Path, screen: Screen) -> None:
    """Say what became of all cases.

    Raises:
        typer.Exit: some failed; with 1 if one of them did by a bug, else 2.
    """
    failed = [outcome for outcome in outcomes if outcome.record is None]
    screen.say(f"{len(outcomes) - len(failed)} of {len(outcomes)} cases done, results in {output}")
    screen.json(
        {
            "cases": [
                {"case": o.name, "error": o.error, "kept": o.kept, "result": o.record and o.record.to_json()}
                for o in outcomes
            ],
            "done": len(outcomes) - len(failed),
            "failed": len(failed),
        }
    )
    if failed:
        screen.error(f"{len(failed)} of {len(outcomes)} cases failed: {', '.join(o.name for o in failed)}")
        raise typer.Exit(1 if any(outcome.exit_code == 1 for outcome in failed) else 2)


__all__ = ["by_name", "heard", "parted", "require_alone", "require_scheduler", "several", "tabled", "the_input", "told"]
