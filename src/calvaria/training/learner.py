"""A reconstruction network in training: one step, one look at validation cases, and what may go on later.

Lightning runs the loop. A state is exact: case n depends on the seed and on n alone, so that a training which goes on
after step 300 sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from calvaria.errors import InputError
from calvaria.reconstruction.networks.zoo import make_network
from calvaria.symmetry.training_term import SymmetryTerm
from calvaria.synthesis.batched.batches import batches
from calvaria.training.objectives import cross_entropy, overlap_loss
from calvaria.training.source import Batch, Source
from calvaria.volume.grid import Grid

if TYPE_CHECKING:
    from calvaria.training.reconstruction import Recipe


DRAWN = 3
"""So many validation cases are kept to be drawn."""


MAX_SKIPPED = 10
"""A training whose slopes were no numbers for so many steps in a row has failed."""


class NotFiniteError(InputError):
    """The loss, or its slopes, are no numbers any more."""


class Stream(IterableDataset[Batch]):
    """Batches from a given one on; of several processes each gets its own.

    It tells no length: Lightning, going on in the middle of an epoch, would count the batches before as well.

    Args:
        source: makes the batches.
        recipe: how many cases there are in a batch, and how many batches.
        first: the number of the first batch.
        process: which process this is.
        processes: how many there are.
    """

    def __init__(self, source: Source, recipe: Recipe, first: int, *, process: int = 0, processes: int = 1) -> None:
        self.source, self.recipe = source, recipe
        self.first, self.every, self.count = first * processes + process, processes, max(0, recipe.steps - first)

    def __iter__(self) -> Iterator[Batch]:
        yield from batches(self.source, self.recipe.batch, self.count, first=self.first, every=self.every)


class Learner(pl.LightningModule):
    """A network, its losses and its optimiser.

    Args:
        recipe: what is made.
        grid: the training grid.
        source: of the training cases.
        watched: the validation cases, always the same.
        symmetry: the further term of the loss; needed where alpha is above 0.
    """

    def __init__(
        self, recipe: Recipe, grid: Grid, source: Source, watched: list[Batch], symmetry: SymmetryTerm | None
    ) -> None:
        super().__init__()
        self.recipe, self.grid, self.source, self.watched = recipe, grid, source, watched
        self.looked_at: list[Tensor] = []
        torch.manual_seed(recipe.seed)
        self.network = make_network(recipe.network, grid.shape, size=recipe.size, channels=recipe.channels)
        self._symmetry = [symmetry]  # in a list: it is frozen, and no part of the state
        self.skipped, self._in_a_row = 0, 0

    def losses(self, batch: Batch, logits: Tensor) -> dict[str, Tensor]:
        """Each term's mean over the batch, and under "loss" what is learned from."""
        recipe, terms = self.recipe, {}
        terms["overlap"] = overlap_loss(logits, batch["truth"], batch["weight"]).mean()
        total = terms["overlap"]
        if recipe.cross_entropy:
            terms["cross_entropy"] = cross_entropy(logits, batch["truth"], batch["weight"]).mean()
            total = total + recipe.cross_entropy * terms["cross_entropy"]
        alpha, term = self.alpha, self._symmetry[0]
        if alpha and term is not None:
            terms["symmetry"] = term(batch["seen"][:, :1], logits.float()).mean()
            total = total + alpha * terms["symmetry"]
        return {**terms, "loss": total}

    @property
    def alpha(self) -> float:
        """Weight of the symmetry term at this step."""
        rise = self.recipe.alpha_rise
        return self.recipe.alpha * (min(1.0, self.global_step / rise) if rise else 1.0)

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """The loss of one batch.

        Raises:
            NotFiniteError: it is infinite or no number.
        """
        terms = self.losses(batch, self.network(batch["seen"]))
        if not math.isfinite(float(terms["loss"].detach())):
            raise NotFiniteError(f"step {self.global_step}: the loss is {float(terms['loss'].detach())}")
        for name, value in terms.items():
            self.log(f"train/{name}", value.detach(), prog_bar=name == "loss")
        return terms["loss"]

    def validation_step(self, batch: Batch, number: int) -> None:
        """Losses of one batch of validation cases, and the Dice of the patches at a half."""
        logits = self.network(batch["seen"])
        self.looked_at = [] if number == 0 else self.looked_at
        if len(self.looked_at) < DRAWN:
            self.looked_at.append(torch.sigmoid(logits[0, 0]).float().cpu())
        for name, value in self.losses(batch, logits).items():
            self.log(f"validation/{name}", value, on_epoch=True, sync_dist=True, batch_size=len(logits))
        found, truth = logits > 0, batch["truth"] > 0.5
        both = (found & truth).flatten(1).sum(dim=1)
        dice = 2 * both / (found.flatten(1).sum(dim=1) + truth.flatten(1).sum(dim=1)).clamp(min=1)
        self.log("validation/dsc", dice.mean(), on_epoch=True, sync_dist=True, batch_size=len(logits), prog_bar=True)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the slopes; a step whose slopes are no numbers, as may happen in 16 bits, changes nothing.

        Raises:
            NotFiniteError: too many such steps in a row.
        """
        slopes = [weight.grad for weight in self.network.parameters() if weight.grad is not None]
        if torch.isfinite(torch.nn.utils.get_total_norm(slopes)):
            self._in_a_row = 0
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        self.skipped, self._in_a_row = self.skipped + 1, self._in_a_row + 1
        if self._in_a_row == MAX_SKIPPED:
            raise NotFiniteError(f"step {self.global_step}: the slopes were no numbers {MAX_SKIPPED} times in a row")
        self.zero_grad(set_to_none=True)  # the optimiser passes over weights without slopes

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Steps that were passed over are counted on when a training goes on."""
        checkpoint["skipped"] = self.skipped

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See `on_save_checkpoint`; states of before that have no count."""
        self.skipped = checkpoint.get("skipped", 0)

    def on_fit_start(self) -> None:
        """The symmetry network goes where the network is."""
        if self._symmetry[0] is not None:
            self._symmetry[0].to(self.device)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches from the next step on."""
        here, of = self.trainer.global_rank, self.trainer.world_size
        stream = Stream(self.source, self.recipe, self.trainer.global_step, process=here, processes=of)
        return DataLoader(stream, batch_size=None)

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation cases; of several processes each looks at its share."""
        return DataLoader(self.watched[self.trainer.global_rank :: self.trainer.world_size], batch_size=None)  # type: ignore[arg-type]

    def configure_optimizers(self) -> Any:
        """AdamW; its rate rises in a line and falls in a half cosine."""
        recipe = self.recipe
        optimiser = torch.optim.AdamW(self.network.parameters(), lr=recipe.rate, weight_decay=recipe.decay)

        def share(step: int) -> float:
            if step < recipe.warmup:
                return (step + 1) / recipe.warmup
            done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
            return max(0.5 * (1 + math.cos(math.pi * min(done, 1.0))), 1e-3)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, share)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


__all__ = ["Learner", "NotFiniteError", "Stream"]
