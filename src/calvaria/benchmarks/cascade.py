"""The cascade's tables (Kodym, Spanel and Herout 2021, sections 3.2 and 3.3): patches and implants of test persons.

::

    calvaria benchmark cascade --data ROOT --clinical FOLDER --weights multi-branch=FILE -o cascade.csv

All is done in the pose that the shape prior settles. The shape prior's patch and the implant that parameters make of it
stand beside whatever cascades are named; a learned implant is scored as it is, and designed by the same code.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from calvaria.benchmarks.cases import BENCHMARK_KINDS, Task, build, tasks_of
from calvaria.benchmarks.comparison import persons_seen
from calvaria.benchmarks.networks import PRIOR
from calvaria.benchmarks.refining import DIGITS, _Clock, _named
from calvaria.benchmarks.rows import Tell, read_table, write_table
from calvaria.clinical.loader import KIND as CLINICAL
from calvaria.clinical.loader import read_clinical
from calvaria.datasets.catalog import SkullCase, person_of
from calvaria.datasets.persons import digest_of
from calvaria.datasets.split import load_split
from calvaria.errors import CalvariaError, InputError, one_line
from calvaria.implant.design import design
from calvaria.implant.learned import Solid
from calvaria.implant.parts import Design
from calvaria.implant.settings import ImplantSettings
from calvaria.io.images import read_mask
from calvaria.io.result import sha256_of
from calvaria.jobs import DIED, Countdown, in_processes
from calvaria.metrics import measure
from calvaria.models import find
from calvaria.models.registry import load_about
from calvaria.reconstruction.engines import load_engine, load_prior
from calvaria.reconstruction.networks.cascade_engine import Answer, CascadeEngine
from calvaria.reconstruction.postprocess import surface_of, to_patch
from calvaria.reconstruction.protocol import Completion, SoftField
from calvaria.reconstruction.repose import settle
from calvaria.skull.canonical import locate
from calvaria.volume.resample import resample
from calvaria.volume.volume import Volume, bounding_box
from calvaria.volume.voxelise import voxelise

PATCH, IMPLANT, DESIGN = "patch", "implant", "designed"
"""What of a method a row is about: the missing bone; the implant as it was learned; the finished implant."""

PARAMETRIC = "parametric"
"""The method that designs an implant for the shape prior's patch."""

FIGURES = ("dsc", "bdsc", "hd95_mm", "msd_mm", "outer_mm", "border_mm", "border_curvature_mse_mm4")
"""What is kept of each comparison with the truth; see `calvaria.metrics`."""


@dataclass(frozen=True)
class Row:
    """What came of one method on one skull. Without a truth of its sort, its figures are NaN.

    Args:
        case: case id.
        person: person id.
        kind: of the hole; "clinical" of a case with an implant.
        what: `PATCH`, `IMPLANT` or `DESIGN`.
        method: name of the model, `PRIOR` or `PARAMETRIC`.
        weights: the beginning of the model's hash; rows of other weights are computed anew.
        setup: the beginning of a hash of the shape prior, the design's parameters and the case's file; likewise.
        dsc: Dice overlap with the true patch, or with the true implant.
        bdsc: border Dice.
        hd95_mm: pooled 95 % Hausdorff distance; infinite where there is nothing.
        msd_mm: mean surface distance; infinite where there is nothing.
        outer_mm: mean distance of the outer surfaces; infinite where there is nothing.
        border_mm: mean distance of the border from the true outer surface; NaN without a border.
        border_curvature_mse_mm4: mean squared difference of Gaussian curvature along the border.
        checks: of a design that were made.
        failed: those that failed, with "; " between them; or "refused: " and why no implant was made.
        seconds: wall time of completion or design, the pose not counted.
        cpu_seconds: processor time of the same.
        peak_mb: most memory that the process held up to then, 10^6 bytes.
        error: why it failed, in one line; empty if it did not.
    """

    case: str
    person: str
    kind: str
    what: str
    method: str
    weights: str
    setup: str
    dsc: float = math.nan
    bdsc: float = math.nan
    hd95_mm: float = math.nan
    msd_mm: float = math.nan
    outer_mm: float = math.nan
    border_mm: float = math.nan
    border_curvature_mse_mm4: float = math.nan
    checks: float = math.nan
    failed: str = ""
    seconds: float = math.nan
    cpu_seconds: float = math.nan
    peak_mb: float = math.nan
    error: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What makes a row the only one of its sort."""
        return self.case, self.kind, self.what, self.method, self.weights, self.setup


class Method(NamedTuple):
    """A cascade or the shape prior: its name here, the beginning of its hash, what `load_engine` takes, its heads."""

    name: str
    weights: str
    engine: str
    branches: tuple[str, ...]


class Wanted(NamedTuple):
    """A row that is to be made."""

    what: str
    method: Method
    setup: str

    def row(self, task: Task, **figures: Any) -> Row:
        """Of a task."""
        case, method = task.case, self.method
        return Row(case.id, case.person, task.kind, self.what, method.name, method.weights, self.setup, **figures)


def prior_method() -> Method:
    """The shape prior."""
    return Method(PRIOR, find(PRIOR).sha256[:DIGITS], PRIOR, (PATCH,))


def methods_of(named: Sequence[str]) -> list[Method]:
    """Cascades by "NAME=FILE"; loaded, so that one that cannot run is said before hours of work.

    Raises:
        InputError: not of this form, a name that is taken, no such file, or no cascade.
    """
    methods: list[Method] = []
    for word in named:
        name, equals, file = word.partition("=")
        if not equals or not name or not file:
            raise InputError(f"--weights {word}: NAME=FILE is wanted, such as multi-branch=runs/cascade.safetensors")
        if name in {PRIOR, PARAMETRIC, *(method.name for method in methods)}:
            raise InputError(f"--weights {word}: something else is called {name!r} already; choose another name")
        engine = load_engine(file, "cpu")
        if not isinstance(engine, CascadeEngine):
            raise InputError(f"--weights {word}: this model is no cascade (calvaria train cascade makes them)")
        methods.append(Method(name, find(file).sha256[:DIGITS], file, engine.spec.branches))
    return methods


@dataclass(frozen=True)
class Cases:
    """What is run.

    Args:
        tasks: the cases.
        elsewhere: ids of clinical cases whose persons are on another side of the split.
    """

    tasks: tuple[Task, ...]
    elsewhere: tuple[str, ...] = ()


def cases_of(
    root: Path | None,
    clinical: Path | None,
    side: str = "test",
    kinds: Sequence[str] = BENCHMARK_KINDS,
    limit: int | None = None,
) -> Cases:
    """Clinical cases first, then the holes of the persons of a side.

    Args:
        root: folder of the AutoImplant 2020 set; None: clinical cases alone.
        clinical: what `import_clinical` wrote; persons of the split's other sides are left out. None: no such cases.
        side: of the packaged split.
        kinds: of holes.
        limit: only so many persons, of the set and of the clinical cases.

    Raises:
        InputError: neither is given; or as `tasks_of` and `read_clinical`; or no clinical case may be used.
    """
    if root is None and clinical is None:
        raise InputError("nothing to run: give --data FOLDER, --clinical FOLDER or both")
    found, elsewhere = _clinical(clinical, side) if clinical is not None else ([], [])
    some = list(dict.fromkeys(case.person for case in found))[:limit]
    tasks = [Task(case, case.kind) for case in found if case.person in some]
    tasks += tasks_of(root, side, kinds, limit) if root is not None else []
    return Cases(tuple(tasks), tuple(elsewhere))


def _clinical(folder: Path, side: str) -> tuple[list[SkullCase], list[str]]:
    """Cases of persons of a side or of nobody in the split, and the ids of the others."""
    split = load_split()
    own = {person_of(name) for name in split.side(side)}
    others = {person_of(name) for name in split.ids} - own
    cases = read_clinical(folder)
    used = [case for case in cases if case.person not in others]
    if not used:
        raise InputError(
            f"{folder}: none of its {len(cases)} cases shows a person of the {side} side; calvaria data "
            f"simulate-clinical --side {side} makes such cases"
        )
    return used, [case.id for case in cases if case.person in others]


def seen_by(method: Method, task: Task) -> bool:
    """Whether a model learned from the person of a task; of clinical persons its file holds digests."""
    if task.case.person in persons_seen(method.engine):
        return True
    known = json.loads(load_about(find(method.engine)).get("calvaria", "{}")).get("clinical_persons", ())
    return digest_of(task.case.person) in known


def wanted_of(task: Task, methods: Sequence[Method], settings: ImplantSettings, *, designs: bool) -> list[Wanted]:
    """The rows of a task: what it has a truth for, and of clinical cases the designs too."""
    clinical = task.kind == CLINICAL
    told = f"{find(PRIOR).sha256} {settings!r} {_file_hash(task.case) if clinical else ''}"
    setup = hashlib.sha256(told.encode()).hexdigest()[:DIGITS]
    rows = []
    if not clinical or task.case.patch is not None:
        rows += [Wanted(PATCH, one, setup) for one in methods if PATCH in one.branches]
    if not clinical or task.case.implant is None:
        return rows
    learned = [one for one in methods if IMPLANT in one.branches]
    rows += [Wanted(IMPLANT, one, setup) for one in learned]
    if designs:
        parametric = prior_method()._replace(name=PARAMETRIC)
        rows += [Wanted(DESIGN, one, setup) for one in (parametric, *learned)]
    return rows


def _file_hash(case: SkullCase) -> str:
    """Of the defective skull: sets are made anew under the same ids. What cannot be read is told by the row."""
    try:
        return "" if case.defective is None else sha256_of(case.defective)
    except CalvariaError:
        return ""


@dataclass(frozen=True, eq=False)
class Scene:
    """A skull in the pose that the shape prior settled, what it makes of it there, and what is true."""

    defective: Volume
    patch: Volume | None
    implant: Volume | None
    skull: Volume
    done: Completion
    sketch: SoftField
    costs: Mapping[str, float]


def read(task: Task) -> tuple[Volume, Volume | None, Volume | None]:
    """Defective skull, true patch and true implant; what there is not is None."""
    case = task.case
    if task.kind != CLINICAL:
        return (*build(task), None)
    if case.defective is None:
        raise InputError(f"{case.id}: there is no defective skull")
    patch, implant = (None if path is None else read_mask(path) for path in (case.patch, case.implant))
    return read_mask(case.defective), patch, implant


def scene_of(task: Task) -> Scene:
    defective, patch, implant = read(task)
    prior = load_prior(PRIOR)
    prior.prepare()
    box = bounding_box(defective.mask)
    skull = defective if box is None else defective.crop(box)
    frame, field, sketch = settle(skull, locate(skull, prior.template), prior)
    began = _Clock()
    done = Completion(frame, field, prior.complete(field, sketch))
    return Scene(defective, patch, implant, skull, done, sketch, began.costs())


def rows_of(task: Task, wanted: Sequence[Wanted], settings: ImplantSettings | None = None) -> list[Row]:
    """The rows of one skull.

    Args:
        task: the skull and its hole.
        wanted: the rows.
        settings: of the designs; a learned implant has its own shape.

    Returns:
        A row for each; whatever goes wrong is named in the rows' ``error``, nothing is raised but interruptions.
    """
    with threadpool_limits(1, user_api="blas"):
        try:
            scene = scene_of(task)
        except Exception as error:  # one bad case must not end a run of hours; it is named, counted and shown
            return [one.row(task, error=_named(error)) for one in wanted]
        rows = []
        for method in dict.fromkeys(one.method for one in wanted):
            rows += _rows_of_method(
                task, scene, [one for one in wanted if one.method == method], settings or ImplantSettings()
            )
    return [{row.key: row for row in rows}[one.row(task).key] for one in wanted]


def _rows_of_method(task: Task, scene: Scene, wanted: Sequence[Wanted], settings: ImplantSettings) -> list[Row]:
    rows = []
    try:
        says = _Says.of(scene, wanted[0].method)
    except Exception as error:  # as above
        return [one.row(task, error=_named(error)) for one in wanted]
    for one in wanted:
        try:
            rows.append(one.row(task, **_figures(scene, says, one.what, settings)))
        except Exception as error:  # as above
            rows.append(one.row(task, error=_named(error)))
    return rows


@dataclass(frozen=True, eq=False)
class _Says:
    """What a method says of a skull: the completion, and of a cascade both branches; and what that cost."""

    soft: SoftField
    costs: Mapping[str, float]
    engine: CascadeEngine | None = None
    answer: Answer | None = None

    @classmethod
    def of(cls, scene: Scene, method: Method) -> _Says:
        if method.engine == PRIOR:
            return cls(scene.done.soft, scene.costs)
        engine, began = load_engine(method.engine, "cpu"), _Clock()
        if not isinstance(engine, CascadeEngine):
            raise InputError(f"{method.name}: this model is no cascade any more")
        found = engine.answer(scene.done.field, scene.sketch, scene.skull, scene.done.frame)
        return cls(engine.soft_of(found, scene.done.field), began.costs(), engine, found)

    def implant(self, scene: Scene) -> Volume | None:
        """The learned implant's probability, world mm; None of a method without, and where no hole is found."""
        return None if self.engine is None else self.engine.implant_of(self.answer, scene.done.frame)


def _figures(scene: Scene, says: _Says, what: str, settings: ImplantSettings) -> dict[str, Any]:
    frame = scene.done.frame
    if what == PATCH:
        return {**_against(to_patch(says.soft, frame, scene.defective), scene.patch, scene.defective), **says.costs}
    found = says.implant(scene)
    if what == IMPLANT:
        return {**_against(_implant_mask(found, scene.defective), scene.implant, scene.defective), **says.costs}
    began = _Clock()
    try:
        if says.engine is not None and found is None:
            raise InputError("the implant branch finds no hole")
        made = _designed(scene, None if found is None else Solid(found), settings)
    except InputError as error:  # what cannot be designed is a result: there is no implant
        told = {"checks": 0.0, "failed": f"refused: {one_line(error)}".replace(";", ",")}
        return {**_against(_implant_mask(None, scene.defective), scene.implant, scene.defective), **told}
    costs = began.costs()
    bad = dict.fromkeys(one.name for one in made.checks if one.verdict == "fail")
    told = {"checks": float(len(made.checks)), "failed": "; ".join(bad)}
    return {**_against(_mask_of(made, scene.defective), scene.implant, scene.defective), **told, **costs}


def _designed(scene: Scene, learned: Solid | None, settings: ImplantSettings) -> Design:
    """The implant for the shape prior's patch, or the learned one; the same finishing and checks."""
    frame, _, soft = scene.done
    patch, outer = to_patch(soft, frame, scene.defective), surface_of(soft, frame)
    return design(scene.defective, patch, frame.to_world, settings, outer=outer, learned=learned)


def _implant_mask(found: Volume | None, defective: Volume) -> Volume:
    """What of a learned implant is there, off the bone; empty where nothing was found."""
    if found is None:
        return defective.with_data(np.zeros(defective.shape, bool))
    return defective.with_data((resample(found, defective.grid).data > 0.5) & ~defective.mask)


def _mask_of(made: Design, defective: Volume) -> Volume:
    """The voxels in the finished implants."""
    mask = np.zeros(defective.shape, bool)
    for part in made.parts:
        mask |= voxelise(part.mesh, defective.grid).mask
    return defective.with_data(mask)


def _against(found: Volume, truth: Volume | None, defective: Volume) -> dict[str, float]:
    if truth is None:
        return {}
    values = measure(found, truth, defective)
    return {name: values[name] for name in FIGURES}


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Args:
        rows: in the order of the tasks.
        left_out: method -> cases that it was not run on, since it learned from their persons.
    """

    rows: tuple[Row, ...]
    left_out: Mapping[str, tuple[str, ...]]


def run(
    tasks: Sequence[Task],
    cascades: Sequence[Method],
    output: Path,
    *,
    settings: ImplantSettings | None = None,
    designs: bool = True,
    jobs: int = 1,
    tell: Tell,
) -> Outcome:
    """Run what the file does not hold yet, and write each skull's rows as soon as they are there.

    Args:
        tasks: skulls and their holes.
        cascades: to be compared; the shape prior and the parametric implant always stand beside them.
        output: the CSV file; rows of other tasks, weights and parameters in it stay, failed ones are run again.
        settings: of the designs.
        designs: whether implants are designed.
        jobs: skulls at a time.
        tell: takes a line of progress a skull, with the time left.

    Raises:
        FormatError: the file is no such table.
    """
    chosen = settings or ImplantSettings()
    rows = {row.key: row for row in read_table(output, Row, "the cascade") if not row.error}
    methods = [prior_method(), *cascades]
    left_out = {m.name: tuple(f"{t.case.id} {t.kind}" for t in tasks if seen_by(m, t)) for m in methods}
    every = []
    for task in tasks:
        allowed = [m for m in methods if f"{task.case.id} {task.kind}" not in left_out[m.name]]
        every.append((task, wanted_of(task, allowed, chosen, designs=designs and methods[0] in allowed)))
    todo = [
        (task, left, chosen)
        for task, wanted in every
        if (left := [one for one in wanted if one.row(task).key not in rows])
    ]
    if len(todo) < len(tasks):
        tell(f"{len(tasks) - len(todo)} of {len(tasks)} cases are in {output.name} already")
    clock = Countdown(len(todo))
    for (task, _, _), found in in_processes(_left, todo, jobs, lost=_lost):
        rows |= {row.key: row for row in found}
        write_table(output, Row, rows.values())
        failed = sum(bool(row.error) for row in found)
        tell(f"[{clock.step()}] {task.case.id} {task.kind}{f': {failed} of {len(found)} FAILED' if failed else ''}")
    made = tuple(rows[one.row(task).key] for task, wanted in every for one in wanted)
    return Outcome(made, {name: cases for name, cases in left_out.items() if cases})


def _left(todo: tuple[Task, list[Wanted], ImplantSettings]) -> list[Row]:
    return rows_of(*todo)


def _lost(todo: tuple[Task, list[Wanted], ImplantSettings]) -> list[Row]:
    """The rows of a case whose process died."""
    return [one.row(todo[0], error=DIED) for one in todo[1]]


__all__ = [
    "DESIGN",
    "FIGURES",
    "IMPLANT",
    "PARAMETRIC",
    "PATCH",
    "PRIOR",
    "Cases",
    "Method",
    "Outcome",
    "Row",
    "Wanted",
    "cases_of",
    "methods_of",
    "prior_method",
    "rows_of",
    "run",
    "seen_by",
    "wanted_of",
]
