"""The figures of holes, on plates that can be worked out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.spatial.transform import Rotation
from tests.strategies import grids, rotations, shapes, spacings

from calvaria.reconstruction.box import box_grid
from calvaria.reconstruction.holes import Hole, LeftOpen, holes_in, left_open, left_open_line, place_of
from calvaria.skull.canonical import CanonicalFrame
from calvaria.volume import Grid, Volume


def plates(grid: Grid, *boxes: tuple[np.ndarray, np.ndarray, tuple[float, float, float]]) -> Volume:
    """Plates (middle, axes, edges in mm) on a grid."""
    out = np.zeros(grid.shape, bool)
    for middle, axes, edges in boxes:
        out |= (np.abs((grid.centres_mm() - middle) @ axes) < np.array(edges) / 2).all(axis=-1)
    return Volume(out, grid)


@settings(max_examples=25)
@given(grids(shapes(40, 46), spacings(1.2, 1.8)), rotations())
def test_a_plate_has_its_volume_and_place_on_any_grid(grid, turn):
    middle = grid.to_world((np.array(grid.shape) - 1) / 2 + 0.21)
    reach = np.abs(grid.to_index(grid.corners_mm()) - grid.to_index(middle)).min() * min(grid.spacing_mm)
    a, b, c = np.array([0.9, 0.7, 0.25]) * min(30.0, 0.5 * reach)
    plate = plates(grid, (middle, turn, (a, b, c)))
    found = holes_in(plate)
    if len(found) != 1:  # a strong shear may leave the plate's corner outside
        return
    voxel_ml = abs(np.linalg.det(grid.affine)) / 1000
    assert found[0].volume_ml == pytest.approx(plate.data.sum() * voxel_ml, abs=6e-4)
    # The plate is three voxels thick: its centre of mass may lie a voxel beside the middle that it was drawn about.
    mass = grid.to_world(np.argwhere(plate.data)).mean(axis=0)
    np.testing.assert_allclose(found[0].centre_mm, mass, atol=0.006)
    np.testing.assert_allclose(found[0].centre_mm, middle, atol=1.01 * max(grid.spacing_mm))


def test_the_area_is_seen_along_the_thinnest_direction():
    grid = Grid.isotropic((80, 80, 60), 1.0)
    turn = Rotation.from_euler("xyz", (25, 40, 10), degrees=True).as_matrix()
    (found,) = holes_in(plates(grid, (np.array([40.0, 40, 30]), turn, (40, 30, 6))))
    assert found.volume_ml == pytest.approx(7.2, rel=0.02)
    assert found.area_cm2 == pytest.approx(12.0, rel=0.08)  # pixels on the edge count whole
    np.testing.assert_allclose(found.centre_mm, (40, 40, 30), atol=0.1)


def test_thick_slices_have_no_gaps():
    grid = Grid((60, 60, 14), np.diag([0.5, 0.5, 5.0, 1.0]))
    upright = np.eye(3)
    (found,) = holes_in(plates(grid, (np.array([15.0, 15, 32.5]), upright, (4, 20, 50))))
    assert found.area_cm2 == pytest.approx(10.0, rel=0.3)


def test_pieces_come_largest_first():
    grid = Grid.isotropic((60, 40, 20), 1.0)
    square = np.eye(3)
    found = holes_in(
        plates(grid, (np.array([8.0, 20, 10]), square, (6, 8, 4)), (np.array([40.0, 20, 10]), square, (20, 20, 4)))
    )
    assert [hole.centre_mm[0] for hole in found] == [40.0, 8.0]


def test_an_empty_patch_has_no_holes():
    assert holes_in(Volume(np.zeros((3, 4, 5), bool), Grid.isotropic((3, 4, 5), 1.0))) == ()


def test_one_voxel_is_a_hole_too():
    data = np.zeros((3, 4, 5), bool)
    data[1, 2, 3] = True
    assert holes_in(Volume(data, Grid.isotropic((3, 4, 5), 2.0))) == (Hole(0.008, 0.04, (2.0, 4.0, 6.0)),)


class TestLeftOpen:
    FRAME = CanonicalFrame(np.diag([1.0, 1.0, 1.0, 1.0]), np.array([1.0, 1.1, 0.9]), 0.0, ())

    @pytest.mark.parametrize(
        ("mean_mm", "place"),
        [
            ((0, -80, 30), "midline frontal"),
            ((40, -60, 40), "left frontal"),
            ((-50, 10, 60), "right parietal"),
            ((66, 10, 0), "left temporal"),
            ((-30, 80, 10), "right occipital"),
            ((0, 60, 60), "midline parietal"),
        ],
    )
    def test_places_are_named_in_the_heads_own_frame(self, mean_mm, place):
        turned = np.eye(4)
        turned[:3, :3] = Rotation.from_rotvec([0.4, -0.2, 1.0]).as_matrix()
        turned[:3, 3] = 100.0, -40.0, 7.0
        frame = CanonicalFrame(turned, self.FRAME.scale, 0.0, ())
        x, y, z = turned[:3, :3] @ (np.array(mean_mm) * frame.scale) + turned[:3, 3]
        assert place_of((x, y, z), frame) == place

    def test_an_opening_has_its_size_place_and_line(self):
        points = box_grid().centres_mm()
        disc = (np.hypot(points[..., 0] + 40, points[..., 1] + 60) < 10) & (np.abs(points[..., 2] - 40) < 3)
        (hole,) = left_open(disc, CanonicalFrame(np.eye(4), np.ones(3), 0.0, ()))
        assert hole.volume_ml == pytest.approx(np.count_nonzero(disc) * 1.6**3 / 1000, abs=1e-3)
        assert hole.across_mm == pytest.approx(20, abs=1.5)
        line = left_open_line(hole)
        assert line.startswith(
            f"left open: {hole.volume_ml:.1f} ml, {hole.across_mm:.0f} mm across, right frontal, at (-40"
        )


def test_what_is_left_open_is_said_with_its_reason():
    left = LeftOpen(0.61, 1.13, (40.2, -15.7, 60.0), "left parietal", "too small")
    assert left_open_line(left) == ("left open: 0.6 ml, 12 mm across, left parietal, at (40, -16, 60) mm: too small")
