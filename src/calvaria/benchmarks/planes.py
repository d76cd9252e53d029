"""The accuracy of symmetry planes, and what reflection about them can reach (Wodzinski et al., table 1).

::

    calvaria benchmark table1 --data ROOT -o planes.csv

Every person of the splits, complete and with a hole, as the scan lies and rotated by up to 45 degrees: each method's
plane against the reference, the least symmetry loss of the complete skull in the window of the calvaria.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from calvaria.benchmarks.cases import Task, build, tasks_of
from calvaria.benchmarks.pose import placed
from calvaria.benchmarks.rows import Tell, read_table, write_table
from calvaria.errors import CalvariaError, one_line
from calvaria.jobs import Countdown, in_processes
from calvaria.skull.canonical import REGION_MM, locate
from calvaria.symmetry.estimate import PlaneEstimate, ask, axes_of, estimate_from, judged
from calvaria.symmetry.frame import coarse_bone
from calvaria.symmetry.optimise import optimise
from calvaria.symmetry.plane import Plane, reflect_volume
from calvaria.symmetry.runner import load_network
from calvaria.types import F64
from calvaria.volume.morphology import dilate_mm
from calvaria.volume.resample import coarsen
from calvaria.volume.volume import Volume, bounding_box

OVERLAP_MM = 1.5
"""Overlaps are counted on voxels of about this edge, as in the trial that settled how the paper is read."""

AROUND_MM = 3.3
"""A mirror image fills a hole up to this far beyond the true patch."""

REFERENCE = "reference"
"""Method name of the reference itself: the bound."""

POSE = "pose"
"""Method name of the canonical frame's plane: registered to the mean skull, then a descent from there."""

BARE = "bare"
"""Follows a network's name and a plus sign where its own plane counts, without the step after it."""

UP = axes_of((0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Row:
    """What one method found on one skull.

    Args:
        case: case id.
        split: side of the split.
        kind: of the hole.
        input: "complete" or "defective": what the method saw.
        turned: whether the skull was rotated at random first.
        method: "reference", "optimise", "pose", or the network's name, with "+optimise" where the optimiser followed,
            with "+bare" where nothing did.
        deg: angle to the reference plane.
        mm: distance from it in the middle of the vault.
        implant_dsc: DSC of the reflected patch and its part in the complete skull: the paper's table 1.
        mirror_dsc: DSC of the true patch and the defective skull reflected into the hole.
        residual: SL that was left.
        asymmetry_mm: how far the two sides then lay apart.
        apart_deg: angle between network and optimiser; NaN where only one was asked.
        trusted: whether the method had no doubts.
        seconds: processor time from coarse bone to plane.
        error: why it failed, in one line; empty if it did not.
    """

    case: str
    split: str
    kind: str
    input: str
    turned: bool
    method: str
    deg: float = math.nan
    mm: float = math.nan
    implant_dsc: float = math.nan
    mirror_dsc: float = math.nan
    residual: float = math.nan
    asymmetry_mm: float = math.nan
    apart_deg: float = math.nan
    trusted: bool = True
    seconds: float = math.nan
    error: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """The skull and its hole: what is computed together."""
        return self.case, self.kind


@dataclass(frozen=True)
class Overlaps:
    """A complete skull and a patch on coarse voxels, to count what reflection reaches."""

    complete: Volume
    patch: Volume

    @classmethod
    def of(cls, defective: Volume, patch: Volume) -> Overlaps:
        """Coarse masks of a defective skull and its true patch."""
        box = bounding_box(defective.mask | patch.mask)
        whole = defective.with_data(defective.mask | patch.mask)
        whole, patch = (whole, patch) if box is None else (whole.crop(box), patch.crop(box))
        coarse = [coarsen(volume, OVERLAP_MM) for volume in (whole, patch)]
        return cls(*(volume.with_data(volume.data >= 0.5) for volume in coarse))

    def implant(self, plane: Plane) -> float:
        """DSC of the reflected patch and the part of the complete skull that it meets."""
        mirrored = reflect_volume(self.patch, plane).data >= 0.5
        met = mirrored & self.complete.mask
        total = int(mirrored.sum()) + int(met.sum())
        return 2 * int(met.sum()) / total if total else math.nan

    def mirror(self, plane: Plane) -> float:
        """DSC of the true patch and what the defective skull's mirror image puts into the hole."""
        there = self.patch.with_data(self.complete.mask & ~self.patch.mask)
        mirrored = reflect_volume(there, plane).data >= 0.5
        filled = mirrored & ~there.mask & dilate_mm(self.patch, AROUND_MM).mask
        return 2 * int((filled & self.patch.mask).sum()) / max(1, int(filled.sum()) + int(self.patch.mask.sum()))


class Truth(NamedTuple):
    """What a plane is measured by: the reference, the middle of the vault, and what can be overlapped."""

    plane: Plane
    middle_mm: F64
    overlaps: Overlaps


def reference_plane(complete: Volume) -> tuple[Plane, F64]:
    """The plane of the least symmetry loss of a complete skull, and the middle of its vault, (3,) world mm."""
    frame = locate(complete)
    best = optimise(coarse_bone(complete), REGION_MM, [frame.to_world], robust=None)
    return best.plane, np.asarray(best.to_world[:3] @ [0.0, 0.0, 20.0, 1.0])


def rows_of(task: Task, split: str, models: Sequence[str], turns: int, held: frozenset[str] = frozenset()) -> list[Row]:
    """Every method but those held on one skull with one hole; a method that fails is named in its row."""
    defective, patch = build(task)
    complete = defective.with_data(defective.mask | patch.mask)
    right, middle = reference_plane(complete)
    overlaps = Overlaps.of(defective, patch)
    bound = (overlaps.implant(right), overlaps.mirror(right))
    rows = [Row(task.case.id, split, task.kind, "complete", False, REFERENCE, 0.0, 0.0, *bound)]
    methods = [method for method in methods_of(models) if method not in held]
    rng = np.random.default_rng([45, int(task.case.id[-3:])])
    for turn in range(turns + 1):
        seed = int(rng.integers(1 << 32))
        for seen, skull in (("complete", complete), ("defective", defective)):
            box = bounding_box(skull.mask)
            moved, move = skull if box is None else skull.crop(box), np.eye(4)
            if turn:
                moved, move = placed(moved, np.random.default_rng(seed))
            bone = coarse_bone(moved)
            for method in methods:
                start = Row(task.case.id, split, task.kind, seen, turn > 0, method)
                rows.append(_row(start, moved, bone, move, Truth(right, middle, overlaps)))
    return rows[1:] if REFERENCE in held else rows


def methods_of(models: Sequence[str]) -> tuple[str, ...]:
    """The methods of a run: optimiser from many starts, pose, and each network with its step, bare, and optimised."""
    return ("optimise", POSE, *models, *(f"{model}+{after}" for model in models for after in (BARE, "optimise")))


def _row(start: Row, skull: Volume, bone: Volume, move: F64, truth: Truth) -> Row:
    began = time.process_time()
    try:
        found = _estimate(start.method, skull, bone)
    except CalvariaError as error:
        return replace(start, error=one_line(error))
    seconds = time.process_time() - began
    plane = found.plane.moved(np.linalg.inv(move))
    return replace(
        start,
        deg=plane.angle_deg(truth.plane),
        mm=plane.apart_mm(truth.plane, truth.middle_mm),
        implant_dsc=truth.overlaps.implant(plane),
        mirror_dsc=truth.overlaps.mirror(plane),
        residual=found.residual,
        asymmetry_mm=found.asymmetry_mm,
        apart_deg=math.nan if found.apart_deg is None else found.apart_deg,
        trusted=found.trusted,
        seconds=seconds,
    )


def _estimate(method: str, skull: Volume, bone: Volume) -> PlaneEstimate:
    if method == POSE:
        return judged(bone, locate(skull).plane, method, UP)
    model, _, follows = method.partition("+")
    if follows == BARE:
        return judged(bone, ask(load_network(model), bone, UP), method, UP)
    how = "optimise" if method == "optimise" else "network+optimise" if follows else "network"
    return estimate_from(bone, how, UP, model)


def run(
    tasks: Sequence[tuple[str, Task]], output: Path, models: Sequence[str], turns: int, *, jobs: int = 1, tell: Tell
) -> list[Row]:
    """Run the methods that the file does not hold yet, and write each skull's rows as soon as they are there.

    Args:
        tasks: side of the split and task.
        output: the CSV file; rows of other tasks in it stay.
        models: networks by name.
        turns: random orientations of each skull, besides its own.
        jobs: skulls at a time.
        tell: takes a line of progress a skull, with the time left.

    Returns:
        The rows of all tasks.

    Raises:
        FormatError: the file is no such table.
        WorkerDiedError: a process died; the rows so far are in the file.
    """
    rows = read_table(output, Row, "planes")
    failed = {(row.key, row.method) for row in rows if row.error}
    rows = [row for row in rows if (row.key, row.method) not in failed]
    held: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        held.setdefault(row.key, set()).add(row.method)
    wanted = {REFERENCE, *methods_of(models)}
    todo = []
    for split, task in tasks:
        there = frozenset(held.get((task.case.id, task.kind), ()))
        if not wanted <= there:
            todo.append((split, task, there))
    write_table(output, Row, rows)
    clock = Countdown(len(todo))
    for (_, task, _), found in in_processes(partial(_left, models=tuple(models), turns=turns), todo, jobs):
        rows += found
        write_table(output, Row, rows)
        tell(f"[{clock.step()}] {task.case.id} {task.kind}")
    keys = {(task.case.id, task.kind) for _, task in tasks}
    return [row for row in rows if row.key in keys]


def _left(todo: tuple[str, Task, frozenset[str]], models: Sequence[str], turns: int) -> list[Row]:
    split, task, held = todo
    return rows_of(task, split, models, turns, held)


def angles_table(rows: Sequence[Row], split: str) -> list[str]:
    """Lines: how far each method's planes lie from the reference."""
    lines = [
        f"planes of {split} persons against the reference: median, mean, 95 %, worst",
        f"{'method':<28} {'input':<10} {'turned':<7} {'n':>4}  {'degrees':<26} {'mm':<26} {'doubted':>7} {'CPU ms':>7}",
    ]
    some = [row for row in rows if row.split == split and row.method != REFERENCE]
    for method in sorted({row.method for row in some}):
        for seen in ("complete", "defective"):
            for turned in (False, True):
                one = [r for r in some if (r.method, r.input, r.turned) == (method, seen, turned) and not r.error]
                if seen == "complete":  # the same skull whatever the hole
                    one = list({row.case: row for row in one}.values())
                if one:
                    figures = [_spread([r.deg for r in one]), _spread([r.mm for r in one])]
                    doubted, ms = sum(not r.trusted for r in one), 1e3 * float(np.median([r.seconds for r in one]))
                    skulls = f"{seen:<10} {'45 deg' if turned else 'no':<7} {len(one):>4}"
                    cost = f"{doubted:>7} {ms:>7.0f}"
                    lines.append(f"{_shown(method):<28} {skulls}  {figures[0]:<26} {figures[1]:<26} {cost}")
    failed = [row for row in some if row.error]
    return lines + [f"FAILED: {row.case} {row.kind} {row.method}: {row.error}" for row in failed]


PUBLISHED = {
    ("resnet", "SkullBreak"): (0.903, 0.892, 0.907),
    ("resnet", "SkullFix"): (0.911, 0.905, 0.896),
    ("vit", "SkullBreak"): (0.942, 0.958, 0.956),
    ("vit", "SkullFix"): (0.973, 0.952, 0.969),
}
"""Table 1 of the paper: train, validation, test."""

SIDES = ("train", "validation", "test")


def table1(rows: Sequence[Row]) -> list[str]:
    """Lines: the paper's table 1, complete skulls as they lie, and beside it what a defective skull's mirror fills."""
    lines = [
        "Table 1: DSC of the reflected patch and its part in the complete skull, mean and sd (n)",
        f"{'plane from':<36} {'holes':<12} " + " ".join(f"{side:<20}" for side in SIDES),
    ]
    for (encoder, name), figures in PUBLISHED.items():
        lines.append(f"{f'published, {encoder}':<36} {name:<12} " + " ".join(f"{value:<20.3f}" for value in figures))
    lines += _overlap_lines(rows, "implant_dsc", "complete") + _overlap_lines(rows, "implant_dsc", "defective")
    lines += ["", "The defective skull reflected into its hole: DSC with the true patch, mean and sd (n)"]
    return lines + _overlap_lines(rows, "mirror_dsc", "defective")


def _overlap_lines(rows: Sequence[Row], figure: str, seen: str) -> list[str]:
    lines = []
    for method in sorted({row.method for row in rows}, key=lambda name: (name != REFERENCE, name)):
        wanted = "complete" if method == REFERENCE else seen
        some = [r for r in rows if (r.method, r.input, r.turned) == (method, wanted, False) and not r.error]
        for holes in ("official", "five kinds"):
            chosen = [row for row in some if (row.kind == "official") == (holes == "official")]
            sides = [[getattr(row, figure) for row in chosen if row.split == side] for side in SIDES]
            cells = [f"{np.mean(v):.3f} {np.std(v):.3f} ({len(v)})" if v else "-" for v in sides]
            label = method if method == REFERENCE else f"{_shown(method)}, {seen}"
            if chosen:
                lines.append(f"{label:<36} {holes:<12} " + " ".join(f"{cell:<20}" for cell in cells))
    return lines


def _shown(method: str) -> str:
    """A method as tables name it: a network's file without its folder."""
    model, plus, follows = method.partition("+")
    return Path(model).stem + plus + follows


def _spread(values: Sequence[float]) -> str:
    some = np.array(values)
    return f"{np.median(some):.2f}  {some.mean():.2f}  {np.percentile(some, 95):.2f}  {some.max():.2f}"


def tasks_by_side(root: Path, sides: Sequence[str], kinds: Sequence[str], limit: int | None) -> list[tuple[str, Task]]:
    """Persons of the sides with their kinds of holes; training persons have the official ones only."""
    return [
        (side, task)
        for side in sides
        for task in tasks_of(root, side, ("official",) if side == "train" else kinds, limit)
    ]


__all__ = [
    "Overlaps",
    "Row",
    "angles_table",
    "methods_of",
    "reference_plane",
    "rows_of",
    "run",
    "table1",
    "tasks_by_side",
]
