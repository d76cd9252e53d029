"""``calvaria benchmark table4``: ours against the state of the art."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calvaria.cli.options import Json, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.errors import InputError
from calvaria.files import require_writable_file

if TYPE_CHECKING:
    from calvaria.benchmarks.comparison import CaseSet, Outcome

EXAMPLES = """\b
Examples:
  calvaria benchmark table4 --data autoimplant2020 -o table4.csv
  calvaria benchmark table4 --data autoimplant2020 -o table4.csv --model shape-prior --model runs/runet.safetensors
  calvaria benchmark table4 --skullbreak skullbreak --duplicates duplicates.json -o table4.csv --jobs 2
  calvaria benchmark table4 --skullfix autoimplant2020 --model runs/complete-only.safetensors -o table4.csv
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""

NAMED = 5
"""Cases that a line names; of more it says the number."""


def table4(
    context: typer.Context,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="All figures, .csv; goes on from it.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER", help="The AutoImplant 2020 (SkullFix) set, for the stand-in."),
    ] = None,
    skullbreak: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="SkullBreak: its official test cases are run too.")
    ] = None,
    skullfix: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="SkullFix: likewise, where their truth is there.")
    ] = None,
    duplicates: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Persons in both sets, from data duplicates; they are left out."),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A model, by name or file; default: shape-prior.")
    ] = None,
    side: Annotated[str, typer.Option(metavar="SIDE", help="Of the stand-in: validation or test.")] = "test",
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first so many persons of each set.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Cases at a time.")] = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Table 4: every published method, and ours on a stand-in and on the official test sets that are there.

    Cases of persons from whom a model learned are left out; an interrupted run goes on. About 10 s a case.
    """
    from calvaria.benchmarks import comparison
    from calvaria.benchmarks.comparison_table import table4 as lines_of
    from calvaria.models.registry import SHAPE_PRIOR

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_writable_file(output)
    sets = [comparison.stand_in(data, side, limit)] if data is not None else []
    for label, folder in ((comparison.SKULLBREAK, skullbreak), (comparison.SKULLFIX, skullfix)):
        if folder is not None:
            sets.append(comparison.official(label, folder, limit))
    if not sets:
        raise InputError("nothing to run: give --data FOLDER, --skullbreak FOLDER or --skullfix FOLDER")
    methods = [comparison.method_of(name) for name in dict.fromkeys(model or [SHAPE_PRIOR])]
    output.parent.mkdir(parents=True, exist_ok=True)
    outcomes = comparison.run(sets, methods, output, duplicates=duplicates, jobs=jobs, tell=screen.say)
    for line in lines_of(outcomes):
        screen.say(line)
    _say_what_is_missing(sets, outcomes, screen)
    if skullbreak is not None and duplicates is None:
        command = comparison.duplicates_command(skullbreak, skullfix or data)
        screen.warn(
            "nobody has looked which persons of SkullBreak are among those that a model learned from (one at least is "
            f"in both sets): {command}, then --duplicates duplicates.json"
        )
    screen.json(
        {
            "rows": [asdict(row) for outcome in outcomes for row in outcome.rows],
            "left_out": {outcome.method.key: outcome.left_out for outcome in outcomes},
            "without_truth": [case.id for one in sets for case in one.hidden],
        }
    )
    failed = [f"{row.case} {row.kind}" for outcome in outcomes for row in outcome.rows if row.error]
    if failed:
        ran = sum(len(outcome.rows) for outcome in outcomes)
        screen.error(f"{len(failed)} of {ran} cases failed: {', '.join(failed)}")
        raise typer.Exit(2)


def _say_what_is_missing(sets: list[CaseSet], outcomes: list[Outcome], screen: Screen) -> None:
    """One line for what was left out of each method, and for each set whose truth is not there."""
    from calvaria.benchmarks.comparison import reconstruct_commands

    for outcome in outcomes:
        if outcome.left_out:
            screen.warn(
                f"{outcome.method.name}: {len(outcome.left_out)} cases are left out, it learned from their persons: "
                f"{_some(outcome.left_out)}"
            )
    for one in sets:
        if one.hidden:
            screen.warn(
                f"{one.label}: {len(one.hidden)} of its test cases have no truth here and cannot be scored; their "
                f"patches, to be handed in: {'; '.join(reconstruct_commands(one.hidden))}"
            )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


__all__ = ["EXAMPLES", "table4"]
