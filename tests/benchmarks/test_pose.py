"""Placing skulls anew, and how far a frame is off."""

from __future__ import annotations

import numpy as np
import pytest

from calvaria.benchmarks.pose import miss, placed
from calvaria.skull.canonical import CanonicalFrame
from calvaria.volume import Grid, Volume
from calvaria.volume.rotation import rotation_matrix


@pytest.mark.parametrize("seed", range(6))
def test_a_placed_volume_keeps_every_voxel(seed):
    rng = np.random.default_rng(seed)
    volume = Volume(rng.random((4, 5, 6)), Grid.isotropic((4, 5, 6), 2.0, (1.0, 2.0, 3.0)))
    moved, move = placed(volume, rng)
    where = volume.grid.centres_mm() @ move[:3, :3].T + move[:3, 3]
    index = np.rint(moved.grid.to_index(where)).astype(int)
    np.testing.assert_array_equal(moved.data[tuple(np.moveaxis(index, -1, 0))], volume.data)
    np.testing.assert_allclose(moved.grid.to_world(index), where, atol=1e-9)


def frame(to_world: np.ndarray) -> CanonicalFrame:
    return CanonicalFrame(to_world, np.ones(3), 0.05, ())


def test_a_frame_that_hits_misses_nothing():
    to_world = np.eye(4)
    to_world[:3, :3], to_world[:3, 3] = rotation_matrix(np.array([0.3, -0.2, 0.5])), (10, 20, 30)
    assert miss(frame(to_world), to_world, 1.0) == pytest.approx((0, 0, 0, 1), abs=1e-6)


def test_known_misses():
    yaw, shift, pitch = np.eye(4), np.eye(4), np.eye(4)
    yaw[:3, :3] = rotation_matrix(np.radians([0.0, 0.0, 2.0]))
    shift[:3, 3] = 3.0, 0.0, 4.0
    pitch[:3, :3] = rotation_matrix(np.radians([5.0, 0.0, 0.0]))
    assert miss(frame(yaw), np.eye(4), 0.0).plane_deg == pytest.approx(2.0)
    assert miss(frame(shift), np.eye(4), 0.0) == pytest.approx((0, 3, 5, 0), abs=1e-6)
    # Pitch leaves the plane where it is.
    assert miss(frame(pitch), np.eye(4), 0.0)[:2] == pytest.approx((0, 0), abs=1e-6)
    assert miss(frame(pitch), np.eye(4), 0.0).vault_mm > 4
