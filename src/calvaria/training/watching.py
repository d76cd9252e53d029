"""What happens beside a training: lines with the time left, states on disk, the best look, and a word when it fails."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.callbacks.weight_averaging import EMAWeightAveraging

from calvaria.errors import InputError
from calvaria.training.learner import Learner, NotFiniteError
from calvaria.training.pictures import picture_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from calvaria.training.reconstruction import Recipe

WATCHED = "validation/dsc"
"""What the best look is the best of."""

NOTE_STEPS = 50
"""Steps between two lines."""

LAST = "last.ckpt"
"""The state to go on from."""

STOPPED = "stopped.ckpt"
"""The state when a training failed, to be looked at."""


class TimeOver(Exception):  # noqa: N818  # it ends a training, and is no error
    """The time that was given is over; the first argument is the step."""


class Watch(pl.Callback):
    """Says where the training stands, ends it when its time is over, and keeps the best look.

    Args:
        recipe: what is made.
        folder: for states.
        note: told the lines.
        minutes: after which it ends; None: never.
    """

    def __init__(self, recipe: Recipe, folder: Path, note: Callable[[str], None], minutes: float | None = None) -> None:
        self.steps, self.look_steps, patience = recipe.steps, recipe.look_steps, recipe.patience
        self.folder, self.note, self.minutes = folder, note, minutes
        self._best = ModelCheckpoint(folder, "best", monitor=WATCHED, mode="max", enable_version_counter=False)
        self._early = EarlyStopping(WATCHED, mode="max", patience=patience) if patience else None
        self._first, self._began = 0, 0.0

    @property
    def parts(self) -> list[pl.Callback]:
        """What it asks: the best look's keeper, and the end of a training that gets no better."""
        return [self._best, *([self._early] if self._early else [])]

    @property
    def best_dsc(self) -> float:
        """Its mean Dice."""
        return float(self._best.best_model_score) if self._best.best_model_score is not None else math.nan

    def on_train_start(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        """Says from where it goes on."""
        self._first, self._began = trainer.global_step, time.monotonic()
        if self._first and trainer.is_global_zero:
            self.note(f"going on from step {self._first} of {self.steps}")

    def on_train_batch_end(
        self, trainer: pl.Trainer, learner: pl.LightningModule, outputs: Any, batch: Any, number: int
    ) -> None:
        """A line now and then; the end, if the time is over."""
        step, spent = trainer.global_step, time.monotonic() - self._began
        if trainer.is_global_zero and step % NOTE_STEPS == 0 and step < self.steps:
            left = spent / (step - self._first) * (self.steps - step) / 60
            loss = float(trainer.callback_metrics["train/loss"])
            skipped = getattr(learner, "skipped", 0)
            passed = f", {skipped} steps passed over: their slopes were no numbers" if skipped else ""
            self.note(f"step {step} of {self.steps}: loss {loss:.4f}, {left:.0f} min left{passed}")
        # Not before a look that is due: it belongs to the state. Told to stop, Lightning would look once more, and an
        # interrupted training would choose its best from other looks.
        if self.minutes is not None and step % self.look_steps and step < self.steps:
            over = spent > 60 * self.minutes
            if trainer.strategy.reduce_boolean_decision(over, all=False):
                trainer.save_checkpoint(self.folder / LAST)
                raise TimeOver(step)

    def on_validation_end(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        """What the look showed."""
        if trainer.is_global_zero:
            dsc = float(trainer.callback_metrics[WATCHED])
            self.note(f"step {trainer.global_step}: validation DSC {dsc:.4f} on the training grid")

    def on_train_end(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        """Why it ended, where it ended early."""
        if trainer.is_global_zero and self._early is not None and self._early.wait_count >= self._early.patience:
            self.note(f"no better look in {self._early.patience} looks: done at step {trainer.global_step}")

    def on_exception(self, trainer: pl.Trainer, learner: pl.LightningModule, error: BaseException) -> None:
        """The state as it was, where the loss or the memory failed: both do before the weights are touched.

        Of several processes one may fail alone, and would wait for the others for ever: there the last look's is kept.
        """
        if trainer.world_size == 1 and (isinstance(error, NotFiniteError) or out_of_memory(error)):
            trainer.save_checkpoint(self.folder / STOPPED)


class Pictures(pl.Callback):
    """Draws the first validation cases at each look, where the logger takes pictures."""

    def on_validation_end(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        """Slices and surfaces into the curves."""
        writer: Any = getattr(trainer.logger, "experiment", None)
        if not trainer.is_global_zero or not isinstance(learner, Learner) or not hasattr(writer, "add_image"):
            return
        for number, (batch, found) in enumerate(zip(learner.watched, learner.looked_at, strict=False)):
            seen, truth = (batch[name][0, 0].cpu().numpy() for name in ("seen", "truth"))
            picture = picture_of(seen, truth, found.numpy(), learner.grid)
            writer.add_image(f"case {number}", picture, trainer.global_step, dataformats="HWC")


def callbacks_of(
    recipe: Recipe, folder: Path, note: Callable[[str], None], minutes: float | None
) -> tuple[list[pl.Callback], Watch]:
    """Everything that runs beside the training, and the part that is asked afterwards."""
    # After each look, and behind the keeper of the best one, so that its state is among what is kept.
    last = ModelCheckpoint(folder, LAST.removesuffix(".ckpt"), save_top_k=1, enable_version_counter=False)
    watch = Watch(recipe, folder, note, minutes)
    return [EMAWeightAveraging(decay=recipe.average), *watch.parts, watch, Pictures(), last], watch


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the memory did not suffice, of a GPU or of the machine."""
    import torch

    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def stopped_state(error: Exception, recipe: Recipe, folder: Path) -> Exception:
    """The exception that tells the user what to do; the same one if it is no matter of loss or memory."""
    states = [path for path in (folder / STOPPED, folder / LAST) if path.exists()]
    kept = f"kept: {' and '.join(map(str, states))}" if states else "there was no state yet to be kept"
    if isinstance(error, NotFiniteError):
        return InputError(f"{recipe.name}: {error}; try a lower --rate, or --precision 32-true; {kept}")
    if out_of_memory(error):
        return InputError(
            f"{recipe.name}: the memory does not suffice for {recipe.batch} cases a step; try a smaller --batch, "
            f"--size small or a larger --coarsen; {kept}"
        )
    return error


__all__ = ["LAST", "TimeOver", "Watch", "callbacks_of", "out_of_memory", "stopped_state"]
