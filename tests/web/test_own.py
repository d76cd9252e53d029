"""The patient's own bone, brought beside a case: under the same limits, and refused in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.web.desk import Answer, Desk, desk, shared

from calvaria.errors import InputError, naming
from calvaria.io import write_volume
from calvaria.results.own_files import OwnFiles
from calvaria.results.settings import Settings
from calvaria.volume import Grid, Volume
from calvaria.web.asked import Asked
from calvaria.web.brought import FILES, OWN_FOLDERS
from calvaria.web.limits import Served
from calvaria.web.messages import Failed, News, Run
from calvaria.web.work import Desk as WorkDesk

MB = 10**6


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("desk"), Served(max_upload_mb=2)) as found:
        yield found


@pytest.fixture
def here(whole: Desk) -> Iterator[Desk]:
    with shared(whole) as found:
        yield found


def done(here: Desk) -> str:
    case = here.case()
    here.complete(case)
    here.until(case, "done")
    return case


def put(here: Desk, case: str, own: str = "pre_op", content: bytes = b"bone", suffix: str = ".nrrd") -> Answer:
    return here.client.put(f"/api/cases/{case}/files", params={"suffix": suffix, "own": own}, content=content)


def run(here: Desk, case: str, own: str | None) -> Answer:
    return here.client.post(f"/api/cases/{case}/run", json={"own": own})


def said(answer: Answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


def test_a_scan_from_before_is_brought_and_the_case_run_with_it(here: Desk):
    case = done(here)
    assert put(here, case).status_code == 204
    brought = sorted(path.relative_to(here.folder / case).as_posix() for path in (here.folder / case).glob("scan-*/*"))
    assert brought == ["scan-from-before/scan-from-before-00001.nrrd"]
    assert here.told(case)["own"] == "pre_op"
    assert run(here, case, "pre_op").status_code == 200
    found = here.until(case, "done")
    assert found["asked"] == {"own": "pre_op"}
    task = here.links[-1].tasks[-1]
    assert isinstance(task, Run) and task.asked.own == "pre_op"


def test_a_scan_is_taken_away_before_another_is_brought(here: Desk):
    case = done(here)
    assert put(here, case, content=bytes(MB)).status_code == 204
    for own in ("pre_op", "flap"):
        assert said(put(here, case, own))[1].startswith("there is such a scan already; take it away first")
    assert said(run(here, case, "flap")) == (409, "there is no such scan of the patient's own bone; bring it first")
    assert here.client.delete(f"/api/cases/{case}/own").status_code == 204
    assert not any((here.folder / case / name).exists() for name in OWN_FOLDERS.values())
    assert here.told(case)["own"] is None and here.told(case)["megabytes"] == 0.0
    assert [put(here, case, "flap", bytes(MB // 2), ".dcm").status_code for _ in range(2)] == [204, 204]


def test_the_limits_are_those_of_the_case(here: Desk):
    case = done(here)
    assert said(put(here, case, content=bytes(3 * MB)))[0] == 413
    assert not list((here.folder / case).glob("scan-*/*"))
    assert said(put(here, case, "../x")) == (400, "own must be one of pre_op, flap")
    assert said(put(here, case, suffix=".exe"))[0] == 400
    assert said(run(here, case, "x")) == (400, "own must be one of pre_op, flap")


def test_a_case_that_is_worked_on_takes_none(tmp_path: Path):
    with desk(tmp_path, wait=True) as here:
        case = here.case()
        assert said(put(here, case)) == (409, "this case is being worked on; cancel that first")
        here.complete(case)
        here.until(case, "running")
        for answer in (put(here, case), here.client.delete(f"/api/cases/{case}/own")):
            assert said(answer) == (409, "this case is being worked on; cancel that first")


def test_another_person_is_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mask = np.zeros((9, 9, 9), bool)
    mask[2:7, 2:7, 2:7] = True
    for name in (f"{FILES}/00001.nrrd", "removed-piece/removed-piece-00001.nrrd"):
        (tmp_path / name).parent.mkdir()
        write_volume(tmp_path / name, Volume(mask, Grid.isotropic((9, 9, 9), 1.0, np.zeros(3))))
    given: list[OwnFiles] = []

    def refuse(*_: object, own: OwnFiles, **__: Any) -> None:
        given.append(own)
        with naming(str(own.path)):
            raise InputError("this seems to be another person's; give a scan of this patient, or leave it out")

    monkeypatch.setattr("calvaria.results.held.reconstructed", refuse)
    news: list[News] = []
    worker = WorkDesk(news.append)
    worker.do(Run(tmp_path, Asked(Settings(), own="flap")))
    assert [one.flap for one in given] == [tmp_path / "removed-piece" / "removed-piece-00001.nrrd"]
    text = "the removed piece: this seems to be another person's; give a scan of this patient, or leave it out"
    assert [one.text for one in news if isinstance(one, Failed)] == [text]
    worker.do(Run(tmp_path, Asked(Settings(), own="pre_op")))
    assert news[-1] == Failed("no file was brought; drop one, or a DICOM folder")
