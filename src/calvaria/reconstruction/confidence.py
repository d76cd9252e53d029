"""The accuracy to expect of a completion, or why none can be stated."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calvaria.models.calibration import Calibration
from calvaria.reconstruction.box import frontal_floor, vault
from calvaria.reconstruction.holes import Hole
from calvaria.reconstruction.protocol import Completion
from calvaria.reconstruction.uncertainty import Uncertainty
from calvaria.skull.canonical import GOOD_COST

UNTRIED = "what this model's patches are worth was not measured"
"""The reason for an engine without a calibration."""


@dataclass(frozen=True)
class Confidence:
    """How good the patch probably is.

    Args:
        expected_dsc: expected Dice with the true bone, None where none can be stated.
        reason: what the expectation rests on, or why there is none.
        misfit_mm: how far the completed surface is off the known bone near the hole; 0 without a hole.
        area_cm2: area of all holes together.
        frontal_share: share of the patch in the frontal floor, whose thin bone is the hardest to predict.
        outer_within_mm: the true outer surface is expected within this on nine tenths of the patch; None where that
            cannot be said.
    """

    expected_dsc: float | None
    reason: str
    misfit_mm: float = 0.0
    area_cm2: float = 0.0
    frontal_share: float = 0.0
    outer_within_mm: float | None = None

    def doubted(self, lines: tuple[str, ...]) -> Confidence:
        """The same without an expectation, for the first of the reasons; itself where there are none."""
        if not lines:
            return self
        told = self if self.expected_dsc is None else replace(self, expected_dsc=None, reason=lines[0])
        return replace(told, outer_within_mm=None)


def judge(
    done: Completion,
    holes: tuple[Hole, ...],
    calibration: Calibration | None,
    uncertainty: Uncertainty | None = None,
) -> Confidence:
    """State the accuracy to expect.

    Args:
        done: the engine's answer.
        holes: those that were completed.
        calibration: the engine's; without one no accuracy is stated.
        uncertainty: of the completed surface, where the engine can say.
    """
    soft, field = done.soft, done.field
    if not holes:
        return Confidence(None, "no defect was found, so there is nothing to judge")
    misfit_mm, area_cm2 = round(soft.misfit_mm, 4), round(sum(hole.area_cm2 for hole in holes), 2)
    added = (soft.distance_mm < 0) & (field.distance_mm > 0) & soft.region
    frontal = round(float(frontal_floor()[added].mean()) if added.any() else 0.0, 4)
    if calibration is None:
        return Confidence(None, UNTRIED, misfit_mm, area_cm2, frontal)
    within = None if uncertainty is None else round(uncertainty.outer_within_mm(), 2)
    doubt = _doubt(done, calibration)
    if doubt is not None:
        return Confidence(None, doubt, misfit_mm, area_cm2, frontal)
    if area_cm2 > calibration.largest_cm2:
        doubt = f"the hole ({area_cm2:.0f} cm2) is larger than any that was tested ({calibration.largest_cm2:.0f} cm2)"
        # Nor is the outer surface known: of six hemicraniectomies of test persons one was off by far (shape-prior.md).
        return Confidence(None, doubt, misfit_mm, area_cm2, frontal)
    expected = round(float(np.clip(calibration.expected_dsc(misfit_mm, area_cm2, frontal), 0.0, 1.0)), 3)
    spread = calibration.spread_dsc
    reason = f"from validation cases of a like misfit, area and place; true values lie +-{spread:.2f}"
    return Confidence(expected, reason, misfit_mm, area_cm2, frontal, within)


def _doubt(done: Completion, calibration: Calibration) -> str | None:
    """Why no accuracy can be stated; None if one can."""
    cost, misfit_mm = done.frame.cost, done.soft.misfit_mm
    if cost > GOOD_COST:
        return f"the head is unlike those known (mismatch {cost:.2f} > {GOOD_COST:.2f})"
    if misfit_mm > calibration.worst_misfit_mm:
        return f"the bone around the hole is unlike that of known skulls ({misfit_mm:.2f} mm off)"
    if (done.soft.region & ~done.field.known & vault()).any():
        return "the hole reaches the end of the scan: what lies beyond is not known"
    return None
