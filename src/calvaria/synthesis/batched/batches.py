"""Batches that are ready before the training step asks for them, and a torch ``Dataset`` of the same cases."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import is_dataclass
from queue import Empty, Full, Queue
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from calvaria.errors import InputError
from calvaria.synthesis.batched.cases import CaseMaker

Made_co = TypeVar("Made_co", covariant=True)
"""What a maker makes."""

POLL_S = 0.1
"""How often a waiting thread looks whether the other side is still there."""


class Maker(Protocol[Made_co]):
    """Makes what is learned from: a `CaseMaker`, or something around one."""

    device: torch.device

    def make(self, numbers: Sequence[int]) -> Made_co:
        """A batch of some cases: a dataclass, a dict or a tuple of tensors on the device."""


def batches(
    maker: Maker[Made_co], size: int, count: int, *, first: int = 0, every: int = 1, ahead: int = 2
) -> Generator[Made_co]:
    """Batches of cases, made by a thread while the step before them is still running.

    On a GPU they are made on a stream of their own, so that a step does not queue behind them. Breaking off the
    iteration ends the thread.

    Args:
        maker: makes the cases.
        size: cases a batch.
        count: batches.
        first: number of the first batch: a training that goes on after batch 100 gets what it would have got.
        every: the next batch is so many numbers on: process r of n begins at r and makes every n-th.
        ahead: batches that are kept ready, at least 1.

    Yields:
        Batches ``first``, ``first + every`` and so on; batch b holds cases ``b * size`` to ``(b + 1) * size - 1``.

    Raises:
        InputError: ``size``, ``count``, ``every`` or ``ahead`` is out of range, or a case can't be made.
    """
    if size < 1 or count < 0 or ahead < 1 or every < 1:
        raise InputError(
            f"batches have 1 case or more, 1 is kept ready or more, steps are 1 or more; got {size}, {count}, {ahead} "
            f"and {every}"
        )
    numbers = range(first, first + count * every, every)
    ready: Queue[_Ready[Made_co] | BaseException] = Queue(ahead)
    stop = threading.Event()
    thread = threading.Thread(target=_fill, args=(maker, size, numbers, ready, stop), daemon=True)
    thread.start()
    try:
        for _ in range(count):
            made = _next(ready, thread)
            if isinstance(made, BaseException):
                raise made
            yield made.here()
    finally:
        stop.set()
        thread.join()


class _Ready(Generic[Made_co]):
    """A batch, and the point on its stream after which it is there."""

    def __init__(self, batch: Made_co, device: torch.device) -> None:
        self.batch = batch
        self.event = torch.cuda.current_stream().record_event() if device.type == "cuda" else None

    def here(self) -> Made_co:
        """The batch, for the stream that asks."""
        if self.event is not None:
            stream = torch.cuda.current_stream()
            stream.wait_event(self.event)
            for tensor in tensors_of(self.batch):
                tensor.record_stream(stream)
        return self.batch


def tensors_of(made: object) -> Iterator[Tensor]:
    """The tensors of a batch, which is a dict, a dataclass or a tuple, one in another."""
    parts: Iterable[object] = ()
    if isinstance(made, Tensor):
        yield made
    elif isinstance(made, dict):
        parts = made.values()
    elif isinstance(made, tuple):
        parts = made
    elif is_dataclass(made):
        parts = vars(made).values()
    for part in parts:
        yield from tensors_of(part)


def _fill(
    maker: Maker[Made_co],
    size: int,
    numbers: range,
    ready: Queue[_Ready[Made_co] | BaseException],
    stop: threading.Event,
) -> None:
    """What the thread does."""
    stream = torch.cuda.Stream(maker.device) if maker.device.type == "cuda" else None  # type: ignore[no-untyped-call]
    for number in numbers:
        made: _Ready[Made_co] | BaseException
        try:
            with torch.cuda.stream(stream):  # None: nothing changes
                made = _Ready(maker.make(range(number * size, (number + 1) * size)), maker.device)
        except BaseException as error:  # handed over: it is raised where the batch is asked for
            made = error
        while not stop.is_set():
            try:
                ready.put(made, timeout=POLL_S)
                break
            except Full:
                continue
        if stop.is_set() or isinstance(made, BaseException):
            return


def _next(ready: Queue[_Ready[Made_co] | BaseException], thread: threading.Thread) -> _Ready[Made_co] | BaseException:
    while True:
        try:
            return ready.get(timeout=POLL_S)
        except Empty:
            if not thread.is_alive() and ready.empty():
                return InputError("the thread that makes batches has died; see the lines above")


class SkullDataset(Dataset[dict[str, Any]]):
    """Training cases one by one, for torch's ``DataLoader`` with its worker processes.

    Item n of epoch e is case ``e * length + n`` of the maker.

    Args:
        maker: makes the cases, on the CPU.
        length: cases an epoch.

    Raises:
        InputError: the maker works on a GPU, which worker processes can't share; use :func:`batches` there.
    """

    def __init__(self, maker: CaseMaker, length: int) -> None:
        if maker.device.type != "cpu":
            raise InputError(
                f"a dataset's cases are made on the CPU; this maker's are on {maker.device}: use batches()"
            )
        self.maker, self.length, self.epoch = maker, length, 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> dict[str, Any]:
        """``shown``, ``patch``, ``complete``, ``weight`` (1, X, Y, Z) float32; ``row`` int and ``kind`` text."""
        if not 0 <= number < self.length:
            raise IndexError(number)
        cases = self.maker.make([self.epoch * self.length + number])
        tensors = {name: getattr(cases, name)[0] for name in ("shown", "patch", "complete", "weight")}
        return {**tensors, "row": cases.rows[0], "kind": cases.kinds[0]}


__all__ = ["SkullDataset", "batches", "tensors_of"]
