"""The loop in which every network is trained: to the end or for some minutes, and on from where it stopped.

A training goes on where it stopped, on the same curve: the state on disk holds the weights, their average, the
optimiser and the schedule, and cases are drawn by their number.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor

from calvaria.errors import InputError
from calvaria.files import atomic_path
from calvaria.jobs import Progress, unheard
from calvaria.training.learner import Learner
from calvaria.training.recipes.settings import NetworkRecipe
from calvaria.training.watching import BEST, LAST, Figures, TimeOver, callbacks_of, stopped_state

DONE = "done.json"
"""In the folder of a training that is done."""

TOLD = "recipe.json"
"""In the folder of every training: its recipe."""


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training has led to.

    Args:
        weights: the averaged weights that are kept, by their name in the network.
        step: after which they were found.
        figures: of their validation, by name.
    """

    weights: dict[str, Tensor]
    step: int
    figures: dict[str, float]

    @property
    def parameters(self) -> int:
        """How many the weights are."""
        return sum(value.numel() for value in self.weights.values())


def fit(
    recipe: NetworkRecipe,
    learner: Learner,
    progress: Progress = unheard,
    *,
    minutes: float | None = None,
    device: str = "cpu",
    devices: int = 1,
    bar: bool = False,
    further: Sequence[pl.Callback] = (),
) -> Trained | None:
    """Train a network, or go on training it.

    Args:
        recipe: what from and where to.
        learner: the network, and what it learns from; closed at the end.
        progress: told a line now and then, with the time left.
        minutes: stop after so many, with the state kept; None: when all steps are done.
        device: "cpu" or "cuda".
        devices: GPUs, or processes on a CPU.
        bar: show a progress bar as well.
        further: what else runs beside it.

    Returns:
        What it led to; None where the time was over before, and in all processes but the first.

    Raises:
        InputError: there are more processes than validation batches; the work folder holds a state of another recipe;
            the memory did not suffice; the loss became no number. In the last two cases the message names the state
            that was kept.
    """
    try:
        if devices > len(learner.watched):
            raise InputError(
                f"{devices} devices share {len(learner.watched)} validation batches, one at least each: "
                "give more --validation-cases or fewer --devices"
            )
        recipe.folder.mkdir(parents=True, exist_ok=True)
        last, done = _state_to_go_on_from(recipe), recipe.folder / DONE
        if not done.exists():
            callbacks = [*callbacks_of(recipe, learner, progress, minutes), *further]
            trainer = _trainer(recipe, callbacks, (device, devices, learner.STRATEGY), bar)
            if not _run(recipe, learner, trainer, last, progress):
                return None
            with atomic_path(done) as part:
                part.write_text(json.dumps({"step": trainer.global_step}) + "\n", encoding="utf-8")
    finally:
        learner.close()
    return _trained(recipe)


def _trainer(recipe: NetworkRecipe, callbacks: list[pl.Callback], where: tuple[str, int, str], bar: bool) -> pl.Trainer:
    """Lightning's loop with the recipe's settings."""
    steps, (device, devices, strategy) = recipe.optimisation.steps, where
    with _without_advice():
        return pl.Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=devices,
            strategy=strategy if devices > 1 else "auto",
            precision=recipe.optimisation.precision,  # type: ignore[arg-type]
            max_steps=steps,
            val_check_interval=min(recipe.validation.interval_steps, steps),
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            gradient_clip_val=recipe.optimisation.clip,
            callbacks=callbacks,
            logger=_logger(recipe.folder),
            log_every_n_steps=10,
            enable_progress_bar=bar,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=recipe.folder,
        )


def _run(recipe: NetworkRecipe, learner: Learner, trainer: pl.Trainer, last: Path | None, progress: Progress) -> bool:
    """Whether the training came to its end, and this is the process that goes on."""
    with _without_advice():
        try:
            trainer.fit(learner, ckpt_path=last, weights_only=True)
        except TimeOver as over:
            if trainer.is_global_zero:
                step, steps = over.args[0], recipe.optimisation.steps
                line = f"the time is over at step {step} of {steps}; the same command goes on from here"
                progress(line, step / steps)
            return False
        except SystemExit:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from None
        except (RuntimeError, InputError) as error:
            raise stopped_state(error, recipe) from error
    return bool(trainer.is_global_zero)


def _state_to_go_on_from(recipe: NetworkRecipe) -> Path | None:
    told, last = recipe.folder / TOLD, recipe.folder / LAST
    if last.exists():
        found = json.loads(told.read_text(encoding="utf-8"))["key"] if told.exists() else None
        if found != recipe.key():
            raise InputError(
                f"{recipe.folder}: trained by another recipe, or by an earlier version; delete it to begin anew, or "
                "name another --work"
            )
        return last
    with atomic_path(told) as part:
        part.write_text(recipe.as_json(), encoding="utf-8")
    return None


def _trained(recipe: NetworkRecipe) -> Trained:
    """The kept state of a training that is done."""
    kept = recipe.folder / (BEST if recipe.validation.keep == "best" else LAST)
    state = torch.load(kept, weights_only=True, map_location="cpu")
    weights = {name.removeprefix("network."): value for name, value in state["state_dict"].items()}
    return Trained(weights, int(state["global_step"]), Figures.of(state))


def _logger(folder: Path) -> Any:
    """TensorBoard's files where it is installed; otherwise a table."""
    try:
        return TensorBoardLogger(folder, name="", version="curves")
    except ModuleNotFoundError:
        return CSVLogger(folder, name="", version="curves")


@contextmanager
def _without_advice() -> Iterator[None]:
    """Without Lightning's advice: on workers and on the GPUs that this machine has or has not."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*")
        try:
            yield
        finally:
            logger.setLevel(level)


def device_of(wanted: str) -> str:
    """The device for a choice of "auto", "cpu" or "cuda".

    Raises:
        InputError: a GPU is asked for and torch sees none.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise InputError("--device cuda: torch sees no GPU here; use --device auto or cpu")
    return "cuda" if wanted != "cpu" and there else "cpu"


__all__ = ["Trained", "device_of", "fit"]
