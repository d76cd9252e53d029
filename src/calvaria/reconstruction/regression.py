"""Ridge regression on the shape model: a surface fitted where bone is known, read out where it is missing.

The features are the model's mean and modes, each seen through several slightly moved boxes (jitters): scaled, turned
and shifted. They give the regression the directions of pose and size and multiply the variety of the examples; without
them a large hole loses 0.05 DSC. All features have unit prior variance, so one ridge serves all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calvaria.reconstruction.shape_model import ShapeModel
from calvaria.volume.grid import Grid
from calvaria.volume.rotation import rotation_matrix

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

JITTER_SCALE, JITTER_DEG, JITTER_MM = 0.04, 4.0, 3.0
"""Standard deviations of a jitter's scale (each axis), rotation and shift (each component)."""


@dataclass(frozen=True, eq=False)
class Jitter:
    """A slightly moved box: a point x is read at ``(x * scale + shift_mm) @ rotation``."""

    scale: F64
    shift_mm: F64
    rotation: F64

    def __call__(self, points_mm: NDArray[np.floating]) -> F64:
        """Where the model is read for (N, 3) points of the box."""
        return np.asarray((points_mm * self.scale + self.shift_mm) @ self.rotation)


def jitters(pairs: int, seed: int = 1) -> list[Jitter]:
    """The unmoved box and ``pairs`` pairs of moved ones, each with its mirror image.

    The set is closed under mirroring, so a mirrored skull gets exactly the mirrored completion.

    >>> len(jitters(4))
    9
    """
    rng = np.random.default_rng(seed)
    out = [Jitter(np.ones(3), np.zeros(3), np.eye(3))]
    for _ in range(pairs):
        scale = np.exp(JITTER_SCALE * rng.standard_normal(3))
        shift = JITTER_MM * rng.standard_normal(3)
        turn = np.radians(JITTER_DEG) * rng.standard_normal(3)
        out.append(Jitter(scale, shift, rotation_matrix(turn)))
        out.append(Jitter(scale, shift * [-1.0, 1.0, 1.0], rotation_matrix(turn * [1.0, -1.0, -1.0])))
    return out


def trilinear(grid: Grid, points_mm: NDArray[np.floating]) -> csr_matrix:
    """Sparse (P, V) weights that read a flat, C-ordered volume on an axis-aligned grid at P points.

    Points outside the grid read its nearest edge.
    """
    from scipy.sparse import csr_matrix

    shape = np.array(grid.shape)
    place = (points_mm - grid.affine[:3, 3]) / np.asarray(grid.spacing_mm)
    place = np.clip(place, 0, shape - 1.0001)
    low = place.astype(np.int64)
    part = (place - low).astype(np.float32)
    columns = np.empty((len(low), 8), np.int64)
    weights = np.empty((len(low), 8), np.float32)
    for corner in range(8):
        step = np.array([corner >> 2 & 1, corner >> 1 & 1, corner & 1])
        i, j, k = (low + step).T
        columns[:, corner] = (i * shape[1] + j) * shape[2] + k
        weights[:, corner] = np.where(step == 1, part, 1 - part).prod(axis=1)
    ends = np.arange(0, 8 * len(low) + 1, 8)
    return csr_matrix((weights.ravel(), columns.ravel(), ends), shape=(len(low), int(shape.prod())))


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted surface that can be read anywhere in the box.

    Args:
        model: the shape model.
        moves: the jitters.
        weights: (J, 1 + M) weight of mean and modes in each.
        misfit_mm: weighted root mean square of what the model leaves unexplained.
    """

    model: ShapeModel
    moves: list[Jitter]
    weights: F32
    misfit_mm: float

    def at(self, points_mm: NDArray[np.floating]) -> F32:
        """Signed distance, mm, at (N, 3) points of the box."""
        total = np.zeros(len(points_mm), np.float32)
        for move, volume in zip(self.moves, self._volumes, strict=True):
            total += trilinear(self.model.grid, move(points_mm)) @ volume
        return total

    @cached_property
    def _volumes(self) -> F32:
        """(J, V): each jitter's weighted sum of mean and modes, so that a read is one interpolation a jitter."""
        return self.model.combine(self.weights[:, 1:]) + self.weights[:, :1] * self.model.mean


def fit(
    model: ShapeModel, moves: list[Jitter], points_mm: F32, target_mm: F32, weight: F32, *, ridge: float, modes: int
) -> tuple[Fit, F32]:
    """Fit the model to distances at points.

    Args:
        model: the shape model.
        moves: jitters; the first is the unmoved box.
        points_mm: (P, 3) points of the box.
        target_mm: (P,) signed distances there.
        weight: (P,) how much each counts.
        ridge: strength of the prior, as a share of the features' mean energy.
        modes: so many modes are used, or all if the model has fewer.

    Returns:
        The fit, and its values at the points.
    """
    count, modes = len(moves), min(modes, len(model.parity))
    features = _features(model, moves, points_mm, modes)
    mean = features[:, :, 0].mean(axis=1)
    features[:, :, 0] -= mean[:, None]
    features /= np.sqrt(count)
    flat = features.reshape(len(points_mm), -1)
    root = np.sqrt(weight)
    solution = _solve(flat * root[:, None], (target_mm - mean) * root, ridge)
    values = mean + flat @ solution
    misfit = float(np.sqrt((weight * (target_mm - values) ** 2).sum() / max(float(weight.sum()), 1e-9)))
    weights = solution.reshape(count, -1) / np.float32(np.sqrt(count))
    # The mean's features were centred: give the mean of all jitters back.
    weights[:, 0] += 1 / count - weights[:, 0].mean()
    return Fit(model, moves, weights, misfit), values


def _features(model: ShapeModel, moves: list[Jitter], points_mm: F32, modes: int) -> F32:
    """(P, J, 1 + M): mean and modes seen through each jitter at each point."""
    from scipy.sparse import csr_matrix

    reads = [trilinear(model.grid, move(points_mm)) for move in moves]
    # Only the voxels that are read are needed: a tenth of the box around a hole.
    needed = np.zeros(model.grid.size, bool)
    for read in reads:
        needed[read.indices] = True
    place = np.cumsum(needed) - 1
    source = np.column_stack([model.mean[needed], model.rows(np.flatnonzero(needed), modes)])
    out = np.empty((len(points_mm), len(moves), 1 + modes), np.float32)
    for number, read in enumerate(reads):
        small = csr_matrix((read.data, place[read.indices], read.indptr), shape=(len(points_mm), len(source)))
        out[:, number] = small @ source
    return out


def _solve(design: F32, right: F32, ridge: float) -> F32:
    """Ridge solution, by whichever of the two equivalent systems is smaller."""
    from scipy.linalg import solve

    points, columns = design.shape
    energy = float(np.einsum("ij,ij->", design, design, dtype=np.float64)) / columns
    if columns <= points:
        system = (design.T @ design).astype(np.float64)
        system.flat[:: columns + 1] += ridge * energy
        return np.asarray(solve(system, (design.T @ right).astype(np.float64), assume_a="pos"), np.float32)
    system = (design @ design.T).astype(np.float64)
    system.flat[:: points + 1] += ridge * energy
    return np.asarray(design.T @ solve(system, right.astype(np.float64), assume_a="pos").astype(np.float32))
