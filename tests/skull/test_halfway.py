"""Bone ends half way up its edge: slabs whose thickness is known, whatever their density and the scanner's blur."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from calvaria.skull.halfway import DEEP_MM, Edges, draw_in
from calvaria.skull.partial import Scan
from calvaria.types import BoolArray
from calvaria.volume import Grid, Volume

BONE_HU, BRAIN_HU, AIR_HU, FLOOR = 1300.0, 40.0, -1000.0, 250.0

FINE = 8
"""Voxels are drawn so many times finer, then averaged."""


def slab(
    thick_mm: float, hu: float, fwhm_mm: float, *, step_mm: float = 0.6, low: float = BRAIN_HU, high: float = BRAIN_HU
) -> Volume:
    """A plate across the first axis, between 20 and 20 + ``thick_mm`` mm; ``low`` before it and ``high`` behind."""
    x = (np.arange(100 * FINE) + 0.5) / FINE * step_mm
    line = np.where(x < 20, low, np.where(x < 20 + thick_mm, hu, high))
    line = gaussian_filter(line, fwhm_mm / 2.355 / step_mm * FINE).reshape(-1, FINE).mean(axis=1)
    data = np.broadcast_to(line[:, None, None], (100, 30, 30))
    return Volume(np.rint(data).astype(np.int16), Grid((100, 30, 30), np.diag([step_mm, 1.0, 1.0, 1.0])))


def found_in(ct: Volume) -> tuple[Volume, Scan]:
    edges = Edges.of(ct, 0.0, FLOOR)
    bone = ct.data > FLOOR
    draw_in(bone, ct, edges)
    return ct.with_data(bone), Scan(ct, FLOOR, edges)


def faces_mm(share: NDArray[np.float32], step_mm: float) -> list[float]:
    """Where a line of bone fractions crosses a half, mm from the outer face of its first voxel."""
    at = np.flatnonzero((share[:-1] > 0.5) != (share[1:] > 0.5))
    return [float((i + (0.5 - share[i]) / (share[i + 1] - share[i]) + 0.5) * step_mm) for i in at]


@pytest.mark.parametrize("fwhm_mm", [0.8, 1.3, 2.0])
@pytest.mark.parametrize("hu", [600.0, 1000.0, 1500.0])
@pytest.mark.parametrize("thick_mm", [3.0, 5.3, 8.0])
def test_a_plate_is_as_thick_as_it_is(thick_mm: float, hu: float, fwhm_mm: float) -> None:
    ct = slab(thick_mm, hu, fwhm_mm)
    bone, scan = found_in(ct)
    share = scan.fraction(bone, (slice(0, 100), slice(0, 30), slice(0, 30))).data[:, 15, 15]
    before, behind = faces_mm(share, 0.6)
    assert before == pytest.approx(20.0, abs=0.12)
    assert behind == pytest.approx(20.0 + thick_mm, abs=0.12)


def test_one_threshold_makes_dense_bone_too_thick() -> None:
    """What the half level is for: the same plate with the threshold alone."""
    ct = slab(6.0, 1500.0, 2.0)
    plain = ct.with_data(ct.data > FLOOR)
    share = Scan(ct, FLOOR).fraction(plain, (slice(0, 100), slice(0, 30), slice(0, 30))).data[:, 15, 15]
    before, behind = faces_mm(share, 0.6)
    assert behind - before > 7.0


def test_beside_air_bone_ends_at_the_threshold() -> None:
    ct = slab(6.0, BONE_HU, 1.0, high=AIR_HU)
    bone, scan = found_in(ct)
    share = scan.fraction(bone, (slice(0, 100), slice(0, 30), slice(0, 30))).data[:, 15, 15]
    assert faces_mm(share, 0.6) == pytest.approx([20.0, 26.0], abs=0.15)


def test_a_plate_that_hardly_passes_the_threshold_stays() -> None:
    ct = slab(1.0, 700.0, 2.5)
    assert 250 < ct.data.max() < 350
    bone, _ = found_in(ct)
    np.testing.assert_array_equal(bone.mask, ct.data > FLOOR)


def test_marrow_is_left_as_it_is() -> None:
    """Cavities in bone do not grow, nor does spongy bone count as an edge."""
    ct = slab(9.0, BONE_HU, 0.8)
    data = ct.data.copy()
    data[38:44] = np.minimum(data[38:44], 420)  # spongy bone between two tables of 2 mm
    data[40:42, 10:13, 10:13] = 60  # and marrow
    bone, _ = found_in(Volume(data, ct.grid))
    assert bone.mask[36:46, 14:20, 14:20].all()
    np.testing.assert_array_equal(bone.mask[38:44, 8:15, 8:15], data[38:44, 8:15, 8:15] > FLOOR)


def test_no_more_is_taken_off_than_a_blur_is_wide() -> None:
    ct = slab(20.0, 500.0, 0.8)
    data = ct.data.copy()
    data[34:60, 4:26, 4:26][::2] = 3000  # metal raises the level of all that lies between
    bone, _ = found_in(Volume(data, ct.grid))
    first = int(np.flatnonzero(bone.mask[:, 15, 15])[0])
    assert (first - 33) * 0.6 <= DEEP_MM + 0.6


def test_where_the_grid_ends_bone_goes_on() -> None:
    ct = slab(6.0, 700.0, 2.0)
    whole, _ = found_in(ct)
    part, _ = found_in(ct.crop((slice(0, 100), slice(10, 30), slice(0, 20))))
    np.testing.assert_array_equal(part.mask, whole.mask[:, 10:, :20])


@pytest.mark.parametrize("axes", [(0,), (1, 2)])
def test_flips_and_memory_order_change_nothing(axes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    hu = np.full((40, 36, 30), BRAIN_HU)
    hu[14:24, 5:30, 6:24] = BONE_HU
    hu = gaussian_filter(hu, 1.0) + rng.normal(0, 10, hu.shape)
    # Blocks of one voxel, or flips would pair others.
    ct = Volume(np.rint(hu).astype(np.int16), Grid.isotropic((40, 36, 30), 1.0))
    bone, _ = found_in(ct)
    turned, _ = found_in(ct.flip(axes))
    np.testing.assert_array_equal(turned.flip(axes).mask, bone.mask)
    fortran = ct.with_data(np.asfortranarray(ct.data))
    edges = Edges.of(fortran, 0.0, FLOOR)
    mask: BoolArray = np.asfortranarray(fortran.data > FLOOR)
    draw_in(mask, fortran, edges)
    np.testing.assert_array_equal(mask, bone.mask)


def test_fractions_are_above_a_half_just_where_the_mask_is() -> None:
    ct = slab(5.0, 900.0, 1.5)
    bone, scan = found_in(ct)
    box = (slice(20, 60), slice(3, 20), slice(0, 30))
    share = scan.fraction(bone, box)
    np.testing.assert_array_equal(share.data > 0.5, bone.mask[box])


def test_values_with_the_scanner_s_offset_give_the_same() -> None:
    ct = slab(5.0, 900.0, 1.5)
    bone, _ = found_in(ct)
    raw = ct.with_data((ct.data.astype(np.int32) + 1024).astype(np.uint16))
    edges = Edges.of(raw, 1024.0, FLOOR + 1024)
    mask = raw.data > FLOOR + 1024
    draw_in(mask, raw, edges)
    np.testing.assert_array_equal(mask, bone.mask)
