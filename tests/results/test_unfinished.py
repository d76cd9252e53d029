"""Half-done results: what killed runs have left goes, what another run is filling stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from calvaria.results import unfinished as module
from calvaria.results.folder import run_each
from calvaria.results.names import Case
from calvaria.results.staging import staged
from calvaria.results.unfinished import FILES, HOLDER, LOCK, MAX_IDLE_DAYS, sweep, unfinished

OLD_S = (MAX_IDLE_DAYS + 1) * 86_400

FILLS = """
import sys, time
from pathlib import Path
from calvaria.results.unfinished import unfinished

with unfinished(Path(sys.argv[1]), "a") as folder:
    (folder / "patch.nrrd").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def filler(tmp_path):
    """Another process that fills a folder."""
    with subprocess.Popen([sys.executable, "-c", FILLS, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def left_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.startswith("."))


def make_old(folder: Path, seconds: float = OLD_S) -> None:
    """Nothing has changed in it for so long."""
    then = time.time() - seconds
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (then, then))


def abandoned(parent: Path, name: str = "a", holder: str | None = None) -> Path:
    """What a killed run leaves; on this machine, if no other is named."""
    folder = parent / f".{name}-unfinished-abcd1234"
    (folder / FILES).mkdir(parents=True)
    (folder / FILES / "patch.nrrd").write_text("half")
    (folder / LOCK).touch()
    if holder != "":
        (folder / HOLDER).write_text(module._machine() if holder is None else holder)
    return folder


def test_a_folder_is_held_and_gone_at_the_end(tmp_path):
    with unfinished(tmp_path, "a") as folder:
        (folder / "patch.nrrd").write_text("half")
        assert list(folder.iterdir()) == [folder / "patch.nrrd"]
        (held,) = left_in(tmp_path)
        assert held.name.startswith(".a-unfinished-")
        sweep(tmp_path)  # in the same process, too
        make_old(held)
        sweep(tmp_path)
        assert (folder / "patch.nrrd").read_text() == "half"
    assert list(tmp_path.iterdir()) == []


def test_what_another_process_fills_stays_until_that_is_killed(filler, tmp_path):
    make_old(left_in(tmp_path)[0])
    sweep(tmp_path)
    sweep(tmp_path, "a")
    assert len(left_in(tmp_path)) == 1
    filler.send_signal(signal.SIGKILL)
    filler.wait()
    sweep(tmp_path, "b")
    assert len(left_in(tmp_path)) == 1
    sweep(tmp_path, "a")
    assert left_in(tmp_path) == []


def test_two_runs_into_one_folder_do_not_take_each_others_work(filler, tmp_path):
    output = tmp_path / "a"
    with staged(output, ["patch.nrrd"], last="patch.nrrd") as folder:
        (folder / "patch.nrrd").write_text("ours")
        assert len(left_in(tmp_path)) == 2
    (theirs,) = left_in(tmp_path)
    assert (theirs / FILES / "patch.nrrd").read_text() == "half"
    assert (output / "patch.nrrd").read_text() == "ours"


@pytest.mark.parametrize("exists", [True, False])
def test_the_next_run_into_an_output_takes_away_what_is_left_of_it(tmp_path, exists):
    output = tmp_path / "a"
    beside, other = abandoned(tmp_path), abandoned(tmp_path, "b")
    if exists:
        output.mkdir()
        abandoned(output)
    with staged(output, ["patch.nrrd"], last="patch.nrrd") as folder:
        (folder / "patch.nrrd").touch()
    assert [path.name for path in output.iterdir()] == ["patch.nrrd"]
    assert not beside.exists()
    assert other.exists()


def nothing(source, output, *, progress, study=None):
    return None


def test_a_folder_of_cases_is_rid_of_all_that_is_left(tmp_path):
    abandoned(tmp_path, "a")
    abandoned(tmp_path, "of before")
    list(run_each([Case("c", Path("c.nrrd"))], tmp_path, nothing))
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("holder", ["another-host 1234", ""], ids=["another machine", "no lock"])
def test_what_may_be_filled_elsewhere_goes_after_days_in_which_nothing_changed(tmp_path, holder):
    folder = abandoned(tmp_path, holder=holder)
    sweep(tmp_path)
    assert folder.exists()
    make_old(folder)
    (folder / FILES / "completed.nrrd").touch()  # something is written even now
    sweep(tmp_path)
    assert folder.exists()
    make_old(folder)
    sweep(tmp_path)
    assert not folder.exists()


def test_machines_of_one_name_and_a_machine_started_anew_are_told_apart(monkeypatch, tmp_path):
    found = set()
    for text in ("1111\n", "2222\n", None):
        boot = tmp_path / "boot_id"
        boot.unlink(missing_ok=True)
        if text is not None:
            boot.write_text(text)
        monkeypatch.setattr(module, "BOOT_ID", boot)
        module._machine.cache_clear()
        found.add(module._machine())
        assert module._machine() == module._machine()
    module._machine.cache_clear()
    assert len(found) == 3


def test_nothing_else_is_touched(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    kept = [".a-unfinished", "a-unfinished-abcd1234", ".a-unfinished-", ".cluster-abcd"]
    for name in kept:
        (tmp_path / name).mkdir()
        make_old(tmp_path / name)
    (tmp_path / ".b-unfinished-abcd").write_text("a file")
    (tmp_path / ".c-unfinished-abcd").symlink_to(target)
    make_old(target)
    before = sorted(tmp_path.iterdir())
    sweep(tmp_path)
    sweep(tmp_path / "gone")
    assert sorted(tmp_path.iterdir()) == before


def test_names_are_no_patterns(tmp_path):
    folder = abandoned(tmp_path, "ab")
    sweep(tmp_path, "a.")
    sweep(tmp_path, "a*")
    assert folder.exists()


def test_a_disk_without_locks_is_filled_all_the_same(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise NotImplementedError("flock is not supported here")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with unfinished(tmp_path, "a") as folder:
        (held,) = left_in(tmp_path)
        assert not (held / HOLDER).exists()
        sweep(tmp_path)
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_the_machine_stands_there_only_once_the_lock_is_held(tmp_path, monkeypatch):
    def then_look(self, *args, **kwargs):
        (held,) = left_in(tmp_path)
        assert not (held / HOLDER).exists()
        sweep(tmp_path)  # another run, at the worst of moments
        return acquire(self, *args, **kwargs)

    from filelock import FileLock

    acquire = FileLock.acquire
    monkeypatch.setattr("filelock.FileLock.acquire", then_look)
    with unfinished(tmp_path, "a") as folder:
        monkeypatch.undo()
        (held,) = left_in(tmp_path)
        assert (held / HOLDER).read_text() == module._machine()
        assert folder.is_dir()
