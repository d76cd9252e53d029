"""The cases of a benchmark: persons of a split, each with its official defect and one synthetic defect of each kind.

Synthetic defects are kept: the packaged file holds the spec and the canonical frame of every one, so that figures of
different versions speak of the same holes even where the canonical frame has changed. It was written by::

    python -m calvaria.benchmarks.cases ROOT

What the file holds stays as it is: a kind that it lacks is drawn in the frame that it has, and added.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calvaria.benchmarks.rows import Tell
from calvaria.benchmarks.script import run_while_read
from calvaria.datasets.catalog import SkullCase, autoimplant2020
from calvaria.datasets.split import SPLITS, load_split
from calvaria.errors import InputError
from calvaria.files import write_text
from calvaria.synthesis.defects import ALL_KINDS, KINDS, Spec, apply_defect, cut_defect
from calvaria.synthesis.defects.specs import spec_from_json
from calvaria.volume.volume import Volume

OFFICIAL = "official"
"""The defect that comes with the data set."""

BENCHMARK_KINDS = (OFFICIAL, *(kind for kind in KINDS if kind != "ball"))
"""What a benchmark runs by default: the official defect and the five kinds of SkullBreak."""

CLINICAL_KINDS = ("hemicraniectomy", "bifrontal", "multiple", "craniotomy")
"""What surgeons leave: their holes are larger than those of the sets, sawn, and more than one."""

GROUPS = {"all": (*BENCHMARK_KINDS, *CLINICAL_KINDS), "clinical": CLINICAL_KINDS}
"""Names that stand for several kinds."""

KINDS_HELP = f"kinds of defects, with commas; {' and '.join(GROUPS)} stand for several"

PLACED = SPLITS / "autoimplant2020-defects.json"
"""The packaged synthetic defects of validation and test; null where a skull takes no sound one of a kind."""

SEED = 2026

NO_TRUTH = "there is no complete skull, so no truth to compare with"

Locate = Callable[[Volume], NDArray[np.float64]]
"""Complete skull -> its (4, 4) frame, canonical mm -> world LPS mm."""


@dataclass(frozen=True)
class Task:
    """One reconstruction to be scored.

    Args:
        case: the skull.
        kind: the defect: the case's own kind ("official" in AutoImplant 2020) means the one that comes with it; any
            other of the synthetic kinds is cut from the complete skull.
    """

    case: SkullCase
    kind: str


def tasks_of(
    root: Path,
    split: str,
    kinds: Sequence[str] = BENCHMARK_KINDS,
    limit: int | None = None,
    *,
    tell: Tell | None = None,
) -> list[Task]:
    """Every person of a side of the split with every kind of defect.

    Args:
        root: folder of the AutoImplant 2020 set, or the folder that holds ``autoimplant2020``.
        split: "test", "validation" or "train"; cases without a complete skull are left out.
        kinds: kinds of defects; "all" and "clinical" stand for several.
        limit: only so many persons.
        tell: takes a line for each defect that is left out because the skull takes no sound one.

    Returns:
        Tasks, person by person.

    Raises:
        InputError: an unknown kind or side, a missing folder, or skulls of the split that are not there.
    """
    kinds = kinds_of(kinds)
    inner = root / "autoimplant2020"
    cases = {case.id: case for case in autoimplant2020(inner if inner.is_dir() else root)}
    wanted = [name for name in load_split().side(split) if name.startswith("train-")]
    missing = [name for name in wanted if name not in cases]
    if missing:
        raise InputError(f"{root}: {len(missing)} skulls of the {split} split are missing, such as {missing[0]}")
    chosen = {cases[name].person: cases[name] for name in reversed(wanted)}  # a person counts once: the first case
    persons = [case for case in cases.values() if chosen.get(case.person) is case][:limit]
    tasks = [Task(case, kind) for case in persons for kind in kinds]
    lacking = [task for task in tasks if _placed().get(task.case.id, {}).get(task.kind, ()) is None]
    if tell is not None:
        for task in lacking:
            tell(f"{task.case.id} {task.kind}: left out, the skull takes no sound one")
    return [task for task in tasks if task not in lacking]


def kinds_of(names: Sequence[str]) -> tuple[str, ...]:
    """Kinds of defects by their names and those of `GROUPS`, each once.

    Raises:
        InputError: an unknown name.

    >>> kinds_of(["official", "clinical", "craniotomy"])
    ('official', 'hemicraniectomy', 'bifrontal', 'multiple', 'craniotomy')
    """
    kinds = dict.fromkeys(kind for name in names for kind in GROUPS.get(name, (name,)))
    unknown = sorted(set(kinds) - {OFFICIAL, *ALL_KINDS})
    if unknown:
        known = ", ".join((OFFICIAL, *ALL_KINDS, *GROUPS))
        raise InputError(f"no such kind of defect: {', '.join(unknown)}; known are {known}")
    return tuple(kinds)


def build(task: Task, locate: Locate | None = None, complete: Volume | None = None) -> tuple[Volume, Volume]:
    """Read the complete skull of a task and make its defect.

    Args:
        task: the skull and the kind.
        locate: finds the frame of skulls that the packaged file doesn't hold; None: :func:`canonical_frame`.
        complete: the task's complete skull where it was read before, for another kind; None: it is read.

    Returns:
        The defective skull and the true patch. The same task always gives the same.

    Raises:
        InputError: a file is missing or cannot be read, or the skull takes no sound defect of the kind.
        GeometryError: complete skull and implant lie on different grids.
    """
    from calvaria.io import read_mask

    if task.kind == task.case.kind:
        return _given(task.case, complete)
    if task.case.complete is None:
        raise InputError(f"{task.case.id}: {NO_TRUTH}")
    known = _placed().get(task.case.id, {})
    if known.get(task.kind, ()) is None:
        raise InputError(f"{task.case.id}: the skull takes no sound {task.kind} defect; leave that kind out")
    complete = complete or read_mask(task.case.complete)
    placed = known.get(task.kind)
    if placed is not None:
        return apply_defect(complete, placed[0], placed[1])
    _, defective, patch = _draw(complete, task, (locate or canonical_frame)(complete))
    return defective, patch


def frame_of(case: SkullCase, complete: Volume) -> NDArray[np.float64]:
    """(4, 4) canonical mm -> world LPS mm: the packaged frame of a complete skull, or else the canonical one."""
    found = [placed[1] for placed in _placed().get(case.id, {}).values() if placed is not None]
    return found[0] if found else canonical_frame(complete)


def _given(case: SkullCase, complete: Volume | None = None) -> tuple[Volume, Volume]:
    """The defective skull and the true patch that come with the set: of three files two are enough."""
    from calvaria.io import read_mask

    if case.complete is None and case.patch is None:
        raise InputError(f"{case.id}: {NO_TRUTH}")
    if case.patch is None and case.defective is None:
        raise InputError(f"{case.id}: there is no implant file, so no {case.kind} defect; leave that kind out")
    if case.complete is None and case.defective is None:
        raise InputError(f"{case.id}: there is neither a complete nor a defective skull beside the implant")
    if case.defective is None:
        patch = read_mask(case.patch)  # type: ignore[arg-type]  # both are there
        complete = complete or read_mask(case.complete)  # type: ignore[arg-type]
        complete.grid.require_same(patch.grid, f"{case.id}: complete skull and implant")
        return complete.with_data(complete.mask & ~patch.mask), patch
    defective, other = read_mask(case.defective), read_mask(case.patch or case.complete)  # type: ignore[arg-type]
    name = "complete skull" if case.patch is None else "implant"
    defective.grid.require_same(other.grid, f"{case.id}: defective skull and {name}")
    return defective, other if case.patch is not None else other.with_data(other.mask & ~defective.mask)


def canonical_frame(complete: Volume) -> NDArray[np.float64]:
    """(4, 4) canonical mm -> world LPS mm of a complete skull."""
    from calvaria.skull.canonical import locate

    return locate(complete).to_world


def seed_of(person: str, kind: str, seed: int = SEED) -> int:
    """A seed of its own for every person and kind.

    >>> seed_of("train-004", "bilateral") != seed_of("train-004", "random_1")
    True
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{person}/{kind}".encode()).digest()[:8], "big")


def _draw(complete: Volume, task: Task, frame: NDArray[np.float64]) -> tuple[Spec, Volume, Volume]:
    return cut_defect(complete, task.kind, np.random.default_rng(seed_of(task.case.person, task.kind)), frame)


@lru_cache(maxsize=1)
def _placed() -> dict[str, dict[str, tuple[Spec, NDArray[np.float64]] | None]]:
    """Packaged defects by case and kind, None where there is no sound one; none before the file is written."""
    if not PLACED.is_file():
        return {}
    stored: dict[str, Any] = json.loads(PLACED.read_text(encoding="utf-8"))
    return {
        case: {
            kind: spec and (spec_from_json(json.dumps(spec)), np.array(entry["frame_to_world"]))
            for kind, spec in entry["defects"].items()
        }
        for case, entry in stored.items()
    }


def place(
    tasks: Sequence[Task],
    locate: Locate = canonical_frame,
    known: Mapping[str, Mapping[str, Any]] | None = None,
    tell: Tell | None = None,
) -> dict[str, dict[str, Any]]:
    """Draw the synthetic defects of tasks, in the form of the packaged file.

    Args:
        tasks: what to draw; official defects are passed over.
        locate: finds the canonical frame of a complete skull that isn't known.
        known: what was drawn before, in the same form: it is taken over as it is, frames too.
        tell: takes a line for each defect that is drawn.

    Returns:
        Case id -> ``frame_to_world`` (4 x 4, mm) and ``defects`` (kind -> spec, None where the skull takes no sound
        one), ready for JSON. Known cases come first.
    """
    from calvaria.io import read_mask

    stored = {case: {**entry, "defects": {**entry["defects"]}} for case, entry in (known or {}).items()}
    for case in dict.fromkeys(task.case for task in tasks):
        kinds = dict.fromkeys(task.kind for task in tasks if task.case == case and task.kind != OFFICIAL)
        lacking = [kind for kind in kinds if kind not in stored.get(case.id, {}).get("defects", {})]
        if case.complete is None or (case.id in stored and not lacking):
            continue
        complete = read_mask(case.complete)
        if case.id not in stored:
            stored[case.id] = {"frame_to_world": np.round(locate(complete), 6).tolist(), "defects": {}}
        frame = np.array(stored[case.id]["frame_to_world"])
        for kind in lacking:
            spec = _spec_on(complete, Task(case, kind), frame)
            stored[case.id]["defects"][kind] = spec
            if tell is not None:
                tell(f"{case.id} {kind}: {'placed' if spec else 'the skull takes no sound one'}")
    return stored


def _spec_on(complete: Volume, task: Task, frame: NDArray[np.float64]) -> dict[str, Any] | None:
    """The spec of a task's defect, ready for JSON; None if there is no sound one."""
    try:
        spec, _, _ = _draw(complete, task, frame)
    except InputError:
        return None
    found: dict[str, Any] = json.loads(spec.to_json())
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Place the synthetic defects of validation and test that the packaged file lacks, and write it."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m calvaria.benchmarks.cases", description="place the defects")
    parser.add_argument("root", type=Path, help="folder of the AutoImplant 2020 set")
    parser.add_argument("-o", "--output", type=Path, default=PLACED, help="file; what it holds stays as it is")
    parser.add_argument("--kinds", default="all", help=KINDS_HELP)
    options = parser.parse_args(arguments)
    kinds = tuple(options.kinds.split(","))
    known = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {}
    tasks = [task for side in ("validation", "test") for task in tasks_of(options.root, side, kinds)]

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")

    stored = place(tasks, known=known, tell=say)
    lines = [f"{json.dumps(case)}: {json.dumps(entry)}" for case, entry in stored.items()]
    write_text(options.output, "{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    sys.exit(run_while_read(main))


__all__ = [
    "BENCHMARK_KINDS",
    "CLINICAL_KINDS",
    "GROUPS",
    "KINDS_HELP",
    "OFFICIAL",
    "PLACED",
    "Task",
    "build",
    "canonical_frame",
    "frame_of",
    "kinds_of",
    "place",
    "seed_of",
    "tasks_of",
]
