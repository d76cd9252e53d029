"""``calvaria dicom list``, and DICOM as the input of the commands that take a case."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from tests.dicom_files import IDENTITY, Series, abdomen, replace, slices_of, write
from tests.io.dicom.read_back import on_grid, points_of

from calvaria.cli import main
from calvaria.io import read_mask, write_volume
from calvaria.io.dicom import read_dicom


def shell(points):
    """Bone around brain, with a hole."""
    radius = np.linalg.norm(points, axis=-1)
    bone = (radius > 60) & (radius < 68) & (np.linalg.norm(points - [0, 0, 60], axis=-1) > 25)
    return np.where(bone, 1000.0, np.where(radius < 72, 40.0, -1000.0))


@pytest.fixture
def study(tmp_path):
    head = Series(slices=40, step_mm=4.0, shape=(40, 40), pixel_mm=(4.0, 4.0), tilt_degrees=10.0, hu=shell)
    write(tmp_path / "study", slices_of(head))
    uids = (head.uids[0], *Series().uids[1:])
    write(tmp_path / "study", slices_of(replace(head, number=9, slices=12, uids=uids)), first=100)
    return tmp_path / "study"


def test_the_list_marks_what_is_taken_and_says_why_others_are_not(study, capsys):
    assert main(["dicom", "list", str(study)]) == 0
    lines = capsys.readouterr().out.splitlines()
    two, nine = (next(line for line in lines if f" {number} " in line) for number in ("2  ", "9  "))
    assert two.split()[:4] == ["*", "2", "CT", "40"]
    for part in ("4.000 x 3.94", "10.0", "H30s", "yes"):
        assert part in two
    assert "no: 12 slices; at least 20 are needed" in nine


def test_the_list_of_several_studies_counts_them(study, capsys):
    write(study / "other", slices_of(Series(slices=24, changes={"PatientID": "another"})))
    assert main(["dicom", "list", str(study)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:4] for line in lines if line[1:2] == ["*"]] == [["1", "*", "2", "CT"], ["2", "*", "2", "CT"]]
    assert main(["dicom", "list", str(study), "--json"]) == 0
    assert [one["study"] for one in json.loads(capsys.readouterr().out)] == [1, 1, 2]


def test_the_list_as_json(study, capsys):
    assert main(["dicom", "list", str(study), "--json"]) == 0
    two, nine = json.loads(capsys.readouterr().out)
    assert (two["number"], two["chosen"], two["usable"], two["size"]) == ("2", True, True, [40, 40])
    assert two["tilt_degrees"] == pytest.approx(10.0)
    assert (nine["usable"], nine["slices"], nine["spacing_mm"]) == (False, 12, None)


def test_a_bad_path_is_one_line(tmp_path, capsys):
    assert main(["dicom", "list", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("option", ["--series", "--study"])
def test_series_and_studies_are_for_dicom_only(tmp_path, run, option):
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004\n")
    done = run("reconstruct", tmp_path / "a.nrrd", "-o", tmp_path / "out", option, "2")
    assert done.code == 2
    assert f"a.nrrd: {option} is for DICOM, and this is none; leave it out" in done.err


def test_the_series_that_cannot_be_used_is_refused(study, tmp_path, run):
    done = run("reconstruct", study, "-o", tmp_path / "out", "--series", "9")
    assert done.code == 2
    assert "no CT series that can be used (series 9: 12 slices; at least 20 are needed)" in done.err
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.fixture
def patch(study, tmp_path):
    """A ball of missing bone on the study's grid."""
    skull = read_dicom(study).volume
    ball = np.linalg.norm(skull.grid.centres_mm() - [0, 0, 60], axis=-1) < 10
    write_volume(tmp_path / "patch.nrrd", skull.with_data(ball))
    return tmp_path / "patch.nrrd"


def test_refine_takes_a_study_and_a_patch(study, patch, tmp_path, engine, run):
    skull = read_dicom(study).volume
    done = run("refine", study, patch, "-o", tmp_path / "out", "--no-preview")
    assert done.code == 0, done.err
    assert engine.calls[-1]["kind"] == "ct"
    assert engine.calls[-1]["grid"].same_as(skull.grid)
    assert not engine.calls[-1]["grid"].is_orthogonal
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["input"]["geometry"]["series"] == "2"
    assert "geometry" not in record["given_patch"]


@pytest.mark.parametrize("option", ["--dicom", "--deidentify"])
def test_refine_gives_its_results_back_as_dicom(study, patch, tmp_path, engine, run, option):
    done = run("refine", study, patch, "-o", tmp_path / "out", option)
    assert done.code == 0, done.err
    names = ["dicom/picture.dcm", "dicom/segmentation.dcm"]
    assert [name for name in json.loads((tmp_path / "out/result.json").read_text())["files"] if "dcm" in name] == names
    segments = points_of(tmp_path / "out/dicom/segmentation.dcm")
    grid = read_dicom(study).volume.grid
    np.testing.assert_array_equal(on_grid(segments["patch"], grid), read_mask(patch).mask)
    for name in names:
        found = pydicom.dcmread(tmp_path / "out" / name)
        assert (found.PatientID == IDENTITY["PatientID"]) is (option == "--dicom")
        assert (found.StudyInstanceUID == read_dicom(study).source.study_uid) is (option == "--dicom")


def test_refine_without_a_study_has_nowhere_to_give_its_results(patch, skull, tmp_path, engine, run):
    done = run("refine", skull, patch, "-o", tmp_path / "out", "--dicom")
    assert done.code == 2
    assert "--dicom needs a DICOM series as input, whose study the results go to; leave it out" in done.err
    assert not engine.calls
    assert not (tmp_path / "out").exists()


def test_design_takes_a_study(study, tmp_path, run):
    done = run("design", study, "-o", tmp_path / "out", "--no-preview", "--series", "9")
    assert done.code == 2
    assert "series 9: 12 slices; at least 20 are needed" in done.err


def test_a_uid_that_was_asked_for_stands_in_no_record(study, patch, tmp_path, engine, run):
    uid = read_dicom(study).source.series_uid
    done = run("refine", study, patch, "-o", tmp_path / "out", "--no-preview", "--series", uid)
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "out" / "result.json").read_text())["parameters"]["series"] is None
    assert uid not in (tmp_path / "out" / "result.json").read_text()


@pytest.mark.parametrize(
    ("changes", "words", "wanted"),
    [
        (
            {"BodyPartExamined": "ABDOMEN"},
            (),
            "trunk: no series of a head, by BodyPartExamined (series 2: ABDOMEN); if ",
        ),
        ({"BodyPartExamined": "ABDOMEN"}, ("--series", "2"), "trunk: no head found: the body in the scan holds 1"),
        ({}, (), "trunk: no head found: the body in the scan holds 1"),
    ],
)
def test_an_abdomen_is_refused_in_one_line(tmp_path, run, changes, words, wanted):
    trunk = Series(slices=60, step_mm=5.0, shape=(100, 100), pixel_mm=(4.0, 4.0), hu=abdomen, changes=changes)
    done = run("reconstruct", write(tmp_path / "trunk", slices_of(trunk)), "-o", tmp_path / "out", *words)
    assert done.code == 2
    assert done.err.startswith(f"calvaria: {wanted}")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_head_is_taken_before_an_abdomen_and_the_list_says_so(study, capsys):
    thin = Series(slices=60, number=4, uids=(read_dicom(study).source.study_uid, *Series().uids[1:]))
    write(study / "more", slices_of(replace(thin, changes={"BodyPartExamined": "ABDOMEN"})))
    assert read_dicom(study).geometry["series"] == "2"
    notes = []
    assert read_dicom(study, "4", notes).geometry["series"] == "4"
    assert "series 4 is of the ABDOMEN by BodyPartExamined" in notes
    main(["dicom", "list", str(study), "--json"])
    listed = {one["number"]: one for one in json.loads(capsys.readouterr().out)}
    assert (listed["2"]["chosen"], listed["4"]["chosen"]) == (True, False)
    assert listed["4"]["notes"] == ["of the ABDOMEN"]


@pytest.mark.parametrize("command", ["reconstruct", "design", "plane"])
def test_a_folder_without_permission_is_one_line(study, tmp_path, run, monkeypatch, command):
    """Root may read everything, so the system's answer is made up."""
    iterdir, isfile, access = Path.iterdir, os.path.isfile, os.access

    def refused(self):
        if self == study:
            raise PermissionError(13, "Permission denied", str(self))
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", refused)
    monkeypatch.setattr(os.path, "isfile", lambda path: Path(path).parent != study and isfile(path))
    monkeypatch.setattr(os, "access", lambda path, mode, **more: Path(path) != study and access(path, mode, **more))
    done = run(command, study, *(() if command == "plane" else ("-o", tmp_path / "out")))
    assert done.code == 2
    assert done.err == f"calvaria: {study}: may not be read: Permission denied; check its permissions\n"
