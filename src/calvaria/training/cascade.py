"""The cascade in training: its mini-batches, its losses, and the weights that come of it.

A step on the coarse network's own loss and a step on both networks' take turns (Kodym et al. 2021, section 2.3). Each
head learns from the cases of its own branch; the losses of the branches are added.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from calvaria.datasets.persons import digest_of
from calvaria.jobs import Progress, unheard
from calvaria.models import ModelInfo
from calvaria.reconstruction.networks.cascade import CascadeNet
from calvaria.reconstruction.networks.cascade_engine import CASCADE, CASCADE_STAGES, CascadeSpec, stage_path
from calvaria.reconstruction.networks.forms import BRANCHES
from calvaria.training.cascade_batches import CascadeBatch, CascadeSource, watched_batch
from calvaria.training.cascade_cases import CascadeCases, clinical_sides, prepare
from calvaria.training.learner import Learner
from calvaria.training.loop import Trained, fit
from calvaria.training.objectives import overlap_loss
from calvaria.training.recipes.cascade import CascadeRecipe
from calvaria.training.sketches import TRAIN
from calvaria.training.weights import write_network
from calvaria.volume.grid import Grid


class CascadeLearner(Learner):
    """The cascade and its losses.

    Args:
        recipe: what is made.
        cases: what it learns from.
    """

    METRIC, MODE = "dsc", "max"
    STRATEGY = "ddp_find_unused_parameters_true"  # the fine network has no part in every other step
    network: CascadeNet

    def __init__(self, recipe: CascadeRecipe, cases: CascadeCases) -> None:
        torch.manual_seed(recipe.data.seed)
        source = CascadeSource(cases, recipe.optimisation.batch)
        watched = [watched_batch(cases, number) for number in range(recipe.validation.validation_cases)]
        network = CascadeNet(recipe.form)
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # a CPU convolves it faster
        super().__init__(recipe, network, cases.coarse, source, watched)
        self.zoom = recipe.data.zoom
        self._untrained_steps = 0

    def terms(self, batch: CascadeBatch) -> dict[str, Tensor]:
        """The coarse network's losses at even steps, both networks' at odd ones; under "loss" their sum.

        Behind the prior there is only the fine network.
        """
        step = self._untrained_steps if self._trainer is None else self.global_step
        self._untrained_steps += 1
        return self.losses(batch, fine=step % 2 == 1 or self.network.form.behind)

    def losses(self, batch: CascadeBatch, *, fine: bool) -> dict[str, Tensor]:
        """Each branch's loss at each resolution, a mean over its cases, and under "loss" their sum.

        Args:
            batch: of both branches, or of one.
            fine: the fine network learns too, and through what it is shown the coarse one.
        """
        coarse = self._coarse(batch)
        terms = {}
        if coarse is not None:
            terms = self._each("coarse", coarse, batch["truth"], batch["known"], batch["head"])
        if fine:
            logits = self._refined(batch, coarse)
            truth, known = _share(batch["window_truth"]), _share(batch["window_known"])
            terms |= self._each("fine", logits, truth, known, batch["head"])
        return {**terms, "loss": torch.stack(list(terms.values())).sum()}

    def _coarse(self, batch: CascadeBatch) -> Tensor | None:
        """The coarse network's logits, where there is one."""
        return None if self.network.form.behind else self.network.coarse(batch["maps"])

    def _refined(self, batch: CascadeBatch, coarse: Tensor | None) -> Tensor:
        """The fine answer, from the coarse one's logits or behind the prior."""
        if coarse is None:
            window, depth = _share(batch["window"]), _share(batch["window_depth"])
            return self.network.refine(window, batch["maps"], batch["start"], self.zoom, depth)
        further = batch["maps"][:, -len(self.network.form.further) :] if self.network.form.further else None
        maps = torch.sigmoid(coarse.float())
        # The fine network sees both maps, and teaches the coarse head of the case's own branch alone.
        own = torch.nn.functional.one_hot(batch["head"], len(BRANCHES))[:, :, None, None, None].bool()
        maps = torch.where(own, maps, maps.detach())
        maps = maps if further is None else torch.cat([maps, further], dim=1)
        return self.network.refine(_share(batch["window"]), maps, batch["start"], self.zoom)

    @staticmethod
    def _each(name: str, logits: Tensor, truth: Tensor, known: Tensor, head: Tensor) -> dict[str, Tensor]:
        """The mean loss of each branch that the batch has cases of; a head sees its own alone."""
        terms = {}
        for place, branch in enumerate(BRANCHES):
            own = head == place
            if bool(own.any()):
                answer = logits[own, place : place + 1].float()
                terms[f"{name}_{branch}"] = overlap_loss(answer, truth[own], known[own]).mean()
        return terms

    def validate(self, batch: CascadeBatch, number: int) -> dict[str, Tensor]:
        """Losses of a validation batch, and the Dice of each branch at a half: coarse, and in the window."""
        coarse = self._coarse(batch)
        fine = self._refined(batch, coarse)
        found = self.losses(batch, fine=True)
        fine_dices = []
        for place, branch in enumerate(BRANCHES):
            own = batch["head"] == place
            if not bool(own.any()):
                continue
            if coarse is not None:
                found[f"coarse_{branch}_dsc"] = _dice(coarse[own, place], batch["truth"][own, 0])
            found[f"fine_{branch}_dsc"] = _dice(fine[own, place], _share(batch["window_truth"])[own, 0])
            fine_dices.append(found[f"fine_{branch}_dsc"])
        return {**found, "dsc": torch.stack(fine_dices).mean()}

    def verdict(self, figures: Mapping[str, float]) -> str:
        """The mean Dice of each branch."""
        return f"validation DSC: {'; '.join(_dices(figures, digits=4))}"


def _share(bytes_: Tensor) -> Tensor:
    """255ths as float32."""
    return bytes_.float() / 255


def _dice(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean Dice at a half of (B, X, Y, Z)."""
    found, wanted = logits > 0, truth > 0.5
    both = (found & wanted).flatten(1).sum(dim=1)
    return (2 * both / (found.flatten(1).sum(dim=1) + wanted.flatten(1).sum(dim=1)).clamp(min=1)).mean()


def _dices(figures: Mapping[str, float], digits: int) -> list[str]:
    """The mean Dice of each branch that was validated, by resolution."""
    told = []
    for branch in BRANCHES:
        names = {stage: f"{stage}_{branch}_dsc" for stage in CASCADE_STAGES}
        some = [f"{figures[name]:.{digits}f} {stage}" for stage, name in names.items() if name in figures]
        if some:
            told.append(f"{branch} {', '.join(some)}")
    return told


def make_learner(recipe: CascadeRecipe) -> CascadeLearner:
    """The cascade with its cases, ready to be trained; what is not kept yet is made when it is asked for.

    Raises:
        InputError: as for `CascadeCases`.
    """
    return CascadeLearner(recipe, CascadeCases(recipe))


def build(
    recipe: CascadeRecipe,
    progress: Progress = unheard,
    *,
    minutes: float | None = None,
    device: str = "cpu",
    devices: int = 1,
    bar: bool = False,
) -> ModelInfo | None:
    """Make the cases, train the cascade, or go on with either, and write its weights.

    Args:
        recipe: what from and where to.
        progress: told a line now and then, with the time left.
        minutes: stop training after so many, with the state kept; None: when all steps are done.
        device: "cpu" or "cuda".
        devices: GPUs, or processes on a CPU.
        bar: show a progress bar as well.

    Returns:
        The model; None where the time was over before, and in all processes but the first.

    Raises:
        InputError: as :func:`calvaria.training.loop.fit` and `make_learner`.
    """
    prepare(CascadeCases(recipe), progress)
    learner = make_learner(recipe)
    how = {"minutes": minutes, "device": device, "devices": devices, "bar": bar}
    trained = fit(recipe, learner, progress, **how)  # type: ignore[arg-type]
    return None if trained is None else _write(recipe, learner.grid, trained)


def _write(recipe: CascadeRecipe, grid: Grid, trained: Trained) -> ModelInfo:
    network = CascadeNet(recipe.form)
    branches = tuple(one for one in BRANCHES if recipe.data.branch in {"both", one})
    spec = CascadeSpec(recipe.form, grid, recipe.data.zoom, recipe.data.window, branches)
    about, window = {**spec.told(), "clinical_persons": _persons(recipe)}, (spec.window,) * 3
    shapes = {"coarse": (recipe.form.coarse_channels, *grid.shape), "fine": (recipe.form.fine_channels, *window)}
    parts = [(getattr(network, one), shapes[one], stage_path(recipe.output, one)) for one in recipe.form.stages]
    card = _card(recipe, grid, trained)
    return write_network(recipe, network, trained, kind=CASCADE, spec=about, card=card, parts=parts)


def _persons(recipe: CascadeRecipe) -> list[str]:
    """Digests of the clinical set's persons that it learned from; of patches alone there are none."""
    if recipe.data.clinical is None or recipe.data.branch == "patch":
        return []
    return sorted({digest_of(case.person) for case in clinical_sides(recipe.data.clinical)[TRAIN]})


def _card(recipe: CascadeRecipe, grid: Grid, trained: Trained) -> str:
    form, data, optimisation = recipe.form, recipe.data, recipe.optimisation
    many, figures = trained.parameters, trained.figures
    mirror = {"flip": "the array from left to right", "plane": "about the estimated plane", "none": "not shown"}
    told = [f"mirror image: {mirror[form.mirror]}"]
    told += ["how much the shape prior holds for missing"] * form.prior + ["how far off it expects to be"] * form.doubt
    which = "the cascade of Kodym et al. (2021)"
    if form.behind:
        which = "its fine network alone, which corrects the shape prior's completion"
    learned = {"both": "patches and implants", "patch": "patches alone", "implant": "implants alone"}[data.branch]
    dices = "; ".join(_dices(figures, digits=3))
    by_turns = "" if form.behind else ", coarse and coarse + fine by turns"
    matched = ", rescaled to a population" if data.match else ""
    return f"""# {recipe.name}

Gives patch and implant of a skull in the canonical frame: {which}, {many:,} parameters.

- Coarse grid: {" x ".join(map(str, grid.shape))} voxels of {grid.spacing_mm[0]:.1f} mm; {", ".join(told)}.
  Fine network: windows of {data.window}^3 voxels of {grid.spacing_mm[0] / data.zoom:.2f} mm around the hole.
- Learned: {learned}; {"how much of a voxel is missing" if form.soft else "yes or no"}. Synthetic and official defects
  of the training persons of the split of AutoImplant 2020 (SkullFix){matched};
  implants of the clinical set that was given, of simulated ones those of training persons.
  {optimisation.steps} steps of {optimisation.batch} samples{by_turns}; soft Dice loss.
- Weights: the average at step {trained.step}, the best of the validations on {recipe.validation.validation_cases} cases
  a branch; mean DSC of each: {dices}.
- Made by `calvaria train cascade` (recipe {recipe.key()}).
- Research software, not a medical device.
- Licence: CC BY-NC-SA 4.0, as the skulls that it learned from (CQ500, via AutoImplant 2020).
"""


__all__ = ["CascadeLearner", "build", "make_learner"]
