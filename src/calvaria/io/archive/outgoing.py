"""Which files are sent: those of a folder of results, of any folder, of a zip, or one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from calvaria.errors import FormatError, InputError
from calvaria.io.archive.client import Outgoing
from calvaria.io.dicom.headers import DEFLATED
from calvaria.io.dicom.places import BROKEN_ZIP, DICM, Place, looks_like_dicom, opened

RESULT, RESULTS = "result.json", "dicom"
"""What marks a folder of results, and where its DICOM objects lie."""

DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
"""A DICOMDIR, which says where files lie on a medium; no archive takes it."""


@dataclass(frozen=True)
class Collected:
    """What was found.

    Args:
        files: to be sent.
        damaged: names of DICOM files that cannot be.
        others: number of files that are not DICOM.
    """

    files: tuple[Outgoing, ...]
    damaged: tuple[str, ...]
    others: int


@contextmanager
def collected(path: Path) -> Iterator[Collected]:
    """The DICOM files of a path, for as long as they are needed; to be used within `calvaria.io.dicom.headers.quiet`.

    Args:
        path: a folder of results, any folder, a zip, or a file. Files in a zip, and such without a preamble, are
            copied to a temporary folder.

    Raises:
        InputError: there is none, or it cannot be read.
        FormatError: a zip is not safe to read.
    """
    root = path
    if path.is_dir() and (path / RESULT).is_file():
        root = path / RESULTS
        if not root.is_dir():
            raise InputError(
                f"{path}: these results have no DICOM objects; make them with --dicom, from a DICOM series as input"
            )
    with opened(root) as places, tempfile.TemporaryDirectory(prefix="calvaria-") as copies:
        files: list[Outgoing] = []
        damaged: list[str] = []
        others = 0
        for number, place in enumerate(places):
            name = _name(place, root)
            try:
                found = _outgoing(place, name, Path(copies, f"{number:05d}.dcm"))
            except FormatError:
                damaged.append(name)
                continue
            if found is None:
                others += 1
            else:
                files.append(found)
        if not files:
            more = f" ({len(damaged)} damaged)" if damaged else ""
            raise InputError(f"{path}: no DICOM file to send there{more}; give a folder of results or DICOM files")
        yield Collected(tuple(files), tuple(damaged), others)


def _name(place: Place, root: Path) -> str:
    if place.member is not None:
        return place.member.filename
    if place.path is None:
        return root.name
    return place.path.relative_to(root).as_posix() if root.is_dir() else place.path.name


def _outgoing(place: Place, name: str, copy: Path) -> Outgoing | None:
    """A file as it is sent; None for one that is not DICOM.

    Raises:
        FormatError: it is damaged.
    """
    from pydicom import dcmread

    tags = ["SOPClassUID", "SOPInstanceUID"]
    try:
        with place.open() as file:
            head = file.read(1024)
            if not looks_like_dicom(head):
                return None
            whole = head[128:132] == DICM
            path = place.path if whole and place.path is not None else copy
            if place.path is None:
                file.seek(0)
                with copy.open("wb") as target:
                    shutil.copyfileobj(file, target)
        if not whole:
            dcmread(place.path or copy, force=True).save_as(copy, enforce_file_format=True)
        if DEFLATED in head:
            raise FormatError("deflated")
        found = dcmread(path, stop_before_pixels=True, specific_tags=tags)
        if str(found.file_meta.MediaStorageSOPClassUID) == DIRECTORY_CLASS:
            return None
        uids = str(found.SOPClassUID), str(found.SOPInstanceUID), str(found.file_meta.TransferSyntaxUID)
        return Outgoing(name, path, path.stat().st_size, *uids)
    except FormatError:
        raise
    except BROKEN_ZIP:
        raise FormatError("cannot be read") from None
    except Exception:  # pydicom raises many kinds for damage, some with values of the header in them
        raise FormatError("damaged") from None


__all__ = ["Collected", "collected"]
