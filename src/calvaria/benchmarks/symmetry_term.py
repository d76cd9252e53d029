"""What the symmetry term of the loss wants of the patch of a skull that truly is not symmetric, window by window.

::

    python -m calvaria.benchmarks.symmetry_term --cache coarse.safetensors

Complete skulls of validation persons, with the official hole, are dented at the back of one side as by lying on it
(positional plagiocephaly), skull and patch together: the true patch is known, and is not symmetric. Then the skull
stays as it is and its patch is dented less, or more: from the truth to the patch of the round, nearly symmetric head.
Reported is which of them has the least loss: overlap and symmetry in each window, and symmetry alone. Of the overlap
alone it is the truth.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from calvaria.benchmarks.cases import OFFICIAL
from calvaria.benchmarks.reconstruction import tell
from calvaria.benchmarks.script import run_while_read
from calvaria.datasets.cache import SkullCache
from calvaria.datasets.split import load_split
from calvaria.deformation.flow import coarser
from calvaria.errors import InputError
from calvaria.symmetry.network import SymmetryNetwork
from calvaria.symmetry.reflection import read_volumes
from calvaria.symmetry.runner import load_module
from calvaria.symmetry.training_term import WINDOWS
from calvaria.training.objectives import overlap_loss, symmetry_term
from calvaria.types import F64
from calvaria.volume.grid import Grid

DENTS_MM = (4.0, 8.0)
"""How deep the skulls are dented; 8 mm is a marked plagiocephaly."""

SHARES: tuple[float, ...] = tuple(float(share) for share in np.arange(0.0, 1.51, 0.125))
"""The patches that are tried: dented by these shares of the skull's dent. 1 is the truth, 0 the round head's patch."""

ALPHAS = (0.3, 1.0, 3.0)
"""Weights of the symmetry term beside the overlap; the paper's is 1."""

DENT_AT_MM = (30.0, 75.0, 30.0)
"""Canonical mm: the centre of the dent, at the back on one side, by the official hole."""

DENT_WIDTH_MM = 40.0
"""Standard deviation of the dent."""

COARSEN = 2
"""Cache voxels along a voxel of the training grid."""

CERTAIN = 1e-6
"""Fractions are taken for logits at most so near to 0 and 1."""


class Losses(NamedTuple):
    """Of one person's skull and the patches that are tried; (shares,) each.

    Args:
        overlap: the overlap loss.
        symmetry: window -> the symmetry term.
        dsc: overlap with the truth on the training grid, at a half.
    """

    overlap: F64
    symmetry: dict[str, F64]
    dsc: F64


@dataclass(frozen=True)
class Pull:
    """Which patch has the least loss, over all persons.

    Args:
        dent_mm: depth of the skulls' dent.
        window: of the symmetry term.
        alpha: its weight beside the overlap loss; None: alone.
        off_mm: how much less than the truth each person's best patch is dented.
        dsc: of each person's best patch with the truth.
    """

    dent_mm: float
    window: str
    alpha: float | None
    off_mm: tuple[float, ...]
    dsc: tuple[float, ...]


def dented(mask: Tensor, grid: Grid, depth_mm: float) -> Tensor:
    """A head of the canonical frame pressed in at the back of one side.

    Args:
        mask: (1, 1, X, Y, Z), 0 or 1.
        grid: of the mask, canonical mm.
        depth_mm: so far in the centre of the dent, less around it.

    Returns:
        The same shape.
    """
    if not depth_mm:
        return mask
    centre = np.array(DENT_AT_MM)
    points = grid.centres_mm().reshape(-1, 3)
    near = np.exp(-((points - centre) ** 2).sum(axis=1) / (2 * DENT_WIDTH_MM**2))
    seen = points + depth_mm * near[:, None] * (centre / np.linalg.norm(centre))
    read = read_volumes(mask, grid, torch.from_numpy(seen).float()[None])
    return (read > 0.5).to(mask).reshape(mask.shape)


def losses(complete: Tensor, patch: Tensor, grid: Grid, network: SymmetryNetwork, dent_mm: float) -> Losses:
    """The losses of a person's skull with every patch that is tried.

    Args:
        complete: (1, 1, X, Y, Z), 0 or 1: the skull without a hole.
        patch: the part of it that is missing.
        grid: of both.
        network: names the plane.
        dent_mm: depth of the skull's dent.
    """
    shown = dented(complete * (1 - patch), grid, dent_mm)
    small = coarser(grid, COARSEN)
    seen = functional.avg_pool3d(shown, COARSEN)
    tried = [dented(patch, grid, share * dent_mm) * (1 - shown) for share in SHARES]
    parts = [functional.avg_pool3d(one, COARSEN) for one in tried]
    truth = parts[SHARES.index(1.0)]
    terms = {window: symmetry_term(network, small, window) for window in WINDOWS}
    with torch.no_grad():
        logits = [torch.logit(part.clamp(CERTAIN, 1 - CERTAIN)) for part in parts]
        overlap = [float(overlap_loss(one, truth, torch.ones_like(truth))) for one in logits]
        symmetry = {window: np.array([float(term(seen, one)) for one in logits]) for window, term in terms.items()}
    return Losses(np.array(overlap), symmetry, np.array([_dice(part, truth) for part in parts]))


def _dice(one: Tensor, other: Tensor) -> float:
    a, b = one > 0.5, other > 0.5
    return 2 * float((a & b).sum()) / max(1.0, float(a.sum() + b.sum()))


def pulls(cache: SkullCache, network: SymmetryNetwork, persons: int, dent_mm: float) -> Iterator[Pull]:
    """Where every loss has its least for skulls that are dented so far.

    Raises:
        InputError: the cache holds no complete skull of a validation person.
    """
    wanted = set(load_split().validation)
    rows = [row for row, entry in enumerate(cache.entries) if entry.complete and entry.id in wanted][:persons]
    if not rows:
        raise InputError(f"{cache.path.name}: no complete skull of a validation person")
    found = []
    for row in rows:
        masks = (cache.bone(row), cache.patch(row, OFFICIAL))
        bone, patch = (torch.from_numpy(mask)[None, None].float() for mask in masks)
        found.append(losses(bone, patch, cache.grid, network, dent_mm))
    for window in WINDOWS:
        for alpha in (*ALPHAS, None):
            beside, weight = (0.0, 1.0) if alpha is None else (1.0, alpha)
            least = [best(beside * one.overlap + weight * one.symmetry[window]) for one in found]
            off = tuple(dent_mm * (1 - share) for share in least)
            dsc = tuple(float(np.interp(share, SHARES, one.dsc)) for share, one in zip(least, found, strict=True))
            yield Pull(dent_mm, window, alpha, off, dsc)


def best(values: F64) -> float:
    """The share at which a loss is least, between the shares that were tried by a parabola."""
    at = int(np.argmin(values))
    if at in (0, len(values) - 1):
        return SHARES[at]
    before, here, after = (float(value) for value in values[at - 1 : at + 2])
    return SHARES[at] + (SHARES[1] - SHARES[0]) * (before - after) / (2 * (before - 2 * here + after))


HEADER = "dent mm  window    loss                       n  off mm: mean    sd  most  DSC: mean  worst"


def line(one: Pull) -> str:
    """Where a loss has its least, under `HEADER`."""
    loss = "symmetry alone" if one.alpha is None else f"overlap + {one.alpha:g} symmetry"
    off = np.array(one.off_mm)
    return (
        f"{one.dent_mm:>7.0f}  {one.window:<9} {loss:<24} {len(off):>3}  {off.mean():>12.2f} {off.std():>5.2f} "
        f"{off.max():>5.2f}  {np.mean(one.dsc):>9.3f} {min(one.dsc):>6.3f}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m calvaria.benchmarks.symmetry_term", description="what the symmetry term wants of patches"
    )
    parser.add_argument("--cache", type=Path, required=True, help="a training cache")
    parser.add_argument("--model", default="symmetry-vit", help="the symmetry network, by name or file")
    parser.add_argument("--persons", type=int, default=10, help="how many at most")
    options = parser.parse_args(arguments)
    if options.persons < 1:
        raise InputError(f"--persons is 1 or more; got {options.persons}")
    tell(HEADER)
    for dent_mm in DENTS_MM:
        for one in pulls(SkullCache(options.cache), load_module(options.model), options.persons, dent_mm):
            tell(line(one))


if __name__ == "__main__":
    sys.exit(run_while_read(main))


__all__ = ["DENTS_MM", "HEADER", "SHARES", "Losses", "Pull", "best", "dented", "line", "losses", "pulls"]
