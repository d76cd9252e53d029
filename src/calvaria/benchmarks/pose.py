"""Accuracy of the canonical frame: the same skull rotated at random, with and without its hole.

::

    python -m calvaria.benchmarks.pose --data ROOT --split test --turns 4 --jobs 2

Every skull is moved by a random rotation of up to 45 degrees, flips of its axes and a shift: only its header
changes, so the truth is known exactly. The frame is compared with that of the complete skull as it came.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calvaria.benchmarks.cases import OFFICIAL, Task, build, tasks_of
from calvaria.benchmarks.reconstruction import tell
from calvaria.benchmarks.script import run_while_read
from calvaria.jobs import Countdown, in_order
from calvaria.reconstruction.engines import load_engine
from calvaria.skull.canonical import CanonicalFrame, locate
from calvaria.volume.grid import Grid
from calvaria.volume.rotation import rotation_matrix
from calvaria.volume.volume import Volume, bounding_box

MAX_DEG, MAX_MM = 45.0, 200.0
"""Limits of the random rotation and shift."""

VAULT_MM = np.array([[0.0, -88.0, 0.0], [0.0, 0.0, 80.0], [0.0, 88.0, 10.0], [68.0, 0.0, 20.0], [-68.0, 0.0, 20.0]])
"""Canonical points on the outside of the mean skull: forehead, vertex, occiput, temples."""

WAYS = ("complete", "with its hole", "with its hole, once completed")
"""The table's rows."""


class Miss(NamedTuple):
    """The errors of a frame.

    Args:
        plane_deg: angle between the mid-sagittal planes.
        plane_mm: mean distance of the true plane's points on the vault from the found plane.
        vault_mm: mean distance between found and true positions of points on the vault.
        seconds: processor time of `locate` alone.
    """

    plane_deg: float
    plane_mm: float
    vault_mm: float
    seconds: float


def placed(volume: Volume, rng: np.random.Generator) -> tuple[Volume, NDArray[np.float64]]:
    """The same voxels elsewhere in the world, and the (4, 4) rigid map that took them there.

    Args:
        volume: any volume.
        rng: draws rotation, shift and which axes are stored backwards.
    """
    axis = rng.standard_normal(3)
    move = np.eye(4)
    move[:3, :3] = rotation_matrix(np.radians(rng.uniform(0, MAX_DEG)) * axis / np.linalg.norm(axis))
    move[:3, 3] = rng.uniform(-MAX_MM, MAX_MM, 3)
    data, affine = volume.data, move @ volume.affine
    for n in range(3):
        if rng.random() < 0.5:
            affine[:3, 3] += affine[:3, n] * (data.shape[n] - 1)
            affine[:3, n] *= -1
            data = np.flip(data, n)
    return Volume(data, Grid(volume.shape, affine)), move


def miss(found: CanonicalFrame, true_to_world: NDArray[np.float64], seconds: float) -> Miss:
    """Compare a found frame with where it should be."""
    off = np.linalg.inv(true_to_world) @ found.to_world
    angle = float(np.degrees(np.arccos(np.clip(abs(off[0, 0]), 0, 1))))
    true = VAULT_MM @ true_to_world[:3, :3].T + true_to_world[:3, 3]
    position = VAULT_MM @ found.to_world[:3, :3].T + found.to_world[:3, 3]
    middle = true[VAULT_MM[:, 0] == 0]
    plane = np.abs(middle @ found.plane.normal - found.plane.offset_mm).mean()
    return Miss(angle, float(plane), float(np.linalg.norm(position - true, axis=1).mean()), seconds)


def misses_of(task: Task, model: str, turns: int) -> list[list[Miss]]:
    """For each of `WAYS`, the errors of the frame of the rotated skull, ``turns`` times."""
    engine = load_engine(model)
    defective, truth = build(task)
    complete = defective.with_data(defective.mask | truth.mask)
    right = locate(complete, engine.template).to_world
    rng = np.random.default_rng(int(task.case.id[-3:]))
    out: list[list[Miss]] = [[] for _ in WAYS]
    for _ in range(turns):
        seed = int(rng.integers(1 << 32))
        for skull, ways in ((complete, out[:1]), (defective, out[1:])):
            box = bounding_box(skull.mask)
            moved, move = placed(skull if box is None else skull.crop(box), np.random.default_rng(seed))
            start = time.process_time()
            frame = locate(moved, engine.template)
            seconds = time.process_time() - start
            ways[0].append(miss(frame, move @ right, seconds))
            for way in ways[1:]:
                way.append(miss(engine.reconstruct(moved, frame).frame, move @ right, seconds))
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(prog="python -m calvaria.benchmarks.pose", description="spread of the frame")
    parser.add_argument("--data", type=Path, required=True, help="folder of the AutoImplant 2020 set")
    parser.add_argument("--split", default="test", choices=("test", "validation"))
    parser.add_argument("--kind", default=OFFICIAL, help="kind of the hole")
    parser.add_argument("--model", default="shape-prior")
    parser.add_argument("--turns", type=int, default=4, help="random placements of each skull")
    parser.add_argument("--limit", type=int, help="only the first so many persons")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args(arguments)
    tasks = tasks_of(options.data, options.split, (options.kind,), options.limit)
    work, clock, found = partial(misses_of, model=options.model, turns=options.turns), Countdown(len(tasks)), []
    for task, misses in zip(tasks, in_order(work, tasks, options.jobs), strict=True):
        found.append(misses)
        tell(f"[{clock.step()}] {task.case.id}")
    tell(f"{len(tasks)} skulls, {options.turns} placements each: mean, 95 %, worst")
    tell(f"{'':<28} {'plane degrees':<20} {'plane mm':<20} {'vault mm':<20} {'CPU s':>6}")
    for number, way in enumerate(WAYS):
        values = np.array([one for case in found for one in case[number]])
        columns = zip(values.mean(axis=0), np.percentile(values, 95, axis=0), values.max(axis=0), strict=True)
        *figures, seconds = list(columns)
        text = " ".join(f"{f'{mean:.2f}  {high:.2f}  {worst:.2f}':<20}" for mean, high, worst in figures)
        tell(f"{way:<28} {text} {seconds[0]:6.2f}")


if __name__ == "__main__":
    sys.exit(run_while_read(main))


__all__ = ["WAYS", "Miss", "miss", "misses_of", "placed"]
