"""The cases that ``calvaria data import-clinical`` left in a folder, as other cases are read."""

from __future__ import annotations

import csv
from pathlib import Path

from calvaria.clinical.importing import CASES, INDEX, INDEX_COLUMNS, POPULATION, RECORD, REFUSED, REPORT
from calvaria.datasets.catalog import SkullCase
from calvaria.errors import FormatError, InputError

KIND = "clinical"
"""The kind of defect that these cases carry."""


def read_clinical(folder: str | Path) -> list[SkullCase]:
    """Every usable case of an imported clinical set.

    Args:
        folder: what `import_clinical` wrote.

    Returns:
        Cases in the table's order, of kind "clinical": ``defective``, ``patch`` and ``implant`` are masks on one grid
        in the canonical frame; ``patch`` or ``implant`` may be None, ``complete`` always is. Empty if none was usable.

    Raises:
        InputError: the folder holds no imported set, or a file of a case is gone.
        FormatError: the index is damaged.
    """
    folder = Path(folder)
    index = folder / INDEX
    if not index.is_file():
        raise InputError(f"{folder}: no {INDEX} in it; calvaria data import-clinical TABLE -o {folder.name} makes one")
    with index.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    cases = []
    for row in rows:
        if set(row) != set(INDEX_COLUMNS) or None in row.values():
            raise FormatError(f"{index.name}: damaged: its columns are not those that import-clinical writes")
        files = {name: folder / row[name] if row[name] else None for name in ("defective", "patch", "implant")}
        gone = [path.name for path in files.values() if path is not None and not path.is_file()]
        if gone or files["defective"] is None:
            raise InputError(f"{row['id']}: {', '.join(gone) or 'defective'} is gone from {folder}; import it again")
        cases.append(SkullCase(row["id"], row["person"], kind=KIND, **files))
    return cases


__all__ = ["CASES", "INDEX", "KIND", "POPULATION", "RECORD", "REFUSED", "REPORT", "read_clinical"]
