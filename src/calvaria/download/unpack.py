"""Archives from strangers: unpacked inside one folder, within stated limits, whole or not at all.

An archive can name files outside its folder, carry links that lead there, or hold a few kilobytes that grow until the
disk is full (a "bomb"). So: plain files and folders only, no absolute path and no "..", names that no two systems
take for one another, sizes counted while they are written (headers lie), into a new folder beside that takes its
name at the end. Archives inside archives stay packed.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from calvaria.download.progress import BytesDone, untold
from calvaria.download.safe_folder import BLOCK_BYTES, Limits, SafeFolder
from calvaria.errors import FormatError, InputError
from calvaria.files import require_file

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""Names of archives; what a file is, its first bytes say."""

HEADER_BYTES = 2**20
"""Longest extended header of a tar that is read: paths and dates take a few hundred bytes."""

NOT_PLAIN = "a link or a device: only files and folders are unpacked"

ENCRYPTED = 0x1
"""Bit of a zip entry's flags (APPNOTE 4.4.4)."""

DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, struct.error, UnicodeError)
"""What the standard library raises for archives that are not whole."""


@dataclass(frozen=True)
class Unpacked:
    """What came out of an archive.

    Args:
        folder: where it lies.
        files: how many files.
        size_bytes: their length together.
    """

    folder: Path
    files: int
    size_bytes: int


def is_archive(path: Path) -> bool:
    """Whether a file is an archive by its name.

    >>> is_archive(Path("training_set.ZIP")), is_archive(Path("000.nrrd"))
    (True, False)
    """
    return path.name.lower().endswith(SUFFIXES)


def archive_stem(path: Path) -> str:
    """An archive's name without what makes it one.

    >>> archive_stem(Path("in/skulls.tar.gz")), archive_stem(Path("v1.2.zip"))
    ('skulls', 'v1.2')
    """
    suffix = max((s for s in SUFFIXES if path.name.lower().endswith(s)), key=len, default=path.suffix)
    return path.name[: len(path.name) - len(suffix)] or path.name


def unpack(
    archive: Path,
    folder: Path,
    *,
    limits: Limits | None = None,
    progress: BytesDone = untold,
) -> Unpacked:
    """Unpack a zip or tar (plain, gzip, bzip2, xz) into a folder of its own.

    A single top folder that is called like ``folder`` is not doubled: ``x.zip`` with ``x/a`` in it gives ``x/a`` in
    ``x``'s parent. What desktops add (``__MACOSX`` and the like) is left out.

    Args:
        archive: the file; it is not changed.
        folder: made by this call; there must be nothing in its place but an empty folder.
        limits: how far it may grow; None takes the defaults.
        progress: called with every block: bytes of the archive (tar) or of its content (zip).

    Raises:
        FormatError: the archive is damaged, truncated, encrypted, of another kind, holds anything but files and
            folders, or names that lead outside or collide; or it grows beyond the limits.
        InputError: there is no such archive, something lies in the folder's place, or the disk is too full.
    """
    archive = require_file(archive)
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise InputError(f"{folder}: something is in the way; move it away, and {archive.name} is unpacked anew")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-unfinished-", dir=folder.parent))
        try:
            root = made / "content"  # mkdtemp's own folder is closed to everybody else
            root.mkdir()
            writer = SafeFolder(root, archive.name, archive.stat().st_size, limits or Limits())
            with _damage_named(archive.name):
                _fill(archive, writer, progress)
            if folder.exists():
                folder.rmdir()
            _without_double(root, folder.name).replace(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise InputError(f"{folder}: {archive.name} cannot be unpacked there: {error.strerror or error}") from error
    return Unpacked(folder, writer.files, writer.size_bytes)


def _without_double(root: Path, name: str) -> Path:
    """The folder that takes the name: the only one inside, if that is what it is called already."""
    inside = list(root.iterdir())
    if len(inside) == 1 and inside[0].is_dir() and inside[0].name.casefold() == name.casefold():
        return inside[0]
    return root


@contextmanager
def _damage_named(name: str) -> Iterator[None]:
    """Turn what the standard library raises for archives that are not whole into one line."""
    try:
        yield
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk; gzip and bzip2 raise OSError without a number for bad data
        reason = str(error) or type(error).__name__
        raise FormatError(f"{name}: damaged or truncated ({reason}): download it again") from error
    except (NotImplementedError, RuntimeError) as error:
        raise FormatError(f"{name}: packed in a way that is not read here ({error}): unpack it by hand") from error


def _fill(archive: Path, writer: SafeFolder, progress: BytesDone) -> None:
    with archive.open("rb") as raw:
        head = raw.read(tarfile.BLOCKSIZE)
        is_zip = zipfile.is_zipfile(raw)
        raw.seek(0)
        if is_zip:
            _fill_from_zip(raw, writer, progress)
        elif (stream := _tar_stream(head, raw)) is not None:
            _fill_from_tar(_Counted(stream, raw, writer, progress), writer)
        else:
            found = "a zip whose end is missing" if head.startswith(b"PK") else "neither a zip nor a tar"
            raise FormatError(f"{archive.name}: {found}: download it again")


def _fill_from_zip(raw: IO[bytes], writer: SafeFolder, progress: BytesDone) -> None:
    with zipfile.ZipFile(raw) as source:
        members = source.infolist()
        whole = sum(info.file_size for info in members)
        writer.expect(whole)
        for info in members:
            name = info.filename.replace("\\", "/")  # some Windows programs write it so
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise FormatError(f"{writer.archive}: {name} is {NOT_PLAIN}")
            if info.flag_bits & ENCRYPTED:
                raise FormatError(f"{writer.archive}: {name} is encrypted: unpack it by hand with its password")
            if name.endswith("/") or kind == stat.S_IFDIR:
                writer.add_folder(name)
                continue
            with source.open(info) as content:
                written = writer.add_file(name, content, lambda: progress(writer.size_bytes, whole))
            if written != info.file_size:
                raise zipfile.BadZipFile(f"{name} has {written} bytes, {info.file_size} are promised")


def _fill_from_tar(stream: _Counted, writer: SafeFolder) -> None:
    writer.expect(stream.packed_bytes)
    # Mode "r:": the stream is plain by now, and each read comes with its size, which _Counted looks at.
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:") as tar:
        while (member := tar.next()) is not None:
            if member.isdir():
                writer.add_folder(member.name)
            elif member.isreg() and (content := tar.extractfile(member)) is not None:
                writer.add_file(member.name, content, lambda: None)
            else:
                raise FormatError(f"{writer.archive}: {member.name} is {NOT_PLAIN}")
        # A tar ends with blocks of zeros; tarfile takes one that was cut between two files for whole.
        stream.seek(tar.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("the end is missing")
        while stream.read(BLOCK_BYTES):  # the checksum of a compressed stream stands at its very end
            pass


def _tar_stream(head: bytes, raw: IO[bytes]) -> IO[bytes] | None:
    """The plain tar inside, recognised by the first bytes; None if it is none."""
    if head.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    if head.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    if head.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMAFile(raw)
    return raw if head[257:262] == b"ustar" else None


class _Counted:
    """A plain tar that is read in order: what comes out of the compression is counted before tarfile sees it.

    tarfile trusts its input: it reads an extended header of any length at once, and skips by reading.
    """

    def __init__(self, stream: IO[bytes], raw: IO[bytes], writer: SafeFolder, progress: BytesDone) -> None:
        self._stream, self._raw, self._writer, self._progress = stream, raw, writer, progress
        self.packed_bytes = os.fstat(raw.fileno()).st_size

    def tell(self) -> int:
        """Bytes of the plain tar before the next one."""
        return self._stream.tell()

    def seek(self, position: int) -> int:
        """Go to a byte of the plain tar."""
        self._writer.require_within(position)
        return self._stream.seek(position)

    def read(self, size: int) -> bytes:
        """The next bytes, fewer at the end."""
        if not 0 <= size <= HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        block = self._stream.read(size)
        self._writer.require_within(self._stream.tell())
        self._progress(self._raw.tell(), self.packed_bytes)
        return block


__all__ = ["Limits", "Unpacked", "archive_stem", "is_archive", "unpack"]
