"""The symmetry plane of made-up heads whose plane is known."""

from __future__ import annotations

import numpy as np
import pytest
from tests.heads import BACK, SIDE, Head, grid_around, rigid

from calvaria.skull.canonical import REGION_MM
from calvaria.skull.edges import CutPlane
from calvaria.symmetry.estimate import refine_plane
from calvaria.symmetry.plane import Plane
from calvaria.volume import Grid, Volume
from calvaria.volume.sampler import Sampler

ANGLE_DEG, OFFSET_MM = 0.25, 0.25
"""How well a known plane must be found."""

HOLE_ANGLE_DEG, HOLE_OFFSET_MM = 0.8, 0.5
"""The same from 12 degrees off with holes on one side; the worst measured is 0.6 degrees."""


def sampler(head: Head, unknown: tuple[CutPlane, ...] = ()) -> Sampler:
    return Sampler.smooth(head.soft(grid_around(None, (3.0, 3.0, 3.0))), 3.0, unknown)


def plane_of(frame: np.ndarray) -> Plane:
    return Plane(frame[:3, 0], float(frame[:3, 0] @ frame[:3, 3]))


def off(frame: np.ndarray) -> tuple[float, float]:
    """Angle to x = 0, and the plane's distance from the head's middle."""
    plane = plane_of(frame)
    return plane.angle_deg(Plane([1, 0, 0], 0.0)), abs(float(plane.distance_mm([0.0, 0.0, 30.0])))


@pytest.mark.parametrize(
    "head",
    [Head(20, even=True), Head(21, (SIDE,), even=True), Head(22, (SIDE, BACK), even=True)],
    ids=["complete", "one hole", "two holes"],
)
@pytest.mark.parametrize("start", [((0, 0, 0), (0, 0, 0)), ((0, 9, -12), (8, 0, 0)), ((3, -10, 7), (-9, 5, 4))])
def test_a_tilted_and_shifted_plane_is_found(head, start):
    angle, offset = off(refine_plane(sampler(head), rigid(*start), REGION_MM))
    assert angle < (HOLE_ANGLE_DEG if head.holes else ANGLE_DEG)
    assert offset < (HOLE_OFFSET_MM if head.holes else OFFSET_MM)


def test_only_the_plane_moves():
    start = rigid((6, 8, -5), (5, -7, 4))
    found = refine_plane(sampler(Head(20, even=True)), start, REGION_MM)
    step = np.linalg.inv(start) @ found
    # The origin moves along the frame's own left-right axis, up to what the turns add.
    assert np.abs(step[1:3, 3]).max() < 1.5
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-12)


def test_what_lies_beyond_a_slanting_end_of_the_scan_does_not_pull():
    cut = CutPlane(np.array([0.6, 0.0, 0.8]), 62.0)
    head, grid = Head(23, even=True), grid_around(None, (3.0, 3.0, 3.0))
    whole = head.soft(grid)
    seen = whole.with_data(np.where(grid.centres_mm() @ cut.normal < cut.offset_mm, whole.data, 0))
    start = rigid((0, 6, -4), (4, 0, 0))
    angle, offset = off(refine_plane(Sampler.smooth(seen, 3.0, (cut,)), start, REGION_MM))
    assert angle < 2 * ANGLE_DEG
    assert offset < 2 * OFFSET_MM


def test_without_bone_the_frame_stays_as_it_is():
    empty = Sampler.smooth(Volume(np.zeros((9, 9, 9), np.float32), Grid.isotropic((9, 9, 9), 3.0)), 3.0)
    start = rigid((5, 5, 5), (1, 2, 3))
    np.testing.assert_array_equal(refine_plane(empty, start, REGION_MM), start)
