"""``calvaria train shape-prior``: the statistical shape model."""

from __future__ import annotations

import typer

from calvaria.cli.from_dataclass import with_options_of
from calvaria.cli.options import Json, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.cli.train.said import say_model, teller
from calvaria.files import require_writable_file
from calvaria.training.recipes.shape_prior import ShapePriorRecipe

EXAMPLES = """\b
Examples:
  calvaria train shape-prior --data autoimplant2020 -o weights/shape-prior.safetensors
  calvaria train shape-prior --data autoimplant2020 --subjects all -o weights/shape-prior.safetensors
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


@with_options_of(ShapePriorRecipe)
def shape_prior(
    context: typer.Context,
    recipe: ShapePriorRecipe,
    *,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fit the statistical shape model.

    Takes 10 to 20 minutes on 2 cores; goes on where it was interrupted.
    """
    from calvaria.training.shape_prior import build

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_writable_file(recipe.output)
    say_model(screen, build(recipe, teller(screen)))


__all__ = ["EXAMPLES", "shape_prior"]
