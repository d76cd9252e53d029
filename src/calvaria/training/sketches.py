"""What the shape prior makes of training cases: the further channel that a network can be given (``--prior``).

Each case is sketched by a prior that was fitted to the other folds of persons (`training.folds`); validation cases are
sketched by the prior that ships, which knows training persons only.

A sketch takes seconds, a training step less: the first so many cases of a training are sketched once and kept in a
file, and shown over and over, mirrored or not.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from calvaria.datasets.cache import SkullCache
from calvaria.datasets.split import load_split
from calvaria.deformation.flow import coarser
from calvaria.errors import FormatError, InputError
from calvaria.files import atomic_path
from calvaria.jobs import Progress, in_order, unheard
from calvaria.models import write_arrays
from calvaria.reconstruction.engines import load_prior
from calvaria.reconstruction.repose import missing_share, settle
from calvaria.skull.canonical import locate
from calvaria.synthesis.augmentation.draw import NOTHING
from calvaria.synthesis.batched.cases import CaseMaker, CaseSettings
from calvaria.training.folds import FoldPriors, train_rows
from calvaria.training.recipes.sketches import SketchRecipe
from calvaria.types import U8
from calvaria.volume.volume import Volume, bounding_box

FORMAT = "calvaria-sketches-1"

VALIDATION_SEED = 1_000_003
"""Of the validation cases; training cases never use it."""

NOTE_EVERY = 20
"""Pieces of work between two lines."""

TRAIN, VALIDATION = "train", "validation"
"""The two rows of cases: those that are learned from, and those that are watched."""


class Sketches:
    """A file of sketches, read whole.

    Args:
        path: that `build_sketches` wrote.

    Raises:
        InputError: there is no such file.
        FormatError: it is another kind of file.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(
                f"{path}: no such file; make it with: calvaria train sketches --cache CACHE -o {path.name}"
            )
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads(file.metadata()["calvaria"])
                if about["format"] != FORMAT:
                    raise ValueError(f"layout {about['format']!r}, this version reads {FORMAT!r}")
                self._packed: U8 = file.get_tensor("sketches")
                self._start: NDArray[np.int64] = file.get_tensor("start")
                self._box: NDArray[np.int16] = file.get_tensor("box")
            self.key, self.count, self.validation_cases = (
                str(about["key"]),
                int(about["count"]),
                int(about["look_cases"]),
            )
            i, j, k = about["shape"]
            self.shape = (int(i), int(j), int(k))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{path.name}: no sketches of the shape prior ({error}); make them anew") from None

    def read(self, side: str, number: int) -> Tensor:
        """(X, Y, Z) float32: how much of each training voxel the prior holds for missing bone, of a case."""
        row = number % self.count if side == TRAIN else self.count + number
        a, b, c, d, e, f = (int(v) for v in self._box[row])
        out = torch.zeros(self.shape)
        if d > a:
            packed = self._packed[self._start[row] : self._start[row + 1]].tobytes()
            part = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(d - a, e - b, f - c)
            out[a:d, b:e, c:f] = torch.from_numpy(part.astype(np.float32) / 255)
        return out


def build_sketches(recipe: SketchRecipe, progress: Progress = unheard) -> Path:
    """Sketch the cases that are not there yet, and write all into one file.

    Args:
        recipe: which, and where to.
        progress: told a line now and then, with the time left.

    Returns:
        The file.

    Raises:
        InputError: the cache holds nobody of the split's training persons, or no complete validation skull.
    """
    work = recipe.work / f"sketches-{recipe.key()}"
    work.mkdir(parents=True, exist_ok=True)
    cache = SkullCache(recipe.cache)
    if any(n % recipe.coarsen for n in cache.grid.shape):
        raise InputError(f"coarsen: the cache's {cache.grid.shape} voxels do not divide by {recipe.coarsen}")
    fields = [("field", row) for row in FoldPriors(cache, work, recipe.folds).missing()]
    _each(_done(fields, recipe, work), len(fields), len(train_rows(cache)), progress, "skulls in the common box")
    tasks = [(TRAIN, n) for n in range(recipe.count)] + [(VALIDATION, n) for n in range(recipe.validation_cases)]
    todo = [(side, n) for side, n in tasks if not (work / f"{side}-{n}.npz").exists()]
    _each(_done(todo, recipe, work), len(todo), len(tasks), progress, "cases sketched")
    boxes, parts = [], []
    for side, number in tasks:
        found = np.load(work / f"{side}-{number}.npz")
        boxes.append(found["box"])
        parts.append(np.frombuffer(zlib.compress(found["part"].tobytes(), 6), np.uint8))
    arrays: dict[str, NDArray[Any]] = {
        "box": np.array(boxes, np.int16),
        "start": np.cumsum([0, *map(len, parts)], dtype=np.int64),
        "sketches": np.concatenate(parts),
    }
    shape = coarser(cache.grid, recipe.coarsen).shape
    about = {"format": FORMAT, "key": recipe.key(), "count": recipe.count, "look_cases": recipe.validation_cases}
    write_arrays(recipe.output, arrays, {"calvaria": json.dumps({**about, "shape": shape})})
    return recipe.output


def _each(done: Iterable[None], todo: int, total: int, progress: Progress, what: str) -> None:
    """Do what is left to do of ``total`` tasks."""
    began = time.monotonic()
    for count, _ in enumerate(done, 1):
        if count % NOTE_EVERY == 0 or count == todo:
            left, there = (time.monotonic() - began) / count * (todo - count) / 60, total - todo + count
            progress(f"{what}: {there} of {total}, {left:.0f} min left", there / total)


def _done(todo: Sequence[tuple[str, int]], recipe: SketchRecipe, work: Path) -> Iterable[None]:
    return in_order(_work, todo, recipe.jobs, begin=partial(_begin, recipe, work))


_SKETCHERS: list[Sketcher] = []
"""The one of this process."""


def _begin(recipe: SketchRecipe, work: Path) -> None:
    if parent_process() is not None:
        torch.set_num_threads(1)
    _SKETCHERS[:] = [Sketcher(recipe, work)]


def _work(task: tuple[str, int]) -> None:
    _SKETCHERS[0].do(*task)


class Sketcher:
    """Makes the files of the work folder, one a skull and one a case.

    Args:
        recipe: which.
        work: the folder.
    """

    def __init__(self, recipe: SketchRecipe, work: Path) -> None:
        self.recipe, self.work = recipe, work
        self.cache = SkullCache(recipe.cache)
        self.priors = FoldPriors(self.cache, work, recipe.folds)
        self._makers: dict[str, CaseMaker] = {}

    def do(self, what: str, number: int) -> None:
        """Make the file of a task."""
        if what == "field":
            self.priors.write_field(number)
            return
        arrays = self._sketch(what, number)
        with atomic_path(self.work / f"{what}-{number}.npz") as part:
            np.savez_compressed(part, **arrays)  # type: ignore[arg-type] # names of arrays, never "allow_pickle"

    def _sketch(self, side: str, number: int) -> dict[str, NDArray[Any]]:
        """What the prior makes of a case: its share of the training voxels in which it holds bone for missing."""
        cases = self.maker(side).make([number])
        person = self.cache.entries[cases.rows[0]].person
        prior = load_prior() if side == VALIDATION else self.priors.of(person)
        skull = Volume(cases.shown[0, 0].numpy() > 0.5, self.cache.grid)
        coarse = coarser(self.cache.grid, self.recipe.coarsen)
        share = np.zeros(coarse.shape, np.float32)
        if skull.data.any():
            frame, _, sketch = settle(skull, locate(skull, prior.template), prior)
            share = missing_share(sketch, frame, skull.mask, skull.grid, self.recipe.coarsen)
        whole = np.round(share * 255).astype(np.uint8)
        box = bounding_box(whole > 0) or (slice(0, 0),) * 3
        corners = [part.start for part in box] + [part.stop for part in box]
        return {"box": np.array(corners, np.int16), "part": whole[box]}

    def maker(self, side: str) -> CaseMaker:
        """Of the cases of a side."""
        if side not in self._makers:
            self._makers[side] = case_maker(self.cache, self.recipe.cases, side, self.recipe.seed)
        return self._makers[side]


def case_maker(cache: SkullCache, cases: CaseSettings, side: str, seed: int) -> CaseMaker:
    """The cases of a training: those that are learned from, or those that are watched.

    Watched are complete skulls of validation persons with the training's kinds of defects; heads and scans are as they
    are, and the cases the same for every training.

    Raises:
        InputError: the cache holds nobody of that side of the split.
    """
    split = load_split()
    if side == TRAIN:
        return CaseMaker(cache, split.train, cases, seed=seed)
    ids = [entry.id for entry in cache.entries if entry.complete and entry.id in set(split.validation)]
    plain = replace(cases, rim_chance=0.0, blend_chance=0.0, augmentation=NOTHING, unlabelled_share=0.0)
    return CaseMaker(cache, ids or list(split.validation), plain, seed=VALIDATION_SEED)


__all__ = ["TRAIN", "VALIDATION", "Sketches", "build_sketches", "case_maker"]
