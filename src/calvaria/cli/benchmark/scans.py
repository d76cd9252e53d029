"""``calvaria benchmark scans``: from a scanner's DICOM files to the missing bone, with truth."""

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
  calvaria benchmark scans --data autoimplant2020 -o scans.csv --keep scans
  calvaria benchmark scans --data autoimplant2020 -o scans.csv --ct cranium.nrrd --limit 3
  calvaria benchmark scans --data autoimplant2020 -o thick.csv --variant 5mm --variant 5mm-tilt+18
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""

KINDS = ("parietotemporal", "frontoorbital", "bilateral")
"""Holes that are looked at by default."""


def scans(
    context: typer.Context,
    *,
    data: AutoImplant,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="All figures, .csv; goes on from it.")],
    ct: Annotated[
        Path | None, typer.Option("--ct", metavar="FILE", help="Also a real head CT, into which holes are cut.")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="How heads are scanned; an unknown name lists them all.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help=f"Kinds of holes in masks; default: {', '.join(KINDS)}.")
    ] = None,
    side: Annotated[Literal["validation", "test"], typer.Option(help="Whose skulls.")] = "validation",
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Only the first so many persons.")] = 6,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep the scans there, so that another run is quick; 0.5 GB a head."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Scans at a time.")] = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Scans: the whole way from a scanner's DICOM files, by thickness of slices, gantry tilt and kernel.

    CTs are simulated from skulls with known holes, and holes are cut into a real one. It needs the extra dicom. An
    interrupted run goes on; after a change of the program, name another file.
    """
    from calvaria.benchmarks import scans as benchmark
    from calvaria.benchmarks.cases import tasks_of
    from calvaria.benchmarks.scan_heads import scan_tasks

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_writable_file(output)
    masks = tasks_of(data, side, tuple(dict.fromkeys(kind or KINDS)), limit)
    rows = benchmark.run(scan_tasks(masks, ct, variant or ()), output, keep=keep, jobs=jobs, tell=screen.say)
    for line in benchmark.table(rows):
        screen.say(line)
    screen.json([asdict(row) for row in rows])
    failed = [row for row in rows if row.error]
    if failed:
        cases = ", ".join(f"{row.case} {row.kind} {row.variant}" for row in failed)
        screen.error(f"{len(failed)} of {len(rows)} scans failed: {cases}")
        raise typer.Exit(2)


__all__ = ["EXAMPLES", "scans"]
