"""Archives that speak DICOMweb: one on loopback over http and https, which also fails in every way."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from tests.dicom_files import Series, slices_of
from tests.io.archive.archives import Behaviour, WebBehaviour, free_port, talker, web_archive
from tests.io.archive.test_dimse import PATIENT, SLACK_S, left_over, read_all

from calvaria.errors import CalvariaError, InputError
from calvaria.io.archive import StudyQuery, credentials_from, echo, fetch, parse_address, send
from calvaria.io.dicom import read_dicom

TOKEN = credentials_from(environment={"CALVARIA_DICOM_TOKEN": "s3cret"})
MULTIPART = 'multipart/related; type="application/dicom"; boundary=b'


def test_a_study_comes_as_it_is_kept_ct_alone(study, tmp_path, quick):
    told = []
    with web_archive(study) as site:
        address = parse_address(site.url)
        done = fetch(address, PATIENT, tmp_path / "got", access=quick, progress=lambda *what: told.append(what))
    assert (done.slices, [one.number for one in done.series]) == (7, [2, 3])
    assert read_all(tmp_path / "got") == {one.SOPInstanceUID: one for one in study[:7]}
    assert left_over(tmp_path) == ["got"]
    assert told[-1][1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("asked", "slices"),
    [
        ({"accession": "ACC-99817"}, 7),
        ({"patient": "MRN-4471-ZQ", "date": "2019-02-01:2019-02-28"}, 7),
        ({"patient": "MRN-4471-ZQ", "series": "3"}, 3),
        ({"patient": "MRN-4471-ZQ", "series": "4"}, 2),
        ({"patient": "MRN-4471-ZQ", "modality": "MR"}, 2),
        ({"patient": "MRN-4471-ZQ", "modality": "all"}, 9),
    ],
    ids=str,
)
def test_what_is_asked_for_comes(study, tmp_path, quick, asked, slices):
    with web_archive(study) as site:
        assert fetch(parse_address(site.url), StudyQuery(**asked), tmp_path / "a.zip", access=quick).slices == slices


def test_a_series_comes_as_a_zip_that_is_read_at_once(tmp_path, quick):
    head = slices_of(Series(slices=24, shape=(16, 16), step_mm=6.0, pixel_mm=(8.0, 8.0)))
    with web_archive(head) as site:
        fetch(parse_address(site.url), PATIENT, tmp_path / "got.zip", access=quick)
    assert read_dicom(tmp_path / "got.zip").volume.grid.shape == (16, 16, 24)


def test_lists_come_page_by_page(study, tmp_path, quick):
    with web_archive(study, WebBehaviour(page=2)) as site:
        assert fetch(parse_address(site.url), PATIENT, tmp_path / "got", access=quick).slices == 7


def test_files_are_stored_as_they_are(study, files, quick):
    with web_archive([], WebBehaviour(authorization="Bearer s3cret")) as site:
        done = send(parse_address(site.url), files, access=replace(quick, credentials=TOKEN))
    assert (len(done.stored), len(done.refused), done.others) == (3, 0, 1)
    assert site.kept.stored == study[:3]


@pytest.mark.parametrize(
    ("how", "behaviour", "text"),
    [
        (
            WebBehaviour(),
            Behaviour(store_status=0x0122),
            "it does not take this kind of object (SOP class) (status 0122)",
        ),
        (WebBehaviour(), Behaviour(store_status=0xA700), "it is out of resources (status A700)"),
        (WebBehaviour(statuses=[503] * 9), None, "it does not say why (status 503)"),
        (WebBehaviour(statuses=[415] * 9), None, "it does not take its encoding (status 415)"),
        (WebBehaviour(statuses=[202] * 9), None, "it does not say why (status 202)"),
    ],
)
def test_what_is_refused_is_said_by_its_status_and_not_sent_again(files, quick, how, behaviour, text):
    with web_archive([], how, behaviour) as site:
        done = send(parse_address(site.url), files, access=quick)
    assert [one.reason for one in done.refused] == [text] * 3
    assert len(site.asked) == 3


def test_a_refusal_before_all_is_read_is_heard(tmp_path, quick):
    (large,) = slices_of(Series(slices=1, shape=(8, 8)))
    large.PixelData = bytes(20_000_000)
    large.save_as(tmp_path / "large.dcm", enforce_file_format=True)
    with web_archive([], WebBehaviour(early=True)) as site:
        done = send(parse_address(site.url), tmp_path / "large.dcm", access=quick)
    assert done.refused[0].reason in (
        "it is too large for it (status 413)",
        "the connection broke: it may have arrived or not",  # the system may drop the answer with the connection
    )


def test_what_was_stored_before_a_failure_is_said(files, quick):
    with web_archive([], WebBehaviour(statuses=[200, 401])) as site:
        done = send(parse_address(site.url), files, access=quick)
    assert [one.name for one in done.stored] == ["0.dcm"]
    assert all("wants to know who asks (status 401)" in one.reason for one in done.refused)
    assert [one.name for one in done.refused] == ["1.dcm", "2.dcm"]


@pytest.mark.parametrize(
    ("how", "behaviour", "text"),
    [
        ({}, Behaviour(missing=1), r"fewer slices than it announced \(series 2: 3 of 4; series 3: 2 of 3\); nothing"),
        ({"body": (b"<html>Ottilie</html>", "text/html")}, None, "wanted slices as multipart/related, got a web page"),
        ({"body": (b"Ottilie" * 9, MULTIPART)}, None, "gave up after 4 tries: the answer ended in its middle"),
        ({"body": (b"x" * 10**6, MULTIPART)}, None, "its answer has no parts where they should be"),
        ({"body": (b"--b\r\n\r\nOttilie\r\n--b--", MULTIPART)}, None, "sent what is no DICOM file; nothing is kept"),
        (
            {"body": (b"--b\r\n\r\n" + bytes(128) + b"DICM" + b"x" * 99 + b"\r\n--b--", MULTIPART)},
            None,
            "sent a damaged",
        ),
        ({"body": (b"--b--", MULTIPART)}, None, r"fewer slices than it announced \(series 2: 0 of 4"),
        ({"cut": [1500] * 9}, None, r"gave up after 4 tries: .*series 2: 1 of 4 slices came; nothing is kept"),
        ({"query": (b"<html>Ottilie</html>", "text/html")}, None, "wanted a list in DICOM JSON, got a web page"),
        ({"query": (b'{"a": "Ottilie"', "application/json")}, None, "wanted a list in DICOM JSON, got something else"),
        ({"query": (b'["Ottilie"]', "application/json")}, None, "got another one"),
        ({"query": (b"[" * 100_000, "application/json")}, None, "wanted a list in DICOM JSON"),
        ({"query": (b'[{"0020000D": {"Value": ["../Ottilie"]}}]', "application/json")}, None, "without the UIDs"),
        ({"query": (b'[{"0020000D": 7}]', "application/json")}, None, "without the UIDs"),
        ({"query": (b" " * (33 << 20), "application/json")}, None, "its answer is longer than 32 MiB"),
        ({"statuses": [503] * 9}, None, r"gave up after 4 tries: it is busy or faulty \(status 503\)"),
        ({"statuses": [403]}, None, r"wants to know who asks \(status 403\); give --token-file or --login-file"),
        ({"statuses": [404]}, None, "has nothing at that address"),
        ({"statuses": [418]}, None, r"refuses to answer \(status 418\)"),
        ({"stall_s": 3.0}, None, "no answer within 1 s"),
        ({"drip_s": 0.02}, None, "no answer within 1 s"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_an_archive_that_fails_leaves_nothing(study, tmp_path, quick, how, behaviour, text):
    began = time.monotonic()
    with web_archive(study, WebBehaviour(**how), behaviour) as site:
        with pytest.raises(CalvariaError, match=text) as raised:
            fetch(parse_address(site.url), PATIENT, tmp_path / "got.zip", access=quick)
        assert time.monotonic() - began < quick.timeout_s + SLACK_S
    assert "Ottilie" not in str(raised.value)
    assert raised.value.exit_code == 2
    assert left_over(tmp_path) == []


def test_what_breaks_or_is_busy_once_is_gone_on_with(study, tmp_path, quick):
    with web_archive(study, WebBehaviour(statuses=[503, 429], cut=[1500, 10])) as site:
        assert fetch(parse_address(site.url), PATIENT, tmp_path / "got", access=quick).slices == 7


def test_more_than_is_taken_is_never_held_nor_kept(study, tmp_path, quick, monkeypatch):
    monkeypatch.setattr("calvaria.io.archive.staging.MAX_FILE_BYTES", 10**6)
    body = b"--b\r\n\r\n" + b"x" * 10**7
    with (
        web_archive(study, WebBehaviour(body=(body, MULTIPART))) as site,
        pytest.raises(CalvariaError, match=r"sends more than .* nothing is kept"),
    ):
        fetch(parse_address(site.url), PATIENT, tmp_path / "got", access=quick)
    assert left_over(tmp_path) == []


def test_more_slices_than_are_taken_are_refused_before_one_is_asked_for(study, tmp_path, quick, monkeypatch):
    monkeypatch.setattr("calvaria.io.archive.staging.MAX_FILES", 5)
    with web_archive(study) as site, pytest.raises(InputError, match="announces 7 slices, at most 5 are taken"):
        fetch(parse_address(site.url), PATIENT, tmp_path / "got", access=quick)


def test_slices_of_another_study_are_never_taken(study, later, tmp_path, quick):
    with (
        web_archive(study, None, Behaviour(foreign=later)) as site,
        pytest.raises(InputError, match="sent a slice of another study or series"),
    ):
        fetch(parse_address(site.url), PATIENT, tmp_path / "got", access=quick)


def test_an_archive_that_does_not_look_at_the_patient_gives_no_other_patients_study(study, tmp_path, quick):
    with (
        web_archive(study, None, Behaviour(deaf=("PatientID",))) as site,
        pytest.raises(InputError, match="no study matches --patient"),
    ):
        fetch(parse_address(site.url), StudyQuery(patient="SOMEBODY"), tmp_path / "got", access=quick)


def test_credentials_are_sent_where_they_belong_and_nowhere_else(study, tmp_path, quick):
    known = replace(quick, credentials=TOKEN)
    with web_archive(study) as other, web_archive(study, WebBehaviour(redirect=other.url)) as site:
        assert fetch(parse_address(site.url), PATIENT, tmp_path / "got", access=known).slices == 7
        assert {headers.get("Authorization") for _, _, headers in site.asked} == {"Bearer s3cret"}
        assert {headers.get("Authorization") for _, _, headers in other.asked} == {None}
        other.how.authorization = "Bearer s3cret"
        with pytest.raises(InputError, match=r"redirects to a host that wants credentials \(status 401\)"):
            echo(parse_address(site.url), access=known)


def test_what_is_stored_is_not_sent_on_to_another_address(files, quick):
    with web_archive([]) as other, web_archive([], WebBehaviour(redirect=other.url)) as site:
        with pytest.raises(InputError, match="wants things sent to another address"):
            send(parse_address(site.url), files, access=quick)
        assert other.asked == []


def test_wrong_credentials_are_refused_without_being_said(study, quick):
    with web_archive(study, WebBehaviour(authorization="Bearer other")) as site:
        with pytest.raises(InputError, match=r"does not let the token in \(status 401\)") as raised:
            echo(parse_address(site.url), access=replace(quick, credentials=TOKEN))
        assert "s3cret" not in str(raised.value)
        with pytest.raises(InputError, match="wants to know who asks"):
            echo(parse_address(site.url), access=quick)


def test_redirects_without_an_end_or_to_nowhere_are_refused(study, quick):
    with web_archive(study) as site:
        site.how.redirect = site.url
        with pytest.raises(InputError, match="redirects more than 5 times"):
            echo(parse_address(site.url), access=quick)
        for nowhere in ("ftp://127.0.0.1/", "http://a:b@127.0.0.1", "http://127.0.0.1:99999"):
            site.how.redirect = nowhere
            with pytest.raises(InputError, match="redirects to what is no address"):
                echo(parse_address(site.url), access=quick)


def test_over_tls_both_sides_show_certificates(study, tmp_path, quick, certificates):
    known = replace(quick, ca_file=certificates.authority, credentials=TOKEN)
    with web_archive(study, tls=certificates.context(ask=True)) as site:
        address = parse_address(site.url)
        both = replace(known, cert_file=certificates.client)
        assert fetch(address, PATIENT, tmp_path / "got", access=both).slices == 7
        with pytest.raises(InputError, match=r"wants (another|a) certificate of ours.*--cert"):
            echo(address, access=known)
        with pytest.raises(InputError, match=r"its certificate is not trusted \(.*--ca-file"):
            echo(address, access=replace(quick, ca_file=certificates.stranger))
        with pytest.raises(InputError, match=r"its certificate is not trusted"):
            echo(parse_address(site.url.replace("127.0.0.1", "localhost")), access=known)


def test_redirects_from_https_to_http_are_not_followed(study, quick, certificates):
    with web_archive(study) as plain, web_archive(study, tls=certificates.context()) as site:
        site.how.redirect = plain.url
        with pytest.raises(InputError, match="redirects from https to http, which is not followed"):
            echo(parse_address(site.url), access=replace(quick, ca_file=certificates.authority))
        assert plain.asked == []


def test_tls_to_what_speaks_none_is_said(study, quick, certificates):
    with (
        web_archive(study) as site,
        pytest.raises(InputError, match="does not speak TLS; check the port, or is it http"),
    ):
        echo(parse_address(site.url.replace("http:", "https:")), access=replace(quick, ca_file=certificates.authority))


def test_a_port_where_nothing_listens_or_something_else_does(quick):
    with pytest.raises(InputError, match="the connection is refused: nothing listens there; check host and port"):
        echo(parse_address(f"http://127.0.0.1:{free_port()}/x"), access=quick)
    with talker(b"SSH-2.0-Ottilie\r\n\r\n") as port, pytest.raises(InputError, match=r"does not speak HTTP; is it an"):
        echo(parse_address(f"http://127.0.0.1:{port}/x"), access=quick)
    began, short = time.monotonic(), replace(quick, timeout_s=0.5)
    with talker() as port, pytest.raises(InputError, match=r"no answer within 0.5 s; check host and port"):
        echo(parse_address(f"http://127.0.0.1:{port}/x"), access=short)
    assert time.monotonic() - began < short.timeout_s + SLACK_S


def test_proxies_are_never_between_this_machine_and_itself(study, quick, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    with web_archive(study) as site:
        echo(parse_address(site.url), access=replace(quick, credentials=TOKEN))
