"""The displacement of least energy, from coarse to fine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calvaria.refinement.displacement import Smoothness, finer
from calvaria.refinement.energy import Energy, Scene
from calvaria.types import F32
from calvaria.volume.grid import Box


class Level(NamedTuple):
    """One level of a descent.

    Args:
        step: nodes of the scene between two of the level; each level has half the step of the one before, or the same.
        width_mm: over which a surface is smeared.
        iterations: largest number.
    """

    step: int
    width_mm: float
    iterations: int


LEVELS = (Level(4, 8.0, 30), Level(2, 4.0, 30), Level(1, 2.4, 15))
"""Coarse to fine."""


@dataclass(frozen=True, eq=False)
class Descent:
    """A displacement and what it cost.

    Args:
        field: (3, I, J, K) mm, at the inner nodes of the last level's grid.
        step: of the last level.
        evaluations: of the energy, a level each.
    """

    field: F32
    step: int
    evaluations: tuple[int, ...]


def descend(
    scene: Scene, box: Box, stiffness: float, levels: Sequence[Level] = LEVELS, start: F32 | None = None
) -> Descent:
    """Minimise energy and roughness together.

    Args:
        scene: skull, patch and evidence.
        box: of its grid in which the patch moves; its edges are multiples of the coarsest step.
        stiffness: of the regularisation, mm^-3.
        levels: coarse to fine.
        start: (3, I, J, K) at the inner nodes of the coarsest level; None: no displacement.
    """
    field, before, counts = start, levels[0].step, []
    for level in levels:
        energy = Energy(scene, box, level.step, level.width_mm)
        if field is None:
            field = np.zeros((3, *energy.shape), np.float32)
        elif level.step != before:
            field = finer(field, energy.shape)
        before = level.step
        field, count = _minimise(energy, field, level, scene.spacing_mm * level.step, stiffness)
        counts.append(count)
    if field is None:
        raise ValueError("a descent has one level or more")
    return Descent(field, before, tuple(counts))


def _minimise(energy: Energy, field: F32, level: Level, spacing_mm: float, stiffness: float) -> tuple[F32, int]:
    from scipy.optimize import minimize

    smooth = Smoothness(energy.shape, spacing_mm, stiffness)
    shape = field.shape

    def total(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        waves = flat.astype(np.float32).reshape(shape)
        value, slope = energy(smooth.field(waves))
        slope = smooth.slope(slope) + waves
        return value + float(flat @ flat) / 2, slope.astype(np.float64).ravel()

    options = {"maxiter": level.iterations, "maxfun": 2 * level.iterations, "maxcor": 8, "ftol": 1e-7, "gtol": 1e-9}
    found = minimize(total, smooth.waves(field).astype(np.float64).ravel(), jac=True, method="L-BFGS-B", options=options)
    return smooth.field(found.x.astype(np.float32).reshape(shape)), int(found.nfev)


Total = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]

__all__ = ["LEVELS", "Descent", "Level", "descend"]
