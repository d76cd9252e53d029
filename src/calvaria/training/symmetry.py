"""The recipe of the symmetry network: unsupervised, by the symmetry loss alone (Wodzinski et al., section 2.2).

A step: skulls are laid into cubes in random poses, the network answers with planes, and each plane is judged by how
well it mirrors the *complete* skull onto itself, in the window of the calvaria. No plane is ever given. With defects
the network sees a skull with a hole, and the loss the same skull without it.

The state is kept every hundred steps; a run that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calvaria.datasets.cache import SkullCache
from calvaria.datasets.split import load_split
from calvaria.errors import InputError
from calvaria.models import ModelInfo, register, write_arrays
from calvaria.models.registry import LICENCE
from calvaria.symmetry.network import ENCODERS, ResNetSettings, SymmetryNetwork, ViTSettings, planes_of
from calvaria.symmetry.runner import KIND
from calvaria.synthesis.batched.batches import batches
from calvaria.training.samples import SampleMaker, Samples, SampleSettings, losses_of, misses, windows

Note = Callable[[str], None]

KEEP_STEPS = 100
"""Steps between two copies of the state on disk."""

LOOK_STEPS = 500
"""Steps between two looks at the validation persons."""

LOOK_SAMPLES = 48
"""Heads in such a look, the same every time."""

NOTE_STEPS = 50
"""Steps between two lines of progress."""

SMALLEST = 0.01
"""Added to SL before its logarithm is taken."""

LOG_COLUMNS = ("step", "rate", "loss", "validation_loss", "validation_deg", "validation_mm", "seconds")


@dataclass(frozen=True)
class Recipe:
    """What a symmetry network is made from.

    Args:
        cache: the training cache.
        work: folder for what may be resumed.
        output: the weights file to write, in a folder whose index gets the entry.
        encoder: "vit" or "resnet".
        steps: of the optimiser.
        rate: learning rate at its highest.
        decay: weight decay.
        warmup: steps until the rate is at its highest.
        average: share of the averaged weights that stays at each step.
        samples: what is seen.
        device: where it is trained.

    Raises:
        InputError: an unknown encoder, or a number that makes no sense.
    """

    cache: Path
    work: Path
    output: Path
    encoder: str = "vit"
    steps: int = 5000
    rate: float = 4e-4
    decay: float = 0.02
    warmup: int = 200
    average: float = 0.998
    samples: SampleSettings = field(default_factory=SampleSettings)
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.encoder not in ENCODERS:
            raise InputError(f"the encoder is one of {', '.join(ENCODERS)}; got {self.encoder!r}")
        if self.steps < 1 or self.rate <= 0 or not 0 <= self.average < 1:
            raise InputError(f"steps and rate are above 0, average below 1; got {self}")

    @property
    def name(self) -> str:
        """Of the model."""
        return f"symmetry-{self.encoder}" + ("" if self.samples.defects else "-complete")

    def key(self) -> str:
        """Hash of all that decides what is learned: a state of another recipe is not gone on from."""
        told = {k: v for k, v in asdict(self).items() if k not in ("cache", "work", "output", "device")}
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:12]


class Trainer:
    """A network in training, and what it learns from.

    Args:
        recipe: what is made.
        cache: of skulls.

    Raises:
        InputError: the cache holds nobody of the split's training persons.
    """

    def __init__(self, recipe: Recipe, cache: SkullCache) -> None:
        split, ids = load_split(), [entry.id for entry in cache.entries]
        learned, watched = set(split.train), set(split.validation)
        self.recipe = recipe
        self.train = SampleMaker(recipe.samples, cache, [n for n in ids if n in learned], recipe.device)
        others = [entry.id for entry in cache.entries if entry.id in watched and entry.complete]
        look = replace(recipe.samples, seed=recipe.samples.seed + 1, batch=LOOK_SAMPLES, growing=0)
        self.watched = SampleMaker(look, cache, others, recipe.device).make(range(LOOK_SAMPLES)) if others else None
        torch.manual_seed(recipe.samples.seed)
        self.network = SymmetryNetwork(recipe.encoder).to(recipe.device)
        self.average = torch.optim.swa_utils.AveragedModel(
            self.network,
            multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.average),  # type: ignore[no-untyped-call]
        )
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
        self.points = windows(recipe.device)
        self.step = 0
        self._shown: Generator[Samples] | None = None

    def advance(self) -> Tensor:
        """One step of the optimiser; (B,) losses at the finest scale."""
        recipe = self.recipe
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.step, recipe)
        if self._shown is None:
            self._shown = batches(self.train, recipe.samples.batch, recipe.steps - self.step, first=self.step)
        samples = next(self._shown)
        losses = losses_of(planes_of(self.network(samples.cubes)), samples, self.train.grids, self.points)
        of_head = torch.tensor(samples.weights, device=losses.device) @ losses
        self.optimiser.zero_grad()
        # The least SL of a head is 0.02 to 0.05, that of a head whose plane is missed 0.5. Of the sum, the few that are
        # missed would be all that counts; the logarithm has the same least plane, and each head's last degree counts.
        torch.log(of_head + SMALLEST).mean().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.average.update_parameters(self.network)
        self.step += 1
        return losses[0].detach()

    def close(self) -> None:
        """Stop making samples ahead."""
        if self._shown is not None:
            self._shown.close()
        self.train.close()

    @torch.no_grad()
    def look(self) -> tuple[float, float, float]:
        """Mean SL, median degrees and median mm of the averaged network on the validation persons; NaN without any."""
        if self.watched is None:
            return math.nan, math.nan, math.nan
        self.average.eval()
        planes = torch.cat([planes_of(self.average(cube[None])) for cube in self.watched.cubes])
        losses = losses_of(planes, self.watched, self.train.grids, self.points)[0]
        degrees, mm = misses(planes, self.watched.to_cube)
        return float(losses.mean()), float(degrees.median()), float(mm.median())

    def state(self) -> dict[str, Any]:
        """Everything that going on needs."""
        return {
            "key": self.recipe.key(),
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])


def device_of(wanted: str) -> str:
    """The device for a choice of "auto", "cpu" or "cuda".

    Raises:
        InputError: a GPU is asked for and torch sees none.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise InputError("--device cuda: torch sees no GPU here; use --device auto or cpu")
    return "cuda" if wanted != "cpu" and there else "cpu"


def rate_at(step: int, recipe: Recipe) -> float:
    """The learning rate: up in a line, down in a half cosine."""
    if step < recipe.warmup:
        return recipe.rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return max(recipe.rate * 0.5 * (1 + math.cos(math.pi * done)), 1e-6)


def build(recipe: Recipe, note: Note, *, minutes: float | None = None) -> ModelInfo | None:
    """Train the network, or go on training it, and write its weights.

    Args:
        recipe: what from and where to.
        note: told a line now and then, with the time left.
        minutes: stop after so many, with the state kept; None: when all steps are done.

    Returns:
        The model; None where the time was over before.

    Raises:
        InputError: the work folder holds a state of another recipe.
    """
    trainer = Trainer(recipe, SkullCache(recipe.cache))
    recipe.work.mkdir(parents=True, exist_ok=True)
    state_file, log = recipe.work / f"{recipe.name}.pt", recipe.work / f"{recipe.name}.csv"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True, map_location=recipe.device)
        if state["key"] != recipe.key():
            raise InputError(
                f"{state_file}: trained by another recipe; delete it to begin anew, or name another work folder"
            )
        trainer.restore(state)
        note(f"going on from step {trainer.step} of {recipe.steps}")
    try:
        done = _run(trainer, state_file, log, note, minutes)
    finally:
        trainer.close()
    return _write(trainer) if done else None


def _run(trainer: Trainer, state_file: Path, log: Path, note: Note, minutes: float | None) -> bool:
    recipe, first, began, mean = trainer.recipe, trainer.step, time.monotonic(), math.nan
    while trainer.step < recipe.steps:
        loss = float(trainer.advance().mean())
        mean = loss if math.isnan(mean) else 0.98 * mean + 0.02 * loss
        step, last = trainer.step, trainer.step == recipe.steps
        spent = time.monotonic() - began
        if step % LOOK_STEPS == 0 or last:
            seen, degrees, mm = trainer.look()
            note(f"step {step}: validation SL {seen:.4f}, {degrees:.2f} degrees and {mm:.2f} mm from x = 0 (median)")
            _log(log, (step, rate_at(step - 1, recipe), mean, seen, degrees, mm, spent))
        elif step % NOTE_STEPS == 0:
            left = spent / (step - first) * (recipe.steps - step) / 60
            note(f"step {step} of {recipe.steps}: SL {mean:.4f}, {left:.0f} min left")
        over = minutes is not None and spent > 60 * minutes
        if step % KEEP_STEPS == 0 or last or over:
            _keep(trainer.state(), state_file)
        if over and not last:
            note(f"the time is over at step {step} of {recipe.steps}; the same command goes on from here")
            return False
    return True


def _keep(state: dict[str, Any], path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def _log(path: Path, row: tuple[float, ...]) -> None:
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(LOG_COLUMNS)
        writer.writerow([f"{value:.6g}" for value in row])


def _write(trainer: Trainer) -> ModelInfo:
    """The averaged weights, halved in precision, with their card and their entry in the index."""
    recipe = trainer.recipe
    module = trainer.average.module
    weights = {name: value.detach().half().cpu().numpy() for name, value in module.state_dict().items()}
    sizes = asdict(ViTSettings() if recipe.encoder == "vit" else ResNetSettings())
    about = {"encoder": recipe.encoder, "settings": sizes, "recipe": recipe.key(), "steps": trainer.step}
    write_arrays(recipe.output, weights, {"calvaria": json.dumps(about, sort_keys=True)})
    recipe.output.with_suffix(".md").write_text(card_of(trainer), encoding="utf-8")
    return register(recipe.output, recipe.name, KIND, LICENCE)


def card_of(trainer: Trainer) -> str:
    """The model card."""
    recipe, (loss, degrees, mm) = trainer.recipe, trainer.look()
    shown = "skulls with holes (judged on the same skulls without)" if recipe.samples.defects else "complete skulls"
    count = sum(p.numel() for p in trainer.network.parameters())
    poses, option = recipe.samples.poses, "" if recipe.samples.defects else " --complete-only"
    option += "" if recipe.steps == Recipe.steps else f" --steps {recipe.steps}"
    return f"""# {recipe.name}

Finds the mid-sagittal plane of a skull, given as bone. Symmetry network SN of Wodzinski et al. with the encoder
"{recipe.encoder}", {count:,} parameters, stored with 16 bits.

- Input: a cube of 96^3 voxels of 2.5 mm with bone fractions, about the head's centre, and its mirror image.
- Output: three numbers that are a plane (`calvaria.symmetry.frame`).
- Trained without labels, by the symmetry loss in the window of the calvaria, on {shown}.
- From {len(trainer.train.ids)} training skulls of the split of AutoImplant 2020 (SkullFix), {recipe.steps} steps of
  {recipe.samples.batch} heads, turned by up to {poses.most_deg:.0f} degrees, flipped, moved and scaled, never sheared.
- Validation persons in such poses, one look: SL {loss:.4f}, median {degrees:.2f} degrees and {mm:.2f} mm from the plane
  of their complete skulls. Figures on whole scans: docs/symmetry.md.
- Made by: `calvaria train symmetry --encoder {recipe.encoder}{option}` (recipe {recipe.key()}).
- Not for: heads turned by more than 55 degrees against the header's axes; pictures without a calvaria.
- Research software, not a medical device.
- Licence: CC BY-NC-SA 4.0, as the skulls that it learned from (CQ500, via AutoImplant 2020).
"""


__all__ = ["Recipe", "Trainer", "build", "card_of", "device_of", "rate_at"]
