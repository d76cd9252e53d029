"""Where a scan ends: shells that are cut, or are not, in any pose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tests.strategies import rotations

from calvaria.skull.edges import CutPlane, cut_planes, grid_ends
from calvaria.volume import Grid, Volume
from calvaria.volume.rotation import rotation_matrix

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


class TestGridEnds:
    @pytest.mark.parametrize("axis", [0, 1, 2])
    @pytest.mark.parametrize("last", [False, True])
    def test_bone_that_runs_into_a_face_of_the_grid_ends_there(self, axis, last):
        data = np.zeros((20, 22, 24), bool)
        data[5:15, 5:15, 5:15] = True
        into = [slice(5, 15)] * 3
        into[axis] = slice(5, None) if last else slice(0, 15)
        data[tuple(into)] = True
        turned = np.eye(4)
        turned[:3, :3] = rotation_matrix(np.array([0.3, -0.4, 0.2])) @ np.diag([1.0, 1.5, 2.0])
        turned[:3, 3] = 30.0, -20.0, 10.0
        grid = Grid(data.shape, turned)
        (end,) = grid_ends(Volume(data, grid))
        edge = np.array([9.5, 9.5, 9.5])
        edge[axis] = data.shape[axis] - 0.5 if last else -0.5
        assert end.normal @ grid.to_world(edge) == pytest.approx(end.offset_mm)
        outwards = turned[:3, axis] * (1 if last else -1)
        assert end.normal @ outwards / np.linalg.norm(outwards) == pytest.approx(1.0)

    def test_the_faces_of_a_sheared_grid_are_planes_of_its_voxels(self):
        data = np.zeros((20, 20, 20), bool)
        data[:, 4:16, 4:16] = True
        affine = np.eye(4)
        affine[0, 2] = 0.4
        grid = Grid(data.shape, affine)
        low, high = grid_ends(Volume(data, grid))
        for end, i in ((low, -0.5), (high, 19.5)):
            np.testing.assert_allclose(grid.to_world([(i, 0, 0), (i, 19, 3), (i, 2, 19)]) @ end.normal, end.offset_mm)

    def test_a_speck_at_a_face_is_no_end(self):
        data = np.zeros((20, 20, 20), bool)
        data[0, 4:10, 4:10] = True
        assert grid_ends(Volume(data, Grid.isotropic(data.shape, 1.0))) == ()
        assert len(grid_ends(Volume(data, Grid.isotropic(data.shape, 2.0)))) == 1

    def test_bone_that_does_not_count_makes_no_end(self):
        data = np.ones((10, 10, 20), bool)
        volume = Volume(data, Grid.isotropic(data.shape, 2.0))
        ends = grid_ends(volume, lambda world_mm: world_mm[:, 2] > 37.0)
        assert [end.normal.tolist() for end in ends] == [[0, 0, 1]]
