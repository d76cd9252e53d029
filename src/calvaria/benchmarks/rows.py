"""Rows of a benchmark as a CSV file: dataclasses whose fields are numbers, texts and booleans."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from calvaria.errors import FormatError
from calvaria.files import write_csv

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    AnyRow = TypeVar("AnyRow", bound=DataclassInstance)

Tell = Callable[[str], None]
"""Takes one line for the user."""


def read_table(path: Path, kind: type[AnyRow], what: str) -> list[AnyRow]:
    """Rows of a file, none if it is not there.

    Args:
        path: the CSV file.
        kind: a dataclass whose fields are ``float``, ``bool`` or ``str``.
        what: the file should hold, for the message.

    Raises:
        FormatError: it is no such table.
    """
    if not path.exists():
        return []
    kinds = {field.name: field.type for field in fields(kind)}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if set(reader.fieldnames or ()) != set(kinds):
            raise FormatError(f"{path.name}: not a table of {what}; name another file")
        return [kind(**{name: _value(kinds[name], text) for name, text in line.items()}) for line in reader]


def write_table(path: Path, kind: type[AnyRow], rows: Iterable[AnyRow]) -> None:
    """Write the file anew; it appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in fields(kind)]
    write_csv(path, names, ([getattr(row, name) for name in names] for row in rows))


def _value(kind: object, text: str) -> Any:
    if kind == "float":
        return float(text)
    return text == "True" if kind == "bool" else text


__all__ = ["Tell", "read_table", "write_table"]
