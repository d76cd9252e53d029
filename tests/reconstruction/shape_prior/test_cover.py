"""Air behind a standing wall of the forehead is a sinus, not missing bone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from calvaria.reconstruction.box import box_grid
from calvaria.reconstruction.shape_prior.cover import (
    COVERED_MM,
    SINUS_BACK_MM,
    SINUS_TOP_MM,
    UNDERCUT_MM,
    lies_open,
    over_bone,
    without_covered,
)

POINTS = box_grid().centres_mm()
X, Y, Z = np.moveaxis(POINTS, -1, 0)
WALL = (Y > -82) & (Y < -78)
LOW = (np.abs(Z) < 10) & (np.abs(X) < 20)


def behind(low_mm: float, high_mm: float) -> np.ndarray:
    """A block of air behind the wall, between two depths under its inner side."""
    depth = Y + 78.0
    return LOW & (depth > low_mm) & (depth < high_mm)


def test_what_would_fill_a_sinus_behind_its_wall_goes():
    assert not without_covered(behind(0, 8), WALL).any()


def test_what_was_cut_out_with_the_wall_stays():
    missing = LOW & (Y > -82) & (Y < -73)  # deeper its edges, which are not radial, would be an undercut
    np.testing.assert_array_equal(without_covered(missing, WALL & ~LOW), missing)


def test_an_undercut_stays_and_what_lies_farther_under_the_wall_goes():
    hole = WALL & LOW & (X > 0)
    missing = (LOW & (X > 0) & (Y > -82) & (Y < -72)) | (behind(0, 6) & (X <= 0))
    kept = without_covered(missing, WALL & ~hole)
    assert kept[missing & (X > 2)].all()
    under = missing & (X < -4)
    assert kept[under & (X > -UNDERCUT_MM)].all()
    assert not kept[under & (X < -UNDERCUT_MM - 4)].any()


@pytest.mark.parametrize(("y_mm", "z_mm"), [(SINUS_BACK_MM + 12, 0.0), (-62.0, SINUS_TOP_MM + 12)])
def test_beyond_the_sinuses_nothing_changes(y_mm, z_mm):
    missing = (np.abs(X) < 20) & (np.abs(Y - y_mm) < 6) & (np.abs(Z - z_mm) < 6)
    wall = (np.linalg.norm(POINTS, axis=-1) > 75) & ~missing
    np.testing.assert_array_equal(without_covered(missing, wall), missing)


def test_the_orbits_roof_far_behind_the_brow_stays():
    roof = behind(COVERED_MM + 6, COVERED_MM + 24)
    np.testing.assert_array_equal(without_covered(roof, WALL), roof)


def test_nothing_missing_stays_nothing():
    assert not without_covered(np.zeros(box_grid().shape, bool), WALL).any()


def test_a_place_lies_open_where_no_bone_is_before_or_behind_it():
    window = LOW & (np.abs(X) < 10) & (np.abs(Z) < 5)
    wall = WALL & ~LOW
    assert lies_open(WALL & window, wall)[WALL & window].all()
    assert not lies_open(behind(0, 8) & window, WALL).any()  # the wall stands before it
    before = window & (Y < -83) & (Y > -88)
    assert not lies_open(before, WALL).any()  # ... behind it
    np.testing.assert_array_equal(lies_open(before, wall), before)


@settings(max_examples=8)
@given(st.integers(0, 10**6))
def test_a_mirrored_head_is_treated_alike_and_nothing_is_added(seed):
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.standard_normal((2, *box_grid().shape)), (0, 3, 3, 3))
    missing, bone = noise[0] > 0.02, noise[1] > 0.05
    missing &= ~bone
    kept = without_covered(missing, bone)
    np.testing.assert_array_equal(without_covered(missing[::-1], bone[::-1])[::-1], kept)
    assert not (kept & ~missing).any()


def test_a_place_over_a_wall_has_it_behind_but_a_sinus_has_two_walls():
    wall = (Y > 78) & (Y < 82)  # at the back of the head
    over = LOW & (Y > 85) & (Y < 89) & (np.abs(X) < 10) & (np.abs(Z) < 5)
    np.testing.assert_array_equal(over_bone(over, wall), over)
    assert not over_bone(over, wall & ~LOW).any()
    assert not over_bone(LOW & (Y > 70) & (Y < 78), wall).any()
    thin = LOW & (Y > 80.4) & (Y < 82)
    assert not over_bone(thin, thin).any()  # a plate does not lie over itself
    assert not over_bone(LOW & (Y < -85) & (Y > -89), WALL).any()
