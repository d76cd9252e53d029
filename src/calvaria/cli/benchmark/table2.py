"""``calvaria benchmark table2``: the reconstruction networks with and without the symmetry loss."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from calvaria.cli.options import AutoImplant, Device, Json, Quiet, TrainingCache, Verbose
from calvaria.cli.screen import Screen
from calvaria.files import require_writable_file
from calvaria.training.recipes.settings import WORK

EXAMPLES = """\b
Examples:
  calvaria benchmark table2 --data autoimplant2020 --cache coarse.safetensors -o table2.csv
  calvaria benchmark table2 --data autoimplant2020 --cache coarse.safetensors -o table2.csv --network runet --steps 600
  calvaria benchmark table2 --data autoimplant2020 --cache fine.safetensors -o table2.csv --size full --device cuda
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def table2(
    context: typer.Context,
    *,
    data: AutoImplant,
    cache: TrainingCache,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="All figures, .csv; goes on from it.")],
    network: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Networks to compare; default: all five.")
    ] = None,
    size: Annotated[str, typer.Option(metavar="SIZE", help="small, for a CPU, or full.")] = "small",
    steps: Annotated[int, typer.Option(metavar="N", help="Of the optimiser, the same for every network.")] = 1000,
    batch: Annotated[int, typer.Option(metavar="N", help="Cases a step.")] = 2,
    coarsen: Annotated[int, typer.Option(metavar="N", help="Cache voxels along a training voxel.")] = 2,
    alpha: Annotated[float, typer.Option(metavar="A", help="Weight of the symmetry loss in the second run.")] = 1.0,
    prior: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Train each with the shape prior's sketches too, from train sketches."),
    ] = None,
    window: Annotated[str, typer.Option(metavar="WINDOW", help="skull, calvaria or patch.")] = "calvaria",
    precision: Annotated[
        str, typer.Option(metavar="NAME", help="32-true, or bf16-mixed: faster on a recent processor.")
    ] = "32-true",
    work: Annotated[Path, typer.Option(metavar="FOLDER", help="For states and weights.")] = WORK,
    side: Annotated[str, typer.Option(metavar="SIDE", help="Whose skulls are completed: validation or test.")] = "test",
    kind: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Kinds of holes; default: the official and five others.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first so many persons.")] = None,
    device: Annotated[Device, typer.Option(help="Where networks are trained.")] = "auto",
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Skulls at a time.")] = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Table 2: does the symmetry loss help? Five networks, each trained with it and without, equal steps, same cases.

    Published figures stand beside, and the shape prior's; an interrupted run goes on.
    """
    from calvaria.benchmarks import networks
    from calvaria.benchmarks.cases import BENCHMARK_KINDS, tasks_of
    from calvaria.models import find
    from calvaria.reconstruction.networks.zoo import ZOO
    from calvaria.training.loop import device_of
    from calvaria.training.recipes.fields import made
    from calvaria.training.recipes.reconstruction import ReconstructionRecipe

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_writable_file(output)
    tasks = tasks_of(data, side, tuple(kind or BENCHMARK_KINDS), limit)
    weights = work / "weights" / "runet.safetensors"  # each network's own name takes its place
    shared = {"size": size, "steps": steps, "batch": batch, "coarsen": coarsen, "window": window, "prior": prior}
    where = {"cache": cache, "work": work, "output": weights, "kept_cases": work / "cases"}
    base = made(ReconstructionRecipe, **where, precision=precision, **shared)
    found = networks.train_all(base, network or list(ZOO), (0.0, alpha), screen.say, device=device_of(device))
    alone = networks.Model(networks.PRIOR, find(networks.PRIOR).sha256[:12], networks.PRIOR)
    rows = networks.run(tasks, [alone, *found], output, jobs=jobs, tell=screen.say)
    for line in networks.table2(rows):
        screen.say(line)
    screen.json([asdict(row) for row in rows])


__all__ = ["EXAMPLES", "table2"]
