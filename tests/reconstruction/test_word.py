"""What the user may say, and how masks come onto the skull's grid."""

from __future__ import annotations

import numpy as np
import pytest

from calvaria.errors import InputError
from calvaria.reconstruction.word import UserWord, given_mask, held_to, on_grid_of, without_ignored
from calvaria.skull.canonical import CanonicalFrame
from calvaria.skull.edges import CutPlane
from calvaria.symmetry.plane import Plane
from calvaria.volume import Grid, Volume

GRID = Grid.isotropic((20, 20, 20), 2.0)


def cube(low: int, high: int, grid: Grid = GRID) -> Volume:
    data = np.zeros(grid.shape, bool)
    data[low:high, low:high, low:high] = True
    return Volume(data, grid)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"seeds_mm": ((1.0, 2.0),)}, "a point is three finite numbers"),
        ({"keep_open": ((1.0, np.nan, 2.0),)}, "a point is three finite numbers"),
        ({"box_mm": (0.0, 0.0, 0.0, 1.0, 1.0)}, "a box is six finite numbers"),
        ({"box_mm": (0.0, 0.0, 0.0, 1.0, 0.0, 1.0)}, "two corners differ along x, y and z"),
        ({"hole": cube(2, 4), "seeds_mm": ((0.0, 0.0, 0.0),)}, "a mask of the hole says all of what is filled"),
    ],
)
def test_what_cannot_be_meant_is_refused(said, message):
    with pytest.raises(InputError, match=message):
        UserWord(**said)


def test_only_a_mask_points_or_a_box_point_at_something():
    assert not UserWord(ignore=cube(1, 2), keep_open=((0.0, 0.0, 0.0),)).points_at_something
    assert UserWord(seeds_mm=((0.0, 0.0, 0.0),)).points_at_something


def test_a_mask_is_two_values():
    numbers = cube(2, 5)
    np.testing.assert_array_equal(given_mask(numbers.with_data(numbers.data * np.uint8(255)), "it").mask, numbers.mask)
    with pytest.raises(InputError, match="it must have two values"):
        given_mask(numbers.with_data(np.arange(8000.0).reshape(GRID.shape)), "it")
    with pytest.raises(InputError, match="it is empty: no voxel is set"):
        given_mask(cube(2, 2), "it")
    with pytest.raises(InputError, match="it covers most of its volume"):
        given_mask(numbers.with_data(~numbers.mask), "it")


def test_bone_to_ignore_is_taken_off_on_any_grid():
    bone = cube(2, 18)
    fine = Grid.isotropic((40, 40, 40), 1.0, (-0.5, -0.5, -0.5))  # two voxels in each of the other's
    kept, line = without_ignored(bone, cube(4, 12, fine))
    np.testing.assert_array_equal(kept.mask, bone.mask & ~cube(2, 6).mask)
    assert line.startswith("ignored: 0.5 ml of bone")


@pytest.mark.parametrize(("low", "high", "said"), [(0, 2, "holds no bone"), (1, 19, "holds all of the bone")])
def test_a_mask_to_ignore_that_makes_no_sense_is_refused(low, high, said):
    with pytest.raises(InputError, match=said):
        without_ignored(cube(2, 16), cube(low, high, Grid.isotropic((28, 28, 28), 2.0)))


def test_a_mask_elsewhere_is_refused_with_its_place():
    with pytest.raises(InputError, match=r"it lies elsewhere \(around \(504, 4, 4\) mm\)"):
        on_grid_of(cube(1, 4, Grid.isotropic((6, 6, 6), 2.0, (500.0, 0.0, 0.0))), cube(2, 5), "it")


def test_a_frame_on_a_given_plane_keeps_it_and_its_scan_ends():
    down = CutPlane(np.array([0.0, 0.0, -1.0]), 40.0)
    frame = CanonicalFrame(np.eye(4), np.ones(3), 0.1, (down,))
    plane = Plane(np.array([-1.0, 0.1, 0.2]), -3.0)  # the normal may point either way
    held, lines = held_to(frame, plane)
    assert lines == ()
    assert held.plane.angle_deg(plane) == pytest.approx(0, abs=1e-9)
    assert held.plane.apart_mm(plane, (10.0, 20.0, 30.0)) == pytest.approx(0, abs=1e-9)
    assert held.to_world[0, 0] > 0.9
    np.testing.assert_allclose(held.to_world[:3, :3] @ held.to_world[:3, :3].T, np.eye(3), atol=1e-12)
    (cut,) = held.cuts
    np.testing.assert_allclose(cut.moved(held.to_world).normal, down.normal, atol=1e-12)
    assert cut.moved(held.to_world).offset_mm == pytest.approx(40.0)
    assert held.held is plane


@pytest.mark.parametrize("plane", [Plane(np.array([1.0, 0.6, 0.0]), 0.0), Plane(np.array([1.0, 0.0, 0.0]), 30.0)])
def test_a_plane_far_from_the_found_one_is_told(plane):
    (line,) = held_to(CanonicalFrame(np.eye(4), np.ones(3), 0.1, ()), plane)[1]
    assert "off the one that was found (usual: less than 25 and 25)" in line
