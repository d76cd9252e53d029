"""The whole way with a real archive: Orthanc (Debian: orthanc, orthanc-dicomweb) on loopback, if installed."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.dicom_files import Series, slices_of, write
from tests.io.archive.archives import free_port
from tests.io.archive.test_dimse import PATIENT, read_all
from tests.io.dicom.source_files import ct_series, source_of
from tests.results.test_dicom_out import GRID
from tests.results.test_dicom_out import write as write_results
from tests.results.test_orthanc import PROGRAM, START_LIMIT_S

from calvaria.errors import InputError
from calvaria.io.archive import Access, StudyQuery, credentials_from, echo, fetch, parse_address, send
from calvaria.io.dicom import list_series
from calvaria.results.dicom_out import Archive

PLUGIN = Path(os.environ.get("ORTHANC_PLUGINS", "/usr/share/orthanc/plugins"), "libOrthancDicomWeb.so")
LOGIN = credentials_from(environment={"CALVARIA_DICOM_USER": "reader", "CALVARIA_DICOM_PASSWORD": "s3cret"})


@dataclass(frozen=True)
class Orthanc:
    """A running archive: its addresses."""

    dicom: str
    web: str


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if PROGRAM is None:
        pytest.skip("Orthanc is not installed (apt-get install orthanc)")
    folder, dicom, http = tmp_path_factory.mktemp("orthanc"), free_port(), free_port()
    settings = {
        "StorageDirectory": str(folder / "kept"),
        "IndexDirectory": str(folder / "kept"),
        "DicomPort": dicom,
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"reader": "s3cret"},
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "Plugins": [str(PLUGIN)] if PLUGIN.exists() else [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([PROGRAM, folder / "orthanc.json"], stdout=log, stderr=log)
    made = Orthanc(f"dicom://ORTHANC@127.0.0.1:{dicom}", f"http://127.0.0.1:{http}/dicom-web")
    try:
        end = time.monotonic() + START_LIMIT_S
        while True:
            try:
                echo(parse_address(made.dicom), access=Access(timeout_s=1.0, tries=1))
                break
            except InputError:
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end, "it does not answer"
                time.sleep(0.2)
        yield made
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.parametrize("kind", ["dicom", "web"])
def test_a_study_and_its_results_go_in_and_come_out_equal(orthanc, tmp_path, quick, kind):
    if kind == "web" and not PLUGIN.exists():
        pytest.skip("Orthanc's DICOMweb is not installed (apt-get install orthanc-dicomweb)")
    address = parse_address(getattr(orthanc, kind))
    access = replace(quick, timeout_s=10.0, credentials=LOGIN if kind == "web" else None)
    # In: a study of the scanner's; out again, as calvaria reads it.
    head = slices_of(Series(slices=24, shape=(16, 16), step_mm=6.0, pixel_mm=(8.0, 8.0)))
    sent = send(address, write(tmp_path / "in", head), access=access)
    assert (len(sent.stored), sent.refused) == (24, ())
    asked = StudyQuery(study=head[0].StudyInstanceUID, accession="ACC-99817", date="2019-02-13")
    assert fetch(address, asked, tmp_path / "study.zip", access=access).slices == 24
    assert [(one.slices, one.problem) for one in list_series(tmp_path / "study.zip")] == [(24, None)]
    # The results of a case: stored, and back again as they were.
    results = tmp_path / "results"
    results.mkdir()
    (results / "result.json").write_text("{}")
    source = source_of(ct_series(GRID))
    write_results(results, Archive(source))
    written = read_all(results / "dicom")
    assert len(send(address, results, access=access).stored) == len(written) == 4
    found = fetch(address, StudyQuery(study=source.study_uid, modality="all"), tmp_path / "back", access=access)
    assert len(found.series) == 3
    assert read_all(tmp_path / "back") == written
    with pytest.raises(InputError, match="no study matches --patient"):
        fetch(address, replace(PATIENT, patient="NOBODY"), tmp_path / "none", access=access)
