"""Stored pixels of slices, and HU from them."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import groupby
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import FormatError, MissingExtraError
from calvaria.io.dicom.headers import Frame
from calvaria.io.dicom.places import BROKEN_ZIP

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

AIR_HU = -1024
"""What stands where a scan has no value."""

TISSUE_HU = -900
"""Padding above this would have been taken for tissue, which is said."""

PIXEL_DATA = (0x7FE0, 0x0010)
"""The tag of the pixels."""

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
NATIVE = (IMPLICIT, EXPLICIT, BIG)
"""Transfer syntaxes of plain numbers."""

JPEG_START, JPEG2000_START = b"\xff\xd8", b"\xff\x4f\xff\x51"
"""What these streams begin with: for JPEG 2000 with the segment that holds its size."""

JPEG_FRAMES = frozenset(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC} | {0xFFF7}
"""Segments with a size: of JPEG, and of JPEG-LS."""

JPEG_FILL = 0xFFFF
"""May stand before a segment."""

UNDEFINED = 0xFFFFFFFF
"""The length of pixel data in fragments."""


def digest(frame: Frame) -> str:
    """Of a slice's stored pixels and their scale.

    Raises:
        FormatError: they cannot be read.
    """
    pixels = next(stored_slices([frame]))[1]
    return hashlib.sha256(pixels.tobytes() + repr((frame.rescale, frame.signed)).encode()).hexdigest()


def stored_slices(frames: Sequence[Frame]) -> Iterator[tuple[int, NDArray[Any]]]:
    """The stored values of slices, in the order in which they lie in their files.

    Args:
        frames: in any order.

    Yields:
        Which of ``frames``, and its (rows, columns) integers.

    Raises:
        FormatError: a file is damaged or truncated, or of a syntax that is not read.
        MissingExtraError: it is compressed in a way that an optional package reads.
    """
    order = sorted(range(len(frames)), key=lambda n: (id(frames[n].place), frames[n].index))
    for _, group in groupby(order, key=lambda n: id(frames[n].place)):
        numbers = list(group)
        first = frames[numbers[0]]
        if first.syntax in NATIVE:
            yield from _native(frames, numbers)
        else:
            dataset = _whole(first)
            for n in numbers:
                yield n, _decoded(dataset, frames[n])


def to_hu(pixels: NDArray[Any], frame: Frame, out: NDArray[Any]) -> float | None:
    """Fill a slice with HU.

    Args:
        pixels: (rows, columns) stored values.
        frame: their scale and padding.
        out: (rows, columns) int16 or float32, written to.

    Returns:
        The HU that the slice's padding would have had, where there is any; it becomes `AIR_HU`.
    """
    slope, intercept = frame.rescale or (1.0, 0.0)
    if out.dtype == np.int16:
        np.add(pixels.astype(np.int32) * int(slope), int(intercept), out=out, casting="unsafe")
    else:
        np.add(pixels.astype(np.float64) * slope, intercept, out=out, casting="unsafe")
    if frame.padding is None:
        return None
    low, high = (_as_stored(value, frame) for value in frame.padding)
    padded = (pixels >= low) & (pixels <= high)
    if not padded.any():
        return None
    out[padded] = AIR_HU
    return high * slope + intercept


def is_whole(frames: Sequence[Frame]) -> bool:
    """Whether HU of these slices are whole numbers that int16 holds, whatever is stored."""
    for frame in frames:
        slope, intercept = frame.rescale or (1.0, 0.0)
        stored = frame.bits[1]
        low, high = (-(1 << (stored - 1)), (1 << (stored - 1)) - 1) if frame.signed else (0, (1 << stored) - 1)
        ends = sorted((low * slope + intercept, high * slope + intercept))
        if slope != int(slope) or intercept != int(intercept) or ends[1] > 65535:
            return False
    return True


def _as_stored(value: int, frame: Frame) -> int:
    """A padding value with the sign of the pixels: files have it signed or not, whatever the pixels are."""
    stored = frame.bits[0]
    value &= (1 << stored) - 1
    return value - (1 << stored) if frame.signed and value >> (stored - 1) else value


def _native(frames: Sequence[Frame], numbers: Sequence[int]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Slices of one file of plain numbers."""
    first = frames[numbers[0]]
    rows, columns = first.shape
    size = first.bits[0] // 8
    letter = "i" if first.signed else "u"
    dtype = np.dtype(f"{'>' if first.syntax == BIG else '<'}{letter}{size}")
    bytes_each = rows * columns * size
    try:
        with first.place.open() as file:
            file.seek(first.pixels_at)
            start, length = _pixel_data(file, first.syntax)
            for n in numbers:
                at = frames[n].index * bytes_each
                if at + bytes_each > length:
                    raise FormatError("a slice has fewer pixels than its header says; export the series again")
                file.seek(start + at)
                data = file.read(bytes_each)
                if len(data) < bytes_each:
                    raise FormatError("a DICOM file is truncated: pixels are missing; export the series again")
                yield n, _clean(np.frombuffer(data, dtype).reshape(rows, columns), frames[n])
    except BROKEN_ZIP as error:
        raise FormatError("a DICOM file cannot be read to its end; export the series again") from error


def _pixel_data(file: BinaryIO, syntax: str) -> tuple[int, int]:
    """Where the plain pixels begin, and their bytes.

    Raises:
        FormatError: there are none.
    """
    order = ">" if syntax == BIG else "<"
    head = file.read(12)
    if len(head) < 12 or struct.unpack(f"{order}HH", head[:4]) != PIXEL_DATA:
        raise FormatError("a DICOM file has no pixels; export the series again")
    implicit = syntax == IMPLICIT
    (length,) = struct.unpack(f"{order}I", head[4:8] if implicit else head[8:12])
    if length == UNDEFINED:
        raise FormatError("a DICOM file's pixels are in fragments, but it says that they are plain; export it again")
    return file.tell() - (4 if implicit else 0), length


def _clean(pixels: NDArray[Any], frame: Frame) -> NDArray[Any]:
    """Stored values without what else stands in the unused high bits, in this machine's byte order."""
    allocated, stored, _ = frame.bits
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if stored == allocated:
        return pixels
    if frame.signed:
        pixels = np.right_shift(np.left_shift(pixels, allocated - stored), allocated - stored)
    else:
        pixels = np.bitwise_and(pixels, pixels.dtype.type((1 << stored) - 1))
    return pixels


def _whole(frame: Frame) -> Dataset:
    """A compressed file with its pixels."""
    import pydicom

    try:
        with frame.place.open() as file:
            return pydicom.dcmread(file, force=True)
    except Exception:  # whatever a parser makes of bytes that are not what they should be; it may quote a name
        raise FormatError("a DICOM file is damaged or truncated; export the series again") from None


def _decoded(dataset: Dataset, frame: Frame) -> NDArray[Any]:
    """One frame of a compressed file."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import UID

    syntax = UID(frame.syntax)  # as the header's reader took it: a damaged one may be a number or a list
    name = "unknown" if syntax.name == syntax else syntax.name
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise FormatError(f"transfer syntax {name} is not read; export the series uncompressed") from error
    if not decoder.is_available:
        raise MissingExtraError(f"{name} slices need a decoder: pip install 'calvaria[dicom]'")
    if _claimed(dataset, frame) not in (None, frame.shape):  # a decoder might go on for minutes with a damaged size
        raise FormatError(f"a slice ({name}) is not of the size that its header says; export the series again")
    try:
        pixels = pixel_array(dataset, index=frame.index, raw=True, decoding_plugin=_plugin(frame.syntax))
    except Exception:  # decoders raise their own
        raise FormatError(f"a slice ({name}) cannot be decompressed: it is damaged; export the series again") from None
    if pixels.shape != frame.shape or pixels.dtype.kind not in "iu":
        raise FormatError(f"a slice ({name}) is not of the size that its header says; export the series again")
    return np.asarray(pixels)


def _plugin(syntax: str) -> str:
    """The decoder that takes damaged data best; empty for any."""
    if syntax == RLE:  # pylibjpeg's panics, which no handler of errors catches
        return "pydicom"
    if syntax in JPEG_LS and find_spec("gdcm") is not None:  # pyjpegls's goes on for seconds
        return "gdcm"
    return ""


def _claimed(dataset: Dataset, frame: Frame) -> tuple[int, int] | None:
    """Rows and columns of a compressed frame by its own beginning; None where that does not say it."""
    from pydicom.encaps import get_frame

    try:
        count = int(dataset.get("NumberOfFrames") or 1)
        return size_of_stream(get_frame(dataset.PixelData, frame.index, number_of_frames=count))
    except Exception:  # fragments that are none, or too short: the decoder says so
        return None


def size_of_stream(data: bytes) -> tuple[int, int] | None:
    r"""Rows and columns that a JPEG, JPEG-LS or JPEG 2000 stream claims to have; None for other bytes.

    >>> size_of_stream(bytes.fromhex("ffd8 fff7 000b 10 0020 0040 01 01 11 00"))
    (32, 64)
    """
    if data[:4] == JPEG2000_START:
        right, down, left, top = struct.unpack_from(">4I", data, 8)
        return down - top, right - left
    at = 2
    while data[:2] == JPEG_START and at + 9 <= len(data):
        marker, length = struct.unpack_from(">HH", data, at)
        if marker in JPEG_FRAMES:
            rows, columns = struct.unpack_from(">HH", data, at + 5)
            return rows, columns
        at += 1 if marker == JPEG_FILL else 2 + length
    return None


__all__ = ["AIR_HU", "NATIVE", "TISSUE_HU", "digest", "is_whole", "size_of_stream", "stored_slices", "to_hu"]
