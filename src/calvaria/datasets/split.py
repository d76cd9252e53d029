"""Splits by person: drawn once from a seed, written to a small file, never changed, and refused if they leak.

A person who has several skulls goes to training with all of them, and so do the cases whose truth is not public; the
defects cut from one skull stay together. The packaged split of AutoImplant 2020, on which all figures rest, was
written, and can be checked, by::

    python -m calvaria.datasets.split ROOT -o src/calvaria/datasets/splits/autoimplant2020.json

with ROOT the folder of the AutoImplant 2020 set (see :mod:`calvaria.datasets.catalog`).

A file holds a digest of every case's skull: of its voxels, so that a copy in another format or with another
compression is the same input, and another skull under the same name and size is not.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calvaria.datasets.catalog import SkullCase, autoimplant2020, person_of, skull_name
from calvaria.datasets.persons import groups_of, same_content, train_first, with_groups
from calvaria.errors import FormatError, InputError, one_line
from calvaria.files import write_text
from calvaria.jobs import Progress, counted

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
        inputs: (id, digest of its skull's voxels) of each case; empty where the files were not read.

    Raises:
        InputError: an id appears twice, a person is on two sides, or one skull's voxels are.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    same_person: tuple[tuple[str, ...], ...] = ()
    seed: int = SEED
    inputs: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        twice = [name for name, times in Counter(self.ids).items() if times > 1]
        if twice:
            raise InputError(f"the split leaks: {', '.join(sorted(twice))} appears more than once")
        self.require_apart({case: person_of(case, self.same_person) for case in self.ids}, "are one person")
        self.require_apart(dict(self.inputs), "hold the same skull, voxel for voxel")

    def require_apart(self, key_of: Mapping[str, str], why: str) -> None:
        """Raise where two cases of different sides have one key.

        Args:
            key_of: id -> what must not be on two sides; ids without a key are passed over.
            why: how the message goes on after the two cases.

        Raises:
            InputError: with the two cases and their sides.
        """
        home: dict[str, tuple[str, str]] = {}
        for side in SIDES:
            for case in self.side(side):
                if case in key_of:
                    first, other = home.setdefault(key_of[case], (side, case))
                    if first != side:
                        raise InputError(f"the split leaks: {other} ({first}) and {case} ({side}) {why}")

    @property
    def ids(self) -> tuple[str, ...]:
        """All case ids."""
        return self.train + self.validation + self.test

    @property
    def sha256(self) -> str:
        """Digest of which id is on which side, and of the inputs; the order of the ids does not matter."""
        lines = [f"{side} {case}" for side in SIDES for case in sorted(self.side(side))]
        lines += [f"input {case} {digest}" for case, digest in sorted(self.inputs)]
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
        inputs = {"inputs": dict(self.inputs)} if self.inputs else {}
        value = {"seed": self.seed, "sha256": self.sha256, "same_person": groups, **sides, **inputs}
        return json.dumps(value, indent=1) + "\n"

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
            inputs = tuple((str(case), str(digest)) for case, digest in values.get("inputs", {}).items())
            split = cls(**sides, same_person=groups, seed=int(values["seed"]), inputs=inputs)
            digest = values["sha256"]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{name}: not a split file ({error}); calvaria data split writes one") from None
        if digest != split.sha256:
            raise FormatError(f"{name}: the ids do not match its sha256, so it was edited; draw it again from its seed")
        return split


def draw_split(
    cases: Sequence[SkullCase],
    seed: int = SEED,
    *,
    test: float = TEST_PERSONS,
    validation: float = VALIDATION_PERSONS,
    digests: Mapping[str, str] | None = None,
) -> Split:
    """Draw a split by person.

    Args:
        cases: all cases of one set or several; the order does not matter. Groups found by
            `calvaria.datasets.duplicates` are joined first, with `calvaria.datasets.persons.with_groups`.
        seed: the same seed and ids give the same split.
        test: persons to report on, or, below 1, the share of those who can be held out.
        validation: persons to choose settings on; likewise.
        digests: id -> digest of its skull (`digests_of`). Cases of one digest are taken for one person.

    Returns:
        Persons of one skull whose truth is known, on the test and the validation side with all defects of it; all other
        cases in training.

    Raises:
        InputError: an id appears twice, the numbers are negative, or no person is left for training.
    """
    digests = digests or {}
    cases = with_groups(cases, same_content(digests))
    skulls: dict[str, set[str]] = {}
    for case in cases:
        skulls.setdefault(case.person, set()).add(skull_name(case))
    hidden = {case.person for case in cases if not (case.complete or case.patch or case.implant)}
    single = sorted(next(iter(names)) for person, names in skulls.items() if len(names) == 1 and person not in hidden)
    counts = [_count(test, len(single), "test"), _count(validation, len(single), "validation")]
    held_out = sum(counts)
    if len(single) <= held_out:
        raise InputError(f"a split needs more than {held_out} persons with one complete skull; got {len(single)}")
    drawn = [single[n] for n in np.random.default_rng(seed).permutation(len(single))[:held_out]]
    side_of = {name: "test" if place < counts[0] else "validation" for place, name in enumerate(drawn)}
    sides: dict[str, list[str]] = {side: [] for side in SIDES}
    for case in cases:
        sides[side_of.get(skull_name(case), "train")].append(case.id)
    train, held, reported = (tuple(sorted(sides[side], key=train_first)) for side in SIDES)
    return Split(train, held, reported, groups_of(cases), seed, tuple(sorted(digests.items())))


def digests_of(cases: Sequence[SkullCase], progress: Progress | None = None) -> tuple[dict[str, str], dict[str, str]]:
    """Digest of the voxels of every case's skull (`calvaria.datasets.content.mask_digest`).

    Args:
        cases: each file is read once, however many cases share it.
        progress: called with the cases read and the time left.

    Returns:
        id -> digest, and id -> why there is none.
    """
    from calvaria.datasets.content import mask_digest, skull_file
    from calvaria.io import read_mask

    of_file: dict[Path, str] = {}
    digests: dict[str, str] = {}
    failed: dict[str, str] = {}
    for case in counted(cases, len(cases), progress, "cases read"):
        path = skull_file(case)
        try:
            if path is None:
                raise InputError("there is neither a complete nor a defective skull")
            digests[case.id] = of_file.setdefault(path, "") or mask_digest(read_mask(path))
            of_file[path] = digests[case.id]
        except InputError as error:
            failed[case.id] = one_line(error)
    return digests, failed


def verify_split(
    split: Split,
    cases: Sequence[SkullCase],
    groups: Iterable[Sequence[str]] = (),
    digests: Mapping[str, str] | None = None,
) -> list[str]:
    """Whether a split still fits the files and what is known of them.

    Args:
        split: from a file.
        cases: those present now.
        groups: more groups of one person, found since.
        digests: of the skulls that are there now.

    Returns:
        One line for each difference: cases that are gone or new, skulls that have changed. Empty if all is as it was.

    Raises:
        InputError: the split leaks by the persons, the groups or the digests.
    """
    split.require_apart({case.id: case.person for case in with_groups(cases, groups)}, "are one person")
    split.require_apart(digests or {}, "hold the same skull, voxel for voxel")
    there, ids = {case.id for case in cases}, set(split.ids)
    lines = [f"{name}: in the split, not in the folder" for name in split.ids if name not in there]
    lines += [f"{case.id}: in the folder, not in the split" for case in cases if case.id not in ids]
    recorded = dict(split.inputs)
    for name, digest in (digests or {}).items():
        if recorded.get(name, digest) != digest:
            lines.append(f"{name}: its skull is not the one that the split was drawn from")
    return lines


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


def of_sides(cases: Iterable[SkullCase], sides: Iterable[str]) -> list[SkullCase]:
    """Those of some cases whose persons are on some sides of the packaged split.

    Raises:
        InputError: there is no such side.
    """
    split = load_split()
    persons = {person_of(name) for side in sides for name in split.side(side)}
    return [case for case in cases if case.person in persons]


def _count(wanted: float, of: int, side: str) -> int:
    """Persons of a side: a number as it is, a share below 1 of those who can be held out."""
    whole = round(wanted * of) if 0 < wanted < 1 else wanted
    if whole < 0 or whole != int(whole):
        raise InputError(f"{side}: a number of persons, or a share below 1, is wanted; got {wanted:g}")
    return int(whole)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the AutoImplant 2020 split from a folder and write its file."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m calvaria.datasets.split", description="draw the split by person")
    parser.add_argument("root", type=Path, help="folder of the AutoImplant 2020 set")
    parser.add_argument("-o", "--output", type=Path, default=SPLITS / "autoimplant2020.json")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(arguments)
    split = draw_split(autoimplant2020(options.root), options.seed)
    write_text(options.output, split.to_json())


if __name__ == "__main__":
    main()


__all__ = [
    "SEED",
    "SIDES",
    "Split",
    "digests_of",
    "draw_split",
    "load_split",
    "of_sides",
    "verify_split",
]
