"""What lies in a folder, a zip, beside a DICOMDIR or in a file: the frames of every DICOM image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from calvaria.errors import FormatError
from calvaria.io.dicom.headers import Frame, read_frames
from calvaria.io.dicom.places import Place


@dataclass(frozen=True, eq=False)
class Scan:
    """What was found.

    Args:
        frames: of all images, in order of the files' names.
        others: number of files that are no DICOM images.
        damaged: how often which damage was met.
    """

    frames: tuple[Frame, ...]
    others: int
    damaged: Counter[str]


def scan(places: Sequence[Place]) -> Scan:
    """Read the headers of all files; to be used within `calvaria.io.dicom.headers.quiet`.

    Args:
        places: the files.
    """
    frames: list[Frame] = []
    others, damaged = 0, Counter[str]()
    for place in places:
        try:
            found = read_frames(place)
        except FormatError as error:
            damaged[str(error)] += 1
            continue
        frames += found
        others += not found
    return Scan(tuple(frames), others, damaged)


__all__ = ["Scan", "scan"]
