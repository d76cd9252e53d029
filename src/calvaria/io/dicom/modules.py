"""What every DICOM object that is written has in common: whose it is, what it belongs to, and who made it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from calvaria import __version__
from calvaria.errors import CalvariaError, InputError, MissingExtraError
from calvaria.files import PathLike, atomic_path
from calvaria.io.dicom.source import DicomSource, SliceRef

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PRODUCT = "calvaria"
"""Manufacturer, and the model's name."""

SERIAL = "none"
"""A device has a serial number in DICOM, and it may not be empty; software has none."""

BODY_PART = "SKULL"
"""Of images; a document has none."""

IMPLEMENTATION_UID = "2.25.262498126711362155203361420963364018573"
"""Who wrote the file, for readers that know our mistakes."""

REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
"""What stands in every object, empty if the source has none (type 2 of the patient and study modules)."""

COPIED = (
    *REQUIRED,
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "PatientBirthTime",
    "StudyDescription",
    "IssuerOfAccessionNumberSequence",
    "ProcedureCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
)
"""What an archive files an object by, and what a viewer shows beside it, as the source has it."""

SERIES_NUMBERS = {"segmentation": 9001, "implant": 9002, "picture": 9003}
"""Above those of scanners, so that results come last in a viewer's list."""


@contextmanager
def unsaid() -> Iterator[None]:
    """Let what DICOM libraries say of a header's values, which may be the patient's, stay unheard.

    Raises:
        InputError: in the place of an error of theirs.
    """
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (CalvariaError, OSError):
        raise
    except Exception:  # pydicom raises many kinds, with the value in the message
        raise InputError(
            "a value in the header of the scan cannot be written as DICOM; repair it, or use --deidentify"
        ) from None
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def new_uid() -> str:
    """A UID that nothing else has (from a random UUID, PS3.5 B.2)."""
    pydicom_is_here()
    from pydicom.uid import generate_uid

    return str(generate_uid(prefix=None))


def pydicom_is_here() -> None:
    """Raise unless DICOM can be written.

    Raises:
        MissingExtraError: the extra is not installed.
    """
    try:
        import highdicom  # noqa: F401
        import pydicom  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "DICOM needs pydicom and highdicom, which are not installed: pip install 'calvaria[dicom]'"
        ) from None


def deidentified(source: DicomSource) -> DicomSource:
    """The same place in the world, and nobody's: no value of the patient and the study, and all UIDs fresh.

    What is written for one such source hangs together (one study, one frame of reference), but not with the scan:
    references to slices keep their number and order and name instances that do not exist elsewhere. Two calls give
    different UIDs, so that two results cannot be laid side by side either.
    """
    pydicom_is_here()
    from pydicom.dataset import Dataset

    fresh: dict[str, str] = {}

    def other(uid: str) -> str:
        return fresh.setdefault(uid, new_uid())

    header = Dataset()
    header.PatientIdentityRemoved = "YES"
    header.DeidentificationMethod = "calvaria: no patient, no study, new UIDs"
    header.LongitudinalTemporalInformationModified = "REMOVED"
    return replace(
        source,
        study_uid=other(source.study_uid),
        series_uid=other(source.series_uid),
        frame_uid=other(source.frame_uid),
        slices=tuple(SliceRef(one.sop_class_uid, other(one.sop_instance_uid), one.frame) for one in source.slices),
        header=header,
    )


@unsaid()
def add_common(
    dataset: Dataset, source: DicomSource, *, what: str, series_uid: str, description: str, number: int = 1
) -> None:
    """Write patient, study, series, frame of reference, equipment and SOP modules into an object; what is there goes.

    Args:
        dataset: the object; its SOP class is set already.
        source: whose it is.
        what: ``segmentation``, ``implant`` or ``picture``: for the number of the series.
        series_uid: of its series.
        description: of its series.
        number: of the object within its series, from 1.
    """
    for keyword in COPIED:
        if keyword in dataset:
            del dataset[keyword]
        if keyword in source.header:
            dataset[keyword] = deepcopy(source.header[keyword])
    for keyword in REQUIRED:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    now = datetime.now()
    day, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    dataset.StudyInstanceUID = source.study_uid
    dataset.SeriesInstanceUID = series_uid
    dataset.SeriesNumber = SERIES_NUMBERS[what]
    dataset.SeriesDescription = description
    dataset.SeriesDate, dataset.SeriesTime = day, time
    dataset.InstanceNumber = number
    dataset.SOPInstanceUID = new_uid()
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = day, time
    dataset.ContentDate, dataset.ContentTime = day, time
    dataset.FrameOfReferenceUID = source.frame_uid
    dataset.PositionReferenceIndicator = ""
    dataset.Manufacturer = dataset.ManufacturerModelName = PRODUCT
    dataset.SoftwareVersions = __version__
    dataset.DeviceSerialNumber = SERIAL


@unsaid()
def add_related_series(dataset: Dataset, source: DicomSource) -> None:
    """Say which series an object was made from, where it cannot say which slices."""
    from pydicom.dataset import Dataset

    related = Dataset()
    related.StudyInstanceUID = source.study_uid
    related.SeriesInstanceUID = source.series_uid
    related.PurposeOfReferenceCodeSequence = []
    dataset.RelatedSeriesSequence = [related]


@unsaid()
def add_references(dataset: Dataset, source: DicomSource, used: Sequence[SliceRef]) -> None:
    """Say which instances an object refers to: those of ``used``, each once."""
    from pydicom.dataset import Dataset

    series = Dataset()
    series.SeriesInstanceUID = source.series_uid
    series.ReferencedInstanceSequence = [instance(ref) for ref in once(used)]
    dataset.ReferencedSeriesSequence = [series]


def once(slices: Sequence[SliceRef]) -> list[SliceRef]:
    """One reference to each instance, in order, without frames."""
    return list(dict.fromkeys(replace(ref, frame=None) for ref in slices))


def instance(ref: SliceRef) -> Dataset:
    """A reference to an instance, or to one frame of it."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = ref.sop_class_uid
    item.ReferencedSOPInstanceUID = ref.sop_instance_uid
    if ref.frame is not None:
        item.ReferencedFrameNumber = ref.frame
    return item


def coded(value: str, scheme: str, meaning: str) -> Dataset:
    """One item of a code sequence."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def save(path: PathLike, dataset: Dataset, transfer_syntax_uid: str) -> None:
    """Write an object as a DICOM file; it appears whole or not at all.

    Raises:
        InputError: the disk refuses, or a value of the source's header cannot be written; it is not said which.
    """
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = f"{PRODUCT} {__version__}"[:16]
    dataset.file_meta = meta
    with atomic_path(path) as part, unsaid():
        dataset.save_as(part, enforce_file_format=True)


__all__ = [
    "BODY_PART",
    "PRODUCT",
    "REQUIRED",
    "SERIAL",
    "add_common",
    "add_references",
    "add_related_series",
    "coded",
    "deidentified",
    "instance",
    "new_uid",
    "once",
    "pydicom_is_here",
    "save",
    "unsaid",
]
