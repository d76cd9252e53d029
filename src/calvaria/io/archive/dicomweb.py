"""Archives that speak DICOMweb (PS3.18): QIDO-RS to search, WADO-RS to fetch, STOW-RS to store."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from calvaria.errors import FormatError
from calvaria.io.archive.client import Outcome, Outgoing, Told, reason_of
from calvaria.io.archive.http import NOTHING, OK, Answer, Web
from calvaria.io.archive.multipart import BLOCK_BYTES, Parts, enveloped, media_type
from calvaria.io.archive.network import BrokenError, no_dicom, patiently
from calvaria.io.archive.query import (
    SeriesFound,
    StudyFound,
    StudyQuery,
    code_of,
    count_of,
    number_of,
    require_uid,
)
from calvaria.io.archive.staging import Staging
from calvaria.io.dicom.places import MAX_FILES

PAGE = 1000
"""Matches that are asked for at once."""

MAX_STUDIES = 200
"""So many are looked at; more are a query without sense."""

ACCEPT_FILES = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""Files as they are stored, compressed or not."""

TAGS = {
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "SOPInstanceUID": "00080018",
    "SOPClassUID": "00080016",
    "PatientID": "00100020",
    "AccessionNumber": "00080050",
    "StudyDate": "00080020",
    "StudyDescription": "00081030",
    "ModalitiesInStudy": "00080061",
    "Modality": "00080060",
    "SeriesNumber": "00200011",
    "NumberOfStudyRelatedSeries": "00201206",
    "NumberOfSeriesRelatedInstances": "00201209",
    "ReferencedSOPSequence": "00081199",
    "FailedSOPSequence": "00081198",
    "FailureReason": "00081197",
    "WarningReason": "00081196",
}

Item = Mapping[str, Any]


class DicomWeb:
    """A DICOMweb archive.

    Args:
        web: its server.
    """

    def __init__(self, web: Web) -> None:
        self._web, self._name = web, web.archive.name

    def echo(self) -> None:
        """Ask for one study, whichever."""
        self._page("/studies", [("limit", "1")])

    def studies(self, query: StudyQuery) -> list[StudyFound]:
        """QIDO-RS for studies."""
        asked = {
            "StudyInstanceUID": query.study,
            "AccessionNumber": query.accession,
            "PatientID": query.patient,
            "StudyDate": query.date_range,
        }
        wanted = ("StudyDescription", "ModalitiesInStudy", "NumberOfStudyRelatedSeries")
        parameters = [(name, value) for name, value in asked.items() if value]
        parameters += [("includefield", TAGS[name]) for name in wanted]
        return [
            StudyFound(
                require_uid(_text(item, "StudyInstanceUID"), self._name),
                _text(item, "PatientID") or "",
                _text(item, "AccessionNumber") or "",
                _text(item, "StudyDate") or "",
                _text(item, "StudyDescription") or "",
                tuple(filter(None, map(code_of, _texts(item, "ModalitiesInStudy")))),
                count_of(_text(item, "NumberOfStudyRelatedSeries")),
            )
            for item in self._all("/studies", parameters, MAX_STUDIES, "StudyInstanceUID")
        ]

    def series(self, study_uid: str) -> list[SeriesFound]:
        """QIDO-RS for series."""
        parameters = [("includefield", TAGS["NumberOfSeriesRelatedInstances"])]
        return [
            SeriesFound(
                require_uid(_text(item, "SeriesInstanceUID"), self._name),
                number_of(_text(item, "SeriesNumber")),
                code_of(_text(item, "Modality")),
                count_of(_text(item, "NumberOfSeriesRelatedInstances")),
            )
            for item in self._all(f"/studies/{study_uid}/series", parameters, MAX_FILES, "SeriesInstanceUID")
        ]

    def instances(self, study_uid: str, series_uid: str) -> dict[str, str]:
        """QIDO-RS for instances."""
        path = f"/studies/{study_uid}/series/{series_uid}/instances"
        found = self._all(path, [], MAX_FILES, "SOPInstanceUID")
        return {
            require_uid(_text(item, "SOPInstanceUID"), self._name): _text(item, "SOPClassUID") or "" for item in found
        }

    def retrieve(self, study_uid: str, series_uid: str, classes: frozenset[str], staging: Staging) -> None:
        """WADO-RS for a series."""
        url = f"{self._web.archive.base_url}/studies/{study_uid}/series/{series_uid}"
        with self._web.get(url, ACCEPT_FILES) as answer:
            if answer.status == NOTHING:
                return
            kind, boundary = media_type(answer.headers.get("Content-Type"))
            if kind == "application/dicom":
                staging.take_pieces(_blocks(answer))
                return
            if kind != "multipart/related" or boundary is None:
                found = "a web page" if "html" in kind else "something else"
                raise no_dicom(self._web.archive, f"wanted slices as multipart/related, got {found}")
            try:
                for part in Parts(answer.read, boundary):
                    staging.take_pieces(part)
            except FormatError as error:
                text = str(error)
                raise error if text.startswith(self._name) else no_dicom(self._web.archive, text) from None

    def store(self, files: Sequence[Outgoing], told: Told) -> None:
        """STOW-RS, one file a request: so that one that is refused takes no other with it."""
        for file in files:
            told(self._stored(file))

    def _stored(self, file: Outgoing) -> Outcome:
        boundary = f"calvaria-{secrets.token_hex(16)}"
        body, size = enveloped(_file_blocks(file.path), file.size_bytes, boundary)
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(size),
            "Accept": "application/dicom+json",
        }
        try:
            with self._web.post("/studies", body, headers) as answer:
                if answer.status in (401, 403, 404, 410):
                    raise self._web.refusal(answer.status)
                return self._outcome(file, answer)
        except BrokenError as broken:
            return Outcome(file.name, f"{broken}: it may have arrived or not")

    def _outcome(self, file: Outgoing, answer: Answer) -> Outcome:
        """What an answer says of a file: its status, and its lists of what was stored and what was not."""
        try:
            found = self._web.read_json(answer)
        except FormatError:  # XML, or a page; the status then has to do
            found = None
        item = found[0] if isinstance(found, list) and found else found
        failed, stored = (_items(item, name) for name in ("FailedSOPSequence", "ReferencedSOPSequence"))
        if failed:
            return Outcome(file.name, reason_of(_integer(failed[0], "FailureReason")))
        if answer.status == OK or (answer.status == 202 and stored):
            return Outcome(file.name, changed=any(_integer(one, "WarningReason") is not None for one in stored))
        words = {409: "it takes none of it", 413: "it is too large for it", 415: "it does not take its encoding"}
        return Outcome(file.name, f"{words.get(answer.status, 'it does not say why')} (status {answer.status})")

    def _all(self, path: str, parameters: list[tuple[str, str]], limit: int, key: str) -> list[Item]:
        """All matches, page after page; archives that know no pages send the first again, which ends it."""
        found: dict[str | None, Item] = {}
        while True:
            size = min(PAGE, limit + 1)
            items, more = self._page(path, [*parameters, ("limit", str(size)), ("offset", str(len(found)))])
            before = len(found)
            found |= {_text(item, key): item for item in items}
            if len(found) > limit:
                raise no_dicom(self._web.archive, f"more than {limit} matches, at most {limit} are looked at")
            if len(found) == before or (len(items) < size and not more):
                return list(found.values())

    def _page(self, path: str, parameters: list[tuple[str, str]]) -> tuple[list[Item], bool]:
        found, more = patiently(lambda: self._web.json(path, parameters), self._web.archive, self._web.access)
        if not all(isinstance(item, dict) for item in found):
            raise no_dicom(self._web.archive, "wanted a list in DICOM JSON, got another one")
        return found, more


def _texts(item: Item, name: str) -> list[str]:
    """Values of an element as text; whatever else stands there is left out."""
    element = item.get(TAGS[name])
    values = element.get("Value") if isinstance(element, dict) else None
    if not isinstance(values, list):
        return []
    return [str(value) for value in values if isinstance(value, (str, int)) and not isinstance(value, bool)]


def _text(item: Item, name: str) -> str | None:
    return next(iter(_texts(item, name)), None)


def _integer(item: Item, name: str) -> int | None:
    return count_of(_text(item, name))


def _items(item: Any, name: str) -> list[Item]:
    """Items of a sequence."""
    element = item.get(TAGS[name]) if isinstance(item, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _blocks(answer: Answer) -> Iterator[bytes]:
    while block := answer.read(BLOCK_BYTES):
        yield block


def _file_blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


__all__ = ["DicomWeb"]
