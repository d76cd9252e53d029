"""A hole cut into a CT: soft tissue with the scan's own noise, half at the rim, and nothing else changed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from calvaria.errors import GeometryError, InputError
from calvaria.synthesis.cut_ct import EDGE_MM, TISSUE_HU, cut_ct, hole_of, noise_of
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

GRID = Grid((70, 60, 50), np.diag([0.9, 0.9, 1.5, 1.0]))
GRAIN, SD = (0.8, 0.8, 0.0), 14.0


def noise(rng: np.random.Generator) -> np.ndarray:
    field = gaussian_filter(rng.standard_normal(GRID.shape), GRAIN)
    return np.asarray(field * SD / field.std())


def plate() -> Volume:
    """Bone of 6 voxels between brain and scalp, which ends in air."""
    data = np.full(GRID.shape, 35.0) + noise(np.random.default_rng(0))
    data[:, 30:36] = 1200.0
    data[:, 45:] = -1000.0
    return Volume(np.rint(data).astype(np.int16), GRID)


def bone(part: slice) -> Volume:
    mask = np.zeros(GRID.shape, bool)
    mask[part, 30:36] = True
    return Volume(mask, GRID)


def cut() -> tuple[Volume, Volume, Volume]:
    ct, missing = plate(), bone(slice(20, 50))
    rest = missing.with_data(bone(slice(0, 70)).mask & ~missing.mask)
    hole = hole_of(missing, rest)
    return ct, hole, cut_ct(ct, hole, np.random.default_rng(1))


def test_noise_is_measured_as_it_is():
    found = noise_of(plate())
    assert found.sd_hu == pytest.approx(SD, rel=0.05)
    assert found.grain_voxels[:2] == pytest.approx(GRAIN[:2], abs=0.08)
    assert found.grain_voxels[2] == 0


def test_a_hole_is_half_where_bone_ends_and_holds_what_is_near_its_bone():
    _, hole, _ = cut()
    line = hole.data[:, 33, 25]
    assert (line[24:46] == 1).all()
    assert (line[:16] == 0).all()
    # Between voxels 19 and 20 the bone ends.
    assert line[19] + line[20] == pytest.approx(1.0, abs=1e-5)
    assert line[20] == pytest.approx(0.5 + 0.9 / (4 * EDGE_MM), abs=1e-5)
    across = hole.data[35, :, 25]
    assert across[28] == across[37] == 1
    assert across[24] == across[41] == 0


def test_bone_in_the_hole_becomes_tissue_with_the_scan_s_noise():
    ct, hole, found = cut()
    assert found.data.dtype == np.int16
    inside = found.data[24:46, 30:36, :].astype(np.float64)
    assert inside.mean() == pytest.approx(TISSUE_HU, abs=1.0)
    assert inside.std() == pytest.approx(SD, rel=0.1)
    rim = found.data[19:21, 32:34, :].astype(np.float64).mean(axis=(1, 2))
    assert rim.mean() == pytest.approx((1200 + TISSUE_HU) / 2, abs=15)
    assert rim[0] - rim[1] > 200
    assert np.array_equal(found.data[hole.data == 0], ct.data[hole.data == 0])
    assert (found.data[:, 46:] == -1000).all()


def test_no_shell_of_half_bone_is_left():
    ct = plate()
    ct = ct.with_data(np.rint(gaussian_filter(ct.data.astype(np.float64), (0, 1.0, 0))).astype(np.int16))
    missing = bone(slice(20, 50))
    hole = hole_of(missing, missing.with_data(bone(slice(0, 70)).mask & ~missing.mask))
    found = cut_ct(ct, hole, np.random.default_rng(1))
    assert ct.data[26:44, 26:40].max() > 1000
    assert found.data[26:44, 26:40].max() < TISSUE_HU + 6 * SD


def test_values_between_whole_ones_stay_so():
    ct, hole, _ = cut()
    found = cut_ct(ct.with_data(ct.data.astype(np.float32) + 0.25), hole, np.random.default_rng(1))
    assert found.data.dtype == np.float32
    assert found.data[0, 0, 0] == ct.data[0, 0, 0] + 0.25


def test_what_cannot_be_cut_is_refused():
    ct, hole, _ = cut()
    nothing = Volume(np.zeros(GRID.shape, bool), GRID)
    with pytest.raises(InputError, match="there is no missing bone, so no hole to cut"):
        hole_of(nothing, bone(slice(0, 70)))
    with pytest.raises(GeometryError, match="the CT and the hole must lie on one grid"):
        cut_ct(ct, hole.crop((slice(0, 9), slice(0, 9), slice(0, 9))), np.random.default_rng(0))
    with pytest.raises(GeometryError, match="the missing bone and the bone that stays must lie on one grid"):
        hole_of(nothing, nothing.crop((slice(0, 9), slice(0, 9), slice(0, 9))))
    air = ct.with_data(np.full(GRID.shape, -1000, np.int16))
    with pytest.raises(InputError, match=r"no soft tissue of which its noise could be measured; is it a CT in HU\?"):
        cut_ct(air, hole, np.random.default_rng(0))
