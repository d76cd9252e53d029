"""The sets that calvaria can read: what they are called, under which licence they come, and their cases.

How the files of each set lie is in `calvaria.datasets.layouts`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from calvaria.datasets.layouts import (
    SAME_PERSON_AUTOIMPLANT2020,
    TEST_FOLDERS,
    SkullCase,
    autoimplant2020,
    autoimplant2021,
    folders,
    mug500,
    person_of,
    skull_name,
    skullbreak,
)
from calvaria.errors import InputError

Reader = Callable[[str | Path], list[SkullCase]]

NOT_VERIFIED = "not verified here: read the terms on the page it comes from"


@dataclass(frozen=True)
class Part:
    """A part of a set as it was published.

    Args:
        ids: what the ids of its cases begin with.
        cases: how many there are.
        first: the first number, where the ids are the prefix and consecutive numbers; None where they are not.
        digits: digits of the numbers.
    """

    ids: str
    cases: int
    first: int | None = None
    digits: int = 3

    @property
    def expected(self) -> tuple[str, ...]:
        """Every id; none where the numbers are not known."""
        if self.first is None:
            return ()
        return tuple(f"{self.ids}{self.first + n:0{self.digits}d}" for n in range(self.cases))


@dataclass(frozen=True)
class DataSet:
    """One set.

    Args:
        name: what it is called on the command line.
        title: what its authors call it.
        licence: under which it may be used; "not verified" where no statement of its authors was seen.
        citation: whom to cite.
        doi: of that.
        source: where it comes from.
        layout: what a folder of it looks like, in a few words.
        reader: folder -> cases.
        parts: what the published set holds; empty for one's own folders.
    """

    name: str
    title: str
    licence: str
    citation: str
    doi: str
    source: str
    layout: str
    reader: Reader
    parts: tuple[Part, ...] = ()


_KODYM = "Kodym et al. 2021, SkullBreak / SkullFix, Data in Brief 35:106902"

DATA_SETS: Mapping[str, DataSet] = {
    one.name: one
    for one in (
        DataSet(
            "autoimplant2021",
            "AutoImplant 2021 (three tasks)",
            f"tasks 1 and 3 CC BY-NC-SA 4.0 (from CQ500); task 2 {NOT_VERIFIED}",
            "Li et al. 2023, AutoImplant 2021, Medical Image Analysis, 102865",
            "10.1016/j.media.2023.102865",
            "autoimplant2021.grand-challenge.org",
            "Task1 (SkullBreak), Task2/*.nrrd, Task3 (SkullFix)",
            autoimplant2021,
            (Part("task2/", 11),),
        ),
        DataSet(
            "mug500",
            "MUG500+",
            NOT_VERIFIED,
            "Li et al. 2021, MUG500+, Data in Brief 39:107524",
            "10.1016/j.dib.2021.107524",
            "figshare 9616319",
            "A0001/A0001.nrrd, B0001/{B0001.nrrd,B0001_implant.stl}",
            mug500,
            (Part("A", 500, 1, 4), Part("B", 29, 1, 4)),
        ),
        DataSet(
            "skullbreak",
            "SkullBreak",
            "CC BY-NC-SA 4.0 (from CQ500)",
            _KODYM,
            "10.1016/j.dib.2021.106902",
            "Brno University of Technology; its old address does not answer",
            "[train|test/]complete_skull/NNN.nrrd, {defective_skull,implant}/KIND/NNN.nrrd",
            skullbreak,
            (Part("train-", 570), Part("test-", 100)),
        ),
        DataSet(
            "autoimplant2020",
            "AutoImplant 2020 / SkullFix",
            "CC BY-NC-SA 4.0 (from CQ500)",
            f"Li et al. 2021, AutoImplant 2020, IEEE TMI 40:2329; {_KODYM}",
            "10.1016/j.dib.2021.106902",
            "figshare 14161307",
            "training_set/{complete_skull,implant,defective_skull}/NNN.nrrd, test_set_for_participants/NNN.nrrd",
            autoimplant2020,
            (Part("train-", 100, 0), Part("test-", 100, 0), Part("additional-", 10, 100)),
        ),
        DataSet(
            "folders",
            "cases of your own",
            "whatever you have agreed to",
            "none",
            "",
            "your own",
            "{complete,defective,patch,implant}/NAME.* or NAME/{complete,defective,patch,implant}.*",
            folders,
        ),
    )
}
"""Every set by its name, in the order in which ``auto`` tries their layouts: the more special first."""

OTHER_NAMES = {"skullfix": "autoimplant2020", "mug500+": "mug500"}
"""Names that mean a set of the table."""

AUTO = "auto"


@dataclass(frozen=True)
class FoundSet:
    """A set in a folder.

    Args:
        data_set: which.
        root: the folder.
        cases: what is in it, in the order of the reader.
    """

    data_set: DataSet
    root: Path
    cases: tuple[SkullCase, ...]


def read_set(name: str, root: str | Path) -> list[SkullCase]:
    """Every case of a set in a folder.

    Args:
        name: one of `DATA_SETS`, another name of one, or "auto" to tell by the layout.
        root: the folder.

    Raises:
        InputError: there is no such set or folder, or no case of it in the folder.
    """
    return list(find_set(root, name).cases)


def find_set(root: str | Path, name: str = AUTO) -> FoundSet:
    """The set in a folder: as `read_set`, and which set it is."""
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder")
    if name != AUTO:
        data_set = data_set_of(name)
        return FoundSet(data_set, root, tuple(data_set.reader(root)))
    for data_set in DATA_SETS.values():
        try:
            cases = data_set.reader(root)
        except InputError:
            continue
        return FoundSet(data_set, root, tuple(cases))
    known = "; ".join(f"{one.name}: {one.layout}" for one in DATA_SETS.values())
    raise InputError(f"{root}: no set recognised by its layout. Known layouts: {known}")


def data_set_of(name: str) -> DataSet:
    """The set of a name.

    Raises:
        InputError: there is none; the message lists them.

    >>> data_set_of("SkullFix").name
    'autoimplant2020'
    """
    key = OTHER_NAMES.get(name.lower(), name.lower())
    if key not in DATA_SETS:
        raise InputError(f"{name}: no such set; there are {', '.join(DATA_SETS)}, and auto to tell by the layout")
    return DATA_SETS[key]


def find_sets(roots: Sequence[str | Path], name: str = AUTO) -> dict[str, FoundSet]:
    """Several sets, each under a label of its own: the set's name, or the folder's where two are one set.

    Raises:
        InputError: as `read_set`; or two folders of one set have one name.
    """
    found = [find_set(root, name) for root in roots]
    times = Counter(one.data_set.name for one in found)
    labels = [one.data_set.name if times[one.data_set.name] == 1 else one.root.absolute().name for one in found]
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise InputError(f"two folders called {twice[0]} hold the same set; rename one, its name tells them apart")
    return dict(zip(labels, found, strict=True))


def joined(sets: Mapping[str, FoundSet]) -> list[SkullCase]:
    """The cases of all sets; with several sets, ids and persons have ``LABEL:`` before them."""
    if len(sets) == 1:
        return [case for one in sets.values() for case in one.cases]
    return [
        replace(case, id=f"{label}:{case.id}", person=f"{label}:{case.person}")
        for label, one in sets.items()
        for case in one.cases
    ]


__all__ = [
    "AUTO",
    "DATA_SETS",
    "SAME_PERSON_AUTOIMPLANT2020",
    "TEST_FOLDERS",
    "DataSet",
    "FoundSet",
    "Part",
    "SkullCase",
    "autoimplant2020",
    "data_set_of",
    "find_set",
    "find_sets",
    "joined",
    "person_of",
    "read_set",
    "skull_name",
]
