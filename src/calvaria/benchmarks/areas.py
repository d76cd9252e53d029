"""How large the fixed holes of the benchmarks are, beside those that surgeons leave.

::

    python -m calvaria.benchmarks.areas --data ROOT -o areas.csv

Every kind of hole on every validation and test person; rows that are in the file already are not measured again. The
area is that of the outer surface that a patch restores, as clinical tables give it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calvaria.benchmarks.cases import KINDS_HELP, Task, build, frame_of, tasks_of
from calvaria.benchmarks.reconstruction import tell
from calvaria.benchmarks.rows import Tell, read_table, write_table
from calvaria.benchmarks.script import run_while_read
from calvaria.errors import CalvariaError
from calvaria.jobs import DIED, Countdown, in_processes
from calvaria.synthesis.defects import defect_area_cm2

SPLITS = ("validation", "test")

PUBLISHED = ("118 craniectomies", 118, 9.5, 134.8, 205.0)
"""What they are, how many, and least, median and largest area in cm2 (PMC6008696)."""

QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Row:
    """One hole.

    Args:
        case: case id.
        kind: kind of defect.
        area_cm2: of the outer surface that is missing.
        volume_ml: of the bone that is missing.
    """

    case: str
    kind: str
    area_cm2: float
    volume_ml: float


def measure(tasks: Sequence[Task]) -> list[Row] | str:
    """The holes of one person, whose skull is read once.

    Args:
        tasks: of one case.

    Returns:
        A row a task; or, where one of them cannot be built, why, in one line.
    """
    from calvaria.io import read_mask

    case = tasks[0].case
    try:
        if case.complete is None:
            return f"{case.id}: there is no complete skull, so no area"
        complete = read_mask(case.complete)
        frame = frame_of(case, complete)
        patches = ((task.kind, build(task, complete=complete)[1]) for task in tasks)
        return [Row(case.id, kind, defect_area_cm2(patch, complete, frame), patch.volume_ml) for kind, patch in patches]
    except CalvariaError as error:
        return str(error)


def run(tasks: Sequence[Task], output: Path, *, jobs: int = 1, tell: Tell) -> tuple[list[Row], list[str]]:
    """Measure what the file doesn't hold yet, and write it as soon as a person is done.

    Args:
        tasks: the holes.
        output: the CSV file; rows of other holes in it stay.
        jobs: persons at the same time.
        tell: takes a line of progress a person.

    Returns:
        The rows of the tasks that could be measured, in the order of the tasks, and a line for each person whose could
        not.

    Raises:
        FormatError: the file is no table of areas.
    """
    done = {(row.case, row.kind): row for row in read_table(output, Row, "areas")}
    todo: dict[str, list[Task]] = {}
    for task in tasks:
        if (task.case.id, task.kind) not in done:
            todo.setdefault(task.case.id, []).append(task)
    clock, failed = Countdown(len(todo)), []
    for several, found in in_processes(measure, list(todo.values()), jobs, lost=_lost):
        name = several[0].case.id
        if isinstance(found, str):
            failed.append(found)
            tell(f"[{clock.step()}] FAILED: {found}")
            continue
        done |= {(row.case, row.kind): row for row in found}
        write_table(output, Row, done.values())
        tell(f"[{clock.step()}] {name}: {', '.join(f'{row.kind} {row.area_cm2:.0f} cm2' for row in found)}")
    wanted = ((task.case.id, task.kind) for task in tasks)
    return [done[key] for key in wanted if key in done], failed


def _lost(several: Sequence[Task]) -> str:
    return f"{several[0].case.id}: {DIED}"


def summary(rows: Iterable[Row]) -> str:
    """The table: for each kind n, least, quartiles and largest area, and the mean volume; the published areas below."""
    by_kind: dict[str, list[Row]] = {}
    for row in rows:
        by_kind.setdefault(row.kind, []).append(row)
    lines = [f"{'kind':<18} {'n':>3}  {'min':>6} {'25 %':>6} {'median':>6} {'75 %':>6} {'max':>6} cm2  {'mean':>5} ml"]
    for kind, several in by_kind.items():
        areas = " ".join(f"{area:6.1f}" for area in np.quantile([row.area_cm2 for row in several], QUARTERS))
        volume = float(np.mean([row.volume_ml for row in several]))
        lines.append(f"{kind:<18} {len(several):>3}  {areas}      {volume:>5.0f}")
    name, count, least, median, most = PUBLISHED
    lines.append(f"{name:<18} {count:>3}  {least:6.1f} {'':6} {median:6.1f} {'':6} {most:6.1f}      (PMC6008696)")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table from the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    kinds = tuple(options.kinds.split(","))
    try:
        several = [tasks_of(options.data, split, kinds, options.limit, tell=tell) for split in SPLITS]
        tasks = [task for of_one in several for task in of_one]
        rows, failed = run(tasks, options.output, jobs=options.jobs, tell=tell)
    except CalvariaError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    tell(summary(rows))
    return 3 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m calvaria.benchmarks.areas", description="the areas of the benchmarks' holes"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the AutoImplant 2020 set")
    parser.add_argument("-o", "--output", type=Path, required=True, help="CSV file, continued if it exists")
    parser.add_argument("--kinds", default="all", help=KINDS_HELP)
    parser.add_argument("--limit", type=int, help="only the first so many persons of each side")
    parser.add_argument("--jobs", type=int, default=1, help="persons at the same time")
    return parser


if __name__ == "__main__":
    sys.exit(run_while_read(main))


__all__ = ["PUBLISHED", "Row", "main", "measure", "run", "summary"]
