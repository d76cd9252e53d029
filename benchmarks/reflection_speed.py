"""How fast volumes are reflected about a plane, against what the memory allows.

::

    python benchmarks/reflection_speed.py
    python benchmarks/reflection_speed.py --sizes 96 --batches 1

A reflection must read and write each float32 voxel once, 8 bytes: it cannot be faster than a copy of as many bytes,
which is timed in the same run. Its gradients by volumes and planes must read the volumes and the result's gradient and
write the volumes' gradient: 12 bytes more. The share says how much of a copy's speed is reached. NumPy's reflection of
one volume stands beside. Shortest of some runs; CUDA where there is one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from calvaria.benchmarks.script import run_while_read
from calvaria.symmetry.plane import Plane, reflect_volume
from calvaria.symmetry.reflection import reflect_volumes, unit_planes
from calvaria.volume import Grid, Volume

SIZES, BATCHES = (96, 128, 256), (1, 4)
HEAD_MM = 240.0
"""Edge of every cube."""

NORMAL, OFFSET_MM = (1.0, 0.08, -0.05), 3.0
"""A plane a few degrees off the grid's axes."""

COPIED_BYTES = 1 << 28
"""Size of the copied tensor: far beyond any cache."""

FORWARD_BYTES, BOTH_BYTES = 8, 20
"""What must be read and written for one voxel: forward, and with the gradients."""


def tell(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def shortest(work: Callable[[], object], repeats: int, device: str) -> float:
    """Least wall time of some runs, seconds; a first run is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def copied(device: str, repeats: int) -> float:
    """Bytes a second that a copy reads and writes together."""
    source = torch.ones(COPIED_BYTES // 4, device=device)
    target = torch.zeros_like(source)
    return 2 * COPIED_BYTES / shortest(lambda: target.copy_(source), repeats, device)


def cube(size: int) -> Grid:
    """A head's cube of so many voxels along each edge, about the origin."""
    spacing = HEAD_MM / size
    return Grid.isotropic((size, size, size), spacing, [-spacing * (size - 1) / 2] * 3)


def forward_and_both(size: int, batch: int, device: str, repeats: int) -> tuple[float, float]:
    """Seconds of a reflection in torch: alone, and with its gradients by volumes and planes."""
    grid = cube(size)
    volumes = torch.rand((batch, 1, size, size, size), device=device)
    planes = unit_planes(torch.tensor([[*NORMAL, OFFSET_MM]] * batch, device=device))
    ones = torch.ones_like(volumes)

    def forward() -> Tensor:
        with torch.no_grad():
            return reflect_volumes(volumes, grid, planes)

    def both() -> tuple[Tensor, ...]:
        leaves = volumes.detach().requires_grad_(), planes.detach().requires_grad_()
        return torch.autograd.grad(reflect_volumes(leaves[0], grid, leaves[1]), leaves, ones)

    return shortest(forward, repeats, device), shortest(both, repeats, device)


def in_numpy(size: int, repeats: int) -> float:
    """Seconds of the reflection of one volume in NumPy."""
    volume = Volume(np.random.default_rng(0).random((size,) * 3, np.float32), cube(size))
    plane = Plane(np.array(NORMAL), OFFSET_MM)
    return shortest(lambda: reflect_volume(volume, plane), repeats, "cpu")


def race(device: str, sizes: list[int], batches: list[int], repeats: int) -> None:
    """Print the table of one device."""
    bandwidth = copied(device, repeats)
    name = torch.cuda.get_device_name() if device == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    tell(f"\n{name}: a copy reads and writes {bandwidth / 1e9:.1f} GB a second together")
    tell(f"{'':<24} {'voxels':>6} {'batch':>6} {'ms':>10} {'M voxels/s':>12} {'of a copy':>10}")

    def line(name: str, batch: int, seconds: float, bytes_a_voxel: int) -> None:
        speed = batch * size**3 / seconds
        share = speed * bytes_a_voxel / bandwidth
        tell(f"{name:<24} {size:4d}^3 {batch:6d} {1e3 * seconds:10.2f} {speed / 1e6:12.1f} {share:10.1%}")

    for size in sizes:
        for batch in batches:
            alone, both = forward_and_both(size, batch, device, repeats)
            line("torch, forward", batch, alone, FORWARD_BYTES)
            line("torch, with gradients", batch, both, BOTH_BYTES)
        if device == "cpu":
            line("numpy, reflect_volume", 1, in_numpy(size, repeats), FORWARD_BYTES)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="how fast volumes are reflected, against a copy of their bytes")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="voxels along an edge")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES), help="volumes at once")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each; the shortest counts")
    options = parser.parse_args()
    if min(*options.sizes, *options.batches, options.repeats) < 1:
        parser.error("sizes, batches and repeats are 1 or more")
    race("cpu", options.sizes, options.batches, options.repeats)
    if torch.cuda.is_available():
        race("cuda", options.sizes, options.batches, options.repeats)


if __name__ == "__main__":
    sys.exit(run_while_read(main))
