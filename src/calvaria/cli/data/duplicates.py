"""``calvaria data duplicates``: who is in a set twice, or in two sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calvaria.cli.data.sets import Folders, SetName, heading
from calvaria.cli.options import Jobs, Json, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.files import require_writable_file

if TYPE_CHECKING:
    from calvaria.datasets.duplicates import Duplicates

EXAMPLES = """\b
Examples:
  calvaria data duplicates autoimplant2020 -o duplicates.json
  calvaria data duplicates skullbreak skullfix -o duplicates.json --jobs 2
  calvaria data split skullbreak skullfix --duplicates duplicates.json -o split.json
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def duplicates(
    context: typer.Context,
    *,
    folders: Folders,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The groups, as JSON.")],
    set_name: SetName = "auto",
    work: Annotated[
        Path, typer.Option(metavar="FOLDER", help="For what is kept: an interrupted search goes on from there.")
    ] = Path("calvaria-work/duplicates"),
    neighbours: Annotated[
        int, typer.Option(min=1, metavar="N", help="Nearest skulls that are laid on each skull.")
    ] = 6,
    jobs: Jobs = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Find skulls that show one person.

    By the rigid overlap of their bone; holes are left out.

    Takes about 5 s a skull; what was found is kept in the work folder. Names in several sets have the set before them.
    """
    from calvaria.datasets.catalog import find_sets, joined
    from calvaria.datasets.duplicates import find_duplicates, skulls_of

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_writable_file(output, parents=False)
    sets = find_sets(folders, set_name)
    for found in sets.values():
        screen.say(heading(found))
    with screen.progress() as progress:
        result = find_duplicates(skulls_of(joined(sets)), work, jobs=jobs, neighbours=neighbours, progress=progress)
    result.save(output)
    _say(result, screen)
    screen.say(str(output))
    if as_json:
        import json

        screen.json(json.loads(result.to_json()))
    for name, problem in result.failed.items():
        screen.error(f"{name}: {problem}")
    if result.failed:
        screen.error(f"{len(result.failed)} skulls could not be compared: {', '.join(result.failed)}")
        raise typer.Exit(2)


def _say(result: Duplicates, screen: Screen) -> None:
    from rich import box
    from rich.table import Table

    shown = [pair for pair in result.pairs if pair.verdict != "other"]
    if shown:
        table = Table(box=box.SIMPLE_HEAD)
        for column in ("skull", "and", "overlap", "compared", "verdict"):
            table.add_column(column, justify="right" if column in ("overlap", "compared") else "left", no_wrap=True)
        for pair in shown:
            verdict = "one person" if pair.verdict == "same" else "look at these"
            mirrored = ", left and right exchanged" if pair.mirrored else ""
            table.add_row(pair.a, pair.b, f"{pair.overlap:.3f}", f"{pair.compared:.0%}", verdict + mirrored)
        screen.show(table)
    others = [pair.overlap for pair in result.pairs if pair.verdict == "other"]
    for number, group in enumerate(result.groups, 1):
        screen.say(f"person {number}: {', '.join(group)}")
    highest = f"; the most alike of the others overlap by {max(others):.3f}" if others else ""
    shared = sum(len(group) for group in result.groups)
    screen.say(
        f"{len(result.skulls)} skulls, {len(result.pairs)} pairs laid on each other: "
        f"{shared} skulls show {len(result.groups)} persons, {len(result.look_at)} pairs are to be looked at{highest}"
    )
