"""What a training will cost, said before it begins: a few steps are made and timed, and nothing is kept."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from calvaria.training.learner import Learner
from calvaria.training.reconstruction import Recipe, make_learner

STEPS = 3
"""Steps that are timed, after one that is not."""


@dataclass(frozen=True)
class Rehearsal:
    """What a few steps cost.

    Args:
        network: its name and size.
        device: where.
        parameters: that are learned.
        shape: voxels of the training grid.
        spacing_mm: their edge.
        steps: of the whole training.
        batch: cases a step.
        case_s: time to make the cases of a step; they are made beside the step before, as far as there are cores.
        step_s: time of a step.
        look_s: time of a look at the validation cases.
        memory_mb: most that was taken, of the GPU or of the machine.
        minutes: of the whole training, looks included.
    """

    network: str
    device: str
    parameters: int
    shape: tuple[int, int, int]
    spacing_mm: float
    steps: int
    batch: int
    case_s: float
    step_s: float
    look_s: float
    memory_mb: float
    minutes: float

    def lines(self) -> list[str]:
        """The same for people."""
        grid = " x ".join(map(str, self.shape))
        return [
            f"{self.network}: {self.parameters:,} parameters, {grid} voxels of {self.spacing_mm:.1f} mm",
            f"{self.steps} steps of {self.batch} cases on {self.device}; {self.memory_mb:.0f} MB at most",
            f"a step {self.step_s:.2f} s, its cases {self.case_s:.2f} s, a look {self.look_s:.1f} s",
            f"the whole training: about {self.minutes:.0f} min",
        ]

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return asdict(self)


def rehearse(recipe: Recipe, device: str = "cpu") -> Rehearsal:
    """Make a few steps of a training, and say what the whole will cost.

    Raises:
        InputError: as :func:`calvaria.training.reconstruction.build`.
    """
    began = time.perf_counter()
    learner, grid = make_learner(recipe)
    look_cases_s = time.perf_counter() - began
    learner.to(device)
    learner.on_fit_start()
    optimiser = learner.configure_optimizers()["optimizer"]
    case_s = step_s = 0.0
    for number in range(STEPS + 1):
        began = time.perf_counter()
        batch = learner.source.make(range(number * recipe.batch, (number + 1) * recipe.batch)).to(device)
        made = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=recipe.precision == "bf16-mixed"):
            loss = learner.losses(batch, learner.network(batch["seen"]))["loss"]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        float(loss.detach())  # waits for the GPU
        if number:
            case_s += (made - began) / STEPS
            step_s += (time.perf_counter() - made) / STEPS
    look_s = _look_s(learner, recipe, device)
    looks = -(-recipe.steps // recipe.look_steps)
    beside = max(step_s, case_s) if device == "cuda" or torch.get_num_threads() > 1 else step_s + case_s
    minutes = (recipe.steps * beside + looks * look_s + look_cases_s) / 60
    parameters = sum(p.numel() for p in learner.network.parameters())
    return Rehearsal(
        f"{recipe.network}, {recipe.size}",
        device,
        parameters,
        grid.shape,
        grid.spacing_mm[0],
        recipe.steps,
        recipe.batch,
        case_s,
        step_s,
        look_s,
        _memory_mb(device),
        minutes,
    )


@torch.no_grad()
def _look_s(learner: Learner, recipe: Recipe, device: str) -> float:
    began = time.perf_counter()
    batch = learner.watched[0].to(device)
    float(learner.losses(batch, learner.network(batch["seen"]))["loss"])
    return (time.perf_counter() - began) * recipe.look_cases


def _memory_mb(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


__all__ = ["Rehearsal", "rehearse"]
