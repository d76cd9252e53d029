"""``calvaria train sketches``: what the shape prior makes of training cases."""

from __future__ import annotations

import typer

from calvaria.cli.from_dataclass import with_options_of
from calvaria.cli.options import Json, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.cli.train.said import teller
from calvaria.files import require_writable_file
from calvaria.training.recipes.sketches import SketchRecipe

EXAMPLES = """\b
Examples:
  calvaria train sketches --cache coarse.safetensors -o sketches.safetensors --jobs 2
  calvaria train reconstruction --prior sketches.safetensors --cache coarse.safetensors -o runs/runet-prior.safetensors
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


@with_options_of(SketchRecipe)
def sketches(
    context: typer.Context,
    recipe: SketchRecipe,
    *,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Let the shape prior sketch training cases, as a further channel for networks.

    Each by a prior that has not seen the person. About 5 s a case and core; goes on where it was interrupted.
    """
    from calvaria.training.sketches import build_sketches

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_writable_file(recipe.output)
    path, count, validation = build_sketches(recipe, teller(screen)), recipe.count, recipe.validation_cases
    screen.say(f"{path}: {count} training cases, {validation} validation cases; {path.stat().st_size / 1e6:.1f} MB")
    screen.json({"file": str(path), "count": count, "validation_cases": validation})


__all__ = ["EXAMPLES", "sketches"]
