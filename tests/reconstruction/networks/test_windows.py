"""Windows: they hold all that is wanted, their weights sum to 1, and numpy and torch read the same maps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calvaria.errors import InputError
from calvaria.reconstruction.networks.windows import Windows, cut_window, upscaled_window

COARSE = (9, 7, 8)


@st.composite
def some_wanted(draw):
    wanted = np.zeros(COARSE, bool)
    for _ in range(draw(st.integers(1, 3))):
        wanted[tuple(draw(st.integers(0, n - 1)) for n in COARSE)] = True
    return wanted


@given(some_wanted(), st.sampled_from([2, 4]), st.integers(8, 14), st.integers(0, 3))
def test_all_that_is_wanted_lies_in_windows_whose_weights_sum_to_1(wanted, zoom, size, overlap):
    windows = Windows.over(wanted, zoom, size, overlap)
    total = np.zeros([part.stop - part.start for part in windows.box])
    corner = [part.start for part in windows.box]
    for start, weight in windows.each():
        assert weight.shape == (size,) * 3
        assert (weight > 0).all()
        total[tuple(slice(a - b, a - b + size) for a, b in zip(start, corner, strict=True))] += weight
    full = wanted.repeat(zoom, 0).repeat(zoom, 1).repeat(zoom, 2)
    there = np.argwhere(full) - corner
    assert (there >= 0).all()
    assert (there < total.shape).all()
    np.testing.assert_allclose(total[tuple(there.T)], 1, atol=1e-5)
    assert total.max() < 1 + 1e-5
    for row in windows.starts:
        laps = [a + size - b for a, b in pairwise(row)]
        assert all(lap >= overlap for lap in laps)


def test_windows_are_laid_only_where_something_is_wanted():
    wanted = np.zeros((20, 20, 20), bool)
    wanted[1, 1, 1] = wanted[18, 18, 18] = True
    windows = Windows.over(wanted, 2, 10, 2)
    assert len(windows) == 2
    assert windows.needed.size > 8
    whole = Windows.over(np.ones((20, 20, 20), bool), 2, 10, 2)
    assert len(whole) == whole.needed.size == 125


def test_neighbours_blend_in_straight_ramps():
    wanted = np.zeros((10, 4, 4), bool)
    wanted[:8] = True  # 16 voxels along x, two windows of 10
    windows = Windows.over(wanted, 2, 10, 4)
    assert windows.starts[0] == (0, 6)
    first = windows.each()[0][1][:, 5, 5]
    np.testing.assert_allclose(first[:6], 1)
    np.testing.assert_allclose(first[6:], [0.875, 0.625, 0.375, 0.125])


def test_no_windows_over_nothing_and_none_that_overlap_by_half():
    with pytest.raises(InputError, match="there is nothing that windows could be laid over"):
        Windows.over(np.zeros(COARSE, bool), 2, 8, 1)
    with pytest.raises(InputError, match="windows of 8 voxels overlap by 0 to 3; got 4"):
        Windows.over(np.ones(COARSE, bool), 2, 8, 4)


def test_a_window_of_a_ramp_is_a_finer_ramp():
    ramp = np.broadcast_to(np.arange(6, dtype=np.float32)[:, None, None], (6, 3, 3))
    found = upscaled_window(ramp, (4, 0, 0), (6, 2, 2), 4)
    np.testing.assert_allclose(found[:, 0, 0], (np.arange(4, 10) + 0.5) / 4 - 0.5, atol=1e-6)
    beyond = upscaled_window(ramp, (-3, 0, 0), (3, 1, 1), 4)
    np.testing.assert_array_equal(beyond, 0)  # its edge goes on


def test_numpy_and_torch_read_the_same_windows():
    torch = pytest.importorskip("torch")
    from calvaria.reconstruction.networks.cascade import upscaled

    maps = np.random.default_rng(0).random((2, 3, 6, 7, 5)).astype(np.float32)
    starts = np.array([[-3, 4, 2], [9, 20, -1]])
    found = upscaled(torch.from_numpy(maps), torch.from_numpy(starts), (8, 6, 10), 3).numpy()
    for row, start in enumerate(starts):
        for channel in range(3):
            wanted = upscaled_window(maps[row, channel], tuple(start), (8, 6, 10), 3)
            np.testing.assert_allclose(found[row, channel], wanted, atol=1e-5)


def test_what_lies_beyond_a_volume_is_empty():
    volume = np.arange(27, dtype=np.uint8).reshape(3, 3, 3) + 1
    found = cut_window(volume, (-1, 1, 2), (3, 3, 3))
    assert found.dtype == np.uint8
    assert not found[0].any()
    np.testing.assert_array_equal(found[1:, :2, :1], volume[:2, 1:, 2:])
    assert np.count_nonzero(found) == 4
    assert not cut_window(volume, (5, 0, 0), (2, 2, 2)).any()
