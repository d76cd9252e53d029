"""How long a training step waits for its batch.

::

    python benchmarks/batches_speed.py coarse.safetensors --deformations deformations.safetensors

Cases are made alone, steps are run alone, then both together as a training does it: the next batches are made while the
step runs. The step is that of a plain U-Net of 3 x 3 x 3 convolutions with as many channels as are asked for. On a CPU
both share the cores, so that making cases always costs its own time there; a GPU runs them side by side.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from calvaria.benchmarks.script import run_while_read
from calvaria.datasets.cache import SkullCache
from calvaria.datasets.split import load_split
from calvaria.synthesis.batched.batches import batches
from calvaria.synthesis.batched.cases import CaseMaker, Cases
from calvaria.synthesis.between import Deformations


class StandIn(nn.Module):
    """A U-Net of four levels, two convolutions each, stride 2 first: about RUNet's work at 16 channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = [width, 2 * width, 4 * width, 8 * width]
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv3d(a, b, 4, 2, 1), nn.LeakyReLU(), nn.Conv3d(b, b, 3, 1, 1), nn.LeakyReLU())
            for a, b in zip([1, *wide[:-1]], wide, strict=True)
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose3d(b, a, 4, 2, 1), nn.LeakyReLU(), nn.Conv3d(a, a, 3, 1, 1))
            for a, b in zip([1, *wide[:-1]], wide, strict=True)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1, X, Y, Z) logits."""
        kept = []
        for level in self.down:
            x = level(x)
            kept.append(x)
        x = kept.pop()
        for level in reversed(self.up):
            x = level(x)
            x = x + kept.pop() if kept else x
        return x


def step_of(width: int, device: str) -> Callable[[Cases], None]:
    """One training step."""
    network = StandIn(width).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)

    def step(cases: Cases) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss = nn.functional.binary_cross_entropy_with_logits(network(cases.shown), cases.patch, cases.weight)
        loss.backward()
        optimiser.step()

    return step


def seconds(work: Callable[[], object], device: str) -> float:
    """TableModel time until the device is done."""
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="how long a training step waits for its batch")
    parser.add_argument("cache", type=Path)
    parser.add_argument("--deformations", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, default=2, help="cases a batch")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--width", type=int, default=16, help="channels of the network's first level")
    options = parser.parse_args()
    forms = Deformations(options.deformations) if options.deformations else None
    maker = CaseMaker(SkullCache(options.cache), load_split().train, deformations=forms, device=options.device, seed=1)
    step, size, count = step_of(options.width, options.device), options.size, options.steps
    ready = maker.make(range(size))
    step(ready)  # first calls choose algorithms
    making = seconds(lambda: [maker.make(range(n * size, (n + 1) * size)) for n in range(count)], options.device)
    stepping = seconds(lambda: [step(ready) for _ in range(count)], options.device)
    waited = 0.0

    def together() -> None:
        nonlocal waited
        source = batches(maker, size, count)
        for _ in range(count):
            start = time.perf_counter()
            cases = next(source)
            waited += time.perf_counter() - start
            step(cases)
            if options.device == "cuda":
                torch.cuda.synchronize()

    whole = seconds(together, options.device)
    lines = [
        f"{options.device}, {torch.get_num_threads()} threads, {size} cases a batch, {maker.grid.shape} voxels",
        f"making a case alone   {making / count / size * 1e3:8.0f} ms",
        f"a step alone          {stepping / count * 1e3:8.0f} ms",
        f"a step with making    {whole / count * 1e3:8.0f} ms, of which waiting {waited / whole:.1%}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(run_while_read(main))
