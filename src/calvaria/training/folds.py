"""Shape priors that have not seen a training person: persons are dealt into folds, and a prior fitted to all but one.

What learns to correct the prior must be shown it as good, and as wrong, as it will be on new persons.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calvaria.datasets.cache import FILLING, SkullCache
from calvaria.datasets.split import load_split
from calvaria.errors import InputError
from calvaria.files import atomic_path
from calvaria.reconstruction.shape_prior.engine import ShapePrior
from calvaria.reconstruction.shape_prior.model import MAX_MODES, MODEL_SPACING_MM, ShapeModel, bone_depth
from calvaria.reconstruction.shape_prior.modes import fit_modes
from calvaria.reconstruction.surface import to_box
from calvaria.skull.canonical import SPACING_MM as FINE_MM
from calvaria.skull.canonical import locate
from calvaria.skull.template import load_template
from calvaria.training.recipes.shape_prior import MIN_EXAMPLES
from calvaria.training.shape_prior import LAYOUT, coarse_field, example
from calvaria.volume.volume import Volume

FIELDS = ("example", "depth")
"""What a training person's skull gives to a prior, in hundredths of a mm."""


def fold_of(person: str, folds: int) -> int:
    """Which fold a person is in: the same in every run, whoever else is there."""
    return int(hashlib.sha256(person.encode()).hexdigest(), 16) % folds


def train_rows(cache: SkullCache) -> list[int]:
    """Rows of the training persons' skulls."""
    return cache.index_of(load_split().train)


@dataclass(frozen=True, eq=False)
class FoldPriors:
    """The priors of all folds, made from a training cache.

    Args:
        cache: holds the training persons' skulls.
        work: folder with a file a skull, ``field-LAYOUT-ROW.npz``, that `write_field` makes.
        folds: their number.
    """

    cache: SkullCache
    work: Path
    folds: int

    def missing(self) -> list[int]:
        """Rows of training persons whose file is not there yet."""
        return [row for row in train_rows(self.cache) if not self._path(row).exists()]

    def write_field(self, row: int) -> None:
        """Make the file of a training person's skull; holes are as the shipped prior fills them."""
        bone = self.cache.bone(row)
        if not self.cache.entries[row].complete:
            bone |= self.cache.patch(row, FILLING)
        skull = Volume(bone, self.cache.grid)
        field = to_box(skull, locate(skull, load_template()))
        found = (example(field), coarse_field(bone_depth(field.distance_mm, FINE_MM)))
        arrays: dict[str, NDArray[Any]] = {
            name: np.round(100 * part).astype(np.int16) for name, part in zip(FIELDS, found, strict=True)
        }
        with atomic_path(self._path(row)) as part:
            np.savez_compressed(part, **arrays)  # type: ignore[arg-type] # names of arrays, never "allow_pickle"

    def of(self, person: str) -> ShapePrior:
        """The prior that was fitted without the fold of a person; files that it needs and that are missing are made.

        Raises:
            InputError: the other folds hold too few persons.
        """
        return _prior(self, fold_of(person, self.folds))

    def _path(self, row: int) -> Path:
        return self.work / f"field-{LAYOUT}-{row}.npz"


@lru_cache(maxsize=8)
def _prior(priors: FoldPriors, fold: int) -> ShapePrior:
    entries = priors.cache.entries
    rows = [row for row in train_rows(priors.cache) if fold_of(entries[row].person, priors.folds) != fold]
    if len(rows) < MIN_EXAMPLES:
        raise InputError(
            f"{priors.cache.path.name}: {len(rows)} training persons in the other folds; {MIN_EXAMPLES} are needed"
        )
    for row in rows:
        if not priors._path(row).exists():  # as in a dry run, which does not make everything before
            priors.write_field(row)
    files = [np.load(priors._path(row)) for row in rows]
    examples, depths = (np.stack([file[name].astype(np.float32) / 100 for file in files]) for name in FIELDS)
    depth = np.median(depths, axis=0)
    half = ((depth + depth[::-1]) / 2)[depth.shape[0] // 2 :].astype(np.float32)
    modes = fit_modes(examples, MODEL_SPACING_MM, MAX_MODES)
    return ShapePrior(ShapeModel.of(modes, half), load_template())


__all__ = ["FoldPriors", "fold_of", "train_rows"]
