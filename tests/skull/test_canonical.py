"""The canonical frame of made-up heads, whose pose is known, however they were scanned."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tests.heads import BACK, FLOOR_MM, SIDE, Head, family_template, grid_around, rigid, scan

from calvaria.errors import InputError
from calvaria.skull.canonical import (
    CanonicalFrame,
    Pose,
    canonical_grid,
    coarse_bone,
    locate,
    relocate,
    spread,
)
from calvaria.skull.edges import CutPlane
from calvaria.skull.starts import all_orientations, near_orientations
from calvaria.symmetry.plane import Plane
from calvaria.volume import Grid, Volume
from calvaria.volume.rotation import rotation_matrix, rotation_vector

TURN_DEG, SHIFT_MM = 0.7, 0.6
"""How far poses of one head may differ; measured over rotations: 0.05 to 0.45 degrees, 0.05 to 0.3 mm."""

PLANE_DEG, PLANE_MM = 0.5, 0.4
"""The same for the plane alone."""


@lru_cache
def found(head: Head) -> CanonicalFrame:
    """The frame of an upright head."""
    return locate(scan(head), family_template())


def off(frame: CanonicalFrame, pose: np.ndarray, base: CanonicalFrame) -> tuple[float, float]:
    """Turn (degrees) and shift (mm) between a posed head's frame and the posed frame of the upright head."""
    step = np.linalg.inv(pose @ base.to_world) @ frame.to_world
    return float(np.degrees(np.linalg.norm(rotation_vector(step[:3, :3])))), float(np.linalg.norm(step[:3, 3]))


def assert_found(frame: CanonicalFrame, pose: np.ndarray, base: CanonicalFrame, slack: float = 1.0) -> None:
    turn, shift = off(frame, pose, base)
    assert turn < slack * TURN_DEG
    assert shift < slack * SHIFT_MM
    np.testing.assert_allclose(frame.scale, base.scale, rtol=0.015 * slack)
    middle = pose[:3, :3] @ base.to_world[:3, 3] + pose[:3, 3]
    truth = Plane(pose[:3, :3] @ base.plane.normal, 0.0)
    assert frame.plane.angle_deg(truth) < slack * PLANE_DEG
    assert abs(frame.plane.distance_mm(middle)) < slack * PLANE_MM


def test_the_canonical_grid_mirrors_onto_itself():
    grid = canonical_grid()
    assert grid.shape == (128, 128, 128)
    ends = grid.corners_mm()
    np.testing.assert_allclose(ends.min(axis=0), -ends.max(axis=0))


@pytest.mark.parametrize("number", [20, 22])
def test_an_upright_head_is_where_it_was_put(number):
    head = Head(number, even=True)
    frame = found(head)
    turn, shift = off(frame, np.eye(4), CanonicalFrame(np.eye(4), head.scale, 0.0, ()))
    assert turn < 1.5  # the formula's own pose is not exactly the one that fits the mean head best
    assert shift < 2.0
    assert frame.plane.angle_deg(Plane([1, 0, 0], 0)) < PLANE_DEG
    assert abs(frame.plane.offset_mm) < PLANE_MM
    np.testing.assert_allclose(frame.scale, head.scale, rtol=0.03)
    assert frame.cost < 0.05


POSES = {
    "leaning by 45 degrees": rigid((28, -24, 22), (40, -60, 90)),
    "looking down by 45 degrees": rigid((45, 0, 0), (0, 0, 0)),
    "turned by 40 degrees": rigid((5, -8, -40), (-200, 300, 1000)),
    "lying on the side": rigid((0, 85, 10)),
    "back to front": rigid((0, 0, 180), (5, 5, 5)),
    "upside down": rigid((180, 10, -15)),
    "any way": rigid((-130, 40, 100)),
}


@pytest.mark.parametrize("pose", POSES.values(), ids=POSES)
def test_the_same_head_is_found_in_any_pose(pose):
    assert_found(locate(scan(Head(20), pose), family_template()), pose, found(Head(20)))


def test_a_hole_does_not_move_the_frame():
    pose = rigid((-20, 15, 30), (10, 20, 30))
    frame = locate(scan(Head(20, (SIDE, BACK)), pose), family_template())
    assert_found(frame, pose, found(Head(20)), slack=1.3)
    assert frame.cost < found(Head(20)).cost + 0.06


def test_a_scan_that_ends_above_the_face_gives_the_same_frame():
    pose = rigid((15, 10, -20), (0, -30, 10))
    frame = locate(scan(Head(20, (BACK,), FLOOR_MM), pose), family_template())
    assert_found(frame, pose, found(Head(20)), slack=1.5)
    assert len(frame.cuts) == 1
    # The floor of the head, in the canonical frame of the same head without a cut.
    floor = CutPlane(np.array([0.0, 0.0, -1.0]), -FLOOR_MM).moved(found(Head(20)).to_canonical)
    np.testing.assert_allclose(frame.cuts[0].normal, floor.normal, atol=0.05)
    assert frame.cuts[0].offset_mm == pytest.approx(floor.offset_mm, abs=1.5)


AXES = Rotation.from_euler("xyz", (20, 30, -10), degrees=True).as_matrix()
SHEAR = np.array([[1, 0, 0], [0, 1, np.sin(np.radians(20))], [0, 0, np.cos(np.radians(20))]])
GRIDS = {
    "thick slices": ((1.5, 1.5, 5.0), None),
    "oblique": ((2.0, 2.2, 2.4), AXES),
    "tilted gantry": ((1.6, 1.6, 2.5), SHEAR),
    "left-handed": ((2.0, 2.0, 3.0), np.diag([-1.0, 1.0, 1.0])),
}


@pytest.mark.parametrize(("spacing", "axes"), GRIDS.values(), ids=GRIDS)
def test_the_same_head_is_found_on_any_grid(spacing, axes):
    pose = rigid((10, -20, 15), (5, 6, 7))
    frame = locate(Head(20).on(grid_around(pose, spacing, axes), pose), family_template())
    assert_found(frame, pose, found(Head(20)))


@pytest.mark.parametrize(("order", "flip"), [((2, 0, 1), (0, 2)), ((1, 0, 2), (1,))])
def test_how_the_voxels_are_stored_does_not_matter(order, flip):
    # 84 voxels along each axis make whole blocks, so that even the coarse bone is the same.
    grid = Grid.isotropic((90, 112, 84), 2.0, (-89.0, -111.0, -75.0))
    volume = Head(22).on(grid)
    stored = volume.permute(order).flip(flip)
    one, other = locate(volume, family_template()), locate(stored, family_template())
    assert_found(other, np.eye(4), one, slack=0.3)


def test_the_frame_says_what_it_knows():
    pose = rigid((10, 20, 30), (1, 2, 3))
    frame = CanonicalFrame(pose, np.ones(3), 0.0, (CutPlane(np.array([0, 0, -1.0]), 40.0),))
    np.testing.assert_allclose(frame.to_canonical @ pose, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(frame.plane.distance_mm(pose[:3, 3]), 0, atol=1e-12)
    assert frame.known(np.array([[0, 0, -39.0], [0, 0, -41.0]])).tolist() == [True, False]


def test_the_starts_leave_no_way_to_lie_out():
    starts = Rotation.from_matrix(np.array(all_orientations()))
    for turn in Rotation.random(40, random_state=1):
        assert np.degrees((starts * turn.inv()).magnitude()).min() < 50
    near = np.degrees(Rotation.from_matrix(np.array(near_orientations())).magnitude())
    assert near.max() < 58.1
    assert near.min() == 0


def test_starts_are_kept_apart():
    poses = [Pose(rotation_matrix(np.array([a, 0, 0])), np.zeros(3), np.zeros(3)) for a in (0, 0.1, 0.5, 0.6, 1.0, 1.5)]
    kept = [rotation_vector(pose.rotation)[0] for pose in spread(poses, 3)]
    np.testing.assert_allclose(kept, [0, 0.5, 1.0], atol=1e-9)


@pytest.mark.parametrize("bone", [0, 8], ids=["none", "64 ml"])
def test_too_little_bone_is_refused(bone):
    data = np.zeros((20, 20, 20), bool)
    data[:bone, :bone, :bone] = True
    with pytest.raises(InputError, match=r"there are \d+ ml of bone; a skull has more than 100 ml"):
        coarse_bone(Volume(data, Grid.isotropic(data.shape, 5.0)))


@pytest.mark.parametrize("thing", ["cube", "noise"])
def test_what_is_no_skull_is_refused(thing):
    grid = Grid.isotropic((50, 50, 50), 4.0, (-98.0, -98.0, -98.0))
    cube = np.abs(grid.centres_mm()).max(axis=-1) < 70
    noise = np.random.default_rng(0).random(grid.shape) < 0.3
    with pytest.raises(InputError, match=r"the bone does not resemble a skull in any pose \(likeness -?0\.\d\d, "):
        locate(Volume(cube if thing == "cube" else noise, grid), family_template())


def test_a_frame_that_is_a_little_off_is_found_again():
    pose = rigid((10, -5, 15), (4, 20, -10))
    mask = scan(Head(20), pose)
    right = locate(mask, family_template())
    off = right.to_world.copy()
    off[:3, :3] = off[:3, :3] @ rotation_matrix(np.radians([6.0, -3.0, 4.0]))
    off[:3, 3] += [4.0, -3.0, 5.0]
    start = CanonicalFrame(off, right.scale * [1.04, 0.97, 1.0], 0.2, ())
    again = relocate(coarse_bone(mask), start, family_template())
    turn = np.degrees(np.linalg.norm(rotation_vector(again.to_world[:3, :3].T @ right.to_world[:3, :3])))
    assert turn < 0.5
    np.testing.assert_allclose(again.to_world[:3, 3], right.to_world[:3, 3], atol=0.6)
    np.testing.assert_allclose(again.scale, right.scale, atol=0.01)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_hole_as_flat_as_the_end_of_a_scan_does_not_turn_the_head(seed, real_data):
    from calvaria.io import read_mask
    from calvaria.synthesis.defects import cut_defect
    from calvaria.volume.volume import bounding_box

    skull = read_mask(real_data / "autoimplant2020" / "training_set" / "complete_skull" / "010.nrrd")
    skull = skull.crop(bounding_box(skull.mask))
    whole = locate(skull)
    _, defective, _ = cut_defect(skull, "hemicraniectomy", np.random.default_rng(seed), whole.to_world)
    holed = locate(defective)
    turn = np.degrees(np.linalg.norm(rotation_vector(whole.to_world[:3, :3].T @ holed.to_world[:3, :3])))
    assert turn < 4
