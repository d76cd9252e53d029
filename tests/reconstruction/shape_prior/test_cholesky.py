"""The factor in tiles is the factor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.linalg import LinAlgError

from calvaria.reconstruction.shape_prior import cholesky as module
from calvaria.reconstruction.shape_prior.cholesky import factor_lower


def system_of(count: int, seed: int) -> np.ndarray:
    some = np.random.default_rng(seed).standard_normal((count, count // 2 + 1)).astype(np.float32)
    return some @ some.T / count + np.eye(count, dtype=np.float32)


@settings(max_examples=15)
@given(st.integers(1, 300), st.integers(0, 10**6))
@example(1, 0)
@example(9, 0)
def test_it_is_lapacks_for_any_size(count, seed):
    wanted = np.linalg.cholesky(system_of(count, seed).astype(np.float64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MIN_TILED", 1)
        found = system_of(count, seed)
        factor_lower(found)
    assert np.tril(found) == pytest.approx(wanted, abs=1e-5)


def test_a_large_system_is_factored_in_tiles():
    found = system_of(module.MIN_TILED, 1)
    factor_lower(found)
    assert np.tril(found) == pytest.approx(np.linalg.cholesky(system_of(module.MIN_TILED, 1)), abs=1e-4)


def test_what_lies_above_the_diagonal_means_nothing():
    one, other = system_of(200, 3), system_of(200, 3)
    other[np.triu_indices(200, 1)] = 7.0
    factor_lower(one)
    factor_lower(other)
    assert np.array_equal(np.tril(one), np.tril(other))


@pytest.mark.parametrize("count", [50, 1200])
def test_a_system_that_is_not_positive_definite_is_refused(count):
    system = np.eye(count, dtype=np.float32)
    system[count // 2, count // 2] = -1.0
    with pytest.raises(LinAlgError):
        factor_lower(system)
