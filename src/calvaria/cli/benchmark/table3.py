"""``calvaria benchmark table3``: symmetry by segmentation against symmetry by registration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from calvaria.cli.options import AutoImplant, Device, Json, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.errors import InputError
from calvaria.files import require_writable_file
from calvaria.training.recipes.settings import WORK

if TYPE_CHECKING:
    from calvaria.benchmarks.networks import Model

EXAMPLES = """\b
Examples:
  calvaria benchmark table3 --data autoimplant2020 -o table3.csv --jobs 2
  calvaria benchmark table3 --data autoimplant2020 --cache coarse.safetensors -o table3.csv
  calvaria benchmark table3 --data autoimplant2020 -o t.csv --model runs/runet.safetensors --kind official --no-starts
  calvaria benchmark table3 --data autoimplant2020 -o tuning.csv --side validation --limit 4 --kind random_1
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def table3(
    context: typer.Context,
    *,
    data: AutoImplant,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="All figures, .csv; goes on from it.")],
    cache: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A training cache: RUNets that are not there yet are trained, as by table2."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="More models to start from, by name or file; the shape prior always is one."),
    ] = None,
    starts: Annotated[
        bool, typer.Option("--starts/--no-starts", help="Also start from true patches that were made bad on purpose.")
    ] = True,
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Kinds of holes; default: the official, five others and hemicraniectomy."),
    ] = None,
    side: Annotated[Literal["validation", "test"], typer.Option(help="Whose skulls are completed.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first so many persons.")] = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Skulls at a time.")] = 1,
    size: Annotated[str, typer.Option(metavar="SIZE", help="Of the RUNets: small, for a CPU, or full.")] = "small",
    steps: Annotated[int, typer.Option(metavar="N", help="Of their optimiser.")] = 1000,
    batch: Annotated[int, typer.Option(metavar="N", help="Cases a step.")] = 2,
    coarsen: Annotated[int, typer.Option(metavar="N", help="Cache voxels along a training voxel.")] = 2,
    alpha: Annotated[float, typer.Option(metavar="A", help="Weight of the symmetry loss in Seg-SN.")] = 1.0,
    prior: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Train them with the shape prior's sketches too, from train sketches."),
    ] = None,
    window: Annotated[str, typer.Option(metavar="WINDOW", help="skull, calvaria or patch.")] = "calvaria",
    precision: Annotated[str, typer.Option(metavar="NAME", help="32-true or bf16-mixed, as by table2.")] = "32-true",
    work: Annotated[Path, typer.Option(metavar="FOLDER", help="For states and weights.")] = WORK,
    device: Annotated[Device, typer.Option(help="Where networks are trained.")] = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Table 3: RUNet without and with the symmetry loss, the shape prior, and bad starts, each as it is and refined.

    Refined by symmetry alone as published (Reg-SN), and by all that the program uses. Published figures stand beside;
    an interrupted run goes on. After a change of the refinement itself, name another file.
    """
    from calvaria.benchmarks import refining
    from calvaria.benchmarks.cases import tasks_of
    from calvaria.benchmarks.refining_table import table3 as lines_of

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_writable_file(output)
    tasks = tasks_of(data, side, tuple(dict.fromkeys(kind or refining.KINDS)), limit)
    named = [refining.model_of(name) for name in (refining.PRIOR, *(model or ()))]
    if cache is None and prior is not None:
        raise InputError(
            "--prior: sketches are for training the RUNets; give the training cache too, with --cache FILE"
        )
    trained: list[Model] = []
    if cache is not None:
        shared = {"size": size, "steps": steps, "batch": batch, "coarsen": coarsen, "window": window, "prior": prior}
        recipe = {**shared, "cache": cache, "work": work, "precision": precision}
        trained = _runets(recipe, alpha, device, screen.say)
    models = {one.name: one for one in (named[0], *trained, *named[1:])}
    found = [*models.values(), *(refining.bad_starts() if starts else ())]
    rows = refining.run(tasks, found, output, jobs=jobs, tell=screen.say)
    for line in lines_of(rows):
        screen.say(line)
    screen.json([asdict(row) for row in rows])
    failed = [row for row in rows if row.error]
    if failed:
        cases = dict.fromkeys(f"{row.case} {row.kind}" for row in failed)
        screen.error(f"{len(failed)} of {len(rows)} patches failed, of {', '.join(cases)}")
        raise typer.Exit(2)


def _runets(recipe: dict[str, Any], alpha: float, device: Device, say: Callable[[str], None]) -> list[Model]:
    """The RUNets of a recipe, without and with the symmetry loss; the same weights as those of table2."""
    from calvaria.benchmarks.networks import train_all
    from calvaria.training.loop import device_of
    from calvaria.training.recipes.fields import made
    from calvaria.training.recipes.reconstruction import ReconstructionRecipe

    work: Path = recipe["work"]
    where = {"output": work / "weights" / "runet.safetensors", "kept_cases": work / "cases"}
    return train_all(
        made(ReconstructionRecipe, **recipe, **where), ["runet"], (0.0, alpha), say, device=device_of(device)
    )


__all__ = ["EXAMPLES", "table3"]
