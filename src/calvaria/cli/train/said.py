"""What all trainings say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from calvaria.cli.models import described
from calvaria.cli.options import Device
from calvaria.cli.screen import Screen
from calvaria.jobs import Progress
from calvaria.training.recipes.settings import NetworkRecipe

if TYPE_CHECKING:
    from calvaria.models import ModelInfo
    from calvaria.training.learner import Learner

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say steps, memory and time of the whole, after a few steps.")]

TrainedOn = Annotated[Device, typer.Option("--device", help="Where it is trained.")]


def teller(screen: Screen) -> Progress:
    """Every line of progress on the screen: they are what a training has to say."""
    return lambda line, fraction: screen.say(line)


def say_model(screen: Screen, info: ModelInfo | None) -> None:
    """The model that was made; nothing where the time was over before."""
    if info is not None:
        screen.say(f"{info.path}: {info.size_bytes / 1e6:.1f} MB, sha256 {info.sha256}, licence {info.licence}")
        screen.json(described(info))


def say_dry_run(screen: Screen, recipe: NetworkRecipe, make: Callable[[], Learner], device: str) -> None:
    """What a training will cost."""
    from calvaria.training.dry_run import dry_run

    found = dry_run(recipe, make, device)
    for line in found.lines():
        screen.say(line)
    screen.json(found.as_json())


__all__ = ["DryRun", "TrainedOn", "say_dry_run", "say_model", "teller"]
