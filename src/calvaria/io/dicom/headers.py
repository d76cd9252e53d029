"""What the header of a DICOM file says of each of its frames: plain values, checked for their kind."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from calvaria.errors import FormatError, MissingExtraError
from calvaria.io.dicom.places import MAX_FILE_BYTES, Place, looks_like_dicom

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

CT_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT",
}
"""SOP classes of images that a scanner makes slices of."""

DEFLATED = b"1.2.840.10008.1.2.1.99"
"""A transfer syntax that is inflated as a whole by pydicom, without a bound."""

HEAD_BYTES = 1024
"""So many bytes hold the file meta group, which names the transfer syntax."""

MAX_SIDE = 4096
"""Rows and columns of a slice; larger ones are damage."""

MAX_FRAMES = 20_000
"""Frames of one file; more are damage."""

MAX_LETTERS = 24
"""Of a code, such as a kernel's name, that are kept."""

_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
    "SeriesNumber",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "BodyPartExamined",
    "ConvolutionKernel",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ModalityLUTSequence",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "PatientPosition",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice, as its header describes it. What says whose it is never shows in a message.

    Args:
        place: the file.
        number: of the frame, from 1, in a multi-frame file; None in another.
        index: of the frame in the file's pixels, from 0.
        uids: SOP class, SOP instance, study, series, frame of reference; empty where missing.
        person: who it is.
        modality: such as CT.
        image_type: values of ImageType or FrameType, upper case.
        series_number: as the scanner counts; None where missing.
        body_part: that was scanned, as the scanner was told; upper case, empty where missing.
        kernel: of the reconstruction; empty where missing.
        shape: rows, columns.
        spacing_mm: between rows, between columns; None where missing.
        orientation: direction of the rows, of the columns, LPS; None where missing.
        position: centre of the first pixel, LPS mm; None where missing.
        thickness_mm: None where missing.
        rescale: slope and intercept to HU; None where missing.
        has_lut: whether a table stands in place of slope and intercept.
        unit: RescaleType; empty where missing.
        samples: per pixel, 1 or 3.
        photometric: interpretation.
        bits: allocated, stored, high bit.
        signed: whether the stored values are.
        padding: the lowest and the highest stored value that mean "nothing here"; None where there is none.
        acquisition: number; empty where missing.
        temporal: position; empty where missing.
        patient_position: such as HFS; empty where missing.
        syntax: UID of the transfer syntax.
        pixels_at: byte of the pixel data's tag.
    """

    place: Place
    number: int | None
    index: int
    uids: tuple[str, str, str, str, str] = field(repr=False)
    person: tuple[str, ...] = field(repr=False)
    modality: str
    image_type: tuple[str, ...]
    series_number: int | None
    body_part: str
    kernel: str
    shape: tuple[int, int]
    spacing_mm: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    position: tuple[float, ...] | None
    thickness_mm: float | None
    rescale: tuple[float, float] | None
    has_lut: bool
    unit: str
    samples: int
    photometric: str
    bits: tuple[int, int, int]
    signed: bool
    padding: tuple[int, int] | None
    acquisition: str
    temporal: str
    patient_position: str
    syntax: str
    pixels_at: int

    @property
    def series_uid(self) -> str:
        """Of the series."""
        return self.uids[3]

    @property
    def study(self) -> tuple[str, ...]:
        """Whose study it belongs to; never to be shown."""
        return (*self.person, self.uids[2])


@contextmanager
def quiet() -> Iterator[None]:
    """Let the libraries say nothing: their warnings and log lines quote values, which may be a patient's name.

    Raises:
        MissingExtraError: pydicom is not installed.
    """
    try:
        from pydicom import config
    except ModuleNotFoundError as error:
        raise MissingExtraError("DICOM needs pydicom, which is not installed: pip install 'calvaria[dicom]'") from error
    logger = logging.getLogger("pydicom")
    mode, before = config.settings.reading_validation_mode, logger.disabled
    _hush_gdcm()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config.settings.reading_validation_mode = config.IGNORE
        logger.disabled = True
        try:
            yield
        finally:
            config.settings.reading_validation_mode = mode
            logger.disabled = before


def _hush_gdcm() -> None:
    try:
        import gdcm
    except ImportError:
        return
    for stream in (gdcm.Trace.DebugOff, gdcm.Trace.WarningOff, gdcm.Trace.ErrorOff):
        stream()


def is_localizer(image_type: Sequence[str]) -> bool:
    """Whether an image only shows where others lie.

    >>> is_localizer(["ORIGINAL", "PRIMARY", "LOCALIZER"]), is_localizer(["ORIGINAL", "PRIMARY", "AXIAL"])
    (True, False)
    """
    return any("LOCALIZER" in value or "SURVIEW" in value for value in image_type)


def read_frames(place: Place) -> list[Frame]:
    """The frames of one file; to be used within `quiet`.

    Returns:
        Empty for a file that is not DICOM, or has no image (a DICOMDIR, a report).

    Raises:
        FormatError: it is DICOM, but damaged. The line does not name the file.
    """
    try:
        with place.open() as file:
            head = file.read(HEAD_BYTES)
            if not looks_like_dicom(head):
                return []
            if place.size > MAX_FILE_BYTES:
                raise FormatError(f"a DICOM file of {place.size / 1e9:.1f} GB, at most {MAX_FILE_BYTES >> 30} are read")
            if DEFLATED in head:
                raise FormatError("a deflated DICOM file, which is not read; export it uncompressed")
            file.seek(0)
            found = _parsed(file, marked=head[128:132] == b"DICM")
            if not found.get("SOPInstanceUID") or not found.get("SeriesInstanceUID") or "Rows" not in found:
                return []
            return _frames(place, found, file.tell())
    except FormatError:
        raise
    except PermissionError as error:
        raise FormatError("a file may not be read; check its permissions") from error
    except Exception:  # whatever a parser makes of bytes that are not what they should be; it may quote a name
        raise FormatError("a DICOM file is damaged or truncated") from None


def read_header(place: Place) -> Dataset:
    """One file's header without pixels, private elements, overlays and the frames' own parts.

    Raises:
        FormatError: it is damaged.
    """
    import pydicom

    try:
        with place.open() as file:
            found = pydicom.dcmread(file, stop_before_pixels=True, force=True)
            found.remove_private_tags()
        for element in list(found):
            if element.tag.group >= 0x5000 or element.keyword == "PerFrameFunctionalGroupsSequence":
                del found[element.tag]
    except Exception:  # as above
        raise FormatError("a DICOM file is damaged or truncated") from None
    return found


def _parsed(file: Any, *, marked: bool) -> Dataset:
    import pydicom

    return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS), force=not marked)


def _frames(place: Place, found: Dataset, pixels_at: int) -> list[Frame]:
    """A single-frame file's frame, or those of an enhanced one."""
    count = int(found.get("NumberOfFrames") or 1)
    rows, columns = int(found.Rows), int(found.Columns)
    if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE and 0 < count <= MAX_FRAMES):
        raise FormatError(f"a DICOM file of {count} frames of {columns} x {rows} pixels, which is damage")
    per_frame = found.get("PerFrameFunctionalGroupsSequence")
    if per_frame is None:
        if count > 1 and _text(found, "Modality") == "CT":  # frames without a place each: no volume can be made
            return [_frame(place, 1, 0, [found], found=found, pixels_at=pixels_at)]
        return [_frame(place, None, 0, [found], found=found, pixels_at=pixels_at)]
    if len(per_frame) != count:
        raise FormatError(f"a DICOM file of {count} frames that describes {len(per_frame)}")
    shared = (found.get("SharedFunctionalGroupsSequence") or [None])[0]
    return [
        _frame(place, index + 1, index, [*_groups(own), *_groups(shared), found], found=found, pixels_at=pixels_at)
        for index, own in enumerate(per_frame)
    ]


def _groups(item: Any) -> list[Dataset]:
    """The first item of each functional group."""
    return [] if item is None else [element.value[0] for element in item if element.VR == "SQ" and element.value]


def _frame(
    place: Place, number: int | None, index: int, places: list[Dataset], *, found: Dataset, pixels_at: int
) -> Frame:
    """One frame: each value where it is found first."""

    def first(*keywords: str) -> Any:
        for keyword in keywords:
            for dataset in places:
                value = dataset.get(keyword)
                if value is not None and value != "":
                    return value
        return None

    slope, intercept = first("RescaleSlope"), first("RescaleIntercept")
    meta = getattr(found, "file_meta", None)
    uids = [_text(found, f"{name}UID") for name in ("SOPClass", "SOPInstance", "StudyInstance", "SeriesInstance")]
    bits = int(found.get("BitsAllocated") or 0)
    stored = int(found.get("BitsStored") or bits)
    high = found.get("HighBit")
    return Frame(
        place=place,
        number=number,
        index=index,
        uids=(uids[0], uids[1], uids[2], uids[3], _text(found, "FrameOfReferenceUID")),
        person=tuple(_text(found, name) for name in ("PatientID", "PatientName", "PatientBirthDate")),
        modality=_word(_text(found, "Modality")),
        image_type=tuple(str(value).upper() for value in _several(first("FrameType", "ImageType"))),
        series_number=_whole(found.get("SeriesNumber")),
        body_part=_word(_text(found, "BodyPartExamined")).upper(),
        kernel=_word("/".join(str(value) for value in _several(first("ConvolutionKernel")))),
        shape=(int(found.Rows), int(found.Columns)),
        spacing_mm=_numbers(first("PixelSpacing"), 2),
        orientation=_numbers(first("ImageOrientationPatient"), 6),
        position=_numbers(first("ImagePositionPatient"), 3),
        thickness_mm=(_numbers(first("SliceThickness"), 1) or (None,))[0],
        rescale=None if slope is None and intercept is None else (_number(slope, 1.0), _number(intercept, 0.0)),
        has_lut="ModalityLUTSequence" in found,
        unit=_word(str(first("RescaleType") or "")),
        samples=int(found.get("SamplesPerPixel") or 1),
        photometric=_word(_text(found, "PhotometricInterpretation")),
        bits=(bits, stored, int(high) if high is not None else stored - 1),
        signed=bool(int(found.get("PixelRepresentation") or 0)),
        padding=_padding(found),
        acquisition=str(first("FrameAcquisitionNumber", "AcquisitionNumber") or ""),
        temporal=str(first("TemporalPositionIndex", "TemporalPositionIdentifier") or ""),
        patient_position=_word(_text(found, "PatientPosition")),
        syntax=str(getattr(meta, "TransferSyntaxUID", "") or _guessed(found)),
        pixels_at=pixels_at,
    )


def _guessed(found: Dataset) -> str:
    """The syntax of a file without a file meta group, as the parser took it."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    implicit, little = found.original_encoding
    if implicit:
        return str(ImplicitVRLittleEndian)
    return str(ExplicitVRLittleEndian if little else ExplicitVRBigEndian)


def _padding(found: Dataset) -> tuple[int, int] | None:
    value, limit = found.get("PixelPaddingValue"), found.get("PixelPaddingRangeLimit")
    if not isinstance(value, int):
        return None
    other = limit if isinstance(limit, int) else value
    return min(value, other), max(value, other)


def _text(found: Dataset, keyword: str) -> str:
    value = found.get(keyword)
    return "" if value is None else str(value)


def _word(text: str) -> str:
    """A code without what no code holds: it may be shown."""
    return "".join(c for c in text if c.isascii() and (c.isalnum() or c in "+-_./ "))[:MAX_LETTERS].strip()


def _several(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value) if hasattr(value, "__iter__") else [value]


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """So many finite numbers; None where there are none.

    Raises:
        ValueError: there are others.
    """
    if value is None:
        return None
    numbers = tuple(float(one) for one in _several(value))
    if len(numbers) != count or not all(math.isfinite(one) for one in numbers):
        raise ValueError(f"{count} numbers are wanted")
    return numbers


def _number(value: Any, default: float) -> float:
    return default if value is None else (_numbers(value, 1) or (default,))[0]


def _whole(value: Any) -> int | None:
    return None if value is None or value == "" else int(value)


__all__ = [
    "CT_CLASSES",
    "DEFLATED",
    "HEAD_BYTES",
    "MAX_SIDE",
    "Frame",
    "is_localizer",
    "quiet",
    "read_frames",
    "read_header",
]
