"""A worker: a case with its designs, whatever goes wrong in a sentence, and a process that is killed."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from calvaria.errors import InputError
from calvaria.implant.settings import ImplantSettings
from calvaria.io import read_mesh, write_volume
from calvaria.results.finished import read_finished
from calvaria.results.settings import Settings
from calvaria.synthesis.sample import sample_case
from calvaria.web.asked import Asked
from calvaria.web.brought import FILES, RESULTS, VIEW
from calvaria.web.limits import Served
from calvaria.web.messages import (
    Design,
    Designed,
    Failed,
    Look,
    Looked,
    News,
    Reconstructed,
    Run,
    Shaped,
    Told,
    Viewed,
    Write,
    Written,
)
from calvaria.web.session import DIED, Session
from calvaria.web.work import FULL, OUT_OF_MEMORY, Desk, main, plain, sentence

ASKED = Asked(Settings())


@pytest.fixture(scope="module")
def skull(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("skull") / "skull.nrrd"
    write_volume(path, sample_case(seed=0)[0])
    return path


def brought(folder: Path, skull: Path) -> Path:
    (folder / FILES).mkdir(parents=True)
    (folder / FILES / "00001.nrrd").write_bytes(skull.read_bytes())
    return folder


class Ear:
    """Hears what a desk tells."""

    def __init__(self) -> None:
        self.news: list[News] = []
        self.waits = False
        self.desk = Desk(self.news.append, lambda: self.waits)

    def of(self, kind: type) -> list:
        return [one for one in self.news if isinstance(one, kind)]


def test_a_case_and_its_designs(tmp_path: Path, skull: Path):
    ear, folder = Ear(), brought(tmp_path / "case", skull)
    ear.desk.do(Look(folder))
    assert ear.news == [Looked("NRRD")]
    run = Run(folder, Asked(Settings(preview=False)))
    ear.desk.do(run)
    assert not ear.of(Failed)
    stages = [one.stage for one in ear.of(Told)]
    assert stages[0] == "reading" and {"pose", "completion", "write"} <= set(stages)
    fractions = [one.fraction for one in ear.of(Told)]
    assert fractions == sorted(fractions) and fractions[0] >= 0 and fractions[-1] < 1
    first, last = ear.of(Viewed)
    assert "result" not in first.view and last.view["result"] and len(last.view["holes_mm"]) == 1
    summary = ear.of(Reconstructed)[0].summary
    assert summary["volume_ml"] > 30 and summary["expected"] and summary["checks"]
    assert {"patch.nrrd", "patch.stl", "uncertainty.ply", "result.json"} <= set(summary["files"])
    assert {path.name for path in (folder / VIEW).iterdir()} == {
        *("head.nii.gz", "patch.nii.gz", "skull.mz3", "patch.mz3", "slices.npz")
    }

    assert ear.desk.unprepared
    ear.waits = True  # something else is wanted: nothing is prepared
    ear.desk.prepare()
    held = ear.desk.held
    assert held is not None and not ear.desk.unprepared and not held.memory.holes
    ear.waits = False
    ear.desk.prepare()
    assert set(held.memory.holes) == {0} and not ear.of(Designed)
    ear.desk.do(Design(run, ImplantSettings(), 1))
    assert ear.of(Designed)[0].seconds < 2.0  # it was there
    ear.waits = True  # another wish waits: the files of this one are not written
    ear.desk.do(Write(run, ImplantSettings(), 1))
    assert not ear.of(Written) and not ear.of(Failed) and not (folder / RESULTS / "implant.stl").exists()
    ear.waits = False
    ear.desk.do(Design(run, ImplantSettings(clearance_mm=1.0), 2))
    ear.desk.do(Write(run, ImplantSettings(clearance_mm=1.0), 2))
    assert not ear.of(Failed) and len(ear.of(Reconstructed)) == 1  # it was held
    assert [one.number for one in ear.of(Shaped)] == [one.number for one in ear.of(Designed)] == [1, 2]
    assert {"implant.stl", "implant.3mf", "design.json"} <= set(ear.of(Written)[0].files)
    checks = ear.of(Designed)[1].summary["checks"]
    assert {"name", "value", "limit", "verdict", "part", "source"} == set(checks[0])

    assert read_mesh(folder / RESULTS / "implant.stl").is_closed
    np.testing.assert_array_equal(read_finished(folder / RESULTS).patch.mask, held.result.patch.mask)


def test_what_cannot_be_read_is_a_sentence(tmp_path: Path):
    ear, folder = Ear(), tmp_path / "case"
    (folder / FILES).mkdir(parents=True)
    (folder / FILES / "00001.nrrd").write_bytes(b"NRRD0004\nnothing\n\n")
    for task in (Look(folder), Run(folder, ASKED), Design(Run(folder, ASKED), ImplantSettings(), 4)):
        ear.desk.do(task)
    said = "00001.nrrd: line 'nothing' of the NRRD header is not 'field: value'"
    assert [one.text for one in ear.of(Failed)] == [said] * 3
    assert [one.number for one in ear.of(Failed)] == [None, None, 4]
    assert not (folder / RESULTS).exists()


def test_a_full_disk_is_called_so(tmp_path: Path, skull: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("calvaria.web.views._write_nifti", refuse)
    ear = Ear()
    ear.desk.do(Run(brought(tmp_path / "case", skull), ASKED))
    assert [one.text for one in ear.of(Failed)] == [FULL]


def test_errors_in_a_sentence_without_what_is_inside():
    full = InputError("cannot write")
    full.__cause__ = OSError(errno.ENOSPC, "No space left")
    assert sentence(full) == FULL
    assert sentence(ValueError("Doe^John")) == "this is a bug, please report it: ValueError"
    assert (
        sentence(InputError("/tmp/calvaria-x/ab12/files/00001.nrrd:  the mask\nis empty"))
        == "00001.nrrd: the mask is empty"
    )
    assert plain("/a/b/c: gone; give another folder with -o") == "c: gone; make room"
    assert "no module" not in sentence(ModuleNotFoundError(name="pydicom"))


def test_too_little_memory_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("calvaria.web.work.source_of", refuse)
    ear = Ear()
    ear.desk.do(Look(tmp_path))
    assert [one.text for one in ear.of(Failed)] == [OUT_OF_MEMORY]


def test_what_a_worker_prints_is_heard_by_nobody(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("calvaria.web.work.begin_worker", lambda *_: None)

    class Loud:
        """A link whose task prints a name."""

        def send(self, news: News) -> None:
            os.write(1, b"Doe^John")
            os.write(2, b"Doe^John")

        def recv(self) -> None:
            raise EOFError

        def poll(self) -> bool:
            return False

    kept = os.dup(1), os.dup(2)
    before = signal.getsignal(signal.SIGINT)
    try:
        main(Loud(), 1)  # type: ignore[arg-type]
    finally:
        for stream, old in zip((1, 2), kept, strict=True):
            os.dup2(old, stream)
            os.close(old)
        signal.signal(signal.SIGINT, before)
    assert capfd.readouterr() == ("", "")


def until(session: Session, case: str, *states: str) -> dict:
    for _ in range(1200):
        found = session.told(case)
        if found["state"] in states:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{found['state']}: {found['text']}")


def test_a_process_that_is_killed_costs_its_own_case_alone(tmp_path: Path, skull: Path):
    session = Session(Served(jobs=1), tmp_path)
    try:
        cases = []
        for content in (skull.read_bytes(), b"NRRD0004\nnothing\n\n"):
            one = session.new_case()
            case, path = session.begin_file(one.id, ".nrrd")
            path.write_bytes(content)
            session.end_file(case)
            session.complete(one.id, {}, ASKED)
            cases.append(one.id)
        until(session, cases[0], "running")
        (pid,) = session.pool.pids(cases[0])
        os.kill(pid, signal.SIGKILL)
        assert until(session, cases[0], "failed")["text"] == DIED
        assert until(session, cases[1], "failed")["text"].startswith("00001.nrrd: line 'nothing'")
        assert session.pool.pids(cases[1]) != [pid]
    finally:
        session.close(keep=False)
    assert not tmp_path.exists()
