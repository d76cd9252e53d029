"""Settings that the recipes of all networks share, and the recipe that they extend."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from calvaria.errors import InputError
from calvaria.training.recipes.fields import key_of, learned, require_counts, require_one_of, setting

WORK = Path("calvaria-work")
"""Where what may be resumed lies by default."""

Kept = Literal["best", "last"]
"""Which weights are written: those of the best validation, or those of the last step."""


@dataclass(frozen=True)
class OptimisationSettings:
    """How the weights are found: AdamW, whose rate rises in a line and falls in a half cosine; and their mean.

    Args:
        steps: Steps of the optimiser.
        batch: Cases a step and process.
        rate: Learning rate at its highest.
        min_rate_share: Smallest learning rate at the end, as a share of the highest.
        decay: Weight decay.
        warmup: Steps until the learning rate is at its highest.
        clip: Largest norm of the gradients.
        average: Share of the averaged weights that stays at each step.
        precision: 32-true, or bf16-mixed: faster on a recent processor or GPU.

    Raises:
        InputError: a value out of range.
    """

    steps: int = setting(3000, metavar="N")
    batch: int = setting(2, metavar="N")
    rate: float = setting(1e-3, metavar="R")
    min_rate_share: float = setting(1e-3, metavar="S")
    decay: float = setting(0.01, metavar="D")
    warmup: int = setting(100, metavar="N")
    clip: float = setting(1.0, metavar="NORM")
    average: float = setting(0.99, metavar="S")
    precision: str = setting("32-true", metavar="NAME")

    def __post_init__(self) -> None:
        require_counts(self, "steps", "batch")
        if self.warmup < 0 or self.decay < 0:
            raise InputError(f"warmup and decay are 0 or more; got {self.warmup} and {self.decay}")
        if self.rate <= 0 or self.clip <= 0:
            raise InputError(f"rate and clip are above 0; got {self.rate} and {self.clip}")
        if not 0 <= self.average < 1 or not 0 <= self.min_rate_share <= 1:
            raise InputError(
                f"average lies from 0 to below 1, min_rate_share from 0 to 1; got {self.average} and "
                f"{self.min_rate_share}"
            )


@dataclass(frozen=True)
class ValidationSettings:
    """How a training is watched, and when its state is kept.

    Args:
        interval_steps: Steps between two validations; the last step is validated.
        validation_cases: Validation cases, the same each time.
        patience: Validations without a better one after which training stops; 0: never.
        state_steps: Steps between two states on disk; there is one after each validation besides.
        keep: the weights that are written: "best" or "last".

    Raises:
        InputError: a value out of range.
    """

    interval_steps: int = setting(100, option="--validation-interval", metavar="STEPS")
    validation_cases: int = setting(20, metavar="N")
    patience: int = setting(0, metavar="N")
    state_steps: int = setting(100, option="--state-interval", metavar="STEPS", learned=False)
    keep: Kept = setting("best", option=None)

    def __post_init__(self) -> None:
        require_counts(self, "interval_steps", "validation_cases", "state_steps")
        if self.patience < 0:
            raise InputError(f"patience is 0 or more; got {self.patience}")
        require_one_of("keep", self.keep, get_args(Kept))


@dataclass(frozen=True, kw_only=True)
class NetworkRecipe:
    """What the recipes of all networks have.

    Args:
        cache: A training cache, from `calvaria data cache`.
        output: The weights, .safetensors; the index of their folder gets the entry.
        work: For what may be resumed, curves and pictures.
        optimisation: how the weights are found.
        validation: how the training is watched.

    Raises:
        InputError: steps are no whole number of validation intervals.
    """

    cache: Path = setting(metavar="FILE", learned=False)
    output: Path = setting(option=("-o", "--output"), metavar="FILE", learned=False)
    work: Path = setting(WORK, metavar="FOLDER", learned=False)
    optimisation: OptimisationSettings = OptimisationSettings()
    validation: ValidationSettings = ValidationSettings()

    def __post_init__(self) -> None:
        steps, interval = self.optimisation.steps, self.validation.interval_steps
        if steps > interval and steps % interval:
            below = steps - steps % interval
            raise InputError(
                f"{steps} steps are no whole number of validation intervals of {interval} steps; take {below} or "
                f"{below + interval}"
            )

    @property
    def name(self) -> str:
        """Of the model, and of its files."""
        raise NotImplementedError

    @property
    def described(self) -> str:
        """The network, in words."""
        return self.name

    @property
    def lighter(self) -> str:
        """What to change where the memory does not suffice."""
        return "a smaller --batch"

    @property
    def folder(self) -> Path:
        """Of everything that may be resumed."""
        return self.work / self.name

    def key(self) -> str:
        """Hash of all that decides what is learned: a state of another recipe is not gone on from."""
        return key_of(learned(self))

    def as_json(self) -> str:
        """The whole recipe, with its hash."""
        return json.dumps({"key": self.key(), **asdict(self)}, indent=1, default=str) + "\n"


__all__ = ["WORK", "Kept", "NetworkRecipe", "OptimisationSettings", "ValidationSettings"]
