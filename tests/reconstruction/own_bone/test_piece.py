"""The bone of a piece that was scanned alone."""

from __future__ import annotations

import numpy as np
import pytest

from calvaria.errors import InputError
from calvaria.reconstruction.own_bone.piece import piece_of
from calvaria.volume import Grid, Volume

GRID = Grid.isotropic((60, 60, 30), 1.0)
DISC = (np.hypot(*(GRID.centres_mm()[..., :2] - 30).transpose(3, 0, 1, 2)) < 22) & (
    np.abs(GRID.centres_mm()[..., 2] - 15) < 3
)


def ct(bone_hu: float = 1200.0, offset: int = 0) -> Volume:
    from scipy.ndimage import gaussian_filter

    values = gaussian_filter(np.where(DISC, bone_hu, -1000.0), 0.6) + offset
    return Volume(values.astype(np.int16), GRID)


@pytest.mark.parametrize("offset", [0, 1024])
def test_a_ct_in_air_shows_the_piece_between_its_voxels(offset):
    surface = piece_of(ct(offset=offset))
    z = surface.points_mm[np.abs(surface.normals[:, 2]) > 0.9][:, 2]
    upper = z[z > 15].mean()
    assert upper == pytest.approx(17.5, abs=0.25)  # halfway between the last voxel of the disc and the next


def test_a_mask_is_taken_as_it_is_but_for_loose_parts():
    mask = DISC.copy()
    mask[0:3, 0:3, 0:3] = True
    surface = piece_of(Volume(mask, GRID))
    assert surface.points_mm.min() > 5
    numbers = piece_of(Volume(np.where(mask, 255, 0).astype(np.uint8), GRID))
    np.testing.assert_array_equal(numbers.points_mm, surface.points_mm)


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (Volume(np.zeros(GRID.shape, bool), GRID), "the mask is empty"),
        (Volume(np.ones(GRID.shape, bool), GRID.moved(np.diag([2.0, 2, 2, 1]))), r"holds 864\.0 ml .* for --pre-op"),
        (Volume(np.arange(GRID.size, dtype=np.float32).reshape(GRID.shape) % 200, GRID), "values from 0 to 199 are no"),
        (Volume(np.where(DISC, 0, 1).astype(np.uint8), GRID), "seem to be exchanged|holds"),
    ],
)
def test_what_is_no_piece_is_refused_in_one_line(volume, message):
    with pytest.raises(InputError, match=message):
        piece_of(volume)
