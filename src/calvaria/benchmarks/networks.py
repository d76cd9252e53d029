"""The reconstruction networks with and without the symmetry loss (Wodzinski et al., table 2).

::

    calvaria benchmark table2 --data ROOT --cache coarse.safetensors -o table2.csv

Every network is trained twice from the same start on the same cases for the same number of steps, without and with the
symmetry term; then each completes the same defective skulls in the same pose, and the patches are compared on the grids
of the scans.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from calvaria.benchmarks.cases import Task, build
from calvaria.benchmarks.rows import Tell, read_table, write_table
from calvaria.errors import CalvariaError, one_line
from calvaria.jobs import Countdown, in_processes
from calvaria.metrics import measure
from calvaria.metrics.statistics import MIN_PAIRS, compare_pairs
from calvaria.reconstruction.engines import load_engine, load_prior
from calvaria.reconstruction.postprocess import to_patch
from calvaria.reconstruction.repose import settle
from calvaria.skull.canonical import locate
from calvaria.volume.volume import bounding_box

if TYPE_CHECKING:
    from calvaria.training.recipes.reconstruction import ReconstructionRecipe

PRIOR = "shape-prior"
"""Its pose is used for all, and its patches stand beside the networks'."""

FIGURES = ("dsc", "bdsc", "sdsc_1mm", "hd95_mm", "msd_mm", "asymmetry_mm")
"""What is kept of each patch; the last one of the completed skull."""


class Published(NamedTuple):
    """One line of the paper's table 2 and one set."""

    dsc: float
    sdsc: float
    hd95_mm: float
    msd_mm: float


PUBLISHED: Mapping[tuple[str, bool], tuple[Published, Published]] = {
    ("runet", False): (Published(0.843, 0.743, 2.438, 0.787), Published(0.892, 0.881, 1.882, 0.554)),
    ("swinunetr", False): (Published(0.702, 0.658, 3.214, 1.092), Published(0.785, 0.792, 2.818, 0.721)),
    ("unetr", False): (Published(0.670, 0.632, 4.013, 1.187), Published(0.779, 0.797, 2.884, 0.725)),
    ("attentionunet", False): (Published(0.741, 0.708, 3.170, 0.887), Published(0.841, 0.857, 2.328, 0.667)),
    ("segresnet", False): (Published(0.729, 0.702, 3.279, 0.952), Published(0.819, 0.832, 2.452, 0.681)),
    ("runet", True): (Published(0.904, 0.902, 1.678, 0.539), Published(0.927, 0.923, 1.437, 0.389)),
    ("swinunetr", True): (Published(0.791, 0.739, 2.517, 0.798), Published(0.866, 0.872, 2.128, 0.641)),
    ("unetr", True): (Published(0.768, 0.735, 2.618, 0.801), Published(0.864, 0.874, 2.124, 0.639)),
    ("attentionunet", True): (Published(0.829, 0.788, 2.271, 0.761), Published(0.896, 0.892, 1.842, 0.542)),
    ("segresnet", True): (Published(0.825, 0.794, 2.248, 0.757), Published(0.889, 0.884, 1.866, 0.551)),
}
"""(network, with symmetry) -> the test figures on SkullBreak and on SkullFix."""


@dataclass(frozen=True)
class Row:
    """What one network made of one skull.

    Args:
        case: case id.
        person: person id.
        kind: of the hole.
        model: its name, such as "runet-sym".
        weights: the first twelve characters of their hash: rows of other weights are computed anew.
        dsc: Dice overlap.
        bdsc: border Dice.
        sdsc_1mm: surface Dice at 1 mm.
        hd95_mm: pooled 95 % Hausdorff distance; infinite for an empty patch.
        msd_mm: mean surface distance.
        asymmetry_mm: of the completed skull's outer surface, about the pose's plane.
        seconds: processor time of the completion, the pose not counted.
        error: why it failed, in one line; empty if it did not.
    """

    case: str
    person: str
    kind: str
    model: str
    weights: str
    dsc: float = math.nan
    bdsc: float = math.nan
    sdsc_1mm: float = math.nan
    hd95_mm: float = math.nan
    msd_mm: float = math.nan
    asymmetry_mm: float = math.nan
    seconds: float = math.nan
    error: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes a row the only one of its sort."""
        return self.case, self.kind, self.model, self.weights


class Model(NamedTuple):
    """A trained network: its name, the beginning of its weights' hash, and what `load_engine` takes."""

    name: str
    weights: str
    engine: str


def train_all(
    base: ReconstructionRecipe, networks: Sequence[str], alphas: Sequence[float], tell: Tell, *, device: str = "cpu"
) -> list[Model]:
    """Train every network with every weight of the symmetry term, each as if it were alone; goes on where it stopped.

    Args:
        base: what all have in common; with sketches of the shape prior, every network is trained with them as well.
        networks: by name.
        alphas: weights of the symmetry term.
        tell: takes a line now and then.
        device: "cpu" or "cuda".

    Returns:
        The networks; their weights lie beside `base.output`.
    """
    from calvaria.training.recipes.fields import changed
    from calvaria.training.reconstruction import build as train

    models = []
    for network in networks:
        for prior, alpha in product(dict.fromkeys((None, base.data.prior)), alphas):
            recipe = changed(base, network=network, alpha=alpha, prior=prior)
            recipe = changed(recipe, output=base.output.parent / f"{recipe.name}.safetensors")
            began = time.monotonic()
            info = train(recipe, partial(_named, tell, recipe.name), device=device)
            if info is not None:
                tell(f"{info.name}: trained, {(time.monotonic() - began) / 60:.1f} min in this run")
                models.append(Model(info.name, info.sha256[:12], str(info.path)))
    return models


def _named(tell: Tell, name: str, line: str, fraction: float) -> None:
    tell(f"{name}: {line}")


def rows_of(task: Task, models: Sequence[Model]) -> list[Row]:
    """Every model on one skull with one hole, all in the pose that the shape prior finds."""
    defective, truth = build(task)
    prior = load_prior(PRIOR)
    box = bounding_box(defective.mask)
    skull = defective if box is None else defective.crop(box)
    frame, field, sketch = settle(skull, locate(skull, prior.template), prior)
    rows = []
    for model in models:
        row, began = Row(task.case.id, task.case.person, task.kind, model.name, model.weights), time.process_time()
        try:
            engine = load_engine(model.engine, "cpu")
            soft = prior.complete(field, sketch) if engine is prior else engine.complete(field)
            patch = to_patch(soft, frame, defective)
            seconds = time.process_time() - began
            found = measure(patch, truth, defective, frame.plane.reflect)
        except CalvariaError as error:
            rows.append(replace(row, error=one_line(error)))
            continue
        rows.append(replace(row, seconds=seconds, **{name: found[name] for name in FIGURES}))  # type: ignore[arg-type]
    return rows


def run(tasks: Sequence[Task], models: Sequence[Model], output: Path, *, jobs: int = 1, tell: Tell) -> list[Row]:
    """Run what the file does not hold yet, and write each skull's rows as soon as they are there.

    Args:
        tasks: skulls and their holes.
        models: to be compared.
        output: the CSV file; rows of other tasks and weights in it stay.
        jobs: skulls at a time.
        tell: takes a line of progress a skull, with the time left.

    Returns:
        The rows of all tasks and models.

    Raises:
        FormatError: the file is no such table.
        WorkerDiedError: a process died; the rows so far are in the file.
    """
    rows = [row for row in read_table(output, Row, "networks") if not row.error]
    done = {row.key for row in rows}
    todo = []
    for task in tasks:
        left = [model for model in models if (task.case.id, task.kind, model.name, model.weights) not in done]
        if left:
            todo.append((task, left))
    clock = Countdown(len(todo))
    for (task, _), found in in_processes(_left, todo, jobs):
        rows += found
        write_table(output, Row, rows)
        tell(f"[{clock.step()}] {task.case.id} {task.kind}")
    wanted = {(task.case.id, task.kind, model.name, model.weights) for task in tasks for model in models}
    return [row for row in rows if row.key in wanted]


def _left(todo: tuple[Task, list[Model]]) -> list[Row]:
    return rows_of(*todo)


def table2(rows: Sequence[Row]) -> list[str]:
    """Lines: published figures, ours, and the paired tests of symmetry and of the prior's sketch."""
    names = list(dict.fromkeys(row.model for row in rows))
    symmetry = [(name.removesuffix("-sym"), name) for name in names if name.endswith("-sym")]
    shown = [name for name in names if name.endswith("-prior") and name != PRIOR]
    lines = [*_published_lines(), "", *_own_lines(rows), "", *_test_lines(rows, "Symmetry against none", symmetry)]
    if shown:
        sketch = [(name.removesuffix("-prior"), name) for name in shown]
        lines += ["", *_test_lines(rows, "The prior's sketch against none", sketch)]
        lines += ["", *_test_lines(rows, "The same against the prior alone", [(PRIOR, name) for name in shown])]
    return lines


def _published_lines() -> list[str]:
    lines = [
        "Table 2 as published: SkullBreak and SkullFix test sets",
        f"{'network':<22} {'DSC':<7} {'SDSC':<7} {'HD95 mm':<8} {'MSD mm':<10} {'DSC':<7} {'SDSC':<7} "
        f"{'HD95 mm':<8} MSD mm",
    ]
    for (network, symmetric), (broken, fixed) in PUBLISHED.items():
        cells = [f"{v.dsc:<7.3f} {v.sdsc:<7.3f} {v.hd95_mm:<8.3f} {v.msd_mm:<10.3f}" for v in (broken, fixed)]
        lines.append(f"{network + ('-sym' if symmetric else ''):<22} {' '.join(cells)}".rstrip())
    return lines


def _own_lines(rows: Sequence[Row]) -> list[str]:
    lines = [
        "The same here: mean and sd over cases; medians of HD95, which is infinite for an empty patch",
        f"{'model':<22} {'holes':<11} {'n':>3}  {'DSC':<13} {'worst':<6} {'bDSC':<13} {'SDSC 1 mm':<13} {'HD95 mm':<8} "
        f"{'MSD mm':<8} {'empty':>5} {'CPU s':>6}",
    ]
    for model in dict.fromkeys(row.model for row in rows):
        for holes in ("official", "other kinds"):
            some = _of(rows, model, holes)
            if not some:
                continue
            dsc, bdsc, sdsc = (np.array([getattr(row, name) for row in some]) for name in ("dsc", "bdsc", "sdsc_1mm"))
            msd = np.array([row.msd_mm for row in some])
            empty, near = int(np.isinf(msd).sum()), msd[np.isfinite(msd)]
            lines.append(
                f"{model:<22} {holes:<11} {len(some):>3}  {_mean_sd(dsc):<13} {dsc.min():<6.3f} {_mean_sd(bdsc):<13} "
                f"{_mean_sd(sdsc):<13} {np.median([row.hd95_mm for row in some]):<8.2f} "
                f"{near.mean() if len(near) else math.nan:<8.3f} {empty:>5} "
                f"{np.median([row.seconds for row in some]):>6.2f}"
            )
    failed = [row for row in rows if row.error]
    return lines + [f"FAILED: {row.case} {row.kind} {row.model}: {row.error}" for row in failed]


def _test_lines(rows: Sequence[Row], what: str, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """How much better the second model of each pair is than the first, for those that are there."""
    lines = [
        f"{what}: gain in a person's mean DSC, its 95 % interval, one-sided Wilcoxon signed-rank test",
        f"{'network':<22} {'holes':<11} {'persons':>7} {'gain':>8}  {'interval':<18} {'better':>6} {'p':>8}",
    ]
    for pair in pairs:
        for holes in ("official", "other kinds"):
            without, with_it = (_by_person(_of(rows, name, holes)) for name in pair)
            persons = sorted(without.keys() & with_it.keys())
            if len(persons) < MIN_PAIRS:
                continue
            test = compare_pairs([without[p] for p in persons], [with_it[p] for p in persons], higher_is_better=True)
            lines.append(
                f"{pair[1]:<22} {holes:<11} {test.pairs:>7} {test.mean_gain:>+8.4f}  "
                f"{f'{test.low:+.4f} to {test.high:+.4f}':<18} {test.better:>6} {test.p_wilcoxon:>8.4f}"
            )
    return lines


def _of(rows: Sequence[Row], model: str, holes: str) -> list[Row]:
    return [
        row
        for row in rows
        if row.model == model and not row.error and (row.kind == "official") == (holes == "official")
    ]


def _by_person(rows: Sequence[Row]) -> dict[str, float]:
    """Person -> mean DSC: cases of one person are no independent trials."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row.person, []).append(row.dsc)
    return {person: float(np.mean(values)) for person, values in found.items()}


def _mean_sd(values: np.ndarray) -> str:
    return f"{values.mean():.3f} {values.std():.3f}"


__all__ = ["FIGURES", "PRIOR", "PUBLISHED", "Model", "Row", "rows_of", "run", "table2", "train_all"]
