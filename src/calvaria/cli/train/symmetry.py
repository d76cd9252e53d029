"""``calvaria train symmetry``: the network that finds the mid-sagittal plane."""

from __future__ import annotations

import typer

from calvaria.cli.from_dataclass import with_options_of
from calvaria.cli.options import Json, Minutes, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.cli.train.said import DryRun, TrainedOn, say_dry_run, say_model, teller
from calvaria.files import require_writable_file
from calvaria.training.recipes.symmetry import SymmetryRecipe

EXAMPLES = """\b
Examples:
  calvaria data cache autoimplant2020 -o coarse.safetensors
  calvaria train symmetry --encoder vit --cache coarse.safetensors -o weights/symmetry-vit.safetensors
  calvaria train symmetry --encoder resnet --cache coarse.safetensors -o weights/symmetry-resnet.safetensors
  calvaria train symmetry --complete-only --cache coarse.safetensors -o weights/symmetry-vit-complete.safetensors
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


@with_options_of(SymmetryRecipe)
def symmetry(
    context: typer.Context,
    recipe: SymmetryRecipe,
    *,
    minutes: Minutes = None,
    device: TrainedOn = "auto",
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a symmetry network, without labels.

    Takes about two hours on a core; goes on where it was interrupted, on the same curve. Needs torch and Lightning:
    pip install 'calvaria[train]'.
    """
    import sys
    from functools import partial

    from calvaria.training.loop import device_of
    from calvaria.training.symmetry import build, make_learner

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    where = device_of(device)
    if dry_run:
        say_dry_run(screen, recipe, partial(make_learner, recipe, where), where)
        return
    require_writable_file(recipe.output)
    bar = sys.stderr.isatty() and not quiet
    say_model(screen, build(recipe, teller(screen), minutes=minutes, device=where, bar=bar))


__all__ = ["EXAMPLES", "symmetry"]
