"""The common box: its grid, its zones, and where it lies in the world."""

from __future__ import annotations

import numpy as np
import pytest
from tests.heads import rigid

from calvaria.reconstruction.box import box_grid, box_to_world, vault
from calvaria.skull.canonical import CanonicalFrame


@pytest.mark.parametrize("spacing", [1.6, 2.4, 3.2, 4.8])
def test_the_box_is_symmetric_with_a_layer_in_the_middle(spacing):
    grid = box_grid(spacing)
    ends = grid.corners_mm()
    assert grid.shape[0] % 2 == 1
    np.testing.assert_allclose(ends[:, :2].min(axis=0), -ends[:, :2].max(axis=0), atol=1e-9)
    assert grid.to_index([0, 0, 0])[0] == pytest.approx(grid.shape[0] // 2)


def test_the_vault_is_symmetric_and_above_the_face():
    zone = vault()
    np.testing.assert_array_equal(zone, zone[::-1])
    low = box_grid().centres_mm()[zone][:, 2].min()
    assert -45 < low < -30
    assert zone[:, :, -1].all()
    assert not zone.flags.writeable


def test_scaled_canonical_points_land_in_the_world():
    frame = CanonicalFrame(rigid((0, 0, 90), (10, 0, 0)), np.array([2.0, 1.0, 1.0]), 0.0, ())
    np.testing.assert_allclose(box_to_world(frame) @ [1, 0, 0, 1], [10, 2, 0, 1], atol=1e-12)
