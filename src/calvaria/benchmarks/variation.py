"""How much of the heads' variety the deformations hold: modes that explain 95 %, and heads that were held out.

::

    python -m calvaria.benchmarks.variation coarse.safetensors deformations.safetensors

Modes are the principal components of the training persons' velocities at the mean skull's surface, mirror images
included. A held-out head is registered as any other; then its deformation is replaced by the nearest that the modes can
make. Reported are how far that moves the surface, and how far the deformed mean skull then lies off the head's own
bone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calvaria.benchmarks.reconstruction import tell
from calvaria.benchmarks.script import run_while_read
from calvaria.datasets.cache import SkullCache
from calvaria.datasets.split import load_split
from calvaria.deformation import registration
from calvaria.deformation.flow import DeformationGrids, centres, flow, read
from calvaria.deformation.registration import Surface, misfit_mm
from calvaria.synthesis.between import Deformations, deformation_grids, mean_skull, mirror, skull_surface

COUNTS = (0, 5, 10, 20, 40, 80)
"""How many modes are tried on held-out heads, besides all."""

EXPLAINED = 0.95


@dataclass(frozen=True, eq=False)
class Modes:
    """Principal components of deformations.

    Args:
        mean: (1, 3, x, y, z) mean velocity on the lattice, mm.
        modes: (M, 3, x, y, z) modes on the lattice, of unit length at the surface, largest first.
        variance: (M,) what each explains, mm2.
        surface_mm: (1, 3, P, 1, 1) where at the mean skull.
        grids: of the velocities.
    """

    mean: Tensor
    modes: Tensor
    variance: NDArray[np.float64]
    surface_mm: Tensor
    grids: DeformationGrids

    def explaining(self, share: float = EXPLAINED) -> int:
        """How many modes explain so much of the variance."""
        reached = np.cumsum(self.variance) / self.variance.sum()
        return int(np.searchsorted(reached, share) + 1)

    def project(self, velocity: Tensor, count: int) -> Tensor:
        """The velocity that the mean and the first ``count`` modes make, nearest to one at the surface."""
        if not count:
            return self.mean
        off = self._at_surface(velocity - self.mean)
        weights = self._at_surface(self.modes[:count]) @ off[0]
        return self.mean + (weights.reshape(-1, 1, 1, 1, 1) * self.modes[:count]).sum(dim=0, keepdim=True)

    def _at_surface(self, velocity: Tensor) -> Tensor:
        return at_surface(velocity, self.surface_mm, self.grids)


def at_surface(velocity: Tensor, surface_mm: Tensor, grids: DeformationGrids) -> Tensor:
    """(N, 3 P) velocities at points of the mean skull's surface."""
    points = surface_mm.expand(len(velocity), *surface_mm.shape[1:])
    return read(velocity, grids.lattice, points).reshape(len(velocity), -1)


def surface_points(mean: Surface, grids: DeformationGrids) -> Tensor:
    """(1, 3, P, 1, 1) canonical mm of the mean skull's surface voxels above the skull base."""
    near = registration.at_surface(mean, grids.flow)[0, 0]
    return centres(grids.flow)[:, near].reshape(1, 3, -1, 1, 1)


def modes_of(velocities: Tensor, surface_mm: Tensor, grids: DeformationGrids) -> Modes:
    """Principal components of velocities and their mirror images.

    Args:
        velocities: (N, 3, x, y, z) on the lattice.
        surface_mm: as `surface_points` gives them.
        grids: of the velocities.
    """
    both = torch.cat([velocities, mirror(velocities)])
    mean = both.mean(dim=0, keepdim=True)
    rows = at_surface(both - mean, surface_mm, grids).double()
    variance, weights = torch.linalg.eigh(rows @ rows.T)
    kept = torch.flip(torch.arange(len(variance)), [0])[: len(both) - 1]
    kept = kept[variance[kept] > variance[-1] * 1e-9]
    unit = (weights[:, kept] / variance[kept].sqrt()).T.float()
    modes = torch.einsum("mn,ncxyz->mcxyz", unit, both - mean)
    points = surface_mm.shape[2]
    return Modes(mean, modes, (variance[kept] / (len(both) - 1) / points).numpy(), surface_mm, grids)


def held_out(modes: Modes, velocity: Tensor, skull: Surface, mean: Surface, count: int) -> tuple[float, float]:
    """Root mean square movement of the surface by the projection, and mean distance to the head's bone, both mm."""
    nearest, grids = modes.project(velocity, count), modes.grids
    moved = flow(velocity, grids) - flow(nearest, grids)
    at = read(moved, grids.flow, modes.surface_mm)
    return float(at.square().sum(dim=1).mean().sqrt()), float(misfit_mm(nearest, skull, mean, grids).mean())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m calvaria.benchmarks.variation", description=__doc__)
    parser.add_argument("cache", type=Path, help="coarse training cache")
    parser.add_argument("deformations", type=Path)
    parser.add_argument("--split", default="autoimplant2020", help="name or file of the split")
    options = parser.parse_args(arguments)
    with torch.no_grad():
        for line in _lines(SkullCache(options.cache), Deformations(options.deformations), options.split):
            tell(line)


def _lines(cache: SkullCache, deformations: Deformations, split_name: str) -> list[str]:
    split, mean = load_split(split_name), mean_skull()
    rows = deformations.rows_of([entry.id for entry in cache.entries])
    train = [rows[name] for name in split.train if name in rows]
    kept_out = [name for side in (split.validation, split.test) for name in side if name in rows]
    grids = deformation_grids()
    modes = modes_of(deformations.velocity(train), surface_points(mean, grids), grids)
    lines = [
        f"{len(train)} training persons and their mirror images, {len(kept_out)} persons held out",
        f"modes that explain {EXPLAINED:.0%} of the variance: {modes.explaining()} of {len(modes.variance)}"
        f" ({modes.explaining(0.99)} for 99 %)",
        "",
        "modes  surface moved, mm (rms)  off the bone, mm (mean)   sd  worst",
    ]
    skulls = [skull_surface(cache, n) for n in cache.index_of(kept_out)]
    velocities = [deformations.velocity([rows[name]]) for name in kept_out]
    for count in sorted({*(c for c in COUNTS if c < len(modes.variance)), modes.explaining(), len(modes.variance)}):
        got = np.array([held_out(modes, v, s, mean, count) for v, s in zip(velocities, skulls, strict=True)])
        off = got[:, 1]
        lines.append(
            f"{count:5d}  {got[:, 0].mean():24.2f}  {off.mean():23.2f} {off.std(ddof=1):5.2f} {off.max():5.2f}"
        )
    off = np.array([float(misfit_mm(v, s, mean, grids).mean()) for v, s in zip(velocities, skulls, strict=True)])
    return [*lines, f"  own  {0.0:24.2f}  {_spread(off)}"]


def _spread(off_mm: NDArray[np.float64]) -> str:
    return f"{off_mm.mean():23.2f} {off_mm.std(ddof=1):5.2f} {off_mm.max():5.2f}"


if __name__ == "__main__":
    sys.exit(run_while_read(main))


__all__ = ["Modes", "at_surface", "held_out", "modes_of", "surface_points"]
