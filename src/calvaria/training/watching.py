"""What happens beside a training: lines with the time left, states on disk, the best state, a word when it fails."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.callbacks.weight_averaging import WeightAveraging

from calvaria.errors import InputError
from calvaria.jobs import Progress
from calvaria.training.learner import Learner, NotFiniteError
from calvaria.training.recipes.settings import NetworkRecipe

NOTE_STEPS = 50
"""Steps between two lines."""

LAST = "last.ckpt"
"""The state to go on from."""

BEST = "best.ckpt"
"""The state of the best validation."""

STOPPED = "stopped.ckpt"
"""The state when a training failed, to be examined."""


class TimeOver(Exception):  # noqa: N818  # it ends a training, and is no error
    """The time that was given is over; the first argument is the step."""


class Watch(pl.Callback):
    """Says where the training stands, keeps its states, and ends it when its time is over.

    Args:
        recipe: what is made.
        learner: what is trained.
        progress: told the lines.
        minutes: after which it ends; None: never.
    """

    def __init__(self, recipe: NetworkRecipe, learner: Learner, progress: Progress, minutes: float | None) -> None:
        self.steps, self.validation, self.folder = recipe.optimisation.steps, recipe.validation, recipe.folder
        self.progress, self.minutes = progress, minutes
        watched, patience = f"validation/{learner.METRIC}", recipe.validation.patience
        self._early = EarlyStopping(watched, mode=learner.MODE, patience=patience) if patience else None
        self._best: ModelCheckpoint | None = None
        if recipe.validation.keep == "best":
            self._best = ModelCheckpoint(
                recipe.folder, Path(BEST).stem, monitor=watched, mode=learner.MODE, enable_version_counter=False
            )
        self._first, self._began = 0, 0.0

    @property
    def parts(self) -> list[pl.Callback]:
        """What it asks: the best state's keeper, and the end of a training that gets no better."""
        return [part for part in (self._best, self._early) if part is not None]

    def on_train_start(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        """Says from where it goes on."""
        self._first, self._began = trainer.global_step, time.monotonic()
        if self._first:
            self._say(trainer, f"going on from step {self._first} of {self.steps}")

    def on_train_batch_end(
        self, trainer: pl.Trainer, learner: pl.LightningModule, outputs: Any, batch: Any, number: int
    ) -> None:
        """A line and a state now and then; the end, if the time is over."""
        step, spent = trainer.global_step, time.monotonic() - self._began
        if step >= self.steps:
            return
        if step % NOTE_STEPS == 0:
            self._note(trainer, learner, step, spent)
        # Not before a validation that is due: it belongs to the state. Told to stop, Lightning would validate once
        # more, and an interrupted training would choose its best from other validations.
        if step % self.validation.interval_steps == 0:
            return
        over = self.minutes is not None and trainer.strategy.reduce_boolean_decision(
            spent > 60 * self.minutes, all=False
        )
        if over or step % self.validation.state_steps == 0:
            trainer.save_checkpoint(self.folder / LAST)
        if over:
            raise TimeOver(step)

    def _note(self, trainer: pl.Trainer, learner: pl.LightningModule, step: int, spent: float) -> None:
        if not isinstance(learner, Learner):
            return
        left = spent / (step - self._first) * (self.steps - step) / 60
        loss = float(trainer.callback_metrics[f"train/{learner.SHOWN}"])
        passed = f", {learner.skipped} steps passed over: their gradients were not finite" if learner.skipped else ""
        line = f"step {step} of {self.steps}: {learner.SHOWN} {loss:.4f}, {left:.0f} min left{passed}"
        self._say(trainer, line)

    def on_validation_end(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        """What the validation showed."""
        if isinstance(learner, Learner):
            self._say(trainer, f"step {trainer.global_step}: {learner.verdict(figures_of(trainer))}")

    def on_train_end(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        """Why it ended, where it ended early."""
        if self._early is not None and self._early.wait_count >= self._early.patience:
            self._say(trainer, f"no better validation in {self._early.patience}: done at step {trainer.global_step}")

    def on_exception(self, trainer: pl.Trainer, learner: pl.LightningModule, error: BaseException) -> None:
        """The state as it was, where the loss or the memory failed: both do before the weights are touched.

        Of several processes one may fail alone, and would wait for the others for ever: there the last state is kept.
        """
        if trainer.world_size == 1 and (isinstance(error, NotFiniteError) or out_of_memory(error)):
            trainer.save_checkpoint(self.folder / STOPPED)

    def _say(self, trainer: pl.Trainer, line: str) -> None:
        if trainer.is_global_zero:
            self.progress(line, trainer.global_step / self.steps)


class Figures(pl.Callback):
    """Puts the figures of a validation into the states that are kept after it."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}

    def on_validation_end(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        """Takes them over."""
        self.figures = figures_of(trainer)

    def state_dict(self) -> dict[str, Any]:
        """For the state on disk."""
        return {"figures": self.figures}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the state on disk."""
        self.figures = state_dict["figures"]

    @staticmethod
    def of(state: Mapping[str, Any]) -> dict[str, float]:
        """The figures in a state."""
        return dict(state["callbacks"][Figures.__qualname__]["figures"])


def figures_of(trainer: pl.Trainer) -> dict[str, float]:
    """The figures of the validation that has just ended, by name."""
    found = trainer.callback_metrics.items()
    return {name.partition("/")[2]: float(value) for name, value in found if name.startswith("validation/")}


def callbacks_of(
    recipe: NetworkRecipe, learner: Learner, progress: Progress, minutes: float | None
) -> list[pl.Callback]:
    """Everything that runs beside every training."""
    # After each validation, and behind the keeper of the best state, so that its state is among what is kept.
    last = ModelCheckpoint(recipe.folder, Path(LAST).stem, save_top_k=1, enable_version_counter=False)
    watch = Watch(recipe, learner, progress, minutes)
    return [WeightAveraging(**learner.averaging()), *watch.parts, Figures(), watch, last]


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the memory did not suffice, of a GPU or of the machine."""
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def stopped_state(error: Exception, recipe: NetworkRecipe) -> Exception:
    """The exception that tells the user what to do; the same one if it is no matter of loss or memory."""
    states = [path for path in (recipe.folder / STOPPED, recipe.folder / LAST) if path.exists()]
    kept = f"kept: {' and '.join(map(str, states))}" if states else "there was no state yet to be kept"
    if isinstance(error, NotFiniteError):
        return InputError(f"{recipe.name}: {error}; try a lower --rate, or --precision 32-true; {kept}")
    if out_of_memory(error):
        batch = recipe.optimisation.batch
        return InputError(
            f"{recipe.name}: the memory does not suffice for {batch} cases a step; try {recipe.lighter}; {kept}"
        )
    return error


__all__ = ["BEST", "LAST", "STOPPED", "Figures", "TimeOver", "Watch", "callbacks_of", "out_of_memory", "stopped_state"]
