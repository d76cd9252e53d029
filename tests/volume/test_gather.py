"""Trilinear values at scattered points."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from calvaria.volume.gather import CHUNK, trilinear_at

SHAPE = (7, 5, 6)


@pytest.mark.parametrize("count", [0, 1, 100, CHUNK, CHUNK + 1])
def test_equals_the_general_interpolation(count):
    rng = np.random.default_rng(count)
    volume = rng.standard_normal(SHAPE).astype(np.float32)
    index = rng.uniform(0, np.array(SHAPE)[:, None] - 1, (3, count))
    wanted = ndimage.map_coordinates(volume, index, order=1)
    np.testing.assert_allclose(trilinear_at(volume.reshape(-1), SHAPE, index), wanted, atol=1e-5)


def test_volumes_side_by_side_are_read_like_single_ones():
    rng = np.random.default_rng(0)
    table = rng.standard_normal((np.prod(SHAPE), 4)).astype(np.float32)
    index = rng.uniform(-1, 7, (3, 500))
    together = trilinear_at(table, SHAPE, index)
    for n in range(4):
        np.testing.assert_array_equal(together[:, n], trilinear_at(np.ascontiguousarray(table[:, n]), SHAPE, index))


def test_centres_come_back_exactly_and_outside_is_zero():
    volume = np.arange(1, 1 + np.prod(SHAPE), dtype=np.float32)
    centres = np.indices(SHAPE).reshape(3, -1).astype(float)
    np.testing.assert_array_equal(trilinear_at(volume, SHAPE, centres), volume)
    outside = np.array([[-0.01, 3, 3], [3, 4.01, 3], [3, 3, 99], [-1e9, 0, 0]]).T
    assert not trilinear_at(volume, SHAPE, outside).any()
