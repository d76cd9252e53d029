"""What accuracy to expect of a completion, or why nothing can be said."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calvaria.reconstruction.box import BoxField, frontal_floor, vault
from calvaria.reconstruction.holes import Hole
from calvaria.reconstruction.protocol import SoftField
from calvaria.skull.canonical import GOOD_COST, CanonicalFrame

INTERCEPT, PER_MISFIT_MM, PER_LOG_AREA, PER_FRONTAL = 1.022, -0.065, -0.0179, -0.113
"""Expected DSC from the misfit around the hole, its area, and the patch's share in the frontal floor; fitted on the
validation persons by ``python -m calvaria.benchmarks.confidence``, before the shape prior knew the wall's two sides.
With them its expectations are as right as before (docs/shape-prior.md), and on so few persons the misfit's part would
come out as nothing."""

SPREAD_DSC = 0.03
"""Root mean square difference of true and expected DSC on validation persons left out of the fit."""

WORST_MISFIT_MM, LARGEST_CM2 = 0.35, 72.5
"""Beyond these no validation case lies."""


UNTRIED = "what this model's patches are worth was not measured"
"""The reason for an engine that nothing was fitted on."""


@dataclass(frozen=True)
class Confidence:
    """How good the patch probably is.

    Args:
        expected_dsc: expected Dice with the true bone, None where nothing can be said.
        reason: what the expectation rests on, or why there is none.
        misfit_mm: how far the completed surface is off the known bone near the hole; 0 without a hole.
        area_cm2: area of all holes together.
        frontal_share: share of the patch in the frontal floor, whose thin bone is the hardest to tell.
    """

    expected_dsc: float | None
    reason: str
    misfit_mm: float = 0.0
    area_cm2: float = 0.0
    frontal_share: float = 0.0

    def doubted(self, lines: tuple[str, ...]) -> Confidence:
        """The same without an expectation, for the first of the reasons; itself where there are none."""
        return replace(self, expected_dsc=None, reason=lines[0]) if lines and self.expected_dsc is not None else self


def judge(
    soft: SoftField, field: BoxField, frame: CanonicalFrame, holes: tuple[Hole, ...], *, calibrated: bool = True
) -> Confidence:
    """Say what accuracy to expect.

    Args:
        soft: the engine's answer.
        field: the skull it was given.
        frame: the pose.
        holes: what was filled.
        calibrated: whether the figures above are the engine's; otherwise nothing is expected of it.
    """
    if not holes:
        return Confidence(None, "no defect was found, so there is nothing to judge")
    misfit_mm, area_cm2 = round(soft.misfit_mm, 4), round(sum(hole.area_cm2 for hole in holes), 2)
    added = (soft.distance_mm < 0) & (field.distance_mm > 0) & soft.region
    frontal = round(float(frontal_floor()[added].mean()) if added.any() else 0.0, 4)
    doubt = _doubt(soft, field, frame, area_cm2) if calibrated else UNTRIED
    if doubt is not None:
        return Confidence(None, doubt, misfit_mm, area_cm2, frontal)
    expected = round(float(np.clip(expected_dsc(misfit_mm, area_cm2, frontal), 0.0, 1.0)), 3)
    reason = f"from validation cases of a like misfit, area and place; true values lie +-{SPREAD_DSC:.2f}"
    return Confidence(expected, reason, misfit_mm, area_cm2, frontal)


def _doubt(soft: SoftField, field: BoxField, frame: CanonicalFrame, area_cm2: float) -> str | None:
    """Why nothing can be said; None if something can."""
    if frame.cost > GOOD_COST:
        return f"the head is unlike those known (mismatch {frame.cost:.2f} > {GOOD_COST:.2f})"
    if soft.misfit_mm > WORST_MISFIT_MM:
        return f"the bone around the hole is unlike that of known skulls ({soft.misfit_mm:.2f} mm off)"
    if area_cm2 > LARGEST_CM2:
        return f"the hole ({area_cm2:.0f} cm2) is larger than any that was tested ({LARGEST_CM2:.0f} cm2)"
    if (soft.region & ~field.known & vault()).any():
        return "the hole reaches the end of the scan: what lies beyond is not known"
    return None


def expected_dsc(misfit_mm: float, area_cm2: float, frontal_share: float) -> float:
    """The regression itself, without any limits."""
    log_area = float(np.log(max(area_cm2, 1.0)))
    return INTERCEPT + PER_MISFIT_MM * misfit_mm + PER_LOG_AREA * log_area + PER_FRONTAL * frontal_share
