"""Where the cases of a training come from: made anew each, made once and kept, or those that the shape prior sketched.

A case takes a third of a second on a core, a step of a small network hardly more. Trainings that are to be compared
learn from the same cases, so the first makes them and the others read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from calvaria.errors import InputError
from calvaria.files import atomic_path
from calvaria.io import sha256_of
from calvaria.synthesis.batched.cases import CaseMaker, Cases
from calvaria.training.recipes.fields import key_of
from calvaria.training.recipes.reconstruction import ReconstructionRecipe
from calvaria.training.sketches import TRAIN, Sketches

PARTS: Mapping[str, str] = {"seen": "shown", "truth": "patch", "weight": "weight"}
"""What a network is told of a case, and what the case calls it; all are 0 or 1 at each voxel of the cache."""

MAX_VOXELS = 255
"""Cache voxels in a training voxel, up to which kept cases count them in a byte."""


class Batch(dict[str, Tensor]):
    """``seen`` (B, C, X, Y, Z), ``truth`` and ``weight`` (B, 1, X, Y, Z), on the training grid."""

    def to(self, device: str | torch.device) -> Batch:
        """The same on another device."""
        return Batch({name: volume.to(device) for name, volume in self.items()})


def batch_of(cases: Cases, coarsen: int, prior: Tensor | None = None) -> Batch:
    """Cases on the training grid: how much of each of its voxels is bone, missing bone, and known.

    Args:
        cases: on the cache's grid.
        coarsen: cache voxels along a training voxel.
        prior: (B, 1, X, Y, Z) what the shape prior holds for missing, on the training grid: the second channel.
    """
    batch = Batch({name: functional.avg_pool3d(getattr(cases, part), coarsen) for name, part in PARTS.items()})
    return _with_prior(batch, prior)


def _with_prior(batch: Batch, prior: Tensor | None) -> Batch:
    if prior is not None:
        batch["seen"] = torch.cat([batch["seen"], prior.to(batch["seen"])], dim=1)
    return batch


class Source:
    """Where the training cases come from.

    Made anew each, or, with sketches, the same ones again and again.

    Args:
        maker: makes the cases.
        recipe: how they are laid onto the training grid.
        sketches: what the shape prior makes of them; None: nothing is shown of it.
    """

    def __init__(self, maker: CaseMaker, recipe: ReconstructionRecipe, sketches: Sketches | None = None) -> None:
        data = recipe.data
        folder = None if data.kept_cases is None else data.kept_cases / cases_key(recipe)
        self.maker, self.coarsen, self.sketches, self.device = maker, data.coarsen, sketches, maker.device
        self._kept = None if folder is None else KeptCases(maker, data.coarsen, folder)

    def make(self, numbers: Sequence[int]) -> Batch:
        """The batch of some case numbers; a case that comes again is mirrored every other time."""
        if self.sketches is None:
            return self._made(numbers)
        count = self.sketches.count
        prior = torch.stack([self.sketches.read(TRAIN, number) for number in numbers])[:, None]
        batch = _with_prior(self._made([number % count for number in numbers]), prior)
        mirrored = torch.tensor([number // count % 2 == 1 for number in numbers])[:, None, None, None, None]
        return Batch({name: torch.where(mirrored, v.flip(2), v) for name, v in batch.items()})

    def _made(self, numbers: Sequence[int]) -> Batch:
        return self._kept.make(numbers) if self._kept else batch_of(self.maker.make(numbers), self.coarsen)


class KeptCases:
    """Training cases in a folder, each made the first time that it is asked for; of any number of processes.

    Args:
        maker: makes the cases.
        coarsen: cache voxels along a training voxel.
        folder: of these cases and no others; made where it is not there.

    Raises:
        InputError: a training voxel holds more voxels than a byte counts.
    """

    def __init__(self, maker: CaseMaker, coarsen: int, folder: Path) -> None:
        if coarsen**3 > MAX_VOXELS:
            raise InputError(f"kept cases are made for coarsen up to {int(MAX_VOXELS ** (1 / 3))}; got {coarsen}")
        self.maker, self.coarsen, self.folder = maker, coarsen, folder
        folder.mkdir(parents=True, exist_ok=True)

    def make(self, numbers: Sequence[int]) -> Batch:
        """The batch of some case numbers."""
        missing = [number for number in dict.fromkeys(numbers) if not self._path(number).exists()]
        if missing:
            batch = batch_of(self.maker.make(missing), self.coarsen)
            for row, number in enumerate(missing):
                self._keep(number, {name: volume[row, 0].cpu().numpy() for name, volume in batch.items()})
        read = [self._read(number) for number in numbers]
        size = np.float32(self.coarsen**3)
        volumes = {name: np.stack([counts[name] for counts in read])[:, None] / size for name in PARTS}
        return Batch({name: torch.from_numpy(volume) for name, volume in volumes.items()}).to(self.maker.device)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.npz"

    def _read(self, number: int) -> dict[str, NDArray[np.uint8]]:
        with np.load(self._path(number)) as file:
            return {name: file[name] for name in PARTS}

    def _keep(self, number: int, volumes: dict[str, NDArray[np.float32]]) -> None:
        counts = {name: np.rint(volume * self.coarsen**3).astype(np.uint8) for name, volume in volumes.items()}
        with atomic_path(self._path(number)) as part:
            np.savez_compressed(part, **counts)  # type: ignore[arg-type] # names of arrays, never "allow_pickle"


def cases_key(recipe: ReconstructionRecipe) -> str:
    """Hash of what decides what the cases on the training grid are."""
    told = {"cases": asdict(recipe.cases), "seed": recipe.data.seed, "coarsen": recipe.data.coarsen}
    return key_of({**told, "cache": sha256_of(recipe.cache)})


__all__ = ["Batch", "KeptCases", "Source", "batch_of"]
