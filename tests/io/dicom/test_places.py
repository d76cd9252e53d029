"""Zips that are no studies, folders that may not be read: one line each, nothing unpacked, little memory."""

from __future__ import annotations

import os
import struct
import time
import zipfile

import pytest
from tests.dicom_files import Series, slices_of, write, zipped

from calvaria.errors import FormatError, InputError
from calvaria.io.dicom import holds_dicom, list_series, places, read_dicom
from calvaria.results.names import is_dicom


def test_a_zip_bomb_is_refused_before_a_byte_is_unpacked(tmp_path, peak_memory):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w", force_zip64=True) as file:
        for _ in range(400):
            file.write(bytes(1 << 20))
    start = time.perf_counter()
    with (
        peak_memory() as peak,
        pytest.raises(FormatError, match=r"^bomb\.zip: the zip would grow from 0\.4 MB to 419 MB"),
    ):
        read_dicom(path)
    assert time.perf_counter() - start < 2
    assert peak.mb < 50


def test_a_zip_that_lies_about_its_size_ends_where_it_said(tmp_path, peak_memory):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(128) + b"DICM" + bytes(200 << 20))
    data = path.read_bytes()
    size = struct.pack("<I", (200 << 20) + 132)
    assert data.count(size) == 2
    path.write_bytes(data.replace(size, struct.pack("<I", 1000)))
    with peak_memory() as peak, pytest.raises(InputError, match=r"^a\.zip: "):
        read_dicom(path)
    assert peak.mb < 50


@pytest.mark.parametrize("name", ["../../a", "/etc/a", "a/../../b", "..\\a", "C:\\a"])
def test_a_path_that_leads_out_of_a_zip_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(FormatError, match=r"^a\.zip: a path in the zip leads out of it"):
        list_series(tmp_path / "a.zip")


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "MAX_FILES", 5)
    folder = write(tmp_path / "a", slices_of(Series(slices=6)))
    with pytest.raises(InputError, match="more than 5 files; give the folder of one study"):
        list_series(folder)
    with pytest.raises(FormatError, match=r"6 files in the zip, at most 5 are read"):
        list_series(zipped(folder, tmp_path / "b.zip"))


def test_an_encrypted_and_a_truncated_zip_are_refused(tmp_path):
    path = zipped(write(tmp_path / "a", slices_of(Series(slices=2))), tmp_path / "a.zip")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(FormatError, match=r"^a\.zip: the zip is damaged or truncated"):
        list_series(path)
    at = data.index(b"PK\x01\x02") + 8
    path.write_bytes(data[:at] + b"\x01\x00" + data[at + 2 :])
    with pytest.raises(FormatError, match=r"^a\.zip: the zip is encrypted"):
        list_series(path)


def test_a_damaged_member_is_one_line(tmp_path):
    path = zipped(write(tmp_path / "a", slices_of(Series(slices=25))), tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    data[400:420] = bytes(20)
    path.write_bytes(data)
    notes = []
    assert list_series(path, notes)[0].slices == 24
    assert notes == ["1 files were left out: 1 x a DICOM file is damaged or truncated"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_folder_without_permission_is_one_line(tmp_path, monkeypatch):
    folder = write(tmp_path / "a", slices_of(Series(slices=2)))

    def refused(*_: object) -> object:
        raise PermissionError(13, "Permission denied", str(folder))

    # Root may read everything, so the system's answer is made up.
    monkeypatch.setattr(places.os, "scandir", refused)
    with pytest.raises(InputError, match=r"a: may not be read: Permission denied; check its permissions"):
        list_series(folder)


def test_files_without_permission_are_counted_where_there_is_nothing_else(tmp_path, monkeypatch):
    folder = write(tmp_path / "a", slices_of(Series(slices=3)))
    denied = {path.name for path in folder.iterdir()}
    opened = places.Place.open

    def refused(self):
        if self.path.name in denied:
            raise PermissionError(13, "Permission denied", str(folder))
        return opened(self)

    monkeypatch.setattr(places.Place, "open", refused)
    wanted = r"a: 3 files in it may not be read, and no other is DICOM; check their permissions"
    with pytest.raises(InputError, match=wanted):
        holds_dicom(folder)
    denied.pop()
    assert holds_dicom(folder)
    notes: list[str] = []
    list_series(folder, notes)
    assert notes == ["2 files were left out: 2 x a file may not be read; check its permissions"]


def test_what_is_not_there_or_holds_nothing_is_said(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        list_series(tmp_path / "none")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(InputError, match="no DICOM image among 1 files; give a folder, a zip or a file of a CT series"):
        list_series(tmp_path)


def test_a_deflated_file_is_refused_not_inflated(tmp_path):
    folder = write(tmp_path / "a", slices_of(Series(slices=20, syntax="1.2.840.10008.1.2.1.99")))
    with pytest.raises(InputError, match="20 x a deflated DICOM file, which is not read; export it uncompressed"):
        read_dicom(folder)


def test_a_pipe_among_the_files_is_not_waited_for(tmp_path):
    folder = write(tmp_path / "a", slices_of(Series(slices=20)))
    os.mkfifo(folder / "pipe")
    assert holds_dicom(folder)
    assert list_series(folder)[0].slices == 20


def test_a_folder_of_dicom_is_one_case_and_one_of_images_is_many(tmp_path):
    folder = write(tmp_path / "a" / "deep", slices_of(Series(slices=2))).parent
    assert is_dicom(folder)
    assert is_dicom(next((folder / "deep").iterdir()))
    assert is_dicom(zipped(folder, tmp_path / "a.zip"))
    assert not is_dicom(tmp_path / "nothing")
    (folder / "deep" / "scan.nrrd").write_bytes(b"NRRD0004\n")
    assert not is_dicom(folder)
    (tmp_path / "b").mkdir()
    assert not is_dicom(tmp_path / "b")
