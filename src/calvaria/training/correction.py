"""Training of the network that corrects the shape prior (`reconstruction.correction`).

1. Training persons' skulls with an official and five synthetic holes each are completed by priors that have not seen
   the person (`training.folds`, `training.completions`).
2. A U-Net learns what is to be added to the completed distances. Loss: the distance's error near either surface, and
   three times one minus the soft Dice of the missing bone.
3. Its weights are written into a copy of the prior's file.

Both steps go on where they were interrupted, on the same curve.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from calvaria.data.cache import SkullCache
from calvaria.errors import InputError
from calvaria.models import ModelInfo, find, load_arrays, register
from calvaria.models.registry import LICENCE, SHAPE_PRIOR, load_about
from calvaria.reconstruction.box import vault
from calvaria.reconstruction.correction import CHANNELS, MOST_MM, PREFIX, SIDE, Completion, channels
from calvaria.reconstruction.layers import GROUPS, SLOPE
from calvaria.reconstruction.shape_model import ShapeModel
from calvaria.reconstruction.shape_prior import REGION_MM, usual_depth
from calvaria.training.completions import HOLES, LENGTHS, training_holes, write_completions
from calvaria.training.folds import FoldPriors
from calvaria.volume.grid import Box

F32 = NDArray[np.float32]
F16 = NDArray[np.float16]
BoolArray = NDArray[np.bool_]
Note = Callable[[str], None]

CROP = 56
"""Voxels along the edge of what the network is shown of a hole in training."""

MOVED = 12
"""A crop's middle lies at most so many voxels from a voxel of missing bone, along each axis."""

NEAR_MM = 0.7
"""How fast an error counts less with its distance to the surfaces."""

EDGE_MM = 0.3
"""Width of the soft Dice's edge."""

NOTE_STEPS, KEEP_STEPS = 100, 500

WARM_UP_STEPS = 300
"""The running average of the weights follows faster for so long."""


@dataclass(frozen=True)
class Recipe:
    """What the correction is made from.

    Args:
        root: folder of the AutoImplant 2020 set.
        cache: the training cache, for the priors of the folds.
        work: folder for what may be resumed.
        output: the prior's file to write, in a folder whose index gets the entry.
        prior: the prior that gets the correction: a name or a file.
        steps: of training.
        rate: highest learning rate.
        width: channels at full resolution.
        kinds: of holes.
        folds: of people.
        seed: of the first weights, the order of cases and the crops.
        jobs: processes that complete holes.

    Raises:
        InputError: a count below 1, fewer than two folds, or a rate that is not positive.
    """

    root: Path
    cache: Path
    work: Path
    output: Path
    prior: str = SHAPE_PRIOR
    steps: int = 10000
    rate: float = 2e-3
    width: int = 12
    kinds: tuple[str, ...] = HOLES
    folds: int = 4
    seed: int = 0
    jobs: int = 1

    def __post_init__(self) -> None:
        if min(self.steps, self.jobs) < 1 or self.folds < 2 or not self.rate > 0:
            raise InputError("steps and jobs are 1 or more, folds 2 or more, the rate is positive")
        if self.width < 1 or self.width % GROUPS:
            raise InputError(f"the width is a multiple of {GROUPS}; got {self.width}")

    def key(self) -> str:
        """Hash of what decides the weights."""
        told = [self.prior, self.steps, self.rate, self.width, self.kinds, self.folds, self.seed]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


class Block(nn.Module):
    """Two convolutions, each normed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.n1 = nn.Conv3d(width, width, 3, padding=1), nn.GroupNorm(GROUPS, width)
        self.two, self.n2 = nn.Conv3d(width, width, 3, padding=1), nn.GroupNorm(GROUPS, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) of the same shape."""
        return _leaky(self.n2(self.two(_leaky(self.n1(self.one(x))))))


class CorrectionNet(nn.Module):
    """The network as it is trained; `reconstruction.correction.Correction` is the same in numpy.

    Args:
        width: channels at full resolution; two, four and six times as many below.
    """

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        w = width
        self.i, self.i2 = nn.Conv3d(CHANNELS, w, 3, padding=1), nn.Conv3d(w, w, 3, padding=1)
        self.d1, self.b = nn.Conv3d(w, 2 * w, 2, stride=2), Block(2 * w)
        self.d2, self.c = nn.Conv3d(2 * w, 4 * w, 2, stride=2), Block(4 * w)
        self.d3, self.e = nn.Conv3d(4 * w, 6 * w, 2, stride=2), Block(6 * w)
        self.u3, self.f = nn.ConvTranspose3d(6 * w, 4 * w, 2, stride=2), Block(4 * w)
        self.u2, self.g = nn.ConvTranspose3d(4 * w, 2 * w, 2, stride=2), Block(2 * w)
        self.u1, self.h = nn.ConvTranspose3d(2 * w, w, 2, stride=2), nn.Conv3d(w, w, 3, padding=1)
        self.o = nn.Conv3d(w, 1, 1)
        # It begins as no correction at all.
        nn.init.zeros_(self.o.weight)
        nn.init.zeros_(self.o.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, `CHANNELS`, X, Y, Z) -> (B, X, Y, Z) mm to be added; edges divide by 8."""
        a = _leaky(self.i2(_leaky(self.i(x))))
        b = self.b(self.d1(a))
        c = self.c(self.d2(b))
        c = self.f(self.u3(self.e(self.d3(c))) + c)
        b = self.g(self.u2(c) + b)
        out: Tensor = MOST_MM * torch.tanh(self.o(_leaky(self.h(self.u1(b) + a))))
        return out[:, 0]


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, SLOPE)


class Shown(NamedTuple):
    """A hole as the network learns from it.

    Args:
        x: (`CHANNELS`, X, Y, Z) what it is shown.
        truth_mm: (X, Y, Z) distances of the complete skull.
        asked: (X, Y, Z) where an answer counts: missing bone may lie there, and none does yet.
    """

    x: F16
    truth_mm: F16
    asked: BoolArray


def read_hole(path: Path, depth: F32) -> Shown:
    """A file of `training.completions`.

    Args:
        path: the file.
        depth: usual depth of bone, on the box grid.
    """
    with np.load(path) as file:
        found = {name: file[name] for name in file.files}
    for name in LENGTHS:
        found[name] = found[name].astype(np.float32) / 100
    i, j, k = (slice(first, first + n) for first, n in zip(found.pop("start"), found["truth_mm"].shape, strict=True))
    box: Box = (i, j, k)
    truth = found.pop("truth_mm")
    part = Completion(**found, depth=depth[box])
    asked = (part.gap_mm <= REGION_MM) & vault()[box] & (part.distance_mm > 0)
    return Shown(channels(part, box).astype(np.float16), np.clip(truth, -6, 6).astype(np.float16), asked)


def crop(hole: Shown, rng: np.random.Generator) -> tuple[F32, F32, BoolArray]:
    """A cube of `CROP` voxels about some missing bone, mirrored every other time."""
    inside = np.flatnonzero(hole.asked.reshape(-1))
    middle = np.array(np.unravel_index(inside[rng.integers(len(inside))], hole.asked.shape))
    first = middle - CROP // 2 + rng.integers(-MOVED, MOVED + 1, 3)
    pads = [(max(0, -s), max(0, s + CROP - n)) for s, n in zip(first, hole.asked.shape, strict=True)]
    part = tuple(slice(max(0, s), s + CROP - after) for s, (_, after) in zip(first, pads, strict=True))
    x = np.pad(hole.x[(slice(None), *part)], [(0, 0), *pads], mode="edge").astype(np.float32)
    truth = np.pad(hole.truth_mm[part], pads, mode="edge").astype(np.float32)
    asked = np.pad(hole.asked[part], pads)
    if rng.random() < 0.5:
        x, truth, asked = x[:, ::-1].copy(), truth[::-1].copy(), asked[::-1].copy()
        x[SIDE] *= -1
    return x, truth, asked


def loss_of(completed: Tensor, truth: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    """Mean error of the distance near either surface, mm, and one minus the soft Dice; all (B, X, Y, Z)."""
    near = asked * torch.exp(-torch.minimum(completed.detach().abs(), truth.abs()) / NEAR_MM)
    error = ((completed.clamp(-3, 3) - truth.clamp(-3, 3)).abs() * near).sum() / near.sum().clamp(min=1)
    ours, true = (torch.sigmoid(-values / EDGE_MM) * asked for values in (completed, truth))
    axes = (1, 2, 3)
    dice = (2 * (ours * true).sum(axes) + 1) / ((ours * ours).sum(axes) + (true * true).sum(axes) + 1)
    return error, 1 - dice.mean()


class Trainer:
    """The network, its optimiser and its running average.

    Args:
        recipe: how it is trained.
        holes: what it learns from.
    """

    def __init__(self, recipe: Recipe, holes: Sequence[Shown]) -> None:
        self.recipe, self.holes, self.step = recipe, holes, 0
        torch.manual_seed(recipe.seed)
        self.network = CorrectionNet(recipe.width).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.optimiser = torch.optim.AdamW(self.network.parameters(), recipe.rate, weight_decay=0.01)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, recipe.rate, total_steps=max(recipe.steps, 21), pct_start=0.05
        )

    def advance(self) -> tuple[float, float]:
        """One step; the two parts of its loss."""
        rng = np.random.default_rng([self.recipe.seed, self.step])
        cut = crop(self.holes[int(rng.integers(len(self.holes)))], rng)
        x, truth, asked = (torch.from_numpy(part)[None] for part in cut)
        with torch.autocast("cpu", torch.bfloat16):
            added = self.network(x.contiguous(memory_format=torch.channels_last_3d))
        error, overlap = loss_of(3 * x[:, 0] + added.float(), truth, asked.float())
        self.optimiser.zero_grad()
        (error + 3 * overlap).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        follow = 0.005 if self.step > WARM_UP_STEPS else 0.05
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value, follow)
        self.step += 1
        return error.item(), overlap.item()

    def state(self) -> dict[str, Any]:
        """All that `resume` needs."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])


def build(recipe: Recipe, note: Note, *, minutes: float | None = None) -> ModelInfo | None:
    """Train the correction and write the prior with it.

    Args:
        recipe: what from and where to.
        note: told a line now and then, with the time left.
        minutes: stop after so long, with the state kept; holes are completed without a limit.

    Returns:
        The written model; None if the time was over before.

    Raises:
        InputError: there is no such prior, or the folder holds no training persons.
    """
    info = find(recipe.prior)
    arrays = load_arrays(info)
    depth = usual_depth(ShapeModel.from_arrays(arrays))
    cases = recipe.work / f"completions-{recipe.folds}"
    cases.mkdir(parents=True, exist_ok=True)
    holes = training_holes(recipe.root, recipe.kinds)
    paths = write_completions(holes, FoldPriors(SkullCache(recipe.cache), cases, recipe.folds), note, jobs=recipe.jobs)
    shown = [hole for hole in (read_hole(path, depth) for path in paths) if hole.asked.any()]
    if not shown:
        raise InputError(f"{recipe.root}: no hole of a training person was completed; nothing to learn from")
    note(f"{len(shown)} of {len(holes)} holes")
    trainer = Trainer(recipe, shown)
    kept = recipe.work / f"correction-{recipe.key()}.pt"
    if kept.exists():
        trainer.resume(torch.load(kept, weights_only=True))
        note(f"going on from step {trainer.step} of {recipe.steps}")
    if not _run(trainer, kept, note, minutes):
        return None
    return _write(trainer, arrays, load_about(info))


def _run(trainer: Trainer, kept: Path, note: Note, minutes: float | None) -> bool:
    recipe, first, began, mean = trainer.recipe, trainer.step, time.monotonic(), np.full(2, math.nan)
    while trainer.step < recipe.steps:
        found = np.array(trainer.advance())
        mean = found if np.isnan(mean).any() else 0.995 * mean + 0.005 * found
        step, spent = trainer.step, time.monotonic() - began
        over = minutes is not None and spent > 60 * minutes
        if step % NOTE_STEPS == 0:
            left = spent / (step - first) * (recipe.steps - step) / 60
            note(f"step {step} of {recipe.steps}: {mean[0]:.4f} mm, soft Dice {1 - mean[1]:.4f}, {left:.0f} min left")
        if step % KEEP_STEPS == 0 or step == recipe.steps or over:
            part = kept.with_suffix(".part")
            torch.save(trainer.state(), part)
            part.replace(kept)
        if over and step < recipe.steps:
            note(f"the time is over at step {step} of {recipe.steps}; the same command goes on from here")
            return False
    return True


def _write(trainer: Trainer, prior: dict[str, NDArray[np.generic]], about: dict[str, str]) -> ModelInfo:
    """The prior's arrays and the correction's, halved in precision."""
    from safetensors.numpy import save_file

    recipe = trainer.recipe
    own = {PREFIX + name: value.half().contiguous().numpy() for name, value in trainer.average.items()}
    rest = {name: array for name, array in prior.items() if not name.startswith(PREFIX)}
    made = {"holes": len(trainer.holes), "steps": trainer.step, "recipe": recipe.key()}
    recipe.output.parent.mkdir(parents=True, exist_ok=True)
    part = recipe.output.with_name(recipe.output.name + ".part")
    save_file({**rest, **own}, part, metadata={**about, "correction": json.dumps(made, sort_keys=True)})
    part.replace(recipe.output)
    return register(recipe.output, recipe.output.stem, "shape-prior", LICENCE)


__all__ = ["CorrectionNet", "Recipe", "Shown", "Trainer", "build", "crop", "loss_of", "read_hole"]
