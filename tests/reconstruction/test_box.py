"""The common box: its grid, its zones, and where it lies in the world."""

from __future__ import annotations

import numpy as np
import pytest
from tests.heads import rigid

from calvaria.reconstruction.box import AIR_MM, box_grid, box_to_world, on_box, read_box, vault
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


def test_a_field_is_read_between_its_voxels_and_beyond_it_is_the_value_given():
    field = (0.1 * box_grid().centres_mm()[..., 1]).astype(np.float32)
    inside, beyond = np.array([[1.0, 20.3, -7.0], [0.0, -33.0, 50.0]]), np.array([[0.0, 300.0, 0.0]])
    np.testing.assert_allclose(read_box(field, inside, AIR_MM), [2.03, -3.3], atol=1e-5)
    for outside in (AIR_MM, 0.0, -2.0):
        assert read_box(field, beyond, outside)[0] == np.float32(outside)


def test_a_field_is_read_where_its_frame_lies():
    frame = CanonicalFrame(rigid((0, 0, 90), (10, 0, 0)), np.array([2.0, 1.0, 1.0]), 0.0, ())
    field = (0.1 * box_grid().centres_mm()[..., 0]).astype(np.float32)
    place = box_grid().moved(box_to_world(frame))
    np.testing.assert_allclose(read_box(field, np.array([[10.0, 6.0, 0.0]]), AIR_MM, place), [0.3], atol=1e-5)


def test_a_coarse_volume_is_read_on_the_box_grid():
    coarse = box_grid(4.8).centres_mm()[..., 2].astype(np.float32)
    z = box_grid().centres_mm()[..., 2]
    within = z <= box_grid(4.8).corners_mm()[:, 2].max()
    np.testing.assert_allclose(on_box(coarse, 4.8)[within], z[within], atol=1e-3)
