"""The whole way with truth: from a scanner's DICOM files to the missing bone, by thickness, tilt and kernel.

::

    calvaria benchmark scans --data ROOT -o scans.csv --ct cranium.nrrd

Heads with known holes are scanned, written as DICOM, read and completed as the program does it, and held against the
truth on the truth's own grid. Beside it stands what comes of the mask itself, so that the loss by scanning is seen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calvaria.benchmarks.rows import Tell, read_table, write_table
from calvaria.benchmarks.scan_heads import MASK, Head, ScanTask, head_of, study_of
from calvaria.errors import CalvariaError, one_line
from calvaria.jobs import DIED, Countdown, in_processes
from calvaria.metrics import Comparison, score
from calvaria.metrics.measures import outer_mm
from calvaria.metrics.surface import nearest_mm, surface_voxels
from calvaria.reconstruction.postprocess import to_patch
from calvaria.types import F32, F64, BoolArray
from calvaria.volume.grid import Grid
from calvaria.volume.resample import resample, resample_mask
from calvaria.volume.volume import Volume, bounding_box

if TYPE_CHECKING:
    from calvaria.pipeline import Reconstruction

VAULT_MM = 25.0
"""Bone of a head is judged above this height of its canonical frame: above brow and temporal floor."""

EVERY = 5
"""Of the surface's voxels, every so many-th is measured; a vault has half a million."""


@dataclass(frozen=True)
class Row:
    """What came of one scan.

    Args:
        case: case id.
        person: person id.
        kind: of hole.
        variant: how it was scanned; "mask": not at all.
        patch_ml: volume of the true patch.
        dsc: Dice overlap of the patch, brought to the truth's grid.
        bdsc: border Dice.
        hd95_mm: pooled 95 % Hausdorff distance; infinite for an empty patch.
        outer_mm: mean distance between the outer surfaces.
        volume_error_percent: patch minus truth in percent of the truth.
        surface_dsc: Dice of the engine's answer cut on the truth's grid, without the voxels of the scan between.
        surface_hd95_mm: and its distance.
        bone_dice: of the vault's bone, as segmented, on the truth's grid.
        bone_volume_percent: its volume minus the true one's in percent.
        bone_mm: mean distance between its surface and the true one, both ways.
        misfit_mm: how far the completed surface is off the known bone near the hole.
        area_cm2: area of the holes found.
        frontal_share: share of the patch in the frontal floor.
        voxel_mm: longest edge of the scan's voxels.
        expected_dsc: what was expected before the truth was known; NaN if nothing was.
        read_seconds: wall time of reading the files.
        seconds: and of completing the skull.
        warnings: that the user got, with "; " between.
        error: why it failed, in one line; empty if it did not.
    """

    case: str
    person: str
    kind: str
    variant: str
    patch_ml: float = math.nan
    dsc: float = math.nan
    bdsc: float = math.nan
    hd95_mm: float = math.nan
    outer_mm: float = math.nan
    volume_error_percent: float = math.nan
    surface_dsc: float = math.nan
    surface_hd95_mm: float = math.nan
    bone_dice: float = math.nan
    bone_volume_percent: float = math.nan
    bone_mm: float = math.nan
    misfit_mm: float = math.nan
    area_cm2: float = math.nan
    frontal_share: float = math.nan
    voxel_mm: float = math.nan
    expected_dsc: float = math.nan
    read_seconds: float = math.nan
    seconds: float = math.nan
    warnings: str = ""
    error: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes a row the only one of its sort."""
        return self.case, self.kind, self.variant


def solve(task: ScanTask, keep: Path | None = None) -> tuple[Reconstruction, float, float]:
    """Scan a head, write it as DICOM, and complete it as the program does it.

    Args:
        task: the head and how it is scanned.
        keep: folder in which scans are kept.

    Returns:
        The result, and the seconds of reading and of completing.

    Raises:
        CalvariaError: the scan cannot be made, or is refused.
    """
    from calvaria.pipeline import reconstruct
    from calvaria.results.case import Clock, reconstructed
    from calvaria.results.settings import Settings

    if task.variant == MASK:
        began = time.perf_counter()
        result = reconstruct(head_of(task, keep).defective, kind="mask")
        return result, 0.0, time.perf_counter() - began
    with study_of(task, keep) as folder:
        clock = Clock()
        result, _ = reconstructed(folder, Settings(), clock=clock, notes=[])
    taken = clock.seconds(result.report.seconds).steps
    return result, taken["read"], taken["reconstruct"]


def row_of(task: ScanTask, keep: Path | None = None) -> Row:
    """Scan, complete and score one head.

    Returns:
        Its row; whatever goes wrong is named in it, nothing is raised but interruptions.
    """
    names = (task.case, task.person, task.kind, task.variant)
    try:
        result, read_seconds, seconds = solve(task, keep)
        figures = figures_of(result, head_of(task, keep))
    except Exception as error:  # one bad case must not end a run of hours; it is named, counted and shown
        text = str(error) if isinstance(error, CalvariaError) else f"{type(error).__name__}: {error}"
        return Row(*names, error=one_line(text) or "unnamed")
    said = one_line("; ".join(result.report.warnings))
    return Row(*names, **figures, read_seconds=read_seconds, seconds=seconds, warnings=said)


def figures_of(result: Reconstruction, head: Head) -> dict[str, Any]:
    """What a row holds of a result, on the grid of what is known."""
    truth, defective = head.patch, head.defective
    answer = _own(resample_mask(result.patch, truth.grid), head)
    compared, said = Comparison(answer, truth, defective), result.confidence
    found = compared.scores
    figures = {
        "patch_ml": truth.volume_ml,
        "dsc": found.dsc,
        "bdsc": found.bdsc,
        "hd95_mm": found.hd95_mm,
        "outer_mm": outer_mm(compared, defective),
        "volume_error_percent": found.volume_error_percent,
        "misfit_mm": said.misfit_mm,
        "area_cm2": said.area_cm2,
        "frontal_share": said.frontal_share,
        "voxel_mm": max(result.defective.grid.spacing_mm),
        "expected_dsc": math.nan if said.expected_dsc is None else said.expected_dsc,
        **_bone_figures(result, defective),
    }
    if result.soft is not None:
        surface = score(_own(to_patch(result.soft, result.frame, defective), head), truth, defective)
        figures |= {"surface_dsc": surface.dsc, "surface_hd95_mm": surface.hd95_mm}
    return figures


def _own(answer: Volume, head: Head) -> Volume:
    """An answer without bone that is there, and without other holes' pieces."""
    return head.of_this_hole(answer.with_data(answer.mask & ~head.defective.mask))


def _bone_figures(result: Reconstruction, true: Volume) -> dict[str, float]:
    """How well bone was segmented, in the vault."""
    box = bounding_box(true.mask, (3, 3, 3))
    if box is None:
        return {}
    grid = true.grid.crop(box)
    vault = _height_mm(grid, result.frame.to_canonical) > VAULT_MM
    there = true.mask[box]
    if result.defective.grid.same_as(true.grid):
        seen = result.defective.mask[box]
    else:
        seen = resample(_fractions(result), grid).data > 0.5  # half of a voxel
    both, one, other = (int(np.count_nonzero(part & vault)) for part in (seen & there, seen, there))
    return {
        "bone_dice": 2 * both / max(one + other, 1),
        "bone_volume_percent": 100.0 * (one - other) / max(other, 1),
        "bone_mm": _apart_mm(seen, there, vault, grid),
    }


def _fractions(result: Reconstruction) -> Volume:
    """Bone's share of the scan's voxels, as the program knows it, around the bone."""
    box = bounding_box(result.defective.mask, (2, 2, 2))
    if box is None or result.scan is None:
        return result.defective.with_data(result.defective.mask.astype(np.float32))
    return result.scan.fraction(result.defective, box)


def _height_mm(grid: Grid, to_canonical: F64) -> F32:
    """(I, J, K) canonical z of a grid's voxels, mm."""
    i, j, k, start = (to_canonical @ grid.affine)[2]
    a, b, c = np.ogrid[: grid.shape[0], : grid.shape[1], : grid.shape[2]]
    across = np.float32(i) * a.astype(np.float32) + np.float32(j) * b.astype(np.float32)
    height: F32 = across + (np.float32(k) * c.astype(np.float32) + np.float32(start))
    return height


def _apart_mm(seen: BoolArray, there: BoolArray, vault: BoolArray, grid: Grid) -> float:
    """Mean distance between two surfaces in the vault, both ways."""
    both = [surface_voxels(one) for one in (seen, there)]
    points = [grid.to_world(one) for one in both]
    judged = [at[vault[tuple(one.T)]][::EVERY] for one, at in zip(both, points, strict=True)]
    apart = np.concatenate([nearest_mm(judged[0], points[1]), nearest_mm(judged[1], points[0])])
    return float(apart.mean()) if len(apart) else math.nan


def run(tasks: Sequence[ScanTask], output: Path, *, keep: Path | None = None, jobs: int = 1, tell: Tell) -> list[Row]:
    """Run what the file does not hold yet, and write each row as soon as it is there.

    Args:
        tasks: heads and how they are scanned.
        output: the CSV file; rows of other tasks in it stay, failed ones are run again.
        keep: folder in which scans are kept, so that another run is quick.
        jobs: scans at a time.
        tell: takes a line of progress a scan, with the time left.

    Returns:
        The rows of all tasks, in their order.

    Raises:
        FormatError: the file is no such table.
        MissingExtraError: pydicom is not installed.
    """
    from calvaria.io.dicom.modules import pydicom_is_here

    pydicom_is_here()
    rows = {row.key: row for row in read_table(output, Row, "scans") if not row.error}
    todo = [task for task in tasks if task.key not in rows]
    if len(todo) < len(tasks):
        tell(f"{len(tasks) - len(todo)} of {len(tasks)} scans are in {output.name} already")
    clock = Countdown(len(todo))
    for task, row in in_processes(partial(_done, keep), todo, jobs, lost=_lost):
        rows[row.key] = row
        write_table(output, Row, rows.values())
        said = f"FAILED, {row.error}" if row.error else f"DSC {row.dsc:.4f} bDSC {row.bdsc:.4f} HD95 {row.hd95_mm:.2f}"
        tell(f"[{clock.step()}] {task.case} {task.kind} {task.variant}: {said}")
    return [rows[task.key] for task in tasks]


def _done(keep: Path | None, task: ScanTask) -> Row:
    return row_of(task, keep)


def _lost(task: ScanTask) -> Row:
    """The row of a scan whose process died."""
    return Row(task.case, task.person, task.kind, task.variant, error=DIED)


Worst = Callable[[Sequence[float]], float]

PATCH: dict[str, tuple[str, Worst, int]] = {
    "DSC": ("dsc", min, 4),
    "surface DSC": ("surface_dsc", min, 4),
    "bDSC": ("bdsc", min, 4),
    "HD95 mm": ("hd95_mm", max, 2),
}
BONE: dict[str, tuple[str, Worst, int]] = {
    "volume %": ("volume_error_percent", lambda values: max(values, key=abs), 1),
    "bone Dice": ("bone_dice", min, 4),
    "bone volume %": ("bone_volume_percent", lambda values: max(values, key=abs), 1),
    "bone mm": ("bone_mm", max, 2),
    "s": ("seconds", max, 1),
}
"""Mean, standard deviation and worst of these stand in the table: the field of a row, what the worst is, digits."""


def table(rows: Sequence[Row]) -> list[str]:
    """Lines: by variant, the patch's figures and what the scan cost of them, then the bone's; then what failed."""
    variants = list(dict.fromkeys(row.variant for row in rows))
    groups = [(name, [row for row in rows if row.variant == name]) for name in variants]
    masks = {(row.case, row.kind): row for row in rows if row.variant == MASK and not row.error}
    lines = [
        "Mean, sd, worst; loss: DSC of the same heads' masks minus that of the scans, mean",
        f"{'variant':<20} {'n':>3} {'error':>5} {'loss':>7}  {'  '.join(f'{name:>23}' for name in PATCH)}",
    ]
    for name, some in groups:
        good = [row for row in some if not row.error]
        lost = [masks[row.case, row.kind].dsc - row.dsc for row in good if (row.case, row.kind) in masks]
        loss = f"{math.fsum(lost) / len(lost):7.4f}" if lost and name != MASK else " " * 7
        cells = "  ".join(f"{text:>23}" for text in _cells(good, PATCH))
        lines.append(f"{name:<20} {len(some):>3} {len(some) - len(good):>5} {loss}  {cells}".rstrip())
    lines += ["", f"{'variant':<20}  {'  '.join(f'{name:>23}' for name in BONE)}"]
    for name, some in groups:
        cells = "  ".join(f"{text:>23}" for text in _cells([row for row in some if not row.error], BONE))
        lines.append(f"{name:<20}  {cells}".rstrip())
    failed = [f"FAILED: {row.case} {row.kind} {row.variant}: {row.error}" for row in rows if row.error]
    return [*lines, *([""] if failed else []), *failed]


def _cells(rows: Sequence[Row], figures: dict[str, tuple[str, Worst, int]]) -> Iterator[str]:
    for field, worst, digits in figures.values():
        values = [value for row in rows if not math.isnan(value := float(getattr(row, field)))]
        if not values:
            yield ""
            continue
        mean = math.fsum(values) / len(values)
        sd = float(np.std(values, ddof=1)) if len(values) > 1 and math.isfinite(mean) else math.nan
        yield f"{mean:.{digits}f} {sd:.{digits}f} {worst(values):.{digits}f}"


__all__ = ["Row", "figures_of", "row_of", "run", "solve", "table"]
