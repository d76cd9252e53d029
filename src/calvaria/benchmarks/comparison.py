"""Ours against the state of the art (Wodzinski et al., table 4).

::

    calvaria benchmark table4 --data ROOT -o table4.csv

Three sets of cases: a stand-in that whoever has the AutoImplant 2020 training set can run (its official, SkullFix-type
holes and SkullBreak-type holes, of the persons of the packaged split), and the official test sets of SkullBreak and of
SkullFix, where their truth is there. A case of a person from whom a model learned is left out for that model and named.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from calvaria.benchmarks.cases import Task, tasks_of
from calvaria.benchmarks.reconstruction import Answer, run_benchmark, solve_with
from calvaria.benchmarks.rows import Tell
from calvaria.benchmarks.table import Row
from calvaria.datasets.catalog import SkullCase, data_set_of, person_of, skull_name
from calvaria.datasets.duplicates import load_groups
from calvaria.datasets.layouts import SKULLBREAK_TEST_FOLDERS, TEST_FOLDERS
from calvaria.datasets.split import load_split
from calvaria.errors import InputError
from calvaria.models import find
from calvaria.models.registry import load_about
from calvaria.reconstruction.engines import load_engine
from calvaria.volume.volume import Volume

STAND_IN, SKULLBREAK, SKULLFIX = "stand-in", "skullbreak", "skullfix"
"""The sets of cases. Ids of the official ones have the set's name before them: both have a "test-000"."""

FOLDERS_OF = {SKULLBREAK: SKULLBREAK_TEST_FOLDERS, SKULLFIX: TEST_FOLDERS}
"""How the folder of a set's test side may be called."""

WEIGHTS_DIGITS = 12
"""Of the weights' hash that stand in the table of rows."""

WAYS: Mapping[str, Callable[[Volume, str], Answer]] = {"": solve_with}
"""What follows a model's name after a "+" -> (defective skull, model) -> its patch. A new method is one line here."""


@dataclass(frozen=True)
class Method:
    """One line of the table.

    Args:
        name: as it was asked for: a model, by name or file, and perhaps "+" and one of `WAYS`.
        engine: the model.
        way: one of `WAYS`.
        weights: the beginning of the hash of the model's weights.
    """

    name: str
    engine: str
    way: str
    weights: str

    @property
    def key(self) -> str:
        """What its rows are found by: those of other weights of one name are not its own."""
        return f"{self.name}@{self.weights}"

    def solve(self, defective: Volume) -> Answer:
        """The patch of a defective skull, and its cost."""
        return WAYS[self.way](defective, self.engine)


def method_of(name: str) -> Method:
    """A method by its name; its model is loaded, so that one that cannot run is said before hours of work.

    Raises:
        InputError: there is no such model or way, or the model completes no skulls.
    """
    engine, way = name, ""
    if "+" in name and not name.endswith(".safetensors"):  # a file's name may have a plus sign
        engine, _, way = name.rpartition("+")
        if not way or way not in WAYS:
            known = ", ".join(f"MODEL+{known}" for known in WAYS if known) or "MODEL alone"
            raise InputError(f"{name}: nothing is called {way!r} that may follow a model; known: {known}")
    load_engine(engine)
    return Method(name, engine, way, find(engine).sha256[:WEIGHTS_DIGITS])


@dataclass(frozen=True)
class CaseSet:
    """Cases of one set.

    Args:
        label: one of `STAND_IN`, `SKULLBREAK` and `SKULLFIX`.
        tasks: what can be scored.
        hidden: test cases whose truth is not there.
    """

    label: str
    tasks: tuple[Task, ...]
    hidden: tuple[SkullCase, ...] = ()


def stand_in(root: Path, side: str, limit: int | None = None) -> CaseSet:
    """The official and the five SkullBreak-type holes of a side of the packaged split; see `tasks_of`."""
    return CaseSet(STAND_IN, tuple(tasks_of(root, side, limit=limit)))


def official(label: str, root: Path, limit: int | None = None) -> CaseSet:
    """The test cases of an official set.

    Args:
        label: `SKULLBREAK` or `SKULLFIX`.
        root: the set's folder. Whoever has the truth of SkullFix's test cases lays it into the folder ``implant`` of
            their folder, under the same names.
        limit: only so many skulls that can be scored.

    Raises:
        InputError: there is no such set in the folder, or none of its test cases.
    """
    cases = [case for case in data_set_of(label).read(root) if not case.id.startswith("train-")]
    if not cases:
        raise InputError(
            f"{root}: no test case of {data_set_of(label).title}, only training cases; the test side lies in a folder "
            f"called one of {', '.join(FOLDERS_OF[label])}"
        )
    cases = [replace(_with_truth(case), id=f"{label}:{case.id}", person=f"{label}:{case.person}") for case in cases]
    scored = [case for case in cases if case.patch is not None or (case.complete and case.defective)]
    some = list(dict.fromkeys(skull_name(case) for case in scored))[:limit]
    return CaseSet(
        label,
        tuple(Task(case, case.kind) for case in scored if skull_name(case) in some),
        tuple(case for case in cases if case not in scored),
    )


def _with_truth(case: SkullCase) -> SkullCase:
    """A test case with the patch in ``implant``, if one is there: the challenge gave none, so the layout has none."""
    if case.patch is not None or case.complete is not None or case.defective is None:
        return case
    folder = case.defective.parent
    truth = (folder.parent if folder.name == "defective_skull" else folder) / "implant" / case.defective.name
    return replace(case, patch=truth if truth.is_file() else None)


def persons_seen(engine: str) -> frozenset[str]:
    """Persons of AutoImplant 2020 from whom a model learned, as their first case's id.

    All that the program trains learns from the training side of the packaged split, in which the set's test cases are;
    a shape prior's file says if it learned from everybody, or from complete skulls alone.
    """
    split = load_split()
    made_from = json.loads(load_about(find(engine)).get("made_from", "{}"))
    ids: Iterable[str] = split.ids if made_from.get("people") == "all" else split.train
    if made_from.get("unlabelled") == "none":
        ids = [name for name in ids if name.startswith("train-")]
    return frozenset(person_of(name) for name in ids)


def persons_of_skullbreak(seen: frozenset[str], duplicates: Path) -> frozenset[str]:
    """Persons of SkullBreak who are among persons of AutoImplant 2020.

    Args:
        seen: persons of AutoImplant 2020.
        duplicates: of both sets, from ``calvaria data duplicates``.

    Raises:
        InputError: there is no such file, or it is of other sets.
        FormatError: it is something else.
    """
    groups = load_groups(duplicates)
    fix = "autoimplant2020:"
    if groups and not any(name.startswith(f"{SKULLBREAK}:") for group in groups for name in group):
        raise InputError(
            f"{duplicates.name}: no skull in it is called {SKULLBREAK}:..., such as {groups[0][0]}; "
            "run calvaria data duplicates on the folders of SkullBreak and AutoImplant 2020 together"
        )
    found: set[str] = set()
    for group in groups:
        if any(name.startswith(fix) and person_of(name.removeprefix(fix)) in seen for name in group):
            found.update(name for name in group if name.startswith(f"{SKULLBREAK}:"))
    return frozenset(found)


@dataclass(frozen=True)
class Outcome:
    """What came of one method.

    Args:
        method: which.
        rows: of all cases that were run, in the order of the sets.
        left_out: ids of the cases whose persons the model learned from.
    """

    method: Method
    rows: tuple[Row, ...]
    left_out: tuple[str, ...] = ()


def run(
    sets: Sequence[CaseSet],
    methods: Sequence[Method],
    output: Path,
    *,
    duplicates: Path | None = None,
    jobs: int = 1,
    tell: Tell,
) -> list[Outcome]:
    """Run what the file does not hold yet; each row is written as soon as it is there.

    Args:
        sets: the cases.
        methods: to be compared.
        output: the CSV file; rows of other methods in it stay.
        duplicates: file of persons who are in SkullBreak and in AutoImplant 2020; None: nobody is known to be.
        jobs: cases at a time.
        tell: takes a line of progress a case, with the time left.

    Raises:
        FormatError: the file is no such table, or no file of duplicates.
        InputError: it cannot be written.
    """
    outcomes = []
    for method in methods:
        seen = persons_seen(method.engine)
        known = seen if duplicates is None else seen | persons_of_skullbreak(seen, duplicates)
        tasks = [task for one in sets for task in one.tasks]
        left_out = [task for task in tasks if task.case.person.removeprefix(f"{SKULLFIX}:") in known]
        tasks = [task for task in tasks if task not in left_out]
        rows = run_benchmark(tasks, output, method.key, partial(_solve, method=method), jobs=jobs, tell=tell)
        outcomes.append(Outcome(method, tuple(rows), tuple(task.case.id for task in left_out)))
    return outcomes


def _solve(defective: Volume, method: Method) -> Answer:
    return method.solve(defective)


def label_of(case_id: str) -> str:
    """The set of a row.

    >>> label_of("skullbreak:test-003/bilateral"), label_of("train-004")
    ('skullbreak', 'stand-in')
    """
    label, colon, _ = case_id.partition(":")
    return label if colon else STAND_IN


def duplicates_command(skullbreak: Path, autoimplant: Path | None) -> str:
    """What finds the persons who are in both sets."""
    other = "AUTOIMPLANT2020" if autoimplant is None else shlex.quote(str(autoimplant))
    return f"calvaria data duplicates {shlex.quote(str(skullbreak))} {other} -o duplicates.json --jobs 2"


def reconstruct_commands(cases: Iterable[SkullCase]) -> list[str]:
    """What makes the patches of cases whose truth is not there: a command for each of their folders."""
    folders = dict.fromkeys(case.defective.parent for case in cases if case.defective is not None)
    return [
        f"calvaria reconstruct {shlex.quote(str(folder))} -o {shlex.quote(f'patches-{folder.name}')} "
        "--no-preview --jobs 2"
        for folder in folders
    ]


__all__ = [
    "SKULLBREAK",
    "SKULLFIX",
    "STAND_IN",
    "WAYS",
    "CaseSet",
    "Method",
    "Outcome",
    "duplicates_command",
    "label_of",
    "method_of",
    "official",
    "persons_of_skullbreak",
    "persons_seen",
    "reconstruct_commands",
    "run",
    "stand_in",
]
