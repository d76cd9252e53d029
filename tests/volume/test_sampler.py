"""The sampler on fields whose values and slopes are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import grids, shapes

from calvaria.volume import Grid, Volume
from calvaria.volume.sampler import Sampler, known_mask, lattice


@dataclass(frozen=True)
class Side:
    """Unknown from ``offset_mm`` on."""

    normal: np.ndarray
    offset_mm: float


def inner(grid: Grid, share: float = 0.15) -> np.ndarray:
    """(27, 3) points around the grid's middle, between the voxels."""
    steps = np.array([-share, 0.01, share])
    at = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3) + 0.5
    return grid.to_world(at * (np.array(grid.shape) - 1))


@given(grids(shapes(24, 28)), st.integers(0, 10**6))
def test_a_linear_field_keeps_its_values_and_slopes_on_any_grid(grid, seed):
    slope, level = np.random.default_rng(seed).uniform(-1, 1, 3), 5.0
    middle = grid.to_world((np.array(grid.shape) - 1) / 2)
    field = (grid.centres_mm() - middle) @ slope + level
    # The narrowest spacing: the blur of a wider one would reach the border along the other axes.
    sampler = Sampler.smooth(Volume(field.astype(np.float32), grid), 1.2 * min(grid.spacing_mm))
    points = inner(grid)
    value, known, found = sampler(points)
    scale = max(1.0, float(np.abs(field).max()))
    np.testing.assert_allclose(value, (points - middle) @ slope + level, atol=1e-3 * scale)
    np.testing.assert_allclose(found, np.broadcast_to(slope, (len(points), 3)), atol=1e-3 * scale)
    assert known.all()
    np.testing.assert_array_equal(sampler.values(points)[0], value)


def test_outside_its_box_a_volume_reads_zero():
    sampler = Sampler.smooth(Volume(np.ones((5, 5, 5), np.float32), Grid.isotropic((5, 5, 5), 2.0)), 2.0)
    value, known, slope = sampler(np.array([[500.0, 0, 0], [0, -500, 0]]))
    assert not value.any()
    assert not slope.any()
    assert known.all()


def test_points_beyond_a_plane_are_unknown():
    volume = Volume(np.ones((9, 9, 9), np.float32), Grid.isotropic((9, 9, 9), 2.0))
    sides = (Side(np.array([0, 0, -1.0]), -3.0), Side(np.array([0.6, 0.8, 0]), 10.0))
    points = np.array([[2.0, 2, 4], [2, 2, 2], [16, 8, 8], [0, 0, 3.001]])
    expected = [True, False, False, True]
    assert Sampler.smooth(volume, 2.0, sides).values(points)[1].tolist() == expected


def test_bone_does_not_fade_towards_the_end_of_the_scan():
    grid = Grid.isotropic((30, 30, 30), 2.0)
    bone = Volume(np.ones(grid.shape, np.float32), grid).data.copy()
    bone[:, :, :15] = 0  # the scan begins at z = 30
    side = Side(np.array([0, 0, -1.0]), -29.0)
    line = np.stack([np.full(8, 29.0), np.full(8, 29.0), np.linspace(30, 44, 8)], axis=1)
    seen = Sampler.smooth(Volume(bone, grid), 4.0, (side,)).values(line)[0]
    blind = Sampler.smooth(Volume(bone, grid), 4.0).values(line)[0]
    np.testing.assert_allclose(seen, 1.0, atol=0.02)
    assert blind[0] < 0.7


@given(grids(shapes(3, 7)), st.floats(-30, 30), st.integers(0, 10**6))
def test_the_known_part_of_a_grid_is_that_of_its_centres(grid, offset, seed):
    normal = np.random.default_rng(seed).standard_normal(3)
    normal /= np.linalg.norm(normal)
    middle = float(normal @ grid.to_world((np.array(grid.shape) - 1) / 2))
    side = Side(normal, middle + offset)
    place = grid.centres_mm() @ normal - side.offset_mm
    clear = np.abs(place) > 1e-6
    found = known_mask(Volume(np.zeros(grid.shape, bool), grid), [side])
    np.testing.assert_array_equal(found[clear], (place < 0)[clear])


def test_everything_is_known_without_planes():
    assert known_mask(Volume(np.zeros((2, 3, 4), bool), Grid.isotropic((2, 3, 4), 1.0)), []).all()


@pytest.mark.parametrize("spacing", [1.0, 4.0, 7.0, 9.0])
def test_the_lattice_of_a_symmetric_region_is_symmetric_and_within_it(spacing):
    region = ((-84.0, 84.0), (-104.0, 100.0), (-16.0, 26.0))
    points = lattice(region, spacing)
    mirrored = points * [-1.0, 1.0, 1.0]
    key = lambda p: np.unique(np.round(p, 6), axis=0)  # noqa: E731 - a name for one line
    np.testing.assert_array_equal(key(points), key(mirrored))
    for axis, (low, high) in enumerate(region):
        assert low - 1e-9 <= points[:, axis].min() < low + spacing
        assert high - spacing < points[:, axis].max() <= high + 1e-6
