"""Implants of many holes, checked by means of their own: voxels of 0.25 mm and collisions of meshes.

::

    calvaria benchmark implants --data ROOT -o implants.csv

Skulls are completed and implants designed as the program does it. What comes out is then held against bone's mesh by
what had no part in the design: common voxels, and fcl's collisions of the moved mesh. The design's own checks stand
beside.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from calvaria.benchmarks.cases import BENCHMARK_KINDS, OFFICIAL, Task, build
from calvaria.benchmarks.reconstruction import peak_mb
from calvaria.benchmarks.rows import Tell, read_table, write_table
from calvaria.errors import CalvariaError, InputError, MissingExtraError, one_line
from calvaria.implant.checks import (
    CLEARANCE_LEAST,
    CLEARANCE_MEAN,
    CLEARANCE_SHARE,
    MIN_SHARE,
    OUTER_STEP,
    STEP_MM,
    THICKNESS_SHARE,
    WATERTIGHT,
    check,
)
from calvaria.implant.measure import near_bone, outer_area_mm2
from calvaria.implant.parts import Design, Part
from calvaria.implant.settings import ImplantSettings
from calvaria.jobs import DIED, Countdown, in_processes
from calvaria.volume.grid import Grid
from calvaria.volume.mesh import extract_surface
from calvaria.volume.volume import Volume
from calvaria.volume.voxelise import voxelise

KINDS = (*(kind for kind in BENCHMARK_KINDS if kind != OFFICIAL), "hemicraniectomy")
"""Holes that are looked at by default."""

VOXEL_MM = 0.25
"""Voxels in which common volume is counted."""

STEP_ALONG_MM = 1.0
"""Of the moved mesh, on its way in."""

SLAB_VOXELS = 24_000_000
"""That are held at once."""

DIGITS = 12
"""Of a hash that stand in the table of rows."""


@dataclass(frozen=True)
class Row:
    """What came of one hole. Of several implants, area is the sum and all else that of the worst.

    Args:
        case: case id.
        person: person id.
        kind: of the hole.
        settings: the beginning of a hash of the design's parameters; rows of others are computed anew.
        area_cm2: of the outer surfaces.
        parts: number of implants.
        watertight: whether each is a solid.
        overlap_025_ml: voxels of 0.25 mm whose centres lie in an implant's mesh and in bone's.
        clearance_share_within_02: percent of the rim whose clearance is within 0.2 mm of what was asked for.
        clearance_min: smallest clearance, mm.
        clearance_mean: mean clearance, mm.
        thickness_share_within_02: percent of the body, off its rim, whose thickness is.
        insertable: whether no implant's mesh meets bone's at any step of its way in.
        rim_step_p95_mm: step from implant to bone along the rim, 95th percentile.
        failed: checks of the design that failed, with "; " between them.
        seconds: wall time of the design.
        peak_mb: most memory that the process held up to then, 10^6 bytes.
        error: why it failed, in one line; empty if it did not.
    """

    case: str
    person: str
    kind: str
    settings: str
    area_cm2: float = math.nan
    parts: float = math.nan
    watertight: bool = False
    overlap_025_ml: float = math.nan
    clearance_share_within_02: float = math.nan
    clearance_min: float = math.nan
    clearance_mean: float = math.nan
    thickness_share_within_02: float = math.nan
    insertable: bool = False
    rim_step_p95_mm: float = math.nan
    failed: str = ""
    seconds: float = math.nan
    peak_mb: float = math.nan
    error: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes a row the only one of its sort."""
        return self.case, self.kind, self.settings


Designer = Callable[[Volume, ImplantSettings], tuple[Design, float]]
"""Defective skull and parameters -> the checked design, and the seconds that it took."""


def design_of(defective: Volume, settings: ImplantSettings) -> tuple[Design, float]:
    """Complete a skull and design its implants, as the program does it.

    Raises:
        InputError: no hole was found, or no implant can be made.
    """
    pipeline: Any = import_module("calvaria.pipeline")
    result = pipeline.reconstruct(defective, kind="mask")
    if not result.patch.mask.any():
        raise InputError("no hole was found, so there is no implant to design")
    began = time.perf_counter()
    design: Design = pipeline.design(result, settings)
    design = design if design.checks else check(design)
    return design, time.perf_counter() - began


class _Todo(NamedTuple):
    task: Task
    settings: ImplantSettings


def require_fcl() -> None:
    """Raise where collisions of meshes cannot be found.

    Raises:
        MissingExtraError: python-fcl is not installed.
    """
    try:
        import_module("fcl")
    except ImportError:
        raise MissingExtraError(
            "the way in is checked by python-fcl, which is not installed: pip install python-fcl"
        ) from None


def settings_digest(settings: ImplantSettings) -> str:
    """What stands in a row for parameters."""
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:DIGITS]


def row_of(task: Task, settings: ImplantSettings, designer: Designer | None = None) -> Row:
    """Design the implants of one hole and check them.

    Args:
        task: the skull and its hole.
        settings: parameters of the design.
        designer: designs; None: :func:`design_of`.

    Returns:
        Its row; whatever goes wrong is named in it, nothing is raised but interruptions.
    """
    case = task.case
    names = (case.id, case.person, task.kind, settings_digest(settings))
    try:
        design, seconds = (designer or design_of)(build(task)[0], settings)
        return Row(*names, **figures_of(design), seconds=seconds, peak_mb=peak_mb())
    except Exception as error:  # one bad case must not end a run of hours; it is named, counted and shown
        text = str(error) if isinstance(error, CalvariaError) else f"{type(error).__name__}: {error}"
        return Row(*names, error=one_line(text) or "unnamed")


def figures_of(design: Design) -> dict[str, Any]:
    """What a row holds of a checked design."""
    failed = dict.fromkeys(one.name for one in design.checks if one.verdict == "fail")
    return {
        "area_cm2": sum(outer_area_mm2(part) for part in design.parts) / 100,
        "parts": float(len(design.parts)),
        "watertight": bool(_values(design, WATERTIGHT)) and all(_values(design, WATERTIGHT)),
        "overlap_025_ml": max((common_ml(part, design.bone) for part in design.parts), default=math.nan),
        "clearance_share_within_02": min(_values(design, CLEARANCE_SHARE), default=math.nan),
        "clearance_min": min(_values(design, CLEARANCE_LEAST), default=math.nan),
        "clearance_mean": min(_values(design, CLEARANCE_MEAN), default=math.nan),
        "thickness_share_within_02": min(_values(design, THICKNESS_SHARE), default=math.nan),
        "insertable": bool(design.parts)
        and all(insertable(part, design.bone, design.settings.travel_mm) for part in design.parts),
        "rim_step_p95_mm": max(_values(design, OUTER_STEP), default=math.nan),
        "failed": "; ".join(failed),
    }


def _values(design: Design, name: str) -> list[float]:
    """What was measured under a name, of every implant."""
    return [float(one.value) for one in design.checks if one.name == name and isinstance(one.value, bool | int | float)]


def common_ml(part: Part, bone: Volume) -> float:
    """Volume that lies in an implant's mesh and in bone's mesh, counted in voxels of 0.25 mm, ml.

    Args:
        part: the implant.
        bone: mask of the defective skull.

    Raises:
        InputError: the implant's mesh is open.
    """
    mesh = part.mesh
    host = extract_surface(near_bone(bone, mesh.vertices_mm, 3.0))
    low, high = mesh.vertices_mm.min(axis=0) - VOXEL_MM, mesh.vertices_mm.max(axis=0) + VOXEL_MM
    i, j, k = (int(n) + 1 for n in np.ceil((high - low) / VOXEL_MM))
    whole = Grid.isotropic((i, j, k), VOXEL_MM, low)
    layers = max(1, SLAB_VOXELS // (j * k))
    common = 0
    for first in range(0, i, layers):
        slab = whole.crop((slice(first, min(first + layers, i)), slice(0, j), slice(0, k)))
        common += int(np.count_nonzero(voxelise(mesh, slab).mask & voxelise(host, slab).mask))
    return common * VOXEL_MM**3 / 1000


def insertable(part: Part, bone: Volume, travel_mm: float) -> bool:
    """Whether an implant's mesh never meets bone's mesh on its way in.

    Args:
        part: the implant; it moves along its direction.
        bone: mask of the defective skull.
        travel_mm: length of the way, which is gone in steps of 1 mm.

    Raises:
        MissingExtraError: python-fcl is not installed.
    """
    require_fcl()
    from trimesh import Trimesh

    # Trimesh has no types here.
    collision: Any = import_module("trimesh.collision")
    mesh = part.mesh
    ends = np.concatenate([mesh.vertices_mm, mesh.vertices_mm - travel_mm * part.direction])
    manager = collision.CollisionManager()
    for name, one in (("bone", extract_surface(near_bone(bone, ends, 2.0))), ("implant", mesh)):
        manager.add_object(name, Trimesh(one.vertices_mm, one.faces, process=False))
    moved = np.eye(4)
    for way in np.arange(0.0, travel_mm + STEP_ALONG_MM / 2, STEP_ALONG_MM):
        moved[:3, 3] = -way * part.direction
        manager.set_transform("implant", moved)
        if manager.in_collision_internal():
            return False
    return True


def run(tasks: Sequence[Task], settings: ImplantSettings, output: Path, *, jobs: int = 1, tell: Tell) -> list[Row]:
    """Run what the file does not hold yet, and write each row as soon as it is there.

    Args:
        tasks: skulls and their holes.
        settings: parameters of the designs.
        output: the CSV file; rows of other tasks and parameters in it stay, failed ones are run again.
        jobs: skulls at a time.
        tell: takes a line of progress a hole, with the time left.

    Returns:
        The rows of all tasks, in their order.

    Raises:
        FormatError: the file is no such table.
        MissingExtraError: python-fcl is not installed.
    """
    require_fcl()
    rows = {row.key: row for row in read_table(output, Row, "implants") if not row.error}
    digest = settings_digest(settings)
    todo = [_Todo(task, settings) for task in tasks if (task.case.id, task.kind, digest) not in rows]
    if len(todo) < len(tasks):
        tell(f"{len(tasks) - len(todo)} of {len(tasks)} holes are in {output.name} already")
    clock = Countdown(len(todo))
    for one, row in in_processes(_done, todo, jobs, lost=_lost):
        rows[row.key] = row
        write_table(output, Row, rows.values())
        said = f": FAILED, {row.error}" if row.error else f": {row.failed} failed" if row.failed else ""
        tell(f"[{clock.step()}] {one.task.case.id} {one.task.kind}{said}")
    return [rows[task.case.id, task.kind, digest] for task in tasks]


def _done(one: _Todo) -> Row:
    return row_of(one.task, one.settings)


def _lost(one: _Todo) -> Row:
    """The row of a hole whose process died."""
    case = one.task.case
    return Row(case.id, case.person, one.task.kind, settings_digest(one.settings), error=DIED)


PASSES: dict[str, Callable[[Row], bool]] = {
    "solid": lambda row: row.watertight,
    "no overlap": lambda row: row.overlap_025_ml == 0,
    "clearance": lambda row: row.clearance_share_within_02 >= 100 * MIN_SHARE,
    "thickness": lambda row: row.thickness_share_within_02 >= 100 * MIN_SHARE,
    "goes in": lambda row: row.insertable,
    "step": lambda row: row.rim_step_p95_mm <= STEP_MM,
    "no fail": lambda row: not row.failed,
}
"""What the table counts, by the heading of its column; errors pass nothing."""

FIGURES = {
    "overlap ml": ("overlap_025_ml", max, 4),
    "clearance %": ("clearance_share_within_02", min, 1),
    "least mm": ("clearance_min", min, 2),
    "thickness %": ("thickness_share_within_02", min, 1),
    "step mm": ("rim_step_p95_mm", max, 2),
    "s": ("seconds", max, 1),
    "MB": ("peak_mb", max, 0),
}
"""Mean and worst of these, by the heading: the field of a row, what the worst is, digits."""


def table(rows: Sequence[Row]) -> list[str]:
    """Lines: by kind of hole and for all, how many pass what, then mean and worst figures; then what failed."""
    lines = [
        "Percent that pass: solid; no common voxel of 0.25 mm; clearance and thickness within 0.2 mm on 95 %; no "
        "collision of meshes on the way in; step at the rim; no check failed.",
        f"{'kind':<16} {'n':>3} {'error':>5}  {'  '.join(f'{name:>10}' for name in PASSES)}",
    ]
    kinds = list(dict.fromkeys(row.kind for row in rows))
    groups = [(kind, [row for row in rows if row.kind == kind]) for kind in kinds]
    groups += [("all", list(rows))] if len(kinds) > 1 else []
    lines += [_shares(name, some) for name, some in groups]
    lines += ["", "Mean, worst", f"{'kind':<16}  {'  '.join(f'{name:>14}' for name in FIGURES)}"]
    lines += [_figures(name, some) for name, some in groups]
    bad = [row for row in rows if row.error or row.failed]
    lines += [""] if bad else []
    return [*lines, *(f"FAILED: {row.case} {row.kind}: {row.error or row.failed}" for row in bad)]


def _shares(name: str, rows: Sequence[Row]) -> str:
    good = [row for row in rows if not row.error]
    shares = (100 * sum(map(passes, good)) / len(rows) for passes in PASSES.values())
    return f"{name:<16} {len(rows):>3} {len(rows) - len(good):>5}  {'  '.join(f'{share:>10.0f}' for share in shares)}"


def _figures(name: str, rows: Iterable[Row]) -> str:
    cells = []
    for field, worst, digits in FIGURES.values():
        values = [value for row in rows if math.isfinite(value := float(getattr(row, field)))]
        text = f"{math.fsum(values) / len(values):.{digits}f} {worst(values):.{digits}f}" if values else ""
        cells.append(f"{text:>14}")
    return f"{name:<16}  {'  '.join(cells)}"


__all__ = [
    "KINDS",
    "Row",
    "common_ml",
    "design_of",
    "figures_of",
    "insertable",
    "require_fcl",
    "row_of",
    "run",
    "settings_digest",
    "table",
]
