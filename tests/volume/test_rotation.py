"""Rotations as matrices and vectors, against scipy's."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from calvaria.volume.rotation import rotation_matrix, rotation_vector

VECTORS = st.lists(st.floats(-1, 1), min_size=3, max_size=3).map(np.array)


@given(VECTORS)
def test_matrix_is_scipys(vector):
    np.testing.assert_allclose(rotation_matrix(vector), Rotation.from_rotvec(vector).as_matrix(), atol=1e-12)


@given(VECTORS)
def test_there_and_back(vector):
    np.testing.assert_allclose(rotation_vector(rotation_matrix(vector)), vector, atol=1e-6)


@given(VECTORS.filter(lambda v: np.linalg.norm(v) > 0.1))
def test_half_a_turn_keeps_its_axis(vector):
    axis = vector / np.linalg.norm(vector)
    found = rotation_vector(rotation_matrix(np.pi * axis))
    np.testing.assert_allclose(np.abs(found), np.pi * np.abs(axis), atol=2e-3)
