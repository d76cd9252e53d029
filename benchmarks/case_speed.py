"""Seconds and memory of whole reconstructions, by the command line: beside another version, by voxels, by hole.

::

    python benchmarks/case_speed.py --data autoimplant2020                       # the README's case, each stage
    python benchmarks/case_speed.py --data autoimplant2020 --before OTHER/src    # two versions, turn by turn
    python benchmarks/case_speed.py --data autoimplant2020 --cost cost.png       # against voxels and area of the hole

Every run is a process of its own, as a user's is: start, reading, completion, picture, files. The first of each version
is not counted: it compiles Python's bytecode. Two versions take turns in one run, so that a busy machine slows both.
The other version is a checkout's ``src``, such as that of `git worktree add OTHER v0.2`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from calvaria.benchmarks.cases import build, tasks_of
from calvaria.benchmarks.script import run_while_read
from calvaria.io import read_mask, write_volume
from calvaria.volume.grid import Grid
from calvaria.volume.resample import resample_mask
from calvaria.volume.volume import Volume

README_CASE = "train-004"
"""Of the test persons, with its official defect."""

SPACINGS_MM = (0.9, 0.7, 0.55, 0.45, 0.38)
"""Voxels of the same head, 9 to 120 millions of them."""

AREA_KINDS = ("random_1", "parietotemporal", "frontoorbital", "official", "bilateral", "hemicraniectomy", "bifrontal")
"""Holes of one head from 20 to 170 cm2."""


@dataclass
class Runs:
    """What some runs of one command took.

    Args:
        wall_s: of each whole process.
        cpu_s: processor time of each, both kinds.
        peak_mb: resident memory of each.
        stages: seconds of each stage as result.json has them.
    """

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def line(self, name: str) -> str:
        """Median and shortest of all."""
        peak = f"{np.median(self.peak_mb):9.0f}"
        return f"{name:<24} {np.median(self.wall_s):8.2f} {min(self.wall_s):8.2f} {np.median(self.cpu_s):8.2f} {peak}"


def run(case: Path, source: Path | None, runs: Runs | None) -> dict[str, float]:
    """Reconstruct a case in a process of its own.

    Args:
        case: the file.
        source: a checkout's ``src``; None: this version.
        runs: what it took is added to them.

    Returns:
        Seconds of the stages.
    """
    environment = os.environ | ({} if source is None else {"PYTHONPATH": str(source)})
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "calvaria.cli", "reconstruct", str(case), "-o", folder, "-q"]
        start = time.perf_counter()
        with subprocess.Popen(command, env=environment) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        if process.returncode not in (0, 3):
            raise SystemExit(f"{case.name}: the command failed with exit code {process.returncode}")
        record = json.loads((Path(folder) / "result.json").read_text(encoding="utf-8"))
    stages: dict[str, float] = dict(record["seconds"]["stages"]) | {"picture": record["seconds"]["picture"]}
    if runs is not None:
        runs.wall_s.append(wall)
        runs.cpu_s.append(used.ru_utime + used.ru_stime)
        runs.peak_mb.append(used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6)
        for name, seconds in stages.items():
            runs.stages[name].append(seconds)
    return stages


def beside(case: Path, before: Path | None, repeats: int) -> Iterator[str]:
    """Lines of a table: this version, and another one in turn with it."""
    versions = {"this version": None} if before is None else {"before": before, "this version": None}
    found = {name: Runs() for name in versions}
    for repeat in range(repeats + 1):
        for name, source in versions.items():
            run(case, source, found[name] if repeat else None)
    yield f"{'':<24} {'wall s':>8} {'shortest':>8} {'CPU s':>8} {'peak MB':>9}"
    for name, runs in found.items():
        yield runs.line(name)
    yield ""
    yield f"{'stage, median s':<24}" + "".join(f" {name:>14}" for name in found)
    for stage in found["this version"].stages:
        yield f"{stage:<24}" + "".join(f" {np.median(runs.stages[stage]):14.2f}" for runs in found.values())


def loaded(case: Path, repeats: int) -> tuple[float, float]:
    """Median seconds of a case in a process that has done one before: with its picture, and without."""
    from calvaria.jobs import begin_worker
    from calvaria.results.case import run_case
    from calvaria.results.settings import Settings

    def seconds(preview: bool) -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            run_case(case, Path(folder) / "out", Settings(preview=preview))
            return time.perf_counter() - start

    begin_worker(1, None)
    seconds(True)
    drawn, bare = ([seconds(preview) for _ in range(repeats)] for preview in (True, False))
    return float(np.median(drawn)), float(np.median(bare))


def readme_case(data: Path, folder: Path) -> Path:
    """The case of the README, as a file."""
    task = next(task for task in tasks_of(data, "test", ("official",)) if task.case.id == README_CASE)
    path = folder / f"{README_CASE}.nrrd"
    write_volume(path, build(task)[0])
    return path


def finer_heads(case: Path, folder: Path) -> list[tuple[float, Path]]:
    """One head on grids of more and more voxels: millions of them, and the file."""
    whole, out = read_mask(case), []
    for spacing_mm in SPACINGS_MM:
        step = spacing_mm / np.asarray(whole.grid.spacing_mm)
        i, j, k = (int(n) for n in np.ceil(np.asarray(whole.shape) / step))
        affine = whole.affine.copy()
        affine[:3, :3] *= step
        finer = resample_mask(whole, Grid((i, j, k), affine))
        out.append((finer.data.size / 1e6, folder / f"{spacing_mm}.nrrd"))
        write_volume(out[-1][1], finer)
    return out


def larger_holes(data: Path, folder: Path) -> list[tuple[float, Path]]:
    """Holes of one head: cm2, and the file."""
    out = []
    for task in tasks_of(data, "test", AREA_KINDS, limit=1):
        defective, patch = build(task)
        out.append((area_cm2(patch), folder / f"{task.kind}.nrrd"))
        write_volume(out[-1][1], defective)
    return out


def costs(data: Path, folder: Path, case: Path | None, repeats: int) -> dict[str, list[tuple[float, Runs]]]:
    """What one head costs with more voxels, and with larger holes."""
    with apart() as other:
        head = case or other.submit(readme_case, data, folder).result()
        files = {
            "millions of voxels": other.submit(finer_heads, head, folder).result(),
            "area of the hole, cm2": other.submit(larger_holes, data, folder).result(),
        }
    return {name: [(place, repeated(path, repeats)) for place, path in some] for name, some in files.items()}


def apart() -> ProcessPoolExecutor:
    """A process that makes the cases: one that is started counts the memory of the one that starts it as its own."""
    return ProcessPoolExecutor(1, get_context("spawn"))


def area_cm2(patch: Volume) -> float:
    """As a reconstruction says it."""
    from calvaria.reconstruction.holes import holes_in

    return sum(hole.area_cm2 for hole in holes_in(patch))


def repeated(path: Path, repeats: int) -> Runs:
    """Some runs of this version."""
    runs = Runs()
    for _ in range(repeats):
        run(path, None, runs)
    return runs


def draw(found: dict[str, list[tuple[float, Runs]]], path: Path) -> None:
    """Seconds and memory against what they might grow with."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (name, taken) in zip(axes, found.items(), strict=True):
        points = sorted(taken, key=lambda point: point[0])
        x = [place for place, _ in points]
        axis.plot(x, [np.median(runs.wall_s) for _, runs in points], "o-", label="wall time, s")
        axis.plot(x, [np.median(runs.cpu_s) for _, runs in points], "s--", label="processor time, s")
        axis.plot(x, [np.median(runs.peak_mb) / 100 for _, runs in points], "^:", label="memory, 100 MB")
        axis.set_xlabel(name)
        axis.grid(alpha=0.3)
    axes[0].set_ylim(0)
    axes[0].legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="the AutoImplant 2020 (SkullFix) set")
    parser.add_argument("--case", type=Path, help=f"a file; default: {README_CASE} of the set, the README's")
    parser.add_argument("--before", type=Path, help="src of another version's checkout")
    parser.add_argument("--cost", type=Path, help="a picture: what voxels and the hole's area cost")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    tell = sys.stdout.write
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.cost is None:
            with apart() as other:
                case = options.case or other.submit(readme_case, options.data, folder).result()
            for line in beside(case, options.before, options.repeats):
                tell(line + "\n")
            with apart() as other:
                drawn, bare = other.submit(loaded, case, options.repeats).result()
            tell(f"\na further case in one process: {drawn:.2f} s, without its picture {bare:.2f} s\n")
            return
        found = costs(options.data, folder, options.case, options.repeats)
        tell(f"{'':<24} {'wall s':>8} {'shortest':>8} {'CPU s':>8} {'peak MB':>9}\n")
        for what, points in found.items():
            tell(what + "\n")
            for place, runs in points:
                tell(runs.line(f"{place:10.1f}") + "\n")
    draw(found, options.cost)


if __name__ == "__main__":
    sys.exit(run_while_read(main))
