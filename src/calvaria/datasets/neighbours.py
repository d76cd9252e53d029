"""Which skulls might show one person: all pairs compared coarsely, by one matrix product.

What sets a skull apart from the mean skull, read at coarse points of the canonical frame, is a vector; skulls of one
person have nearly the same one, as far as their holes and their poses allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from calvaria.datasets.fingerprint import COARSE_MM, fingerprint_of
from calvaria.skull.canonical import REGION_MM
from calvaria.skull.template import load_template
from calvaria.types import F32
from calvaria.volume import coarsen
from calvaria.volume.sampler import Sampler, lattice

Candidate = tuple[int, int, bool]
"""Two places in a list of skulls, and whether the second is taken as its mirror image."""

GLANCE_MM = (5.0, 5.0)
"""Smoothing of the bone and spacing of the points at which all pairs are compared."""

HOLE_DEFICIT = 0.10
"""A skull that lacks more bone than this share against the mean skull has a hole there, not a shape; it is cut off at
that, so that one kind of hole does not make all its skulls alike."""


def vectors(paths: Sequence[Path], work: Path) -> tuple[F32, F32]:
    """What sets skulls apart from the mean skull, as unit vectors.

    Args:
        paths: files of skulls.
        work: folder of kept fingerprints.

    Returns:
        (N, P) float32, and the same of their mirror images. A point that a scan does not show is 0.
    """
    points = lattice(REGION_MM, GLANCE_MM[1])
    mean, weight = load_template().at(points, GLANCE_MM[0])
    across = len(np.unique(points[:, 0].round(6)))
    out = np.zeros((len(paths), len(points)), np.float32)
    for number, path in enumerate(paths):
        one = fingerprint_of(path, work)
        value, shown = Sampler.smooth(coarsen(one.bone, COARSE_MM), GLANCE_MM[0], one.cuts).values(points)
        own = np.maximum(value - mean, -HOLE_DEFICIT) * (shown & (weight > 0))
        out[number] = own / max(float(np.linalg.norm(own)), 1e-6)
    # x is the slowest axis of the points, and they are symmetric about x = 0.
    mirrored = out.reshape(len(out), across, len(points) // across)[:, ::-1].reshape(out.shape)
    return out, mirrored


def nearest(found: tuple[F32, F32], neighbours: int) -> list[Candidate]:
    """The pairs in which one is among the other's nearest neighbours, either way round left and right.

    Args:
        found: (N, P) unit vectors, and those of the mirror images.
        neighbours: how many of each.

    Returns:
        (first, second, mirrored) with first < second, in order; empty for fewer than two.
    """
    plain, mirrored = (found[0] @ other.T for other in found)
    likeness = np.maximum(plain, mirrored)
    np.fill_diagonal(likeness, -np.inf)
    order = np.argsort(-likeness, axis=1, kind="stable")[:, : min(neighbours, len(likeness) - 1)]
    pairs = {(min(a, int(b)), max(a, int(b))) for a, row in enumerate(order) for b in row}
    return [(a, b, bool(mirrored[a, b] > plain[a, b])) for a, b in sorted(pairs)]


__all__ = ["Candidate", "nearest", "vectors"]
