"""One pool of processes: order, limits of threads, a worker that dies, work that fails."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from calvaria.jobs import THREAD_LIMITS, WorkerDiedError, in_order, in_processes


def square(n: int) -> int:
    return n * n


def process_of(_: int) -> int:
    return os.getpid()


def threads_of(_: int) -> str | None:
    return os.environ.get(THREAD_LIMITS[1])


def die_at(bad: int, n: int) -> int:
    if n == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def fail_at(bad: int, n: int) -> int:
    if n == bad:
        raise ValueError(f"{n} is bad")
    return n


def note() -> None:
    os.environ["CALVARIA_TEST_BEGUN"] = "yes"


def begun(_: int) -> str | None:
    return os.environ.get("CALVARIA_TEST_BEGUN")


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_all_is_done_once_and_in_order_where_that_is_asked_for(jobs):
    assert list(in_order(square, range(6), jobs)) == [0, 1, 4, 9, 16, 25]
    assert sorted(in_processes(square, range(6), jobs)) == [(n, n * n) for n in range(6)]


def test_one_job_or_one_item_stays_here_and_more_do_not():
    assert dict(in_processes(process_of, [1, 2], 1)) == dict.fromkeys([1, 2], os.getpid())
    assert dict(in_processes(process_of, [1], 4)) == {1: os.getpid()}
    assert os.getpid() not in dict(in_processes(process_of, [1, 2], 2)).values()
    assert list(in_processes(square, [], 4)) == []


def test_workers_share_the_cores_unless_they_are_told_otherwise(monkeypatch):
    for name in THREAD_LIMITS:
        monkeypatch.delenv(name, raising=False)
    share = str(max(1, (os.cpu_count() or 1) // 2))
    assert dict(in_processes(threads_of, [1, 2], 2)) == {1: share, 2: share}
    monkeypatch.setenv(THREAD_LIMITS[1], "7")
    assert dict(in_processes(threads_of, [1, 2], 2)) == {1: "7", 2: "7"}


def test_each_worker_begins_with_what_it_is_told(monkeypatch):
    monkeypatch.delenv("CALVARIA_TEST_BEGUN", raising=False)
    assert dict(in_processes(begun, [1, 2], 2, begin=note)) == {1: "yes", 2: "yes"}
    assert dict(in_processes(begun, [1, 2], 2)) == {1: None, 2: None}


def test_a_worker_that_dies_is_told_or_stood_in_for():
    with pytest.raises(WorkerDiedError, match="a worker process died, probably for want of memory; use fewer jobs"):
        list(in_processes(partial(die_at, 0), range(4), 2))
    found = dict(in_processes(partial(die_at, 0), range(4), 2, lost=lambda n: -1))
    assert set(found) == set(range(4))
    assert found[0] == -1
    assert all(found[n] in (n, -1) for n in found)


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_the_work_raises_comes_through(jobs):
    with pytest.raises(ValueError, match="2 is bad"):
        list(in_processes(partial(fail_at, 2), range(4), jobs))
