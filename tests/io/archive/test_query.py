"""Which study is meant: refused where that is not clear, and never another patient's."""

from __future__ import annotations

import pytest

from calvaria.errors import InputError
from calvaria.io.archive.query import (
    ManyStudiesError,
    SeriesFound,
    StudyFound,
    StudyQuery,
    chosen_series,
    one_study,
)

NAME = "pacs:104"


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({}, "which study\\? give --study UID, --accession NUMBER or --patient ID"),
        ({"date": "20240101"}, "which study"),
        ({"study": "1.2.x"}, "--study: wanted a UID"),
        ({"patient": "Zeb*"}, "--patient: wanted up to 64 letters without"),
        ({"patient": "a\\b"}, "--patient: wanted"),
        ({"accession": "1?"}, "--accession: wanted"),
        ({"accession": "1\n2"}, "--accession: wanted"),
        ({"patient": "1", "date": "2024"}, "--date: wanted YYYYMMDD"),
        ({"patient": "1", "date": "20241301"}, "--date: no such day"),
        ({"patient": "1", "date": "20240102:20240101"}, "the second one lies before the first"),
        ({"patient": "1", "date": "20240101:20240102:20240103"}, "--date: wanted"),
        ({"patient": "1", "modality": "ct*"}, "--modality: wanted a code"),
        ({"patient": "1", "series": "two"}, "--series: wanted the number or the UID"),
    ],
)
def test_a_question_without_sense_is_refused(asked, text):
    with pytest.raises(InputError, match=text) as raised:
        StudyQuery(**asked)
    assert "Zeb" not in str(raised.value)


def test_dates_are_asked_for_as_archives_want_them():
    assert StudyQuery(patient="1", date="2024-01-31").date_range == "20240131"
    assert StudyQuery(patient="1", date="2024-01-01:2024-01-31").date_range == "20240101-20240131"
    assert StudyQuery(patient="1").date_range == ""


def test_what_does_not_match_is_left_out_whatever_the_archive_says():
    query = StudyQuery(patient="4711", accession="A1", date="20240101:20240131")
    right = StudyFound("1.1", "4711 ", "a1", "20240115", modalities=("CT", "SR"))
    wrong = [
        StudyFound("1.2", "4712", "A1", "20240115"),
        StudyFound("1.3", "4711", "A2", "20240115"),
        StudyFound("1.4", "4711", "A1", "20240201"),
        StudyFound("1.5", "4711", "A1", ""),
        StudyFound("1.6", "", "A1", "20240115"),
        StudyFound("1.7", "4711", "A1", "20240115", modalities=("MR",)),
    ]
    assert one_study([*wrong, right, right], query, NAME) is right


def test_nothing_found_is_said_by_the_options_alone():
    with pytest.raises(InputError, match=r"^pacs:104: no study matches --patient, --date; check"):
        one_study([], StudyQuery(patient="4711", date="20240101"), NAME)
    with pytest.raises(InputError, match=r"with CT series \(--modality all takes any\)"):
        one_study([StudyFound("1.1", "4711", modalities=("MR",))], StudyQuery(patient="4711"), NAME)


@pytest.mark.parametrize(
    ("days", "date", "add"),
    [
        (("20240101", "20240102"), None, "--date or --study"),
        (("20240101", "20240101"), None, "--study"),
        (("20240101", "20240102"), "20240101:20240102", "--study"),
    ],
)
def test_several_studies_are_not_chosen_from(days, date, add):
    found = [StudyFound(f"1.{n}", "4711", date=day) for n, day in enumerate(days)]
    with pytest.raises(ManyStudiesError, match=rf"2 studies match --patient.*; add {add}$") as raised:
        one_study(found[::-1], StudyQuery(patient="4711", date=date), NAME)
    assert raised.value.studies == tuple(found)


SERIES = [SeriesFound("1.3", 3, "CT"), SeriesFound("1.2", 2, "CT"), SeriesFound("1.4", 4, "MR"), SeriesFound("1.5")]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, [2, 3]),
        ({"modality": "MR"}, [4]),
        ({"modality": "all"}, [2, 3, 4, None]),
        ({"series": "4"}, [4]),
        ({"series": "1.3"}, [3]),
    ],
)
def test_series_are_taken_by_modality_number_or_uid(asked, wanted):
    found = chosen_series(SERIES, StudyQuery(patient="1", **asked), NAME)
    assert [one.number for one in found] == wanted


@pytest.mark.parametrize(("asked", "text"), [({"series": "9"}, "--series"), ({"modality": "PT"}, "--modality PT")])
def test_a_series_that_is_not_there_is_said_with_what_is(asked, text):
    with pytest.raises(InputError, match=f"no series for {text}; its series by modality: 2 CT, 1 MR, 1 unknown"):
        chosen_series(SERIES, StudyQuery(patient="1", **asked), NAME)


def test_nothing_of_a_study_shows():
    shown = repr(StudyFound("1.2.3", "4711", "A1", "20240115", "Head of Ottilie")) + repr(SeriesFound("1.2.4"))
    shown += repr(StudyQuery("1.2.5", "A2", "4712"))
    for secret in ("1.2.3", "4711", "A1", "20240115", "Ottilie", "1.2.4", "1.2.5", "A2", "4712"):
        assert secret not in shown
