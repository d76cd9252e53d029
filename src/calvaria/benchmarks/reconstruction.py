"""How well and how fast skulls are completed: every person of a split, every kind of defect, at full resolution.

::

    python -m calvaria.benchmarks.reconstruction --data ROOT --split test -o results.csv

One row a reconstruction; rows that are in the file already are not computed again, failed ones are. The table at the
end has n, failures, mean, sd, worst and median of DSC, bDSC and HD95, mean and sd of the volume's error, the mean
distance of the outer surfaces, and what a case cost. ``--kinds all`` adds the holes that surgeons leave, ``clinical``
runs them alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

from calvaria.benchmarks.cases import BENCHMARK_KINDS, KINDS_HELP, Task, build, tasks_of
from calvaria.benchmarks.rows import Tell
from calvaria.benchmarks.script import run_while_read
from calvaria.benchmarks.table import Row, append_row, read_rows, summary, write_rows
from calvaria.errors import CalvariaError, InputError, one_line
from calvaria.jobs import DIED, Countdown, in_processes
from calvaria.metrics import Comparison
from calvaria.metrics.measures import outer_mm
from calvaria.volume.volume import Volume


class Answer(NamedTuple):
    """What one reconstruction gave and cost; see :class:`calvaria.benchmarks.table.Row`."""

    patch: Volume
    seconds: float
    cpu_seconds: float
    peak_mb: float
    holes: int
    doubt: dict[str, Any] | None = None


Solve = Callable[[Volume], Answer]
"""Defective skull -> its patch and the cost."""


class _Reconstruction(Protocol):
    @property
    def patch(self) -> Volume: ...


def solve_here(defective: Volume, reconstruct: Callable[[Volume], _Reconstruction]) -> Answer:
    """Call ``reconstruct`` in this process.

    Args:
        defective: mask of the defective skull.
        reconstruct: gives an object with ``.patch`` and, perhaps, ``.holes``.
    """
    began, cpu = time.perf_counter(), time.process_time()
    result = reconstruct(defective)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    holes = getattr(result, "holes", None)
    doubt = vars(getattr(result, "confidence", SimpleNamespace()))
    return Answer(result.patch, seconds, cpu_seconds, peak_mb(), -1 if holes is None else len(holes), doubt)


def solve_with(defective: Volume, model: str) -> Answer:
    """Call :func:`calvaria.pipeline.reconstruct` in this process with an engine."""
    from calvaria.pipeline import reconstruct

    return solve_here(defective, partial(reconstruct, engine=model, kind="mask"))


def solve_as_command(defective: Volume, model: str, command: Sequence[str] | None = None) -> Answer:
    """Run the real command line on a file, so that time and memory are those that a user sees.

    Args:
        defective: mask of the defective skull; written to a temporary file, which isn't timed.
        model: the engine.
        command: the program with its first arguments; ``python -m calvaria.cli reconstruct`` by default.

    Raises:
        InputError: the command failed; with the last line that it wrote.
    """
    from calvaria.io import read_mask, write_volume

    program = list(command or (sys.executable, "-m", "calvaria.cli", "reconstruct"))
    with tempfile.TemporaryDirectory(prefix="calvaria-") as name:
        folder = Path(name)
        write_volume(folder / "skull.nrrd", defective)
        log = folder / "log.txt"
        arguments = [str(folder / "skull.nrrd"), "-o", str(folder / "out"), "--model", model]
        began = time.perf_counter()
        with log.open("wb") as sink:
            process = subprocess.Popen([*program, *arguments], stdout=sink, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 3):  # 3: done, but a quality check failed
            last = (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise InputError(f"the command ended with exit code {process.returncode}: {last}")
        record: dict[str, Any] = json.loads((folder / "out" / "result.json").read_text(encoding="utf-8"))
        holes = len(record["holes"]) if "holes" in record else -1
        empty = bool(record.get("patch", {}).get("empty", False))
        patch = defective.with_data(defective.mask & False) if empty else read_mask(folder / "out" / "patch.nrrd")
    cpu_seconds, doubt = usage.ru_utime + usage.ru_stime, record.get("confidence", {})
    return Answer(patch, seconds, cpu_seconds, _megabytes(usage.ru_maxrss), holes, doubt)


def run_task(task: Task, model: str, solve: Solve) -> Row:
    """Build one case, reconstruct and score it.

    Returns:
        Its row. Whatever goes wrong is named in the row's ``error``; nothing is raised but interruptions.
    """
    try:
        defective, truth = build(task)
        answer = solve(defective)
        compared = Comparison(answer.patch, truth, defective)
        scores, outer = compared.scores, outer_mm(compared, defective)
    except Exception as error:  # one bad case must not end a run of hours; it is named, counted and shown
        text = str(error) if isinstance(error, CalvariaError) else f"{type(error).__name__}: {error}"
        return Row(task.case.id, task.case.person, task.kind, model, error=one_line(text) or "unnamed")
    return Row(
        task.case.id,
        task.case.person,
        task.kind,
        model,
        truth.volume_ml,
        scores.dsc,
        scores.bdsc,
        scores.hd95_mm,
        scores.volume_error_percent,
        scores.overlap_voxels,
        answer.seconds,
        answer.cpu_seconds,
        answer.peak_mb,
        answer.holes,
        _number(answer, "misfit_mm"),
        _number(answer, "area_cm2"),
        _number(answer, "frontal_share"),
        max(defective.grid.spacing_mm),
        _number(answer, "expected_dsc"),
        outer,
    )


def _number(answer: Answer, name: str) -> float:
    value = (answer.doubt or {}).get(name)
    return math.nan if value is None else float(value)


def run_benchmark(
    tasks: Sequence[Task], output: Path, model: str, solve: Solve, *, jobs: int = 1, tell: Tell | None = None
) -> list[Row]:
    """Run the tasks that the file doesn't hold yet, and write each row as soon as it is made.

    Args:
        tasks: what to run.
        output: the CSV file; rows of other models in it stay. Failed rows are run again.
        model: name that the rows get.
        solve: reconstructs one defective skull; must be picklable for more than one job.
        jobs: cases at the same time.
        tell: takes a line of progress a case, with the time left.

    Returns:
        The rows of all tasks, in their order.

    Raises:
        FormatError: the file is no benchmark's CSV.
        InputError: it cannot be written.
    """
    kept = [row for row in read_rows(output) if not row.error]
    write_rows(output, kept)
    done = {row.key: row for row in kept}
    todo = [task for task in tasks if (task.case.id, task.kind, model) not in done]
    say: Tell = tell or _unsaid
    if len(todo) < len(tasks):
        say(f"{len(tasks) - len(todo)} of {len(tasks)} cases are in {output.name} already")
    clock = Countdown(len(todo))
    work, lost = partial(run_task, model=model, solve=solve), partial(_lost, model=model)
    for _, row in in_processes(work, todo, jobs, lost=lost):
        append_row(output, row)
        done[row.key] = row
        figures = (
            f"FAILED: {row.error}" if row.error else f"DSC {row.dsc:.4f} bDSC {row.bdsc:.4f} HD95 {row.hd95_mm:.2f}"
        )
        say(f"[{clock.step()}] {row.case} {row.kind}: {figures}")
    return [done[task.case.id, task.kind, model] for task in tasks]


def _lost(task: Task, model: str) -> Row:
    """The row of a case whose process died."""
    return Row(task.case.id, task.case.person, task.kind, model, error=DIED)


def _unsaid(line: str) -> None:
    """A `Tell` that tells nobody."""


def save_pictures(rows: Sequence[Row], tasks: Sequence[Task], folder: Path, solve: Solve, say: Tell) -> list[Path]:
    """Reconstruct the cases of rows once more and draw them: result, truth, defective skull.

    Args:
        rows: the cases to draw, in the order of their pictures' numbers.
        tasks: where those cases are found.
        folder: where the pictures go; made if it isn't there.
        solve: reconstructs one defective skull.
        say: called with what cannot be drawn.

    Returns:
        The pictures that were written.
    """
    from calvaria.report import render_case, save_png

    folder.mkdir(parents=True, exist_ok=True)
    found = {(task.case.id, task.kind): task for task in tasks}
    paths = []
    for number, row in enumerate(rows, 1):
        try:
            defective, truth = build(found[row.case, row.kind])
            picture = render_case(defective, solve(defective).patch, truth)
            name = f"{number:02d}-{row.case}-{row.kind}-dsc{row.dsc:.3f}.png"
            paths.append(save_png(folder / name, picture))
        except CalvariaError as error:
            say(f"no picture of {row.case} {row.kind}: {error}")
    return paths


def worst_of(rows: Sequence[Row], count: int) -> list[Row]:
    """The rows with the lowest DSC, lowest first; failed ones have none and are left out."""
    return sorted((row for row in rows if not row.error), key=lambda row: row.dsc)[:count]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    rows: list[Row] = []
    try:
        tasks = tasks_of(options.data, options.split, tuple(options.kinds.split(",")), options.limit, tell=tell)
        solve: Solve = partial(solve_as_command if options.as_command else solve_with, model=options.model)
        if options.fresh:
            options.output.unlink(missing_ok=True)
        rows = run_benchmark(tasks, options.output, options.model, solve, jobs=options.jobs, tell=tell)
        tell(summary(rows))
        if options.worst:
            folder = options.output.with_name(options.output.stem + "-worst")
            for path in save_pictures(worst_of(rows, options.worst), tasks, folder, solve, tell):
                tell(f"picture: {path}")
    except CalvariaError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted; the rows so far are in {options.output}, the same command goes on from there\n")
        return 130
    failed = [row for row in rows if row.error]
    if failed:
        tell(f"{len(failed)} of {len(rows)} failed: {', '.join(f'{row.case} {row.kind}' for row in failed)}")
    return 3 if failed else 0


def tell(line: str) -> None:
    """Write a line at once, so that a log shows how far a run is."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m calvaria.benchmarks.reconstruction", description="complete the skulls of a split, and score"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the AutoImplant 2020 set")
    parser.add_argument("--split", default="test", choices=("test", "validation", "train"))
    parser.add_argument(
        "--model", default="shape-prior", help="the engine; its examples must not hold the split's persons"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="CSV file, continued if it exists")
    parser.add_argument("--kinds", default=",".join(BENCHMARK_KINDS), help=KINDS_HELP)
    parser.add_argument("--limit", type=int, help="only the first so many persons")
    parser.add_argument("--jobs", type=int, default=1, help="cases at the same time")
    parser.add_argument("--as-command", action="store_true", help="run the real command line, to time it honestly")
    parser.add_argument("--fresh", action="store_true", help="start over, whatever the file holds")
    parser.add_argument("--worst", type=int, default=0, metavar="N", help="draw the N worst cases beside the CSV file")
    return parser


def peak_mb() -> float:
    """The most memory this process has held so far, MB; NaN where the system does not tell."""
    if sys.platform == "win32":
        return float("nan")
    import resource

    return _megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _megabytes(maxrss: int) -> float:
    """MB from what getrusage gives: bytes on macOS, KiB elsewhere."""
    return maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


if __name__ == "__main__":
    sys.exit(run_while_read(main))


__all__ = [
    "Answer",
    "peak_mb",
    "run_benchmark",
    "run_task",
    "save_pictures",
    "solve_as_command",
    "solve_here",
    "solve_with",
    "worst_of",
]
