"""Time to read and write a skull-like mask: calvaria beside pynrrd, in one run.

Usage: ``python benchmarks/io_speed.py [FILE.nrrd]``; without a file, a hollow ellipsoid of 512 x 512 x 256 voxels.
"""
# ruff: noqa: T201 - a script whose work is to print

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nrrd
import numpy as np

from calvaria.benchmarks.script import run_while_read
from calvaria.io import read_mask, write_volume
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

REPEATS = 5


def shell(shape: tuple[int, int, int] = (512, 512, 256)) -> Volume:
    """A hollow ellipsoid, about as much bone as a skull has."""
    i, j, k = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    radius2 = (i / 0.6) ** 2 + (j / 0.75) ** 2 + (k / 0.9) ** 2
    wave = 0.03 * np.sin(40 * i) * np.sin(40 * j) * np.sin(40 * k)
    data = np.asfortranarray((radius2 + wave < 1.0) & (radius2 - wave > 0.85))
    return Volume(data, Grid.isotropic(shape, 0.45))


def best_ms(work: Callable[[], object]) -> float:
    """Shortest of a few runs, ms."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times) * 1000


def main() -> None:
    """Print one line for each format."""
    volume = read_mask(sys.argv[1]) if len(sys.argv) > 1 else shell()
    print(f"{' x '.join(map(str, volume.shape))} mask, {volume.volume_ml:.0f} ml of bone; best of {REPEATS} runs")
    print(f"{'':24}{'write ms':>10}{'read ms':>10}{'MB':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for extension in (".nrrd", ".mha", ".nii.gz", ".nii"):
            path = Path(folder) / f"a{extension}"
            write = best_ms(partial(write_volume, path, volume))
            read = best_ms(partial(read_mask, path))
            print(f"calvaria {extension:15}{write:10.0f}{read:10.0f}{path.stat().st_size / 1e6:8.2f}")
        voxels, name = volume.data.view(np.uint8), str(Path(folder) / "b.nrrd")
        for level in (1, 9):
            write = best_ms(partial(nrrd.write, name, voxels, compression_level=level))
            read = best_ms(partial(nrrd.read, name))
            size = Path(name).stat().st_size / 1e6
            print(f"pynrrd .nrrd, level {level:<4}{write:10.0f}{read:10.0f}{size:8.2f}")


if __name__ == "__main__":
    sys.exit(run_while_read(main))
