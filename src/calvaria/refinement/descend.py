"""The displacement of least energy, from coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calvaria.refinement.displacement import Smoothness, finer, jacobians
from calvaria.refinement.energy import Energy, Scene
from calvaria.types import F32
from calvaria.volume.grid import Box


class Level(NamedTuple):
    """One level of a descent.

    Args:
        step: nodes of the scene between two of the level; each level has half the step of the one before, or the same.
        width_mm: over which a surface is smeared to either side.
        iterations: largest number.
    """

    step: int
    width_mm: float
    iterations: int


LEVELS = (Level(4, 8.0, 30), Level(2, 4.0, 30), Level(1, 2.4, 15))
"""Coarse to fine."""

FIRST_REACH_MM, REACH_MM = 14.0, 4.0
"""Bone is expected to move no farther than this in the first level, and in each later one."""

MIN_JACOBIAN = 0.1
"""Where bone would be squeezed to less than this share of its volume, the level is done again, stiffer."""

STIFFER, MAX_STIFFENINGS = 4.0, 5
"""By how much, and how often a level at most."""


@dataclass(frozen=True, eq=False)
class Descent:
    """A displacement and what it cost.

    Args:
        field: (3, I, J, K) mm, at the inner nodes of the last level's grid.
        step: of the last level.
        stiffness: that was needed so that nothing folds.
        evaluations: of the energy.
    """

    field: F32
    step: int
    stiffness: float
    evaluations: int


def descend(scene: Scene, box: Box, stiffness: float, levels: Sequence[Level] = LEVELS) -> Descent:
    """Minimise energy and roughness together, by a quasi-Newton method in the metric of the roughness.

    Args:
        scene: skull, patch and evidence.
        box: of its grid in which the patch moves; its edges are multiples of the coarsest step.
        stiffness: of the regularisation, mm^-3.
        levels: coarse to fine, one or more.

    Returns:
        The displacement. It folds nowhere: a level that would fold is done again stiffer, and at last left out.
    """
    field, step, count = None, 0, 0
    for level in levels:
        reach_mm = FIRST_REACH_MM
        if field is not None:
            reach_mm = REACH_MM
            if level.step != step:
                field = finer(field)
        step = level.step
        energy = Energy(scene, box, step, level.width_mm, field, reach_mm)
        start = np.zeros((3, *energy.shape), np.float32) if field is None else field
        for _ in range(MAX_STIFFENINGS + 1):
            field, evaluations = _minimise(energy, start, level, scene.spacing_mm * step, stiffness)
            count += evaluations
            if (
                jacobians(np.pad(field, ((0, 0), (1, 1), (1, 1), (1, 1))), scene.spacing_mm * step).min()
                >= MIN_JACOBIAN
            ):
                break
            stiffness *= STIFFER
        else:
            field = start
    if field is None:
        raise ValueError("a descent has one level or more")
    return Descent(field, step, stiffness, count)


def _minimise(energy: Energy, field: F32, level: Level, spacing_mm: float, stiffness: float) -> tuple[F32, int]:
    from scipy.optimize import minimize

    smooth = Smoothness(energy.shape, spacing_mm, stiffness)
    start = smooth.waves(field)

    def total(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        waves = flat.astype(np.float32).reshape(start.shape)
        value, slope = energy(smooth.field(waves))
        slope = smooth.slope(slope) + waves
        return value + float(flat @ flat) / 2, slope.astype(np.float64).ravel()

    options = {"maxiter": level.iterations, "maxfun": 2 * level.iterations, "maxcor": 8, "ftol": 1e-7, "gtol": 1e-9}
    found = minimize(total, start.astype(np.float64).ravel(), jac=True, method="L-BFGS-B", options=options)
    return smooth.field(found.x.astype(np.float32).reshape(start.shape)), int(found.nfev)


__all__ = ["LEVELS", "Descent", "Level", "descend"]
