"""Which studies lie in a folder or a zip: counted, and never called by what says whose they are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from calvaria.errors import InputError
from calvaria.files import PathLike
from calvaria.io.dicom.headers import CT_CLASSES, DEFLATED, HEAD_BYTES, is_localizer, quiet
from calvaria.io.dicom.places import Place, looks_like_dicom, opened
from calvaria.io.dicom.series import MIN_SLICES

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

LAST_TAG = 0x00280010
"""Rows: what stands before it says which study a file belongs to, and whether it is an image."""

_CLASS, _INSTANCE, _IMAGE_TYPE, _MODALITY = 0x00080016, 0x00080018, 0x00080008, 0x00080060
_PERSON = (0x00100020, 0x00100010, 0x00100030)
_STUDY, _SERIES, _SERIES_NUMBER, _FRAMES = 0x0020000D, 0x0020000E, 0x00200011, 0x00280008

ENHANCED = frozenset(CT_CLASSES) - {"1.2.840.10008.5.1.4.1.1.2"}
"""Classes of which one file holds a series."""


@dataclass(frozen=True)
class Study:
    """One patient's study.

    Args:
        number: from 1, in order of the files' names.
        folder: the deepest one that holds all its files, below what was given; may be a patient's name.
        slices: of the CT series that has most of them.
        series: numbers and UIDs of its CT series.
    """

    number: int
    folder: str = field(repr=False)
    slices: int
    series: frozenset[str] = field(repr=False)

    @property
    def shows_a_head(self) -> bool:
        """Whether it has slices enough to be worth a look."""
        return self.slices >= MIN_SLICES


def find_studies(path: PathLike) -> list[Study]:
    """The studies of a folder, a zip, a medium or a file, by the first part of each header.

    Args:
        path: the folder, with any folders in it; a zip; a DICOMDIR; a DICOM file.

    Raises:
        InputError: there is no such path, or it cannot be read.
        FormatError: a zip is damaged, or of a kind that is not read.
        MissingExtraError: pydicom is not installed.
    """
    with quiet(), opened(path) as places:
        root = Path(path) if Path(path).is_dir() else Path(path).parent
        return [_study(number, group, root) for number, group in enumerate(_studies(places), 1)]


def in_study(places: Sequence[Place], number: int | None) -> Sequence[Place]:
    """The files of one study; to be used within `quiet`.

    Args:
        places: all files.
        number: of the study, as `find_studies` counts; None takes all files.

    Raises:
        InputError: there is no such study.
    """
    if number is None:
        return places
    groups = _studies(places)
    if not 0 < number <= len(groups):
        raise InputError(f"there is no study {number}; there are {len(groups)}: see calvaria dicom list")
    return [one.place for one in groups[number - 1]]


def grouped(places: Sequence[Place]) -> list[list[Place]]:
    """The files of each study in the order of `find_studies`; to be used within `quiet`.

    Files that are no images are left out; a file that cannot be read to its rows is, too.
    """
    return [[one.place for one in group] for group in _studies(places)]


@dataclass(frozen=True, eq=False)
class _Head:
    """The first part of a file's header."""

    place: Place
    key: tuple[str, ...] = field(repr=False)
    series: str = field(repr=False)
    number: str
    is_slice: bool
    slices: int


def _studies(places: Sequence[Place]) -> list[list[_Head]]:
    """The images of each study; studies that share a series UID are one, so that the reader sees and refuses that."""
    heads = [head for head in map(_head, places) if head is not None]
    first: dict[object, int] = {}  # a study's key, or a series, -> the group that it belongs to
    parent: list[int] = []

    def group_of(name: object) -> int:
        if name not in first:
            first[name] = len(parent)
            parent.append(len(parent))
        n = first[name]
        while parent[n] != n:
            n = parent[n]
        return n

    for head in heads:
        one, other = sorted((group_of(head.key), group_of(("series", head.series))))
        parent[other] = one
    groups: dict[int, list[_Head]] = {}
    for head in heads:
        groups.setdefault(group_of(head.key), []).append(head)
    return list(groups.values())


def _head(place: Place) -> _Head | None:
    """None for a file that is no DICOM image, or is damaged: the reader says so."""
    from pydicom.filereader import read_partial

    try:
        with place.open() as file:
            head = file.read(HEAD_BYTES)
            if not looks_like_dicom(head) or DEFLATED in head:
                return None
            file.seek(0)
            return _of(place, read_partial(file, stop_when=_is_behind, force=True))
    except Exception:  # whatever a parser makes of bytes that are not what they should be; it may quote a name
        return None


def _of(place: Place, found: Dataset) -> _Head | None:
    """What is needed of a header; None for one of no image."""

    def text(tag: int) -> str:
        """As it is stored: to be compared, and three times as fast as a value."""
        value = found.get_item(tag).value if tag in found else b""
        return value.decode("latin-1").strip(" \0") if isinstance(value, bytes) else ""

    kind, series, frames = text(_CLASS), text(_SERIES), text(_FRAMES)
    if not series or not text(_INSTANCE) or LAST_TAG not in found:
        return None
    is_slice = (
        kind in CT_CLASSES and text(_MODALITY) == "CT" and not is_localizer(text(_IMAGE_TYPE).upper().split("\\"))
    )
    key = (*map(text, _PERSON), text(_STUDY))
    slices = int(frames) if kind in ENHANCED and frames.isdecimal() else 1
    return _Head(place, key, series, text(_SERIES_NUMBER), is_slice, slices)


def _is_behind(tag: Any, vr: str | None, length: int) -> bool:
    return int(tag) > LAST_TAG


def _study(number: int, heads: Sequence[_Head], root: Path) -> Study:
    slices = Counter[str]()
    for head in heads:
        slices[head.series] += head.slices * head.is_slice
    ours = [head for head in heads if slices[head.series]]
    names = frozenset(name for head in ours for name in (head.series, head.number) if name)
    return Study(number, _folder([head.place for head in heads], root), max(slices.values()), names)


def _folder(places: Sequence[Place], root: Path) -> str:
    """The deepest folder that holds all of some files, with slashes; empty where they lie right below the root."""
    parents = {
        PurePosixPath(place.member.filename).parent.as_posix()
        if place.member is not None
        else (place.path or root).parent.relative_to(root).as_posix()
        for place in places
    }
    common = Path(os.path.commonpath(list(parents))).as_posix()
    return "" if common == "." else common


__all__ = ["Study", "find_studies", "grouped", "in_study"]
