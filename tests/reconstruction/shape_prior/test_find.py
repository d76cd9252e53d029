"""Which pieces of absent bone are holes: on plates in the common box."""

from __future__ import annotations

import numpy as np
import pytest
from tests.heads import Ball, Head, boxed, family_engine

from calvaria.reconstruction.box import BoxField, box_grid
from calvaria.reconstruction.shape_prior.engine import AIR_MM, ShapePrior
from calvaria.reconstruction.shape_prior.find import real_holes
from calvaria.skull.canonical import SPACING_MM
from calvaria.types import BoolArray
from calvaria.volume import Volume
from calvaria.volume.distance import signed_distance

BURR = Ball((38.0, -16.0, 62.0), 9.0)


def plate_with(radius_mm: float, *, covered: bool = False) -> tuple[BoolArray, BoxField]:
    """A flat roof with a round opening, and what is missing in it; a second roof may stand over the opening."""
    x, y, z = np.moveaxis(box_grid().centres_mm(), -1, 0)
    roof = (np.abs(z - 60) < 3.5) & (np.abs(x) < 50) & (np.abs(y) < 60)
    missing = roof & (np.hypot(x, y) < radius_mm)
    bone = roof & ~missing
    if covered:
        bone |= (np.abs(z - 68) < 1.7) & (np.hypot(x, y) < radius_mm + 6)
    distance = np.asarray(signed_distance(Volume(bone, box_grid())), np.float32)
    return missing, BoxField(distance, np.ones(bone.shape, bool))


class TestOpenPieces:
    @pytest.mark.parametrize("radius_mm", [7.0, 10.0, 13.0])
    def test_a_round_hole_of_a_few_ml_counts_where_small_ones_are_asked_for(self, radius_mm):
        missing, field = plate_with(radius_mm)
        ml = np.count_nonzero(missing) * SPACING_MM**3 / 1000
        assert ml < 5
        none = missing & False
        assert not real_holes(missing, missing, field, 5.0).any()
        assert not real_holes(missing, none, field, 5.0, open_ml=ml * 1.01).any()
        np.testing.assert_array_equal(real_holes(missing, none, field, 5.0, open_ml=ml * 0.99), missing)

    def test_beside_a_hole_it_counts_without_being_asked_for(self):
        """A skull that was opened has burr holes; one that was not has natural openings."""
        x, y, z = np.moveaxis(box_grid().centres_mm(), -1, 0)
        roof = (np.abs(z - 60) < 3.5) & (np.abs(x) < 50) & (np.abs(y) < 60)
        small, large = (roof & (np.hypot(x, y - middle) < radius) for middle, radius in ((-40, 10.0), (15, 25.0)))
        ml = np.count_nonzero(small) * SPACING_MM**3 / 1000
        for missing, found in ((small | large, small | large), (small, small & False)):
            distance = np.asarray(signed_distance(Volume(roof & ~missing, box_grid())), np.float32)
            field = BoxField(distance, np.ones(roof.shape, bool))
            np.testing.assert_array_equal(real_holes(missing, large, field, 5.0, beside_ml=ml * 0.99), found)
            np.testing.assert_array_equal(real_holes(missing, large, field, 5.0, beside_ml=ml * 1.01), found & large)

    def test_a_small_hole_under_bone_that_stands_does_not(self):
        missing, field = plate_with(13.0, covered=True)
        assert not real_holes(missing, missing, field, 5.0, open_ml=0.5).any()

    def test_one_narrower_than_a_burr_hole_does_not(self):
        missing, field = plate_with(4.0)
        assert not real_holes(missing, missing, field, 5.0, open_ml=0.0).any()


@pytest.fixture(scope="module")
def engine() -> ShapePrior:
    return family_engine()


class TestSmallHolesOfHeads:
    def test_a_hole_that_is_left_open_is_told(self, engine):
        field = boxed(Head(21, (BURR,)))
        air = np.full(field.distance_mm.shape, np.float32(AIR_MM))
        opening = engine.finder.left_open(field, air)
        middle = box_grid().to_world(np.argwhere(opening)).mean(axis=0)
        towards = np.array(BURR.centre_mm)
        assert np.linalg.norm(middle - towards) < 12
        assert not engine.finder.left_open(field, boxed(Head(21)).distance_mm).any()

    @pytest.mark.parametrize("number", [20, 21, 22, 23])
    def test_a_complete_head_has_none(self, engine, number):
        field = boxed(Head(number))
        air = np.full(field.distance_mm.shape, np.float32(AIR_MM))
        assert not engine.finder.left_open(field, air).any()
        assert not engine.with_min_hole_ml(1.0).sketch(field).region.any()

    def test_it_is_filled_where_it_is_asked_for(self, engine):
        field = boxed(Head(21, (BURR,)))
        assert not engine.complete(field).region.any()
        soft = engine.with_min_hole_ml(0.5).complete(field)
        assert (soft.region & (soft.distance_mm < 0)).any()
        assert not engine.left_open(field, soft).any()
        assert engine.settings.open_ml == np.inf
