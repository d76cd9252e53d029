"""Runs whose results are asked for as DICOM: what is written, and what is refused before any reading."""

from __future__ import annotations

import json

import pydicom
import pytest
from tests.cli.conftest import GRID, defective
from tests.io.dicom.read_back import points_of
from tests.io.dicom.source_files import SECRETS, ct_series, source_of

from calvaria.errors import InputError
from calvaria.implant.settings import ImplantSettings
from calvaria.results.case import run_case
from calvaria.results.designing import run_design
from calvaria.results.dicom_out import DicomAsked
from calvaria.results.reading import CaseRead
from calvaria.results.settings import Settings

GEOMETRY = {"slices": 20}


@pytest.fixture
def scan(tmp_path, monkeypatch):
    """A folder that is read as a scan of the skull of the other tests."""
    source = source_of(ct_series(GRID))
    for module in ("case", "designing"):
        monkeypatch.setattr(f"calvaria.results.{module}.is_dicom", lambda path: path.name == "scan")
    monkeypatch.setattr(
        "calvaria.results.case.read_case", lambda *_: CaseRead(defective(), geometry=GEOMETRY, dicom=source)
    )
    (tmp_path / "scan").mkdir()
    return tmp_path / "scan"


def test_a_reconstruction_goes_back_to_its_study(engine, scan, tmp_path):
    record = run_case(scan, tmp_path / "out", Settings(), dicom=DicomAsked())
    assert [name for name in record.files if name.startswith("dicom/")] == [
        "dicom/picture.dcm",
        "dicom/segmentation.dcm",
    ]
    assert list(points_of(tmp_path / "out/dicom/segmentation.dcm")) == ["completed", "patch"]
    assert str(pydicom.dcmread(tmp_path / "out/dicom/picture.dcm").PatientName) == SECRETS["PatientName"]
    text = (tmp_path / "out/result.json").read_text()
    assert json.loads(text)["files"] == list(record.files)
    assert not any(secret in text for secret in SECRETS.values())


def test_without_being_asked_nothing_says_whose_it_is(engine, scan, tmp_path):
    run_case(scan, tmp_path / "out", Settings(), dicom=DicomAsked())
    run_case(scan, tmp_path / "out", Settings())
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(secret.encode() in path.read_bytes() for path in files for secret in SECRETS.values())


def test_a_design_takes_the_implant_along(designer, scan, tmp_path):
    record = run_design(scan, tmp_path / "out", Settings(), ImplantSettings(), dicom=DicomAsked(deidentify=True))
    dicom = [name for name in record.files if name.startswith("dicom/")]
    assert dicom == ["dicom/implant.dcm", "dicom/picture.dcm", "dicom/segmentation.dcm"]
    for name in dicom:
        assert pydicom.dcmread(tmp_path / "out" / name).PatientIdentityRemoved == "YES"


def test_what_cannot_be_is_refused_before_any_reading(designer, scan, finished, skull, tmp_path, monkeypatch):
    monkeypatch.setattr("calvaria.results.case.read_case", None)
    with pytest.raises(InputError, match=r"nrrd: --dicom needs a DICOM series as input"):
        run_case(skull, tmp_path / "out", Settings(), dicom=DicomAsked())
    with pytest.raises(InputError, match=r"nrrd: --dicom needs a DICOM series as input"):
        run_design(skull, tmp_path / "out", Settings(), ImplantSettings(), dicom=DicomAsked())
    with pytest.raises(InputError, match=r"results: --deidentify needs a DICOM series as input"):
        run_design(finished, tmp_path / "out", Settings(), ImplantSettings(), dicom=DicomAsked(deidentify=True))
    with pytest.raises(InputError, match=r"--deidentify: the implant is to bear a mark"):
        run_design(scan, tmp_path / "out", Settings(), ImplantSettings(mark="AB"), dicom=DicomAsked(deidentify=True))
    assert not (tmp_path / "out").exists()
