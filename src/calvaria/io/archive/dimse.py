"""Archives that speak DICOM's own protocol (PS3.7): C-FIND to search, C-GET to fetch, C-STORE to store, C-ECHO."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calvaria.errors import CalvariaError, InputError
from calvaria.io.archive.access import Access
from calvaria.io.archive.address import ArchiveAddress
from calvaria.io.archive.client import Outcome, Outgoing, Told, reason_of
from calvaria.io.archive.link import Link, arriving_in, cut, linked
from calvaria.io.archive.network import no_dicom, patiently
from calvaria.io.archive.query import SeriesFound, StudyFound, StudyQuery, code_of, count_of, number_of, require_uid
from calvaria.io.archive.staging import Staging
from calvaria.io.dicom.headers import CT_CLASSES
from calvaria.io.dicom.places import MAX_FILES

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pynetdicom.presentation import PresentationContext

VERIFICATION = "1.2.840.10008.1.1"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
"""C-ECHO; study root query/retrieve: C-FIND, C-GET."""

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
PLAIN = (EXPLICIT, IMPLICIT)
"""Transfer syntaxes that every archive has one of."""

PACKED = (
    "1.2.840.10008.1.2.4.70",  # JPEG lossless
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.80",  # JPEG-LS
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",  # JPEG 2000
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.51",  # JPEG, 12 bits
    "1.2.840.10008.1.2.5",  # RLE
)
"""Compressed ones that an archive may send its files in."""

MAX_CONTEXTS = 128
"""Of one association (PS3.8)."""

MAX_ANSWER_BYTES = 64 << 20
"""All matches of one search."""

PENDING = (0xFF00, 0xFF01)
MAX_STUDIES = 200
"""So many studies are looked at; more are a query without sense."""


class Dimse:
    """An archive that is spoken to by pynetdicom, within `hushed`; a new association for each question.

    Args:
        archive: where it is.
        access: how it is spoken to.

    Raises:
        InputError: the access does not go with the archive, or a file of it cannot be used.
    """

    def __init__(self, archive: ArchiveAddress, access: Access) -> None:
        access.require_fits(archive)
        if archive.encrypted:
            access.tls()  # a file that cannot be used is said before anything is asked
        self._archive, self._access, self._name = archive, access, archive.name

    def echo(self) -> None:
        """C-ECHO."""

        def ask() -> None:
            with self._linked([_context(VERIFICATION, [PLAIN[1]])], "C-ECHO", VERIFICATION) as link:
                status = link.association.send_c_echo()
                if "Status" not in status:
                    raise link.ended()
                if status.Status != 0:
                    raise InputError(f"{self._name}: C-ECHO fails: {reason_of(status.Status)}")

        patiently(ask, self._archive, self._access)

    def studies(self, query: StudyQuery) -> list[StudyFound]:
        """C-FIND for studies."""
        asked = {
            "StudyInstanceUID": query.study or "",
            "PatientID": query.patient or "",
            "AccessionNumber": query.accession or "",
            "StudyDate": query.date_range,
            "StudyDescription": "",
            "ModalitiesInStudy": "",
            "NumberOfStudyRelatedSeries": None,
        }
        return [
            StudyFound(
                require_uid(_text(item, "StudyInstanceUID"), self._name),
                _text(item, "PatientID"),
                _text(item, "AccessionNumber"),
                _text(item, "StudyDate"),
                _text(item, "StudyDescription"),
                tuple(filter(None, map(code_of, _texts(item, "ModalitiesInStudy")))),
                count_of(_text(item, "NumberOfStudyRelatedSeries")),
            )
            for item in self._find("STUDY", asked, MAX_STUDIES)
        ]

    def series(self, study_uid: str) -> list[SeriesFound]:
        """C-FIND for series."""
        asked = {
            "StudyInstanceUID": study_uid,
            "SeriesInstanceUID": "",
            "Modality": "",
            "SeriesNumber": None,
            "NumberOfSeriesRelatedInstances": None,
        }
        return [
            SeriesFound(
                require_uid(_text(item, "SeriesInstanceUID"), self._name),
                number_of(_text(item, "SeriesNumber")),
                code_of(_text(item, "Modality")),
                count_of(_text(item, "NumberOfSeriesRelatedInstances")),
            )
            for item in self._find("SERIES", asked, MAX_FILES)
        ]

    def instances(self, study_uid: str, series_uid: str) -> dict[str, str]:
        """C-FIND for instances."""
        asked = {
            "StudyInstanceUID": study_uid,
            "SeriesInstanceUID": series_uid,
            "SOPInstanceUID": "",
            "SOPClassUID": "",
        }
        return {
            require_uid(_text(item, "SOPInstanceUID"), self._name): _text(item, "SOPClassUID")
            for item in self._find("IMAGE", asked, MAX_FILES)
        }

    def retrieve(self, study_uid: str, series_uid: str, classes: frozenset[str], staging: Staging) -> None:
        """C-GET for a series."""
        from pydicom.dataset import Dataset
        from pynetdicom import build_role, evt

        wanted = sorted(classes or CT_CLASSES)
        # A context for each way of packing: of one context the archive takes one only, and some then cannot send.
        contexts = [_context(GET, [IMPLICIT]), *(_context(one, PLAIN) for one in wanted)]
        contexts += [_context(one, [syntax]) for one in wanted for syntax in PACKED]
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "SERIES"
        identifier.StudyInstanceUID, identifier.SeriesInstanceUID = study_uid, series_uid
        problems: list[Exception] = []

        def arrived(event: Any) -> int:
            opened = getattr(event.request, "_dataset_file", None)
            if opened is not None:
                opened.close()  # the library leaves it open on this way
            try:
                staging.take(Path(event.dataset_path))
            except (CalvariaError, OSError) as error:
                problems.append(error)
                cut(event.assoc)
                return 0xA700
            return 0

        with (
            arriving_in(staging.incoming),
            self._linked(
                contexts[:MAX_CONTEXTS],
                "C-GET",
                GET,
                limit_bytes=staging.room() + MAX_ANSWER_BYTES,
                roles=[build_role(one, scp_role=True) for one in wanted],
                handlers=[(evt.EVT_C_STORE, arrived)],
            ) as link,
        ):
            if not any(one.as_scp and one.abstract_syntax in wanted for one in link.association.accepted_contexts):
                raise InputError(
                    f"{self._name}: does not send slices of this kind by C-GET; use its DICOMweb (https://)"
                )
            for status, _ in link.association.send_c_get(identifier, GET):
                if problems:
                    raise problems[0]
                if "Status" not in status:
                    raise link.ended()
                self._judge(status)

    def store(self, files: Sequence[Outgoing], told: Told) -> None:
        """C-STORE, over as few associations as may be."""
        left = list(files)
        while left:
            kinds: list[tuple[str, str]] = []
            for file in left:
                new = [kind for kind in _kinds(file) if kind not in kinds]
                if len(kinds) + len(new) > MAX_CONTEXTS:
                    break
                kinds += new
            group = [file for file in left if set(_kinds(file)) <= set(kinds)]
            left = [file for file in left if file not in group]
            with self._linked([_context(uid, [syntax]) for uid, syntax in kinds], "C-STORE") as link:
                for file in group:
                    told(self._stored(link, file))

    def _stored(self, link: Link, file: Outgoing) -> Outcome:
        if link.accepts(file.class_uid, file.syntax):
            status = link.association.send_c_store(file.path)
        elif file.syntax == EXPLICIT and link.accepts(file.class_uid, IMPLICIT):
            from pydicom import dcmread

            status = link.association.send_c_store(dcmread(file.path))  # old archives have this encoding alone
        elif link.accepts(file.class_uid):
            return Outcome(file.name, "it does not take its encoding (transfer syntax)")
        else:
            return Outcome(file.name, reason_of(0x0122))
        if "Status" not in status:
            raise link.ended()
        if status.Status == 0 or status.Status & 0xF000 == 0xB000:
            return Outcome(file.name, changed=status.Status != 0)
        return Outcome(file.name, reason_of(status.Status))

    def _find(self, level: str, asked: dict[str, Any], limit: int) -> list[Dataset]:
        """All matches of a search."""
        from pydicom.dataset import Dataset

        def ask() -> list[Dataset]:
            with self._linked([_context(FIND, PLAIN)], "C-FIND", FIND) as link:
                identifier = Dataset()
                identifier.SpecificCharacterSet, identifier.QueryRetrieveLevel = "ISO_IR 192", level
                for keyword, value in asked.items():
                    setattr(identifier, keyword, value)
                found: list[Dataset] = []
                for status, item in link.association.send_c_find(identifier, FIND):
                    if "Status" not in status:
                        raise link.ended()
                    if status.Status not in PENDING:
                        self._judge(status)
                    elif item is None:
                        raise no_dicom(self._archive, "sent a match that cannot be read")
                    else:
                        found.append(item)
                    if len(found) > limit:
                        raise no_dicom(self._archive, f"more than {limit} matches, at most {limit} are looked at")
                return found

        return patiently(ask, self._archive, self._access)

    def _judge(self, status: Dataset) -> None:
        """Raise where a final status is a failure; one that is a warning shows in what is missing at the end."""
        value = status.Status
        if value in PENDING or value == 0 or value & 0xF000 == 0xB000:
            return
        raise InputError(f"{self._name}: does not answer the search or send the slices: {reason_of(value)}")

    @contextmanager
    def _linked(
        self,
        contexts: Sequence[PresentationContext],
        service: str,
        class_uid: str | None = None,
        *,
        limit_bytes: int = MAX_ANSWER_BYTES,
        **more: Any,
    ) -> Iterator[Link]:
        with linked(self._archive, self._access, contexts, limit_bytes=limit_bytes, **more) as link:
            if class_uid is not None and not link.accepts(class_uid):
                raise InputError(
                    f"{self._name}: does not offer {service}; ask who runs it, or use its DICOMweb (https://)"
                )
            yield link


def _context(class_uid: str, syntaxes: Sequence[str]) -> PresentationContext:
    from pynetdicom import build_context

    return build_context(class_uid, list(syntaxes))


def _kinds(file: Outgoing) -> list[tuple[str, str]]:
    """What must be agreed on for a file: its own encoding, and the one that every archive has."""
    return [(file.class_uid, file.syntax), *([(file.class_uid, IMPLICIT)] if file.syntax == EXPLICIT else [])]


def _texts(item: Dataset, keyword: str) -> list[str]:
    try:
        value = item.get(keyword)
    except Exception:  # damaged values raise many kinds, with the value in them
        return []
    if value is None:
        return []
    return [str(value)] if isinstance(value, (str, int)) else [str(one) for one in value]


def _text(item: Dataset, keyword: str) -> str:
    return next(iter(_texts(item, keyword)), "")


__all__ = ["Dimse"]
