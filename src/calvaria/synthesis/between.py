"""Skulls between skulls: every skull's deformation to the mean skull, and new heads from blends of them.

A new skull takes its bone, with all that is fine in it, from one person and its form from a blend of several subjects'
deformations, mirror images included: bone of A at ``A(mean(new))``, one resampling in all. This is the augmentation by
registration of pairs (Ellis and Aizenberg 2020; Wodzinski et al. 2024) at the price of one registration a skull
instead of one a pair, and the blend can stop anywhere between subjects.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calvaria.datasets.cache import FILLING, SkullCache, training_grid
from calvaria.deformation.flow import DeformationGrids, DisplacementFields, compose, flow
from calvaria.deformation.registration import Surface, mean_surface, misfit_mm, register, surface_of
from calvaria.errors import FormatError, InputError
from calvaria.files import save_arrays
from calvaria.jobs import Progress, counted, in_order
from calvaria.models import write_arrays
from calvaria.models.registry import LICENCE

FORMAT = "calvaria-deformations-1"

MAX_SUBJECTS = 3
"""Subjects besides the source whose forms are blended."""


@dataclass(frozen=True)
class Blend:
    """A new head's form.

    Args:
        source: row of the skull whose bone is taken.
        rows: rows of the subjects whose forms are blended.
        mirrored: for each of them, whether their mirror image is taken.
        weights: for each of them, how much; their sum is 1.
    """

    source: int
    rows: tuple[int, ...]
    mirrored: tuple[bool, ...]
    weights: tuple[float, ...]


def sample_blend(rng: np.random.Generator, source: int, rows: Sequence[int], own: float = 0.5) -> Blend:
    """Draw a form between subjects.

    Args:
        rng: source of random numbers.
        source: row of the skull whose bone is taken.
        rows: rows that may be blended in.
        own: mean weight of the source's own form.

    Returns:
        The source's own form with a weight of ``own`` on average, and those of one to three others.
    """
    count = int(rng.integers(1, MAX_SUBJECTS + 1))
    others = tuple(int(row) for row in rng.choice(np.asarray(rows), size=count))
    share = float(rng.beta(2.0 * own, 2.0 * (1 - own)))
    parts = (1 - share) * rng.dirichlet(np.ones(count))
    mirrored = (False, *(bool(flip) for flip in rng.random(count) < 0.5))
    return Blend(source, (source, *others), mirrored, (share, *(float(part) for part in parts)))


@lru_cache(maxsize=1)
def deformation_grids() -> DeformationGrids:
    """Where the deformations of the training cache's skulls lie: over the coarse training grid, flows at 3.2 mm."""
    return DeformationGrids.over(training_grid())


def mean_skull() -> Surface:
    """The mean skull of the shipped shape prior: what every skull is laid over."""
    from calvaria.models import load_shape_arrays
    from calvaria.reconstruction.shape_prior.model import ShapeModel

    model = ShapeModel.from_arrays(load_shape_arrays())
    distance = torch.from_numpy(model.mean.reshape(model.grid.shape).copy())
    return mean_surface(distance, model.grid, deformation_grids())


class Deformations:
    """The deformations of a cache's skulls, on `deformation_grids()`.

    Args:
        path: a file that :func:`build_deformations` wrote.

    Raises:
        FormatError: the file is damaged, or of another layout.
        InputError: there is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        from safetensors import SafetensorError, safe_open

        path, self.grids = Path(path), deformation_grids()
        if not path.is_file():
            raise InputError(f"{path}: no such file; make it with: calvaria data deformations CACHE -o FILE")
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads(file.metadata()["calvaria"])
                if about["format"] != FORMAT:
                    raise ValueError(f"layout {about['format']!r}, this version reads {FORMAT!r}")
                self.ids: tuple[str, ...] = tuple(about["ids"])
                self.codes: Tensor = file.get_tensor("velocity")
                if (wanted := (len(self.ids), 3, *self.grids.lattice.shape)) != tuple(self.codes.shape):
                    raise ValueError(f"velocities of {tuple(self.codes.shape)} where {wanted} are wanted")
                self.step_mm: Tensor = file.get_tensor("step_mm")
                self.misfit_mm: Tensor = file.get_tensor("misfit_mm")
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{path.name}: no deformations ({error}); make them anew") from None

    def to(self, device: str | torch.device) -> Deformations:
        """Move what is held to a device; returns itself."""
        self.codes, self.step_mm = self.codes.to(device), self.step_mm.to(device)
        return self

    def __len__(self) -> int:
        return len(self.ids)

    def rows_of(self, ids: Sequence[str]) -> dict[str, int]:
        """Rows by id, of those that are held."""
        rows = {name: row for row, name in enumerate(self.ids)}
        return {name: rows[name] for name in ids if name in rows}

    def velocity(self, rows: Sequence[int], mirrored: Sequence[bool] | None = None) -> Tensor:
        """(n, 3, x, y, z) velocities of some skulls or of their mirror images, mm."""
        index = torch.as_tensor(list(rows), device=self.codes.device)
        out = self.codes[index].float() * self.step_mm[index].reshape(-1, 1, 1, 1, 1)
        for n, flip in enumerate(mirrored or ()):
            if flip:
                out[n] = mirror(out[n])
        return out

    def displacement(self, blends: Sequence[Blend]) -> DisplacementFields:
        """Where the bone of new heads comes from.

        Args:
            blends: B heads.

        Returns:
            B displacements: the new head's bone at p is the source's at p + displacement(p).
        """
        new = torch.cat([self._blended(blend) for blend in blends])
        own = self.velocity([blend.source for blend in blends])
        there, back = (flow(velocity, self.grids) for velocity in (-new, own))
        return DisplacementFields(compose(there, back, self.grids.flow), self.grids.flow)

    def _blended(self, blend: Blend) -> Tensor:
        weights = torch.tensor(blend.weights, device=self.codes.device).reshape(-1, 1, 1, 1, 1)
        return (self.velocity(blend.rows, blend.mirrored) * weights).sum(dim=0, keepdim=True)


def mirror(velocity: Tensor) -> Tensor:
    """The mirror image of a velocity or displacement field (..., 3, x, y, z) about x = 0."""
    sign = torch.tensor([-1.0, 1.0, 1.0], device=velocity.device).reshape(3, 1, 1, 1)
    return velocity.flip(-3) * sign


def build_deformations(
    cache: Path, output: Path, *, jobs: int = 1, progress: Progress | None = None
) -> tuple[Deformations, int]:
    """Register every skull of a coarse cache to the mean skull.

    What is done is kept in ``FILE.parts`` until all are, so an interrupted run goes on; skulls of an earlier file whose
    entry in the cache has not changed are taken over.

    Args:
        cache: a coarse training cache.
        output: the file, ending in .safetensors.
        jobs: processes.
        progress: called with "12 of 184 skulls, 3 min left" and the share done.

    Returns:
        The deformations, and how many were made now.

    Raises:
        WorkerDiedError: a process died; what is done is kept.
        InputError: the cache is not coarse, or a file's name does not end in .safetensors.
    """
    import shutil

    skulls = SkullCache(cache)
    if skulls.refine != 1:
        raise InputError(f"{cache}: deformations are made from the coarse cache; got one refined {skulls.refine} times")
    if output.suffix != ".safetensors":
        raise InputError(f"{output}: the file's name ends in .safetensors")
    folder = output.with_name(output.name + ".parts")
    folder.mkdir(parents=True, exist_ok=True)
    parts = [folder / f"{entry.source}.npz" for entry in skulls.entries]
    fresh = [(cache, row, part) for row, part in enumerate(parts) if not part.exists()]
    for _ in counted(in_order(_one, fresh, jobs), len(fresh), progress, "skulls"):
        pass
    _write(output, skulls, [dict(np.load(part)) for part in parts])
    shutil.rmtree(folder)
    return Deformations(output), len(fresh)


def _one(job: tuple[Path, int, Path]) -> None:
    path, row, part = job
    cache = SkullCache(path)
    with torch.no_grad():
        skull, mean = skull_surface(cache, row), mean_skull()
        velocity = register(skull, mean, deformation_grids())
        off = misfit_mm(velocity, skull, mean, deformation_grids())
    largest = float(velocity.abs().max())
    step = max(largest, 1e-3) / 127
    code = (velocity[0] / step).round().to(torch.int8).numpy()
    save_arrays(part, code=code, step=np.array(step, np.float32), misfit=np.array(off.mean(), np.float32))


def skull_surface(cache: SkullCache, row: int) -> Surface:
    """A skull of a cache, its unknown holes completed by the prior, and no weight there."""
    filling = cache.patch(row, FILLING) if FILLING in cache.item(row).patches else False
    return surface_of(cache.bone(row) | filling, cache.grid, cache.hidden(row))


def _write(path: Path, cache: SkullCache, parts: list[dict[str, NDArray[np.generic]]]) -> None:
    arrays = {
        "velocity": np.stack([part["code"] for part in parts]),
        "step_mm": np.array([part["step"] for part in parts], np.float32),
        "misfit_mm": np.array([part["misfit"] for part in parts], np.float32),
    }
    about = {"format": FORMAT, "licence": LICENCE, "ids": [entry.id for entry in cache.entries]}
    write_arrays(path, arrays, {"calvaria": json.dumps(about)})


__all__ = [
    "Blend",
    "Deformations",
    "build_deformations",
    "deformation_grids",
    "mean_skull",
    "mirror",
    "sample_blend",
    "skull_surface",
]
