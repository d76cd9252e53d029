"""``calvaria train cascade``: patch and implant, coarse and at full resolution."""

from __future__ import annotations

from typing import Annotated

import typer

from calvaria.cli.from_dataclass import with_options_of
from calvaria.cli.options import Device, Json, Minutes, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.cli.train.said import DryRun, say_dry_run, say_model, teller
from calvaria.files import require_writable_file
from calvaria.training.recipes.cascade import CascadeRecipe

EXAMPLES = """\b
Examples:
  calvaria data cache autoimplant2020 -o fine.safetensors --refine 2
  calvaria data simulate-clinical --data autoimplant2020 -o simulated --count 85
  calvaria data import-clinical simulated/cases.csv -o clinical
  calvaria train cascade --cache fine.safetensors --clinical clinical -o runs/cascade.safetensors --dry-run
  calvaria train cascade --cache fine.safetensors --clinical clinical -o runs/cascade.safetensors --prior --doubt
  calvaria train cascade --form cascade-published --cache fine.safetensors --branch patch -o runs/patch.safetensors
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


@with_options_of(CascadeRecipe)
def cascade(
    context: typer.Context,
    recipe: CascadeRecipe,
    *,
    minutes: Minutes = None,
    device: Annotated[Device, typer.Option(help="Where it is trained.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, metavar="N", help="GPUs, or processes on a CPU.")] = 1,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a cascade that gives the patch and the implant.

    Makes its cases first, which takes longer than the training on a CPU; goes on where it was interrupted, on the same
    curve. Needs torch and Lightning: pip install 'calvaria[train]'.
    """
    import sys
    from functools import partial

    from calvaria.training.cascade import build, make_learner
    from calvaria.training.loop import device_of

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    if not dry_run:
        require_writable_file(recipe.output)
    where = device_of(device)
    if dry_run:
        say_dry_run(screen, recipe, partial(make_learner, recipe), where)
        return
    bar = sys.stderr.isatty() and not quiet
    say_model(screen, build(recipe, teller(screen), minutes=minutes, device=where, devices=devices, bar=bar))


__all__ = ["EXAMPLES", "cascade"]
