from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import grids, shapes

from calvaria.errors import InputError
from calvaria.volume import Grid, Volume, coarsen

RNG = np.random.default_rng(5)


@given(grids(shape=shapes(1, 12)), st.floats(0.1, 9.0), st.sampled_from(["?", "u1", "i2", "f4", "f8", ">i2"]))
def test_every_block_is_the_mean_of_its_voxels(grid: Grid, spacing_mm: float, dtype: str) -> None:
    data = (RNG.random(grid.shape) * 200).astype(dtype) if dtype != "?" else RNG.random(grid.shape) < 0.5
    coarse = coarsen(Volume(np.asfortranarray(data), grid), spacing_mm)
    again = coarsen(Volume(data.transpose(1, 0, 2).copy().transpose(1, 0, 2), grid), spacing_mm)
    np.testing.assert_array_equal(coarse.data, again.data)
    assert coarse.data.dtype == np.float32
    steps = [min(max(1, round(spacing_mm / s)), n) for s, n in zip(grid.spacing_mm, grid.shape, strict=True)]
    for index in np.ndindex(coarse.shape):
        block = data[tuple(slice(n * s, (n + 1) * s) for n, s in zip(index, steps, strict=True))]
        assert coarse.data[index] == pytest.approx(block.mean(dtype=float), rel=1e-6)


@given(grids(shape=shapes(4, 12)), st.floats(0.3, 6.0))
def test_blocks_lie_where_their_voxels_are(grid: Grid, spacing_mm: float) -> None:
    world = grid.to_world(np.stack(np.indices(grid.shape), axis=-1))
    coarse = [coarsen(Volume(np.ascontiguousarray(world[..., n]), grid), spacing_mm) for n in range(3)]
    steps = [min(max(1, round(spacing_mm / s)), n) for s, n in zip(grid.spacing_mm, grid.shape, strict=True)]
    whole = tuple(slice(0, n // s) for n, s in zip(grid.shape, steps, strict=True))
    found = np.stack([c.data for c in coarse], axis=-1)[whole]
    wanted = coarse[0].grid.to_world(np.stack(np.indices(coarse[0].shape), axis=-1))[whole]
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_a_mask_becomes_shares_and_keeps_its_volume() -> None:
    grid = Grid((300, 8, 8), np.diag([0.01, 1.0, 1.0, 1.0]))
    mask = RNG.random(grid.shape) < 0.3
    coarse = coarsen(Volume(mask, grid), 3.0)
    assert coarse.shape == (1, 3, 3)
    assert coarsen(Volume(mask, grid), 1.0).data.mean() == pytest.approx(mask.mean())


@pytest.mark.parametrize("spacing_mm", [0.0, -1.0, np.nan, np.inf])
def test_a_spacing_must_be_positive(spacing_mm: float) -> None:
    with pytest.raises(InputError, match="coarse spacing must be a positive number of mm; got"):
        coarsen(Volume(np.ones((2, 2, 2)), Grid.isotropic((2, 2, 2), 1.0)), spacing_mm)


def test_only_real_numbers_have_means() -> None:
    with pytest.raises(InputError, match="an image of real numbers is wanted here; got complex128"):
        coarsen(Volume(np.ones((2, 2, 2), complex), Grid.isotropic((2, 2, 2), 1.0)), 1.0)
