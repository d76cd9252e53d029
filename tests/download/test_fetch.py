"""One file over a line that breaks: whole and right in the end, or not there; against a server on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import os
import ssl
import urllib.error
import urllib.request
from http.client import HTTPMessage
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server import serving

from calvaria.download import deposits, disk, transfer
from calvaria.download.checksums import FILE_NAME, Record, mark_unpacked, read_records, write_record
from calvaria.download.deposits import look_up
from calvaria.download.fetch import Patience, RemoteFile, adopt, fetch
from calvaria.download.web import BrokenError, _Redirects, _unreachable, clean_url, open_url, read_json
from calvaria.errors import FormatError, InputError

BODY = bytes(range(256)) * 40  # 10,240 bytes that a shift would change
OTHER = BODY[::-1]
HURRY = Patience(timeout_s=5.0, tries=3, pause_s=0.0)
ONCE = Patience(timeout_s=5.0, tries=1, pause_s=0.0)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def site():
    with serving() as server:
        yield server


def sha256(body):
    return hashlib.sha256(body).hexdigest()


def md5(body):
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def begin(site, folder, **how):
    """A download of which 4,000 bytes arrive."""
    url = site.add("/a.bin", BODY, cuts=[4000], **how)
    with pytest.raises(InputError, match="gave up after 1 tries"):
        fetch(RemoteFile("a.bin", url), folder, patience=ONCE)
    assert sorted(path.name for path in folder.iterdir()) == ["a.bin.part", "a.bin.part.json"]
    site.asked.clear()
    return RemoteFile("a.bin", url)


class TestWhole:
    def test_the_file_is_there_and_recorded_and_nothing_is_left(self, site, tmp_path):
        url = site.add("/a.bin?key=secret", BODY)
        folder = tmp_path / "made" / "here"
        done = fetch(RemoteFile("a.bin", url), folder)
        assert (done.path, done.was_there) == (folder / "a.bin", False)
        assert done.path.read_bytes() == BODY
        assert done.record == Record(sha256(BODY), len(BODY), site.url + "/a.bin")
        assert read_records(folder) == {"a.bin": done.record}
        assert sorted(path.name for path in folder.iterdir()) == ["a.bin", FILE_NAME]

    def test_the_second_time_nothing_is_asked(self, site, tmp_path):
        remote = RemoteFile("a.bin", site.add("/a.bin", BODY))
        first = fetch(remote, tmp_path)
        site.asked.clear()
        again = fetch(remote, tmp_path)
        assert (again.was_there, again.record) == (True, first.record)
        assert site.asked == []

    def test_an_empty_file_arrives_too(self, site, tmp_path):
        assert fetch(RemoteFile("a", site.add("/a", b"")), tmp_path).record.size_bytes == 0

    def test_progress_goes_up_to_the_whole_and_then_checks(self, site, tmp_path):
        seen = []
        url = site.add("/a.bin", BODY)
        fetch(RemoteFile("a.bin", url), tmp_path, progress=lambda *one: seen.append(one))
        done = [one[1] for one in seen if one[0] == "downloading"]
        assert done == sorted(done)
        assert seen[0] == ("downloading", 0, len(BODY))
        assert ("downloading", len(BODY), len(BODY)) in seen
        assert seen[-1] == ("checking", len(BODY), len(BODY))

    def test_redirects_are_followed(self, site, tmp_path):
        url = site.add("/old", statuses=[302], headers={"Location": site.add("/new", BODY)})
        assert fetch(RemoteFile("a.bin", url), tmp_path).path.read_bytes() == BODY

    def test_a_length_that_is_only_chunked_is_enough(self, site, tmp_path):
        url = site.add("/a.bin", BODY, length="chunked")
        assert fetch(RemoteFile("a.bin", url), tmp_path).path.read_bytes() == BODY

    def test_without_any_length_a_hash_is_enough(self, site, tmp_path):
        url = site.add("/a.bin", BODY, length=None)
        assert fetch(RemoteFile("a.bin", url, sha256=sha256(BODY).upper()), tmp_path).path.read_bytes() == BODY

    def test_a_mirror_serves_where_the_first_refuses(self, site, tmp_path):
        mirror = site.add("/b.bin", BODY)
        remote = RemoteFile("a.bin", site.url + "/gone", md5=md5(BODY), mirrors=(site.url + "/gone2", mirror))
        assert fetch(remote, tmp_path, patience=HURRY).record == Record(sha256(BODY), len(BODY), mirror, "md5")


class TestBrokenLines:
    @settings(max_examples=20)
    @given(st.lists(st.integers(0, len(BODY) - 1), max_size=4), st.booleans(), st.sampled_from(["right", "chunked"]))
    def test_however_often_it_breaks_the_bytes_are_right(self, tmp_path_factory, cuts, ranges, length):
        patience = Patience(timeout_s=5.0, tries=len(cuts) + 1, pause_s=0.0)
        with serving() as site:
            url = site.add("/a.bin", BODY, cuts=list(cuts), ranges=ranges, length=length)
            done = fetch(RemoteFile("a.bin", url), tmp_path_factory.mktemp("broken"), patience=patience)
        assert done.path.read_bytes() == BODY

    def test_it_goes_on_where_the_line_broke(self, site, tmp_path):
        url = site.add("/a.bin", BODY, cuts=[1000, 2000])
        fetch(RemoteFile("a.bin", url), tmp_path, patience=HURRY)
        assert site.ranges() == [None, "bytes=1000-", "bytes=3000-"]

    def test_the_next_call_goes_on_if_the_file_is_the_same(self, site, tmp_path):
        remote = begin(site, tmp_path)
        assert fetch(remote, tmp_path, patience=ONCE).path.read_bytes() == BODY
        assert [(h["Range"], h["If-Range"]) for _, h in site.asked] == [("bytes=4000-", '"one"')]

    def test_without_an_etag_the_date_tells_it(self, site, tmp_path):
        date = "Wed, 21 Oct 2015 07:28:00 GMT"
        remote = begin(site, tmp_path, etag='W/"weak"', modified=date)
        fetch(remote, tmp_path, patience=ONCE)
        assert [(h["Range"], h["If-Range"]) for _, h in site.asked] == [("bytes=4000-", date)]

    def test_with_neither_it_begins_anew(self, site, tmp_path):
        remote = begin(site, tmp_path, etag=None)
        assert fetch(remote, tmp_path, patience=ONCE).path.read_bytes() == BODY
        assert site.ranges() == [None]

    def test_with_neither_but_a_hash_it_goes_on(self, site, tmp_path):
        remote = begin(site, tmp_path, etag=None)
        fetch(RemoteFile("a.bin", remote.url, md5=md5(BODY)), tmp_path, patience=ONCE)
        assert site.ranges() == ["bytes=4000-"]

    @pytest.mark.parametrize("if_range", [True, False])
    def test_a_file_that_changed_meanwhile_is_never_mixed_with_the_old_one(self, site, tmp_path, if_range):
        remote = begin(site, tmp_path)
        site.add("/a.bin", OTHER, etag='"two"', if_range=if_range)
        assert fetch(remote, tmp_path, patience=HURRY).path.read_bytes() == OTHER

    def test_a_server_without_ranges_begins_anew(self, site, tmp_path):
        remote = begin(site, tmp_path, ranges=False)
        assert fetch(remote, tmp_path, patience=ONCE).path.read_bytes() == BODY

    @pytest.mark.parametrize("shift", [-1, 1])
    def test_a_server_that_sends_another_range_is_not_believed(self, site, tmp_path, shift):
        remote = begin(site, tmp_path, shift=shift)
        assert fetch(remote, tmp_path, patience=HURRY).path.read_bytes() == BODY

    def test_another_address_begins_anew(self, site, tmp_path):
        begin(site, tmp_path)
        remote = RemoteFile("a.bin", site.add("/b.bin", OTHER))
        assert fetch(remote, tmp_path, patience=ONCE).path.read_bytes() == OTHER
        assert site.ranges() == [None]

    def test_a_half_file_whose_note_is_lost_begins_anew(self, site, tmp_path):
        remote = begin(site, tmp_path)
        (tmp_path / "a.bin.part.json").write_text("{")
        assert fetch(remote, tmp_path, patience=ONCE).path.read_bytes() == BODY
        assert site.ranges() == [None]

    def test_a_half_file_of_another_size_than_is_published_now_begins_anew(self, site, tmp_path):
        url = begin(site, tmp_path).url
        site.add("/a.bin", OTHER + BODY)
        assert fetch(RemoteFile("a.bin", url, 2 * len(BODY)), tmp_path).path.read_bytes() == OTHER + BODY
        assert site.ranges() == [None]

    def test_a_half_file_longer_than_the_whole_begins_anew(self, site, tmp_path):
        remote = begin(site, tmp_path)
        (tmp_path / "a.bin.part").write_bytes(BODY + b"more")
        assert fetch(remote, tmp_path, patience=ONCE).path.read_bytes() == BODY

    def test_a_half_file_that_is_whole_is_only_checked(self, site, tmp_path):
        remote = begin(site, tmp_path)
        (tmp_path / "a.bin.part").write_bytes(BODY)
        assert fetch(remote, tmp_path, patience=ONCE).path.read_bytes() == BODY
        assert site.asked == []

    def test_nothing_behind_a_half_file_of_unknown_length_begins_anew(self, site, tmp_path):
        remote = begin(site, tmp_path, length="chunked")
        (tmp_path / "a.bin.part").write_bytes(BODY)
        assert fetch(remote, tmp_path, patience=HURRY).path.read_bytes() == BODY
        assert site.ranges() == [f"bytes={len(BODY)}-", None]

    def test_it_gives_up_in_the_end_and_keeps_what_arrived(self, site, tmp_path):
        url = site.add("/a.bin", BODY, cuts=[100, 100, 100, 100])
        with pytest.raises(InputError, match=r"a\.bin: gave up after 3 tries at 127\.0\.0\.1: the connection ended"):
            fetch(RemoteFile("a.bin", url), tmp_path, patience=HURRY)
        assert (tmp_path / "a.bin.part").read_bytes() == BODY[:300]
        assert not (tmp_path / "a.bin").exists()

    def test_tries_that_bring_something_are_not_counted(self, site, tmp_path, monkeypatch):
        monkeypatch.setattr(transfer, "GAIN_BYTES", 1000)
        url = site.add("/a.bin", BODY, cuts=[1000] * 8)
        assert fetch(RemoteFile("a.bin", url), tmp_path, patience=HURRY).path.read_bytes() == BODY

    def test_the_same_bytes_again_bring_nothing(self, site, tmp_path, monkeypatch):
        monkeypatch.setattr(transfer, "GAIN_BYTES", 1000)
        url = site.add("/a.bin", BODY, cuts=[5000] * 99, ranges=False)
        with pytest.raises(InputError, match="gave up after 3 tries"):
            fetch(RemoteFile("a.bin", url), tmp_path, patience=HURRY)
        assert len(site.asked) == 3

    def test_a_server_that_is_busy_is_asked_again_when_it_says(self, site, tmp_path, monkeypatch):
        slept = []
        monkeypatch.setattr(transfer, "time", SimpleNamespace(sleep=slept.append))
        url = site.add("/a.bin", BODY, statuses=[503, 500, 429], headers={"Retry-After": "7"})
        patience = Patience(tries=4, pause_s=2.0, longest_pause_s=7.5)
        assert fetch(RemoteFile("a.bin", url), tmp_path, patience=patience).path.read_bytes() == BODY
        assert slept == [7.0, 7.0, 7.5]

    def test_a_server_that_says_nothing_is_left_in_time(self, site, tmp_path):
        url = site.add("/a.bin", BODY, stall_s=0.5)
        with pytest.raises(InputError, match=r"gave up after 1 tries .*timed out"):
            fetch(RemoteFile("a.bin", url), tmp_path, patience=Patience(timeout_s=0.1, tries=1))

    def test_nobody_there_is_one_line(self, tmp_path):
        with serving() as site:
            url = site.url
        with pytest.raises(InputError, match=r"gave up after 2 tries at 127\.0\.0\.1: .*refused; 0\.0 MB are kept"):
            fetch(RemoteFile("a.bin", url + "/a"), tmp_path, patience=Patience(tries=2, pause_s=0.0))

    def test_ctrl_c_leaves_what_arrived(self, site, tmp_path, monkeypatch):
        monkeypatch.setattr(transfer, "BLOCK_BYTES", 1000)
        remote = RemoteFile("a.bin", site.add("/a.bin", BODY))

        def stop(what, done, size):
            if done >= 5000:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fetch(remote, tmp_path, progress=stop)
        kept = (tmp_path / "a.bin.part").read_bytes()
        assert len(kept) >= 5000
        site.asked.clear()
        assert fetch(remote, tmp_path).path.read_bytes() == BODY
        assert site.ranges() == [f"bytes={len(kept)}-"]


class TestWrongFiles:
    @pytest.mark.parametrize("kind", ["sha256", "md5"])
    def test_another_hash_than_published_is_removed_and_said(self, site, tmp_path, kind):
        wrong = {"sha256": sha256, "md5": md5}[kind](OTHER)
        right = {"sha256": sha256, "md5": md5}[kind](BODY)
        remote = RemoteFile("a.bin", site.add("/a.bin", BODY), **{kind: wrong})
        with pytest.raises(FormatError, match=rf"a\.bin: {kind} {right}, published is {wrong}: damaged .* try again"):
            fetch(remote, tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_another_hash_than_recorded_is_removed_and_said(self, site, tmp_path):
        remote = RemoteFile("a.bin", site.add("/a.bin", BODY))
        fetch(remote, tmp_path).path.unlink()
        site.add("/a.bin", OTHER)
        with pytest.raises(
            FormatError, match=r"recorded at the first download is .* take a\.bin out of checksums\.json"
        ):
            fetch(remote, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]

    def test_another_size_than_published_is_not_even_begun(self, site, tmp_path):
        remote = RemoteFile("a.bin", site.add("/a.bin", BODY), size_bytes=7)
        with pytest.raises(InputError, match=r"a\.bin: 127\.0\.0\.1 offers 10240 bytes, published are 7"):
            fetch(remote, tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_more_than_published_is_stopped(self, site, tmp_path):
        remote = RemoteFile("a.bin", site.add("/a.bin", BODY, length="chunked"), size_bytes=7)
        seen = []
        with pytest.raises(InputError, match=r"a\.bin: more than 7 bytes arrived"):
            fetch(remote, tmp_path, progress=lambda what, done, size: seen.append(done))
        assert (list(tmp_path.iterdir()), max(seen)) == ([], 0)

    @pytest.mark.parametrize("body", [OTHER, BODY + b"!"])
    def test_a_file_that_was_changed_here_is_said_and_left(self, site, tmp_path, body):
        remote = RemoteFile("a.bin", site.add("/a.bin", BODY))
        path = fetch(remote, tmp_path).path
        path.write_bytes(body)
        with pytest.raises(FormatError, match="it was changed or damaged here: move it away"):
            fetch(remote, tmp_path)
        assert path.read_bytes() == body

    def test_a_file_of_another_size_than_published_is_said(self, tmp_path):
        (tmp_path / "a.bin").write_bytes(b"half")
        with pytest.raises(FormatError, match=r"a\.bin: 4 bytes, published are 10240"):
            fetch(RemoteFile("a.bin", "https://example.org/a", len(BODY), md5=md5(b"half")), tmp_path)

    def test_a_file_that_nothing_is_known_of_is_not_trusted(self, tmp_path):
        (tmp_path / "a.bin").write_bytes(BODY)
        with pytest.raises(InputError, match=r"a\.bin: exists, but no hash of it is published or recorded"):
            fetch(RemoteFile("a.bin", "https://example.org/a"), tmp_path)

    def test_a_file_put_there_by_hand_is_recorded_if_its_hash_is_right(self, tmp_path):
        (tmp_path / "a.bin").write_bytes(BODY)
        done = fetch(RemoteFile("a.bin", "https://example.org/a", md5=md5(BODY)), tmp_path)
        assert done.was_there
        assert read_records(tmp_path)["a.bin"] == Record(sha256(BODY), len(BODY), "", "md5")

    def test_a_folder_in_the_files_place_is_said(self, tmp_path):
        (tmp_path / "a.bin").mkdir()
        with pytest.raises(InputError, match="wanted a file there"):
            fetch(RemoteFile("a.bin", "https://example.org/a"), tmp_path)


class TestRefusals:
    @pytest.mark.parametrize(
        ("how", "words"),
        [
            ({"statuses": [404]}, r"/a\.bin: not found \(status 404\)"),
            ({"statuses": [403]}, r"lets only browsers or signed-in people in \(status 403\): download by hand"),
            ({"statuses": [202], "headers": {"x-amzn-waf-action": "challenge"}}, r"only browsers .* \(status 202\)"),
            ({"statuses": [204]}, r"wanted a file \(status 200\), the server answered 204"),
            ({"kind": "text/html; charset=utf-8"}, r"sent a web page in place of a\.bin"),
            ({"length": None}, r"does not say how long it is: give its --sha256"),
            ({"statuses": [302], "headers": {"Location": "file:///etc/passwd"}}, r"the server answered 302"),
            ({"statuses": [302], "headers": {"Location": "ftp://example.org/a"}}, r"ftp:.* that starts with https"),
            ({"statuses": [302] * 99, "headers": {"Location": "/a.bin"}}, r"the server answered 302"),
        ],
        ids=lambda value: str(value)[:30],
    )  # fmt: skip
    def test_what_another_try_would_not_change_is_said_at_once(self, site, tmp_path, how, words):
        url = site.add("/a.bin", BODY, **how)
        with pytest.raises(InputError, match=words):
            fetch(RemoteFile("a.bin", url), tmp_path, patience=HURRY)
        assert list(tmp_path.iterdir()) == []

    def test_a_web_page_is_taken_where_one_is_wanted(self, site, tmp_path):
        url = site.add("/a.html", b"<p>", kind="text/html")
        assert fetch(RemoteFile("a.html", url), tmp_path).path.read_bytes() == b"<p>"

    def test_a_certificate_that_nobody_trusts_is_not_tried_again(self):
        reason = ssl.SSLCertVerificationError("no")
        reason.verify_message = "self-signed certificate"
        error = _unreachable("https://example.org/a", urllib.error.URLError(reason))
        assert isinstance(error, InputError)
        assert "example.org: its certificate is not trusted (self-signed certificate): check the clock" in str(error)

    def test_nobody_is_led_from_https_to_http(self):
        answer = io.BytesIO()
        with pytest.raises(InputError, match=r"example\.org: redirects to an address without encryption"):
            _Redirects().redirect_request(
                urllib.request.Request("https://example.org/a"), answer, 302, "", HTTPMessage(), "http://example.org/b"
            )
        assert answer.closed

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("file:///etc/passwd", "starts with https"),
            ("ftp://example.org/a", "starts with https"),
            ("example.org/a", "starts with https"),
            ("https:///a", "starts with https"),
            ("https://me:word@example.org/a", "user name or a password"),
            ("http://[::1/a", "not an address"),
            ("http://example.org:port/a", "not an address"),
            ("http://" + "a" * 70 + ".org/a", "not the name of a host"),
        ],
    )
    def test_other_addresses_are_refused(self, url, words):
        with pytest.raises(InputError, match=words):
            RemoteFile("a.bin", url)

    @pytest.mark.parametrize("url", ["http://[::1]:80/a?b=%20c", "https://example.org/a+b;c=1?x=y&z"])
    def test_what_http_can_say_is_left_as_it_is(self, url):
        assert clean_url(url) == url

    def test_what_http_cannot_say_is_encoded(self):
        assert clean_url(" https://bücher.example/Schädel 1.zip#x") == (
            "https://xn--bcher-kva.example/Sch%C3%A4del%201.zip"
        )

    @pytest.mark.parametrize(
        "name",
        ["", ".", "..", "../a", "a/b", "a\\b", "/a", "C:a", ".hidden", "a\n", "a\0", "a.", "a ", "x" * 201,
         "checksums.json", "CHECKSUMS.JSON", "a.part", "a.part.json"],
    )  # fmt: skip
    def test_names_that_lead_elsewhere_or_are_kept_are_refused(self, name):
        with pytest.raises(InputError, match="give another one"):
            RemoteFile(name, "https://example.org/a")

    @pytest.mark.parametrize("how", [{"sha256": "abc"}, {"md5": "z" * 32}])
    def test_what_is_no_hash_is_refused(self, how):
        with pytest.raises(InputError, match=r"a: wanted a (sha256|md5) of (64|32) hexadecimal digits, got"):
            RemoteFile("a", "https://example.org/a", **how)


class TestDisk:
    def test_a_disk_that_is_too_full_is_said_before_anything_is_written(self, site, tmp_path, monkeypatch):
        monkeypatch.setattr(disk, "free_bytes", lambda folder: disk.SPARE_BYTES + len(BODY) + 99)
        remote = RemoteFile("a.bin", site.add("/a.bin", BODY))
        with pytest.raises(InputError, match=r"a\.bin needs 0\.00 GB, with 0\.2 GB left to spare; 0\.20 GB are free"):
            fetch(remote, tmp_path, reserve_bytes=100)
        assert list(tmp_path.iterdir()) == []
        assert fetch(remote, tmp_path, reserve_bytes=99).path.exists()

    def test_a_disk_that_fills_while_nobody_knows_how_much_comes_stops_it(self, site, tmp_path, monkeypatch):
        monkeypatch.setattr(disk, "free_bytes", lambda folder: 0)
        monkeypatch.setattr(transfer, "ROOM_EVERY_BYTES", 1000)
        remote = RemoteFile("a.bin", site.add("/a.bin", BODY, length="chunked", etag=None))
        with pytest.raises(InputError, match="make room"):
            fetch(remote, tmp_path)
        assert not (tmp_path / "a.bin").exists()
        monkeypatch.setattr(disk, "free_bytes", lambda folder: 10**12)
        assert fetch(remote, tmp_path).path.read_bytes() == BODY

    def test_a_disk_that_refuses_is_one_line_and_keeps_what_arrived(self, site, tmp_path, monkeypatch):
        remote = RemoteFile("a.bin", site.add("/a.bin", BODY))

        def full(number):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(InputError, match=r"a\.bin: the disk refuses: No space left on device"):
                fetch(remote, tmp_path)
        assert (tmp_path / "a.bin.part").exists()
        assert fetch(remote, tmp_path).path.read_bytes() == BODY

    def test_a_file_where_the_folder_should_be_is_one_line(self, tmp_path):
        (tmp_path / "out").write_text("I am a file")
        with pytest.raises(InputError, match="the disk refuses: File exists"):
            fetch(RemoteFile("a.bin", "https://example.org/a"), tmp_path / "out")


class TestRecords:
    def test_a_file_that_is_there_is_taken_over_and_held_to_it(self, tmp_path):
        path = tmp_path / "a.zip"
        path.write_bytes(BODY)
        assert adopt(path).record == Record(sha256(BODY), len(BODY), "")
        assert adopt(path).was_there
        path.write_bytes(OTHER)
        with pytest.raises(FormatError, match=r"a\.zip: sha256 .* recorded at the first download"):
            adopt(path)

    def test_records_that_cannot_be_read_are_one_line(self, tmp_path):
        (tmp_path / FILE_NAME).mkdir()
        with pytest.raises(InputError, match=r"a\.zip: cannot be read: Is a directory"):
            adopt(tmp_path / "a.zip")

    def test_what_is_not_there_cannot_be_taken_over(self, tmp_path):
        with pytest.raises(InputError, match="wanted a file there"):
            adopt(tmp_path / "a.zip")

    def test_records_are_kept_beside_each_other(self, tmp_path):
        one, two = Record("0" * 64, 1, ""), Record("1" * 64, 2, "https://example.org/b", "md5")
        write_record(tmp_path, "b", two)
        write_record(tmp_path, "a", one)
        mark_unpacked(tmp_path, "a", "folder")
        assert read_records(tmp_path) == {"a": Record("0" * 64, 1, "", None, "folder"), "b": two}

    def test_what_later_versions_add_is_not_stumbled_over(self, tmp_path):
        entry = {"sha256": "0" * 64, "size_bytes": 1, "url": "", "colour": "red"}
        (tmp_path / FILE_NAME).write_text(json.dumps({"schema": 1, "files": {"a": entry}}))
        assert read_records(tmp_path) == {"a": Record("0" * 64, 1, "")}

    @pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema": 1}', '{"schema": 1, "files": {"a": {}}}'])
    def test_damaged_records_are_said(self, tmp_path, text):
        (tmp_path / FILE_NAME).write_text(text)
        with pytest.raises(FormatError, match=r"checksums\.json: damaged .* move it away"):
            fetch(RemoteFile("a", "https://example.org/a"), tmp_path)

    def test_records_of_a_later_version_are_said(self, tmp_path):
        (tmp_path / FILE_NAME).write_text('{"schema": 2, "files": {}}')
        with pytest.raises(FormatError, match="schema 2; this version reads 1: update calvaria"):
            read_records(tmp_path)


def listed(number, name, body=BODY, **more):
    """A file as figshare lists it."""
    entry = {"id": number, "name": name, "size": len(body), "is_link_only": False, "supplied_md5": ""}
    return (
        entry | {"computed_md5": md5(body), "download_url": f"https://ndownloader.figshare.com/files/{number}"} | more
    )


class TestDeposits:
    @pytest.fixture
    def api(self, site, monkeypatch):
        """A repository that answers in JSON."""
        monkeypatch.setattr(deposits, "FIGSHARE_API", site.url)
        monkeypatch.setattr(deposits, "ZENODO_API", site.url)
        monkeypatch.setattr(deposits, "PAGE_SIZE", 2)

        def add(path, content):
            site.add(path, json.dumps(content).encode(), kind="application/json")

        return add

    def item(self, api, number, pages, **about):
        api(f"/articles/{number}", {"title": f"Item {number}"} | about)
        for page, files in enumerate(pages, 1):
            api(f"/articles/{number}/files?page={page}&page_size=2", files)

    def test_an_item_of_figshare_with_several_pages_of_files(self, api, site):
        about = {"license": {"name": "CC BY 4.0"}, "citation": "Li (2021)", "figshare_url": "https://figshare.com/5"}
        self.item(api, 5, [[listed(1, "a.zip"), listed(2, "b.zip")], [listed(3, "c.zip")]], **about)
        found = look_up("figshare:5", HURRY)
        assert (found.title, found.licence, found.citation) == ("Item 5", "CC BY 4.0", "Li (2021)")
        assert (found.page, found.elsewhere) == ("https://figshare.com/5", ())
        assert found.files[2] == RemoteFile(
            "c.zip",
            f"{site.url}/file/download/3",
            len(BODY),
            md5=md5(BODY),
            mirrors=("https://ndownloader.figshare.com/files/3",),
        )
        assert [file.name for file in found.files] == ["a.zip", "b.zip", "c.zip"]

    def test_a_server_that_takes_no_notice_of_pages_is_not_asked_for_ever(self, api):
        files = [listed(1, "a.zip"), listed(2, "b.zip")]
        self.item(api, 5, [files, files])
        assert [file.name for file in look_up("figshare:5", HURRY).files] == ["a.zip", "b.zip"]

    def test_a_listing_without_end_is_stopped(self, api, monkeypatch):
        monkeypatch.setattr(deposits, "PAGES", 2)
        self.item(api, 5, [[listed(n, f"{n}"), listed(n + 1, f"{n + 1}")] for n in (1, 3, 5)])
        with pytest.raises(FormatError, match="more than 4 entries"):
            look_up("figshare:5", HURRY)

    def test_a_number_that_is_no_item_may_be_a_collection(self, api):
        api("/collections/7", {"title": "All of it", "doi": "10.1/x"})
        api("/collections/7/articles?page=1&page_size=2", [{"id": 5}])
        self.item(api, 5, [[listed(1, "a.zip")]])
        found = look_up("figshare:7", HURRY)
        assert (found.title, found.licence, found.citation) == ("All of it", None, "10.1/x")
        assert [file.name for file in found.files] == ["a.zip"]

    def test_two_items_with_files_of_one_name_are_kept_apart(self, api):
        api("/collections/7", {"title": "All of it"})
        api("/collections/7/articles?page=1&page_size=2", [{"id": 5}, {"id": 6}])
        api("/collections/7/articles?page=2&page_size=2", [])
        self.item(api, 5, [[listed(1, "a.zip")]])
        self.item(api, 6, [[listed(2, "a.zip", OTHER)]])
        assert [file.name for file in look_up("figshare:7", HURRY).files] == ["a.zip", "6-a.zip"]

    def test_files_that_lie_elsewhere_are_named_and_left_out(self, api):
        self.item(api, 5, [[listed(1, "a.zip", is_link_only=True)]])
        found = look_up("figshare:5", HURRY)
        assert (found.files, found.elsewhere) == ((), ("a.zip",))

    def test_a_record_of_zenodo(self, api, site):
        files = [{"key": "a b.zip", "size": 3, "checksum": "md5:" + md5(BODY)}]
        about = {"title": "Skulls", "license": {"id": "cc-by-4.0"}}
        links = {"self_html": "https://zenodo.org/records/9"}
        api("/records/9", {"metadata": about, "files": files, "doi": "10.5281/zenodo.9", "links": links})
        found = look_up("zenodo:9", HURRY)
        assert (found.title, found.licence, found.citation) == ("Skulls", "cc-by-4.0", "10.5281/zenodo.9")
        assert found.page == "https://zenodo.org/records/9"
        url = f"{site.url}/records/9/files/a%20b.zip/content"
        assert found.files == (RemoteFile("a b.zip", url, 3, md5=md5(BODY)),)

    def test_a_file_is_brought_through_the_address_for_scripts(self, api, site, tmp_path):
        self.item(api, 5, [[listed(1, "a.zip")]])
        site.add("/file/download/1", BODY)
        (remote,) = look_up("figshare:5", HURRY).files
        assert fetch(remote, tmp_path).record.published == "md5"

    @pytest.mark.parametrize("source", ["figshare:5", "zenodo:5"])
    def test_a_number_that_is_not_there_is_said(self, api, source):
        with pytest.raises(InputError, match=f"{source}: there is no such number, or it is not public"):
            look_up(source, HURRY)

    @pytest.mark.parametrize("answer", [[], {}, {"title": "x", "license": 1}, None])
    def test_an_answer_of_another_form_is_said(self, api, answer):
        api("/articles/5", answer)
        api("/articles/5/files?page=1&page_size=2", [])
        with pytest.raises(FormatError, match="figshare:5: figshare's answer lacks what is known of it"):
            look_up("figshare:5", HURRY)

    def test_a_name_that_leads_elsewhere_is_refused(self, api):
        self.item(api, 5, [[listed(1, "../../.bashrc")]])
        with pytest.raises(InputError, match="not usable as the name of a file"):
            look_up("figshare:5", HURRY)

    def test_what_is_not_json_is_said(self, api, site):
        site.add("/articles/5", b"<html>")
        with pytest.raises(FormatError, match="wanted a listing in JSON"):
            look_up("figshare:5", HURRY)

    def test_an_endless_answer_is_stopped(self, site, monkeypatch):
        monkeypatch.setattr("calvaria.download.web.JSON_LIMIT_BYTES", 5)
        with pytest.raises(FormatError, match="its answer is longer than"):
            read_json(site.add("/long", b"[1, 2, 3]"), timeout_s=5.0)

    def test_a_line_that_breaks_is_tried_again(self, api, site):
        self.item(api, 5, [[]])
        site.pages["/articles/5"].statuses = [500]
        site.pages["/articles/5"].cuts = [0, 3]
        assert look_up("figshare:5", HURRY).files == ()
        assert [path for path, _ in site.asked] == ["/articles/5"] * 3 + ["/articles/5/files?page=1&page_size=2"]

    def test_a_listing_that_breaks_in_the_middle_of_a_piece_is_broken(self, site):
        with pytest.raises(BrokenError, match="IncompleteRead"):
            read_json(site.add("/cut", b"[1, 2, 3]", length="chunked", cuts=[3]), timeout_s=5.0)

    def test_a_repository_that_is_not_there_is_said(self, monkeypatch):
        with serving() as site:
            monkeypatch.setattr(deposits, "FIGSHARE_API", site.url)
        with pytest.raises(InputError, match=r"127\.0\.0\.1: cannot be reached after 3 tries .*: check the network"):
            look_up("figshare:5", HURRY)

    @pytest.mark.parametrize("source", ["figshare:", "figshare:x", "dryad:5", "5"])
    def test_what_names_no_deposit_is_said(self, source):
        with pytest.raises(InputError, match="wanted figshare:NUMBER or zenodo:NUMBER"):
            look_up(source)


def test_the_agent_is_named_and_nothing_compressed_is_asked_for(site):
    with open_url(site.add("/a", BODY), timeout_s=5.0):
        headers = site.asked[0][1]
    assert headers["User-Agent"].startswith("calvaria/")
    assert headers["Accept-Encoding"] == "identity"
