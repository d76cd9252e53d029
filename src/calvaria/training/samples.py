"""What the symmetry network learns from: skulls of the training cache in cubes, in random poses.

Case and pose of sample n depend on the seed and on n alone. A case costs more to make than a pose, so each is seen in
several poses; the next block of cases is made while the present one is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from calvaria.datasets.cache import SkullCache
from calvaria.deformation.flow import coarser
from calvaria.skull.canonical import REGION_MM
from calvaria.symmetry.loss import dice_loss
from calvaria.symmetry.reflection import read_volumes, reflection_matrices
from calvaria.synthesis.augmentation.artefacts import blurred
from calvaria.synthesis.batched.cases import CaseMaker, CaseSettings
from calvaria.training.poses import place, sample_pose
from calvaria.training.recipes.symmetry import SymmetryRecipe
from calvaria.volume.grid import Grid
from calvaria.volume.sampler import lattice

FIRST_DEG = 15.0
"""The largest rotation at the first step. Heads turned by more than half a right angle are nearly as symmetric about
their coronal plane: shown at first, they would draw the network there."""


@dataclass(frozen=True)
class Scale:
    """One scale of the loss.

    A plane that lies 20 mm off mirrors thin bone nowhere near bone, whichever way it is moved: only blurred bone says
    which way is better, and only sharp bone where exactly.

    Args:
        blur_mm: standard deviation of the blur.
        pooled: training voxels along an edge of the voxels in which the blurred skull is kept.
        spacing_mm: of the points at which the sides are compared.
        late: weight in the loss once rotations have grown; before, all scales count alike.
    """

    blur_mm: float
    pooled: int
    spacing_mm: float
    late: float


SCALES = (Scale(3.0, 2, 4.0, 1.0), Scale(8.0, 4, 8.0, 0.1), Scale(20.0, 4, 12.0, 0.1))
"""The scales of the loss."""


class Samples(NamedTuple):
    """A batch of heads in cubes, and the same heads, complete, in the canonical frame.

    Args:
        cubes: (B, 1, 96, 96, 96) what the network sees.
        complete: (B, 1, X, Y, Z) each, blurred at every scale of `SCALES`.
        to_cube: (B, 4, 4) canonical mm -> mm from the cube's centre.
        weights: of the scales.
    """

    cubes: Tensor
    complete: tuple[Tensor, ...]
    to_cube: Tensor
    weights: tuple[float, ...]


class SampleMaker:
    """Draws and makes samples.

    Args:
        recipe: what they are like, and how many there are in a step.
        cache: of skulls.
        ids: whose: one side of a split.
        device: where they are made.
    """

    def __init__(self, recipe: SymmetryRecipe, cache: SkullCache, ids: Sequence[str], device: str = "cpu") -> None:
        settings = recipe.samples
        self.settings, self.batch = settings, recipe.optimisation.batch
        self.device, self.ids = torch.device(device), tuple(ids)
        kinds = {} if settings.complete_only else CaseSettings().kinds
        cases = CaseSettings(kinds, rim_chance=0.1, blend_chance=0.0, augmentation=recipe.heads)
        self._maker = CaseMaker(cache, ids, cases, seed=settings.seed, device=device)
        self._seen = between(cache.grid)
        self.grids = tuple(coarser(cache.grid, scale.pooled) for scale in SCALES)
        self._pool = ThreadPoolExecutor(1)
        self._blocks: dict[int, Future[list[tuple[Tensor, tuple[Tensor, ...]]]]] = {}

    def close(self) -> None:
        """Stop making cases ahead."""
        self._pool.shutdown(cancel_futures=True)

    def _block(self, number: int) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
        for wanted in (number, number + 1):
            if wanted not in self._blocks:
                self._blocks[wanted] = self._pool.submit(self._make, wanted)
        for old in [n for n in self._blocks if n < number]:
            del self._blocks[old]
        return self._blocks[number].result()

    @torch.no_grad()
    def _make(self, number: int) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
        """The cases of a block: soft bone as it is seen, and the complete skull at every scale."""
        size, out = self.settings.block, []
        for case in range(number * size, (number + 1) * size):
            made = self._maker.make([case])
            seen = functional.avg_pool3d(functional.pad(made.shown, (0, 1, 0, 1, 0, 1)), 2, stride=1)[0, 0]
            levels = tuple(
                blurred(functional.avg_pool3d(made.complete, scale.pooled)[0, 0], grid, scale.blur_mm)[None]
                for scale, grid in zip(SCALES, self.grids, strict=True)
            )
            out.append((seen.half(), levels))
        return out

    def make(self, numbers: Sequence[int]) -> Samples:
        """Some samples, all of one step."""
        settings, step = self.settings, numbers[0] // self.batch
        grown = min(1.0, step / settings.growing) if settings.growing else 1.0
        most = FIRST_DEG + grown * max(0.0, settings.poses.most_deg - FIRST_DEG)
        cubes, complete, to_cube = [], [], []
        weights = tuple(scale.late if grown >= 1 else 1.0 for scale in SCALES)
        for number in numbers:
            rng = np.random.default_rng([settings.seed, 1, number])
            block = self._block(number // (settings.block * settings.reuse))
            seen, levels = block[int(rng.integers(len(block)))]
            cube, matrix = place(seen, self._seen, sample_pose(rng, settings.poses, most))
            cubes.append(cube)
            complete.append(levels)
            to_cube.append(torch.from_numpy(matrix).float().to(self.device))
        scales = tuple(torch.stack(scale) for scale in zip(*complete, strict=True))
        return Samples(torch.stack(cubes), scales, torch.stack(to_cube), weights)


def between(grid: Grid) -> Grid:
    """The grid of the corners between voxels, where means over 2^3 voxels stand."""
    return Grid.isotropic(grid.shape, grid.spacing_mm[0], grid.to_world([0.5, 0.5, 0.5]))


def window_points(spacing_mm: float) -> Tensor:
    """(1, N, 3) canonical mm: where the two sides are compared, the left half of the calvaria."""
    along_x, along_y, along_z = REGION_MM
    return torch.from_numpy(lattice(((spacing_mm / 2, along_x[1]), along_y, along_z), spacing_mm)).float()[None]


def windows(device: str = "cpu") -> tuple[Tensor, ...]:
    """The points of each scale."""
    return tuple(window_points(scale.spacing_mm).to(device) for scale in SCALES)


def losses_of(planes: Tensor, samples: Samples, grids: Sequence[Grid], points_mm: Sequence[Tensor]) -> Tensor:
    """SL of planes in cubes, computed on the complete skulls where they lie.

    Flips, rotations, shifts and scales take mirror images to mirror images, so nothing is lost by going back.

    Args:
        planes: (B, 4), mm from the cubes' centres.
        samples: what the planes were found in.
        grids: of the complete skulls, a scale each.
        points_mm: (1, N, 3) canonical mm, the window, a scale each.

    Returns:
        (S, B) losses; differentiable in the planes.
    """
    there = torch.linalg.inv(samples.to_cube) @ reflection_matrices(planes) @ samples.to_cube
    linear, shift = there[:, :3, :3].transpose(1, 2), there[:, None, :3, 3]
    losses = []
    for complete, grid, points in zip(samples.complete, grids, points_mm, strict=True):
        here = read_volumes(complete, grid, points.expand(len(planes), -1, -1))
        losses.append(dice_loss(here, read_volumes(complete, grid, points @ linear + shift)))
    return torch.stack(losses)


def misses(planes: Tensor, to_cube: Tensor) -> tuple[Tensor, Tensor]:
    """How far planes in cubes lie from the canonical x = 0: to validate by, never to learn from.

    Returns:
        (B,) degrees, and (B,) mm in the middle of the vault.
    """
    back = (torch.cat([planes[:, :3], -planes[:, 3:]], dim=1)[:, None] @ to_cube)[:, 0]
    canonical = back / back[:, :3].norm(dim=1, keepdim=True)
    angle = torch.rad2deg(torch.atan2(canonical[:, 1:3].norm(dim=1), canonical[:, 0].abs()))
    middle = torch.tensor([0.0, 0.0, 20.0, 1.0], device=planes.device)
    return angle, (canonical @ middle).abs()


__all__ = ["SCALES", "SampleMaker", "Samples", "Scale", "losses_of", "misses", "windows"]
