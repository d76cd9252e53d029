"""Time to read a CT series: calvaria beside SimpleITK's series reader, in one run.

Usage: ``python -m benchmarks.dicom_speed [FOLDER]``, in the checkout; without a folder, a made-up series of 200 slices
of 512 x 512. Both look through the folder, choose a series and read it; where there are several, the largest one.
"""
# ruff: noqa: T201 - a script whose work is to print

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK
from tests.dicom_files import Series, slices_of, write

from calvaria.benchmarks.script import run_while_read
from calvaria.io.dicom import list_series, read_dicom

REPEATS = 5


def made_up(folder: Path) -> Path:
    """200 slices of noise."""
    noise = np.random.default_rng(0)
    series = Series(slices=200, shape=(512, 512), hu=lambda points: noise.normal(0, 50, points.shape[:-1]))
    return write(folder, slices_of(series))


def by_calvaria(folder: Path, number: str) -> object:
    """One series, from the folder on."""
    return read_dicom(folder, number).volume.data.sum()


def by_simpleitk(folder: Path) -> object:
    """The series with the most files, from the folder on."""
    reader = SimpleITK.ImageSeriesReader
    places = {file.parent for file in folder.rglob("*") if file.is_file()}
    series = [
        reader.GetGDCMSeriesFileNames(str(place), uid)
        for place in sorted(places)
        for uid in reader.GetGDCMSeriesIDs(str(place))
    ]
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(max(series, key=len))).sum()


def best_ms(work: Callable[[], object]) -> float:
    """Shortest of a few runs, ms."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times) * 1000


def main() -> None:
    """Print one line for each reader."""
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else made_up(Path(temporary))
        usable = [one for one in list_series(folder) if one.problem is None]
        number = max(usable, key=lambda one: one.slices).number
        shape = read_dicom(folder, number).volume.shape
        print(f"{' x '.join(map(str, shape))}; best of {REPEATS} runs, ms")
        print(f"calvaria   {best_ms(partial(by_calvaria, folder, number)):8.0f}")
        print(f"SimpleITK  {best_ms(partial(by_simpleitk, folder)):8.0f}")


if __name__ == "__main__":
    sys.exit(run_while_read(main))
