"""The voxels themselves: bytes of a file to an array and back, in bounded memory.

Whether a file can hold what its header promises is decided before a byte of it is expanded.
"""

from __future__ import annotations

import bz2
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, cast

import numpy as np
from isal import igzip, igzip_lib, isal_zlib
from numpy.typing import NDArray

from calvaria.errors import FormatError, InputError, one_line

Encoding = Literal["raw", "text", "gzip", "zlib", "bzip2"]

MAX_VOXELS = 2**30
"""Volumes above this (1024 x 1024 x 1024) are refused: ten times a large head CT, and 8 GB as float64."""

MAX_PER_BYTE = {"raw": 1.0, "text": 1.0, "gzip": 1032.0, "zlib": 1032.0, "bzip2": math.inf}
"""How many bytes one stored byte can become: deflate cannot expand more; bzip2 has no useful bound."""

CHUNK = 1 << 20
"""Bytes handled at a time when expanding."""

SLAB = 1 << 24
"""Bytes made contiguous at a time when writing an array of another memory order."""

COMPRESSION_LEVEL = 2
"""isal's: a mask of 62 MB takes 0.04 s and 1.0 MB; zlib level 6 makes it half as large and takes 0.65 s."""

DAMAGE: tuple[type[Exception], ...] = (
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    zlib.error,
    cast(Any, isal_zlib.error),
)
"""What the decoders raise for data that are not what they should be; EOFError for a stream that just ends."""

GZIP_MAGIC = b"\x1f\x8b"

_GZIP_WBITS, _ZLIB_WBITS = 31, 15


@dataclass(frozen=True)
class Layout:
    """Where a file keeps its voxels, and how.

    Args:
        name: the name to use in messages.
        path: the file with the voxels.
        dtype: numeric type with its byte order.
        shape: (I, J, K), the first axis fastest.
        encoding: how the bytes are stored.
        offset: stored bytes before the voxels.
        skip: expanded bytes before the voxels.
        at_end: the voxels are the last bytes of the file, somewhere after ``offset`` (raw only).
    """

    name: str
    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, int, int]
    encoding: Encoding = "raw"
    offset: int = 0
    skip: int = 0
    at_end: bool = False

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the expanded voxels."""
        return self.voxels * self.dtype.itemsize


class Reader(Protocol):
    """Something to read expanded bytes from."""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        ...


class _ZlibReader:
    """Reads a zlib (or single gzip) stream piece by piece; isal has a file object for gzip alone."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = file.read(2)
        kind = igzip_lib.DECOMP_GZIP if self._start == GZIP_MAGIC else igzip_lib.DECOMP_ZLIB
        self._decoder = igzip_lib.IgzipDecompressor(kind)

    def read(self, size: int, /) -> bytes:
        while not self._decoder.eof:
            more = b""
            if self._decoder.needs_input:
                more = self._start or self._file.read(CHUNK)
                self._start = b""
                if not more:
                    raise EOFError
            piece: bytes = self._decoder.decompress(more, size)
            if piece:
                return piece
        return b""


def read_array(layout: Layout) -> NDArray[Any]:
    """The voxels of a file.

    Returns:
        (I, J, K) array of the stored type in native byte order, Fortran contiguous, writable.

    Raises:
        FormatError: the file is shorter or longer than its header says, damaged, or promises an absurd size.
        InputError: there is not enough memory for it.
    """
    _check_size(layout)
    try:
        flat = _read_text(layout) if layout.encoding == "text" else _read_bytes(layout)
    except EOFError as error:
        raise _truncated(layout) from error
    except DAMAGE as error:
        reason = one_line(error) or type(error).__name__
        raise FormatError(f"{layout.name}: the {layout.encoding} data are damaged ({reason})") from error
    except MemoryError as error:
        needed = f"{layout.nbytes / 1e9:.1f} GB"
        raise InputError(f"{layout.name}: needs {needed} of memory, which this machine does not have") from error
    if not layout.dtype.isnative:
        flat = flat.byteswap(inplace=True).view(layout.dtype.newbyteorder("="))
    return flat.reshape(layout.shape, order="F")


def _check_size(layout: Layout) -> None:
    if layout.voxels > MAX_VOXELS:
        size = " x ".join(map(str, layout.shape))
        raise FormatError(f"{layout.name}: the header says {size} voxels, more than the {MAX_VOXELS} that are read")
    stored = layout.path.stat().st_size - layout.offset
    wanted = layout.nbytes + layout.skip
    if layout.encoding == "text":
        wanted = 2 * layout.voxels - 1  # a digit and a space each
    if layout.encoding == "raw" and not layout.at_end and stored > wanted:
        extra = stored - wanted
        raise FormatError(f"{layout.name}: the data are {extra} bytes longer than the header says ({wanted} bytes)")
    if stored <= 0 or wanted > stored * MAX_PER_BYTE[layout.encoding]:
        raise FormatError(
            f"{layout.name}: truncated, or its header is wrong: it promises {wanted} bytes of voxels, "
            f"which {max(stored, 0)} bytes of {layout.encoding} data cannot hold; copy or export the file again"
        )


def _truncated(layout: Layout) -> FormatError:
    return FormatError(
        f"{layout.name}: truncated: the {layout.encoding} data end before the {layout.nbytes} bytes "
        "that the header promises; copy or export the file again"
    )


def _read_bytes(layout: Layout) -> NDArray[Any]:
    with layout.path.open("rb") as file:
        file.seek(layout.path.stat().st_size - layout.nbytes if layout.at_end else layout.offset)
        reader = open_encoded(file, layout.encoding)
        if not _skip(reader, layout.skip):
            raise EOFError
        flat = np.zeros(layout.nbytes, np.uint8)
        done = 0
        while done < layout.nbytes:
            piece = reader.read(min(CHUNK, layout.nbytes - done))
            if not piece:
                raise EOFError
            flat[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
            done += len(piece)
        if reader.read(1):  # also makes the decoder check its checksum
            raise FormatError(f"{layout.name}: the data are longer than the header says ({layout.nbytes} bytes)")
    return flat.view(layout.dtype)


def open_encoded(file: BinaryIO, encoding: Encoding) -> Reader:
    """What expands an open file from its current place on; its ``read`` raises EOFError or one of `DAMAGE`."""
    if encoding == "gzip":
        return cast(Any, igzip.IGzipFile)(fileobj=file)  # type: ignore[no-any-return]
    if encoding == "zlib":
        return _ZlibReader(file)
    if encoding == "bzip2":
        return bz2.BZ2File(file)
    return file


def _skip(reader: Reader, count: int) -> bool:
    while count > 0:
        piece = reader.read(min(CHUNK, count))
        if not piece:
            return False
        count -= len(piece)
    return True


def _read_text(layout: Layout) -> NDArray[Any]:
    with layout.path.open("rb") as file:
        file.seek(layout.offset)
        words = file.read().split(maxsplit=layout.voxels)
    if len(words) < layout.voxels:
        raise EOFError
    if len(words) > layout.voxels:
        raise FormatError(f"{layout.name}: the data are longer than the header says ({layout.voxels} numbers)")
    kind = layout.dtype.newbyteorder("=")
    if kind.kind == "f":
        flat = np.array([float(word) for word in words], dtype=kind)
    else:
        flat = np.array([int(word) for word in words], dtype=kind)  # OverflowError where a number does not fit
    return flat.astype(layout.dtype, copy=False)


def stored_type(data: NDArray[Any]) -> np.dtype[Any]:
    """The little-endian numeric type an array is stored as: a mask as uint8, float16 as float32, others as they are.

    Raises:
        InputError: the values are neither a mask nor plain numbers of 8 to 64 bits.
    """
    if data.dtype == np.bool_:
        return np.dtype(np.uint8)
    if data.dtype == np.float16:
        return np.dtype("<f4")
    if data.dtype.kind not in "iuf" or data.dtype.itemsize > 8:
        raise InputError(f"voxels of type {data.dtype} cannot be stored; wanted a mask, integers, float32 or float64")
    return data.dtype.newbyteorder("<")


def write_array(file: BinaryIO, data: NDArray[Any], encoding: Encoding, prefix: bytes = b"") -> int:
    """Write voxels, first axis fastest, as `stored_type`; the same array gives the same bytes.

    Args:
        file: open for writing in binary mode.
        data: (I, J, K) array in any memory order.
        encoding: ``raw``, ``gzip`` or ``zlib``.
        prefix: bytes that are encoded before the voxels (a NIfTI header lies inside the gzip stream).

    Returns:
        Number of bytes written.
    """
    if encoding == "raw":
        return sum(file.write(piece) for piece in (prefix, *_pieces(data)))
    coder = isal_zlib.compressobj(COMPRESSION_LEVEL, wbits=_GZIP_WBITS if encoding == "gzip" else _ZLIB_WBITS)
    count = file.write(coder.compress(prefix))
    for piece in _pieces(data):
        count += file.write(coder.compress(piece))
    return count + file.write(coder.flush())


def _pieces(data: NDArray[Any]) -> Iterator[Any]:  # buffers of bytes
    kind = stored_type(data)
    plane = max(1, data.shape[0] * data.shape[1] * kind.itemsize)
    step = max(1, SLAB // plane)
    for start in range(0, data.shape[2], step):
        slab = np.asfortranarray(data[:, :, start : start + step])
        slab = slab.view(np.uint8) if slab.dtype == np.bool_ else slab.astype(kind, order="F", copy=False)
        yield slab.reshape(-1, order="F").view(np.uint8).data
