"""One pool of processes: order, limits of threads, a worker that dies, work that fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from calvaria import jobs as module
from calvaria.jobs import THREAD_LIMITS, Countdown, WorkerDiedError, counted, duration, in_order, in_processes


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


def test_libraries_that_the_main_module_loads_keep_to_the_share_too(tmp_path):
    """A module that is run loads numpy in each worker before anything else is done there."""
    script = tmp_path / "main.py"
    script.write_text(
        "import numpy\n"
        "from threadpoolctl import threadpool_info\n"
        "from calvaria.jobs import in_order\n"
        "def threads(_):\n"
        "    return [pool['num_threads'] for pool in threadpool_info()]\n"
        "if __name__ == '__main__':\n"
        "    print(sum(in_order(threads, range(2), 2), []))\n",
        encoding="utf-8",
    )
    free = {name: value for name, value in os.environ.items() if name not in THREAD_LIMITS}
    done = subprocess.run([sys.executable, str(script)], env=free, check=True, capture_output=True, text=True)
    found = [int(n) for n in done.stdout.strip("[]\n").split(",")]
    assert set(found) == {max(1, (os.cpu_count() or 1) // 2)}


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


def test_results_in_order_are_stood_in_for_too():
    with pytest.raises(WorkerDiedError):
        list(in_order(partial(die_at, 0), range(3), 2))
    found = list(in_order(partial(die_at, 0), range(3), 2, lost=lambda n: -1))
    assert found[0] == -1
    assert all(one in (n, -1) for n, one in enumerate(found))


def note_and_return(folder: str, n: int) -> int:
    open(os.path.join(folder, str(n)), "w").close()
    return n


def test_who_stops_early_leaves_nothing_running_and_the_rest_not_begun(tmp_path):
    come = in_processes(partial(note_and_return, str(tmp_path)), range(200), 2)
    next(come)
    come.close()
    begun = len(list(tmp_path.iterdir()))
    assert begun < 200


def is_running(pid: int) -> bool:
    """Whether a process is there and has not ended; one that ended and that nobody waits for is still listed, as Z."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True)
    state = listed.stdout.strip()
    return bool(state) and not state.startswith("Z")


def soon(what, limit_s=20.0):
    """Whether something comes true before the time is over."""
    end = time.monotonic() + limit_s
    while not (true := what()) and time.monotonic() < end:
        time.sleep(0.05)
    return true


@pytest.mark.skipif(sys.platform == "win32", reason="ps and signals")
@pytest.mark.parametrize("deadly", ["SIGTERM", "SIGKILL"])
def test_workers_end_with_a_program_that_is_killed(tmp_path, deadly):
    """One of them at work, the other waiting for some."""
    script = tmp_path / "main.py"
    script.write_text(
        "import os, pathlib, time\n"
        "from calvaria.jobs import in_processes\n"
        "def work(seconds):\n"
        "    (pathlib.Path(__file__).parent / f'{os.getpid()}.pid').touch()\n"
        "    time.sleep(seconds)\n"
        "if __name__ == '__main__':\n"
        "    list(in_processes(work, [120.0, 120.0, 0.5], 3))\n",
        encoding="utf-8",
    )
    with subprocess.Popen([sys.executable, str(script)]) as program:
        begun = soon(lambda: len(list(tmp_path.glob("*.pid"))) == 3)
        workers = [int(file.stem) for file in tmp_path.glob("*.pid")]
        before = [pid for pid in workers if is_running(pid)]
        program.send_signal(getattr(signal, deadly))
    ended = soon(lambda: not any(is_running(pid) for pid in workers))
    for pid in workers if not ended else ():
        os.kill(pid, signal.SIGKILL)  # a failed test leaves nothing running
    assert begun
    assert before == workers
    assert ended


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_the_work_raises_comes_through(jobs):
    with pytest.raises(ValueError, match="2 is bad"):
        list(in_processes(partial(fail_at, 2), range(4), jobs))


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is set: ``clock[0]`` is the time in seconds."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_countdown_says_how_long_the_rest_takes_at_the_pace_so_far(clock):
    count = Countdown(4)
    assert count.told("cases") == "0 of 4 cases"
    clock[0] += 90
    assert count.step("cases") == "1 of 4 cases, 4 min left"
    clock[0] += 10
    assert count.step() == "2 of 4, 2 min left"
    clock[0] += 20
    assert count.step() == "3 of 4, 40 s left"
    assert count.step("cases") == "4 of 4 cases"


def test_what_was_done_before_says_nothing_about_the_pace(clock):
    count = Countdown(10, done=6)
    assert count.told() == "6 of 10"
    clock[0] += 30
    assert count.step() == "7 of 10, 2 min left"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (89, "1 min"),
        (3569, "59 min"),
        (3571, "1 h 0 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text


def test_results_are_passed_on_and_counted_as_they_come(clock):
    told = []

    def come():
        for n in range(2):
            assert len(told) == n + 1
            clock[0] += 5
            yield n

    results = counted(come(), 3, lambda *step: told.append(step), "skulls", done=1)
    assert list(results) == [0, 1]
    assert told == [("1 of 3 skulls", 1 / 3), ("2 of 3 skulls, 5 s left", 2 / 3), ("3 of 3 skulls", 1.0)]
    assert list(counted([7], 1, None)) == [7]
    assert list(counted([], 0, lambda *step: pytest.fail("there is nothing to tell"))) == []
