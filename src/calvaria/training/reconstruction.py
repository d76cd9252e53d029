"""Reconstruction networks in training: what one learns from, and the weights that come of it.

The recipe, with what the papers leave open, is :mod:`calvaria.training.recipes.reconstruction`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from calvaria.datasets.cache import SkullCache
from calvaria.deformation.flow import coarser
from calvaria.errors import InputError
from calvaria.jobs import Progress, unheard
from calvaria.models import ModelInfo
from calvaria.reconstruction.networks.engine import KIND
from calvaria.reconstruction.networks.zoo import make_network
from calvaria.symmetry import runner
from calvaria.symmetry.training_term import SymmetryTerm
from calvaria.training.learner import Learner
from calvaria.training.loop import Trained, fit
from calvaria.training.objectives import cross_entropy, overlap_loss, symmetry_term
from calvaria.training.pictures import picture_of
from calvaria.training.recipes.reconstruction import ReconstructionRecipe
from calvaria.training.recipes.sketches import SketchRecipe
from calvaria.training.sketches import TRAIN, VALIDATION, Sketches, case_maker
from calvaria.training.source import Batch, Source, batch_of
from calvaria.training.weights import write_network
from calvaria.volume.grid import Grid

DRAWN = 3
"""So many validation cases are kept to be drawn."""


class ReconstructionLearner(Learner):
    """A reconstruction network, and its losses.

    Args:
        recipe: what is made.
        grid: the training grid.
        source: of the training cases.
        watched: the validation cases, always the same.
        symmetry: the further term of the loss; needed where alpha is above 0.
    """

    METRIC, MODE = "dsc", "max"
    source: Source
    watched: Sequence[Batch]

    def __init__(
        self,
        recipe: ReconstructionRecipe,
        grid: Grid,
        source: Source,
        watched: Sequence[Batch],
        symmetry: SymmetryTerm | None,
    ) -> None:
        torch.manual_seed(recipe.data.seed)
        super().__init__(recipe, network_of(recipe, grid), grid, source, watched)
        self.loss = recipe.loss
        self.drawn: list[Tensor] = []
        self._symmetry = [symmetry]  # in a list: it is frozen, and no part of the state

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """See `losses`."""
        return self.losses(batch, self.network(batch["seen"]))

    def losses(self, batch: Batch, logits: Tensor) -> dict[str, Tensor]:
        """Each term's mean over the batch, and under "loss" what is learned from."""
        terms = {"overlap": overlap_loss(logits, batch["truth"], batch["weight"]).mean()}
        total = terms["overlap"]
        if self.loss.cross_entropy:
            terms["cross_entropy"] = cross_entropy(logits, batch["truth"], batch["weight"]).mean()
            total = total + self.loss.cross_entropy * terms["cross_entropy"]
        alpha, term = self.alpha, self._symmetry[0]
        if alpha and term is not None:
            terms["symmetry"] = term(batch["seen"][:, :1], logits.float()).mean()
            total = total + alpha * terms["symmetry"]
        return {**terms, "loss": total}

    @property
    def alpha(self) -> float:
        """Weight of the symmetry term at this step."""
        rise = self.loss.alpha_rise
        return self.loss.alpha * (min(1.0, self.global_step / rise) if rise else 1.0)

    def validate(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """Losses of one batch of validation cases, and the Dice of the patches at a half."""
        logits = self.network(batch["seen"])
        self.drawn = [] if number == 0 else self.drawn
        if len(self.drawn) < DRAWN:
            self.drawn.append(torch.sigmoid(logits[0, 0]).float().cpu())
        found, truth = logits > 0, batch["truth"] > 0.5
        both = (found & truth).flatten(1).sum(dim=1)
        dice = 2 * both / (found.flatten(1).sum(dim=1) + truth.flatten(1).sum(dim=1)).clamp(min=1)
        return {**self.losses(batch, logits), "dsc": dice.mean()}

    def verdict(self, figures: Mapping[str, float]) -> str:
        """The mean Dice."""
        return f"validation DSC {figures['dsc']:.4f} on the training grid"

    def on_fit_start(self) -> None:
        """The symmetry network goes where the network is."""
        if self._symmetry[0] is not None:
            self._symmetry[0].to(self.device)


class Pictures(pl.Callback):
    """Draws the first validation cases at each validation, where the logger takes pictures."""

    def on_validation_end(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        """Slices and surfaces into the curves."""
        writer: Any = getattr(trainer.logger, "experiment", None)
        if not isinstance(learner, ReconstructionLearner) or not trainer.is_global_zero:
            return
        if not hasattr(writer, "add_image"):
            return
        for number, (batch, found) in enumerate(zip(learner.watched, learner.drawn, strict=False)):
            seen, truth = (batch[name][0, 0].cpu().numpy() for name in ("seen", "truth"))
            picture = picture_of(seen, truth, found.numpy(), learner.grid)
            writer.add_image(f"case {number}", picture, trainer.global_step, dataformats="HWC")


def network_of(recipe: ReconstructionRecipe, grid: Grid) -> torch.nn.Module:
    """The recipe's network, untrained."""
    made = recipe.architecture
    return make_network(made.network, grid.shape, size=made.size, channels=recipe.channels)


def make_learner(recipe: ReconstructionRecipe) -> ReconstructionLearner:
    """The network with its cases, ready to be trained.

    Raises:
        InputError: the cache holds nobody of the split's training persons or no validation person, or its grid does
            not divide.
    """
    cache, data = SkullCache(recipe.cache), recipe.data
    if any(n % data.coarsen for n in cache.grid.shape):
        raise InputError(f"coarsen: the cache's {cache.grid.shape} voxels do not divide by {data.coarsen}")
    grid = coarser(cache.grid, data.coarsen)
    sketches = None if data.prior is None else _sketches(recipe, data.prior, grid)
    maker = case_maker(cache, recipe.cases, TRAIN, data.seed)
    term = None
    if recipe.loss.alpha:
        term = symmetry_term(runner.load_module(recipe.loss.symmetry), grid, recipe.loss.window)
    source = Source(maker, recipe, sketches)
    return ReconstructionLearner(recipe, grid, source, _watched(recipe, cache, sketches), term)


def _sketches(recipe: ReconstructionRecipe, path: Path, grid: Grid) -> Sketches:
    """The file of sketches, if it is of this training's cases."""
    sketches, data, count = Sketches(path), recipe.data, recipe.validation.validation_cases
    wanted = SketchRecipe(cache=recipe.cache, output=path, coarsen=data.coarsen, cases=recipe.cases, seed=data.seed)
    if sketches.key != wanted.key() or sketches.shape != grid.shape:
        raise InputError(f"{path.name}: sketches of other cases (another seed, coarsen or recipe); make them anew")
    if sketches.validation_cases < count:
        raise InputError(f"{path.name}: {sketches.validation_cases} validation cases; the recipe asks for {count}")
    return sketches


def _watched(recipe: ReconstructionRecipe, cache: SkullCache, sketches: Sketches | None) -> list[Batch]:
    """The validation cases: the training's kinds of defects, heads and scans as they are."""
    maker = case_maker(cache, recipe.cases, VALIDATION, recipe.data.seed)
    batches = []
    for number in range(recipe.validation.validation_cases):
        prior = None if sketches is None else sketches.read(VALIDATION, number)[None, None]
        batches.append(batch_of(maker.make([number]), recipe.data.coarsen, prior))
    return batches


def build(
    recipe: ReconstructionRecipe,
    progress: Progress = unheard,
    *,
    minutes: float | None = None,
    device: str = "cpu",
    devices: int = 1,
    bar: bool = False,
) -> ModelInfo | None:
    """Train the network, or go on training it, and write its weights.

    Args:
        recipe: what from and where to.
        progress: told a line now and then, with the time left.
        minutes: stop after so many, with the state kept; None: when all steps are done.
        device: "cpu" or "cuda".
        devices: GPUs, or processes on a CPU.
        bar: show a progress bar as well.

    Returns:
        The model; None where the time was over before, and in all processes but the first.

    Raises:
        InputError: as :func:`calvaria.training.loop.fit` and `make_learner`.
    """
    learner, further = make_learner(recipe), [Pictures()]
    how = {"minutes": minutes, "device": device, "devices": devices, "bar": bar}
    trained = fit(recipe, learner, progress, further=further, **how)  # type: ignore[arg-type]
    return None if trained is None else _write(recipe, learner.grid, trained)


def _write(recipe: ReconstructionRecipe, grid: Grid, trained: Trained) -> ModelInfo:
    network, channels = network_of(recipe, grid), recipe.channels
    about = {
        "network": recipe.architecture.network,
        "size": recipe.architecture.size,
        "channels": channels,
        "shape": list(grid.shape),
        "affine": grid.affine.tolist(),
    }
    parts = [(network, (channels, *grid.shape), recipe.output)]
    card = _card(recipe, grid, trained)
    return write_network(recipe, network, trained, kind=KIND, spec=about, card=card, parts=parts)


def _card(recipe: ReconstructionRecipe, grid: Grid, trained: Trained) -> str:
    made, loss, count = recipe.architecture, recipe.loss, trained.parameters
    symmetric = (
        f"symmetry term alpha {loss.alpha:g} in the window {loss.window!r}, plane by {loss.symmetry}"
        if loss.alpha
        else "no symmetry term"
    )
    further = ", and how much the shape prior holds for missing bone" if recipe.data.prior else ""
    optimisation, watched = recipe.optimisation, recipe.validation.validation_cases
    return f"""# {recipe.name}

Gives the missing bone of a skull in the canonical frame: {made.network}, size {made.size}, {count:,} parameters.

- Input: {" x ".join(map(str, grid.shape))} voxels of {grid.spacing_mm[0]:.1f} mm, how much of each is bone{further}.
  Output: logits of missing bone.
- Trained on synthetic and official defects of the training persons of the split of AutoImplant 2020 (SkullFix).
  {optimisation.steps} steps of {optimisation.batch} cases; soft Dice loss, {symmetric}.
- Weights: the average at step {trained.step}, the best of the validations on {watched} cases: mean DSC
  {trained.figures["dsc"]:.3f} on the training grid. Figures on whole scans: docs/networks.md.
- Made by `calvaria train reconstruction` (recipe {recipe.key()}).
- Research software, not a medical device.
- Licence: CC BY-NC-SA 4.0, as the skulls that it learned from (CQ500, via AutoImplant 2020).
"""


__all__ = ["Pictures", "ReconstructionLearner", "build", "make_learner", "network_of"]
