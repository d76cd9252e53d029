"""Worker processes: so many cases at the same time, the last ones kept in memory, and none lost by another's death."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from threading import RLock, Thread
from typing import Any, Protocol

from calvaria.web.messages import Design, Idle, News, Task, Write
from calvaria.web.work import main

HELD = 1
"""So many cases beyond those that are worked on stay in memory: 0.5 to 1 GB each."""

END_S = 5.0
"""How long a process that was ended may take to go."""


class Link(Protocol):
    """A worker, as the server sees it."""

    def send(self, serial: int, task: Task) -> None:
        """Give it a task."""

    def recv(self) -> News:
        """Its next news.

        Raises:
            EOFError: it has gone.
        """

    def kill(self) -> None:
        """End it, and wait until it has gone."""


class ProcessLink:
    """A worker in a process of its own.

    Args:
        threads: of its numerical libraries.
    """

    def __init__(self, threads: int) -> None:
        context = get_context("spawn")  # a fork copies the locks that numpy's threads hold
        self._link, theirs = context.Pipe()
        self.process = context.Process(target=main, args=(theirs, threads), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, serial: int, task: Task) -> None:
        """Give it a task; one that has gone says so when it is listened to."""
        with suppress(OSError):
            self._link.send((serial, task))

    def recv(self) -> News:
        """Its next news."""
        try:
            news: News = self._link.recv()
        except (OSError, EOFError) as error:
            raise EOFError from error
        return news

    def kill(self) -> None:
        """End it, and wait until it has gone."""
        self.process.kill()
        self.process.join(END_S)
        self._link.close()


@dataclass(eq=False)
class _Worker:
    link: Link
    key: str | None = None
    sent: int = 0
    done: int = 0
    used: float = 0.0
    ended: bool = False

    @property
    def busy(self) -> bool:
        return self.sent != self.done


class Pool:
    """Gives tasks to workers.

    Args:
        jobs: how many cases are worked on at the same time.
        heard: called with a case's key and its worker's news.
        lost: called with the key of a case whose worker died, and whether it was at work.
        lock: held whenever anything is called or changed.
        start: starts a worker.
    """

    def __init__(
        self,
        jobs: int,
        heard: Callable[[str, News], None],
        lost: Callable[[str, bool], None],
        lock: RLock | Any,
        start: Callable[[], Link] | None = None,
    ) -> None:
        self._jobs, self._heard, self._lost, self._lock = jobs, heard, lost, lock
        threads = max(1, (os.cpu_count() or 1) // jobs)
        self._start = start or (lambda: ProcessLink(threads))
        self._workers: list[_Worker] = []
        self._waiting: deque[tuple[str, Task]] = deque()
        self._serial = 0
        self._closed = False

    def warm(self) -> None:
        """Start a worker before there is work."""
        with self._lock:
            if not self._workers and not self._closed:
                self._add()

    def ask(self, key: str, task: Task) -> None:
        """Have a task done for a case, when its turn has come."""
        with self._lock:
            self._waiting.append((key, task))
            self._pump()

    def place(self, key: str) -> int | None:
        """How many cases wait before this one; None where it does not wait."""
        with self._lock:
            return next((n for n, (other, _) in enumerate(self._waiting) if other == key), None)

    def drop(self, key: str) -> None:
        """Forget a case: what waits of it is not done, what runs of it is ended, and it is no longer in memory."""
        with self._lock:
            self._waiting = deque(one for one in self._waiting if one[0] != key)
            ended = [one for one in self._workers if one.key == key]
            for one in ended:
                self._end(one)
            self._pump()
        for one in ended:
            one.link.kill()

    def pids(self, key: str) -> list[int]:
        """The process that works on a case, or holds it."""
        with self._lock:
            links = [one.link for one in self._workers if one.key == key]
            return [link.process.pid or 0 for link in links if isinstance(link, ProcessLink)]

    def close(self) -> None:
        """End all workers."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            ended = list(self._workers)
            for one in ended:
                self._end(one)
        for one in ended:
            one.link.kill()

    def _add(self) -> _Worker:
        worker = _Worker(self._start())
        self._workers.append(worker)
        Thread(target=self._listen, args=(worker,), name="listen-to-worker", daemon=True).start()
        return worker

    def _end(self, worker: _Worker) -> None:
        worker.ended = True
        self._workers.remove(worker)

    def _listen(self, worker: _Worker) -> None:
        while True:
            try:
                news = worker.link.recv()
            except EOFError:
                break
            with self._lock:
                if worker.ended:
                    return
                if isinstance(news, Idle):
                    worker.done = news.serial
                    worker.used = time.monotonic()
                    self._pump()
                elif worker.key is not None:
                    self._heard(worker.key, news)
        with self._lock:
            if worker.ended:
                return
            self._end(worker)
            if worker.key is not None:
                self._lost(worker.key, worker.busy)
            self._pump()
        worker.link.kill()

    def _pump(self) -> None:
        """Give out what waits, as long as there is a worker for it."""
        kept: deque[tuple[str, Task]] = deque()
        while self._waiting and not self._closed:
            key, task = self._waiting.popleft()
            worker = self._worker_for(key, task)
            if worker is None:
                kept.append((key, task))
                continue
            self._serial += 1
            worker.key, worker.sent = key, self._serial
            worker.link.send(self._serial, task)
        self._waiting = kept

    def _worker_for(self, key: str, task: Task) -> _Worker | None:
        """Who does a task now; None: it has to wait."""
        own = next((one for one in self._workers if one.key == key), None)
        if own is not None and isinstance(task, Design | Write):
            return own  # somebody looks on: a design does not wait for other cases
        if own is not None and own.busy:
            return None
        if sum(one.busy for one in self._workers) >= self._jobs:
            return None
        if own is not None:
            return own
        idle = sorted((one for one in self._workers if not one.busy), key=lambda one: (one.key is not None, one.used))
        if idle and (idle[0].key is None or len(self._workers) >= self._jobs + HELD):
            return idle[0]
        return self._add()


__all__ = ["HELD", "Link", "Pool", "ProcessLink"]
