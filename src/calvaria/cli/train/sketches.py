"""``calvaria train sketches``: what the shape prior makes of training cases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calvaria.cli.options import WORK, Jobs, Json, Quiet, TrainingCache, Verbose, Work
from calvaria.cli.screen import Screen
from calvaria.files import require_writable_file

EXAMPLES = """\b
Examples:
  calvaria train sketches --cache coarse.safetensors -o sketches.safetensors --jobs 2
  calvaria train reconstruction --prior sketches.safetensors --cache coarse.safetensors -o runs/runet-prior.safetensors
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def sketches(
    context: typer.Context,
    *,
    cache: TrainingCache,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The sketches, .safetensors.")],
    count: Annotated[int, typer.Option(metavar="N", help="Training cases.")] = 1000,
    coarsen: Annotated[int, typer.Option(metavar="N", help="Cache voxels along a training voxel.")] = 2,
    folds: Annotated[int, typer.Option(metavar="N", help="Of the training persons.")] = 4,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the training that they are for.")] = 0,
    work: Work = WORK,
    jobs: Jobs = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Let the shape prior sketch training cases, as a further channel for networks.

    Each by a prior that has not seen the person. About 5 s a case and core; goes on where it was interrupted.
    """
    from calvaria.training.sketches import SketchRecipe, build_sketches

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_writable_file(output)
    recipe = SketchRecipe(cache, work, output, count, coarsen=coarsen, folds=folds, seed=seed, jobs=jobs)
    path = build_sketches(recipe, screen.say)
    screen.say(
        f"{path}: {count} training cases, {recipe.look_cases} validation cases; {path.stat().st_size / 1e6:.1f} MB"
    )
    screen.json({"file": str(path), "count": count, "look_cases": recipe.look_cases})


__all__ = ["EXAMPLES", "sketches"]
