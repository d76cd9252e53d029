"""Distances to bone's surface, against shapes whose distance is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from tests.heads import Head, boxed, rigid, scan, true_frame

from calvaria.reconstruction.box import TRUNCATION_MM, box_grid
from calvaria.reconstruction.surface import BoneSurface, to_box
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


def grid_of(shape: tuple[int, ...], spacing: tuple[float, ...]) -> Grid:
    i, j, k = shape
    return Grid((i, j, k), np.diag([*spacing, 1.0]))


def distances(fraction: np.ndarray, spacing: tuple[float, ...], limit_mm: float) -> np.ndarray:
    grid = grid_of(fraction.shape, spacing)
    return BoneSurface.of(Volume(fraction, grid)).distances(grid, limit_mm)


@pytest.mark.parametrize("spacing", [(1.6, 1.6, 1.6), (1.5, 1.6, 1.8)])
def test_the_distance_to_a_sphere_is_right_to_a_tenth_of_a_voxel(spacing: tuple[float, float, float]) -> None:
    fraction, truth = ball(spacing)
    distance = distances(fraction, spacing, 12.7)
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


def test_a_slab_between_voxels_is_where_its_fractions_say() -> None:
    fraction = np.zeros((20, 31, 31), np.float32)
    fraction[8:13] = 1
    fraction[7], fraction[13] = 0.25, 0.75
    distance = distances(fraction, (2.0, 2.0, 2.0), 9.0)[:, 15, 15]
    low, high = 7 + 1 / 3, 13 + 1 / 3  # where the fraction crosses a half
    at = np.arange(20.0)
    expected = 2 * np.maximum(low - at, at - high)
    near = np.abs(expected) < 8
    np.testing.assert_allclose(distance[near], expected[near], atol=1e-3)
    np.testing.assert_allclose(distance[[0, 19]], 9.0)


@pytest.mark.parametrize("turn", [(0, 0, 0), (20, -30, 15)])
def test_a_wall_thinner_than_the_boxs_voxels_is_not_lost(turn: tuple[int, int, int]) -> None:
    # 1 mm thick on voxels of 0.5 mm, read at 1.6 mm: between nodes there is room for all of it.
    shape = (80, 80, 80)
    fine = Grid(shape, rigid(turn, (5, 6, 7)) @ np.diag([0.5, 0.5, 0.5, 1.0]))
    bone = np.zeros(shape, bool)
    bone[39:41] = True
    surface = BoneSurface.of(Volume(bone, fine))
    nodes = Grid.isotropic((12, 12, 12), 1.6, fine.to_world([39.5, 39.5, 39.5]) - 1.6 * 5.3)
    apart = np.abs(fine.to_index(nodes.centres_mm())[..., 0] - 39.5) * 0.5 - 0.5
    apart = np.minimum(apart, 12.7)
    found = surface.distances(nodes, 12.7)
    wrong = np.abs(found - apart)
    assert wrong.max() < 1.0  # from afar both sides of the wall are taken together
    assert wrong[apart < 3].max() < 0.15
    assert wrong[apart < 3].mean() < 0.03


def test_without_bone_everything_is_far_from_it() -> None:
    empty = distances(np.zeros((4, 5, 6), np.float32), (1.6, 1.6, 1.6), 12.7)
    assert (empty == np.float32(12.7)).all()


def test_bone_ends_where_the_scan_does() -> None:
    full = distances(np.ones((30, 30, 30), np.float32), (1.6, 1.6, 1.6), 12.7)
    assert (full < 0).all()
    assert full[15, 15, 15] == -np.float32(12.7)
    assert full[0, 15, 15] == pytest.approx(-0.8, abs=1e-3)


def test_far_from_the_surface_a_box_is_empty_or_full() -> None:
    fraction, _ = ball((1.6, 1.6, 1.6))
    surface = BoneSurface.of(Volume(fraction, grid_of(fraction.shape, (1.6, 1.6, 1.6))))
    far = Grid.isotropic((5, 5, 5), 1.0, (200.0, 0.0, 0.0))
    assert (surface.distances(far, 8.0) == 8.0).all()
    deep = Grid.isotropic((3, 3, 3), 1.0, np.array([0.31, -0.17, 0.0]) + 22 * 1.6)
    assert (surface.distances(deep, 8.0) == -8.0).all()


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
