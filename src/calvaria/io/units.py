"""Lengths in a file's own units to millimetres: which words are known, and what is refused.

A file that says centimetres and is read as millimetres gives a patch a thousandth as large, without a word. So a unit
that is said is obeyed or refused; a unit that is not said is mm, as DICOM, ITK and 3D Slicer have it.
"""

from __future__ import annotations

import re
from contextlib import suppress

from calvaria.errors import GeometryError

_WORDS = {
    1.0: ("mm", "millimeter", "millimetre", "millimeters", "millimetres"),
    0.001: ("um", "μm", "micron", "microns", "micrometer", "micrometre", "micrometers", "micrometres"),
    10.0: ("cm", "centimeter", "centimetre", "centimeters", "centimetres"),
    100.0: ("dm", "decimeter", "decimetre", "decimeters", "decimetres"),
    1000.0: ("m", "meter", "metre", "meters", "metres"),
    25.4: ("in", "inch", "inches"),
}
MM_PER_UNIT = {word: mm for mm, words in _WORDS.items() for word in words}
"""Words for a unit of length, in lower case, and the mm that one of it has. The sign of micro is the Greek letter."""

NOT_SAID = ("", "?", "???")
"""What teem and MetaIO write where a unit is unknown."""


def mm_per_unit(name: str, field: str, word: str) -> float:
    """How many mm one of a file's units has; 1 where the file does not say the unit.

    Args:
        name: the file's name, for messages.
        field: the field of its header, for messages.
        word: the unit as it stands there, in any case.

    Raises:
        GeometryError: it is no unit of length that is known.

    >>> mm_per_unit("a.nrrd", "space units", "cm"), mm_per_unit("a.nrrd", "space units", "")
    (10.0, 1.0)
    """
    plain = word.strip().casefold()
    if plain in NOT_SAID:
        return 1.0
    if plain not in MM_PER_UNIT:
        raise GeometryError(
            f"{name}: the field {field!r} says {word.strip()[:40]!r}, which is no unit of length that is known "
            "(mm, um, cm, m, in); correct the header, or export the file again in mm"
        )
    return MM_PER_UNIT[plain]


def quoted_words(text: str) -> list[str]:
    """The words of a list, whether they are quoted, bare, in brackets or with commas between.

    >>> quoted_words('"mm" "" "mm"'), quoted_words("mm mm mm"), quoted_words("['mm', 'cm', 'mm']")
    (['mm', '', 'mm'], ['mm', 'mm', 'mm'], ['mm', 'cm', 'mm'])
    """
    with suppress(UnicodeError):  # headers are decoded byte by byte; the sign of micro is two bytes of UTF-8
        text = text.encode("latin-1").decode("utf-8")
    found = re.findall(r"\"([^\"]*)\"|'([^']*)'|([^\s,\[\]()\"']+)", text)
    return ["".join(parts) for parts in found]


__all__ = ["MM_PER_UNIT", "mm_per_unit", "quoted_words"]
