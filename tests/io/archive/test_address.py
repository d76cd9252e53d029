"""Addresses of archives: what is one, and what is refused without being repeated."""

from __future__ import annotations

import pytest

from calvaria.errors import InputError
from calvaria.io.archive import ArchiveAddress, parse_address


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("https://pacs.example/dicom-web/", ArchiveAddress("https", "pacs.example", 443, "/dicom-web")),
        ("http://[::1]:8042/a", ArchiveAddress("http", "::1", 8042, "/a")),
        ("dicom://ORTHANC@pacs:4242", ArchiveAddress("dicom", "pacs", 4242, ae_title="ORTHANC")),
        ("dicom://PACS%20ONE@pacs", ArchiveAddress("dicom", "pacs", 104, ae_title="PACS ONE")),
        ("dicoms://A@pacs/", ArchiveAddress("dicoms", "pacs", 2762, ae_title="A")),
    ],
)
def test_an_address_is_read(text, wanted):
    assert parse_address(text) == wanted


def test_an_address_of_ipv6_keeps_its_brackets_in_urls_and_messages():
    assert parse_address("http://[::1]:8042/a").base_url == "http://[::1]:8042/a"


@pytest.mark.parametrize(
    "text",
    [
        "https://user:s3cret@pacs/x",
        "https://s3cret@pacs/x",
        "dicom://AET:s3cret@pacs:104",
        "ftp://user:s3cret@pacs",
        "https://pacs/x?token=s3cret",
        "https://pacs/x#s3cret",
        "https://user:s3cret@pacs:99999/x",
        "https://user:s3cret@[pacs/x",
        "s3cret",
        "dicom://s3cret-that-is-too-long@pacs",
        "dicom://pacs/s3cret",
        "dicom://A@pacs/s3cret",
        "dicom://s3cret%5C@pacs",
        "https:///s3cret",
        "https://pacs:0/s3cret",
        "",
    ],
)
def test_what_is_none_or_holds_a_secret_is_refused_in_one_line_that_does_not_repeat_it(text):
    with pytest.raises(InputError, match=r"the address of the archive|wanted dicom://AETITLE@HOST:PORT") as raised:
        parse_address(text)
    assert "s3cret" not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None  # -v shows no more
