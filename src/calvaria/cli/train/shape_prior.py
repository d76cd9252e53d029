"""``calvaria train shape-prior``: the statistical shape model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calvaria.cli.models import described
from calvaria.cli.options import WORK, AutoImplant, Jobs, Json, Quiet, Verbose, Work
from calvaria.cli.screen import Screen
from calvaria.files import require_writable_file

EXAMPLES = """\b
Examples:
  calvaria train shape-prior --data autoimplant2020 -o weights/shape-prior.safetensors
  calvaria train shape-prior --data autoimplant2020 --people all -o weights/shape-prior.safetensors
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""


def shape_prior(
    context: typer.Context,
    *,
    data: AutoImplant,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The weights, .safetensors.")],
    work: Work = WORK,
    people: Annotated[str, typer.Option(help="train: the training persons of the split; all: everybody.")] = "train",
    complete: Annotated[
        int | None, typer.Option(metavar="N", help="Only so many of the complete skulls; default: all.")
    ] = None,
    unlabelled: Annotated[
        str, typer.Option(help="Skulls with a hole and no truth: filled, left-out (their holes are), or none of them.")
    ] = "filled",
    jobs: Jobs = 2,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fit the statistical shape model.

    Takes 10 to 20 minutes on 2 cores; goes on where it was interrupted.
    """
    from calvaria.training.shape_prior import Recipe, build

    screen: Screen = context.obj.settle(quiet=quiet, verbose=verbose, as_json=as_json)
    require_writable_file(output)
    info = build(Recipe(data, work, output, people, jobs, complete, unlabelled), screen.say)
    screen.say(f"{info.path}: {info.size_bytes / 1e6:.1f} MB, sha256 {info.sha256}, licence {info.licence}")
    screen.json(described(info))


__all__ = ["EXAMPLES", "shape_prior"]
