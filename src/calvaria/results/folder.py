"""A folder of cases: one after the other or several at once; a bad one is named and the rest go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from calvaria.errors import CalvariaError, one_line
from calvaria.jobs import Progress, in_processes, unheard
from calvaria.results.case import run_case
from calvaria.results.dicom_out import DicomAsked
from calvaria.results.names import Case
from calvaria.results.record import Record
from calvaria.results.settings import Settings
from calvaria.results.unfinished import sweep

R_co = TypeVar("R_co", covariant=True)


class Runner(Protocol[R_co]):
    """What runs one case from its file to its folder, and gives its record."""

    def __call__(self, source: Path, output: Path, *, progress: Progress, study: int | None = None) -> R_co:
        """Run a case; ``study`` is which one, where the source holds several."""


@dataclass(frozen=True)
class Outcome(Generic[R_co]):
    """What became of a case.

    Args:
        name: the case.
        record: what its result.json or design.json holds; None if it failed.
        error: one line; None if it went well.
        exit_code: 0, or the error's.
        kept: whether an earlier run left it so.
    """

    name: str
    record: R_co | None = None
    error: str | None = None
    exit_code: int = 0
    kept: bool = False


def run_cases(
    cases: Sequence[Case],
    output: Path,
    settings: Settings,
    jobs: int = 1,
    progress: Progress = unheard,
    *,
    dicom: DicomAsked | None = None,
    scheduler: str | None = None,
) -> Iterator[Outcome[Record]]:
    """Reconstruct every case into ``output/NAME``, and give the outcomes as they come.

    Args:
        cases: with names that differ.
        output: the folder of the result folders.
        settings: the same for all.
        jobs: how many cases run at the same time, each in a process of its own; 1 runs them here.
        progress: called with the whole.
        dicom: what is asked for of DICOM; None: nothing.
        scheduler: as for `run_each`.
    """
    if scheduler is not None:
        settings = settings.with_whole_paths()
    run = partial(run_case, settings=settings, dicom=dicom)
    return run_each(cases, output, run, jobs, progress, scheduler=scheduler)


def run_each(
    cases: Sequence[Case],
    output: Path,
    run: Runner[R_co],
    jobs: int = 1,
    progress: Progress = unheard,
    *,
    scheduler: str | None = None,
) -> Iterator[Outcome[R_co]]:
    """Run every case into ``output/NAME``, and give the outcomes as they come.

    What killed runs have left half done in ``output`` is taken away, whatever case it was of.

    Args:
        cases: with names that differ.
        output: the folder of the result folders.
        run: what is done with each; goes to other processes.
        jobs: how many cases run at the same time, each in a process of its own; 1 runs them here.
        progress: called with the whole.
        scheduler: the address of a Dask scheduler whose workers run the cases, and ``jobs`` does not count; they must
            see the same files under the same names, those in ``run`` too.

    Raises:
        MissingExtraError: Dask is not installed.
        InputError: no scheduler answers.
    """
    sweep(output)
    if scheduler is not None:
        yield from _run_on(scheduler, cases, output, run, progress)
        return
    if min(jobs, len(cases)) < 2:
        yield from _run_here(cases, output, run, progress)
        return
    count = len(cases)
    progress(f"0 of {count} cases", 0.0)
    work = partial(_attempt, output=output, run=run)
    for done, (_, outcome) in enumerate(in_processes(work, cases, jobs, lost=_lost), 1):
        yield outcome
        progress(f"{done} of {count} cases", done / count)


def _run_on(
    scheduler: str, cases: Sequence[Case], output: Path, run: Runner[R_co], progress: Progress
) -> Iterator[Outcome[R_co]]:
    """The cases as tasks on other machines, to which a path must say all."""
    from calvaria.results.cluster import on_scheduler

    if not cases:
        return
    count, output = len(cases), output.absolute()
    whole = [replace(case, path=case.path.absolute()) for case in cases]
    progress(f"0 of {count} cases", 0.0)
    work = partial(_attempt, output=output, run=run)
    come = on_scheduler(work, whole, scheduler, output, lambda case, why: Outcome(case.name, error=why, exit_code=1))
    for done, (_, outcome) in enumerate(come, 1):
        yield outcome
        progress(f"{done} of {count} cases", done / count)


def _run_here(cases: Sequence[Case], output: Path, run: Runner[R_co], progress: Progress) -> Iterator[Outcome[R_co]]:
    """One case after the other, with the stages of each."""
    count = len(cases)
    for done, case in enumerate(cases):

        def tell(stage: str, fraction: float, done: int = done, case: Case = case) -> None:
            progress(f"{case.name} ({done + 1} of {count}): {stage}", (done + fraction) / count)

        yield _attempt(case, output=output, run=run, progress=tell)
    progress("done", 1.0)


def _attempt(case: Case, *, output: Path, run: Runner[R_co], progress: Progress = unheard) -> Outcome[R_co]:
    """Run one case; whatever goes wrong becomes its outcome."""
    try:
        return Outcome(case.name, record=run(case.path, output / case.name, progress=progress, study=case.study))
    except CalvariaError as error:
        return Outcome(case.name, error=one_line(error), exit_code=error.exit_code)
    except MemoryError:
        return Outcome(case.name, error="out of memory: crop the volume, or use fewer --jobs", exit_code=1)
    except Exception as error:  # one case's bug must not cost the others their results
        text = f"this is a bug, please report it: {type(error).__name__}: {one_line(error)}"
        return Outcome(case.name, error=text, exit_code=1)


def _lost(case: Case) -> Outcome[Any]:
    """The outcome of a case whose process died."""
    text = "a worker process died, probably for want of memory; run the case alone or with fewer --jobs"
    return Outcome(case.name, error=text, exit_code=1)


__all__ = ["Outcome", "Runner", "run_cases", "run_each"]
