"""What accuracy to expect of a completion, or why nothing can be said."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calvaria.reconstruction.box import BoxField, vault
from calvaria.reconstruction.holes import Hole
from calvaria.reconstruction.soft import SoftField
from calvaria.skull.canonical import GOOD_COST, CanonicalFrame

INTERCEPT, PER_MISFIT_MM, PER_LOG_AREA = 1.0, -0.6, 0.0
"""Expected DSC from the misfit around the hole and the hole's area, fitted on the validation persons."""

SPREAD_DSC = 0.05
"""Standard deviation of the true DSC about the expected one, same cases."""

WORST_MISFIT_MM, LARGEST_CM2 = 0.6, 160.0
"""Beyond these no validation case lies."""


@dataclass(frozen=True)
class Confidence:
    """How good the patch probably is.

    Args:
        expected_dsc: expected Dice with the true bone, None where nothing can be said.
        reason: what the expectation rests on, or why there is none.
    """

    expected_dsc: float | None
    reason: str


def judge(soft: SoftField, field: BoxField, frame: CanonicalFrame, holes: tuple[Hole, ...]) -> Confidence:
    """Say what accuracy to expect.

    Args:
        soft: the engine's answer.
        field: the skull it was given.
        frame: the pose.
        holes: what was filled.
    """
    if not holes:
        return Confidence(None, "no defect was found, so there is nothing to judge")
    area = sum(hole.area_cm2 for hole in holes)
    if frame.cost > GOOD_COST:
        return Confidence(None, f"the head is unlike those known (mismatch {frame.cost:.2f} > {GOOD_COST:.2f})")
    if soft.misfit_mm > WORST_MISFIT_MM:
        return Confidence(
            None, f"the bone around the hole is unlike that of known skulls ({soft.misfit_mm:.2f} mm off)"
        )
    if area > LARGEST_CM2:
        return Confidence(None, f"the hole ({area:.0f} cm2) is larger than any that was tested ({LARGEST_CM2:.0f} cm2)")
    if (soft.region & ~field.known & vault()).any():
        return Confidence(None, "the hole reaches the end of the scan: what lies beyond is not known")
    expected = INTERCEPT + PER_MISFIT_MM * soft.misfit_mm + PER_LOG_AREA * float(np.log(max(area, 1.0)))
    expected = round(float(np.clip(expected, 0.0, 1.0)), 3)
    return Confidence(
        expected, f"from validation cases with a like misfit and area; true values lie +-{SPREAD_DSC:.2f}"
    )
