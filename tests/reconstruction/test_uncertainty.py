"""How far a completed surface may lie elsewhere: what the calibration makes of an engine's spread."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.heads import SIDE, Head, boxed, family_engine
from tests.reconstruction.test_confidence import FIELD, FRAME, HOLES, USED

from calvaria.models.calibration import LEVELS, Calibration, SurfaceCalibration
from calvaria.reconstruction.box import box_grid
from calvaria.reconstruction.confidence import judge
from calvaria.reconstruction.protocol import Completion, SoftField, Spread
from calvaria.reconstruction.uncertainty import Uncertainty
from calvaria.skull.canonical import CanonicalFrame

MEANS = SurfaceCalibration((1.0, 2.0, 2.5), (1.5, 2.5, 3.5))


def shell(sd_mm: float = 0.4) -> SoftField:
    """A plate between two spheres about the box's origin, 60 and 66 mm, and points on both."""
    grid = box_grid()
    radius = np.linalg.norm(grid.centres_mm(), axis=-1)
    distance = np.maximum(radius - 66, 60 - radius).astype(np.float32)
    rng = np.random.default_rng(1)
    ways = rng.standard_normal((60, 3))
    ways[:, 2] = np.abs(ways[:, 2])
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    points = np.concatenate([66 * ways[:30], 60 * ways[30:]]).astype(np.float32)
    return SoftField(distance, distance < 3, 0.2, Spread(points, np.full(60, sd_mm, np.float32)))


def frame() -> CanonicalFrame:
    turned = np.eye(4)
    turned[:3, 3] = (10, -20, 30)
    return CanonicalFrame(turned, np.ones(3), 0.05, ())


def test_outer_and_inner_table_are_told_apart_and_each_has_its_own_calibration() -> None:
    found = Uncertainty.of(shell(), frame(), MEANS, 50.0)
    np.testing.assert_array_equal(found.outer, np.arange(60) < 30)
    for level, outer, inner in zip(LEVELS, MEANS.outer, MEANS.inner, strict=True):
        half = found.half_width_mm(level)
        np.testing.assert_allclose(half[:30], 0.4 * outer, rtol=1e-6)
        np.testing.assert_allclose(half[30:], 0.4 * inner, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found.points_mm[:30] - (10, -20, 30), axis=1), 66, atol=1e-3)


def test_an_even_spread_holds_nine_tenths_of_the_surface_within_its_interval() -> None:
    found = Uncertainty.of(shell(), frame(), MEANS, 50.0)
    assert found.outer_within_mm(0.9) == pytest.approx(0.8, abs=1e-3)
    assert found.outer_within_mm(0.68) == pytest.approx(0.4, abs=1e-3)


def test_an_uneven_spread_lies_between_its_parts() -> None:
    soft = shell()
    spread = replace(soft.spread, sd_mm=np.where(np.arange(60) % 2, 0.2, 0.8).astype(np.float32))
    found = Uncertainty.of(replace(soft, spread=spread), frame(), MEANS, 50.0)
    assert 2 * 0.2 < found.outer_within_mm(0.9) < 2 * 0.8


def test_between_points_the_spread_is_theirs() -> None:
    found = Uncertainty.of(shell(), frame(), MEANS, 50.0)
    outside = found.points_mm[:30] * 1.0
    assert found.at(outside, 0.9).max() == pytest.approx(0.8, rel=0.3)
    assert found.at(outside, 0.9).min() >= 0.8 - 1e-9


def test_pieces_that_were_dropped_say_nothing() -> None:
    soft = shell()
    upper = box_grid().centres_mm()[..., 0] > 0
    dropped = replace(soft, distance_mm=np.where(upper, np.float32(9), soft.distance_mm))
    found = Uncertainty.of(dropped, frame(), MEANS, 50.0)
    assert (found.points_mm[:, 0] < 10 + 2).all()
    assert Uncertainty.of(replace(soft, distance_mm=np.full_like(soft.distance_mm, 9)), frame(), MEANS, 50.0) is None


def test_who_cannot_say_says_nothing() -> None:
    assert Uncertainty.of(replace(shell(), spread=None), frame(), MEANS, 50.0) is None
    assert Uncertainty.of(shell(), frame(), None, 50.0) is None


class TestConfidence:
    def judged(self, used: Calibration = USED, sd_mm: float = 0.4):
        said = Uncertainty.of(shell(sd_mm), FRAME, MEANS, 50.0)
        done = Completion(FRAME, FIELD, replace(shell(sd_mm), region=np.zeros(box_grid().shape, bool)))
        return judge(done, HOLES, used, said, voxel_mm=0.6)

    def test_beyond_what_was_tested_there_is_none(self) -> None:
        for used in (replace(USED, largest_cm2=30.0), replace(USED, worst_misfit_mm=0.1)):
            found = self.judged(used)
            assert found.expected_dsc is not None
            assert found.outer_within_mm is None

    def test_what_is_doubtful_has_none(self) -> None:
        assert self.judged().outer_within_mm == pytest.approx(0.8)
        assert self.judged().doubted(("the spacing is unusual",)).outer_within_mm is None


class TestCalibration:
    def test_it_comes_back_from_an_index(self) -> None:
        used = replace(USED, surface=replace(MEANS, origin="somewhere"))
        assert Calibration.from_entry(used.to_entry()) == used
        assert "surface" not in USED.to_entry()
        assert Calibration.from_entry(USED.to_entry()) == USED

    @pytest.mark.parametrize(
        "entry",
        [
            7,
            {"outer": [1, 2, 3]},
            {"outer": [1, 2], "inner": [1, 2, 3]},
            {"outer": [3, 2, 1], "inner": [1, 2, 3]},
            {"outer": [1, 2, "x"], "inner": [1, 2, 3]},
            {"outer": [1, 2, float("nan")], "inner": [1, 2, 3]},
            {"outer": [1, 2, 3], "inner": [0, 2, 3]},
            {"outer": [1, 2, True], "inner": [1, 2, 3]},
        ],
    )
    def test_what_is_none_is_refused(self, entry: object) -> None:
        with pytest.raises(Exception, match="a surface's calibration"):
            Calibration.from_entry({**USED.to_entry(), "surface": entry})


def test_a_completion_is_less_sure_in_the_middle_of_a_hole_than_at_its_rim() -> None:
    head = Head(20, holes=(SIDE,))
    spread = family_engine().complete(boxed(head)).spread
    to_middle = np.linalg.norm(spread.points_mm * head.scale - SIDE.centre_mm, axis=1)
    inner, outer = to_middle < 12, to_middle > 22
    assert inner.any()
    assert outer.any()
    assert spread.sd_mm[inner].mean() > 1.2 * spread.sd_mm[outer].mean()
    assert (to_middle < SIDE.radius_mm + 6).all()


def test_large_holes_are_doubted_more_than_their_fit_knows():
    usual, small, large = (Uncertainty.of(shell(), frame(), MEANS, cm2) for cm2 in (50.0, 5.0, 150.0))
    np.testing.assert_array_equal(small.sd_mm, usual.sd_mm)
    np.testing.assert_allclose(large.sd_mm, usual.sd_mm * 3.0**0.3)
