"""What a training will cost, said before it begins: a few steps are made and timed, and nothing is kept."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device

from calvaria.training.learner import Learner
from calvaria.training.recipes.settings import NetworkRecipe

STEPS = 3
"""Steps that are timed, after one that is not."""


@dataclass(frozen=True)
class DryRun:
    """What a few steps cost.

    Args:
        network: what is trained.
        device: where.
        parameters: that are learned.
        shape: voxels of what is trained on.
        spacing_mm: their edge.
        steps: of the whole training.
        batch: cases a step.
        case_s: time to make the cases of a step; they are made beside the step before, as far as there are cores.
        step_s: time of a step.
        validation_s: time of a validation.
        memory_mb: most that was taken, of the GPU or of the machine.
        minutes: of the whole training, validations included.
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
    validation_s: float
    memory_mb: float
    minutes: float

    def lines(self) -> list[str]:
        """The same for people."""
        grid = " x ".join(map(str, self.shape))
        return [
            f"{self.network}: {self.parameters:,} parameters, {grid} voxels of {self.spacing_mm:.1f} mm",
            f"{self.steps} steps of {self.batch} cases on {self.device}; {self.memory_mb:.0f} MB at most",
            f"a step {self.step_s:.2f} s, its cases {self.case_s:.2f} s, a validation {self.validation_s:.1f} s",
            f"the whole training: about {self.minutes:.0f} min",
        ]

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return asdict(self)


def dry_run(recipe: NetworkRecipe, make: Callable[[], Learner], device: str = "cpu") -> DryRun:
    """Make a few steps of a training, and say what the whole will cost.

    Args:
        recipe: how it is trained.
        make: makes what is trained, with its validation cases.
        device: "cpu" or "cuda".
    """
    settings, validation = recipe.optimisation, recipe.validation
    began = time.perf_counter()
    learner = make()
    made_s = time.perf_counter() - began
    learner.to(device)
    learner.on_fit_start()
    try:
        case_s, step_s = _steps_s(learner, device)
    finally:
        learner.close()
    validation_s = _validation_s(learner, device)
    beside = max(step_s, case_s) if device == "cuda" or torch.get_num_threads() > 1 else step_s + case_s
    validations = -(-settings.steps // validation.interval_steps)
    return DryRun(
        recipe.described,
        device,
        sum(p.numel() for p in learner.network.parameters()),
        learner.grid.shape,
        learner.grid.spacing_mm[0],
        settings.steps,
        settings.batch,
        case_s,
        step_s,
        validation_s,
        _memory_mb(device),
        (settings.steps * beside + validations * validation_s + made_s) / 60,
    )


def _steps_s(learner: Learner, device: str) -> tuple[float, float]:
    """Seconds to make the cases of a step, and of the step itself."""
    settings, optimiser = learner.settings, learner.configure_optimizers()["optimizer"]
    case_s = step_s = 0.0
    for number in range(STEPS + 1):
        numbers = range(number * settings.batch, (number + 1) * settings.batch)
        learner.source.make(numbers)  # cases that are kept are made once, and shown in many steps
        began = time.perf_counter()
        cases = learner.source.make(numbers)
        batch = move_data_to_device(cases, torch.device(device))
        made = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=settings.precision == "bf16-mixed"):
            loss = learner.terms(batch)["loss"]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        float(loss.detach())  # waits for the GPU
        if number:
            case_s += (made - began) / STEPS
            step_s += (time.perf_counter() - made) / STEPS
    return case_s, step_s


@torch.no_grad()
def _validation_s(learner: Learner, device: str) -> float:
    began = time.perf_counter()
    figures = learner.validate(move_data_to_device(learner.watched[0], torch.device(device)), 0)
    float(figures[learner.METRIC])
    return (time.perf_counter() - began) * len(learner.watched)


def _memory_mb(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


__all__ = ["DryRun", "dry_run"]
