"""What a real archive makes of the results: Orthanc, where it is installed (Debian: orthanc), on loopback alone."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE
from tests.io.dicom.source_files import ct_series, source_of
from tests.results.test_dicom_out import GRID, write

from calvaria.results.dicom_out import Archive

PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
START_LIMIT_S = 60.0


@dataclass(frozen=True)
class Orthanc:
    """A running archive: its ports for DICOM and HTTP."""

    dicom: int
    http: int

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=10) as answer:
            found: bytes = answer.read()
        return found


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    if PROGRAM is None:
        pytest.skip("Orthanc is not installed (apt-get install orthanc)")
    made = Orthanc(free_port(), free_port())
    settings = {
        "StorageDirectory": str(tmp_path / "kept"),
        "IndexDirectory": str(tmp_path / "kept"),
        "DicomPort": made.dicom,
        "HttpPort": made.http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([PROGRAM, tmp_path / "orthanc.json"], stdout=log, stderr=log)
    try:
        end = time.monotonic() + START_LIMIT_S
        while True:
            try:
                made.get("/system")
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < end, "it does not answer"
                time.sleep(0.2)
        yield made
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.parametrize("deidentify", [False, True])
def test_orthanc_keeps_the_results_as_they_are_in_one_study(orthanc, tmp_path, deidentify):
    (tmp_path / "out").mkdir()
    names = write(tmp_path / "out", Archive(source_of(ct_series(GRID)), deidentify))
    sent = {one.SOPInstanceUID: one for one in (pydicom.dcmread(tmp_path / "out" / name) for name in names)}
    scanner = AE("CALVARIA")
    for one in sent.values():
        scanner.add_requested_context(one.SOPClassUID, one.file_meta.TransferSyntaxUID)
    link = scanner.associate("127.0.0.1", orthanc.dicom)
    assert link.is_established
    assert [link.send_c_store(one).Status for one in sent.values()] == [0x0000] * 4
    link.release()
    (study,) = json.loads(orthanc.get("/studies"))
    assert len(json.loads(orthanc.get(f"/studies/{study}"))["Series"]) == 3
    kept = [
        pydicom.dcmread(BytesIO(orthanc.get(f"/instances/{name}/file")))
        for name in json.loads(orthanc.get("/instances"))
    ]
    assert len(kept) == 4
    for one in kept:
        assert one == sent[one.SOPInstanceUID]
