"""Training cases of the correction: holes of training persons as a prior completes them that has not seen the person.

One file a hole, on a crop of the common box, with the truth; made once, in any number of processes, and resumed.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calvaria.data.cache import SkullCache
from calvaria.data.defects import KINDS, cut_defect, seed_of
from calvaria.reconstruction.box import FINE_MM, to_box
from calvaria.reconstruction.correction import Completion, shown_box
from calvaria.reconstruction.repose import settle
from calvaria.reconstruction.shape_prior import ShapePrior
from calvaria.skull.canonical import locate
from calvaria.training.folds import FoldPriors
from calvaria.training.shape_prior import chosen
from calvaria.volume.resample import coarsen
from calvaria.volume.volume import Volume, bounding_box

F32 = NDArray[np.float32]
Note = Callable[[str], None]

OFFICIAL = "official"
"""The hole that comes with the data set."""

HOLES = (OFFICIAL, *(kind for kind in KINDS if kind != "ball"))
"""What each person's skull is cut with."""

LENGTHS = ("values", "distance_mm", "gap_mm", "opposite_mm", "opposite_fit", "truth_mm")
"""What is kept in hundredths of a mm, at most `MOST_MM` of them."""

MOST_MM = 12.0


@dataclass(frozen=True)
class Hole:
    """A training person's skull with a hole.

    Args:
        case: id of the skull.
        person: whose it is.
        kind: of the hole.
        complete: file of the complete skull.
        patch: file of the patch, for the official hole; None: the hole is cut.
    """

    case: str
    person: str
    kind: str
    complete: Path
    patch: Path | None = None

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.kind}-{self.case}"


def training_holes(root: Path, kinds: Sequence[str] = HOLES) -> list[Hole]:
    """Every kind of hole in every training person whose complete skull is there.

    Args:
        root: folder of the AutoImplant 2020 set.
        kinds: kinds of holes.
    """
    out = []
    for case in chosen(root, "train"):
        if case.complete is None:
            continue
        for kind in kinds:
            if kind != OFFICIAL:
                out.append(Hole(case.id, case.person, kind, case.complete))
            elif case.patch is not None:
                out.append(Hole(case.id, case.person, kind, case.complete, case.patch))
    return out


def write_completions(holes: Sequence[Hole], priors: FoldPriors, note: Note, *, jobs: int = 1) -> list[Path]:
    """Complete the holes whose file is not there yet.

    Args:
        holes: which.
        priors: complete them, each by the prior that has not seen the person; their folder takes the files.
        note: told a line now and then, with the time left.
        jobs: processes.

    Returns:
        The files, in the order of their names: the holes that the prior found.
    """
    _each(priors.missing(), partial(_field, priors.cache.path, priors.work, priors.folds), note, "skulls", jobs)
    todo = [hole for hole in holes if not _done(priors.work, hole)]
    _each(todo, partial(_complete, priors.cache.path, priors.work, priors.folds), note, "holes completed", jobs)
    wanted = {f"{hole.name}.npz" for hole in holes}
    return sorted(path for path in priors.work.glob("*.npz") if path.name in wanted)


def complete_hole(hole: Hole, prior: ShapePrior) -> dict[str, NDArray[Any]] | None:
    """What the prior makes of a hole, beside the truth; None if it finds none.

    Args:
        hole: the skull and its hole.
        prior: that has not seen the person.

    Returns:
        `Completion`'s arrays but the usual depth of bone, and ``truth_mm``, the distances of the complete skull,
        cropped to what the network is shown; ``start``, where in the box that lies. Lengths are int16, hundredths of a
        mm.
    """
    defective, patch = _cut(hole)
    head = bounding_box(defective.mask | patch.mask)
    if head is None:
        return None
    defective, patch = defective.crop(head), patch.crop(head)
    frame, field, sketch = settle(defective, locate(defective, prior.template), prior)
    shown: list[Completion] = []

    def watch(completion: Completion) -> F32:
        shown.append(completion)
        return completion.values

    ShapePrior(prior.model, prior.template, prior.settings, watch).complete(field, sketch)
    box = shown_box(shown[-1].gap_mm) if shown else None
    if box is None:
        return None
    whole = defective.with_data(defective.mask | patch.mask)
    truth = to_box(coarsen(whole, FINE_MM), frame).distance_mm[box]
    found = shown[-1].crop(box)._asdict() | {"truth_mm": truth}
    del found["depth"]  # the same for all
    for name in LENGTHS:
        found[name] = np.round(np.clip(found[name], -MOST_MM, MOST_MM) * 100).astype(np.int16)
    return found | {"start": np.array([part.start for part in box])}


def _cut(hole: Hole) -> tuple[Volume, Volume]:
    """The skull with the hole, and the true patch."""
    from calvaria.io import read_mask

    complete = read_mask(hole.complete)
    if hole.patch is not None:
        patch = read_mask(hole.patch)
        complete.grid.require_same(patch.grid, f"{hole.case}: complete skull and implant")
        return complete.with_data(complete.mask & ~patch.mask), patch
    rng = np.random.default_rng(seed_of(hole.person, hole.kind))
    _, defective, patch = cut_defect(complete, hole.kind, rng, locate(complete).to_world)
    return defective, patch


@lru_cache(maxsize=1)
def _priors(cache: Path, work: Path, folds: int) -> FoldPriors:
    """One a process."""
    return FoldPriors(SkullCache(cache), work, folds)


def _field(cache: Path, work: Path, folds: int, row: int) -> None:
    _priors(cache, work, folds).write_field(row)


def _complete(cache: Path, work: Path, folds: int, hole: Hole) -> None:
    found = complete_hole(hole, _priors(cache, work, folds).of(hole.person))
    if found is None:
        (work / f"{hole.name}.none").touch()
        return
    part = work / f"{hole.name}.part.npz"
    np.savez_compressed(part, **found)  # type: ignore[arg-type]
    part.replace(work / f"{hole.name}.npz")


def _done(work: Path, hole: Hole) -> bool:
    return any((work / f"{hole.name}.{ending}").exists() for ending in ("npz", "none"))


def _each(todo: Sequence[Any], work: Callable[[Any], None], note: Note, what: str, jobs: int) -> None:
    began = time.monotonic()
    for count, _ in enumerate(_mapped(todo, work, jobs), 1):
        if count % 20 == 0 or count == len(todo):
            left = (time.monotonic() - began) / count * (len(todo) - count) / 60
            note(f"{what}: {count} of {len(todo)}, {left:.0f} min left")


def _mapped(todo: Sequence[Any], work: Callable[[Any], None], jobs: int) -> Iterator[None]:
    if jobs == 1 or len(todo) < 2:
        yield from map(work, todo)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, todo)


__all__ = ["HOLES", "LENGTHS", "Hole", "complete_hole", "training_holes", "write_completions"]
