"""Time to cut one synthetic defect, and to change its rim: numpy beside torch, at 1.6 mm and 0.8 mm.

Usage: ``python benchmarks/defects_speed.py [SKULL.nrrd] [--device cpu] [--threads 1]``; without a file, a shell in the
shape of a head. A complete skull on the canonical grid (128^3 at 1.6 mm); each figure is the median over defects of one
kind, of the shortest of three runs each.
"""
# ruff: noqa: T201 - a script whose work is to print

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from calvaria.benchmarks.script import run_while_read
from calvaria.io import read_mask
from calvaria.skull.canonical import canonical_grid, locate
from calvaria.synthesis.batched import ageing_torch as device_rims
from calvaria.synthesis.batched.cutting_torch import apply_defects
from calvaria.synthesis.defects import ALL_KINDS, apply_defect, sample_defect
from calvaria.synthesis.defects.ageing import apply_rims
from calvaria.synthesis.defects.rim_changes import RIM_KINDS, sample_rim
from calvaria.volume import Grid, Volume, resample_soft

REPEATS = 3
DEFECTS = 9
RIM_ON = "craniotomy"


def shell(grid: Grid) -> Volume:
    """A hollow ellipsoid of 7 mm."""
    away = grid.centres_mm() - [0, 0, 10]
    outer, inner = (np.linalg.norm(away / (np.array([70.0, 88.0, 70.0]) - t), axis=-1) for t in (0.0, 7.0))
    return Volume((outer <= 1) & (inner > 1), grid)


def on_grid(path: Path | None, spacing_mm: float) -> Volume:
    """The skull on the canonical grid with voxels of another size."""
    coarse = canonical_grid()
    size = round(coarse.shape[0] * coarse.spacing_mm[0] / spacing_mm)
    grid = Grid.isotropic((size, size, size), spacing_mm, coarse.affine[:3, 3])
    if path is None:
        return shell(grid)
    skull = read_mask(path)
    moved = Volume(skull.data, skull.grid.moved(locate(skull).to_canonical))
    return Volume(np.ascontiguousarray(resample_soft(moved, grid).data >= 0.5), grid)


def best_ms(work: Callable[[], object], device: str) -> float:
    """Shortest of a few runs, ms."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times) * 1000


def kinds(complete: Volume, device: str) -> None:
    """One line for each kind."""
    batch = torch.from_numpy(complete.mask)[None].to(device)
    for kind in ALL_KINDS:
        specs = [sample_defect(kind, np.random.default_rng(seed)) for seed in range(DEFECTS)]
        numpy_ms = [best_ms(partial(apply_defect, complete, spec, np.eye(4)), "cpu") for spec in specs]
        torch_ms = [best_ms(partial(apply_defects, batch, complete.grid, [spec]), device) for spec in specs]
        print(f"{kind:18}{np.median(numpy_ms):10.1f}{np.median(torch_ms):10.1f}", flush=True)


def rims(complete: Volume, device: str) -> None:
    """One line for each change of the rim."""
    specs = [sample_defect(RIM_ON, np.random.default_rng(seed)) for seed in range(DEFECTS)]
    cuts = [apply_defect(complete, spec, np.eye(4)) for spec in specs]
    for kind in RIM_KINDS:
        numpy_ms, torch_ms = [], []
        for seed, (spec, (defective, patch)) in enumerate(zip(specs, cuts, strict=True)):
            rim = sample_rim(kind, np.random.default_rng(seed), spec)
            bone, hole = (torch.from_numpy(part.mask)[None].to(device) for part in (defective, patch))
            numpy_ms.append(best_ms(partial(apply_rims, defective, patch, [rim], np.eye(4)), "cpu"))
            torch_ms.append(best_ms(partial(device_rims.apply_rims, bone, hole, complete.grid, [[rim]]), device))
        print(f"{kind:18}{np.median(numpy_ms):10.1f}{np.median(torch_ms):10.1f}", flush=True)


def main() -> None:
    """Print one table for each voxel size."""
    parser = argparse.ArgumentParser(description="time to cut one synthetic defect")
    parser.add_argument("skull", type=Path, nargs="?", help="a complete skull (mask)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for spacing_mm in (1.6, 0.8):
        complete = on_grid(options.skull, spacing_mm)
        print(
            f"{complete.shape[0]}^3 voxels of {spacing_mm} mm, {complete.volume_ml:.0f} ml, {options.threads} threads"
        )
        print(f"{'':18}{'numpy ms':>10}{f'{options.device} ms':>10}")
        kinds(complete, options.device)
        rims(complete, options.device)


if __name__ == "__main__":
    sys.exit(run_while_read(main))
