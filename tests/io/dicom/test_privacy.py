"""Nothing that says who the patient is stands in anything that is shown, logged or recorded."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from tests.dicom_files import IDENTITY, Series, slices_of, write

from calvaria.cli import main
from calvaria.errors import CalvariaError
from calvaria.io.dicom import list_series, read_dicom

SECRETS = [part for value in IDENTITY.values() for part in (value, *value.split("^")) if len(part) > 2]
"""Values of the patient's, the study's and the clinic's elements."""


def require_silent(text, uids=()):
    found = [secret for secret in (*SECRETS, *uids) if secret.lower() in text.lower()]
    assert found == []


def skull(points):
    """A closed shell of bone, 4 mm thick, with brain inside and scalp around, and a hole on one side."""
    radius = np.linalg.norm(points / [0.85, 1.05, 0.95], axis=-1)
    values = np.where(radius < 78, 40.0, -1000.0)
    bone = (radius > 68) & (radius < 75) & (np.linalg.norm(points - [58, 0, 40], axis=-1) > 25)
    return np.where(bone, 1200.0, values)


@pytest.fixture
def series():
    return Series(slices=80, shape=(80, 80), pixel_mm=(2.5, 2.5), step_mm=2.5, hu=skull)


def test_no_record_file_log_or_line_says_who_it_is(tmp_path, series, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    folder = write(tmp_path / "in", slices_of(series))
    output = tmp_path / "out"
    assert main(["dicom", "list", str(folder)]) == 0
    assert main(["dicom", "list", str(folder), "--json"]) == 0
    assert main(["dicom", "list", str(folder), "-v"]) == 0
    code = main(["reconstruct", str(folder), "-o", str(output), "-v", "--series", series.uids[1]])
    said = capfd.readouterr()
    assert code == 0, said.err
    require_silent(said.out + said.err + caplog.text, series.uids)
    files = [path for path in output.rglob("*") if path.is_file()]
    assert {"result.json", "completed.nrrd"} <= {path.name for path in files}
    for path in files:
        require_silent(path.name + path.read_bytes().decode("latin-1"), series.uids)


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
