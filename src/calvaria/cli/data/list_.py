"""``calvaria data list``: the sets that can be read, or the cases in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calvaria.cli.data.sets import SetName, described, heading
from calvaria.cli.options import Json, Quiet, Verbose
from calvaria.cli.screen import Screen

EXAMPLES = """\b
Examples:
  calvaria data list
  calvaria data list autoimplant2020
  calvaria data list skulls/ --set skullbreak --json
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def list_(
    context: typer.Context,
    *,
    folder: Annotated[Path | None, typer.Argument(metavar="[FOLDER]", help="List the cases in this folder.")] = None,
    set_name: SetName = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List the public sets, or a folder's cases.

    Each set with its licence and layout.

    Only names are looked at: `calvaria data check` reads the files.
    """
    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    if folder is None:
        _list_sets(screen)
    else:
        _list_cases(folder, set_name, screen)


def _list_sets(screen: Screen) -> None:
    from calvaria.datasets.catalog import DATA_SETS

    for one in DATA_SETS.values():
        screen.say(f"{one.name}: {one.description}")
        screen.say(f"  layout:  {one.layout or 'none that can be read as it comes'}")
        screen.say(f"  from:    {one.source}")
        screen.say(f"  licence: {one.terms}")
        screen.say(f"  cite:    {one.cite}")
    screen.json(
        [
            {**described(one), "layout": one.layout, "from": one.source, "readable": one.reader is not None}
            for one in DATA_SETS.values()
        ]
    )


def _list_cases(folder: Path, set_name: str, screen: Screen) -> None:
    from rich import box
    from rich.table import Table

    from calvaria.datasets.catalog import find_set

    found = find_set(folder, set_name)
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("case", "person", "kind", "files"):
        table.add_column(column, no_wrap=True)
    for case in found.cases:
        table.add_row(case.id, case.person, case.kind, " ".join(case.files))
    screen.show(table)
    screen.say(heading(found))
    cases = [
        {
            "id": case.id,
            "person": case.person,
            "kind": case.kind,
            "files": {role: str(path.relative_to(found.root)) for role, path in case.files.items()},
        }
        for case in found.cases
    ]
    screen.json({**described(found.data_set), "cases": cases})
