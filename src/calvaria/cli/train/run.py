"""How networks are trained that need nothing but their recipe: the options, and what is done with them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from calvaria.cli.in_place import Command, fields_as_options, in_place_of
from calvaria.cli.options import Json, Minutes, Quiet, Verbose
from calvaria.cli.screen import Screen
from calvaria.cli.train.said import DryRun, TrainedOn, say_dry_run, say_model, teller
from calvaria.files import require_writable_file
from calvaria.training.recipes.settings import NetworkRecipe

if TYPE_CHECKING:
    from calvaria.models import ModelInfo
    from calvaria.training.learner import Learner

R = TypeVar("R", bound=NetworkRecipe)


@dataclass(frozen=True)
class Run:
    """How a training is run: the options' values."""

    minutes: Minutes = None
    device: TrainedOn = "auto"
    devices: Annotated[int, typer.Option(min=1, metavar="N", help="GPUs, or processes on a CPU.")] = 1
    dry_run: DryRun = False
    as_json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False


def with_run_options(command: Command) -> Command:
    """Give a command the options of a run in place of its parameter ``run``, which becomes a `Run`."""
    return in_place_of("run", fields_as_options(Run), Run)(command)


def train(
    context: typer.Context,
    recipe: R,
    run: Run,
    build: Callable[..., ModelInfo | None],
    make_learner: Callable[[R], Learner],
) -> None:
    """Train a network, or say what its training will cost.

    Args:
        context: of the command.
        recipe: what is trained.
        run: how.
        build: trains by the recipe.
        make_learner: gives the network with its cases.
    """
    from calvaria.training.loop import device_of

    screen: Screen = context.obj.settle(quiet=run.quiet, verbose=run.verbose, as_json=run.as_json)
    if not run.dry_run:
        require_writable_file(recipe.output)
    where = device_of(run.device)
    if run.dry_run:
        say_dry_run(screen, recipe, partial(make_learner, recipe), where)
        return
    bar = sys.stderr.isatty() and not run.quiet
    say_model(screen, build(recipe, teller(screen), minutes=run.minutes, device=where, devices=run.devices, bar=bar))


__all__ = ["Run", "train", "with_run_options"]
