"""The cases of a benchmark: persons of a split, each with its official defect and one synthetic defect of each kind.

Synthetic defects are kept: the packaged file holds the spec and the canonical frame of every one, so that figures of
different versions speak of the same holes even where the canonical frame has changed. It was written by::

    python -m calvaria.benchmarks.cases ROOT
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calvaria.datasets.catalog import SkullCase, autoimplant2020
from calvaria.datasets.split import SPLITS, load_split
from calvaria.errors import InputError
from calvaria.files import write_text
from calvaria.synthesis.defects import ALL_KINDS, KINDS, DefectSpec, Spec, apply_defect, cut_defect
from calvaria.volume.volume import Volume

OFFICIAL = "official"
"""The defect that comes with the data set."""

BENCHMARK_KINDS = (OFFICIAL, *(kind for kind in KINDS if kind != "ball"))
"""What a benchmark runs by default: the official defect and the five kinds of SkullBreak."""

PLACED = SPLITS / "autoimplant2020-defects.json"
"""The packaged synthetic defects of validation and test."""

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


def tasks_of(root: Path, split: str, kinds: Sequence[str] = BENCHMARK_KINDS, limit: int | None = None) -> list[Task]:
    """Every person of a side of the split with every kind of defect.

    Args:
        root: folder of the AutoImplant 2020 set, or the folder that holds ``autoimplant2020``.
        split: "test", "validation" or "train"; cases without a complete skull are left out.
        kinds: kinds of defects.
        limit: only so many persons.

    Returns:
        Tasks, person by person.

    Raises:
        InputError: an unknown kind or side, a missing folder, or skulls of the split that are not there.
    """
    unknown = sorted(set(kinds) - {OFFICIAL, *ALL_KINDS})
    if unknown:
        raise InputError(f"no such kind of defect: {', '.join(unknown)}; known are {', '.join((OFFICIAL, *ALL_KINDS))}")
    inner = root / "autoimplant2020"
    cases = {case.id: case for case in autoimplant2020(inner if inner.is_dir() else root)}
    wanted = [name for name in load_split().side(split) if name.startswith("train-")]
    missing = [name for name in wanted if name not in cases]
    if missing:
        raise InputError(f"{root}: {len(missing)} skulls of the {split} split are missing, such as {missing[0]}")
    chosen = {cases[name].person: cases[name] for name in reversed(wanted)}  # a person counts once: the first case
    persons = [case for case in cases.values() if chosen.get(case.person) is case][:limit]
    return [Task(case, kind) for case in persons for kind in kinds]


def build(task: Task, locate: Locate | None = None) -> tuple[Volume, Volume]:
    """Read the complete skull of a task and make its defect.

    Args:
        task: the skull and the kind.
        locate: finds the frame of skulls that the packaged file doesn't hold; None: :func:`canonical_frame`.

    Returns:
        The defective skull and the true patch. The same task always gives the same.

    Raises:
        InputError: a file is missing or cannot be read, or no sound defect can be placed.
        GeometryError: complete skull and implant lie on different grids.
    """
    from calvaria.io import read_mask

    if task.kind == task.case.kind:
        return _given(task.case)
    if task.case.complete is None:
        raise InputError(f"{task.case.id}: {NO_TRUTH}")
    complete = read_mask(task.case.complete)
    placed = _placed().get(task.case.id, {}).get(task.kind)
    if placed is not None:
        return apply_defect(complete, placed[0], placed[1])
    _, defective, patch = _draw(complete, task, (locate or canonical_frame)(complete))
    return defective, patch


def _given(case: SkullCase) -> tuple[Volume, Volume]:
    """The defective skull and the true patch that come with the set: of three files two are enough."""
    from calvaria.io import read_mask

    if case.complete is None and case.patch is None:
        raise InputError(f"{case.id}: {NO_TRUTH}")
    if case.patch is None and case.defective is None:
        raise InputError(f"{case.id}: there is no implant file, so no {case.kind} defect; leave that kind out")
    if case.complete is None and case.defective is None:
        raise InputError(f"{case.id}: there is neither a complete nor a defective skull beside the implant")
    if case.defective is None:
        complete, patch = read_mask(case.complete), read_mask(case.patch)  # type: ignore[arg-type]  # both are there
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
def _placed() -> dict[str, dict[str, tuple[DefectSpec, NDArray[np.float64]]]]:
    """Packaged defects by case and kind; none before the file is written."""
    if not PLACED.is_file():
        return {}
    stored: dict[str, Any] = json.loads(PLACED.read_text(encoding="utf-8"))
    return {
        case: {
            kind: (DefectSpec.from_json(json.dumps(spec)), np.array(entry["frame_to_world"]))
            for kind, spec in entry["defects"].items()
        }
        for case, entry in stored.items()
    }


def place(tasks: Sequence[Task], locate: Locate = canonical_frame) -> dict[str, dict[str, Any]]:
    """Draw the synthetic defects of tasks, in the form of the packaged file.

    Args:
        tasks: what to draw; official defects are passed over.
        locate: finds the canonical frame of a complete skull.

    Returns:
        Case id -> ``frame_to_world`` (4 x 4, mm) and ``defects`` (kind -> spec), ready for JSON.
    """
    from calvaria.io import read_mask

    stored: dict[str, dict[str, Any]] = {}
    for case in dict.fromkeys(task.case for task in tasks):
        if case.complete is None:
            continue
        complete = read_mask(case.complete)
        frame = np.round(locate(complete), 6)
        drawn = {t.kind: _draw(complete, t, frame)[0] for t in tasks if t.case == case and t.kind != OFFICIAL}
        specs = {kind: json.loads(spec.to_json()) for kind, spec in drawn.items()}
        stored[case.id] = {"frame_to_world": frame.tolist(), "defects": specs}
    return stored


def main(arguments: Sequence[str] | None = None) -> None:
    """Place the synthetic defects of validation and test, and write the packaged file."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m calvaria.benchmarks.cases", description="place the defects")
    parser.add_argument("root", type=Path, help="folder of the AutoImplant 2020 set")
    parser.add_argument("-o", "--output", type=Path, default=PLACED)
    options = parser.parse_args(arguments)
    tasks = [task for side in ("validation", "test") for task in tasks_of(options.root, side)]
    lines = [f"{json.dumps(case)}: {json.dumps(entry)}" for case, entry in place(tasks).items()]
    write_text(options.output, "{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()


__all__ = ["BENCHMARK_KINDS", "OFFICIAL", "PLACED", "Task", "build", "canonical_frame", "place", "seed_of", "tasks_of"]
