"""MetaImage in and out (``.mha``; ``.mhd`` with its data file is read): https://itk.org/Wiki/ITK/MetaIO/Documentation.

World is LPS. The nine numbers of ``TransformMatrix`` are the directions of the first, second and third axis, one after
the other: the matrix as printed has the axes as its rows (held against SimpleITK in the tests).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import FormatError, GeometryError, InputError
from calvaria.io.frames import lps_grid, no_orientation, spacing_columns
from calvaria.io.stream import Encoding, Layout, read_array, stored_type, write_array
from calvaria.io.units import mm_per_unit
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

MAX_HEADER = 1 << 16
"""Bytes that are searched for the last field of a header."""

LAST_FIELD = "ElementDataFile"

_CODE_OF = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
    "MET_LONG": "i4",  # MetaIO: four bytes on every system
    "MET_ULONG": "u4",
}
_NAME_OF = {code: name for name, code in list(_CODE_OF.items())[:10]}
_SAME = {
    "Rotation": "TransformMatrix",
    "Orientation": "TransformMatrix",
    "Position": "Offset",
    "Origin": "Offset",
    "ElementByteOrderMSB": "BinaryDataByteOrderMSB",
}

Fields = dict[str, str]


def looks_like(head: bytes) -> bool:
    """Whether a file's first bytes are the text of a MetaImage header; there is no magic number."""
    text = head.split(b"\0")[0]
    first = text.lstrip().partition(b"\n")[0]
    return b"=" in first and any(word in text for word in (b"NDims", b"DimSize", LAST_FIELD.encode()))


def read(path: Path, orientation: str | None = None) -> Volume:
    """Read a MetaImage.

    Args:
        path: an existing file that `looks_like` one.
        orientation: the frame of the voxel axes, used only where the header has no TransformMatrix.

    Raises:
        FormatError: the header or the data cannot be used.
        GeometryError: spacing or directions are missing, singular or not positive.
    """
    fields, end = _header(path)
    name = path.name
    fields = without_fourth_axis(name, fields)
    sizes = _numbers(name, fields, "DimSize")
    channels = fields.get("ElementNumberOfChannels", "1")
    if fields.get("NDims") != "3" or len(sizes) != 3 or channels != "1":
        raise FormatError(
            f"{name}: one 3-D volume of one channel is wanted; found NDims {fields.get('NDims')}, "
            f"DimSize {fields['DimSize']}, {channels} channel(s); export one scalar volume"
        )
    if not all(n >= 1 and n.is_integer() for n in sizes.tolist()):
        raise FormatError(f"{name}: DimSize must be positive whole numbers; found {fields['DimSize']}")
    shape = int(sizes[0]), int(sizes[1]), int(sizes[2])
    grid = _grid(name, fields, shape, orientation)
    return Volume(read_array(_layout(path, fields, shape, end)), grid)


def is_detached(path: Path) -> bool:
    """Whether a header says that its voxels lie in another file."""
    return _header(path)[0][LAST_FIELD].upper() != "LOCAL"


def write(path: Path, volume: Volume) -> None:
    """Write a volume as one compressed ``.mha`` file; the grid comes back exactly."""
    grid = volume.grid
    spacing, directions = factor(grid.affine[:3, :3])
    head = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = True",
    ]
    tail = [
        "TransformMatrix = " + _join(directions.T),
        "Offset = " + _join(grid.affine[:3, 3]),
        "CenterOfRotation = 0 0 0",
        "ElementSpacing = " + _join(spacing),
        f"DimSize = {grid.shape[0]} {grid.shape[1]} {grid.shape[2]}",
        f"ElementType = {_NAME_OF[stored_type(volume.data).str[1:]]}",
        f"{LAST_FIELD} = LOCAL",
    ]
    with path.open("wb") as file:
        for size in (0, None):  # the size is known afterwards: its place is kept, then filled in
            known = write_array(file, volume.data, "zlib") if size is None else size
            file.seek(0)
            file.write("\n".join([*head, f"CompressedDataSize = {known:<20d}", *tail, ""]).encode("ascii"))


def factor(columns: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Spacing and directions whose product is exactly the steps between voxels.

    MetaImage stores both apart, and a rounded product would move the grid by a last digit. A spacing a few last digits
    beside the length of a step has directions that multiply back to the very same numbers.

    Args:
        columns: (3, 3) steps between voxels, mm; column a belongs to axis a.

    Returns:
        (3,) spacing, mm, and (3, 3) directions, one column an axis, of length 1 within 1e-12.

    >>> spacing, directions = factor(np.diag([0.4, 0.5, -2.0]))
    >>> spacing.tolist(), directions.diagonal().tolist()
    ([0.4, 0.5, 2.0], [1.0, 1.0, -1.0])
    """
    spacing, directions = np.zeros(3), np.zeros((3, 3))
    for axis in range(3):
        step = columns[:, axis]
        length = float(np.linalg.norm(step))
        near = length + np.spacing(length) * _NEAREST_FIRST
        candidates = np.concatenate(([float(f"{length:.12g}")], near))
        parts = step[None, :] / candidates[:, None]
        exact = (parts * candidates[:, None] == step[None, :]).all(axis=1)
        best = int(np.argmax(exact))
        spacing[axis], directions[:, axis] = candidates[best], parts[best]
    return spacing, directions


_NEAREST_FIRST = np.array(sorted(range(-1000, 1001), key=abs), dtype=np.float64)


def _join(values: NDArray[np.float64]) -> str:
    return " ".join(repr(float(v)) for v in values.ravel())


def _header(path: Path) -> tuple[Fields, int]:
    fields: Fields = {}
    with path.open("rb") as file:
        while file.tell() < MAX_HEADER:
            line = file.readline(MAX_HEADER).decode("latin-1").strip()
            if not line and file.tell() == path.stat().st_size:
                break
            name, equals, value = line.partition("=")
            if not equals:
                if line:
                    raise FormatError(f"{path.name}: line {line[:60]!r} of the MetaImage header is not 'Field = value'")
                continue
            name = name.strip()
            fields[_SAME.get(name, name)] = value.strip()
            if name == LAST_FIELD:
                break
        end = file.tell()
    missing = [name for name in ("NDims", "DimSize", "ElementType", LAST_FIELD) if name not in fields]
    if missing:
        raise FormatError(f"{path.name}: the MetaImage header has no field {missing[0]}")
    return fields, end


def _numbers(name: str, fields: Fields, field: str) -> NDArray[np.float64]:
    try:
        return np.array([float(word) for word in fields[field].split()])
    except ValueError as error:
        raise FormatError(f"{name}: {field} must be numbers; found {fields[field][:60]!r}") from error


def without_fourth_axis(name: str, fields: Fields) -> Fields:
    """The fields of a header without a fourth axis of one sample: a sequence of one volume, as ITK writes it."""
    if fields["NDims"] != "4" or fields["DimSize"].split()[3:] != ["1"]:
        return fields
    kept = dict(fields, NDims="3")
    for field in ("DimSize", "ElementSpacing", "Offset", "CenterOfRotation"):
        if field in fields:
            kept[field] = " ".join(fields[field].split()[:3])
    if "TransformMatrix" in fields:
        matrix = _numbers(name, fields, "TransformMatrix")
        if matrix.shape != (16,):
            raise GeometryError(f"{name}: TransformMatrix must be 16 numbers; found {fields['TransformMatrix']!r}")
        kept["TransformMatrix"] = _join(matrix.reshape(4, 4)[:3, :3])
    return kept


def _is_true(fields: Fields, field: str) -> bool:
    return fields.get(field, "False").lower() in ("true", "1", "t", "y", "yes")


def _grid(name: str, fields: Fields, shape: tuple[int, int, int], orientation: str | None) -> Grid:
    if "ElementSpacing" not in fields:
        raise GeometryError(f"{name}: the header has no ElementSpacing, so the size of a voxel is unknown")
    # MetaIO knows um, mm and cm; ITK's readers pass over them, so such a file is rare, and wrong elsewhere.
    unit = mm_per_unit(name, "DistanceUnits", fields.get("DistanceUnits", ""))
    spacing = np.diag(spacing_columns(name, _numbers(name, fields, "ElementSpacing"))) * unit
    origin = _numbers(name, fields, "Offset") * unit if "Offset" in fields else np.zeros(3)
    if "TransformMatrix" not in fields:
        if orientation is None:
            raise no_orientation(name, "the header has no TransformMatrix")
        directions, frame = np.eye(3), orientation
    else:
        matrix = _numbers(name, fields, "TransformMatrix")
        if matrix.shape != (9,):
            raise GeometryError(f"{name}: TransformMatrix must be nine numbers; found {fields['TransformMatrix']!r}")
        directions, frame = matrix.reshape(3, 3).T, "LPS"
    if origin.shape != (3,):
        raise GeometryError(f"{name}: Offset must be three numbers; found {fields['Offset']!r}")
    return lps_grid(name, shape, directions * spacing, origin, frame)


def _layout(path: Path, fields: Fields, shape: tuple[int, int, int], end: int) -> Layout:
    name = path.name
    code = _CODE_OF.get(fields["ElementType"])
    if code is None:
        raise FormatError(f"{name}: voxels of type {fields['ElementType']} are not read; wanted plain numbers")
    data_file = fields[LAST_FIELD]
    data_path, offset = path, end
    if data_file.upper() != "LOCAL":
        if data_file.startswith("LIST") or "%" in data_file:
            raise FormatError(f"{name}: its voxels are spread over several files; export it as one .mha file")
        data_path, offset = path.parent / data_file, 0
        if not data_path.is_file():
            raise InputError(f"{name}: its data file {data_file!r} is not there; keep both files in one folder")
    encoding: Encoding = "raw"
    if fields.get("BinaryData", "True").lower() == "false":
        encoding = "text"
    elif _is_true(fields, "CompressedData"):
        encoding = "zlib"
    header_size = fields.get("HeaderSize", "0")
    at_end = header_size == "-1" and encoding == "raw"
    if not at_end and not (header_size.isdigit() and len(header_size) < LONGEST_SIZE):
        raise FormatError(f"{name}: HeaderSize {header_size[:20]!r} has no meaning for {encoding} data")
    if not at_end and data_path != path:
        offset += int(header_size)
    order = ">" if _is_true(fields, "BinaryDataByteOrderMSB") else "<"
    return Layout(name, data_path, np.dtype(order + code), shape, encoding, offset, at_end=at_end)


LONGEST_SIZE = 16
"""Digits of a byte count that are accepted."""
