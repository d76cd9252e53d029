"""A folder of cases: one after the other or several at once; a bad one is named and the rest go on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from calvaria.cli.screen import Progress, one_line
from calvaria.errors import CalvariaError
from calvaria.results.case import Settings, run_case
from calvaria.results.names import Case

THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What numpy's libraries read when they load; set in worker processes so that they share the cores."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Args:
        name: the case.
        record: what its result.json holds; None if it failed.
        error: one line; None if it went well.
        exit_code: 0, or the error's.
    """

    name: str
    record: dict[str, Any] | None = None
    error: str | None = None
    exit_code: int = 0


def run_cases(
    cases: Sequence[Case], output: Path, settings: Settings, jobs: int, progress: Progress
) -> Iterator[Outcome]:
    """Run every case into ``output/NAME``, and give the outcomes as they come.

    Args:
        cases: with names that differ.
        output: the folder of the result folders.
        settings: the same for all.
        jobs: how many cases run at the same time, each in a process of its own; 1 runs them here.
        progress: told of the whole.
    """
    if jobs == 1 or len(cases) == 1:
        yield from _run_here(cases, output, settings, progress)
    else:
        yield from _run_beside(cases, output, settings, min(jobs, len(cases)), progress)


def _run_here(cases: Sequence[Case], output: Path, settings: Settings, progress: Progress) -> Iterator[Outcome]:
    count = len(cases)
    for done, case in enumerate(cases):

        def tell(stage: str, fraction: float, done: int = done, case: Case = case) -> None:
            progress(f"{case.name} ({done + 1} of {count}): {stage}", (done + fraction) / count)

        yield _attempt(case, output / case.name, settings, tell)
    progress("done", 1.0)


def _run_beside(
    cases: Sequence[Case], output: Path, settings: Settings, jobs: int, progress: Progress
) -> Iterator[Outcome]:
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # spawn: a fork copies locks held by numpy's threads; a fresh process also reads its thread limits.
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=limit_threads, initargs=(threads,))
    try:
        running = {pool.submit(_attempt, case, output / case.name, settings): case for case in cases}
        progress(f"0 of {len(cases)} cases", 0.0)
        while running:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield _outcome(future, running.pop(future))
                done = len(cases) - len(running)
                progress(f"{done} of {len(cases)} cases", done / len(cases))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def limit_threads(threads: int) -> None:
    """What a worker process does first."""
    for name in THREAD_LIMITS:
        os.environ.setdefault(name, str(threads))


def _attempt(case: Case, output: Path, settings: Settings, progress: Progress | None = None) -> Outcome:
    """Run one case; whatever goes wrong becomes its outcome."""
    try:
        return Outcome(case.name, record=run_case(case.path, output, settings, progress))
    except CalvariaError as error:
        return Outcome(case.name, error=one_line(error), exit_code=error.exit_code)
    except MemoryError:
        return Outcome(case.name, error="out of memory: crop the volume, or use fewer --jobs", exit_code=1)
    except Exception as error:  # one case's bug must not cost the others their results
        text = f"this is a bug, please report it: {type(error).__name__}: {one_line(error)}"
        return Outcome(case.name, error=text, exit_code=1)


def _outcome(future: Future[Outcome], case: Case) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        text = "a worker process died, probably for want of memory; run the case alone or with fewer --jobs"
        return Outcome(case.name, error=text, exit_code=1)
