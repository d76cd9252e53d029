"""Where slices lie, from positions alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calvaria.errors import GeometryError
from calvaria.io.dicom.layout import axes_of, layout_of

AXIAL = axes_of([1, 0, 0, 0, 1, 0])


def along_z(at, x=0.0):
    at = np.asarray(at, np.float64)
    return np.stack([np.broadcast_to(x, at.shape), np.zeros_like(at), at], axis=1)


def laid(positions, axes=AXIAL, thickness=None):
    return layout_of(positions, axes, [thickness] * len(positions), 0.5, 20)


@given(st.integers(20, 60), st.floats(0.3, 8.0), st.floats(-30, 30), st.permutations(range(20)), st.floats(-3e3, 3e3))
def test_even_slices_in_any_order_are_even_at_any_tilt(count, step, tilt, order, origin):
    angle = np.radians(tilt)
    axes = axes_of([1, 0, 0, 0, np.cos(angle), np.sin(angle)])
    positions = along_z(origin + step * np.arange(count))
    some = np.array([*order, *range(20, count)])
    layout = laid(positions[some], axes)
    assert layout.even
    assert layout.count == count
    assert layout.tilt_degrees == pytest.approx(tilt, abs=2e-3)
    assert layout.step == pytest.approx([0, 0, step], abs=1e-9 * (1 + abs(origin)))
    assert layout.missing == 0
    assert np.array_equal(some[layout.order], np.arange(count))


@pytest.mark.parametrize(("off", "even"), [(0.009, True), (0.021, False)])
def test_a_slice_off_its_place_by_more_than_a_hundredth_of_the_step_is_uneven(off, even):
    at = 2.0 * np.arange(30.0)
    at[11] += off * (1 if even else 2)
    assert laid(along_z(at)).even == even


def test_a_step_that_grows_slowly_is_uneven_although_neighbours_hardly_differ():
    at = np.cumsum(1.0 + np.linspace(-0.008, 0.008, 200))
    assert not laid(along_z(at)).even


def test_a_gap_may_be_two_and_a_half_steps_wide():
    at = np.arange(100.0)
    at[50:] += 1.4
    assert laid(along_z(at)).missing == 1
    at[50:] += 0.2
    with pytest.raises(GeometryError, match=r"slices 50 and 51 are 2\.60 mm apart, the others 1\.00 mm"):
        laid(along_z(at))


def test_fewer_than_five_in_a_hundred_may_be_missing():
    at = np.delete(np.arange(101.0), [10, 20, 30, 40])
    layout = laid(along_z(at))
    assert (layout.missing, layout.count, layout.step_mm) == (4, 101, 1.0)
    with pytest.raises(GeometryError, match="about 6 of 101 slices are missing"):
        laid(along_z(np.delete(np.arange(101.0), [10, 20, 30, 40, 50, 60])))


def test_thick_slices_cover_their_gap_and_thin_ones_do_not():
    at = np.concatenate([np.arange(0, 50, 2.5), np.arange(50, 100, 5.0)])
    thick = [2.5] * 20 + [5.0] * 10
    assert layout_of(along_z(at), AXIAL, thick, 0.5, 20).missing == 0
    with pytest.raises(GeometryError, match="are missing"):
        layout_of(along_z(at), AXIAL, [2.5] * 30, 0.5, 20)


def test_no_header_says_so_thick_a_slice_that_a_gap_without_end_is_filled():
    at = np.append(2.0 * np.arange(24), 1e6)
    with pytest.raises(GeometryError, match=r"slices 24 and 25 are 999954\.00 mm apart, the others 2\.00 mm"):
        laid(along_z(at), thickness=9e9)


def test_few_slices_are_not_resampled_to_very_many():
    at = np.repeat(5.0 * np.arange(20), 2)
    at[1::2] += 0.02
    wanted = r"the slices are 0\.02 to 4\.98 mm apart: even ones would be 4752, but there are 40; export an even series"
    with pytest.raises(GeometryError, match=wanted):
        laid(along_z(at), thickness=5.0)


def test_what_is_refused():
    with pytest.raises(GeometryError, match="19 slices; at least 20 are needed"):
        laid(along_z(np.arange(19.0)))
    with pytest.raises(GeometryError, match="25 slices lie in one place: the spacing is zero"):
        laid(along_z(np.zeros(25)))
    with pytest.raises(GeometryError, match=r"the slices are 12\.0 mm apart; at most 10 mm are read"):
        laid(along_z(12.0 * np.arange(25)))
    aside = np.zeros(25)
    aside[7] = 30.0
    with pytest.raises(GeometryError, match=r"a slice lies 30\.0 mm aside of the stack"):
        laid(along_z(2.0 * np.arange(25), aside))
    for wrong in ([1, 0, 0, 1, 0, 0], [2, 0, 0, 0, 1, 0], [0] * 6, [np.nan, 0, 0, 0, 1, 0]):
        with pytest.raises(GeometryError, match="not two unit vectors at a right angle"):
            axes_of(wrong)
