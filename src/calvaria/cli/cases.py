"""What the commands that take a case or a folder of cases do alike: the input, and what became of each case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import typer

from calvaria.cli.screen import Screen
from calvaria.errors import InputError
from calvaria.results.folder import Outcome
from calvaria.results.names import Case, find_studies


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


def heard(outcomes: Iterable[Outcome[R]], screen: Screen, lines: Callable[[R], list[str]]) -> list[Outcome[R]]:
    """Say what became of each case as soon as it is known; returns them by name.

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
    return sorted(done, key=lambda outcome: outcome.name)


def told(outcomes: Sequence[Outcome[R]], output: Path, screen: Screen) -> None:
    """Say what became of all cases.

    Raises:
        typer.Exit: some failed; with 1 if one of them did by a bug, else 2.
    """
    failed = [outcome for outcome in outcomes if outcome.record is None]
    screen.say(f"{len(outcomes) - len(failed)} of {len(outcomes)} cases done, results in {output}")
    screen.json(
        {
            "cases": [{"case": o.name, "error": o.error, "result": o.record and o.record.to_json()} for o in outcomes],
            "done": len(outcomes) - len(failed),
            "failed": len(failed),
        }
    )
    if failed:
        screen.error(f"{len(failed)} of {len(outcomes)} cases failed: {', '.join(o.name for o in failed)}")
        raise typer.Exit(1 if any(outcome.exit_code == 1 for outcome in failed) else 2)


__all__ = ["heard", "several", "the_input", "told"]
