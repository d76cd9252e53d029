"""``calvaria benchmark table1``: how well symmetry planes are found, and what reflection about them can reach."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from calvaria.cli.options import AutoImplant, Json, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.files import require_writable_file

EXAMPLES = """\b
Examples:
  calvaria benchmark table1 --data autoimplant2020 -o planes.csv --jobs 2
  calvaria benchmark table1 --data autoimplant2020 -o planes.csv --side validation --kind official --limit 3
  calvaria benchmark table1 --data autoimplant2020 -o planes.csv --model runs/symmetry-vit.safetensors
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def table1(
    context: typer.Context,
    *,
    data: AutoImplant,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="All figures, .csv; goes on from it.")],
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A symmetry network, by name or file; default: all.")
    ] = None,
    side: Annotated[
        list[str] | None, typer.Option(metavar="SIDE", help="train, validation or test; default: all three.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Kinds of holes; default: the official and five others.")
    ] = None,
    turns: Annotated[int, typer.Option(min=0, metavar="N", help="Random orientations of each skull.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first so many persons.")] = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Skulls at a time.")] = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Table 1: the symmetry network against the direct optimiser, and what mirroring can reach.

    Published figures stand beside; an interrupted run goes on. About 20 s a skull and hole.
    """
    from calvaria.benchmarks import planes
    from calvaria.benchmarks.cases import BENCHMARK_KINDS
    from calvaria.models import available
    from calvaria.symmetry.runner import KIND, load_network

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_writable_file(output)
    models = model or [found.name for found in available() if found.kind == KIND]
    for name in models:
        load_network(name)  # a network that cannot run is said before hours of work
    tasks = planes.tasks_by_side(data, side or planes.SIDES, kind or BENCHMARK_KINDS, limit)
    rows = planes.run(tasks, output, models, turns, jobs=jobs, tell=screen.say)
    for line in planes.table1(rows):
        screen.say(line)
    for name in side or planes.SIDES:
        for line in ["", *planes.angles_table(rows, name)]:
            screen.say(line)
    screen.json([asdict(row) for row in rows])


__all__ = ["EXAMPLES", "table1"]
