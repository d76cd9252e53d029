"""Work that several processes share: one pool for the whole program, and one way to tell how far something is.

A worker process is a fresh one (spawn: a fork copies the locks that numpy's threads hold), its numerical libraries keep
to their share of the cores, and where it dies the other pieces of work are not lost. Where the program is killed, its
worker processes end too.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread
from typing import TypeVar

from calvaria.errors import CalvariaError

Item = TypeVar("Item")
Result = TypeVar("Result")

Progress = Callable[[str, float], None]
"""Called with what begins, in words, and the fraction of the whole that is done, 0 to 1."""

THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What numerical libraries read when they load; set in worker processes so that they share the cores."""

HEAP = ((-8, 1), (-3, 2**25), (-1, 2**28))
"""glibc's M_ARENA_MAX, M_MMAP_THRESHOLD (the most that it takes) and M_TRIM_THRESHOLD, malloc.h."""

MINUTE_S, HOUR_S = 60, 3600

DIED = "a worker process died, probably for want of memory; use fewer jobs"
"""What is said of work whose process is gone."""


class WorkerDiedError(CalvariaError):
    """A worker process ended before its work was done."""

    def __init__(self) -> None:
        super().__init__(DIED)


def unheard(what: str, fraction: float) -> None:
    """A `Progress` that tells nobody."""


class Countdown:
    """Counts pieces of work that are done, and says how long the others will take at the pace so far.

    Args:
        whole: how many there are.
        done: how many of them were done before, at no cost.
    """

    def __init__(self, whole: int, done: int = 0) -> None:
        self.whole, self.done = whole, done
        self._kept, self._began = done, time.monotonic()

    def step(self, what: str = "") -> str:
        """One more is done: "3 of 12 cases, 4 min left"."""
        self.done += 1
        return self.told(what)

    def told(self, what: str = "") -> str:
        """How far the work is; without the time while nothing tells the pace, and at the end.

        Args:
            what: the pieces, in the plural.
        """
        text = f"{self.done} of {self.whole} {what}".rstrip()
        if self._kept < self.done < self.whole:
            pace_s = (time.monotonic() - self._began) / (self.done - self._kept)
            text += f", {duration(pace_s * (self.whole - self.done))} left"
        return text


def duration(seconds: float) -> str:
    """A time in words, as exactly as anybody wants to know what is left.

    >>> duration(41.7), duration(754), duration(11400)
    ('42 s', '13 min', '3 h 10 min')
    """
    if round(seconds) < MINUTE_S:
        return f"{seconds:.0f} s"
    minutes = round(seconds / MINUTE_S)
    if minutes < HOUR_S // MINUTE_S:
        return f"{minutes} min"
    return f"{minutes * MINUTE_S // HOUR_S} h {minutes % (HOUR_S // MINUTE_S)} min"


def counted(
    results: Iterable[Result], whole: int, progress: Progress | None, what: str = "cases", *, done: int = 0
) -> Iterator[Result]:
    """Pass things on, and tell after each how many are done and how long the rest will take.

    Args:
        results: of pieces of work, as they come; or the pieces, if the work is done in the loop over them. Each counts
            as done when the next is asked for.
        whole: how many pieces there are.
        progress: told at the beginning and after each; None: nobody.
        what: the pieces, in the plural.
        done: how many of them were done before, at no cost; ``results`` are the others.
    """
    tell, clock = progress or unheard, Countdown(whole, done)
    if whole:
        tell(clock.told(what), done / whole)
    for result in results:
        yield result
        tell(clock.step(what), clock.done / whole)


def in_processes(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    jobs: int,
    *,
    begin: Callable[[], None] | None = None,
    lost: Callable[[Item], Result] | None = None,
) -> Generator[tuple[Item, Result]]:
    """Do pieces of work, several at a time, and give each result as it comes.

    Args:
        work: a function that a fresh process can import (a ``functools.partial`` of one as well).
        items: what it is called with, one after the other; may be empty.
        jobs: how many processes at the most; with 1, or a single item, all is done here, in order.
        begin: called first in every worker process (here, where there is none), after its threads are limited.
        lost: what stands for an item whose process died; without it `WorkerDiedError` is raised.

    Yields:
        Each item with its result, in the order in which they are ready. Whoever stops early closes the generator: what
        runs is waited for, what has not begun is not done.

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
    work: Callable[[Item], Result],
    items: Sequence[Item],
    jobs: int,
    *,
    begin: Callable[[], None] | None = None,
    lost: Callable[[Item], Result] | None = None,
) -> Generator[Result]:
    """Like `in_processes`, but the results alone, in the order of the items.

    Raises:
        WorkerDiedError: a process died, and ``lost`` is not given.
        Exception: what ``work`` raised.
    """
    if _is_here(items, jobs):
        yield from _here(work, items, begin)
        return
    with _pool(items, jobs, begin) as pool:
        running = deque((pool.submit(work, item), item) for item in items)
        while running:  # taken out one by one: a result that was given is not kept here
            future, item = running.popleft()
            yield _result(future, item, lost)


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
    pool = ProcessPoolExecutor(count, get_context("spawn"), begin_worker, (threads, begin))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def steady_heap() -> None:
    """Keep large arrays of this process on one heap, and keep that heap: glibc only, elsewhere nothing is done.

    Each thread has a heap of its own else, and what one frees another cannot use; and arrays of some MB are given back
    to the system at once and their pages cleared again for the next, which takes a tenth of a reconstruction's
    processor time. Held memory falls by a quarter.
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return
    for parameter, value in HEAP:
        mallopt(parameter, value)


def begin_worker(threads: int, begin: Callable[[], None] | None) -> None:
    """What a worker process does first; a limit that the user has set stays."""
    Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    steady_heap()
    if not any(name in os.environ for name in THREAD_LIMITS):
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads)  # libraries that the main module has loaded already, before this is called
    for name in THREAD_LIMITS:
        os.environ.setdefault(name, str(threads))
    if begin is not None:
        begin()


def _end_with_parent() -> None:
    """Wait for the program's end, however it comes, and end this worker process at once.

    A pool ends its workers itself, unless its process is killed: then they would finish their work, which can take
    hours, and wait for more for ever.
    """
    parent = parent_process()
    if parent is None:
        return
    wait([parent.sentinel])
    os._exit(1)  # from a thread, sys.exit would end the thread alone


def _result(future: Future[Result], item: Item, lost: Callable[[Item], Result] | None) -> Result:
    try:
        return future.result()
    except BrokenProcessPool:
        if lost is None:
            raise WorkerDiedError from None
        return lost(item)


__all__ = [
    "DIED",
    "Countdown",
    "Progress",
    "WorkerDiedError",
    "begin_worker",
    "counted",
    "duration",
    "in_order",
    "in_processes",
    "steady_heap",
    "unheard",
]
