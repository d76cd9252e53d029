"""One patch of one patient, displaced smoothly by all that speaks of where it belongs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calvaria.jobs import Progress, unheard
from calvaria.reconstruction.protocol import Completion
from calvaria.skull.canonical import CanonicalFrame
from calvaria.types import F32, F64
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume


@dataclass(frozen=True)
class Settings:
    """Placeholder until the method lands."""


PAPER = Settings()
"""Reg-SN as published: symmetry alone."""


@dataclass(frozen=True, eq=False)
class Displacement:
    """A dense displacement u: the refined patch has at x what the given one has at x + u(x).

    Args:
        vectors_mm: (3, I, J, K) float32, components along world x, y, z, mm.
        grid: of the nodes; zero beyond them.
    """

    vectors_mm: F32
    grid: Grid

    def at(self, points_mm: NDArray[np.floating]) -> F64:
        """(N, 3) world mm, at (N, 3) world points."""
        return np.zeros((len(points_mm), 3))


@dataclass(frozen=True)
class RefinementReport:
    """What a refinement did, in figures.

    Args:
        declined: whether the patch was left as it was.
        reason: why it was left, or by what it was moved; one line.
        symmetry_before: symmetry loss (SL, 0 to 1) of the skull with the given patch.
        symmetry_after: ... with the refined one.
        mean_mm: displacement of the patch's surface, mean.
        max_mm: ... largest.
        jacobian_min: smallest Jacobian determinant of x + u(x); above 0: nothing folds.
        seconds: it took.
    """

    declined: bool
    reason: str
    symmetry_before: float
    symmetry_after: float
    mean_mm: float
    max_mm: float
    jacobian_min: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Refinement:
    """A refined patch.

    Args:
        patch: a mask on the defective skull's grid; the given one where it was declined.
        displacement: what was done to it.
        report: in figures.
    """

    patch: Volume
    displacement: Displacement
    report: RefinementReport


def refine(
    defective: Volume,
    patch: Volume,
    frame: CanonicalFrame,
    prior: Completion | None = None,
    settings: Settings | None = None,
    *,
    progress: Progress = unheard,
) -> Refinement:
    """Displace a patch by symmetry, by how the surface runs on across the rim, and by the shape prior.

    Args:
        defective: mask of the bone that is there.
        patch: mask of the missing bone on the same grid, from anywhere; may be empty.
        frame: canonical frame of the skull.
        prior: the shape prior's completion of the same skull, if there is one.
        settings: of the method.
        progress: called now and then.
    """
    grid = Grid.isotropic((2, 2, 2), 1.0)
    still = Displacement(np.zeros((3, 2, 2, 2), np.float32), grid)
    return Refinement(patch, still, RefinementReport(True, "a placeholder moves nothing", 0.0, 0.0, 0.0, 0.0, 1.0, 0.0))


__all__ = ["Displacement", "Refinement", "RefinementReport", "Settings", "refine"]
