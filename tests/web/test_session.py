"""The cases of a session: their states, and that none is lost by another's end."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from tests.web.desk import Desk, desk

from calvaria.web.limits import Served
from calvaria.web.messages import Design, Looked, Write
from calvaria.web.session import CANCELLED, DIED
from calvaria.web.work import FULL

SERIES = (
    {"study": 1, "series": "2", "label": "series 2", "usable": True, "problem": None, "chosen": True},
    {"study": 1, "series": "3", "label": "series 3", "usable": True, "problem": None, "chosen": False},
)


def run(here: Desk) -> str:
    case = here.case()
    here.complete(case)
    return case


def test_a_case_goes_from_its_file_to_its_results(tmp_path: Path):
    with desk(tmp_path) as here:
        case = run(here)
        found = here.until(case, "done")
        assert (found["format"], found["summary"]["files"]) == ("NRRD", ["result.json", "patch.stl"])
        assert here.client.get(f"/api/cases/{case}/file/patch.stl").content == b"solid"
        answer = here.client.get(f"/api/cases/{case}/results.zip")
        assert answer.headers["content-disposition"] == 'attachment; filename="calvaria-case-1.zip"'
        assert sorted(zipfile.ZipFile(io.BytesIO(answer.content)).namelist()) == ["patch.stl", "result.json"]


def test_of_several_series_one_is_chosen(tmp_path: Path):
    with desk(tmp_path, looked=Looked("DICOM", SERIES, ("a note",))) as here:
        case = run(here)
        found = here.until(case, "choosing")
        assert [one["series"] for one in found["series"]] == ["2", "3"] and found["notes"] == ["a note"]
        assert here.client.post(f"/api/cases/{case}/run", json={"series": "3", "study": 1}).status_code == 200
        here.until(case, "done")
        settings = here.links[0].tasks[-1].asked.settings  # type: ignore[union-attr]
        assert (settings.series, settings.study) == ("3", 1)


def test_points_that_were_clicked_are_the_seeds_of_the_next_run(tmp_path: Path):
    with desk(tmp_path) as here:
        case = run(here)
        here.until(case, "done")
        asked = {"seeds": [[1, 2.5, -3]], "keep_open": [[0, 0, 9]], "box": [0, 0, 0, 1, 1, 1]}
        here.client.post(f"/api/cases/{case}/run", json=asked)
        here.until(case, "done")
        word = here.links[0].tasks[-1].asked.settings.word  # type: ignore[union-attr]
        assert (word.seed, word.keep_open, word.box) == (((1, 2.5, -3),), ((0, 0, 9),), (0, 0, 0, 1, 1, 1))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"seeds": [[1, 2]]}, "seeds: 3 numbers are wanted, LPS mm"),
        ({"seeds": [[1, 2, "3"]]}, "seeds must be a number from"),
        ({"seeds": [[1, 2, 1e9]]}, "seeds must be a number from"),
        ({"seeds": [[1, 2, 3]] * 51}, "seeds must be a list of up to 50 points"),
        ({"box": [1, 2, 3]}, "box: 6 numbers are wanted"),
        ({"kind": "photo"}, "kind must be one of auto, mask, ct"),
        ({"min_hole_ml": -1}, "min_hole_ml must be a number from 0.1"),
        ({"refine": 1}, "refine must be true or false"),
        ({"series": "x" * 99}, "series must be a number as it is listed"),
        ({"study": True}, "study must be a number as it is listed"),
        ({"engine": "/etc/passwd"}, "a run has no setting 'engine'"),
        ({"outline": [[1, 2, 3]]}, "an outline has 3 places or more"),
        ({"outline": [[1, 2, 3]] * 3, "seeds": [[1, 2, 3]]}, "an outline has 3 places or more, and stands without"),
        ({"hole": "/etc/passwd"}, "a run has no setting 'hole'"),
    ],
)
def test_what_cannot_be_asked_for_is_said(tmp_path: Path, asked: dict, said: str):
    with desk(tmp_path) as here:
        case = run(here)
        here.until(case, "done")
        answer = here.client.post(f"/api/cases/{case}/run", json=asked)
        assert answer.status_code == 400 and answer.json()["error"].startswith(said)


def test_a_design_is_made_by_the_worker_that_holds_the_case(tmp_path: Path):
    with desk(tmp_path, Served(jobs=1)) as here:
        first = run(here)
        here.until(first, "done")
        second = run(here)
        here.until(second, "done")
        for case in (first, second):
            assert here.client.post(f"/api/cases/{case}/design", json={"thickness_mm": 5}).status_code == 202
        for case, link in zip((first, second), here.links, strict=True):
            design = here.designed(case)
            assert (design["state"], design["files"], design["seconds"]) == ("done", [], 0.2)
            assert isinstance(link.tasks[-1], Design) and link.tasks[-1].implant.thickness_mm == 5


def test_the_files_of_an_implant_are_written_when_they_are_saved(tmp_path: Path):
    with desk(tmp_path) as here:
        case = run(here)
        here.until(case, "done")
        for thickness_mm in (5, 6):
            here.client.post(f"/api/cases/{case}/design", json={"thickness_mm": thickness_mm})
            here.designed(case)
        assert here.client.get(f"/api/cases/{case}/file/implant.stl").status_code == 404
        for _ in range(2):
            content = here.client.get(f"/api/cases/{case}/results.zip").content
            names = sorted(zipfile.ZipFile(io.BytesIO(content)).namelist())
            assert names == ["implant.stl", "patch.stl", "result.json"]
        writes = [one for one in here.links[0].tasks if isinstance(one, Write)]
        assert [one.implant.thickness_mm for one in writes] == [6]  # once, and of the last
        assert here.client.get(f"/api/cases/{case}/file/implant.stl").content == b"solid implant"
        here.client.post(f"/api/cases/{case}/design", json={})
        assert here.designed(case)["files"] == []  # those are of another implant
        assert here.client.post(f"/api/cases/{case}/write", json={}).status_code == 202
        assert here.designed(case)["files"] == ["implant.stl"]


def test_an_implant_that_cannot_be_written_is_said(tmp_path: Path):
    with desk(tmp_path, full=True) as here:
        case = run(here)
        here.until(case, "done")
        here.client.post(f"/api/cases/{case}/design", json={})
        here.designed(case)
        answer = here.client.get(f"/api/cases/{case}/results.zip")
        assert (answer.status_code, answer.json()["error"]) == (409, FULL)
        assert here.told(case)["design"]["state"] == "failed"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"thickness_mm": 99}, "thickness_mm must be 2 to 10 mm; got 99"),
        ({"colour": "red"}, "an implant has no parameter colour"),
        ({"perforations": "yes"}, "perforations must be true or false"),
    ],
)
def test_an_implant_that_cannot_be_is_said(tmp_path: Path, asked: dict, said: str):
    with desk(tmp_path) as here:
        case = run(here)
        here.until(case, "done")
        answer = here.client.post(f"/api/cases/{case}/design", json=asked)
        assert answer.status_code == 400 and answer.json()["error"].startswith(said)


def test_there_is_no_design_before_there_is_a_result(tmp_path: Path):
    with desk(tmp_path, wait=True) as here:
        case = run(here)
        here.until(case, "running")
        assert here.client.post(f"/api/cases/{case}/design", json={}).status_code == 409
        assert here.client.get(f"/api/cases/{case}/results.zip").status_code == 409


def test_a_worker_that_dies_costs_its_own_case_alone(tmp_path: Path):
    with desk(tmp_path, dies=True) as here:
        first, second = run(here), run(here)
        for case in (first, second):
            assert here.until(case, "failed")["text"] == DIED
        here.links[-1].dies = False
        third = run(here)
        assert len(here.links) == 3
        assert here.until(third, "failed", "done")


def test_the_next_case_runs_after_one_is_cancelled(tmp_path: Path):
    with desk(tmp_path, wait=True) as here:
        first, second = run(here), run(here)
        here.until(first, "running")
        assert here.told(second)["place"] == 0
        here.client.post(f"/api/cases/{first}/cancel", json={})
        assert here.told(first)["state"] == "cancelled" and here.told(first)["text"] == CANCELLED
        assert here.links[0].killed
        here.until(second, "running")


def test_a_case_that_waits_can_be_cancelled_and_run_again(tmp_path: Path):
    with desk(tmp_path, wait=True) as here:
        first, second = run(here), run(here)
        here.until(first, "running")
        here.client.post(f"/api/cases/{second}/cancel", json={})
        assert here.told(second)["state"] == "cancelled"
        assert here.told(first)["state"] == "running" and not here.links[0].killed
        here.client.post(f"/api/cases/{second}/run", json={})
        assert here.told(second)["state"] == "waiting"


def test_a_deleted_case_is_gone_from_list_disk_and_memory(tmp_path: Path):
    with desk(tmp_path) as here:
        case = run(here)
        here.until(case, "done")
        assert (here.folder / case).is_dir()
        assert here.client.delete(f"/api/cases/{case}").status_code == 204
        assert not (here.folder / case).exists() and here.client.get("/api/cases").json() == []
        assert here.links[0].killed
        assert here.client.get(f"/api/cases/{case}/file/result.json").status_code == 404
        assert here.client.delete(f"/api/cases/{case}").status_code == 404


def test_all_files_are_gone_at_the_end_unless_they_are_kept(tmp_path: Path):
    for keep in (False, True):
        place = tmp_path / str(keep)
        place.mkdir()
        with desk(place) as here:
            run(here)
            here.session.close(keep=keep)
            assert here.folder.exists() == keep


def test_the_settings_of_an_implant_are_offered_with_their_ranges(tmp_path: Path):
    with desk(tmp_path) as here:
        groups = here.client.get("/api/about").json()["implant"]
        controls = {one["name"]: one for group in groups for one in group["controls"]}
        thickness = controls["thickness_mm"]
        assert (thickness["low"], thickness["high"], thickness["default"], thickness["unit"]) == (2.0, 10.0, 4.0, "mm")
        assert controls["perforations"]["kind"] == "flag" and controls["split"]["choices"] == ["auto", "never"]
        assert {one["kind"] for one in controls.values()} == {"number", "flag", "choice", "text"}
