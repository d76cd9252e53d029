"""What is said about the accuracy to expect, and when nothing is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calvaria.models import Calibration
from calvaria.reconstruction import confidence as module
from calvaria.reconstruction.box import BoxField, box_grid
from calvaria.reconstruction.confidence import UNTRIED, Confidence
from calvaria.reconstruction.holes import Hole
from calvaria.reconstruction.protocol import Completion, SoftField
from calvaria.skull.canonical import GOOD_COST, CanonicalFrame

SHAPE = box_grid().shape
FIELD = BoxField(np.zeros(SHAPE, np.float32), np.ones(SHAPE, bool))
FRAME = CanonicalFrame(np.eye(4), np.ones(3), 0.05, ())
MAX_CM2, MAX_MISFIT_MM = 72.5, 0.35
USED = Calibration(1.022, -0.065, -0.0179, -0.113, 0.03, MAX_MISFIT_MM, MAX_CM2)
HOLES = (Hole(40.0, 50.0, (0.0, 0.0, 0.0)), Hole(5.0, 9.0, (0.0, 0.0, 0.0)))


def judge(
    answer: SoftField, field: BoxField, frame: CanonicalFrame, holes: tuple[Hole, ...], used: Calibration | None = USED
) -> Confidence:
    return module.judge(Completion(frame, field, answer), holes, used)


def soft(misfit_mm: float = 0.25) -> SoftField:
    region = np.zeros(SHAPE, bool)
    region[40:60, 40:60, 80:90] = True
    return SoftField(np.zeros(SHAPE, np.float32), region, misfit_mm)


def test_a_usual_case_has_an_expectation_between_0_and_1():
    found = judge(soft(), FIELD, FRAME, HOLES)
    assert found.expected_dsc is not None
    assert 0.8 < found.expected_dsc < 1
    assert found.reason == "from validation cases of a like misfit, area and place; true values lie +-0.03"


def test_a_worse_fit_lowers_the_expectation():
    values = [judge(soft(misfit), FIELD, FRAME, HOLES).expected_dsc for misfit in (0.1, 0.2, 0.29)]
    assert values == sorted(values, reverse=True)


def test_a_patch_in_the_frontal_floor_is_doubted_more():
    def patch(y: slice) -> SoftField:
        region = np.zeros(SHAPE, bool)
        region[40:60, y, 20:40] = True
        return SoftField(np.where(region, -1, 9).astype(np.float32), region, 0.2)

    field = replace(FIELD, distance_mm=np.full(SHAPE, 9, np.float32))
    front, back = (judge(patch(y), field, FRAME, HOLES) for y in (slice(5, 25), slice(100, 120)))
    assert (front.frontal_share, back.frontal_share) == (1, 0)
    assert front.expected_dsc < back.expected_dsc - 0.05


def test_an_engine_is_judged_by_its_own_calibration():
    worse = judge(soft(), FIELD, FRAME, HOLES, replace(USED, intercept=0.9, spread_dsc=0.08))
    assert worse.expected_dsc == pytest.approx(judge(soft(), FIELD, FRAME, HOLES).expected_dsc - 0.122, abs=0.0011)
    assert worse.reason.endswith("+-0.08")
    narrow = judge(soft(), FIELD, FRAME, HOLES, replace(USED, largest_cm2=30.0))
    assert narrow.expected_dsc is None
    assert narrow.reason == "the hole (59 cm2) is larger than any that was tested (30 cm2)"


def test_of_an_engine_without_a_calibration_nothing_is_expected():
    found = judge(soft(), FIELD, FRAME, HOLES, None)
    assert (found.expected_dsc, found.reason) == (None, UNTRIED)
    assert (found.misfit_mm, found.area_cm2) == (0.25, 59.0)


def test_without_a_hole_there_is_nothing_to_expect():
    found = judge(soft(), FIELD, FRAME, ())
    assert found.expected_dsc is None
    assert "no defect was found" in found.reason


def test_beyond_what_was_tested_nothing_is_promised():
    unlike = replace(FRAME, cost=GOOD_COST + 0.01)
    huge = (Hole(200.0, MAX_CM2 + 1, (0.0, 0.0, 0.0)),)
    cut = BoxField(FIELD.distance_mm, FIELD.known & (np.indices(SHAPE)[2] > 85))
    for found, words in (
        (judge(soft(), FIELD, unlike, HOLES), "the head is unlike those known"),
        (judge(soft(MAX_MISFIT_MM + 0.01), FIELD, FRAME, HOLES), "the bone around the hole is unlike"),
        (judge(soft(), FIELD, FRAME, huge), "larger than any that was tested"),
        (judge(soft(), cut, FRAME, HOLES), "the hole reaches the end of the scan"),
    ):
        assert found.expected_dsc is None
        assert words in found.reason


@pytest.mark.parametrize("misfit", [0.0, MAX_MISFIT_MM])
def test_the_expectation_is_a_figure_of_a_report(misfit):
    value = judge(soft(misfit), FIELD, FRAME, HOLES).expected_dsc
    assert value == round(value, 3)
