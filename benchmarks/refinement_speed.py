"""Seconds and memory of a refinement, alone and as a command.

::

    python benchmarks/refinement_speed.py --data autoimplant2020
    python benchmarks/refinement_speed.py --data autoimplant2020 --kind official --limit 3

Persons of the validation side; each true patch is made bad (too flat, shifted) and refined, by symmetry alone as
published and by all that speaks of where it belongs. Printed are the seconds of the refinement, wall and processor, and
seconds and peak memory of ``calvaria refine`` on files, pictures included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from calvaria.benchmarks.bad_starts import BAD_STARTS
from calvaria.benchmarks.cases import build, tasks_of
from calvaria.benchmarks.script import run_while_read
from calvaria.io import write_volume
from calvaria.reconstruction.engines import load_prior
from calvaria.refinement.refine import PAPER, Settings, refine
from calvaria.skull.canonical import locate
from calvaria.volume import Volume
from calvaria.volume.volume import bounding_box

STARTS = ("flat", "shifted")


def as_command(defective: Volume, patch: Volume) -> tuple[float, float]:
    """Wall seconds and peak memory (10^6 bytes) of ``calvaria refine``."""
    with tempfile.TemporaryDirectory(prefix="calvaria-") as name:
        folder = Path(name)
        write_volume(folder / "skull.nrrd", defective)
        write_volume(folder / "patch.nrrd", patch)
        arguments = ["refine", str(folder / "skull.nrrd"), str(folder / "patch.nrrd"), "-o", str(folder / "out"), "-q"]
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "calvaria.cli", *arguments])
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"calvaria refine ended with exit code {process.returncode}")
    return time.perf_counter() - began, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description="seconds and memory of a refinement")
    parser.add_argument("--data", type=Path, required=True, help="folder of the AutoImplant 2020 set")
    parser.add_argument("--kind", action="append", help="kinds of holes; default: official and parietotemporal")
    parser.add_argument("--limit", type=int, default=2, help="persons")
    options = parser.parse_args()
    prior = load_prior()
    prior.prepare()
    found: dict[str, list[tuple[float, float]]] = {"Reg-SN": [], "refined": [], "calvaria refine": []}
    for task in tasks_of(options.data, "validation", options.kind or ("official", "parietotemporal"), options.limit):
        defective, truth = build(task)
        box = bounding_box(defective.mask)
        skull = defective if box is None else defective.crop(box)
        done = prior.reconstruct(skull, locate(skull, prior.template))
        for start in STARTS:
            patch = BAD_STARTS[start](truth, defective, done.frame)
            for name, completion, settings in (("Reg-SN", None, PAPER), ("refined", done, Settings())):
                cpu, report = time.process_time(), refine(defective, patch, done.frame, completion, settings).report
                found[name].append((report.seconds, time.process_time() - cpu))
            found["calvaria refine"].append(as_command(defective, patch))
    units = {"Reg-SN": "processor s", "refined": "processor s", "calvaria refine": "MB at most"}
    for name, rows in found.items():
        seconds, other = np.array(rows).T
        second = other.max() if name == "calvaria refine" else other.mean()
        line = f"{seconds.mean():.1f} s (at most {seconds.max():.1f}), {second:.1f} {units[name]}, n = {len(rows)}"
        sys.stdout.write(f"{name}: {line}\n")


if __name__ == "__main__":
    sys.exit(run_while_read(main))
