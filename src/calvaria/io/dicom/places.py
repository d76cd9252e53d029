"""Where the files of a study lie: a folder and what is below it, a zip, one file. Nothing is ever unpacked to disk."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from calvaria.errors import FormatError, InputError
from calvaria.files import PathLike

MAX_FILES = 20_000
"""More files than this are no study of one head: a long perfusion series has 10,000."""

MAX_UNPACKED_BYTES = 4 << 30
"""What a zip may hold in all, unpacked: 8,000 slices of 512 x 512."""

MAX_RATIO = 200
"""A zip of more than `SMALL_BYTES` that grows by more than this holds no CT: noise does not shrink so."""

SMALL_BYTES = 256 << 20
"""Up to this size a zip may grow by any factor: it does no harm."""

MAX_FILE_BYTES = 2 << 30
"""Of one file: an enhanced CT of 4,000 frames."""

BUFFER_BYTES = 1 << 16
"""Read at a time out of a zip: jumps back inside of it, as parsers make them, cost nothing."""

DICM = b"DICM"
"""What stands at byte 128 of a DICOM file."""

DIRECTORY_NAME = "DICOMDIR"
"""The table of contents of a medium; the files themselves lie below its folder."""

_FIRST_ELEMENTS = (0x0000, 0x0001, 0x0005, 0x0008)
"""Of group 8: one of these is the first of a file without that mark."""

BROKEN_ZIP: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,  # a method of compression that Python does not know
    RuntimeError,  # an encrypted member
)
"""What Python raises for a damaged or foreign zip."""


@dataclass(frozen=True, eq=False)
class Place:
    """One file, on disk or in a zip.

    Args:
        path: on disk; None in a zip.
        archive: the zip, while it is open.
        member: its entry there.
        size: bytes, unpacked.
    """

    size: int
    path: Path | None = field(default=None, repr=False)
    archive: zipfile.ZipFile | None = field(default=None, repr=False)
    member: zipfile.ZipInfo | None = field(default=None, repr=False)

    def open(self) -> BinaryIO:
        """The bytes from the first on; can seek.

        Raises:
            OSError: and others of `BROKEN_ZIP`: it cannot be read.
        """
        if self.archive is not None and self.member is not None:
            return io.BufferedReader(self.archive.open(self.member), BUFFER_BYTES)  # type: ignore[type-var]
        if self.path is None:
            raise FileNotFoundError("a place without a file")
        return self.path.open("rb")


@contextmanager
def opened(path: PathLike) -> Iterator[list[Place]]:
    """Every file of a folder and below it, of a zip, or beside a DICOMDIR; or the one file; in order of name.

    Raises:
        InputError: there is no such path, or it may not be read, or there are too many files.
        FormatError: a zip is damaged, encrypted, too large unpacked, or a path in it leads out of it.
    """
    path = Path(path)
    try:
        if path.is_dir():
            yield _below(path)
        elif not path.exists():
            raise InputError(f"{path}: no such file or folder")
        elif is_zip(path):
            with _archive(path) as archive:
                yield _members(path.name, archive)
        elif path.name.upper() == DIRECTORY_NAME:
            yield _below(path.parent)
        else:
            yield [Place(path.stat().st_size, path)]
    except PermissionError as error:
        raise InputError(f"{path}: may not be read: {error.strerror or error}; check its permissions") from error


def is_zip(path: Path) -> bool:
    """Whether a file begins like a zip.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def looks_like_dicom(head: bytes) -> bool:
    r"""Whether a file's first 132 bytes are those of a DICOM file, or may be those of one without a preamble.

    >>> looks_like_dicom(bytes(128) + b"DICM"), looks_like_dicom(b"\x89PNG")
    (True, False)
    """
    return head[128:132] == DICM or _is_bare(head, "<HHI") or _is_bare(head, ">HHI")


def _is_bare(head: bytes, form: str) -> bool:
    """Whether a file begins with an element of group 8, with a kind of value or a length that it may have."""
    if len(head) < struct.calcsize(form):
        return False
    group, element, length = struct.unpack_from(form, head)
    return group == 0x0008 and element in _FIRST_ELEMENTS and (head[4:6] in (b"CS", b"UL") or length < 256)


def holds_dicom(path: Path) -> bool:
    """Whether a path is a DICOM file, a DICOMDIR, a zip with one, or a folder with one somewhere below it.

    Raises:
        InputError: the path may not be read; or files in it may not, and no other is DICOM.
        FormatError: it is a zip that `opened` refuses.
    """
    denied = 0
    with opened(path) as places:
        for place in places:
            try:
                with place.open() as file:
                    if looks_like_dicom(file.read(132)):
                        return True
            except PermissionError:
                denied += 1
            except BROKEN_ZIP:  # a damaged member: another may do
                continue
    if denied:
        raise InputError(
            f"{path}: {denied} files in it may not be read, and no other is DICOM; check their permissions"
        )
    return False


def _below(folder: Path) -> list[Place]:
    """The regular files below a folder; links to folders are not followed."""
    found: list[Place] = []

    def refuse(error: OSError) -> None:
        raise InputError(f"{folder}: may not be read: {error.strerror or error}; check its permissions") from error

    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(root, name)
            if name.startswith(".") or not path.is_file():  # pipes and devices would block
                continue
            found.append(Place(path.stat().st_size, path))
            if len(found) > MAX_FILES:
                raise InputError(f"{folder}: more than {MAX_FILES} files; give the folder of one study")
    return found


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except BROKEN_ZIP as error:
        raise FormatError(f"{path.name}: the zip is damaged or truncated; make it again") from error
    with archive:
        yield archive


def _members(name: str, archive: zipfile.ZipFile) -> list[Place]:
    """The files of a zip that is safe to read.

    Raises:
        FormatError: it is not.
    """
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > MAX_FILES:
        raise FormatError(f"{name}: {len(entries)} files in the zip, at most {MAX_FILES} are read; zip one study")
    unpacked = sum(entry.file_size for entry in entries)
    packed = max(1, sum(entry.compress_size for entry in entries))
    if unpacked > MAX_UNPACKED_BYTES or (unpacked > SMALL_BYTES and unpacked > MAX_RATIO * packed):
        raise FormatError(
            f"{name}: the zip would grow from {packed / 1e6:.1f} MB to {unpacked / 1e6:.0f} MB, which is not done "
            f"(limits: {MAX_UNPACKED_BYTES >> 30} GB, and {MAX_RATIO} times); unpack it and give the folder"
        )
    for entry in entries:
        parts = PurePosixPath(entry.filename.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or entry.filename[1:2] == ":":
            raise FormatError(f"{name}: a path in the zip leads out of it; it is not read")
        if entry.flag_bits & 1:
            raise FormatError(f"{name}: the zip is encrypted; unpack it and give the folder")
    return [
        Place(entry.file_size, archive=archive, member=entry)
        for entry in sorted(entries, key=lambda entry: entry.filename)
    ]


__all__ = ["BROKEN_ZIP", "DICM", "MAX_FILE_BYTES", "Place", "holds_dicom", "is_zip", "looks_like_dicom", "opened"]
