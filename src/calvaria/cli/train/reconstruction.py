"""``calvaria train reconstruction``: a network that gives the missing bone."""

from __future__ import annotations

from typing import Annotated

import typer

from calvaria.cli.from_dataclass import with_options_of
from calvaria.cli.options import Device, Json, Minutes, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.cli.train.said import DryRun, say_dry_run, say_model, teller
from calvaria.files import require_writable_file
from calvaria.training.recipes.reconstruction import ReconstructionRecipe

EXAMPLES = """\b
Examples:
  calvaria data cache autoimplant2020 -o coarse.safetensors
  calvaria train reconstruction --cache coarse.safetensors -o runs/runet.safetensors --dry-run
  calvaria train reconstruction --network runet --alpha 1 --cache coarse.safetensors -o runs/runet-sym.safetensors
  calvaria train reconstruction --network segresnet --minutes 10 --cache coarse.safetensors -o runs/seg.safetensors
  calvaria train reconstruction --network my_package.nets.MyNet --cache coarse.safetensors -o runs/mine.safetensors
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


@with_options_of(ReconstructionRecipe)
def reconstruction(
    context: typer.Context,
    recipe: ReconstructionRecipe,
    *,
    minutes: Minutes = None,
    device: Annotated[Device, typer.Option(help="Where it is trained.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, metavar="N", help="GPUs, or processes on a CPU.")] = 1,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a reconstruction network, with or without the symmetry loss.

    Goes on where it was interrupted, on the same curve. Needs torch and Lightning: pip install 'calvaria[train]'; all
    networks but runet need MONAI as well: pip install 'calvaria[zoo]'.
    """
    import sys
    from functools import partial

    from calvaria.training.loop import device_of
    from calvaria.training.reconstruction import build, make_learner

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    if not dry_run:
        require_writable_file(recipe.output)
    where = device_of(device)
    if dry_run:
        say_dry_run(screen, recipe, partial(make_learner, recipe), where)
        return
    bar = sys.stderr.isatty() and not quiet
    say_model(screen, build(recipe, teller(screen), minutes=minutes, device=where, devices=devices, bar=bar))


__all__ = ["EXAMPLES", "reconstruction"]
