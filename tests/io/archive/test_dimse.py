"""Archives that speak DICOM's own protocol: pynetdicom's on loopback, and servers that only look like one."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from tests.dicom_files import Series, slices_of, zipped
from tests.io.archive.archives import CT, ECHO, FIND, GET, Behaviour, dimse_archive, free_port, talker

from calvaria.errors import CalvariaError, InputError
from calvaria.io.archive import StudyQuery, echo, fetch, parse_address, send
from calvaria.io.dicom import read_dicom

PATIENT = StudyQuery(patient="MRN-4471-ZQ")
SLACK_S = 1.5
"""Beside the time limit: threads that end, on a machine that is busy."""


NO_COMMAND = b"\x04\x00\x00\x00\x00\x12\x00\x00\x00\x0e\x01\x03" + b"\x00\x00\x00\x01\x02\x00\x00\x00\x77\x77\x00\x00"
"""A piece that is a whole command, of a kind that there is none of."""

HUGE = b"\x04\x00\xff\xff\xff\xff" + bytes(100)
"""The begin of a piece of 4 GB."""


def left_over(folder):
    return sorted(path.name for path in folder.iterdir())


def read_all(folder):
    found = [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]
    return {one.SOPInstanceUID: one for one in found}


def test_a_study_comes_as_it_is_kept_ct_alone(study, tmp_path, quick):
    told = []
    with dimse_archive(study) as (place, _):
        address = parse_address(f"dicom://{place}")
        done = fetch(address, PATIENT, tmp_path / "got", access=quick, progress=lambda *what: told.append(what))
    assert (done.slices, [one.number for one in done.series]) == (7, [2, 3])
    got = read_all(tmp_path / "got")
    assert got == {one.SOPInstanceUID: one for one in study[:7]}
    assert left_over(tmp_path) == ["got"]
    assert told[-1][1] == pytest.approx(1.0)
    assert "5 of 7 slices" in " ".join(text for text, _ in told)
    assert [fraction for _, fraction in told] == sorted(fraction for _, fraction in told)


def test_a_series_comes_as_a_zip_that_is_read_at_once(tmp_path, quick):
    head = slices_of(Series(slices=24, shape=(16, 16), step_mm=6.0, pixel_mm=(8.0, 8.0)))
    with dimse_archive(head) as (place, _):
        fetch(parse_address(f"dicom://{place}"), PATIENT, tmp_path / "got.zip", access=quick)
    assert read_dicom(tmp_path / "got.zip").volume.grid.shape == (16, 16, 24)
    assert left_over(tmp_path) == ["got.zip"]


def test_files_are_stored_as_they_are_one_by_one(study, files, tmp_path, quick):
    packed = zipped(files, tmp_path / "files.zip")
    for path in (files, packed, files / "0.dcm"):
        count = 1 if path.suffix == ".dcm" else 3
        with dimse_archive([]) as (place, kept):
            done = send(parse_address(f"dicom://{place}"), path, access=quick)
        assert (len(done.stored), len(done.refused), done.others) == (count, 0, 1 if count == 3 else 0)
        assert kept.stored == study[:count]


def test_an_archive_that_knows_implicit_vr_alone_gets_it(study, files, quick):
    with dimse_archive([], Behaviour(syntaxes=(ImplicitVRLittleEndian,))) as (place, kept):
        done = send(parse_address(f"dicom://{place}"), files, access=quick)
    assert len(done.stored) == 3
    assert [one.file_meta.TransferSyntaxUID for one in kept.stored] == [ImplicitVRLittleEndian] * 3
    assert [one.PixelData for one in kept.stored] == [one.PixelData for one in study[:3]]


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [
        (Behaviour(store_status=0xA700), r"it is out of resources \(status A700\)"),
        (Behaviour(store_status=0xC001), r"it cannot understand the object \(status C001\)"),
        (Behaviour(services=(ECHO, CT), syntaxes=(ExplicitVRLittleEndian,)), None),
        (Behaviour(store_status=0xB000), None),
    ],
    ids=["A700", "C001", "fine", "B000"],
)
def test_what_is_refused_is_said_by_its_status(files, quick, behaviour, text):
    with dimse_archive([], behaviour) as (place, _):
        done = send(parse_address(f"dicom://{place}"), files, access=quick)
    if text is None:
        assert len(done.stored) == 3
        assert all(one.changed == (behaviour.store_status == 0xB000) for one in done.stored)
    else:
        assert all(re.fullmatch(text, one.reason) for one in done.refused)
        assert len(done.refused) == 3


def test_a_kind_that_is_not_taken_is_said_beside_one_that_is(study, files, quick):
    strange = slices_of(Series(slices=1, shape=(8, 8)))[0]
    strange.SOPClassUID = strange.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    strange.save_as(files / "9.dcm", enforce_file_format=True)
    with dimse_archive([]) as (place, kept):
        done = send(parse_address(f"dicom://{place}"), files, access=quick)
    assert len(kept.stored) == 3
    assert [(one.name, one.reason) for one in done.refused] == [
        ("9.dcm", "it does not take this kind of object (SOP class) (status 0122)")
    ]


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [
        (
            Behaviour(missing=1),
            r"fewer slices than it announced \(series 2: 3 of 4; series 3: 2 of 3\); nothing is kept",
        ),
        (Behaviour(services=(FIND, CT)), "offers none|does not offer C-GET"),
        (Behaviour(services=(GET, CT)), "offers none|does not offer C-FIND"),
        (Behaviour(services=(FIND, GET)), "does not send slices of this kind by C-GET; use its DICOMweb"),
        (Behaviour(require_calling=("OTHER",)), "does not know us as CALVARIA; have that AE title entered there"),
        (Behaviour(stall_s=3.0), r"no answer within 1 s.*series 2: 1 of 4 slices came; nothing is kept"),
        (Behaviour(garbage=NO_COMMAND), "what is no DICOM message"),
        (Behaviour(garbage=b"\x09Ottilie" * 9), "gave up after 4 tries"),
        (Behaviour(garbage=HUGE), "sent more than is taken, or what is no DICOM message"),
        (Behaviour(breaks=9), r"gave up after 4 tries: .*series 2: 2 of 4 slices came; nothing is kept"),
    ],
    ids=[
        "short",
        "no C-GET",
        "no C-FIND",
        "no CT",
        "unknown AE title",
        "stalls",
        "garbage",
        "no piece",
        "4 GB",
        "breaks",
    ],
)
def test_an_archive_that_fails_leaves_nothing(study, tmp_path, quick, behaviour, text):
    with dimse_archive(study, behaviour) as (place, _):
        began = time.monotonic()
        with pytest.raises(CalvariaError, match=text):
            fetch(
                parse_address(f"dicom://{place}"),
                PATIENT,
                tmp_path / ("got.zip" if behaviour.missing or behaviour.breaks else "got"),
                access=quick,
            )
        assert time.monotonic() - began < quick.timeout_s + SLACK_S
    assert left_over(tmp_path) == []


def test_a_transfer_that_breaks_once_is_gone_on_with(study, tmp_path, quick):
    with dimse_archive(study, Behaviour(breaks=1)) as (place, _):
        assert fetch(parse_address(f"dicom://{place}"), PATIENT, tmp_path / "got", access=quick).slices == 7


def test_an_archive_that_is_called_otherwise_says_so(tmp_path, quick):
    with dimse_archive([]) as (place, _):
        wrong = parse_address(f"dicom://{place.replace('ARCHIVE', 'WRONG')}")
        with pytest.raises(InputError, match="is not called WRONG; check the AE title in the address"):
            echo(wrong, access=quick)
        echo(parse_address(f"dicom://{place}"), access=quick)


def test_slices_of_another_study_are_never_taken(study, later, tmp_path, quick):
    with (
        dimse_archive(study, Behaviour(foreign=later)) as (place, _),
        pytest.raises(InputError, match="sent a slice of another study or series than was asked for; nothing is kept"),
    ):
        fetch(parse_address(f"dicom://{place}"), PATIENT, tmp_path / "got", access=quick)
    assert left_over(tmp_path) == []


def test_an_archive_that_does_not_look_at_the_patient_gives_no_other_patients_study(study, tmp_path, quick):
    with (
        dimse_archive(study, Behaviour(deaf=("PatientID",))) as (place, _),
        pytest.raises(InputError, match="no study matches --patient"),
    ):
        fetch(parse_address(f"dicom://{place}"), StudyQuery(patient="SOMEBODY"), tmp_path / "got", access=quick)


def test_more_than_is_taken_ends_the_transfer(study, tmp_path, quick, monkeypatch):
    monkeypatch.setattr("calvaria.io.archive.staging.MAX_UNPACKED_BYTES", 3000)
    with dimse_archive(study) as (place, _), pytest.raises(CalvariaError, match=r"sends more than .* nothing is kept"):
        fetch(parse_address(f"dicom://{place}"), PATIENT, tmp_path / "got", access=quick)
    assert left_over(tmp_path) == []


def test_a_disk_that_is_full_is_said(study, tmp_path, quick, monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pynetdicom.dimse_messages.NamedTemporaryFile", full)
    with (
        dimse_archive(study) as (place, _),
        pytest.raises(InputError, match="what arrives cannot be written: No space left on device"),
    ):
        fetch(parse_address(f"dicom://{place}"), PATIENT, tmp_path / "got", access=quick)
    assert left_over(tmp_path) == []


def test_over_tls_both_sides_show_certificates(study, tmp_path, quick, certificates):
    with dimse_archive(study, tls=certificates.context(ask=True)) as (place, _):
        address = parse_address(f"dicoms://{place}")
        known = replace(quick, ca_file=certificates.authority)
        both = replace(known, cert_file=certificates.client)
        assert fetch(address, PATIENT, tmp_path / "got", access=both).slices == 7
        with pytest.raises(InputError, match=r"wants (another|a) certificate of ours.*--cert"):
            echo(address, access=known)
        with pytest.raises(InputError, match=r"its certificate is not trusted \(.*--ca-file"):
            echo(address, access=replace(quick, ca_file=certificates.stranger))
        with pytest.raises(InputError, match="does not speak DICOM"):
            echo(parse_address(f"dicom://{place}"), access=quick)


def test_tls_to_what_speaks_none_is_said(quick, certificates):
    with dimse_archive([]) as (place, _), pytest.raises(InputError, match=r"TLS|does not speak DICOM"):
        echo(parse_address(f"dicoms://{place}"), access=replace(quick, ca_file=certificates.authority))


def test_a_port_where_nothing_listens_and_a_host_that_is_none(quick):
    with pytest.raises(InputError, match="the connection is refused: nothing listens there; check host and port"):
        echo(parse_address(f"dicom://A@127.0.0.1:{free_port()}"), access=quick)
    with pytest.raises(InputError, match=r"nohost.invalid:104: no such host"):
        echo(parse_address("dicom://A@nohost.invalid"), access=quick)


@pytest.mark.parametrize(
    ("scheme", "says"),
    [("dicom", b""), ("dicom", b"\x02\x00\x00"), ("dicom", b"\x02\x00\x00\x00\x10\x00abc"), ("dicoms", b"")],
    ids=["nothing", "3 bytes", "9 bytes", "no TLS"],
)
def test_a_server_that_hangs_is_given_up_in_the_time_that_is_set(quick, says, scheme):
    began, short = time.monotonic(), replace(quick, timeout_s=0.5)
    with talker(says) as port, pytest.raises(InputError, match=r"no answer within 0.5 s; check host and port, or give"):
        echo(parse_address(f"{scheme}://A@127.0.0.1:{port}"), access=short)
    assert time.monotonic() - began < short.timeout_s + SLACK_S


@pytest.mark.parametrize(
    "says",
    [
        b"<html>Ottilie</html>",
        b"\x02\x00\x00\x00\x00\x04\x00\x01\x00\x00",
        b"\x02\x00\xff\xff\xff\xff" + bytes(64),
        bytes(1000),
        b"\x03\x00\x00\x00\x00\x04\x00\x09\x09\x09",
    ],
    ids=["page", "short answer", "4 GB", "zeros", "odd rejection"],
)
def test_garbage_is_refused(quick, says):
    began = time.monotonic()
    with talker(says, keep_open=False) as port, pytest.raises(InputError, match=r"127.0.0.1:\d+: ") as raised:
        echo(parse_address(f"dicom://A@127.0.0.1:{port}"), access=quick)
    assert "Ottilie" not in str(raised.value)
    assert time.monotonic() - began < quick.timeout_s + SLACK_S
