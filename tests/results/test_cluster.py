"""Cases on the workers of a Dask scheduler: the same outcomes, whatever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest

from calvaria.errors import InputError, MissingExtraError
from calvaria.results import cluster as clusters
from calvaria.results.cluster import on_scheduler
from calvaria.results.evaluation import Cluster, Files, score_all
from calvaria.results.folder import Outcome, run_each
from calvaria.results.names import Case

LocalCluster = pytest.importorskip("distributed", reason="Dask is not installed: no scheduler was tried").LocalCluster


@pytest.fixture(scope="module")
def scheduler():
    """Two workers, each a process; one that dies is started anew."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    ) as cluster:
        yield cluster.scheduler_address


def stub(source, output, *, progress, study=None):
    """A case in no time; what its name says happens to it."""
    if "bad" in source.name:
        raise InputError(f"{source.name}: this is no skull")
    if "kill" in source.name:
        with (output.parent / f"{source.name}.runs").open("a") as mark:
            mark.write("x")
        if "always" in source.name or not (output.parent / "once").exists():
            (output.parent / "once").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def cases_of(*names: str) -> list[Case]:
    return [Case(name, Path(f"{name}.nrrd")) for name in names]


def test_a_thousand_cases_and_the_bad_one_is_named(scheduler, tmp_path):
    names = [f"{n:04}" for n in range(999)]
    told: list[tuple[str, float]] = []
    begin = time.monotonic()
    outcomes = list(
        run_each(cases_of(*names, "bad"), tmp_path / "out", stub, 1, lambda *s: told.append(s), scheduler=scheduler)
    )
    assert time.monotonic() - begin < 15
    found = {one.name: one for one in outcomes}
    assert len(outcomes) == len(found) == 1000
    assert found.pop("bad") == Outcome("bad", error="bad.nrrd: this is no skull", exit_code=2)
    assert {one.name for one in found.values() if one.error is None} == set(names)
    assert 0 < len({one.record for one in found.values()}) <= 2
    assert os.getpid() not in {one.record for one in found.values()}
    assert told == [(f"{n} of 1000 cases", n / 1000) for n in range(1001)]
    assert list((tmp_path / "out").iterdir()) == []  # nothing of the way there is left


def test_a_case_whose_worker_is_killed_is_run_once_more_elsewhere(scheduler, tmp_path):
    names = ["a", "b", "kill", "c", "d"]
    outcomes = list(run_each(cases_of(*names), tmp_path, stub, scheduler=scheduler))
    assert {one.name: one.error for one in outcomes} == dict.fromkeys(names)
    assert (tmp_path / "kill.nrrd.runs").read_text() == "xx"


def test_a_case_that_kills_two_workers_is_named_and_the_rest_go_on(scheduler, tmp_path):
    names = ["a", "b", "always-kill", "c", "d"]
    found = {one.name: one for one in run_each(cases_of(*names), tmp_path, stub, scheduler=scheduler)}
    assert (tmp_path / "always-kill.nrrd.runs").read_text() == "xx"
    bad = found.pop("always-kill")
    assert (bad.record, bad.exit_code) == (None, 1)
    assert bad.error is not None
    assert bad.error.startswith("its worker died, and the second one, too, probably for want of memory; run the case")
    assert sorted(found) == ["a", "b", "c", "d"]
    assert all(one.error is None for one in found.values())


def test_scores_come_from_the_workers_as_they_would_from_here(scheduler, tmp_path, skull, truth, monkeypatch):
    (tmp_path / "rubbish.nrrd").write_text("no image")
    monkeypatch.chdir(tmp_path)  # the workers have another folder
    skull, truth = skull.relative_to(tmp_path), truth.relative_to(tmp_path)
    files = {"a": Files(truth, truth, skull), "bad": Files(Path("rubbish.nrrd"), truth, skull)}
    found = dict(score_all(files, cluster=Cluster(scheduler, Path("out"))))
    assert found == dict(score_all(files))
    assert found["a"]["dsc"] == 1.0
    assert "rubbish.nrrd" in found["bad"]
    assert list((tmp_path / "out").iterdir()) == []
    assert dict(score_all({}, cluster=Cluster("nonsense", Path("out")))) == {}


def pid(path: Path) -> int:
    path.touch()
    while not (path.parent / "go").exists():
        time.sleep(0.01)
    return os.getpid()


def test_whoever_stops_early_leaves_nothing_behind(scheduler, tmp_path):
    come = on_scheduler(pid, [tmp_path / str(n) for n in range(50)], scheduler, tmp_path, lambda item, why: 0)
    (tmp_path / "go").touch()
    next(come)
    come.close()
    assert not list(tmp_path.glob(".cluster-*"))


def test_what_a_killed_client_left_goes_with_the_next(scheduler, tmp_path):
    words = "import os, sys, pathlib\nfrom calvaria.results.cluster import _starts\n"
    killed = words + "with _starts(pathlib.Path(sys.argv[1])) as folder:\n (folder / '0').touch()\n os._exit(1)"
    subprocess.run([sys.executable, "-c", killed, tmp_path], check=False)
    assert len(list(tmp_path.glob(".cluster-*/files/0"))) == 1
    assert dict(on_scheduler(len, ["ab"], scheduler, tmp_path, lambda item, why: 0)) == {"ab": 2}
    assert not list(tmp_path.glob(".cluster-*"))


def give_up(item: object) -> int:
    raise ModuleNotFoundError("No module named 'calvaria'")


def test_what_a_worker_cannot_run_says_so(scheduler, tmp_path):
    ((_, why),) = on_scheduler(give_up, ["a"], scheduler, tmp_path, lambda item, why: why)
    assert why == (
        "the worker could not run it: ModuleNotFoundError: No module named 'calvaria'; wanted: workers with this "
        "version of calvaria and what it needs"
    )


def test_a_folder_that_the_worker_does_not_see_is_named(tmp_path):
    task = clusters._Task(0, "a")
    found = clusters._begin(len, str(tmp_path / "gone" / ".cluster-unfinished-1" / "files"), task)
    assert isinstance(found, clusters._Not)
    assert found.why.endswith(
        f"does not see {tmp_path / 'gone'}; wanted: a disk that this machine and all workers share"
    )


def test_a_scheduler_that_goes_away_is_a_line_for_each_case_that_is_left(tmp_path):
    file = tmp_path / "scheduler.json"
    words = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0", "--scheduler-file", str(file)]
    with subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", *words], stderr=subprocess.DEVNULL
    ) as process:
        try:
            while not file.exists() or not file.read_text().endswith("}"):
                time.sleep(0.05)
            address = json.loads(file.read_text())["address"]

            def kill_when_it_has_begun() -> None:
                while not list(tmp_path.glob(".cluster-*")):
                    time.sleep(0.01)
                process.kill()

            killer = Thread(target=kill_when_it_has_begun)
            killer.start()
            found = list(on_scheduler(len, ["a", "bc"], address, tmp_path, lambda item, why: why))
            killer.join()
        finally:
            process.kill()
    assert sorted(found) == [(item, clusters.GONE.format(address=address)) for item in ("a", "bc")]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense", "udp://127.0.0.1:1", ""])
def test_a_scheduler_that_is_not_there_is_one_line(tmp_path, monkeypatch, address):
    monkeypatch.setattr(clusters, "CONNECT_S", 0.3)
    with pytest.raises(InputError, match=f"--scheduler {address}: no Dask scheduler answers there") as caught:
        list(run_each(cases_of("a"), tmp_path, stub, scheduler=address))
    assert "\n" not in str(caught.value)


def test_without_dask_the_line_to_install_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'calvaria\[cluster\]'"):
        list(run_each(cases_of("a"), tmp_path, stub, scheduler="tcp://127.0.0.1:1"))


def test_no_cases_need_no_scheduler(tmp_path):
    assert list(run_each([], tmp_path, stub, scheduler="tcp://127.0.0.1:1")) == []
