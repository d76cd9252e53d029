"""A trunk is no head; a head is one however large its hole is, and whatever hangs on it."""

from __future__ import annotations

import numpy as np
import pytest
from tests.dicom_files import abdomen

from calvaria.errors import InputError
from calvaria.skull.segment import segment_bone
from calvaria.skull.vault import MAX_HEAD_L, require_vault
from calvaria.volume import Grid, Volume

GRID = Grid.isotropic((90, 80, 90), 4.0, (-178.0, -158.0, -200.0))
BONE_HU = 250.0


def head(points, cut=None):
    """A vault of 7 mm about a brain on a neck and shoulders; ``cut`` says where its bone is missing."""
    x, y, z = np.moveaxis(points - [0, 0, 60], -1, 0)
    radius = np.sqrt((x / 75) ** 2 + (y / 92) ** 2 + (z / 80) ** 2)
    body = ((x / 170) ** 2 + (y / 110) ** 2 < 1) & (z < -110)
    neck = (np.hypot(x, y) < 60) & (z < 0)
    hu = np.where((radius < 1.06) | body | neck, 40.0, -1000.0)
    bone = (radius < 1) & (radius > 0.91)
    if cut is not None:
        bone &= ~cut(x, y, z)
    return np.where(bone | ((np.hypot(x, y - 30) < 15) & (z < -70)), 900.0, hu)


def checked(hu, grid=GRID):
    ct = Volume(hu(grid.centres_mm()).astype(np.float32), grid)
    require_vault(ct, ct.with_data(ct.data > -300), BONE_HU, "a.nrrd")
    return ct


def test_a_trunk_is_refused_with_what_was_looked_for():
    wanted = (
        r"a\.nrrd: no head found: the body in the scan holds 2\d\.\d litres, but bone encloses only \d+ ml of it, in"
    )
    with pytest.raises(InputError, match=wanted):
        checked(abdomen)


@pytest.mark.parametrize(
    "cut",
    [None, lambda x, y, z: x > 5, lambda x, y, z: (y < 0) & (z > -20), lambda x, y, z: z > 40],
    ids=["whole", "half of the vault", "the forehead", "the top"],
)
def test_a_head_with_shoulders_is_one_whatever_is_missing(cut):
    ct = checked(lambda points: head(points, cut))
    assert np.count_nonzero(ct.data > -300) * GRID.voxel_volume_mm3 / 1e6 > MAX_HEAD_L


def test_a_small_part_of_a_body_is_not_asked_for_a_vault():
    checked(lambda points: np.where(np.linalg.norm(points, axis=-1) < 100, 40.0, -1000.0))


@pytest.mark.parametrize("stated", [False, True])
def test_it_is_asked_before_bone_is_segmented(stated):
    ct = Volume(abdomen(GRID.centres_mm()).astype(np.int16), GRID)
    with pytest.raises(InputError, match="a trunk: no head found: the body in the scan holds"):
        segment_bone(ct, name="a trunk", stated=stated)
