"""How fast the mid-sagittal plane is found: the network's looks, what comes before, and the optimiser beside it.

::

    python benchmarks/plane_speed.py                  # the packaged sample
    python benchmarks/plane_speed.py skull.nrrd --model symmetry-vit --repeats 20

Everything in one run on one machine; wall time, shortest and median. The canonical frame's own plane step and its whole
search for the pose stand beside.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from calvaria.benchmarks.script import run_while_read
from calvaria.io import read_mask
from calvaria.skull import canonical
from calvaria.symmetry.estimate import NEAR, SYMMETRY_NETWORK, ask, axes_of, follow, search, stepped
from calvaria.symmetry.frame import coarse_bone, cube_of, head_frame
from calvaria.symmetry.optimise import Comparison
from calvaria.symmetry.plane import Plane
from calvaria.symmetry.runner import load_network
from calvaria.synthesis.sample import sample_case
from calvaria.volume.sampler import Sampler

UP = axes_of((0.0, 0.0, 1.0))


def timed(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Shortest and median wall time, ms; a first run is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return min(times), float(np.median(times))


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description="speed of the symmetry plane")
    parser.add_argument("skull", type=Path, nargs="?", help="a bone mask; default: the packaged sample")
    parser.add_argument("--model", default=SYMMETRY_NETWORK)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    mask = sample_case()[0] if options.skull is None else read_mask(options.skull)
    numbers, bone = load_network(options.model), coarse_bone(mask)
    frame = head_frame(bone, UP)
    cube, guess = cube_of(bone, frame), ask(numbers, bone, UP)
    coarse = canonical.coarse_bone(mask)
    pose = canonical.locate(mask)
    sampler = Sampler.smooth(coarse, canonical.LEVELS[-1][0])
    step = Comparison.of(sampler, canonical.REGION_MM, canonical.PLANE_SPACING_MM)

    def asked() -> Plane:
        return ask(numbers, bone, UP, settled=NEAR)

    rows: dict[str, Callable[[], object]] = {
        "bone fractions of the mask": lambda: coarse_bone(mask),
        "one look: laid into the cube": lambda: cube_of(bone, head_frame(bone, UP)),
        "one look: the network": lambda: numbers(cube),
        "network without the step": lambda: ask(numbers, bone, UP),
        "one step behind the network": lambda: stepped(bone, guess, UP),
        "network with the step": lambda: stepped(bone, asked(), UP),
        "optimiser after the network": lambda: follow(bone, guess, UP),
        "optimiser, many starts": lambda: search(bone, UP),
        "canonical frame: its plane": lambda: step.descend(pose.to_world),
        "canonical frame: all of it": lambda: canonical.locate(mask),
    }
    sys.stdout.write(f"mask of {' x '.join(map(str, mask.shape))} voxels, {options.model}\n")
    sys.stdout.write(f"{'':<32} {'shortest ms':>12} {'median ms':>12}\n")
    for name, work in rows.items():
        least, median = timed(work, options.repeats)
        sys.stdout.write(f"{name:<32} {least:>12.1f} {median:>12.1f}\n")


if __name__ == "__main__":
    sys.exit(run_while_read(main))
