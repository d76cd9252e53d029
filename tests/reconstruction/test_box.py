"""The common box and the sub-voxel distance in it, against shapes whose distance is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from tests.heads import Head, boxed, rigid, scan, true_frame

from calvaria.reconstruction.box import TRUNCATION_MM, box_grid, box_to_world, subvoxel_distance, to_box, vault
from calvaria.skull.canonical import CanonicalFrame
from calvaria.skull.edges import CutPlane
from calvaria.volume import Grid, Volume


def ball(spacing: tuple[float, float, float], radius_mm: float = 24.0, fine: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Bone fraction of a ball, counted on ``fine``^3 points a voxel, and the true distance."""
    half = [int(36 / s) for s in spacing]
    axes = [(np.arange(-n * fine, (n + 1) * fine) + 0.5) / fine * s - s / 2 for n, s in zip(half, spacing, strict=True)]
    x, y, z = np.ix_(*axes)
    inside = ((x - 0.31) ** 2 + (y + 0.17) ** 2 + z**2 < radius_mm**2).astype(np.float32)
    shape = [v for n in half for v in (2 * n + 1, fine)]
    fraction = inside.reshape(shape).mean(axis=(1, 3, 5))
    x, y, z = np.ix_(*(np.arange(-n, n + 1) * s for n, s in zip(half, spacing, strict=True)))
    return fraction.astype(np.float32), np.sqrt((x - 0.31) ** 2 + (y + 0.17) ** 2 + z**2) - radius_mm


@pytest.mark.parametrize("spacing", [(1.6, 1.6, 1.6), (1.5, 1.6, 1.8)])
def test_the_distance_to_a_sphere_is_right_to_a_tenth_of_a_voxel(spacing):
    fraction, truth = ball(spacing)
    distance = subvoxel_distance(fraction, spacing, 12.7)
    wrong = np.abs(distance - np.clip(truth, -12.7, 12.7))
    near = np.abs(truth) < 10
    assert distance.dtype == np.float32
    assert wrong[near].mean() < 0.1 * min(spacing)
    assert np.percentile(wrong[near], 99) < 0.5 * min(spacing)
    assert wrong[np.abs(truth) < 1.6].max() < 0.2 * min(spacing)
    assert abs((distance - truth)[near].mean()) < 0.05 * min(spacing)
    # Distances between whole voxels are three times as far off.
    inside = fraction > 0.5
    coarse = distance_transform_edt(~inside, sampling=spacing) - distance_transform_edt(inside, sampling=spacing)
    assert wrong[near].mean() < 0.4 * np.abs(coarse - truth)[near].mean()


def test_a_slab_between_voxels_is_where_its_fractions_say():
    fraction = np.zeros((20, 5, 5), np.float32)
    fraction[8:13] = 1
    fraction[7], fraction[13] = 0.25, 0.75
    distance = subvoxel_distance(fraction, (2.0, 2.0, 2.0), 9.0)[:, 2, 2]
    low, high = 7 + 1 / 3, 13 + 1 / 3  # where the fraction crosses a half
    at = np.arange(20.0)
    expected = 2 * np.maximum(low - at, at - high)
    near = np.abs(expected) < 8
    np.testing.assert_allclose(distance[near], expected[near], atol=1e-3)
    np.testing.assert_allclose(distance[[0, 19]], 9.0)


def test_nothing_is_far_from_bone_and_a_full_box_is_deep_inside():
    empty = subvoxel_distance(np.zeros((4, 5, 6), np.float32), (1.6, 1.6, 1.6), 12.7)
    assert (empty == np.float32(12.7)).all()
    assert (subvoxel_distance(np.ones((4, 5, 6), np.float32), (1.6, 1.6, 1.6), 12.7) == -np.float32(12.7)).all()


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


def test_a_head_in_the_box_keeps_its_own_millimetres():
    head = Head(20)
    field = boxed(head)
    points = box_grid().centres_mm().reshape(-1, 3) * head.scale
    truth = head.field_mm(points).reshape(field.distance_mm.shape)
    near = (np.abs(truth) < 2.5) & (points[:, 2].reshape(truth.shape) > 15)
    assert np.abs(field.distance_mm - truth)[near].mean() < 0.35  # the mask's own steps of 2 mm
    assert abs((field.distance_mm - truth)[near].mean()) < 0.1
    assert np.abs(field.distance_mm).max() <= np.float32(TRUNCATION_MM)
    assert field.known.all()


def test_the_box_goes_where_the_head_is():
    head, pose = Head(20), rigid((20, -30, 50), (100, -200, 300))
    moved = to_box(scan(head, pose), true_frame(head, pose))
    here = boxed(head)
    near = np.abs(here.distance_mm) < 4
    assert np.abs(moved.distance_mm - here.distance_mm)[near].mean() < 0.5  # two masks, each with its own steps of 2 mm


def test_scaled_canonical_points_land_in_the_world():
    frame = CanonicalFrame(rigid((0, 0, 90), (10, 0, 0)), np.array([2.0, 1.0, 1.0]), 0.0, ())
    np.testing.assert_allclose(box_to_world(frame) @ [1, 0, 0, 1], [10, 2, 0, 1], atol=1e-12)


def test_what_lies_beyond_a_cut_is_unknown():
    bone = np.zeros((60, 60, 60), bool)
    bone[20:40, 20:40, 20:40] = True
    mask = Volume(bone, Grid.isotropic(bone.shape, 3.0, (-90.0, -90.0, -60.0)))
    pose = rigid((0, 0, 30), (4, 5, 6))
    cut = CutPlane(np.array([0.0, 0.6, -0.8]), 30.0)
    frame = CanonicalFrame(pose, np.array([1.1, 0.9, 1.0]), 0.0, (cut,))
    points = box_grid().centres_mm() * frame.scale
    place = points @ cut.normal - cut.offset_mm
    known = to_box(mask.with_data(bone), frame).known
    clear = np.abs(place) > 1e-6
    np.testing.assert_array_equal(known[clear], (place < 0)[clear])
