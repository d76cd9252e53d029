"""Several patients' studies as one input: each is a case, and none is called by a name."""

from __future__ import annotations

import json

import numpy as np
import pydicom
import pytest
from tests.cli.conftest import GRID, defective, hole
from tests.dicom_files import IDENTITY, Series, replace, slices_of, write, zipped

from calvaria.io import read_mask, write_volume
from calvaria.io.dicom import read_dicom
from calvaria.symmetry import estimate as estimating
from calvaria.symmetry.estimate import PlaneEstimate
from calvaria.symmetry.plane import Plane


def hu(points):
    """The defective skull of the other tests, with the world's origin in its middle."""
    bone = np.where(defective().mask, 1000.0, -1000.0)
    index = np.rint(points / GRID.spacing_mm + (np.array(GRID.shape) - 1) / 2).astype(int)
    return bone[tuple(np.moveaxis(index, -1, 0))]


HEAD = Series(slices=20, shape=(24, 24), step_mm=2.5, hu=hu)


def another(**changes):
    return replace(HEAD, uids=Series().uids, changes=changes)


@pytest.fixture
def export(tmp_path):
    """Three patients' studies in folders that bear their names, the second without a CT."""
    write(tmp_path / "export/Adler/CT", slices_of(HEAD))
    write(tmp_path / "export/Berg", slices_of(another(PatientID="B", Modality="MR")))
    write(tmp_path / "export/Conrad", slices_of(replace(another(PatientID="C"), number=5)))
    return tmp_path / "export"


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("result.json"))


@pytest.mark.parametrize("packed", [False, True])
def test_each_study_is_a_case_without_a_name(export, tmp_path, engine, run, packed):
    path = zipped(export, tmp_path / "export.zip") if packed else export
    done = run("reconstruct", path, "-o", tmp_path / "out", "--no-preview", "--dicom")
    assert done.code == 0, done.err
    assert names(tmp_path / "out") == ["study-1/result.json", "study-3/result.json"]
    assert "of 3 studies 2 are cases; left out, for want of a CT series: 2" in done.err
    assert "2 of 2 cases done" in done.out
    assert not any(name in done.out + done.err for name in ("Adler", "Berg", "Conrad"))
    for name, patient in (("study-1", IDENTITY["PatientID"]), ("study-3", "C")):
        assert pydicom.dcmread(tmp_path / "out" / name / "dicom/segmentation.dcm").PatientID == patient
        assert np.array_equal(read_mask(tmp_path / "out" / name / "patch.nrrd").mask, hole().mask)
        text = (tmp_path / "out" / name / "result.json").read_text()
        assert json.loads(text)["parameters"]["study"] == int(name[-1])


def test_several_processes_take_a_study_each(tmp_path, run):
    for name, number in (("a", 2), ("b", 4)):
        study = replace(HEAD, number=number, uids=Series().uids, changes={"PixelSpacing": [0, 0]})
        write(tmp_path / "export" / name, slices_of(study))
    done = run("reconstruct", tmp_path / "export", "-o", tmp_path / "out", "--jobs", 2)
    assert done.code == 2
    for name, number in (("study-1", 2), ("study-2", 4)):
        assert f"{name}: export: no CT series that can be used (series {number}: PixelSpacing is zero" in done.err


def test_they_are_called_by_their_folders_where_that_is_asked_for(export, tmp_path, engine, run):
    done = run("reconstruct", export, "-o", tmp_path / "out", "--no-preview", "--by-folder")
    assert done.code == 0, done.err
    assert names(tmp_path / "out") == ["Adler/result.json", "Conrad/result.json"]
    write(tmp_path / "flat", slices_of(HEAD))
    write(tmp_path / "flat", slices_of(another()), first=50)
    done = run("reconstruct", tmp_path / "flat", "-o", tmp_path / "none", "--by-folder")
    assert done.code == 2
    assert "flat: its 2 studies do not lie in folders of their own; leave out --by-folder" in done.err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("asked", [("--study", 3), ("--series", 5)])
def test_one_that_is_asked_for_is_one_case(export, tmp_path, engine, run, asked):
    done = run("reconstruct", export, "-o", tmp_path / "out", "--no-preview", *asked)
    assert done.code == 0, done.err
    assert names(tmp_path / "out") == ["result.json"]
    assert json.loads((tmp_path / "out/result.json").read_text())["input"]["geometry"]["series"] == "5"


def test_a_bad_study_is_named_and_the_rest_go_on(export, tmp_path, engine, run):
    for path in sorted((export / "Adler/CT").iterdir())[:3]:
        found = pydicom.dcmread(path)
        found.PixelSpacing = [0, 0]
        found.save_as(path)
    done = run("reconstruct", export, "-o", tmp_path / "out", "--no-preview")
    assert done.code == 2
    assert "study-1: export: no CT series that can be used (series 2: PixelSpacing is zero or negative)" in done.err
    assert "1 of 2 cases failed: study-1" in done.err
    assert names(tmp_path / "out") == ["study-3/result.json"]


def test_each_study_has_its_design(export, tmp_path, designer, run):
    done = run("design", export, "-o", tmp_path / "out", "--no-preview", "--deidentify")
    assert done.code == 0, done.err
    for name in ("study-1", "study-3"):
        assert pydicom.dcmread(tmp_path / "out" / name / "dicom/implant.dcm").PatientIdentityRemoved == "YES"


def test_refine_wants_one_of_them(export, tmp_path, engine, run):
    skull = read_dicom(export, study=1).volume
    write_volume(tmp_path / "patch.nrrd", skull.with_data(hole().mask))
    words = ("refine", export, tmp_path / "patch.nrrd", "-o", tmp_path / "out", "--no-preview")
    done = run(*words)
    assert done.code == 2
    assert "export: 2 studies that can be used; choose one with --study, see calvaria dicom list" in done.err
    assert run(*words, "--study", 1).code == 0


@pytest.fixture
def planes(monkeypatch):
    """A stand-in for the estimate, and the masks that it was given."""
    asked = []

    def answer(mask, method, **options):
        asked.append(mask)
        return PlaneEstimate(Plane([1.0, 0.0, 0.0], 12.5), method, 0.0123, 0.5, 0.4, 0.2, np.zeros(3))

    monkeypatch.setattr(estimating, "estimate_plane", answer)
    return asked


def test_plane_takes_a_study(export, tmp_path, planes, run):
    done = run("plane", zipped(export, tmp_path / "e.zip"), "--study", 1, "--series", 2, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["offset_mm"] == 12.5
    assert np.array_equal(planes[0].mask, defective().mask)


def test_plane_takes_each_of_several_studies(export, planes, run):
    done = run("plane", export, "--json")
    assert done.code == 0, done.err
    assert [one["case"] for one in json.loads(done.out)] == ["study-1", "study-3"]
    assert "Adler" not in done.out + done.err
    assert run("plane", export, "--series", 7).code == 2


def test_evaluate_takes_a_study_for_the_skull(export, tmp_path, run):
    skull = read_dicom(export, study=1).volume
    write_volume(tmp_path / "truth.nrrd", skull.with_data(hole().mask))
    words = ("evaluate", tmp_path / "truth.nrrd", tmp_path / "truth.nrrd", "--defective", export, "--json")
    done = run(*words, "--series", 5)
    assert done.code == 0, done.err
    scores = json.loads(done.out)["cases"][0]["scores"]
    assert (scores["dsc"], scores["overlap_ml"]) == (1.0, 0.0)
    assert run(*words).code == 2
    assert run(*words[:4], tmp_path / "truth.nrrd", "--series", 5).code == 2
