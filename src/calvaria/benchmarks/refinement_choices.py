"""What a refinement's evidence is worth, and how its settings were chosen.

::

    python -m calvaria.benchmarks.refinement_choices --data ROOT --worth
    python -m calvaria.benchmarks.refinement_choices --data ROOT --model runs/runet.safetensors

Persons of the validation side, whom neither the shape prior nor any network that the program trains has seen. The first
says how far each kind of evidence lies from the true surface in the hole, and how much of what the shape prior is off
the others explain. The second refines a network's patches and true patches moved aside with every choice in turn.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from calvaria.benchmarks.bad_starts import BAD_STARTS
from calvaria.benchmarks.cases import Task, tasks_of
from calvaria.benchmarks.refining import figures_of, model_of, patch_of, scene_of
from calvaria.benchmarks.script import run_while_read
from calvaria.errors import CalvariaError
from calvaria.jobs import Countdown, in_processes
from calvaria.refinement.build import Ground, scene_grid
from calvaria.refinement.descend import Level
from calvaria.refinement.evidence import asymmetry, rim_evidence
from calvaria.refinement.refine import PAPER, Settings, refine
from calvaria.types import F64
from calvaria.volume.volume import Volume

Made = TypeVar("Made")

KINDS = ("official", "parietotemporal", "random_1")
"""Holes that are looked at by default: across the midline, beside it, anywhere."""

START = "shifted"
"""The bad start."""

CHOICES: Mapping[str, tuple[Settings, bool]] = {
    "Reg-SN, lambda 1e4": (replace(PAPER, stiffness=1e4), False),
    "Reg-SN, lambda 1e5": (PAPER, False),
    "Reg-SN, lambda 1e6": (replace(PAPER, stiffness=1e6), False),
    "Reg-SN, asymmetry taken out": (replace(PAPER, even_out=True), False),
    "no shape prior": (Settings(), False),
    "default": (Settings(), True),
    "default, without symmetry": (Settings(symmetry_beside_prior=0.0), True),
    "default, without the rim": (Settings(rim=0.0), True),
    "default, all weights / 10": (Settings(prior=2.0, rim=1.0, symmetry_beside_prior=0.1), True),
    "default, ends at 3.2 mm": (Settings(levels=(Level(4, 8.0, 30), Level(2, 4.0, 30))), True),
}
"""Name -> settings, and whether the shape prior's completion is given."""

NEAR_MM, DEEP_MM, SEEN_MM = 2.0, 1.5, 6.0
"""Nodes so near to the true surface, so far from intact bone, and whose mirror image lies so near to a surface."""


class Worth(NamedTuple):
    """Signed distances at nodes next to the true surface in a hole, mm: what is true, and what each evidence says."""

    true_mm: F64
    prior_mm: F64
    mirror_mm: F64
    evened_mm: F64
    rim_mm: F64


def worth_of(task: Task) -> Worth:
    """What each kind of evidence says in the hole of a task; NaN where it says nothing."""
    scene = scene_of(task)
    ground = Ground.of(scene.defective, scene.done.frame, scene.done)
    true, expected = ground.completed_mm(scene.truth), ground.expected_mm
    if expected is None:
        raise CalvariaError("there is no completion to compare with")
    box = ground.box(true)
    if box is None:
        raise CalvariaError("the hole lies beyond the part of the head that is compared")
    open_ = ground.open(true, box)
    nodes = open_ & (np.abs(true) < NEAR_MM) & (ground.bone_mm > DEEP_MM)
    uneven = asymmetry(ground.bone_mm, ~open_, nodes, scene_grid())
    rim = rim_evidence(ground.bone_mm, expected, scene_grid(), nodes, 1.0)
    mirror = np.where(np.abs(ground.bone_mm[::-1]) < SEEN_MM, ground.bone_mm[::-1], np.nan)
    said = (true, expected, mirror, mirror + uneven, np.where(rim.weight > 0, rim.distance_mm, np.nan))
    return Worth(*(np.asarray(values[nodes], np.float64) for values in said))


def worth_lines(found: Sequence[Worth]) -> list[str]:
    """The table: errors, and how much of the shape prior's (of its mean square) each explains beside it."""
    all_ = Worth(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
    off = all_.true_mm - all_.prior_mm
    head = f"{'rms mm':>7} {'median mm':>10} {'prior there, rms':>17} {'explains':>9} {'weight':>7}"
    lines = [f"{'evidence':<26} {'nodes':>8} {head}"]
    names = ("the shape prior", "the mirror image", "... asymmetry taken out", "the rim")
    for name, values in zip(names, all_[1:], strict=True):
        there = np.isfinite(values)
        if not there.any():
            lines.append(f"{name:<26} {0:>8}")
            continue
        says, lacks = (values - all_.prior_mm)[there], off[there]
        weight = float(says @ lacks / (says @ says)) if says.any() else 0.0
        share = 1 - float(((lacks - weight * says) ** 2).sum() / (lacks**2).sum())
        wrong = np.abs(values - all_.true_mm)[there]
        errors = f"{np.sqrt((wrong**2).mean()):>7.2f} {np.median(wrong):>10.2f} {np.sqrt((lacks**2).mean()):>17.2f}"
        line = f"{name:<26} {there.sum():>8} {errors}"
        lines.append(line + (f" {share:>8.1%} {weight:>7.3f}" if weight else ""))
    return lines


class Tried(NamedTuple):
    """One choice on one start: figures before and after."""

    choice: str
    start: str
    before: dict[str, float]
    after: dict[str, float]


def tried(task: Task, models: Sequence[str]) -> list[Tried]:
    """Every choice on every start of a task."""
    scene, out = scene_of(task), []
    starts: dict[str, Volume] = {}
    for name in models:
        model = model_of(name)
        starts[model.name] = patch_of(scene, model)[0]
    starts[START] = BAD_STARTS[START](scene.truth, scene.defective, scene.done.frame)
    for name, patch in starts.items():
        before = figures_of(scene, patch)
        for choice, (settings, with_prior) in CHOICES.items():
            completion = scene.done if with_prior else None
            found = refine(scene.defective, patch, scene.done.frame, completion, settings)
            after = figures_of(scene, found.patch) | {"seconds": found.report.seconds}
            out.append(Tried(choice, name, before, after))
    return out


def tried_lines(rows: Sequence[Tried]) -> list[str]:
    """The table: means over the cases."""
    lines = []
    for start in dict.fromkeys(row.start for row in rows):
        lines.append(f"{start:<30} {'n':>3} {'DSC':>7} {'worst change':>13} {'HD95 mm':>8} {'border mm':>10} {'s':>5}")
        own = [row for row in rows if row.start == start]
        first = [row for row in own if row.choice == own[0].choice]
        lines.append(_line("as it is", [row.before for row in first], None))
        for choice in dict.fromkeys(row.choice for row in own):
            mine = [row for row in own if row.choice == choice]
            lines.append(_line(choice, [row.after for row in mine], [row.before["dsc"] for row in mine]))
    return lines


def _line(name: str, figures: Sequence[Mapping[str, float]], before: Sequence[float] | None) -> str:
    dsc, hd95, border = (np.array([row[key] for row in figures]) for key in ("dsc", "hd95_mm", "border_mm"))
    change = "" if before is None else f"{(dsc - before).min():+.4f}"
    seconds = "" if before is None else f"{np.mean([row['seconds'] for row in figures]):.1f}"
    means = f"{dsc.mean():>7.4f} {change:>13} {hd95[np.isfinite(hd95)].mean():>8.2f} {np.nanmean(border):>10.2f}"
    return f"  {name:<28} {len(dsc):>3} {means} {seconds:>5}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m calvaria.benchmarks.refinement_choices", description="what evidence is worth; settings compared"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the AutoImplant 2020 set")
    parser.add_argument("--side", default="validation", choices=("validation", "train"))
    parser.add_argument("--kind", action="append", help="kinds of holes; default: official, parietotemporal, random_1")
    parser.add_argument("--limit", type=int, help="only the first so many persons")
    parser.add_argument("--jobs", type=int, default=1, help="cases at the same time")
    parser.add_argument("--model", action="append", default=[], help="a network whose patches are refined")
    parser.add_argument("--worth", action="store_true", help="how far each kind of evidence lies from the truth")
    options = parser.parse_args(arguments)
    try:
        tasks = tasks_of(options.data, options.side, tuple(options.kind or KINDS), options.limit)
        if options.worth:
            lines = worth_lines(_each(worth_of, tasks, options.jobs))
        else:
            found = _each(partial(tried, models=tuple(options.model)), tasks, options.jobs)
            lines = tried_lines([row for rows in found for row in rows])
    except CalvariaError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _each(work: Callable[[Task], Made], tasks: Sequence[Task], jobs: int) -> list[Made]:
    """What comes of every task, told one by one."""
    clock, found = Countdown(len(tasks)), []
    for task, one in in_processes(work, tasks, jobs):
        found.append(one)
        sys.stderr.write(f"[{clock.step()}] {task.case.id} {task.kind}\n")
    return found


if __name__ == "__main__":
    sys.exit(run_while_read(main))


__all__ = ["CHOICES", "Tried", "Worth", "tried", "tried_lines", "worth_lines", "worth_of"]
