"""The accuracy to expect of a completion, or why none can be stated."""

from __future__ import annotations

from dataclasses import dataclass, replace

from calvaria.models.calibration import SHARE_WITHIN, Calibration, Cues, Expected
from calvaria.reconstruction.box import frontal_floor, vault
from calvaria.reconstruction.holes import Hole
from calvaria.reconstruction.protocol import Completion
from calvaria.reconstruction.uncertainty import Uncertainty
from calvaria.skull.canonical import GOOD_COST

UNTRIED = "what this model's patches are worth was not measured"
"""The reason for an engine without a calibration."""

TESTED = f"from validation cases of a like misfit, area, place and scan; {SHARE_WITHIN:.0%} lie in these limits"
"""The reason for a usual case."""

WIDENED = 2.0
"""Beyond what was tested, intervals are so many times as wide."""

GUESSED = "the expectation is a guess, and its limits are widened"

DECIMALS = 3


@dataclass(frozen=True)
class Confidence:
    """How good the patch probably is.

    Args:
        expected_dsc: expected Dice with the true bone, None where none can be stated.
        reason: what the expectation rests on, or why there is none.
        misfit_mm: how far the completed surface is off the known bone near the hole; 0 without a hole.
        area_cm2: area of all holes together.
        frontal_share: share of the patch in the frontal floor, whose thin bone is the hardest to predict.
        voxel_mm: longest edge of the scan's voxels.
        outer_within_mm: the true outer surface is expected within this on nine tenths of the patch; None where that
            cannot be said.
        expected: what is expected by several measures, with limits; empty where nothing can be stated.
        beyond: in what the case goes beyond those whose truth was known; "" where it does not.
    """

    expected_dsc: float | None
    reason: str
    misfit_mm: float = 0.0
    area_cm2: float = 0.0
    frontal_share: float = 0.0
    voxel_mm: float = 0.0
    outer_within_mm: float | None = None
    expected: tuple[Expected, ...] = ()
    beyond: str = ""

    @property
    def text(self) -> str:
        """The accuracy to expect in words.

        >>> Confidence(0.93, "", expected=(Expected("dsc", 0.93, 0.88, 0.96), Expected("hd95_mm", 1.3, 0.8, 2.1))).text
        'DSC 0.93 (0.88 to 0.96), HD95 1.3 mm (0.8 to 2.1)'
        >>> Confidence(None, "the head is unlike those known").text
        'unknown'
        """
        if self.expected_dsc is None:
            return "unknown"
        return ", ".join(one.text for one in self.expected) or f"DSC {self.expected_dsc:.2f}"

    def doubted(self, lines: tuple[str, ...]) -> Confidence:
        """The same without an expectation, for the first of the reasons; itself where there are none."""
        if not lines:
            return self
        told = self if self.expected_dsc is None else replace(self, expected_dsc=None, reason=lines[0])
        return replace(told, outer_within_mm=None, expected=(), beyond="")


def judge(
    done: Completion,
    holes: tuple[Hole, ...],
    calibration: Calibration | None,
    uncertainty: Uncertainty | None = None,
    *,
    voxel_mm: float,
    unseen: tuple[str, ...] = (),
) -> Confidence:
    """State the accuracy to expect.

    Args:
        done: the engine's answer.
        holes: those that were completed.
        calibration: the engine's; without one no accuracy is stated.
        uncertainty: of the completed surface, where the engine can say.
        voxel_mm: longest edge of the scan's voxels.
        unseen: lines on what the scan does not show of the hole.
    """
    soft, field = done.soft, done.field
    if not holes:
        return Confidence(None, "no defect was found, so there is nothing to judge")
    area_cm2 = sum(hole.area_cm2 for hole in holes)
    added = (soft.distance_mm < 0) & (field.distance_mm > 0) & soft.region
    frontal = float(frontal_floor()[added].mean()) if added.any() else 0.0
    cues = Cues(round(soft.misfit_mm, 4), round(area_cm2, 2), round(frontal, 4), round(voxel_mm, 4))
    if calibration is None:
        return Confidence(None, UNTRIED, **vars(cues))
    if done.frame.cost > GOOD_COST:
        doubt = f"the head is unlike those known (mismatch {done.frame.cost:.2f} > {GOOD_COST:.2f})"
        return Confidence(None, doubt, **vars(cues))
    within = None if uncertainty is None else round(uncertainty.outer_within_mm(), 2)
    beyond = _cut(done, unseen) or calibration.beyond(cues) or ""
    expected = tuple(_rounded(one) for one in calibration.expected(cues, WIDENED if beyond else 1.0))
    # The surface's own intervals were held against the truth in tested cases only.
    within = None if beyond else within
    reason = f"{beyond}: {GUESSED}" if beyond else TESTED
    return Confidence(expected[0].value, reason, **vars(cues), outer_within_mm=within, expected=expected, beyond=beyond)


def _cut(done: Completion, unseen: tuple[str, ...]) -> str | None:
    """What the scan does not show of the hole; None if it shows it all."""
    if unseen:
        return unseen[0]
    if (done.soft.region & ~done.field.known & vault()).any():
        return "the hole reaches the end of the scan, and what lies beyond is not known"
    return None


def _rounded(one: Expected) -> Expected:
    return Expected(one.name, *(round(value, DECIMALS) for value in (one.value, one.low, one.high)))
