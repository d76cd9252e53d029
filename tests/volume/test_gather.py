"""Trilinear values at scattered points, and their derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from calvaria.volume.gather import CHUNK, TrilinearReader, trilinear_at

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


def read(shape: tuple[int, int, int], index: np.ndarray, order: str = "C") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random volume, and what is read of it."""
    volume = np.asarray(np.random.default_rng(1).standard_normal(shape), np.float32, order=order)
    return (volume, *TrilinearReader(volume)(index))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("count", [0, 1, 300])
def test_a_reader_reads_what_is_interpolated(count, order):
    index = np.random.default_rng(count).uniform(0, np.array(SHAPE)[:, None] - 1.001, (3, count))
    volume, values, gradient = read(SHAPE, index, order)
    assert (values.shape, gradient.shape) == ((count,), (3, count))
    assert values.dtype == gradient.dtype == np.float32
    np.testing.assert_allclose(values, ndimage.map_coordinates(volume, index, order=1), atol=1e-5)


def test_a_readers_derivative_is_the_change_of_its_values():
    """Within a cell values are linear along each axis: differences are exact but for rounding."""
    rng, step = np.random.default_rng(2), 0.1
    index = rng.integers(0, np.array(SHAPE)[:, None] - 1, (3, 400)) + rng.uniform(0.15, 0.85, (3, 400))
    volume, _, gradient = read(SHAPE, index)
    reader = TrilinearReader(volume)
    for axis in range(3):
        aside = np.zeros((3, 1))
        aside[axis] = step
        change = (reader(index + aside)[0] - reader(index - aside)[0]) / (2 * step)
        np.testing.assert_allclose(gradient[axis], change, atol=2e-5)


def test_a_reader_reads_beyond_the_edge_as_at_the_edge():
    outside = np.array([[-3.0, 2.2, 1.6], [9.0, -0.01, 7.0], [6.0, 4.0, 5.0]]).T
    edge = np.clip(outside, 0, np.array(SHAPE)[:, None] - 1)
    volume, values, gradient = read(SHAPE, outside)
    np.testing.assert_allclose(values, ndimage.map_coordinates(volume, edge, order=1), atol=2e-3)
    inner = np.clip(outside, 1e-5, np.array(SHAPE)[:, None] - 1 - 1e-3)
    np.testing.assert_allclose(gradient, TrilinearReader(volume)(inner)[1], atol=1e-2)
    assert np.array_equal(values, TrilinearReader(volume)(np.clip(outside, -1, 50))[0])


def test_a_reader_takes_the_derivative_from_the_side_of_the_larger_index():
    volume = np.zeros((3, 2, 2), np.float32)
    volume[1], volume[2] = 1, 5
    _, gradient = TrilinearReader(volume)(np.array([[0.0, 1.0, 2.0], [0, 0, 0], [0, 0, 0]]))
    np.testing.assert_array_equal(gradient[0], [1, 4, 4])
