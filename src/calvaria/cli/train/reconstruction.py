"""``calvaria train reconstruction``: a network that gives the missing bone."""

from __future__ import annotations

import typer

from calvaria.cli.from_dataclass import with_options_of
from calvaria.cli.train.run import Run, train, with_run_options
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
@with_run_options
def reconstruction(context: typer.Context, recipe: ReconstructionRecipe, run: Run) -> None:
    """Train a reconstruction network, with or without the symmetry loss.

    Goes on where it was interrupted, on the same curve. Needs torch and Lightning: pip install 'calvaria[train]'; all
    networks but runet need MONAI as well: pip install 'calvaria[zoo]'.
    """
    from calvaria.training.reconstruction import build, make_learner

    train(context, recipe, run, build, make_learner)


__all__ = ["EXAMPLES", "reconstruction"]
