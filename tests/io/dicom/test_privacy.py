"""Nothing that says who the patient is stands in anything that is shown, logged or recorded."""

from __future__ import annotations

import json
import logging

import numpy as np
import pydicom
import pytest
from tests.dicom_files import IDENTITY, Series, replace, slices_of, write, zipped
from tests.io.dicom.read_back import on_grid, points_of

from calvaria.cli import main
from calvaria.errors import CalvariaError
from calvaria.io import read_mask
from calvaria.io.dicom import list_series, read_dicom

SECRETS = [part for value in IDENTITY.values() for part in (value, *value.split("^")) if len(part) > 2]
"""Values of the patient's, the study's and the clinic's elements."""

HOLE_MM = (58.0, 0.0, 40.0)


def require_silent(text, uids=()):
    found = [secret for secret in (*SECRETS, *uids) if secret.lower() in text.lower()]
    assert found == []


def skull(points):
    """A closed shell of bone, 4 mm thick, with brain inside and scalp around, and a hole on one side."""
    radius = np.linalg.norm(points / [0.85, 1.05, 0.95], axis=-1)
    values = np.where(radius < 78, 40.0, -1000.0)
    bone = (radius > 68) & (radius < 75) & (np.linalg.norm(points - HOLE_MM, axis=-1) > 25)
    return np.where(bone, 1200.0, values)


@pytest.fixture
def series():
    return Series(slices=80, shape=(80, 80), pixel_mm=(2.5, 2.5), step_mm=2.5, hu=skull)


@pytest.mark.usefixtures("small_pictures")
def test_a_design_of_a_zip_says_who_it_is_only_where_that_is_asked_for(tmp_path, series, capfd, caplog):
    """The whole way of a tilted scan, with all its files; only those in ``dicom`` are the patient's."""
    caplog.set_level(logging.DEBUG)
    study = zipped(write(tmp_path / "in", slices_of(replace(series, tilt_degrees=8.0))), tmp_path / "study.zip")
    output = tmp_path / "out"
    assert main(["dicom", "list", str(study)]) == 0
    assert main(["dicom", "list", str(study), "--json"]) == 0
    assert main(["dicom", "list", str(study), "-v"]) == 0
    code = main(["design", str(study), "-o", str(output), "-v", "--series", series.uids[1], "--dicom"])
    said = capfd.readouterr()
    assert code in (0, 3), said.err  # a hole in voxels of 2.5 mm is too ragged for some checks
    require_silent(said.out + said.err + caplog.text, series.uids)
    files = {path.relative_to(output).as_posix(): path for path in output.rglob("*") if path.is_file()}
    whose = {f"dicom/{name}.dcm" for name in ("implant", "picture", "segmentation")}
    assert {*whose, "result.json", "completed.nrrd", "preview.png", "design.png", "report.html"} <= set(files)
    for name, path in files.items():
        if name in whose:
            assert pydicom.dcmread(path).PatientID == IDENTITY["PatientID"]
        else:
            require_silent(name + path.read_bytes().decode("latin-1"), series.uids)
    record = json.loads(files["result.json"].read_text())
    assert record["input"]["format"] == "DICOM"
    assert record["input"]["geometry"]["tilt_degrees"] == pytest.approx(8.0)
    assert len(record["input"]["sha256"]) == 64
    segments = points_of(files["dicom/segmentation.dcm"])
    patch = read_mask(files["patch.nrrd"])
    np.testing.assert_array_equal(on_grid(segments["patch"], patch.grid), patch.mask)
    assert set(segments) == {"completed", "patch", "implant"}
    assert np.linalg.norm(segments["implant"].mean(axis=0) - HOLE_MM) < 15


@pytest.mark.parametrize(
    "changes",
    [
        {"PatientBirthDate": "Zebrowski"},
        {"StudyDate": "Ottilie"},
        {"RescaleSlope": 0},
        {"Modality": "MR"},
        {"ImagePositionPatient": [0, 0, 0]},
        {"ConvolutionKernel": "\u00e4\n;rm"},
        {"PixelSpacing": [0, 0]},
    ],
    ids=str,
)
def test_no_error_nor_note_nor_repr_says_who_it_is(tmp_path, series, changes, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    files = slices_of(series)[:22]
    folder = write(tmp_path / "a", files)
    for n, path in enumerate(sorted(folder.iterdir())):
        for name, value in changes.items():
            if isinstance(value, str):  # as damage has it: pydicom would refuse to write it
                old = str(files[0][name].value).encode() if name in files[0] else b""
                data = path.read_bytes()
                path.write_bytes(data.replace(old, value.encode()[: len(old)].ljust(len(old))) if old else data)
            else:
                setattr(files[n], name, value)
    if not any(isinstance(value, str) for value in changes.values()):
        write(folder, files)
    notes: list[str] = []
    try:
        found = read_dicom(folder, notes=notes)
        text = repr(found) + repr(found.source) + str(found.geometry)
    except CalvariaError as error:
        text = str(error)
    text += repr(list_series(folder, notes)) + "".join(notes)
    said = capfd.readouterr()
    require_silent(text + said.out + said.err + caplog.text)
