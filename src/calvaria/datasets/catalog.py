"""The sets that calvaria knows: what they are called, under which licence they come, where from, and their cases.

The one table of them: what is read from a folder and what is fetched from the net are described here, once. How the
files of each set lie is in `calvaria.datasets.layouts`; how they are fetched, in `calvaria.download`.
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
class Address:
    """A file of a set whose address is known.

    Args:
        name: what it is called in the folder that it is downloaded to.
        url: http or https.
    """

    name: str
    url: str


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One set: what it is, how it is read, and where it is fetched.

    Args:
        name: what it is called on the command line.
        title: what its authors call it.
        content: what it holds, in a few words.
        licence: under which all of it may be used, as its authors state it; None where no such statement was seen.
        licence_note: what is to be said besides, or instead where there is no one licence.
        citation: whom to cite.
        doi: of that; empty where there is none.
        layout: what a folder of it looks like, in a few words; empty for a set that cannot be read as it comes.
        reader: folder -> cases; None for a set that cannot be read as it comes.
        parts: what the published set holds; empty for one's own folders.
        other_names: that mean it too, in lower case.
        page: where a person finds it; empty for one's own folders.
        deposit: such as "figshare:14161307": asked for its files when the set is fetched; None: there is none.
        addresses: of files that are known besides; most sets have none. No size or hash is stated: repositories state
            them when they are asked, and for other addresses they are recorded at the first download.
        fetch_note: what is uncertain about that, or what to do by hand; empty where nothing is.
    """

    name: str
    title: str
    content: str
    citation: str
    licence: str | None = None
    licence_note: str = ""
    doi: str = ""
    layout: str = ""
    reader: Reader | None = None
    parts: tuple[Part, ...] = ()
    other_names: tuple[str, ...] = ()
    page: str = ""
    deposit: str | None = None
    addresses: tuple[Address, ...] = ()
    fetch_note: str = ""

    @property
    def is_public(self) -> bool:
        """Whether it was published, so that it can be fetched by the program or by hand."""
        return bool(self.page)

    @property
    def by_hand(self) -> bool:
        """Whether no address is known: a person must download it."""
        return self.deposit is None and not self.addresses

    @property
    def terms(self) -> str:
        """Under which licence it comes, in full."""
        if self.licence is None:
            return self.licence_note or NOT_VERIFIED
        return f"{self.licence} ({self.licence_note})" if self.licence_note else self.licence

    @property
    def source(self) -> str:
        """Where it comes from: its deposit, or its page."""
        return (self.deposit or "").replace(":", " ") or self.page or "your own"

    @property
    def description(self) -> str:
        """Title and content, in a line."""
        return f"{self.title}: {self.content}"

    @property
    def cite(self) -> str:
        """Whom to cite, with the doi."""
        return f"{self.citation}, doi:{self.doi}" if self.doi else self.citation

    def read(self, root: str | Path) -> list[SkullCase]:
        """Every case of the set in a folder.

        Raises:
            InputError: there is none, or the set cannot be read as it comes.
        """
        if self.reader is None:
            raise InputError(
                f"{self.name}: {self.title} cannot be read as it comes; lay its masks out as "
                f"{DATA_SETS['folders'].layout}, and name the set folders"
            )
        return self.reader(root)


_NC_SA = "CC BY-NC-SA 4.0"
_KODYM = "Kodym et al. 2021, SkullBreak / SkullFix, Data in Brief 35:106902"

DATA_SETS: Mapping[str, DataSet] = {
    one.name: one
    for one in (
        DataSet(
            name="autoimplant2021",
            title="AutoImplant 2021 (three tasks)",
            content="task 1 is SkullBreak, task 2 are 11 clinical defective skulls, task 3 is SkullFix",
            licence_note=f"tasks 1 and 3 {_NC_SA} (from CQ500); task 2 {NOT_VERIFIED}",
            citation="Li et al. 2023, AutoImplant 2021, Medical Image Analysis, 102865",
            doi="10.1016/j.media.2023.102865",
            layout="Task1 (SkullBreak), Task2/*.nrrd, Task3 (SkullFix)",
            reader=autoimplant2021,
            parts=(Part("task2/", 11),),
            page="https://autoimplant2021.grand-challenge.org",
            fetch_note="Licences differ by task; task 2's is not known. The page asks for an account.",
        ),
        DataSet(
            name="mug500",
            title="MUG500+",
            content="500 healthy skulls, 29 craniotomy skulls with implants",
            citation="Li et al. 2021, MUG500+, Data in Brief 39:107524",
            doi="10.1016/j.dib.2021.107524",
            layout="A0001/A0001.nrrd, B0001/{B0001.nrrd,B0001_implant.stl}",
            reader=mug500,
            parts=(Part("A", 500, 1, 4), Part("B", 29, 1, 4)),
            other_names=("mug500+",),
            page="https://figshare.com/articles/dataset/MUG500_Repository/9616319",
            deposit="figshare:9616319",
            fetch_note="Large: 195.6 GB were counted in version 20. Choose with --only, such as --only 'craniotomy*'.",
        ),
        DataSet(
            name="skullbreak",
            title="SkullBreak",
            content="114 training and 20 test skulls, five defects each",
            licence=_NC_SA,
            licence_note="from CQ500",
            citation=_KODYM,
            doi="10.1016/j.dib.2021.106902",
            layout="[train|test/]complete_skull/NNN.nrrd, {defective_skull,implant}/KIND/NNN.nrrd",
            reader=skullbreak,
            parts=(Part("train-", 570), Part("test-", 100)),
            page="https://doi.org/10.1016/j.dib.2021.106902",
            addresses=(Address("skullbreak_training.zip", "https://www.fit.vutbr.cz/~ikodym/skullbreak_training.zip"),),
            fetch_note="The paper's address has been reported unreachable since August 2024. Where it fails, ask the "
            "authors for the archives.",
        ),
        DataSet(
            name="autoimplant2020",
            title="AutoImplant 2020 / SkullFix",
            content="100 training triplets, 110 defective test skulls",
            licence=_NC_SA,
            licence_note="from CQ500",
            citation=f"Li et al. 2021, AutoImplant 2020, IEEE TMI 40:2329; {_KODYM}",
            doi="10.1016/j.dib.2021.106902",
            layout="training_set/{complete_skull,implant,defective_skull}/NNN.nrrd, test_set_for_participants/NNN.nrrd",
            reader=autoimplant2020,
            parts=(Part("train-", 100, 0), Part("test-", 100, 0), Part("additional-", 10, 100)),
            other_names=("skullfix",),
            page="https://figshare.com/articles/dataset/SkullFix_-_MICCAI_AutoImplant_2020_Challenge_Dataset/14161307",
            deposit="figshare:14161307",
        ),
        DataSet(
            name="folders",
            title="cases of your own",
            content="complete and defective skulls, patches, implants",
            licence_note="whatever you have agreed to",
            citation="none",
            layout="{complete,defective,patch,implant}/NAME.* or NAME/{complete,defective,patch,implant}.*",
            reader=folders,
        ),
        DataSet(
            name="scidata2021",
            title="Graz",
            content="24 patients, 240 pairs of synthetic defect and implant",
            citation="Li et al. 2021, Scientific Data 8:36",
            doi="10.1038/s41597-021-00806-0",
            page="https://doi.org/10.1038/s41597-021-00806-0",
            deposit="figshare:12423872",
            fetch_note="Whether the number is an item or a collection of figshare is not certain; both are tried.",
        ),
        DataSet(
            name="cq500",
            title="CQ500",
            content="491 head CTs (DICOM), the source of SkullFix and SkullBreak",
            licence=_NC_SA,
            citation="Chilamkurthy et al. 2018, Lancet 392:2388",
            page="http://headctstudy.qure.ai/dataset",
            fetch_note="The page asks for agreement to its terms.",
        ),
    )
}
"""Every set by its name: first those that can be read, in the order in which ``auto`` tries their layouts, the more
special first; then those that can only be fetched.

Addresses, numbers and licences are those of the sets' papers and of reports named here; none could be tried against the
live services while this was written."""

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
        InputError: there is no such set or folder, no case of it in the folder, or the set cannot be read as it comes.
    """
    return list(find_set(root, name).cases)


def find_set(root: str | Path, name: str = AUTO) -> FoundSet:
    """The set in a folder: as `read_set`, and which set it is."""
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder")
    if name != AUTO:
        data_set = data_set_of(name)
        return FoundSet(data_set, root, tuple(data_set.read(root)))
    readable = [one for one in DATA_SETS.values() if one.reader is not None]
    for data_set in readable:
        try:
            cases = data_set.read(root)
        except InputError:
            continue
        return FoundSet(data_set, root, tuple(cases))
    known = "; ".join(f"{one.name}: {one.layout}" for one in readable)
    raise InputError(f"{root}: no set recognised by its layout. Known layouts: {known}")


def data_set_of(name: str) -> DataSet:
    """The set of a name.

    Raises:
        InputError: there is none; the message lists them.

    >>> data_set_of("SkullFix").name
    'autoimplant2020'
    """
    found = named(name)
    if found is None:
        raise InputError(f"{name}: no such set; there are {', '.join(DATA_SETS)}, and auto to tell by the layout")
    return found


def public_set(name: str) -> DataSet:
    """The published set of a name.

    Raises:
        InputError: there is none; the message lists them.
    """
    found = named(name)
    if found is None or not found.is_public:
        names = ", ".join(one.name for one in public_sets())
        raise InputError(f"{name}: no set of that name; there are {names}, or give an address")
    return found


def public_sets() -> tuple[DataSet, ...]:
    """The published sets: all that can be fetched, by the program or by hand."""
    return tuple(one for one in DATA_SETS.values() if one.is_public)


def named(name: str) -> DataSet | None:
    """The set of a name or of another name of it, in any case; None where there is none."""
    key = name.casefold()
    return next((one for one in DATA_SETS.values() if key == one.name or key in one.other_names), None)


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
    "NOT_VERIFIED",
    "SAME_PERSON_AUTOIMPLANT2020",
    "TEST_FOLDERS",
    "Address",
    "DataSet",
    "FoundSet",
    "Part",
    "SkullCase",
    "autoimplant2020",
    "data_set_of",
    "find_set",
    "find_sets",
    "joined",
    "named",
    "person_of",
    "public_set",
    "public_sets",
    "read_set",
    "skull_name",
]
