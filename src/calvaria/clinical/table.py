"""The table of a clinical set: which files belong to a case, as a CSV that a spreadsheet can write.

Columns, in any order, in capitals or not; ``id``, ``skull`` and one of ``implant`` and ``patch`` must be there:

| column | what |
| --- | --- |
| id | the case's name, and its folder's: letters a-z, digits, ``.``, ``_`` and ``-`` |
| skull | the defective skull: a CT or a mask |
| kind | ``ct``, ``mask``, or ``auto`` (by its values; also when empty) |
| implant | what was made to be put in: a closed mesh (STL, PLY, OBJ) or a mask |
| patch | the bone that is missing: a closed mesh or a mask |
| person | equal for all cases of one human being; the id when empty |
| convention | where the meshes' coordinates begin and point to, if a person has to say it; tested when empty |
| notes | free text; not read |

Files are named relative to the table's folder. Absolute paths and ``..`` are followed: the table is its user's own, and
nothing is written where it points. Commas, semicolons or tabs separate; UTF-8 with or without a mark, UTF-16 and
Windows' Latin are read, and so are a first line ``sep=;``, empty lines and any line ends.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from calvaria.errors import FormatError, InputError
from calvaria.files import PathLike, require_file

COLUMNS = ("id", "skull", "kind", "implant", "patch", "person", "convention", "notes")
"""The columns that are known; others are warned about and left alone."""

KINDS_OF_SKULL = ("auto", "mask", "ct")
"""What the column ``kind`` may hold."""

SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""An id becomes a folder's name on any system, and a word in tables."""

_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class ClinicalRow:
    """One usable row.

    Args:
        line: where it stands in the table, the first line is 1.
        id: the case's name.
        skull: an existing file: CT or mask.
        kind: one of ``KINDS_OF_SKULL``.
        implant: an existing file, or None.
        patch: an existing file, or None; at least one of the two is given.
        person: equal for all cases of one human being.
        convention: name of the meshes' convention, or None where it is to be found.
    """

    line: int
    id: str
    skull: Path
    kind: str
    implant: Path | None
    patch: Path | None
    person: str
    convention: str | None = None


@dataclass(frozen=True)
class Refusal:
    """A case that was not taken, and why.

    Args:
        id: as in the table; may be empty.
        line: where it stands in the table.
        reason: one line.
    """

    id: str
    line: int
    reason: str

    @property
    def name(self) -> str:
        """What to call the case in a message."""
        return self.id or f"line {self.line}"


@dataclass(frozen=True)
class ClinicalTable:
    """What a table holds.

    Args:
        rows: the usable rows, in the table's order.
        refused: rows that cannot be used.
        warnings: what else was odd; stops nothing.
    """

    rows: tuple[ClinicalRow, ...]
    refused: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()


def read_table(path: PathLike) -> ClinicalTable:
    """Read a table of clinical cases.

    A row is refused, and the others go on, if it has no id, an id that another row has too (both are refused: nobody
    knows which is right; capitals make no difference, for folders on many systems do not tell them apart), an id that
    is no name for a folder, no skull, neither implant nor patch, a file that is not there, an unknown kind, or more
    cells than the table has columns.

    Args:
        path: the CSV.

    Returns:
        Usable and refused rows, and warnings.

    Raises:
        InputError: there is no such file, a column is missing or named twice, or there is no row.
        FormatError: the file is no text table.
    """
    path = require_file(path)
    text, warnings = _decoded(path)
    columns, lines = _split(path.name, text)
    unknown = [name for name in columns if name and name not in COLUMNS]
    if unknown:
        warnings.append(f"{path.name}: unknown columns are left out: {', '.join(unknown)}")
    cells = [(number, _row(columns, values), len(values) > len(columns)) for number, values in lines]
    count = Counter(values["id"].casefold() for _, values, _ in cells)
    rows, refused = [], []
    for number, values, is_longer in cells:
        try:
            _check_id(values["id"], count)
            if is_longer:
                raise InputError(
                    f"the row has more than {len(columns)} cells; put text that contains the separator in quotes"
                )
            rows.append(_usable(number, values, path.parent))
        except InputError as error:
            refused.append(Refusal(values["id"], number, str(error)))
    return ClinicalTable(tuple(rows), tuple(refused), tuple(warnings))


def _decoded(path: Path) -> tuple[str, list[str]]:
    """The text of a table, whatever program wrote it."""
    data = path.read_bytes()
    if data.startswith(b"PK\x03\x04"):
        raise FormatError(f"{path.name}: this is a workbook or an archive; save the sheet as CSV")
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            return data.decode("utf-16"), []
        if b"\x00" in data:
            raise FormatError(f"{path.name}: this is no text; a CSV is wanted")
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
        return text, [f"{path.name}: not UTF-8; read as Windows Latin, check names with accents"]


def _split(name: str, text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns, and the rows with their line numbers; empty lines are left out."""
    stated = re.match(r"sep=(.)\r?\n", text)
    begin = stated.end() if stated else 0
    heading = next((line for line in text[begin:].splitlines() if line.strip()), "")
    delimiter = stated.group(1) if stated else max(_DELIMITERS, key=heading.count)
    reader = csv.reader(io.StringIO(text[begin:], newline=""), delimiter=delimiter)
    try:
        found = [
            (reader.line_num + bool(stated), [v.strip() for v in values])
            for values in reader
            if any(map(str.strip, values))
        ]
    except csv.Error as error:
        raise FormatError(f"{name}: not a CSV: {error}") from error
    columns = [value.casefold() for value in found[0][1]] if found else []
    missing = [column for column in ("id", "skull") if column not in columns]
    if missing or not {"implant", "patch"} & set(columns):
        wanted = ", ".join(missing) or "implant or patch"
        raise InputError(
            f"{name}: the first line must name the columns, and {wanted} is missing; "
            f"found {', '.join(columns) or 'nothing'}"
        )
    twice = [column for column, times in Counter(columns).items() if column and times > 1]
    if twice:
        raise InputError(f"{name}: the column {twice[0]} occurs twice; remove one")
    if len(found) == 1:
        raise InputError(f"{name}: the table has no row below its first line")
    return columns, found[1:]


def _row(columns: list[str], values: list[str]) -> dict[str, str]:
    """Cells by column; those that are not there are empty."""
    cells = dict.fromkeys(COLUMNS, "")
    cells.update(zip(columns, values, strict=False))
    return cells


def _check_id(case: str, count: Mapping[str, int]) -> None:
    if not case:
        raise InputError("the id is empty; give the case a name")
    if count[case.casefold()] > 1:
        raise InputError(f"the id {case} occurs {count[case.casefold()]} times; give each case its own")
    if not SAFE_ID.fullmatch(case) or case.endswith("."):
        raise InputError(
            f"the id {case!r} cannot be a folder's name; use up to 64 letters a-z, digits, '.', '_' and '-'"
        )


def _usable(line: int, values: Mapping[str, str], folder: Path) -> ClinicalRow:
    kind = values["kind"].casefold() or "auto"
    if kind not in KINDS_OF_SKULL:
        raise InputError(f"the kind of the skull is one of {', '.join(KINDS_OF_SKULL)}; got {values['kind']!r}")
    if not values["skull"]:
        raise InputError("no skull is named; give a CT or a mask")
    skull, implant, patch = (_file(values[name], folder, name) for name in ("skull", "implant", "patch"))
    if skull is None or (implant is None and patch is None):
        raise InputError("neither an implant nor a patch is named; give at least one")
    person, convention = values["person"] or values["id"], values["convention"].casefold() or None
    return ClinicalRow(line, values["id"], skull, kind, implant, patch, person, convention)


def _file(name: str, folder: Path, column: str) -> Path | None:
    """An existing file by its name in the table; None for an empty cell."""
    if not name:
        return None
    path = folder / name
    if not path.exists() and "\\" in name:  # written on Windows
        path = folder / name.replace("\\", "/")
    try:
        return require_file(path)
    except InputError as error:
        raise InputError(f"{column}: {error}; paths are relative to the table's folder") from error


__all__ = ["COLUMNS", "KINDS_OF_SKULL", "ClinicalRow", "ClinicalTable", "Refusal", "read_table"]
