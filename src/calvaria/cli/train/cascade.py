"""``calvaria train cascade``: patch and implant, coarse and at full resolution."""

from __future__ import annotations

import typer

from calvaria.cli.from_dataclass import with_options_of
from calvaria.cli.train.run import Run, train, with_run_options
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
@with_run_options
def cascade(context: typer.Context, recipe: CascadeRecipe, run: Run) -> None:
    """Train a cascade that gives the patch and the implant.

    Makes its cases first, which takes longer than the training on a CPU; goes on where it was interrupted, on the same
    curve. Needs torch and Lightning: pip install 'calvaria[train]'.
    """
    from calvaria.training.cascade import build, make_learner

    train(context, recipe, run, build, make_learner)


__all__ = ["EXAMPLES", "cascade"]
