"""``calvaria benchmark cascade``: patches and implants of cascades, beside the prior and the parametric implant."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from calvaria.cli.options import Json, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.files import require_writable_file

EXAMPLES = """\b
Examples:
  calvaria data simulate-clinical --data autoimplant2020 -o simulated-test --side test --count 15 --patch-share 1
  calvaria data import-clinical simulated-test/cases.csv -o clinical-test
  calvaria benchmark cascade --clinical clinical-test -o cascade.csv
  calvaria benchmark cascade --clinical clinical-test --data autoimplant2020 -o cascade.csv
    --weights patch=runs/patch.safetensors --weights rescaled=runs/rescaled.safetensors
    --weights implant=runs/implant.safetensors --weights multi-branch=runs/cascade.safetensors --jobs 2
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""

NAMED = 5
"""Cases that a line names; of more it says the number."""


def cascade(
    context: typer.Context,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="All figures, .csv; goes on from it.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER", help="The AutoImplant 2020 (SkullFix) set: official and other holes."),
    ] = None,
    clinical: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Cases with implants, of data import-clinical; persons of other sides are left out."
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="A cascade; called patch, rescaled, implant or multi-branch it stands beside the paper's row.",
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Kinds of holes of --data; default: the official and five others."),
    ] = None,
    side: Annotated[Literal["validation", "test"], typer.Option(help="Whose skulls.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first so many persons.")] = None,
    designs: Annotated[
        bool,
        typer.Option("--designs/--no-designs", help="Also design implants, parametric and learned, and check them."),
    ] = True,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Skulls at a time.")] = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Patches and implants of cascades, beside the shape prior's patch and the implant that parameters make of it.

    By Kodym's measures and tests, his figures beside. Without --weights the shape prior and the parametric implant
    alone. Cases of persons from whom a model learned are left out for it; an interrupted run goes on.
    """
    from calvaria.benchmarks import cascade as benchmark
    from calvaria.benchmarks.cascade_table import table
    from calvaria.benchmarks.cases import BENCHMARK_KINDS

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_writable_file(output)
    cascades = benchmark.methods_of(weights or [])
    kinds = tuple(dict.fromkeys(kind or BENCHMARK_KINDS))
    cases = benchmark.cases_of(data, clinical, side, kinds, limit)
    outcome = benchmark.run(cases.tasks, cascades, output, designs=designs, jobs=jobs, tell=screen.say)
    for line in table(outcome.rows):
        screen.say(line)
    if cases.elsewhere:
        screen.warn(
            f"{len(cases.elsewhere)} clinical cases are left out, their persons are on other sides of the split: "
            f"{_some(cases.elsewhere)}"
        )
    for name, some in outcome.left_out.items():
        screen.warn(f"{name}: {len(some)} cases are left out, it learned from their persons: {_some(some)}")
    told = {"rows": [asdict(row) for row in outcome.rows], "left_out": outcome.left_out, "elsewhere": cases.elsewhere}
    screen.json(told)
    failed = [row for row in outcome.rows if row.error]
    if failed:
        named = ", ".join(dict.fromkeys(f"{row.case} {row.kind} {row.method}" for row in failed))
        screen.error(f"{len(failed)} of {len(outcome.rows)} rows failed, of {named}")
        raise typer.Exit(2)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


__all__ = ["EXAMPLES", "cascade"]
