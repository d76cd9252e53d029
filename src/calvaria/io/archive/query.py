"""What is asked of an archive, and what it says it has; no value of either may stand in a message."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from calvaria.errors import FormatError, InputError

UID = re.compile(r"[0-9][0-9.]{0,63}")
"""What UIDs are made of; stricter than some archives, looser than the standard (leading zeros)."""

DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")
ALL = "all"
"""As a modality: any."""

MAX_TEXT = 64
"""Letters of a patient's or an accession number (LO); SH would be 16, and is often longer."""

MAX_LISTED = 20
"""So many studies are listed where several match."""


@dataclass(frozen=True)
class StudyQuery:
    """Which study, and which of its series.

    Args:
        study: its UID.
        accession: its accession number.
        patient: the patient's number there; no name.
        date: of the study: YYYYMMDD, YYYY-MM-DD, or two of them as FROM:TO.
        modality: of the series; "all" takes any. Not looked at for a series that is asked for.
        series: its number or UID; None takes all of the modality.

    Raises:
        InputError: none of study, accession and patient is given, or a value is none of its kind; it is not repeated.
    """

    study: str | None = field(default=None, repr=False)
    accession: str | None = field(default=None, repr=False)
    patient: str | None = field(default=None, repr=False)
    date: str | None = None
    modality: str = "CT"
    series: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not (self.study or self.accession or self.patient):
            raise InputError("which study? give --study UID, --accession NUMBER or --patient ID (with --date)")
        if self.study and not UID.fullmatch(self.study):
            raise InputError("--study: wanted a UID, such as 1.2.840.113619.2.55")
        for option, value in (("--accession", self.accession), ("--patient", self.patient)):
            if value and (len(value) > MAX_TEXT or not value.isprintable() or set(value) & set("*?\\")):
                raise InputError(
                    f"{option}: wanted up to {MAX_TEXT} letters without * ? and backslash: one value, as it is"
                )
        if not re.fullmatch(r"[A-Z]{1,16}", self.modality) and self.modality != ALL:
            raise InputError("--modality: wanted a code such as CT or MR, or all")
        if self.series and not UID.fullmatch(self.series):
            raise InputError("--series: wanted the number or the UID of a series")
        _ = self.dates

    @property
    def dates(self) -> tuple[str, str] | None:
        """First and last date, YYYYMMDD; None where any will do.

        >>> StudyQuery(patient="1", date="2024-01-31").dates
        ('20240131', '20240131')
        """
        if not self.date:
            return None
        found = [DATE.fullmatch(part) for part in self.date.split(":")]
        if len(found) > 2 or not all(found):
            raise InputError("--date: wanted YYYYMMDD or YYYY-MM-DD, or two of them as FROM:TO")
        days = ["".join(match.groups()) for match in found if match]
        if not all("01" <= day[4:6] <= "12" and "01" <= day[6:] <= "31" for day in days) or days[0] > days[-1]:
            raise InputError("--date: no such day, or the second one lies before the first")
        return days[0], days[-1]

    @property
    def date_range(self) -> str:
        """The dates as archives are asked for them; empty where any will do."""
        if self.dates is None:
            return ""
        return self.dates[0] if self.dates[0] == self.dates[1] else "-".join(self.dates)

    @property
    def asked(self) -> str:
        """The options that were given, for messages.

        >>> StudyQuery(patient="4711", date="20240131").asked
        '--patient, --date'
        """
        names = ("study", "accession", "patient", "date")
        return ", ".join(f"--{name}" for name in names if getattr(self, name))


@dataclass(frozen=True)
class StudyFound:
    """A study that an archive has.

    Args:
        uid: of the study.
        patient: the patient's number there.
        accession: number.
        date: YYYYMMDD, or empty.
        description: as the archive has it; may say who it is: shown in a list that was asked for, never in a message.
        modalities: of its series; empty where the archive does not say.
        series: their number; None where the archive does not say.
    """

    uid: str = field(repr=False)
    patient: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)
    date: str = field(default="", repr=False)
    description: str = field(default="", repr=False)
    modalities: tuple[str, ...] = ()
    series: int | None = None


@dataclass(frozen=True)
class SeriesFound:
    """A series that an archive has.

    Args:
        uid: of the series.
        number: as the scanner counts; None where the archive does not say.
        modality: such as CT; empty where the archive does not say.
        slices: its instances, as announced; None where the archive does not say.
    """

    uid: str = field(repr=False)
    number: int | None = None
    modality: str = ""
    slices: int | None = None

    @property
    def label(self) -> str:
        """What it is called in messages."""
        return f"series {self.number}" if self.number is not None else "a series without a number"


class ManyStudiesError(InputError):
    """More studies match than the one that is wanted.

    Args:
        text: the message.
        studies: those that match; not in the message.
    """

    def __init__(self, text: str, studies: Sequence[StudyFound] = ()) -> None:
        super().__init__(text)
        self.studies = tuple(studies)


def one_study(found: Sequence[StudyFound], query: StudyQuery, name: str) -> StudyFound:
    """The study that is meant.

    An archive that does not know a key of the query answers as if it had not been asked: what it returns is held
    against the query once more, so that never another patient's study is taken.

    Args:
        found: what the archive returned.
        query: what it was asked.
        name: of the archive.

    Raises:
        InputError: there is none.
        ManyStudiesError: there are several.
    """
    left = {study.uid: study for study in found if _matches(study, query)}
    if query.series is None and query.modality != ALL:
        left = {uid: one for uid, one in left.items() if not one.modalities or query.modality in one.modalities}
    if not left:
        more = f" with {query.modality} series (--modality all takes any)" if found else ""
        raise InputError(f"{name}: no study matches {query.asked}{more}; check the value and the address")
    studies = sorted(left.values(), key=lambda one: (one.date, one.uid))
    if len(studies) > 1:
        several_days = len({one.date for one in studies}) > 1
        add = "--date or --study" if several_days and query.dates is None else "--study"
        raise ManyStudiesError(f"{name}: {len(studies)} studies match {query.asked}; add {add}", studies)
    return studies[0]


def _matches(study: StudyFound, query: StudyQuery) -> bool:
    asked = ((query.study, study.uid), (query.accession, study.accession), (query.patient, study.patient))
    same = all(not wanted or wanted.strip().casefold() == value.strip().casefold() for wanted, value in asked)
    return same and (query.dates is None or query.dates[0] <= study.date <= query.dates[1])


def chosen_series(found: Sequence[SeriesFound], query: StudyQuery, name: str) -> list[SeriesFound]:
    """The series that are meant, in order of their numbers.

    Raises:
        InputError: there is none; the line says what there is.
    """
    every = {one.uid: one for one in found}
    if query.series is not None:
        chosen = [one for one in every.values() if query.series in (one.uid, str(one.number))]
    elif query.modality == ALL:
        chosen = list(every.values())
    else:
        chosen = [one for one in every.values() if one.modality == query.modality]
    if not chosen:
        kinds = Counter(one.modality or "unknown" for one in every.values())
        there = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "none"
        what = "--series" if query.series is not None else f"--modality {query.modality}"
        raise InputError(f"{name}: the study has no series for {what}; its series by modality: {there}")
    return sorted(chosen, key=lambda one: (one.number is None, one.number or 0, one.uid))


def require_uid(text: str | None, name: str) -> str:
    """A UID that an archive sent; it becomes part of the next question.

    Raises:
        FormatError: it is none.
    """
    if text is None or not UID.fullmatch(text):
        raise FormatError(f"{name}: answered without the UIDs of what it has; check the address")
    return text


def count_of(text: str | None) -> int | None:
    """A count that an archive sent, or None.

    >>> count_of("12"), count_of("-1"), count_of("")
    (12, None, None)
    """
    return int(text) if text is not None and re.fullmatch(r"\d{1,9}", text.strip()) else None


def number_of(text: str | None) -> int | None:
    """The number of a series, which may be negative, or None."""
    return int(text) if text is not None and re.fullmatch(r"[+-]?\d{1,11}", text.strip()) else None


def code_of(text: str | None) -> str:
    """A modality that an archive sent; empty if it is no code.

    >>> code_of("CT"), code_of("Zebrowski")
    ('CT', '')
    """
    return text.strip() if text is not None and re.fullmatch(r"[A-Z0-9_ ]{1,16}", text.strip()) else ""


__all__ = [
    "MAX_LISTED",
    "ManyStudiesError",
    "SeriesFound",
    "StudyFound",
    "StudyQuery",
    "chosen_series",
    "code_of",
    "count_of",
    "number_of",
    "one_study",
    "require_uid",
]
