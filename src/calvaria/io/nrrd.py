"""NRRD in and out: http://teem.sourceforge.net/nrrd/format.html.

Read: one 3-D scalar volume, attached or detached, raw, text, gzip or bzip2. Written: gzip, little endian, in
left-posterior-superior, with numbers that come back exactly.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import FormatError, GeometryError, InputError
from calvaria.io.frames import lps_grid, no_orientation, spacing_columns
from calvaria.io.stream import Encoding, Layout, read_array, stored_type, write_array
from calvaria.io.units import mm_per_unit, quoted_words
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

MAGIC = b"NRRD000"

MAX_HEADER = 1 << 20
"""Bytes that are searched for the end of a text header."""

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_DTYPE_OF = {name: code for code, names in _TYPES.items() for name in names}
_ENCODING_OF: dict[str, Encoding] = {
    "raw": "raw",
    **dict.fromkeys(("txt", "text", "ascii"), "text"),
    **dict.fromkeys(("gz", "gzip"), "gzip"),
    **dict.fromkeys(("bz2", "bzip2"), "bzip2"),
}
_FRAME_OF = {
    "left-posterior-superior": "LPS",
    "lps": "LPS",
    "right-anterior-superior": "RAS",
    "ras": "RAS",
    "left-anterior-superior": "LAS",
    "las": "LAS",
}

Fields = dict[str, str]


def read(path: Path, orientation: str | None = None) -> Volume:
    """Read a NRRD file (``.nrrd``, or ``.nhdr`` with its data file).

    Args:
        path: an existing file that begins with the magic of NRRD.
        orientation: the frame of the header's coordinates, used only where the header does not name it.

    Raises:
        FormatError: the header or the data cannot be used.
        GeometryError: the directions are missing, singular or without a named frame.
    """
    fields, end = _header(path)
    shape, axes = _shape(path.name, fields)
    grid = _grid(path.name, fields, shape, axes, orientation)
    return Volume(read_array(_layout(path, fields, shape, end)), grid)


def is_detached(path: Path) -> bool:
    """Whether a header says that its voxels lie in another file."""
    return "datafile" in _header(path)[0]


def write(path: Path, volume: Volume) -> None:
    """Write a volume as NRRD (gzip, little endian, LPS)."""
    grid = volume.grid
    kind = stored_type(volume.data)
    lines = [
        "NRRD0004",
        "# calvaria",
        f"type: {_TYPES[kind.str[1:]][-1] if kind.kind != 'f' else _TYPES[kind.str[1:]][0]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {grid.shape[0]} {grid.shape[1]} {grid.shape[2]}",
        "space directions: " + " ".join(_vector(grid.affine[:3, a]) for a in range(3)),
        "kinds: domain domain domain",
        *(["endian: little"] if kind.itemsize > 1 else []),
        "encoding: gzip",
        "space origin: " + _vector(grid.affine[:3, 3]),
    ]
    with path.open("wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode("ascii"))
        write_array(file, volume.data, "gzip")


def _vector(values: NDArray[np.float64]) -> str:
    return "(" + ",".join(repr(float(v)) for v in values) + ")"


def _header(path: Path) -> tuple[Fields, int]:
    """The fields, names in lower case without spaces, and where the header ends."""
    with path.open("rb") as file:
        block = file.read(MAX_HEADER)
    blank = re.search(rb"\r?\n\r?\n", block)
    if blank is None and len(block) == MAX_HEADER:
        raise FormatError(f"{path.name}: the NRRD header does not end; there is no blank line in its first megabyte")
    end = blank.end() if blank else len(block)
    fields: Fields = {}
    for line in block[: blank.start() if blank else end].decode("latin-1").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if line.startswith("#") or not line.strip() or value.startswith("="):
            continue
        if not colon:
            if fields.get("datafile", "").startswith("LIST"):
                break  # names of files follow
            raise FormatError(f"{path.name}: line {line[:60]!r} of the NRRD header is not 'field: value'")
        fields[re.sub(r"\s", "", name.lower())] = value.strip()
    missing = [name for name in ("type", "dimension", "sizes", "encoding") if name not in fields]
    if missing:
        raise FormatError(f"{path.name}: the NRRD header has no field {missing[0]!r}")
    return fields, end


def _whole(name: str, fields: Fields, field: str, default: str) -> list[int]:
    text = fields.get(field, default)
    numbers = [int(word) for word in text.split() if re.fullmatch(r"[+-]?\d{1,18}", word)]
    if not numbers or len(numbers) != len(text.split()):
        raise FormatError(f"{name}: NRRD field {field!r} must be whole numbers; found {text[:60]!r}")
    return numbers


def _shape(name: str, fields: Fields) -> tuple[tuple[int, int, int], list[int]]:
    """The three sizes, and which of the file's axes they are (axes of one sample are left out)."""
    sizes = _whole(name, fields, "sizes", "")
    if _whole(name, fields, "dimension", "") != [len(sizes)]:
        raise FormatError(f"{name}: NRRD dimension {fields['dimension']} does not fit the sizes {fields['sizes']}")
    axes = list(range(len(sizes)))
    if len(sizes) > 3:
        axes = [a for a in axes if sizes[a] != 1]
    if len(axes) != 3:
        raise FormatError(
            f"{name}: one 3-D volume is wanted; found {len(sizes)} axes of {fields['sizes']} samples "
            "(a single slice, a sequence, or several channels); export one scalar volume"
        )
    if min(sizes) < 1:
        raise FormatError(f"{name}: NRRD sizes must be positive; found {fields['sizes']}")
    i, j, k = (sizes[a] for a in axes)
    return (i, j, k), axes


def _vectors(name: str, fields: Fields, field: str) -> list[list[float] | None]:
    """Vectors in parentheses; None for the word ``none``."""
    text = fields.get(field, "")
    found: list[list[float] | None] = []
    for word in re.findall(r"\([^()]*\)|[^\s()]+", text):
        try:
            found.append(None if word == "none" else [float(number) for number in word[1:-1].split(",")])
        except ValueError as error:
            raise FormatError(f"{name}: NRRD field {field!r} is not a list of vectors: {text[:80]!r}") from error
    return found


def _grid(name: str, fields: Fields, shape: tuple[int, int, int], axes: list[int], orientation: str | None) -> Grid:
    space = fields.get("space")
    frame = _FRAME_OF.get((space or "").lower()) or orientation
    if "spacedirections" not in fields:
        return _grid_from_spacings(name, fields, shape, axes, frame)
    if frame is None:
        found = f"its space is {space!r}" if space else "it has space directions but no anatomical space"
        raise no_orientation(name, f"the NRRD header names no anatomical frame ({found})")
    every = _vectors(name, fields, "spacedirections")
    origins = _vectors(name, fields, "spaceorigin")
    directions = [every[a] for a in axes if a < len(every)]
    _refuse_units_of_axes(name, fields, axes)
    if len(directions) != 3 or any(d is None or len(d) != 3 for d in directions):
        raise GeometryError(f"{name}: three space directions of three numbers are wanted; found {every}")
    if not origins:
        raise GeometryError(f"{name}: the NRRD header has no space origin, so the place of the head is unknown")
    if len(origins) != 1 or origins[0] is None or len(origins[0]) != 3:
        raise GeometryError(f"{name}: the space origin must be three numbers; found {fields['spaceorigin']!r}")
    unit = _space_units(name, fields)
    columns = np.array(directions, dtype=np.float64).T * unit[:, None]
    return lps_grid(name, shape, columns, np.array(origins[0]) * unit, frame)


def _space_units(name: str, fields: Fields) -> NDArray[np.float64]:
    """(3,) mm that one unit of each of the world's coordinates has."""
    words = quoted_words(fields.get("spaceunits", ""))
    if words and len(words) != 3:
        raise GeometryError(f"{name}: three space units are wanted; found {fields['spaceunits'][:60]!r}")
    return np.array([mm_per_unit(name, "space units", word) for word in words or ("", "", "")])


def _refuse_units_of_axes(name: str, fields: Fields, axes: list[int]) -> None:
    """Raise where an axis with a direction has a unit of its own that is not mm; the format forbids it."""
    words = quoted_words(fields.get("units", ""))
    for word in (words[a] for a in axes if a < len(words)):
        if mm_per_unit(name, "units", word) != 1.0:
            raise GeometryError(
                f"{name}: the header has space directions and units {fields['units'][:60]!r}, which cannot both be "
                "meant; say the unit of the directions as 'space units', or export the file again in mm"
            )


def _grid_from_spacings(
    name: str, fields: Fields, shape: tuple[int, int, int], axes: list[int], frame: str | None
) -> Grid:
    if "spacings" not in fields:
        raise GeometryError(
            f"{name}: the NRRD header has no space directions and no spacings, so left and right are unknown, and the "
            "size of a voxel, too; export the file again with them"
        )
    if frame is None:
        raise no_orientation(name, "the NRRD header has no space directions (only spacings)")
    try:
        every = [float(word) for word in fields["spacings"].split()]
    except ValueError as error:
        raise FormatError(f"{name}: NRRD spacings must be numbers; found {fields['spacings'][:60]!r}") from error
    words = quoted_words(fields.get("units", ""))
    if words and len(words) != len(every):
        raise GeometryError(f"{name}: a unit for each spacing is wanted; found {fields['units'][:60]!r}")
    # What is said of the space stands for axes that have no unit of their own.
    space = _space_units(name, fields)
    own = [mm_per_unit(name, "units", words[a]) if words and words[a] else 0.0 for a in axes if a < len(every)]
    factors = np.where(own, own, space) if len(own) == 3 else np.ones(len(own))
    columns = spacing_columns(name, np.array([every[a] for a in axes if a < len(every)]) * factors)
    origins = _vectors(name, fields, "spaceorigin")
    origin = origins[0] if origins and origins[0] is not None and len(origins[0]) == 3 else (0.0, 0.0, 0.0)
    return lps_grid(name, shape, columns, np.array(origin) * space, frame)


def _layout(path: Path, fields: Fields, shape: tuple[int, int, int], end: int) -> Layout:
    name = path.name
    code = _DTYPE_OF.get(fields["type"].lower())
    if code is None:
        raise FormatError(f"{name}: voxels of NRRD type {fields['type']!r} are not read; wanted plain numbers")
    encoding = _ENCODING_OF.get(fields["encoding"].lower())
    if encoding is None:
        raise FormatError(f"{name}: NRRD encoding {fields['encoding']!r} is not read; wanted raw, text, gzip or bzip2")
    endian = fields.get("endian", "").lower()
    if endian not in ("little", "big") and not (code[1] == "1" or encoding == "text"):
        raise FormatError(f"{name}: the NRRD header must say endian: little or big; found {endian or 'nothing'!r}")
    data_path, offset = _data_file(path, fields, end)
    lines = _whole(name, fields, "lineskip", "0")[0]
    skip = _whole(name, fields, "byteskip", "0")[0]
    if lines < 0 or skip < -1 or (skip == -1 and encoding != "raw"):
        raise FormatError(f"{name}: line skip {lines} or byte skip {skip} has no meaning for {encoding} data")
    offset = _after_lines(name, data_path, offset, lines)
    at_end = skip == -1
    if encoding == "raw":  # teem: bytes are skipped in the file if raw, after expansion if compressed
        offset, skip = offset + max(skip, 0), 0
    dtype: np.dtype[Any] = np.dtype((">" if endian == "big" else "<") + code)
    return Layout(name, data_path, dtype, shape, encoding, offset, skip, at_end)


def _data_file(path: Path, fields: Fields, end: int) -> tuple[Path, int]:
    detached = fields.get("datafile")
    if detached is None:
        return path, end
    if detached.startswith("LIST") or "%" in detached:
        raise FormatError(f"{path.name}: its voxels are spread over several files; export it as one .nrrd file")
    data_path = path.parent / detached
    if not data_path.is_file():
        raise InputError(f"{path.name}: its data file {detached!r} is not there; keep both files in one folder")
    return data_path, 0


def _after_lines(name: str, path: Path, offset: int, count: int) -> int:
    with path.open("rb") as file:
        file.seek(offset)
        for _ in range(count):
            if not file.readline(MAX_HEADER):
                raise FormatError(f"{name}: truncated: the data end within the {count} lines to be skipped")
        return file.tell()
