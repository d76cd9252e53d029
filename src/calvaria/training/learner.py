"""A network in training: one step, one validation, and what may go on later.

Lightning runs the loop (:mod:`calvaria.training.loop`). A state is exact: case n depends on the seed and on n alone, so
that a training which goes on after step 300 sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_avg_fn
from torch.utils.data import DataLoader, IterableDataset

from calvaria.errors import InputError
from calvaria.synthesis.batched.batches import Maker, batches
from calvaria.training.recipes.settings import NetworkRecipe, OptimisationSettings
from calvaria.volume.grid import Grid

MAX_SKIPPED = 10
"""A training whose gradients were not finite for so many steps in a row has failed."""


class NotFiniteError(InputError):
    """The loss, or its gradients, are not finite any more."""


class Stream(IterableDataset[Any]):
    """Batches from a given one on; of several processes each gets its own.

    It tells no length: Lightning, going on in the middle of an epoch, would count the batches before as well.

    Args:
        source: makes the batches.
        settings: how many cases there are in a batch, and how many batches.
        first: the number of the first batch.
        process: which process this is.
        processes: how many there are.
    """

    def __init__(
        self, source: Maker[Any], settings: OptimisationSettings, first: int, *, process: int = 0, processes: int = 1
    ) -> None:
        self.source, self.batch = source, settings.batch
        self.first, self.every, self.count = first * processes + process, processes, max(0, settings.steps - first)

    def __iter__(self) -> Iterator[Any]:
        yield from batches(self.source, self.batch, self.count, first=self.first, every=self.every)


class Learner(pl.LightningModule):
    """A network, what it learns from, and its optimiser; what is learned is for the classes below it to say.

    Args:
        recipe: how it is trained.
        network: drawn by the recipe's seed.
        grid: of what it is shown.
        source: of the training cases.
        watched: the validation batches, always the same.
    """

    METRIC: ClassVar[str]
    """What the best validation is the best of, as `validate` calls it."""

    MODE: ClassVar[str]
    """Whether more of it is better, "max", or less, "min"."""

    SHOWN: ClassVar[str] = "loss"
    """Which of the training's terms is told in lines of progress."""

    STRATEGY: ClassVar[str] = "ddp"
    """How Lightning shares the work of several processes."""

    def __init__(
        self, recipe: NetworkRecipe, network: nn.Module, grid: Grid, source: Maker[Any], watched: Sequence[Any]
    ) -> None:
        super().__init__()
        self.settings, self.grid, self.network = recipe.optimisation, grid, network
        self.source, self.watched = source, watched
        self.skipped, self._in_a_row = 0, 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Learner:
        """A copy of the network, for the average, that shares the cases: they are large, and made by threads."""
        memo.update({id(shared): shared for shared in (self.source, self.watched)})
        copy = type(self).__new__(type(self))
        memo[id(self)] = copy
        copy.__setstate__(deepcopy(self.__getstate__(), memo))  # type: ignore[no-untyped-call]
        return copy

    @abstractmethod
    def terms(self, batch: Any) -> dict[str, Tensor]:
        """Each term of the loss of a batch, and under "loss" what is learned from."""

    @abstractmethod
    def validate(self, batch: Any, number: int) -> dict[str, Tensor]:
        """The figures of a validation batch, by name."""

    @abstractmethod
    def verdict(self, figures: Mapping[str, float]) -> str:
        """The figures of a validation, in words."""

    def averaging(self) -> dict[str, Any]:
        """How the weights are averaged: what torch's ``AveragedModel`` takes."""
        return {"avg_fn": get_ema_avg_fn(self.settings.average)}  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Stop whatever makes cases ahead."""

    def training_step(self, batch: Any, number: int) -> Tensor:
        """The loss of one batch.

        Raises:
            NotFiniteError: it is infinite or no number.
        """
        terms = self.terms(batch)
        if not math.isfinite(float(terms["loss"].detach())):
            raise NotFiniteError(f"step {self.global_step}: the loss is {float(terms['loss'].detach())}")
        for name, value in terms.items():
            self.log(f"train/{name}", value.detach(), prog_bar=name == self.SHOWN)
        return terms["loss"]

    def validation_step(self, batch: Any, number: int) -> None:
        """The figures of one validation batch, into the curves."""
        for name, value in self.validate(batch, number).items():
            shown = name == self.METRIC
            self.log(f"validation/{name}", value, on_epoch=True, sync_dist=True, batch_size=1, prog_bar=shown)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients; a step whose gradients are not finite, as may happen in 16 bits, changes nothing.

        Raises:
            NotFiniteError: too many such steps in a row.
        """
        gradients = [weight.grad for weight in self.network.parameters() if weight.grad is not None]
        if torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            self._in_a_row = 0
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        self.skipped, self._in_a_row = self.skipped + 1, self._in_a_row + 1
        if self._in_a_row == MAX_SKIPPED:
            raise NotFiniteError(f"step {self.global_step}: the gradients were not finite {MAX_SKIPPED} times in a row")
        self.zero_grad(set_to_none=True)  # the optimiser passes over weights without gradients

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Steps that were passed over are counted on when a training goes on."""
        checkpoint["skipped"] = self.skipped

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See `on_save_checkpoint`."""
        self.skipped = checkpoint["skipped"]

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches from the next step on."""
        here, of = self.trainer.global_rank, self.trainer.world_size
        stream = Stream(self.source, self.settings, self.trainer.global_step, process=here, processes=of)
        return DataLoader(stream, batch_size=None)

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation batches; of several processes each takes its share."""
        return DataLoader(self.watched[self.trainer.global_rank :: self.trainer.world_size], batch_size=None)  # type: ignore[arg-type]

    def configure_optimizers(self) -> Any:
        """AdamW; its rate rises in a line and falls in a half cosine."""
        settings = self.settings
        optimiser = torch.optim.AdamW(self.network.parameters(), lr=settings.rate, weight_decay=settings.decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_share(step, settings))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def rate_share(step: int, settings: OptimisationSettings) -> float:
    """The learning rate of a step, as a share of the highest: up in a line, down in a half cosine."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return max(0.5 * (1 + math.cos(math.pi * min(done, 1.0))), settings.min_rate_share)


__all__ = ["Learner", "NotFiniteError", "Stream", "rate_share"]
