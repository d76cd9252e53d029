"""Who is in a set twice, or in two sets: the same skull found again by its shape.

Every skull becomes a fingerprint in its canonical frame (`fingerprint`). All pairs are compared coarsely, with left
and right exchanged too (`neighbours`); the nearest neighbours are laid on each other, and the overlap decides.
Fingerprints and overlaps are kept in a work folder under the hash of the files' content: an interrupted search goes on,
and a second set is only compared, not read again.

On AutoImplant 2020 (85 complete and 99 defective skulls) the overlap of two scans of one person is at least 0.96;
docs/data.md has the figures for different persons.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from calvaria.datasets.fingerprint import FORMAT, Fingerprint, Overlap, fingerprint_of, overlap
from calvaria.datasets.layouts import SkullCase, skull_name
from calvaria.datasets.neighbours import Candidate, nearest, vectors
from calvaria.datasets.persons import connected
from calvaria.errors import CalvariaError, FormatError, InputError, one_line
from calvaria.files import write_text
from calvaria.io.result import sha256_of
from calvaria.jobs import Progress, counted, in_order, unheard

SAME = 0.93
"""Overlap from which two skulls are one person's. In AutoImplant 2020 the lowest of one person is 0.963, the highest of
two 0.883; skulls read again from 5 mm slices, with a hole and cut off at the landmark plane, by 0.93 to 0.95."""

LOOK = 0.89
"""Overlap from which a pair is shown to be looked at: a coarse scan or another threshold of the same head, a skull that
was smoothed, or an unusual likeness."""

TRY_MIRRORED = 0.82
"""Overlap from which a pair is also laid with left and right exchanged: a skull and its mirror image have about 0.9."""

MIN_COMPARED = 0.5
"""Share of the bone that must enter for an overlap to say "same person"; below, the pair is to be looked at."""

NEIGHBOURS = 6
"""Nearest neighbours of every skull that are laid on it."""

READING = 0.7
"""Share of the time that reading takes; only progress bars use it."""

KEPT = 64
"""Fingerprints held in memory by a process, about 10 MB each."""

VERSION = 1
"""Of the file of duplicates."""


@dataclass(frozen=True)
class Skull:
    """One skull to be compared.

    Args:
        name: case id without its kind of defect, with ``LABEL:`` before it if there are several sets.
        path: its bone: the complete skull, or else a defective one.
    """

    name: str
    path: Path


@dataclass(frozen=True)
class Pair:
    """Two skulls that were laid on each other.

    Args:
        a: name of the first.
        b: name of the second.
        overlap: soft Dice of the bone that both show, 0 to 1.
        compared: share of the bone that entered, 0 to 1.
        mirrored: whether ``b`` had left and right exchanged for it.
    """

    a: str
    b: str
    overlap: float
    compared: float
    mirrored: bool = False

    @property
    def verdict(self) -> str:
        """One of "same", "look" (at these) and "other"."""
        if self.overlap >= SAME and self.compared >= MIN_COMPARED:
            return "same"
        return "look" if self.overlap >= LOOK else "other"


@dataclass(frozen=True)
class Duplicates:
    """What a search for duplicates found.

    Args:
        skulls: names of all skulls that were compared.
        pairs: every pair that was laid on each other, highest overlap first.
        failed: name -> why a skull could not be compared.
    """

    skulls: tuple[str, ...]
    pairs: tuple[Pair, ...]
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Names that show one person, by connected components; only groups of two and more, in order of name."""
        return connected((pair.a, pair.b) for pair in self.pairs if pair.verdict == "same")

    @property
    def look_at(self) -> tuple[Pair, ...]:
        """Pairs too alike to be passed over and not alike enough to be grouped."""
        return tuple(pair for pair in self.pairs if pair.verdict == "look")

    def to_json(self) -> str:
        """The text of a file of duplicates, which ``calvaria data split --duplicates`` reads."""
        rows = [{**asdict(pair), "verdict": pair.verdict} for pair in self.pairs if pair.verdict != "other"]
        others = [pair.overlap for pair in self.pairs if pair.verdict == "other"]
        value = {
            "version": VERSION,
            "same_from": SAME,
            "look_from": LOOK,
            "groups": [list(group) for group in self.groups],
            "pairs": rows,
            "highest_of_other_pairs": max(others, default=None),
            "compared_pairs": len(self.pairs),
            "skulls": list(self.skulls),
            "failed": dict(self.failed),
        }
        return json.dumps(value, indent=1) + "\n"

    def save(self, path: Path) -> None:
        """Write the file; it appears whole or not at all.

        Raises:
            InputError: the disk refuses.
        """
        write_text(path, self.to_json())


def load_groups(path: Path) -> tuple[tuple[str, ...], ...]:
    """The groups of a file of duplicates.

    Raises:
        InputError: there is no such file.
        FormatError: it is no file of duplicates.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; calvaria data duplicates writes one")
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        groups = [[name for name in group if isinstance(name, str)] for group in value["groups"]]
        if value["version"] != VERSION or groups != value["groups"]:
            raise ValueError("version or groups are not as wanted")
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"{path.name}: not a file of duplicates ({error}); calvaria data duplicates writes one"
        ) from None
    return tuple(tuple(group) for group in groups)


def skulls_of(cases: Iterable[SkullCase]) -> list[Skull]:
    """One entry a skull: cases that differ only in their defect count once; cases without a file are left out."""
    found: dict[str, Path] = {}
    for case in cases:
        path = case.complete or case.defective
        if path is not None:
            found.setdefault(skull_name(case), path)
    return [Skull(name, path) for name, path in found.items()]


def find_duplicates(
    skulls: Sequence[Skull],
    work: Path,
    *,
    jobs: int = 1,
    neighbours: int = NEIGHBOURS,
    progress: Progress | None = None,
) -> Duplicates:
    """Find the skulls that show one person.

    Args:
        skulls: of one set or several; names must differ.
        work: folder of what is kept (about 100 kB a skull); the same folder for another call saves its work.
        jobs: processes.
        neighbours: how many nearest neighbours of every skull are laid on it.
        progress: called with the stage, the share done and the time that the stage will take.

    Returns:
        What was found; a skull that cannot be read or shows no calvaria is in ``failed``. No pairs for fewer than two.

    Raises:
        InputError: two skulls have one name, or the work folder cannot be written.
        WorkerDiedError: a process died; what is done is kept.
    """
    names = [skull.name for skull in skulls]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"{twice[0]}: two skulls have this name; give every case an id of its own")
    work = _folder(work)
    tell = progress or unheard
    prepared = in_order(_prepare, [(skull.path, work) for skull in skulls], jobs)
    read = counted(prepared, len(skulls), lambda what, share: tell(what, READING * share), "skulls read")
    failed = {name: problem for name, problem in zip(names, read, strict=True) if problem}
    good = [skull for skull in skulls if skull.name not in failed]
    close = nearest(vectors([skull.path for skull in good], work), neighbours)
    laid = _overlaps(good, close, work, jobs)
    rest = 1 - READING
    pairs = list(counted(laid, len(close), lambda what, share: tell(what, READING + rest * share), "pairs compared"))
    pairs.sort(key=lambda pair: (-pair.overlap, pair.a, pair.b))
    return Duplicates(tuple(skull.name for skull in good), tuple(pairs), failed)


def lay(a: Fingerprint, b: Fingerprint, mirrored: bool) -> tuple[Overlap, bool]:
    """The better overlap of two skulls and whether it is that with the mirror image of the second.

    The other way round is only tried where the first is no stranger's.
    """
    if a.sha256 and a.sha256 == b.sha256:
        return Overlap(1.0, 1.0, 0.0, 0.0), False
    best = overlap(a, b.mirrored if mirrored else b)
    if best.dice >= TRY_MIRRORED:
        other = overlap(a, b if mirrored else b.mirrored)
        if other.dice > best.dice:
            return other, not mirrored
    return best, mirrored


def _prepare(job: tuple[Path, Path]) -> str:
    """Make and keep a fingerprint; one line if that fails, else nothing."""
    path, work = job
    try:
        fingerprint_of(path, work)
    except CalvariaError as error:
        return one_line(error)
    return ""


def _laid(job: tuple[Path, Path, bool, Path]) -> tuple[Overlap, bool]:
    one, two, mirrored, work = job
    return lay(_print(one, work), _print(two, work), mirrored)


@lru_cache(maxsize=KEPT)
def _print(path: Path, work: Path) -> Fingerprint:
    """A kept fingerprint, with what it has been smoothed to."""
    return fingerprint_of(path, work)


def _overlaps(good: Sequence[Skull], close: Sequence[Candidate], work: Path, jobs: int) -> Iterator[Pair]:
    """The pairs laid on each other, those known from an earlier search first."""
    keys = {skull.name: sha256_of(skull.path)[:32] for skull in good}
    path = work / f"overlaps.v{FORMAT}.jsonl"
    known = _read_overlaps(path)
    rest = []
    for a, b, mirrored in close:
        kept = known.get((keys[good[a].name], keys[good[b].name]))
        if kept is None:
            rest.append((a, b, mirrored))
        else:
            yield Pair(good[a].name, good[b].name, *kept)
    with path.open("a", encoding="utf-8") as file:
        todo = [(good[a].path, good[b].path, mirrored, work) for a, b, mirrored in rest]
        for (a, b, _), (found, mirrored) in zip(rest, in_order(_laid, todo, jobs), strict=True):
            one, two = good[a].name, good[b].name
            figures = (round(found.dice, 4), round(found.compared, 4), mirrored)
            file.write(json.dumps([keys[one], keys[two], *figures]) + "\n")
            file.flush()
            yield Pair(one, two, *figures)


def _read_overlaps(path: Path) -> dict[tuple[str, str], tuple[float, float, bool]]:
    """Overlaps of earlier searches; a line that an interruption cut short is passed over and made anew."""
    known: dict[tuple[str, str], tuple[float, float, bool]] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, TypeError):
                one, two, dice, compared, mirrored = json.loads(line)
                known[one, two] = (float(dice), float(compared), bool(mirrored))
    return known


def _folder(work: Path) -> Path:
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{work}: cannot keep work there: {error.strerror}; give another folder") from error
    return work


__all__ = [
    "LOOK",
    "SAME",
    "Duplicates",
    "Pair",
    "Skull",
    "find_duplicates",
    "lay",
    "load_groups",
    "skulls_of",
]
