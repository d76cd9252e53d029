"""``calvaria benchmark implants``: implants of many holes, checked by means of their own."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from calvaria.cli.options import AutoImplant, Json, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.files import require_writable_file

EXAMPLES = """\b
Examples:
  calvaria benchmark implants --data autoimplant2020 -o implants.csv --jobs 2
  calvaria benchmark implants --data autoimplant2020 -o implants.csv --limit 3 --kind hemicraniectomy
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def implants(
    context: typer.Context,
    *,
    data: AutoImplant,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="All figures, .csv; goes on from it.")],
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Kinds of holes; default: the five of SkullBreak and hemicraniectomy."),
    ] = None,
    side: Annotated[Literal["validation", "test"], typer.Option(help="Whose skulls.")] = "validation",
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first so many persons.")] = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Skulls at a time.")] = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Implants: whether each is solid, clear of bone, as thick as asked for, and can be put in.

    By the design's own checks, and by voxels of 0.25 mm and collisions of meshes, which had no part in it. It needs
    python-fcl. An interrupted run goes on; after a change of the design itself, name another file.
    """
    from calvaria.benchmarks import implants as benchmark
    from calvaria.benchmarks.cases import tasks_of
    from calvaria.implant.settings import ImplantSettings

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_writable_file(output)
    tasks = tasks_of(data, side, tuple(dict.fromkeys(kind or benchmark.KINDS)), limit)
    rows = benchmark.run(tasks, ImplantSettings(), output, jobs=jobs, tell=screen.say)
    for line in benchmark.table(rows):
        screen.say(line)
    screen.json([asdict(row) for row in rows])
    failed = [row for row in rows if row.error]
    if failed:
        cases = ", ".join(f"{row.case} {row.kind}" for row in failed)
        screen.error(f"{len(failed)} of {len(rows)} designs failed, of {cases}")
        raise typer.Exit(2)


__all__ = ["EXAMPLES", "implants"]
