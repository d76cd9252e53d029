"""A hole outlined by places around its rim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calvaria.errors import InputError
from calvaria.io import read_volume
from calvaria.volume import Grid, Volume
from calvaria.web.outline import WIDENED, outlined, write_outlined
from calvaria.web.views import show_head

MIDDLE = np.array([3.0, -4.0, 5.0])
RADIUS_MM = 80.0
GRID = Grid((60, 60, 60), np.array([[0, 4.0, 0, -115], [4.0, 0, 0, -122], [0, 0, 4.0, -113], [0, 0, 0, 1]]))


def ring(degrees: float, count: int = 12) -> list:
    """Places on a sphere around its top."""
    turns = np.random.default_rng(0).permutation(np.arange(count)) * 2 * np.pi / count
    reach, up = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    around = np.stack([np.cos(turns) * reach, np.sin(turns) * reach, np.full(count, up)], axis=1)
    return [tuple(point) for point in MIDDLE + RADIUS_MM * around]


def test_what_lies_before_and_behind_the_outline_is_in_the_mask_and_nothing_else():
    mask = outlined(ring(30), GRID, MIDDLE).mask
    seen = GRID.centres_mm().reshape(-1, 3) - MIDDLE
    far = np.linalg.norm(seen, axis=1)
    degrees = np.degrees(np.arccos(np.clip(seen[:, 2] / np.maximum(far, 1e-9), -1, 1)))
    shell = np.abs(far - RADIUS_MM) < 15
    inside = mask.reshape(-1)
    widened = np.degrees(np.arctan(WIDENED * np.tan(np.radians(30))))
    assert inside[shell & (degrees < widened - 1.5)].all()
    assert not inside[degrees > widened + 0.1].any() and not inside[np.abs(far - RADIUS_MM) > 20.5].any()


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([MIDDLE, *ring(30)], "a place of the outline lies in the middle of the head"),
        (ring(85), "lie all around the head"),
        ([MIDDLE + np.array([0, 0, up]) for up in (80, 81, 82)], "the outline surrounds nothing"),
    ],
)
def test_places_that_outline_nothing_are_refused(points: list, said: str):
    with pytest.raises(InputError, match=said):
        outlined(points, GRID, MIDDLE)


def test_the_mask_is_written_on_the_slices_that_are_shown(tmp_path: Path):
    far = np.linalg.norm(GRID.centres_mm() - MIDDLE, axis=-1).reshape(GRID.shape)
    show_head(tmp_path, Volume(np.abs(far - RADIUS_MM) < 5, GRID), ct=False)
    written = read_volume(write_outlined(tmp_path, ring(30)))
    assert written.grid.same_as(GRID)
    np.testing.assert_array_equal(written.data > 0, outlined(ring(30), GRID, MIDDLE).mask)
