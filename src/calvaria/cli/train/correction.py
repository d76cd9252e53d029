"""``calvaria train correction``: the network that corrects the shape prior."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calvaria.cli.models import described
from calvaria.cli.options import WORK, AutoImplant, Json, Minutes, Quiet, TrainingCache, Verbose, Work
from calvaria.cli.screen import Screen

EXAMPLES = """\b
Examples:
  calvaria train correction --data autoimplant2020 --cache coarse.safetensors -o prior.safetensors --jobs 2
  calvaria train correction --data autoimplant2020 --cache coarse.safetensors --prior my/prior.safetensors \\
    -o prior.safetensors
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def correction(
    context: typer.Context,
    *,
    data: AutoImplant,
    cache: TrainingCache,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The prior with its correction.")],
    prior: Annotated[str, typer.Option(metavar="NAME", help="The prior: an installed one, or a file.")] = "shape-prior",
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Of training.")] = 10000,
    seed: Annotated[int, typer.Option(metavar="N", help="Of first weights and order.")] = 0,
    work: Work = WORK,
    minutes: Minutes = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Processes that complete holes.")] = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train the network that corrects the shape prior, and write the prior with it.

    348 holes are completed first, 5 s each; then a step takes 0.2 s of a core. Goes on where it was interrupted.
    """
    from calvaria.training.correction import Recipe, build

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    recipe = Recipe(data, cache, work, output, prior, steps, seed=seed, jobs=jobs)
    info = build(recipe, screen.say, minutes=minutes)
    if info is None:
        screen.json({"file": None})
        return
    screen.say(f"{info.path}: {info.size_bytes / 1e6:.1f} MB, sha256 {info.sha256}, licence {info.licence}")
    screen.json(described(info))


__all__ = ["EXAMPLES", "correction"]
