"""What is said about the accuracy to expect, and when nothing is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calvaria.models import Calibration
from calvaria.models.calibration import MEASURES, Regression
from calvaria.reconstruction import confidence as module
from calvaria.reconstruction.box import BoxField, box_grid
from calvaria.reconstruction.confidence import UNTRIED, Confidence
from calvaria.reconstruction.holes import Hole
from calvaria.reconstruction.protocol import Completion, SoftField
from calvaria.skull.canonical import GOOD_COST, CanonicalFrame

SHAPE = box_grid().shape
FIELD = BoxField(np.zeros(SHAPE, np.float32), np.ones(SHAPE, bool))
FRAME = CanonicalFrame(np.eye(4), np.ones(3), 0.05, ())
MAX_CM2, MAX_MISFIT_MM, MAX_VOXEL_MM = 72.5, 0.35, 5.0
ONE = Regression((-2.7, 0.3, 0.1, 0.8, 0.1), 0.3, 0.4)
USED = Calibration(dict.fromkeys(MEASURES, ONE), MAX_MISFIT_MM, MAX_CM2, MAX_VOXEL_MM)
HOLES = (Hole(40.0, 50.0, (0.0, 0.0, 0.0)), Hole(5.0, 9.0, (0.0, 0.0, 0.0)))


def judge(
    answer: SoftField,
    field: BoxField,
    frame: CanonicalFrame,
    holes: tuple[Hole, ...],
    used: Calibration | None = USED,
    *,
    voxel_mm: float = 0.6,
    unseen: tuple[str, ...] = (),
) -> Confidence:
    return module.judge(Completion(frame, field, answer), holes, used, voxel_mm=voxel_mm, unseen=unseen)


def soft(misfit_mm: float = 0.25) -> SoftField:
    region = np.zeros(SHAPE, bool)
    region[40:60, 40:60, 80:90] = True
    return SoftField(np.zeros(SHAPE, np.float32), region, misfit_mm)


def test_a_usual_case_has_an_expectation_with_limits():
    found = judge(soft(), FIELD, FRAME, HOLES)
    assert found.expected_dsc is not None
    assert 0.8 < found.expected_dsc < 1
    assert [one.name for one in found.expected] == list(MEASURES)
    assert found.expected[0].value == found.expected_dsc
    assert all(one.low < one.value < one.high for one in found.expected)
    assert found.reason == "from validation cases of a like misfit, area, place and scan; 90% lie in these limits"
    assert found.text.startswith(f"DSC {found.expected_dsc:.2f} (")


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


def test_thick_slices_lower_the_expectation():
    thin, thick = (judge(soft(), FIELD, FRAME, HOLES, voxel_mm=mm) for mm in (0.6, 5.0))
    assert thick.expected_dsc < thin.expected_dsc
    assert (thick.beyond, thick.voxel_mm) == ("", 5.0)


def test_an_engine_is_judged_by_its_own_calibration():
    worse = Regression((ONE.weights[0] + np.log(2), *ONE.weights[1:]), 0.3, 0.4)
    found = judge(soft(), FIELD, FRAME, HOLES, replace(USED, measures=dict.fromkeys(MEASURES, worse)))
    loss = 1 - judge(soft(), FIELD, FRAME, HOLES).expected_dsc
    assert 1 - found.expected_dsc == pytest.approx(2 * loss, abs=0.0021)


def test_of_an_engine_without_a_calibration_nothing_is_expected():
    found = judge(soft(), FIELD, FRAME, HOLES, None)
    assert (found.expected_dsc, found.reason) == (None, UNTRIED)
    assert (found.misfit_mm, found.area_cm2) == (0.25, 59.0)


def test_without_a_hole_there_is_nothing_to_expect():
    found = judge(soft(), FIELD, FRAME, ())
    assert found.expected_dsc is None
    assert "no defect was found" in found.reason


def test_of_a_head_unlike_those_known_nothing_is_promised():
    found = judge(soft(), FIELD, replace(FRAME, cost=GOOD_COST + 0.01), HOLES)
    assert (found.expected_dsc, found.expected, found.text) == (None, (), "unknown")
    assert "the head is unlike those known" in found.reason


def test_beyond_what_was_tested_limits_are_wider_and_that_is_said():
    huge = (Hole(200.0, MAX_CM2 + 1, (0.0, 0.0, 0.0)),)
    cut = BoxField(FIELD.distance_mm, FIELD.known & (np.indices(SHAPE)[2] > 85))
    for found, words, same in (
        (judge(soft(MAX_MISFIT_MM + 0.01), FIELD, FRAME, HOLES), "the bone around the hole is unlike", False),
        (judge(soft(), FIELD, FRAME, huge), "larger than any that was tested", False),
        (judge(soft(), FIELD, FRAME, HOLES, voxel_mm=6.0), "the slices (6.0 mm) are thicker", False),
        (judge(soft(), cut, FRAME, HOLES), "the hole reaches the end of the scan", True),
        (judge(soft(), FIELD, FRAME, HOLES, unseen=("the scan ends at the vertex: x",)), "the scan ends", True),
    ):
        assert found.beyond
        assert words in found.beyond
        assert found.reason == f"{found.beyond}: the expectation is a guess, and its limits are widened"
        assert found.outer_within_mm is None
        distance = found.expected[2]
        assert np.log(distance.high / distance.value) == pytest.approx(2 * ONE.high, abs=0.02)
        assert np.log(distance.value / distance.low) == pytest.approx(2 * ONE.low, abs=0.02)
        if same:
            assert found.expected_dsc == judge(soft(), FIELD, FRAME, HOLES).expected_dsc


def test_doubts_of_the_head_take_the_expectation_back():
    found = judge(soft(), FIELD, FRAME, HOLES).doubted(("a child's head",))
    assert (found.expected_dsc, found.expected, found.reason, found.beyond) == (None, (), "a child's head", "")
    assert found.doubted(()) is found


@pytest.mark.parametrize("misfit", [0.0, MAX_MISFIT_MM])
def test_the_expectation_is_a_figure_of_a_report(misfit):
    value = judge(soft(misfit), FIELD, FRAME, HOLES).expected_dsc
    assert value == round(value, 3)
