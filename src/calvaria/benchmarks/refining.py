"""Symmetry by segmentation against symmetry by registration (Wodzinski et al., table 3), and what else refines a patch.

::

    calvaria benchmark table3 --data ROOT -o table3.csv

Every start, a model's patch or a truth that was made bad on purpose, is scored as it is, after Reg-SN as published
(symmetry alone) and after the program's own refinement, on the same skulls in the same pose.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from calvaria.benchmarks.bad_starts import BAD_STARTS
from calvaria.benchmarks.cases import BENCHMARK_KINDS, Task, build
from calvaria.benchmarks.networks import PRIOR, Model
from calvaria.benchmarks.reconstruction import peak_mb
from calvaria.benchmarks.rows import Tell, read_table, write_table
from calvaria.errors import CalvariaError, one_line
from calvaria.jobs import DIED, Countdown, in_processes
from calvaria.metrics import measure
from calvaria.models import find
from calvaria.reconstruction.engines import load_engine, load_prior
from calvaria.reconstruction.given_patch import prior_for
from calvaria.reconstruction.postprocess import to_patch
from calvaria.reconstruction.protocol import Completion
from calvaria.reconstruction.repose import settle
from calvaria.refinement.refine import PAPER, Settings, refine
from calvaria.skull.canonical import locate
from calvaria.volume.volume import Volume, bounding_box

AS_IT_IS, REG_SN, REFINED = "as it is", "Reg-SN", "refined"
"""What is done with a start: nothing, the paper's method, or the program's own with the shape prior's completion."""

SETTINGS: Mapping[str, Settings | None] = {REG_SN: PAPER, REFINED: None}
"""Of the two refinements."""

KINDS = (*BENCHMARK_KINDS, "hemicraniectomy")
"""Holes that are looked at by default."""

START = "start: "
"""What the name of a bad start begins with; no model is called so."""

DIGITS = 12
"""Of a hash that stand in the table of rows."""

FIGURES = ("dsc", "bdsc", "sdsc_1mm", "sdsc_0.5mm", "hd95_mm", "msd_mm", "border_mm", "asymmetry_mm")
"""What is kept of each patch; the last one of the completed skull. In a row the dot is left out."""


@dataclass(frozen=True)
class Row:
    """What came of one start on one skull.

    Args:
        case: case id.
        person: person id.
        kind: of the hole.
        start: name of the model, or "start: " and how the truth was made bad.
        weights: the beginning of the model's hash; rows of other weights are computed anew.
        way: `AS_IT_IS`, `REG_SN` or `REFINED`.
        method: the beginning of a hash of the refinement's settings and of the shape prior, in whose pose all happens;
            rows of others are computed anew.
        dsc: Dice overlap.
        bdsc: border Dice.
        sdsc_1mm: surface Dice at 1 mm.
        sdsc_05mm: surface Dice at 0.5 mm.
        hd95_mm: pooled 95 % Hausdorff distance; infinite for an empty patch.
        msd_mm: mean surface distance; infinite for an empty patch.
        border_mm: mean distance of the patch's border from the true outer surface; NaN without a border.
        asymmetry_mm: of the completed skull's outer surface, about the pose's plane.
        declined: whether the refinement left the patch as it was.
        mean_mm: displacement of the patch's surface, mean.
        max_mm: ... largest.
        jacobian_min: smallest Jacobian determinant of the displacement.
        symmetry_before: symmetry loss of the skull with the start.
        symmetry_after: ... with the refined patch.
        seconds: wall time of the refinement alone; of a start as it is, of its completion, the pose not counted, and
            NaN for one that was made from the truth.
        cpu_seconds: processor time of the same.
        peak_mb: most memory that the process held up to then, 10^6 bytes.
        error: why it failed, in one line; empty if it did not.
    """

    case: str
    person: str
    kind: str
    start: str
    weights: str
    way: str
    method: str
    dsc: float = math.nan
    bdsc: float = math.nan
    sdsc_1mm: float = math.nan
    sdsc_05mm: float = math.nan
    hd95_mm: float = math.nan
    msd_mm: float = math.nan
    border_mm: float = math.nan
    asymmetry_mm: float = math.nan
    declined: bool = False
    mean_mm: float = math.nan
    max_mm: float = math.nan
    jacobian_min: float = math.nan
    symmetry_before: float = math.nan
    symmetry_after: float = math.nan
    seconds: float = math.nan
    cpu_seconds: float = math.nan
    peak_mb: float = math.nan
    error: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What makes a row the only one of its sort."""
        return self.case, self.kind, self.start, self.weights, self.way, self.method


class Wanted(NamedTuple):
    """One start and what is to be done with it; ``method`` as in a row."""

    start: Model
    way: str
    method: str

    def row(self, task: Task, **figures: Any) -> Row:
        """Its row of a task."""
        case = task.case
        return Row(
            case.id, case.person, task.kind, self.start.name, self.start.weights, self.way, self.method, **figures
        )


def bad_starts() -> list[Model]:
    """The truth made bad in every way, as models without a file."""
    return [Model(f"{START}{name}", "truth", "") for name in BAD_STARTS]


def model_of(name: str) -> Model:
    """A model by name or file.

    Raises:
        InputError: there is none, or it completes no skulls.
    """
    load_engine(name, "cpu")
    info = find(name)
    return Model(info.name, info.sha256[:DIGITS], name)


def wanted_of(starts: Sequence[Model]) -> list[Wanted]:
    """Every start in its three forms."""
    prior = find(PRIOR).sha256
    methods = {AS_IT_IS: prior}
    for way, settings in SETTINGS.items():
        methods[way] = hashlib.sha256(f"{prior} {settings or Settings()!r}".encode()).hexdigest()
    return [Wanted(start, way, method[:DIGITS]) for start in starts for way, method in methods.items()]


class _Clock:
    """Wall and processor time since it was made."""

    def __init__(self) -> None:
        self._began, self._cpu = time.perf_counter(), time.process_time()

    def costs(self) -> dict[str, float]:
        """What of a row is cost."""
        return {
            "seconds": time.perf_counter() - self._began,
            "cpu_seconds": time.process_time() - self._cpu,
            "peak_mb": peak_mb(),
        }


@dataclass(frozen=True, eq=False)
class SkullScene:
    """A skull with its hole in the pose that the shape prior settled; the prior's completion there and its cost."""

    defective: Volume
    truth: Volume
    done: Completion
    costs: Mapping[str, float]


def rows_of(task: Task, wanted: Sequence[Wanted]) -> list[Row]:
    """Starts on one skull with one hole, all in the same pose.

    Args:
        task: the skull and its hole.
        wanted: what is to be done, in the order of the starts.

    Returns:
        A row for each; whatever goes wrong is named in the rows' ``error``, nothing is raised but interruptions.
    """
    # Linear algebra that waits by spinning would be counted as processor time.
    with threadpool_limits(1, user_api="blas"):
        try:
            scene = scene_of(task)
        except Exception as error:  # one bad case must not end a run of hours; it is named, counted and shown
            return [one.row(task, error=_named(error)) for one in wanted]
        rows = []
        for start in dict.fromkeys(one.start for one in wanted):
            rows += _rows_of_start(task, scene, [one for one in wanted if one.start == start])
    return rows


def scene_of(task: Task) -> SkullScene:
    defective, truth = build(task)
    prior = load_prior(PRIOR)
    prior.prepare()
    box = bounding_box(defective.mask)
    skull = defective if box is None else defective.crop(box)
    frame, field, sketch = settle(skull, locate(skull, prior.template), prior)
    began = _Clock()
    done = Completion(frame, field, prior.complete(field, sketch))
    return SkullScene(defective, truth, done, began.costs())


def _rows_of_start(task: Task, scene: SkullScene, wanted: Sequence[Wanted]) -> list[Row]:
    """One start in all forms that are wanted."""
    try:
        patch, costs = patch_of(scene, wanted[0].start)
        figures = figures_of(scene, patch)
    except Exception as error:  # as above
        return [one.row(task, error=_named(error)) for one in wanted]
    rows = []
    for one in wanted:
        try:
            found = {**figures, **costs} if one.way == AS_IT_IS else _refined(scene, patch, one.way, figures)
            rows.append(one.row(task, **found))
        except Exception as error:  # as above
            rows.append(one.row(task, error=_named(error)))
    return rows


def patch_of(scene: SkullScene, start: Model) -> tuple[Volume, Mapping[str, float]]:
    """The patch of a model and its cost, or the truth made bad, which costs nothing."""
    frame, field, soft = scene.done
    if not start.engine:
        return BAD_STARTS[start.name.removeprefix(START)](scene.truth, scene.defective, frame), {}
    if start.engine == PRIOR:
        return to_patch(soft, frame, scene.defective), scene.costs
    engine, began = load_engine(start.engine, "cpu"), _Clock()
    soft = engine.complete(field)
    return to_patch(soft, frame, scene.defective), began.costs()


def _refined(scene: SkullScene, patch: Volume, way: str, figures: Mapping[str, float]) -> dict[str, Any]:
    """The figures of a patch that is refined as `calvaria.pipeline` does it; ``figures`` are those before."""
    done = scene.done
    compared = prior_for(done, patch)[0] if way == REFINED and patch.mask.any() else None
    began = _Clock()
    found = refine(scene.defective, patch, done.frame, compared, SETTINGS[way])
    costs, report = began.costs(), found.report
    moved = patch.with_data(found.patch.mask & ~scene.defective.mask)
    # Scoring takes seconds, and a patch that was declined has its score already.
    same = np.array_equal(moved.mask, patch.mask)
    names = ("declined", "mean_mm", "max_mm", "jacobian_min", "symmetry_before", "symmetry_after")
    return {
        **(figures if same else figures_of(scene, moved)),
        **{name: getattr(report, name) for name in names},
        **costs,
    }


def figures_of(scene: SkullScene, patch: Volume) -> dict[str, float]:
    found = measure(patch, scene.truth, scene.defective, scene.done.frame.plane.reflect)
    return {name.replace(".", ""): found[name] for name in FIGURES}


def _named(error: Exception) -> str:
    text = str(error) if isinstance(error, CalvariaError) else f"{type(error).__name__}: {error}"
    return one_line(text) or "unnamed"


def run(tasks: Sequence[Task], starts: Sequence[Model], output: Path, *, jobs: int = 1, tell: Tell) -> list[Row]:
    """Run what the file does not hold yet, and write each skull's rows as soon as they are there.

    Args:
        tasks: skulls and their holes.
        starts: to be refined.
        output: the CSV file; rows of other tasks, weights and settings in it stay, failed ones are run again.
        jobs: skulls at a time.
        tell: takes a line of progress a skull, with the time left.

    Returns:
        The rows of all tasks and starts, in their order.

    Raises:
        FormatError: the file is no such table.
    """
    rows = {row.key: row for row in read_table(output, Row, "refinements") if not row.error}
    wanted = wanted_of(starts)
    todo = []
    for task in tasks:
        left = [one for one in wanted if one.row(task).key not in rows]
        if left:
            todo.append((task, left))
    if len(todo) < len(tasks):
        tell(f"{len(tasks) - len(todo)} of {len(tasks)} cases are in {output.name} already")
    clock = Countdown(len(todo))
    for (task, _), found in in_processes(_left, todo, jobs, lost=_lost):
        rows |= {row.key: row for row in found}
        write_table(output, Row, rows.values())
        failed = sum(bool(row.error) for row in found)
        tell(f"[{clock.step()}] {task.case.id} {task.kind}{f': {failed} of {len(found)} FAILED' if failed else ''}")
    return [rows[one.row(task).key] for task in tasks for one in wanted]


def _left(todo: tuple[Task, list[Wanted]]) -> list[Row]:
    return rows_of(*todo)


def _lost(todo: tuple[Task, list[Wanted]]) -> list[Row]:
    """The rows of a case whose process died."""
    return [one.row(todo[0], error=DIED) for one in todo[1]]


__all__ = [
    "AS_IT_IS",
    "FIGURES",
    "KINDS",
    "PRIOR",
    "REFINED",
    "REG_SN",
    "START",
    "Row",
    "Wanted",
    "bad_starts",
    "model_of",
    "rows_of",
    "run",
    "wanted_of",
]
