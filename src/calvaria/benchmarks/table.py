"""Rows of a benchmark: their CSV file, and the table per kind of defect."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from calvaria.errors import FormatError, one_line
from calvaria.files import write_text


@dataclass(frozen=True)
class Row:
    """What one reconstruction scored and cost.

    Args:
        case: case id.
        person: person id.
        kind: kind of defect.
        model: the engine.
        patch_ml: volume of the true patch.
        dsc: Dice overlap.
        bdsc: border Dice.
        hd95_mm: pooled 95 % Hausdorff distance; infinite for an empty prediction.
        volume_error_percent: predicted minus true volume in percent of the true one.
        overlap_voxels: predicted voxels in the defective skull.
        seconds: wall time; of the whole command if it was run as one, else of the call.
        cpu_seconds: processor time of the same.
        peak_mb: most memory, 10^6 bytes: of the command, else of the worker up to then.
        holes: number of holes found; -1 where not known.
        misfit_mm: how far the completed surface is off the known bone near the hole.
        area_cm2: area of the holes found.
        frontal_share: share of the patch in the frontal floor.
        voxel_mm: longest edge of the skull's voxels.
        expected_dsc: what was expected before the truth was known; NaN if nothing was.
        outer_mm: mean distance between the predicted and the true outer surface; NaN in older files.
        error: why it failed, in one line; empty if it did not. The figures of a failed row are NaN.
    """

    case: str
    person: str
    kind: str
    model: str
    patch_ml: float = math.nan
    dsc: float = math.nan
    bdsc: float = math.nan
    hd95_mm: float = math.nan
    volume_error_percent: float = math.nan
    overlap_voxels: int = 0
    seconds: float = math.nan
    cpu_seconds: float = math.nan
    peak_mb: float = math.nan
    holes: int = -1
    misfit_mm: float = math.nan
    area_cm2: float = math.nan
    frontal_share: float = math.nan
    voxel_mm: float = math.nan
    expected_dsc: float = math.nan
    outer_mm: float = math.nan
    error: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes a row the only one of its sort: case, kind and model."""
        return self.case, self.kind, self.model


COLUMNS = tuple(field.name for field in fields(Row))
_OLD_COLUMNS = tuple(name for name in COLUMNS if name not in {"outer_mm", "voxel_mm"})
_TYPES = {"int": int, "float": float, "str": str}


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV file; none when it does not exist.

    A last line that was cut off by an interruption is dropped.

    Raises:
        FormatError: the file is no benchmark's CSV.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    reader = csv.DictReader(lines)
    if lines and tuple(reader.fieldnames or ()) not in (COLUMNS, _OLD_COLUMNS):
        raise FormatError(
            f"{path.name}: the columns are not those of a benchmark ({', '.join(COLUMNS)}); choose another -o"
        )
    kinds = {field.name: str(field.type) for field in fields(Row)}
    try:
        return [Row(**{name: _TYPES[kinds[name]](text) for name, text in line.items()}) for line in reader]
    except (TypeError, ValueError) as error:
        raise FormatError(f"{path.name}: a line is damaged ({error}); delete it, or choose another -o") from None


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a CSV file anew, whole or not at all."""
    write_text(path, _csv(rows, header=True))


def append_row(path: Path, row: Row) -> None:
    """Add one row to a CSV file that :func:`write_rows` wrote."""
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(_csv([row]))


def _csv(rows: Iterable[Row], header: bool = False) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    for row in rows:
        values = asdict(row) | {"error": one_line(row.error)}
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in values.items()})
    return text.getvalue()


def summary(rows: Sequence[Row]) -> str:
    """The table: one line for each kind, and one for the synthetic kinds together when there are several.

    Args:
        rows: of one model. Failed rows are counted, not averaged; a patch that was left empty counts with DSC 0 and an
            infinite HD95, so it shows. The mean of the volume's error is the bias: above 0 patches are too thick.

    Returns:
        Lines of text; only the header for no rows.
    """
    head = f"{'kind':<16} {'n':>3} {'fail':>4}  " + "  ".join(
        f"{name:<30}"
        for name in ("DSC mean sd worst median", "bDSC mean sd worst median", "HD95 mm mean sd worst median")
    )
    lines = [f"{head}  {'volume % mean sd':<16}  {'outer mm':>8}  {'s':>6} {'CPU s':>6} {'MB':>6}"]
    kinds = list(dict.fromkeys(row.kind for row in rows))
    lines += [_line(kind, [row for row in rows if row.kind == kind]) for kind in kinds]
    synthetic = [row for row in rows if row.kind != "official"]
    if len({row.kind for row in synthetic}) > 1:
        lines.append(_line("all synthetic", synthetic))
    return "\n".join(lines)


def _line(name: str, rows: Sequence[Row]) -> str:
    good = [row for row in rows if not row.error]
    line = f"{name:<16} {len(rows):>3} {len(rows) - len(good):>4}"
    if not good:
        return line
    dsc, bdsc, hd95 = ([getattr(row, name) for row in good] for name in ("dsc", "bdsc", "hd95_mm"))
    figures = [_figures(dsc, min(dsc)), _figures(bdsc, min(bdsc)), _figures(hd95, max(hd95))]
    costs = (
        f"{np.mean([row.seconds for row in good]):6.1f} {np.mean([row.cpu_seconds for row in good]):6.1f} "
        f"{max(row.peak_mb for row in good):6.0f}"
    )
    volume = np.array([row.volume_error_percent for row in good])
    spread = volume.std(ddof=1) if len(volume) > 1 else math.nan
    outer = f"{volume.mean():+7.2f} {spread:8.2f}  {np.mean([row.outer_mm for row in good]):8.3f}"
    return f"{line}  {'  '.join(f'{text:<30}' for text in figures)}  {outer}  {costs}"


def _figures(values: Sequence[float], worst: float) -> str:
    """Mean, standard deviation of the sample, worst and median; infinite values make the mean infinite."""
    mean, median = math.fsum(values) / len(values), float(np.median(values))
    sd = float(np.std(values, ddof=1)) if len(values) > 1 and math.isfinite(mean) else math.nan
    return f"{mean:7.4f} {sd:7.4f} {worst:7.4f} {median:6.4f}"


__all__ = ["COLUMNS", "Row", "append_row", "read_rows", "summary", "write_rows"]
