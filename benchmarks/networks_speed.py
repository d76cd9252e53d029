"""What each reconstruction network costs: parameters, a training step and its memory, a completion by two run times.

::

    python benchmarks/networks_speed.py --cache coarse.safetensors [--size small] [--coarsen 2]

Every training step is measured in a process of its own, by ``calvaria train reconstruction --dry-run``; a completion is
one forward pass of an untrained network in this process, the median of five. Prints the table of docs/networks.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calvaria.benchmarks.script import run_while_read
from calvaria.datasets.cache import SkullCache
from calvaria.models import register
from calvaria.models.runtime import convert, run_in_openvino
from calvaria.reconstruction.networks.engine import KIND
from calvaria.reconstruction.networks.zoo import ZOO, make_network

RUNS = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="what each reconstruction network costs")
    parser.add_argument("--cache", type=Path, required=True, help="a training cache")
    parser.add_argument("--size", default="small", help="small or full")
    parser.add_argument("--coarsen", type=int, default=2, help="cache voxels along a training voxel")
    options = parser.parse_args()
    shape = tuple(n // options.coarsen for n in SkullCache(options.cache).grid.shape)
    say(f"{options.size} networks on {' x '.join(map(str, shape))} voxels; {torch.get_num_threads()} threads\n")
    say("| network | parameters | training step, 2 cases | memory in training | completion, OpenVINO | torch |")
    say("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in ZOO:
        told = dry_run(name, options)
        ov, plain = completions_s(name, options.size, shape)
        size, memory = f"{told['parameters'] / 1e6:.1f} M", f"{told['memory_mb'] / 1e3:.1f} GB"
        say(f"| `{name}` | {size} | {told['step_s']:.2f} s | {memory} | {ov:.2f} s | {plain:.2f} s |")


def say(line: str) -> None:
    """A line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def dry_run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The dry run of a network, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "calvaria.cli",
        "train",
        "reconstruction",
        "--dry-run",
        "--json",
        "--device",
        "cpu",
    ]
    command += ["--network", name, "--cache", str(options.cache), "-o", "none.safetensors", "--size", options.size]
    command += ["--coarsen", str(options.coarsen), "--batch", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def completions_s(name: str, size: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Median seconds of a forward pass, by OpenVINO and by torch."""
    torch.manual_seed(0)
    network = make_network(name, shape, size=size).eval()  # type: ignore[arg-type]
    example = torch.rand(1, 1, *shape)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        path.touch()
        model = register(path, "net", KIND, "none", convert(network, example, path))
        run = run_in_openvino(model)
        seen = example.numpy()
        with torch.no_grad():
            return median_s(lambda: run(seen)), median_s(lambda: network(example))


def median_s(work: Callable[[], Any]) -> float:
    """Median of a few runs, after one that does not count."""
    seconds = []
    for _ in range(RUNS + 1):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return float(np.round(statistics.median(seconds[1:]), 4))


if __name__ == "__main__":
    sys.exit(run_while_read(main))
