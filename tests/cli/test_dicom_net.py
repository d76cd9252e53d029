"""``calvaria dicom fetch``, ``send`` and ``echo``: what is said, in which form, and with which exit code."""

from __future__ import annotations

import json

import pytest
from tests.dicom_files import Series, slices_of, write
from tests.io.archive.archives import Behaviour, WebBehaviour, dimse_archive, web_archive


@pytest.fixture(scope="module")
def head():
    return slices_of(Series(slices=24, shape=(16, 16), step_mm=6.0, pixel_mm=(8.0, 8.0)))


def some(date, description, count=1):
    return slices_of(Series(slices=count, shape=(8, 8), changes={"StudyDate": date, "StudyDescription": description}))


def test_a_study_is_fetched_listed_and_stored_again(head, tmp_path, run):
    with web_archive(head) as site:
        done = run("dicom", "fetch", site.url, "-o", tmp_path / "study.zip", "--accession", "ACC-99817")
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"{tmp_path / 'study.zip'}: 24 slices of 1 series, ")
        listed = json.loads(run("dicom", "list", tmp_path / "study.zip", "--json").out)
        assert [(one["slices"], one["usable"]) for one in listed] == [(24, True)]
        done = run("dicom", "send", tmp_path / "study.zip", site.url)
        assert (done.code, done.out) == (0, f"{site.url.split('/')[2]}: 24 of 24 files stored\n")
        assert len(site.kept.stored) == 24


def test_the_results_of_a_case_are_its_dicom_folder(head, tmp_path, run):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text("{}")
    with dimse_archive([]) as (place, kept):
        done = run("dicom", "send", tmp_path / "out", f"dicom://{place}")
        assert done.code == 2
        assert "these results have no DICOM objects; make them with --dicom" in done.err
        write(tmp_path / "out" / "dicom", head[:2])
        (tmp_path / "out" / "notes.txt").write_text("not looked at")
        done = run("dicom", "send", tmp_path / "out", f"dicom://{place}", "--json")
    assert done.code == 0
    told = json.loads(done.out)
    assert (len(told["stored"]), told["refused"], told["left_out"]) == (2, [], 0)
    assert len(kept.stored) == 2


def test_what_is_refused_is_named_and_the_exit_code_says_so(head, tmp_path, run):
    write(tmp_path / "files", head[:7])
    (tmp_path / "files" / "damaged.dcm").write_bytes(bytes(128) + b"DICM" + b"damaged" * 9)
    with web_archive([], None, Behaviour(store_status=0xA700)) as site:
        done = run("dicom", "send", tmp_path / "files", site.url)
    name = site.url.split("/")[2]
    assert done.code == 2
    assert f"{name}: 0 of 8 files stored" in done.out
    assert "not stored, it is out of resources (status A700): I" in done.out
    assert "and 2 more" in done.out
    assert "not stored, not sent: it is damaged, or deflated: damaged.dcm" in done.out
    assert done.err == f"calvaria: {name}: 8 of 8 files were not stored; those that were stay there\n"


def test_nothing_to_send_is_said(tmp_path, run):
    (tmp_path / "empty").mkdir()
    done = run("dicom", "send", tmp_path / "empty", "dicom://A@127.0.0.1:1")
    assert done.code == 2
    assert "no DICOM file to send there" in done.err


def test_studies_that_match_are_listed_without_whose_they_are(tmp_path, run):
    studies = some("20240101", "Head [bold]\x1b[2J") + some("20240102", "Neck") + some("20240102", "Spine")
    with web_archive(studies) as site:
        words = ("dicom", "fetch", site.url, "-o", tmp_path / "a", "--patient", "MRN-4471-ZQ")
        done, listed = run(*words), run(*words, "--json")
        narrowed = run(*words, "--date", "2024-01-01")
    assert (done.code, listed.code, narrowed.code) == (2, 2, 0)
    assert done.err.endswith("3 studies match --patient; add --date or --study\n")
    lines = [line.split() for line in done.out.splitlines() if line.strip().startswith("2024")]
    assert [line[0] for line in lines] == ["20240101", "20240102", "20240102"]
    assert "Head [bold][2J" in done.out
    assert "\x1b" not in done.out
    # The UID stands where the date does not tell one from another, and nowhere else.
    uids = [one.StudyInstanceUID for one in studies]
    assert [uid in done.out for uid in uids] == [False, True, True]
    assert [one["study"] for one in json.loads(listed.out)] == [None, *sorted(uids[1:])]
    assert "Zebrowski" not in done.out + done.err


def test_echo_says_that_it_answers(run):
    with dimse_archive([]) as (place, _):
        done = run("dicom", "echo", f"dicom://{place}")
        assert done.code == 0
        assert done.out.startswith(f"{place.partition('@')[2]}: answers (")
    with web_archive([]) as site:
        assert json.loads(run("dicom", "echo", site.url, "--json").out)["archive"] == site.url.split("/")[2]


def test_credentials_come_from_files_and_the_environment(head, tmp_path, run, monkeypatch):
    (tmp_path / "token").write_text("s3cret")
    with web_archive(head, WebBehaviour(authorization="Bearer s3cret")) as site:
        assert run("dicom", "echo", site.url).code == 2
        assert run("dicom", "echo", site.url, "--token-file", tmp_path / "token").code == 0
        monkeypatch.setenv("CALVARIA_DICOM_TOKEN", "s3cret")
        assert run("dicom", "echo", site.url).code == 0
    with dimse_archive([]) as (place, _):  # what stands in the environment is not for it, and is left alone
        assert run("dicom", "echo", f"dicom://{place}").code == 0
        done = run("dicom", "echo", f"dicom://{place}", "--token-file", tmp_path / "token")
    assert done.code == 2
    assert "a token is for DICOMweb; dicom:// knows none" in done.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["fetch", "http://u:s3cret@pacs/x", "-o", "new", "--patient", "1"], "holds a user or a password"),
        (["fetch", "http://127.0.0.1:1/x", "-o", "new"], "which study? give --study UID"),
        (
            ["fetch", "http://127.0.0.1:1/x", "-o", "full", "--patient", "1"],
            "is there and not empty; give a new folder",
        ),
        (["fetch", "http://127.0.0.1:1/x", "-o", "file", "--patient", "1"], "is a file; give a folder"),
        (["fetch", "http://127.0.0.1:1/x", "-o", "no/new", "--patient", "1"], "the folder no does not exist"),
        (["fetch", "http://127.0.0.1:1/x", "-o", "no/a.zip", "--patient", "1"], "the folder no does not exist"),
        (["echo", "http://127.0.0.1:1/x", "--timeout", "0"], "--timeout: wanted seconds above 0"),
        (["echo", "http://127.0.0.1:1/x", "--ca-file", "x.pem"], "are for TLS; use https://"),
        (["echo", "https://127.0.0.1:1/x", "--ca-file", "x.pem"], "x.pem: there is no such file"),
        (["send", "missing", "http://127.0.0.1:1/x"], "missing: no such file or folder"),
    ],
)
def test_a_call_that_cannot_be_done_is_one_line(tmp_path, run, monkeypatch, words, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    done = run("dicom", *words)
    assert done.code == 2
    assert text in done.err
    assert done.err.count("\n") == 1
    assert "s3cret" not in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]


@pytest.mark.parametrize("command", ["fetch", "send", "echo"])
def test_help_has_examples_and_no_option_for_a_password(run, command):
    text = run("dicom", command, "--help").out
    assert f"calvaria dicom {command}" in text
    assert "--token-file" in text
    assert "--password" not in text
