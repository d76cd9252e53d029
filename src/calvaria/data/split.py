"""The split by person that all figures rest on: drawn once from a seed, packaged, never changed.

A person who has several files goes to training with all of them, and so do the cases whose truth is not public.
The packaged file was written, and can be checked, by::

    python -m calvaria.data.split ROOT -o src/calvaria/data/splits/autoimplant2020.json

with ROOT the folder of the AutoImplant 2020 set (see :mod:`calvaria.data.catalog`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calvaria.data.catalog import SkullCase, autoimplant2020, person_of
from calvaria.errors import FormatError, InputError

SPLITS = Path(__file__).parent / "splits"
"""Folder of the packaged split files."""

SEED = 20261120
"""Seed of the packaged AutoImplant 2020 split."""

TEST_PERSONS = 15
VALIDATION_PERSONS = 10

SIDES = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Case ids on three sides, no person on two of them.

    Args:
        train: ids to learn from; includes the cases without a public truth.
        validation: ids to choose settings on.
        test: ids to report on, and nothing else.
        same_person: groups of ids that show one person; an id in no group is a person of its own.
        seed: what the split was drawn with.

    Raises:
        InputError: an id appears twice, or a person is on two sides.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    same_person: tuple[tuple[str, ...], ...] = ()
    seed: int = SEED

    def __post_init__(self) -> None:
        twice = [name for name, times in Counter(self.ids).items() if times > 1]
        if twice:
            raise InputError(f"the split leaks: {', '.join(sorted(twice))} appears more than once")
        home: dict[str, tuple[str, str]] = {}
        for side in SIDES:
            for case in self.side(side):
                first, other = home.setdefault(person_of(case, self.same_person), (side, case))
                if first != side:
                    raise InputError(f"the split leaks: {other} ({first}) and {case} ({side}) are one person")

    @property
    def ids(self) -> tuple[str, ...]:
        """All case ids."""
        return self.train + self.validation + self.test

    @property
    def sha256(self) -> str:
        """Digest of which id is on which side; the order of the ids does not matter."""
        lines = [f"{side} {case}" for side in SIDES for case in sorted(self.side(side))]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def side(self, name: str) -> tuple[str, ...]:
        """Case ids of one side by its name.

        Raises:
            InputError: there is no such side.
        """
        if name not in SIDES:
            raise InputError(f"a split has the sides {', '.join(SIDES)}; got {name!r}")
        ids: tuple[str, ...] = getattr(self, name)
        return ids

    def to_json(self) -> str:
        """The split as the text of a split file."""
        sides = {side: list(self.side(side)) for side in SIDES}
        groups = [list(group) for group in self.same_person]
        return json.dumps({"seed": self.seed, "sha256": self.sha256, "same_person": groups, **sides}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str = "split") -> Split:
        """A split from the text of a split file.

        Args:
            text: what :meth:`to_json` gave.
            name: what to call the file in error messages.

        Raises:
            FormatError: the text is no split file, or it was changed after it was written.
            InputError: a person is on two sides.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            sides = {side: tuple(map(str, values[side])) for side in SIDES}
            groups = tuple(tuple(map(str, group)) for group in values["same_person"])
            split = cls(**sides, same_person=groups, seed=int(values["seed"]))
            digest = values["sha256"]
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{name}: not a split file ({error}); python -m calvaria.data.split writes one") from None
        if digest != split.sha256:
            raise FormatError(f"{name}: the ids do not match its sha256, so it was edited; draw it again from its seed")
        return split


def draw_split(cases: Sequence[SkullCase], seed: int = SEED) -> Split:
    """Draw a split by person.

    Args:
        cases: all cases; the order does not matter.
        seed: the same seed and ids give the same split.

    Returns:
        ``TEST_PERSONS`` and ``VALIDATION_PERSONS`` persons of one complete skull each, all other cases in training.

    Raises:
        InputError: there are too few persons to have any left for training.
    """
    files = Counter(case.person for case in cases)
    single = sorted(case.id for case in cases if case.complete is not None and files[case.person] == 1)
    held_out = TEST_PERSONS + VALIDATION_PERSONS
    if len(single) <= held_out:
        raise InputError(f"a split needs more than {held_out} persons with one complete skull; got {len(single)}")
    drawn = np.random.default_rng(seed).permutation(len(single))[:held_out]
    test = sorted(single[n] for n in drawn[:TEST_PERSONS])
    validation = sorted(single[n] for n in drawn[TEST_PERSONS:])
    train = sorted({case.id for case in cases} - set(test) - set(validation), key=_train_first)
    groups = _groups(cases)
    return Split(tuple(train), tuple(validation), tuple(test), groups, seed)


def load_split(name: str | Path = "autoimplant2020") -> Split:
    """A packaged split by its name, or any split file by its path (ending in ``.json``).

    Raises:
        InputError: there is no such split, or a person is on two of its sides.
        FormatError: the file is damaged or was edited.

    >>> split = load_split("autoimplant2020")
    >>> len(split.test), len(split.validation)
    (15, 10)
    """
    path = Path(name) if Path(name).suffix == ".json" else SPLITS / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in SPLITS.glob("*.json")))
        raise InputError(f"{name}: no such split; packaged are: {known}; or give a .json file")
    try:
        return Split.from_json(path.read_text(encoding="utf-8"), path.name)
    except InputError as error:
        if path.name in str(error):
            raise
        raise type(error)(f"{path.name}: {error}") from None


def _groups(cases: Iterable[SkullCase]) -> tuple[tuple[str, ...], ...]:
    """Ids that share a person, the person's own id first."""
    members: dict[str, list[str]] = {}
    for case in cases:
        members.setdefault(case.person, []).append(case.id)
    shared = {person: sorted(ids, key=_train_first) for person, ids in members.items() if len(ids) > 1}
    return tuple(tuple(shared[person]) for person in sorted(shared, key=_train_first))


def _train_first(case_id: str) -> tuple[bool, str]:
    return not case_id.startswith("train"), case_id


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the AutoImplant 2020 split from a folder and write its file."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m calvaria.data.split", description="draw the split by person")
    parser.add_argument("root", type=Path, help="folder of the AutoImplant 2020 set")
    parser.add_argument("-o", "--output", type=Path, default=SPLITS / "autoimplant2020.json")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(arguments)
    split = draw_split(autoimplant2020(options.root), options.seed)
    options.output.write_text(split.to_json(), encoding="utf-8")


if __name__ == "__main__":
    main()


__all__ = ["SEED", "Split", "draw_split", "load_split"]
