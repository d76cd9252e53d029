"""The one table of sets: what is said of each, and the names that mean it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from calvaria.datasets.catalog import (
    AUTO,
    DATA_SETS,
    NOT_VERIFIED,
    DataSet,
    data_set_of,
    named,
    public_set,
    public_sets,
    read_set,
)
from calvaria.download.deposits import is_deposit
from calvaria.download.transfer import RemoteFile
from calvaria.errors import InputError

every_set = pytest.mark.parametrize("one", DATA_SETS.values(), ids=list(DATA_SETS))


@every_set
def test_the_table_says_what_a_user_must_know(one: DataSet) -> None:
    assert DATA_SETS[one.name] is one
    assert one.title
    assert one.content
    assert one.citation
    assert one.terms
    assert one.source
    assert one.doi.startswith("10.") or one.name in {"folders", "cq500"}
    assert bool(one.layout) == (one.reader is not None)
    for part in one.parts:
        assert len(part.expected) in (0, part.cases)
    assert not one.parts or sum(part.cases for part in one.parts) > 0


@pytest.mark.parametrize("one", public_sets(), ids=lambda one: one.name)
def test_a_public_set_says_how_it_is_got(one: DataSet) -> None:
    page = urlsplit(one.page)
    assert page.scheme in {"http", "https"}
    assert page.netloc
    assert one.deposit is None or is_deposit(one.deposit)
    assert one.licence or one.fetch_note or one.deposit, "neither a licence nor where to find it"
    assert one.deposit or one.fetch_note, "what is to be done by hand is not said"
    for address in one.addresses:
        assert RemoteFile(address.name, address.url).url == address.url  # it is an address, and a plain file name


def test_every_name_means_one_set() -> None:
    names = [name for one in DATA_SETS.values() for name in (one.name, *one.other_names)]
    assert len(names) == len(set(names))
    assert AUTO not in names
    assert all(name == name.casefold() for name in names)


@pytest.mark.parametrize(
    ("word", "name"),
    [("SkullFix", "autoimplant2020"), ("MUG500+", "mug500"), ("mug500", "mug500"), ("CQ500", "cq500")],
)
def test_a_name_means_the_same_set_for_reading_and_for_fetching(word: str, name: str) -> None:
    assert named(word) is data_set_of(word) is public_set(word) is DATA_SETS[name]


def test_unknown_names_are_answered_with_those_that_are() -> None:
    assert named("skulfix") is None
    with pytest.raises(InputError, match=r"skulfix: no such set; there are autoimplant2021, .*, and auto to tell by"):
        data_set_of("skulfix")
    for word in ("skulfix", "folders"):
        with pytest.raises(InputError, match=f"{word}: no set of that name; there are .*, cq500, or give an address"):
            public_set(word)


def test_a_set_that_cannot_be_read_as_it_comes_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cq500: CQ500 cannot be read as it comes; lay its masks out as .*complete"):
        read_set("cq500", tmp_path)


def test_what_is_said_of_licences() -> None:
    assert DATA_SETS["skullbreak"].terms == "CC BY-NC-SA 4.0 (from CQ500)"
    assert DATA_SETS["cq500"].terms == "CC BY-NC-SA 4.0"
    assert DATA_SETS["mug500"].terms == NOT_VERIFIED
    assert NOT_VERIFIED in DATA_SETS["autoimplant2021"].terms
    assert DATA_SETS["folders"].terms == "whatever you have agreed to"
