"""The symmetry network in training: unsupervised, by the symmetry loss alone (Wodzinski et al., section 2.2).

A step: skulls are laid into cubes in random poses, the network answers with planes, and each plane is judged by how
well it mirrors the *complete* skull onto itself, in the window of the calvaria. No plane is ever given. With defects
the network sees a skull with a hole, and the loss the same skull without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from calvaria.datasets.cache import SkullCache
from calvaria.datasets.split import load_split
from calvaria.errors import InputError
from calvaria.files import atomic_path
from calvaria.jobs import Progress, unheard
from calvaria.models import ModelInfo, register, write_arrays
from calvaria.models.registry import LICENCE
from calvaria.symmetry.frame import network_grid
from calvaria.symmetry.network import ResNetSettings, SymmetryNetwork, ViTSettings, planes_of
from calvaria.symmetry.runner import KIND
from calvaria.training.learner import Learner
from calvaria.training.loop import Trained, fit
from calvaria.training.recipes.fields import changed
from calvaria.training.recipes.symmetry import SymmetryRecipe
from calvaria.training.samples import SampleMaker, Samples, losses_of, misses, windows

LOG_OFFSET = 0.01
"""Added to SL before its logarithm is taken."""


class SymmetryLearner(Learner):
    """A symmetry network, and its losses.

    Args:
        recipe: what is made.
        source: of the training heads.
        watched: the validation heads, one batch, always the same.
    """

    METRIC, MODE, SHOWN = "sl", "min", "sl"
    source: SampleMaker
    watched: Sequence[Samples]

    def __init__(self, recipe: SymmetryRecipe, source: SampleMaker, watched: Sequence[Samples]) -> None:
        torch.manual_seed(recipe.samples.seed)
        super().__init__(recipe, SymmetryNetwork(recipe.encoder), network_grid(), source, watched)

    def averaging(self) -> dict[str, Any]:
        """As for other networks, by torch's other formula: the last bits of the weights that ship are its."""
        return {"multi_avg_fn": get_ema_multi_avg_fn(self.settings.average)}  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Stop making heads ahead."""
        self.source.close()

    def terms(self, batch: Samples) -> dict[str, Tensor]:
        """The mean SL at the finest scale, and under "loss" what is learned from."""
        losses = self._losses(planes_of(self.network(batch.cubes)), batch)  # (S, B)
        of_head = torch.tensor(batch.weights, device=losses.device) @ losses
        # The least SL of a head is 0.02 to 0.05, that of a head whose plane is missed 0.5. Of the sum, the few that are
        # missed would be all that counts; the logarithm has the same least plane, and each head's last degree counts.
        return {"sl": losses[0].mean(), "loss": torch.log(of_head + LOG_OFFSET).mean()}

    def _losses(self, planes: Tensor, batch: Samples) -> Tensor:
        return losses_of(planes, batch, self.source.grids, windows(str(planes.device)))

    def validate(self, batch: Samples, number: int) -> dict[str, Tensor]:
        """Mean SL, median degrees and median mm of the planes of the validation heads."""
        planes = torch.cat([planes_of(self.network(cube[None])) for cube in batch.cubes])
        degrees, mm = misses(planes, batch.to_cube)
        return {"sl": self._losses(planes, batch)[0].mean(), "deg": degrees.median(), "mm": mm.median()}

    def verdict(self, figures: Mapping[str, float]) -> str:
        """All three."""
        sl, degrees, mm = (figures[name] for name in ("sl", "deg", "mm"))
        return f"validation SL {sl:.4f}, {degrees:.2f} degrees and {mm:.2f} mm from x = 0 (median)"


def make_learner(recipe: SymmetryRecipe, device: str = "cpu") -> SymmetryLearner:
    """The network with its heads, ready to be trained.

    Raises:
        InputError: the cache holds nobody of the split's training persons, or no complete skull of the validation
            persons.
    """
    cache, split = SkullCache(recipe.cache), load_split()
    train, validation = set(split.train), set(split.validation)
    learned = [entry.id for entry in cache.entries if entry.id in train]
    others = [entry.id for entry in cache.entries if entry.id in validation and entry.complete]
    if not others:
        raise InputError(
            f"{recipe.cache.name}: there is no complete skull of the split's validation persons; make a cache of the "
            "whole set"
        )
    source = SampleMaker(recipe, cache, learned, device)
    count = recipe.validation.validation_cases
    plain = changed(recipe, seed=recipe.samples.seed + 1, batch=count, growing=0)
    watching = SampleMaker(plain, cache, others, device)
    try:
        watched = watching.make(range(count))
    finally:
        watching.close()
    return SymmetryLearner(recipe, source, [watched])


def build(
    recipe: SymmetryRecipe,
    progress: Progress = unheard,
    *,
    minutes: float | None = None,
    device: str = "cpu",
    bar: bool = False,
) -> ModelInfo | None:
    """Train the network, or go on training it, and write its weights.

    Args:
        recipe: what from and where to.
        progress: told a line now and then, with the time left.
        minutes: stop after so many, with the state kept; None: when all steps are done.
        device: "cpu" or "cuda".
        bar: show a progress bar as well.

    Returns:
        The model; None where the time was over before.

    Raises:
        InputError: as :func:`calvaria.training.loop.fit` and `make_learner`.
    """
    earlier = recipe.work / f"{recipe.name}.pt"
    if earlier.exists():
        raise InputError(
            f"{earlier}: the state of an earlier version, which this one cannot go on from; delete it to begin anew, "
            "or name another --work"
        )
    trained = fit(recipe, make_learner(recipe, device), progress, minutes=minutes, device=device, bar=bar)
    return None if trained is None else _write(recipe, trained)


def _write(recipe: SymmetryRecipe, trained: Trained) -> ModelInfo:
    """The averaged weights, halved in precision, with their card and their entry in the index."""
    weights = {name: value.half().numpy() for name, value in trained.weights.items()}
    sizes = asdict(ViTSettings() if recipe.encoder == "vit" else ResNetSettings())
    about = {"encoder": recipe.encoder, "settings": sizes, "recipe": recipe.key(), "steps": trained.step}
    write_arrays(recipe.output, weights, {"calvaria": json.dumps(about, sort_keys=True)})
    with atomic_path(recipe.output.with_suffix(".md")) as part:
        part.write_text(card_of(recipe, trained), encoding="utf-8")
    return register(recipe.output, recipe.name, KIND, LICENCE)


def card_of(recipe: SymmetryRecipe, trained: Trained) -> str:
    """The model card."""
    samples, optimisation, figures = recipe.samples, recipe.optimisation, trained.figures
    shown = "complete skulls" if samples.complete_only else "skulls with holes (judged on the same skulls without)"
    option = " --complete-only" if samples.complete_only else ""
    option += "" if optimisation.steps == SymmetryRecipe.optimisation.steps else f" --steps {optimisation.steps}"
    return f"""# {recipe.name}

Finds the mid-sagittal plane of a skull, given as bone. Symmetry network SN of Wodzinski et al. with the encoder
"{recipe.encoder}", {trained.parameters:,} parameters, stored with 16 bits.

- Input: a cube of 96^3 voxels of 2.5 mm with bone fractions, about the head's centre, and its mirror image.
- Output: three parameters of a plane (`calvaria.symmetry.frame`).
- Trained without labels, by the symmetry loss in the window of the calvaria, on {shown}.
- From training skulls of the split of AutoImplant 2020 (SkullFix), {optimisation.steps} steps of
  {optimisation.batch} heads, turned by up to {samples.poses.most_deg:.0f} degrees, flipped, moved and scaled, never
  sheared.
- Validation persons in such poses, one validation: SL {figures["sl"]:.4f}, median {figures["deg"]:.2f} degrees and
  {figures["mm"]:.2f} mm from the plane of their complete skulls. Figures on whole scans: docs/symmetry.md.
- Made by: `calvaria train symmetry --encoder {recipe.encoder}{option}` (recipe {recipe.key()}).
- Not for: heads turned by more than 55 degrees against the header's axes; pictures without a calvaria.
- Research software, not a medical device.
- Licence: CC BY-NC-SA 4.0, as the skulls that it learned from (CQ500, via AutoImplant 2020).
"""


__all__ = ["SymmetryLearner", "build", "card_of", "make_learner"]
