"""``calvaria train symmetry``: the network that finds the mid-sagittal plane."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from calvaria.cli.models import described
from calvaria.cli.options import WORK, Device, Json, Minutes, Quiet, TrainingCache, Verbose, Work
from calvaria.cli.screen import Screen
from calvaria.files import require_writable_file

EXAMPLES = """\b
Examples:
  calvaria data cache autoimplant2020 -o coarse.safetensors
  calvaria train symmetry --encoder vit --cache coarse.safetensors -o weights/symmetry-vit.safetensors
  calvaria train symmetry --encoder resnet --cache coarse.safetensors -o weights/symmetry-resnet.safetensors
  calvaria train symmetry --complete-only --cache coarse.safetensors -o weights/symmetry-vit-complete.safetensors
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def symmetry(
    context: typer.Context,
    *,
    cache: TrainingCache,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The weights, .safetensors.")],
    encoder: Annotated[str, typer.Option(metavar="NAME", help="vit or resnet.")] = "vit",
    complete_only: Annotated[
        bool, typer.Option("--complete-only", help="Show it complete skulls only, as the paper does.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Of the optimiser; default: the recipe's.")
    ] = None,
    work: Work = WORK,
    minutes: Minutes = None,
    device: Annotated[Device, typer.Option(help="Where it is trained.")] = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a symmetry network, without labels.

    Takes about two hours on a core; goes on where it was interrupted. Needs torch: pip install 'calvaria[train]'.
    """
    from calvaria.training.samples import SampleSettings
    from calvaria.training.symmetry import Recipe, build, device_of

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_writable_file(output)
    samples = SampleSettings(defects=not complete_only)
    recipe = Recipe(cache, work, output, encoder, samples=samples, device=device_of(device))
    info = build(recipe if steps is None else replace(recipe, steps=steps), screen.say, minutes=minutes)
    if info is not None:
        screen.say(f"{info.path}: {info.size_bytes / 1e6:.1f} MB, sha256 {info.sha256}, licence {info.licence}")
        screen.json(described(info))


__all__ = ["EXAMPLES", "symmetry"]
