"""Which openings a point, a box or a mask means."""

from __future__ import annotations

import numpy as np
import pytest

from calvaria.errors import InputError
from calvaria.reconstruction.box import box_grid
from calvaria.reconstruction.openings import Openings, in_box, kept_open, nearer_to, pointed_at
from calvaria.reconstruction.word import UserWord
from calvaria.skull.canonical import CanonicalFrame
from calvaria.types import BoolArray
from calvaria.volume import Grid, Volume

FRAME = CanonicalFrame(np.eye(4), np.ones(3), 0.0, ())
ONE, TWO = (40.0, 0.0, 60.0), (-40.0, 10.0, 60.0)


def ball(centre_mm: tuple[float, float, float], radius_mm: float = 6.0) -> BoolArray:
    return np.asarray(np.linalg.norm(box_grid().centres_mm() - np.array(centre_mm), axis=-1) < radius_mm)


@pytest.fixture(scope="module")
def openings() -> Openings:
    return Openings.of(ball(ONE) | ball(TWO) | ball((0.0, 60.0, 60.0), 1.5), FRAME)


def test_specks_are_no_openings(openings):
    assert openings.count == 2
    np.testing.assert_array_equal(openings.all, ball(ONE) | ball(TWO))


def test_the_nearest_within_15_mm_is_meant(openings):
    beside = (ONE[0] + 19, *ONE[1:])
    np.testing.assert_array_equal(pointed_at(openings, UserWord(seeds_mm=(beside,))), ball(ONE))
    with pytest.raises(
        InputError, match=r"seed \(62, 0, 60\): no opening lies within 15 mm; the nearest, 0\.9 ml, left"
    ):
        pointed_at(openings, UserWord(seeds_mm=((62.0, 0.0, 60.0),)))
    with pytest.raises(InputError, match="no opening was found in the whole vault"):
        pointed_at(Openings.of(openings.all & False, FRAME), UserWord(seeds_mm=(ONE,)))


def test_half_of_an_opening_in_a_box_is_enough_and_less_is_not(openings):
    box = (TWO[0] - 8, TWO[1] - 8, 50.0, TWO[0] + 1, 30.0, 80.0)
    np.testing.assert_array_equal(pointed_at(openings, UserWord(box_mm=box)), ball(TWO))
    less = (TWO[0] - 8, TWO[1] - 8, 50.0, TWO[0] - 2, 30.0, 80.0)
    with pytest.raises(InputError, match=r"no opening lies in the box by at least half; .* from its middle"):
        pointed_at(openings, UserWord(box_mm=less))


def test_what_is_kept_open_is_a_points_opening_and_a_masks_place(openings):
    grid = Grid.isotropic((30, 30, 20), 1.0, (30.0, 0.0, 50.0))  # one half of the first
    half = Volume(np.ones(grid.shape, bool), grid)
    half.data[0] = False
    kept, lines = kept_open(openings, UserWord(keep_open=(TWO, (0.0, -90.0, 0.0))))
    np.testing.assert_array_equal(kept, ball(TWO))
    assert lines == ("keep open: nothing is open within 15 mm of (0, -90, 0), so nothing had to be kept open",)
    some = np.zeros(half.shape, bool)
    some[5:15, 3:12] = True  # less than half of it
    kept, lines = kept_open(openings, UserWord(keep_open=(half.with_data(some),)))
    assert lines == ()
    assert 0 < np.count_nonzero(kept) < np.count_nonzero(ball(ONE)) / 2 + 1
    assert not (kept & ~ball(ONE)).any()


@pytest.mark.parametrize("spacing_mm", [0.5, 1.6, 4.0])
def test_a_mask_holds_the_same_voxels_of_the_box_whatever_its_own(spacing_mm):
    count = round(16 / spacing_mm)
    grid = Grid.isotropic((count,) * 3, spacing_mm, np.array(ONE) - 8 + spacing_mm / 2)
    found = in_box(Volume(np.ones(grid.shape, bool), grid), FRAME)
    inner = (np.abs(box_grid().centres_mm() - np.array(ONE)) < 7.9).all(axis=-1)
    outer = (np.abs(box_grid().centres_mm() - np.array(ONE)) < 9.7).all(axis=-1)
    assert (found | ~inner).all()
    assert not (found & ~outer).any()


def test_a_mask_out_of_the_box_holds_none_of_it():
    assert not in_box(Volume(np.ones((2, 2, 2), bool), Grid.isotropic((2, 2, 2), 5.0, (900.0, 0.0, 0.0))), FRAME).any()


def test_nearer_to_divides_halfway():
    near = nearer_to(ball(ONE), ball(TWO))
    assert near[box_grid().centres_mm()[..., 0] > 20].all()
    assert nearer_to(ball(ONE), ball(ONE) & False).all()
