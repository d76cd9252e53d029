"""What each augmentation costs: milliseconds a case, in a batch of four on the training grid.

Usage: ``python benchmarks/augment_speed.py [--data FOLDER]``; FOLDER holds ``autoimplant2020/``, else the package's
sample heads are taken. One CPU thread, then CUDA where there is one. On the CPU both the time on the clock and the
processor's own are given: they agree on a machine with nothing else to do.
"""
# ruff: noqa: T201 - a script whose work is to print

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from calvaria.benchmarks.script import run_while_read
from calvaria.datasets.cache import training_grid
from calvaria.deformation.bend import Bend
from calvaria.deformation.warp import Warp
from calvaria.io import read_mask
from calvaria.skull.canonical import locate
from calvaria.synthesis.augmentation.artefacts import Artefacts, Noise, ScanEnd, Streaks, Threshold
from calvaria.synthesis.augmentation.augment import Augmentation, apply_augmentations, apply_geometry
from calvaria.synthesis.augmentation.draw import sample_augmentation
from calvaria.synthesis.augmentation.slices import Slices
from calvaria.synthesis.augmentation.thickness import Thickness
from calvaria.synthesis.sample import sample_case
from calvaria.volume import Volume, resample_soft

BATCH, REPEATS, DRAWS = 4, 5, 8
NUMBERS = ("001", "004", "010", "020")

SINGLE: dict[str, Augmentation] = {
    "mirror image": Augmentation(Warp(flip=True)),
    "affine": Augmentation(Warp(rotation_deg=(3.0, -4.0, 5.0), scale=(1.03, 0.97, 1.0), shear=(0.02, 0.0, 0.0))),
    "bend, symmetric and not": Augmentation(Warp(bend=Bend(1, 1.5, 0.3))),
    "affine and bend": Augmentation(Warp(bend=Bend(1, 1.5, 0.3), rotation_deg=(3.0, -4.0, 5.0))),
    "thicker by 1 mm": Augmentation(thickness=Thickness(1.0)),
    "thinner by 1 mm": Augmentation(thickness=Thickness(-1.0)),
    "blur and threshold": Augmentation(artefacts=Artefacts(Threshold(0.8, 0.6))),
    "thick slices": Augmentation(artefacts=Artefacts(slices=Slices(4.0, -12.0, 2.0))),
    "streaks": Augmentation(artefacts=Artefacts(streaks=Streaks((50.0, -50.0, 30.0)))),
    "noise": Augmentation(artefacts=Artefacts(noise=Noise())),
    "end of the scan": Augmentation(artefacts=Artefacts(end=ScanEnd(-30.0, -12.0))),
}


def skulls(data: Path | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Complete skulls and patches, (B, X, Y, Z) shares of bone."""
    pairs = []
    for number in range(BATCH):
        if data is None:
            defective, patch = sample_case(number)
            complete, to_canonical = defective.with_data(defective.mask | patch.mask), np.eye(4)
        else:
            folder = data / "autoimplant2020" / "training_set"
            complete = read_mask(folder / "complete_skull" / f"{NUMBERS[number]}.nrrd")
            patch = read_mask(folder / "implant" / f"{NUMBERS[number]}.nrrd")
            to_canonical = locate(complete).to_canonical
        pairs.append(
            [resample_soft(Volume(m.data, m.grid.moved(to_canonical)), training_grid()).data for m in (complete, patch)]
        )
    complete, patch = (torch.from_numpy(np.stack(part)) for part in zip(*pairs, strict=True))
    return complete, patch


def cost_ms(work: Callable[[], object], repeats: int, device: str) -> tuple[float, float]:
    """Milliseconds a case: on the clock and of the processor; the least of some runs."""
    clock, processor = [], []
    for _ in range(repeats):
        start, spent = time.perf_counter(), time.process_time()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        clock.append(time.perf_counter() - start)
        processor.append(time.process_time() - spent)
    return 1e3 * min(clock) / BATCH, 1e3 * min(processor) / BATCH


def race(complete: torch.Tensor, patch: torch.Tensor, device: str) -> None:
    """Print one line an augmentation, then the whole chain."""
    grid = training_grid()
    complete, patch = complete.to(device), patch.to(device)

    def line(name: str, work: Callable[[], object], repeats: int = REPEATS) -> float:
        work()  # first uses are not what is timed
        clock, processor = cost_ms(work, repeats, device)
        print(f"{name:34}{clock:10.1f}{processor:10.1f}", flush=True)
        return processor

    print(f"\n{device}, {'x'.join(map(str, grid.shape))} voxels of {grid.spacing_mm[0]:g} mm, ms a case")
    print(f"{'':34}{'clock':>10}{'processor':>10}")
    for name, drawn in SINGLE.items():
        if drawn.artefacts == Artefacts():
            line(f"{name}, skull alone", lambda drawn=drawn: apply_geometry(complete, grid, [drawn] * BATCH))
        line(name, lambda drawn=drawn: apply_augmentations(complete, patch, grid, [drawn] * BATCH))
    everything = [
        replace(
            SINGLE["affine and bend"],
            thickness=Thickness(-1.0),
            artefacts=Artefacts(
                Threshold(0.8, 0.6),
                Slices(4.0, -12.0, 2.0),
                Streaks((50.0, -50.0, 30.0)),
                Noise(),
                ScanEnd(-30.0, -12.0),
            ),
        )
    ] * BATCH
    line("everything at once", lambda: apply_augmentations(complete, patch, grid, everything))
    rng = np.random.default_rng(0)
    drawn = [[sample_augmentation(rng) for _ in range(BATCH)] for _ in range(DRAWS)]

    def chain() -> None:
        for one in drawn:
            apply_augmentations(complete, patch, grid, one)

    chain()
    clock, processor = cost_ms(chain, 2, device)
    print(f"{f'as drawn by default, mean of {BATCH * DRAWS}':34}{clock / DRAWS:10.1f}{processor / DRAWS:10.1f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds autoimplant2020/")
    complete, patch = skulls(parser.parse_args().data)
    torch.set_num_threads(1)
    race(complete, patch, "cpu")
    if torch.cuda.is_available():
        race(complete, patch, "cuda")


if __name__ == "__main__":
    sys.exit(run_while_read(main))
