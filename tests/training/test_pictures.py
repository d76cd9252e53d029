"""Pictures of cases in training: what is drawn where."""

from __future__ import annotations

import numpy as np

from calvaria.training.pictures import SIZE_PX, picture_of
from calvaria.volume.grid import Grid

GRID = Grid.isotropic((28, 36, 24), 6.4, (-86.4, -112.0, -60.8))


def skull_and_patch():
    radius = np.linalg.norm(GRID.centres_mm() / np.array([70.0, 90.0, 75.0]), axis=-1)
    whole = np.clip(1 - np.abs(radius - 0.9) / 0.12, 0, 1).astype(np.float32)
    box = (GRID.centres_mm()[..., 0] > 30) & (GRID.centres_mm()[..., 2] > 0)
    return whole * ~box, whole * box


def test_a_case_is_drawn_as_three_surfaces_and_three_slices():
    seen, patch = skull_and_patch()
    picture = picture_of(seen, patch, np.zeros_like(patch), GRID)
    assert picture.shape == (2 * SIZE_PX, 3 * SIZE_PX, 3)
    assert picture.dtype == np.uint8
    bone, true, ours = np.split(picture[:SIZE_PX].astype(float), 3, axis=1)
    assert np.abs(true - bone).max() > 50  # the true patch is drawn over the hole
    assert (ours == bone).all()  # the network found nothing
    slices = picture[SIZE_PX:].astype(int)
    assert (slices[..., 1] > slices[..., 0] + 100).any()  # green: the true patch
    assert (slices[..., 2] <= slices[..., 1]).all()  # no blue: nothing found


def test_a_case_without_a_hole_can_be_drawn():
    seen, patch = skull_and_patch()
    picture = picture_of(seen + patch, np.zeros_like(patch), patch, GRID)
    slices = picture[SIZE_PX:].astype(int)
    assert not (slices[..., 1] > slices[..., 0]).any()


def test_slices_larger_than_the_picture_are_shown_whole():
    shape = (2 * SIZE_PX + 3, 12, SIZE_PX + 7)
    grid = Grid.isotropic(shape, 0.4)
    seen = np.zeros(shape, np.float32)
    seen[:3, :, :2] = seen[-3:, :, -2:] = 1  # bone in two opposite corners
    slices = picture_of(seen, np.zeros(shape, np.float32), np.zeros(shape, np.float32), grid)[SIZE_PX:]
    rows, columns = np.nonzero(slices[:, SIZE_PX : 2 * SIZE_PX, 0])  # the slice across the second axis
    assert np.ptp(columns) == shape[0] // 3 - 1
    assert np.ptp(rows) == -(-shape[2] // 3) - 1
