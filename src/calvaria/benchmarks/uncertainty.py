"""Does the true surface lie where a completion says that it may? An engine's own spread, calibrated and tested.

::

    python -m calvaria.benchmarks.uncertainty --data ROOT --split validation -o spread/
    python -m calvaria.benchmarks.uncertainty --data ROOT --split test -o spread-test/

A file a case in the folder; cases that are there are not computed again. Prints the calibration that fits these cases
best, as it is stored with the model (for ``--split validation``, whose persons the model has not seen), and how often
the true surface lies within the intervals of the stored one: over all points of a case, then over cases, for each kind.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from calvaria.benchmarks.cases import BENCHMARK_KINDS, KINDS_HELP, Task, build, tasks_of
from calvaria.benchmarks.reconstruction import tell
from calvaria.benchmarks.script import run_while_read
from calvaria.errors import CalvariaError, InputError
from calvaria.files import atomic_path
from calvaria.jobs import DIED, Countdown, in_processes
from calvaria.models.calibration import LEVELS, SurfaceCalibration
from calvaria.reconstruction.uncertainty import SPOKEN_SHARE, Uncertainty
from calvaria.types import F64, BoolArray
from calvaria.volume.volume import Volume, bounding_box

if TYPE_CHECKING:
    from calvaria.pipeline import Reconstruction

KINDS = (*BENCHMARK_KINDS, "hemicraniectomy")

RIM_MM = 2.0
"""Nearer to known bone than this the surface is all but known: left out."""

FEW = 50
"""Cases with fewer points of a table are left out of its figures."""

UNIT = SurfaceCalibration((1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
"""Gives an engine's own standard deviation back."""


def errors_along(result: Reconstruction, truth: Volume) -> dict[str, F64 | BoolArray]:
    """How far the completed surface is off the true one, beside what the engine said.

    Args:
        result: of a reconstruction from a mask.
        truth: the bone that is missing, on the same grid.

    Returns:
        For points along the completed surface, more than `RIM_MM` off known bone: ``error_mm`` along the normal,
        positive outside of the true bone, ``sd_mm`` of the engine, and ``outer``, whether a point is on that table.

    Raises:
        InputError: nothing was completed, or the engine cannot say how sure it is.
    """
    from calvaria.reconstruction.postprocess import surface_of
    from calvaria.reconstruction.surface import BoneSurface
    from calvaria.volume.gather import trilinear_at

    area_cm2 = sum(hole.area_cm2 for hole in result.holes)
    said = None if result.soft is None else Uncertainty.of(result.soft, result.frame, UNIT, area_cm2)
    if result.soft is None or said is None:
        raise InputError("nothing was completed, or the engine cannot say how sure it is")
    points, normals = surface_of(result.soft, result.frame)
    whole = truth.with_data(truth.mask | result.defective.mask)
    box = bounding_box(whole.mask, (2, 2, 2))
    if box is None:
        raise InputError("there is no bone")
    complete, known = BoneSurface.of(whole.crop(box)), BoneSurface.of(result.defective.crop(box))

    def share_at(surface: BoneSurface) -> F64:
        part = surface.fraction
        return trilinear_at(part.data.reshape(-1), part.shape, part.grid.to_index(points).T).astype(np.float64)

    if complete.tree is None or known.tree is None:
        raise InputError("there is no bone")
    apart, foot = complete.tree.query(points)
    along = np.abs(np.einsum("nk,nk->n", points - complete.points_mm[foot], complete.normals[foot]))
    error = np.where(share_at(complete) > 0.5, -1, 1) * np.minimum(apart, along)
    free = (known.tree.query(points)[0] > RIM_MM) & (share_at(known) < 0.25)
    middle = result.frame.to_world[:3, 3]
    outer = np.einsum("nk,nk->n", points - middle, normals) > 0
    sd = said.at(points, LEVELS[0])
    return {"error_mm": error[free], "sd_mm": sd[free], "outer": outer[free]}


def run_task(task: Task, model: str, folder: Path) -> str:
    """Complete one case and keep its errors; returns a line on it."""
    from calvaria.pipeline import reconstruct

    try:
        defective, truth = build(task)
        found = errors_along(reconstruct(defective, engine=model, kind="mask"), truth)
    except CalvariaError as error:
        return f"FAILED: {error}"
    with atomic_path(path_of(folder, task)) as partial_path, partial_path.open("wb") as sink:
        np.savez_compressed(sink, error_mm=found["error_mm"], sd_mm=found["sd_mm"], outer=found["outer"])
    return f"root mean square {np.sqrt(np.mean(np.square(found['error_mm']))):.2f} mm"


def path_of(folder: Path, task: Task) -> Path:
    """Where a case's errors are kept."""
    return folder / f"{task.case.id}-{task.kind}.npz"


def read_case(path: Path) -> dict[str, F64 | BoolArray]:
    """What `run_task` kept.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with np.load(path) as kept:
            return {name: kept[name] for name in ("error_mm", "sd_mm", "outer")}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: no errors of a case; remove it and run again ({error})") from error


def ratios(case: dict[str, F64 | BoolArray], *, outer: bool) -> F64:
    """Errors of a table in the engine's standard deviations."""
    chosen = case["outer"] == outer
    return np.asarray(np.abs(case["error_mm"][chosen]) / np.maximum(case["sd_mm"][chosen], 1e-6), np.float64)


def fitted(cases: Sequence[dict[str, F64 | BoolArray]], origin: str) -> SurfaceCalibration:
    """The calibration of cases, each of which counts the same.

    Raises:
        InputError: there are no cases with enough points.
    """
    found = []
    for outer in (True, False):
        each = [values for one in cases if len(values := ratios(one, outer=outer)) >= FEW]
        if not each:
            raise InputError("there are no cases to fit to")
        values = np.concatenate(each)
        weight = np.concatenate([np.full(len(one), 1 / len(one)) for one in each])
        order = np.argsort(values)
        below = np.cumsum(weight[order]) / weight.sum()
        a, b, c = (round(float(values[order][np.searchsorted(below, level)]), 2) for level in LEVELS)
        found.append((a, b, c))
    return SurfaceCalibration(found[0], found[1], origin)


def within(
    cases: dict[str, list[dict[str, F64 | BoolArray]]], used: SurfaceCalibration
) -> dict[str, dict[str, list[float]]]:
    """Surface -> kind -> share of points within the intervals of `LEVELS`, over a case's points and then over cases."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, outer, ends in (("outer", True, used.outer), ("inner", False, used.inner)):
        found[name] = {}
        for kind, several in cases.items():
            each = [values for one in several if len(values := ratios(one, outer=outer)) >= FEW]
            if each:
                found[name][kind] = [float(np.mean([(one <= end).mean() for one in each])) for end in ends]
    return found


def table(cases: dict[str, list[dict[str, F64 | BoolArray]]], used: SurfaceCalibration) -> list[str]:
    """Lines for each kind: how often the intervals hold, and how far off the outer surface is, expected and true."""
    lines = [
        "kind, cases | outer within 68, 90, 95 % | inner | outer mm on 90 % of a patch: expected, true (sd of both)"
    ]
    shares = within(cases, used)
    for kind, several in cases.items():
        parts = [", ".join(f"{100 * share:.0f}" for share in shares[name].get(kind, [])) for name in shares]
        expected, true = np.array([_outer_mm(one, used) for one in several]).T
        lines.append(
            f"{kind}, {len(several)} | {parts[0]} | {parts[1]} | {expected.mean():.2f}, {true.mean():.2f} "
            f"({expected.std():.2f}, {true.std():.2f}; worst {true.max():.2f})"
        )
    return lines


def _outer_mm(case: dict[str, F64 | BoolArray], used: SurfaceCalibration) -> tuple[float, float]:
    chosen = np.asarray(case["outer"], bool)
    said = Uncertainty(np.zeros((int(chosen.sum()), 3)), case["outer"][chosen], case["sd_mm"][chosen], used)
    return said.outer_within_mm(), float(np.quantile(np.abs(case["error_mm"][chosen]), SPOKEN_SHARE))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit code."""
    from calvaria.models import find

    options = _parser().parse_args(arguments)
    folder: Path = options.output
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tasks = tasks_of(options.data, options.split, tuple(options.kinds.split(",")), options.limit, tell=tell)
        todo = [task for task in tasks if not path_of(folder, task).exists()]
        clock = Countdown(len(todo))
        work = partial(run_task, model=options.model, folder=folder)
        for task, line in in_processes(work, todo, options.jobs, lost=_lost):
            tell(f"[{clock.step()}] {task.case.id} {task.kind}: {line}")
        done = [task for task in tasks if path_of(folder, task).exists()]
        tell(f"{len(done)} of {len(tasks)} cases")
        cases: dict[str, list[dict[str, F64 | BoolArray]]] = {}
        for task in done:
            cases.setdefault(task.kind, []).append(read_case(path_of(folder, task)))
        every = [one for several in cases.values() for one in several]
        best = fitted(every, f"{len(done)} cases of {options.split} persons of AutoImplant 2020")
        tell("best for these: " + json.dumps({"outer": best.outer, "inner": best.inner, "origin": best.origin}))
        stored = find(options.model).calibration
        used = None if stored is None else stored.surface
        shown = best if used is None else used
        for line in table(cases, shown):
            tell(line)
        if options.figure is not None:
            _draw(options.figure, within(cases, shown))
    except CalvariaError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def _draw(path: Path, shares: dict[str, dict[str, list[float]]]) -> None:
    from calvaria.report import save_png
    from calvaria.report.figures import coverage

    save_png(path, coverage(LEVELS, {f"{name} surface": kinds for name, kinds in shares.items()}))


def _lost(task: Task) -> str:
    return f"FAILED: {DIED}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m calvaria.benchmarks.uncertainty", description="how far completed surfaces are off, and say so"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the AutoImplant 2020 set")
    parser.add_argument("--split", default="test", choices=("test", "validation", "train"))
    parser.add_argument("--model", default="shape-prior", help="the engine")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of a file a case")
    parser.add_argument("--kinds", default=",".join(KINDS), help=KINDS_HELP)
    parser.add_argument("--limit", type=int, help="only the first so many persons")
    parser.add_argument("--jobs", type=int, default=1, help="cases at the same time")
    parser.add_argument("--figure", type=Path, help="draw how often the intervals hold, .png")
    return parser


if __name__ == "__main__":
    sys.exit(run_while_read(main))


__all__ = ["errors_along", "fitted", "main", "run_task", "table", "within"]
