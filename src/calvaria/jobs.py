"""Work that several processes share: one pool for the whole program, and one way to tell how far something is.

A worker process is a fresh one (spawn: a fork copies the locks that numpy's threads hold), its numerical libraries keep
to their share of the cores, and where it dies the other pieces of work are not lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

from calvaria.errors import CalvariaError

Item = TypeVar("Item")
Result = TypeVar("Result")

Progress = Callable[[str, float], None]
"""Called with what begins, in words, and the fraction of the whole that is done, 0 to 1."""

THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What numerical libraries read when they load; set in worker processes so that they share the cores."""

DIED = "a worker process died, probably for want of memory; use fewer jobs"
"""What is said of work whose process is gone."""


class WorkerDiedError(CalvariaError):
    """A worker process ended before its work was done."""

    def __init__(self) -> None:
        super().__init__(DIED)


def unheard(what: str, fraction: float) -> None:
    """A `Progress` that tells nobody."""


def in_processes(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    jobs: int,
    *,
    begin: Callable[[], None] | None = None,
    lost: Callable[[Item], Result] | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Do pieces of work, several at a time, and give each result as it comes.

    Args:
        work: a function that a fresh process can import (a ``functools.partial`` of one as well).
        items: what it is called with, one after the other; may be empty.
        jobs: how many processes at the most; with 1, or a single item, all is done here, in order.
        begin: called first in every worker process (here, where there is none), after its threads are limited.
        lost: what stands for an item whose process died; without it `WorkerDiedError` is raised.

    Yields:
        Each item with its result, in the order in which they are ready.

    Raises:
        WorkerDiedError: a process died, and ``lost`` is not given.
        Exception: what ``work`` raised; the rest is then not begun.
    """
    if _is_here(items, jobs):
        yield from zip(items, _here(work, items, begin), strict=True)
        return
    with _pool(items, jobs, begin) as pool:
        running = {pool.submit(work, item): item for item in items}
        for future in as_completed(running):
            item = running.pop(future)
            yield item, _result(future, item, lost)


def in_order(
    work: Callable[[Item], Result], items: Sequence[Item], jobs: int, *, begin: Callable[[], None] | None = None
) -> Iterator[Result]:
    """Like `in_processes`, but the results alone, in the order of the items.

    Raises:
        WorkerDiedError: a process died.
        Exception: what ``work`` raised.
    """
    if _is_here(items, jobs):
        yield from _here(work, items, begin)
        return
    with _pool(items, jobs, begin) as pool:
        for future, item in [(pool.submit(work, item), item) for item in items]:
            yield _result(future, item, None)


def _is_here(items: Sequence[Item], jobs: int) -> bool:
    """Whether no further process is worth its start."""
    return min(jobs, len(items)) < 2


def _here(work: Callable[[Item], Result], items: Sequence[Item], begin: Callable[[], None] | None) -> Iterator[Result]:
    if begin is not None:
        begin()
    yield from map(work, items)


@contextmanager
def _pool(items: Sequence[Item], jobs: int, begin: Callable[[], None] | None) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes; what has not begun when the caller stops is not done."""
    count = min(jobs, len(items))
    threads = max(1, (os.cpu_count() or 1) // count)
    pool = ProcessPoolExecutor(count, get_context("spawn"), _begin, (threads, begin))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(threads: int, begin: Callable[[], None] | None) -> None:
    """What a worker process does first."""
    for name in THREAD_LIMITS:
        os.environ.setdefault(name, str(threads))
    if begin is not None:
        begin()


def _result(future: Future[Result], item: Item, lost: Callable[[Item], Result] | None) -> Result:
    try:
        return future.result()
    except BrokenProcessPool:
        if lost is None:
            raise WorkerDiedError from None
        return lost(item)


__all__ = ["Progress", "WorkerDiedError", "in_order", "in_processes", "unheard"]
