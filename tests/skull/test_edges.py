"""Where a scan ends: shells that are cut, or are not, in any pose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tests.strategies import rotations

from calvaria.skull.edges import CutPlane, cut_planes
from calvaria.volume import Grid, Volume

DOWN = np.array([0.0, 0.0, -1.0])


def shell(turn: np.ndarray, cuts: tuple[tuple[np.ndarray, float], ...] = (), spacing_mm: float = 3.0) -> Volume:
    """A turned ellipsoid shell of 8 mm with the size of a head, without what lies beyond the cuts."""
    n = int(200 / spacing_mm)
    grid = Grid.isotropic((n, n, n), spacing_mm, np.full(3, -spacing_mm * (n - 1) / 2))
    points = grid.centres_mm() @ turn
    rho = np.linalg.norm(points / [70.0, 90.0, 80.0], axis=-1)
    share = np.clip(np.minimum((1 - rho) * 80, (rho - 0.9) * 80) / spacing_mm + 0.5, 0, 1)
    for normal, offset in cuts:
        share *= np.clip((offset - points @ normal) / spacing_mm + 0.5, 0, 1)
    return Volume(share.astype(np.float32), grid)


@settings(max_examples=10)
@given(rotations())
def test_a_whole_shell_ends_nowhere(turn):
    assert cut_planes(shell(turn)) == ()


@settings(max_examples=15)
@given(rotations(), st.floats(-40, 30), st.floats(-25, 25))
def test_one_cut_is_found_in_any_pose(turn, height, tilt):
    normal = Rotation.from_euler("x", tilt, degrees=True).apply(DOWN)
    found = cut_planes(shell(turn, ((normal, -height),)))
    assert len(found) == 1
    assert np.degrees(np.arccos(min(1.0, found[0].normal @ (turn @ normal)))) < 2.0
    assert found[0].offset_mm == pytest.approx(-height, abs=3.0)  # a block of the coarse bone


def test_two_cuts_come_largest_first():
    found = cut_planes(shell(np.eye(3), ((DOWN, 10.0), (-DOWN, 50.0))))
    assert len(found) == 2
    np.testing.assert_allclose(found[0].normal, DOWN, atol=0.03)
    np.testing.assert_allclose(found[1].normal, -DOWN, atol=0.03)


@pytest.mark.parametrize(
    "bone",
    [np.zeros((20, 20, 20)), np.eye(20)[:, :, None] * np.ones(20), np.ones((40, 40, 1))],
    ids=["none", "plate", "sheet"],
)
def test_what_has_no_hull_ends_nowhere(bone):
    assert cut_planes(Volume(bone.astype(np.float32), Grid.isotropic(bone.shape, 3.0))) == ()


@given(rotations(), rotations(), st.floats(-80, 80), st.integers(0, 1000))
def test_a_moved_plane_cuts_the_moved_points(turn, other, offset, seed):
    rng = np.random.default_rng(seed)
    plane, move = CutPlane(turn[:, 0], offset), np.eye(4)
    move[:3, :3], move[:3, 3] = other, rng.uniform(-50, 50, 3)
    points = rng.uniform(-100, 100, (6, 3))
    moved = plane.moved(move)
    np.testing.assert_allclose(
        (points @ move[:3, :3].T + move[:3, 3]) @ moved.normal - moved.offset_mm,
        points @ plane.normal - plane.offset_mm,
        atol=1e-9,
    )
