"""Time and memory to score one case of 512 x 512 x 512 voxels: calvaria beside what else there is, in one run.

Usage: ``python benchmarks/metrics_speed.py [PATCH TRUTH SKULL]``; without files, the sample skull of the package on
voxels of 0.4 mm. Beside calvaria stand the definitions of AutoImplant 2021 as they are usually coded (scipy, whole
volume), MONAI and DeepMind's surface-distance, each with those of these metrics that it has. A second case has small
components all over the head, as networks leave them: what crops to the patch gains little there. Each contender runs in
a process of its own; memory is its peak above what it held before, with the files already read. Linux only.
"""
# ruff: noqa: T201 - a script whose work is to print

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calvaria.benchmarks.script import run_while_read
from calvaria.io import read_volume, write_volume
from calvaria.volume import Grid, Volume, resample
from calvaria.volume.volume import bounding_box

BoolArray = NDArray[np.bool_]
Case = tuple[Volume, Volume, Volume]
"""Prediction, truth, defective skull."""

SIDE, SPACING_MM = 512, 0.4
REPEATS = 3
"""Runs of each contender, in turns; the shortest counts. The plain one, which takes a minute, runs once."""


def sample() -> Case:
    """The sample's skull and patch on 512^3 voxels of 0.4 mm, and a prediction that is off by up to a millimetre."""
    from scipy.ndimage import gaussian_filter, zoom

    from calvaria.synthesis.sample import sample_case

    skull, patch = sample_case(0)
    middle = skull.grid.to_world((np.array(skull.shape) - 1) / 2)
    grid = Grid.isotropic((SIDE, SIDE, SIDE), SPACING_MM, middle - SPACING_MM * (SIDE - 1) / 2)
    soft = [resample(mask.with_data(mask.mask.astype(np.float32)), grid, order=1, fill=0.0) for mask in (skull, patch)]
    bone, truth = (image.data > 0.5 for image in soft)
    box = bounding_box(truth, (10, 10, 10)) or ()
    near = gaussian_filter(soft[1].data[box], 2.0)
    noise = zoom(np.random.default_rng(0).standard_normal([n // 20 + 2 for n in near.shape]), 22, order=3)
    wave = 0.15 * np.clip(noise[tuple(slice(0, n) for n in near.shape)], -2.0, 2.0)
    guess = np.zeros_like(truth)
    guess[box] = (near + wave > 0.5) & ~bone[box]
    return Volume(guess, grid), Volume(truth & ~bone, grid), Volume(bone, grid)


def with_small_components(case: Case) -> Case:
    """The same with 300 small components in the prediction, anywhere."""
    guess, truth, skull = case
    messy = guess.mask.copy()
    for i, j, k in np.random.default_rng(1).integers(4, np.array(guess.shape) - 4, (300, 3)):
        messy[i - 1 : i + 2, j - 2 : j + 1, k : k + 2] = True
    return guess.with_data(messy & ~skull.mask), truth, skull


def ours(case: Case) -> dict[str, float]:
    """All metrics of calvaria."""
    from calvaria.metrics import measure

    return measure(*case)


def ours_official(case: Case) -> dict[str, float]:
    """The metrics of the challenge by calvaria."""
    from calvaria.metrics import score

    found = score(*case)
    return {"dsc": found.dsc, "bdsc": found.bdsc, "hd95_mm": found.hd95_mm}


def plain(case: Case) -> dict[str, float]:
    """The challenge's metrics, each by its definition, over the whole volume."""
    from scipy.ndimage import binary_erosion, distance_transform_edt, generate_binary_structure

    guess, truth, skull = (volume.mask for volume in case)
    spacing = case[0].grid.spacing_mm

    def dice(a: BoolArray, b: BoolArray) -> float:
        return 2.0 * float(np.count_nonzero(a & b)) / float(np.count_nonzero(a) + np.count_nonzero(b))

    def directed(a: BoolArray, b: BoolArray) -> NDArray[np.float64]:
        cross = generate_binary_structure(3, 1)
        edges = [mask ^ binary_erosion(mask, cross) for mask in (a, b)]
        return np.asarray(distance_transform_edt(~edges[1], sampling=spacing)[edges[0]])

    near = distance_transform_edt(~skull, sampling=spacing) <= 10.0
    return {
        "dsc": dice(guess, truth),
        "bdsc": dice(guess & near, truth & near),
        "hd_mm": float(max(directed(guess, truth).max(), directed(truth, guess).max())),
        "hd95_mm": float(np.percentile(np.hstack([directed(guess, truth), directed(truth, guess)]), 95)),
    }


def monai(case: Case) -> dict[str, float]:
    """What MONAI has: it takes the larger of two percentiles, and surface voxels without areas."""
    import torch
    from monai import metrics

    guess, truth = (torch.from_numpy(volume.mask)[None, None] for volume in case[:2])
    spacing = list(case[0].grid.spacing_mm)
    both, both_mm = {"y_pred": guess, "y": truth}, {"include_background": True, "spacing": spacing}
    return {
        "dsc": float(metrics.compute_dice(**both)),
        "hd_mm": float(metrics.compute_hausdorff_distance(**both, **both_mm)),
        "hd95_max_mm": float(metrics.compute_hausdorff_distance(**both, **both_mm, percentile=95)),
        "assd_mm": float(metrics.compute_average_surface_distance(**both, **both_mm, symmetric=True)),
        "voxels within 0.5 mm": float(metrics.compute_surface_dice(**both, **both_mm, class_thresholds=[0.5])),
        "voxels within 1 mm": float(metrics.compute_surface_dice(**both, **both_mm, class_thresholds=[1.0])),
    }


def deepmind(case: Case) -> dict[str, float]:
    """What surface-distance has."""
    from scipy import ndimage

    for name in ("filters", "morphology"):  # asked for by the library, gone from scipy
        if not hasattr(ndimage, name):
            setattr(ndimage, name, ndimage)
    from surface_distance import metrics

    guess, truth = (volume.mask for volume in case[:2])
    found = metrics.compute_surface_distances(truth, guess, case[0].grid.spacing_mm)
    return {
        "dsc": metrics.compute_dice_coefficient(truth, guess),
        "hd95_area_mm": metrics.compute_robust_hausdorff(found, 95),
        "sdsc_0.5mm": metrics.compute_surface_dice_at_tolerance(found, 0.5),
        "sdsc_1mm": metrics.compute_surface_dice_at_tolerance(found, 1.0),
        "msd_mm": float(np.mean(metrics.compute_average_surface_distance(found))),
    }


Contender = Callable[[Case], dict[str, float]]
CONTENDERS: dict[str, tuple[Contender, int]] = {
    "calvaria, all": (ours, REPEATS),
    "calvaria, official": (ours_official, REPEATS),
    "surface-distance": (deepmind, REPEATS),
    "MONAI": (monai, REPEATS),
    "plain scipy, official": (plain, 1),
}
Result = tuple[float, float, dict[str, float]]
"""Seconds, GB above what was held before, and the figures."""


def run(contender: Contender, files: Sequence[Path], repeats: int) -> Result:
    """Time one contender; to be called in a fresh process."""
    guess, truth, skull = (read_volume(path) for path in files)
    case = tuple(volume.with_data(np.ascontiguousarray(volume.data != 0)) for volume in (guess, truth, skull))
    cube = np.zeros((32, 32, 32), bool)
    cube[10:20, 10:20, 10:20] = True
    small = Volume(cube, Grid.isotropic((32, 32, 32), SPACING_MM))
    contender((small, small, small.with_data(~cube)))  # imports and first uses are not what is timed
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    held = _status_gb("VmRSS")
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        figures = contender((case[0], case[1], case[2]))
        seconds.append(time.perf_counter() - start)
    return min(seconds), _status_gb("VmHWM") - held, figures


def _status_gb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1e6


def race(case: str, files: Sequence[Path], names: Sequence[str]) -> None:
    """Run contenders one after the other; print what they take, and their figures beside one another."""
    results: dict[str, Result] = {}
    print(f"\n{case:24}{'metrics':>8}{'seconds':>9}{'GB':>7}{'times calvaria, all':>21}")
    for name in names:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            results[name] = pool.submit(run, CONTENDERS[name][0], files, CONTENDERS[name][1]).result()
        seconds, gb, figures = results[name]
        ratio = seconds / results["calvaria, all"][0]
        print(f"{name:24}{len(figures):8}{seconds:9.2f}{gb:7.2f}{ratio:21.1f}", flush=True)
    shown = [name for name in names if name != "calvaria, official"]
    print(f"\n{'':26}" + "".join(f"{name.split(',')[0]:>18}" for name in shown))
    for key in dict.fromkeys(key for name in shown for key in results[name][2]):
        cells = [results[name][2].get(key) for name in shown]
        print(f"{key:26}" + "".join(f"{'' if cell is None else format(cell, '.4g'):>18}" for cell in cells))


def main() -> None:
    """Print one line for each contender, and the figures beside one another."""
    warnings.simplefilter("ignore")  # MONAI's about its own options
    print(f"shortest of {REPEATS} runs (plain scipy: one); {os.cpu_count()} cores")
    if len(sys.argv) == 4:
        race("files", [Path(name) for name in sys.argv[1:]], list(CONTENDERS))
        return
    with tempfile.TemporaryDirectory() as folder:
        clean = sample()
        for kind, case in (("512^3 voxels of 0.4 mm", clean), ("small components", with_small_components(clean))):
            files = [Path(folder) / f"{kind[:4]}-{name}.nrrd" for name in ("patch", "truth", "skull")]
            for path, volume in zip(files, case, strict=True):
                write_volume(path, volume)
            race(kind, files, list(CONTENDERS) if case is clean else list(CONTENDERS)[:4])


if __name__ == "__main__":
    sys.exit(run_while_read(main))
