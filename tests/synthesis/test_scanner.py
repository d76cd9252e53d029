"""Simulated scans: known shapes keep size and place in tilted and thick slices, blur and noise are as stated."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from calvaria.errors import GeometryError, InputError
from calvaria.synthesis import scanner as module
from calvaria.synthesis.scanner import KERNELS, Scanner, scan, sliced, slices_over, tissue_hu
from calvaria.volume.grid import Grid
from calvaria.volume.resample import resample
from calvaria.volume.volume import Volume

CENTRE_MM = np.array([3.1, -4.3, 6.7])
RADIUS_MM = 22.0
AIR = -1000


def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No noise."""
    for name, kernel in KERNELS.items():
        monkeypatch.setitem(module.KERNELS, name, replace(kernel, noise_hu=0.0))


def cube(n: int, step_mm: float) -> Grid:
    return Grid.isotropic((n, n, n), step_mm, (-(n - 1) / 2 * step_mm,) * 3)


@lru_cache(maxsize=1)
def ball() -> Volume:
    """1000 HU in air, voxels at the edge as full as they are."""
    grid = cube(76, 0.8)
    depth = RADIUS_MM - np.linalg.norm(grid.centres_mm() - CENTRE_MM, axis=-1)
    return Volume((AIR + 2000 * np.clip(depth / 0.8 + 0.5, 0, 1)).astype(np.float32), grid)


@pytest.mark.parametrize("kernel", ["soft", "sharp"])
@pytest.mark.parametrize(("slice_mm", "tilt"), [(1.0, 0.0), (1.5, -18.0), (2.5, 18.0), (5.0, 18.0)])
def test_a_ball_keeps_its_volume_and_its_place(slice_mm, tilt, kernel):
    ct = scan(ball(), Scanner(slice_mm, pixel_mm=0.8, tilt_degrees=tilt, kernel=kernel), np.random.default_rng(0))
    share = (ct.data.astype(np.float64) - AIR) / 2000
    near = np.linalg.norm(ct.grid.centres_mm() - CENTRE_MM, axis=-1) < RADIUS_MM + 6
    share[~near] = 0  # far noise
    volume = share.sum() * ct.grid.voxel_volume_mm3
    assert volume == pytest.approx(4 / 3 * np.pi * RADIUS_MM**3, rel=0.01)
    middle = (share[..., None] * ct.grid.centres_mm()).sum(axis=(0, 1, 2)) / share.sum()
    assert np.abs(middle - CENTRE_MM).max() < 0.05


@pytest.mark.parametrize("tilt", [0.0, -18.0, 18.0])
def test_a_ball_s_edge_is_at_the_half_level(monkeypatch, tilt):
    quiet(monkeypatch)
    ct = scan(ball(), Scanner(1.0, pixel_mm=0.6, tilt_degrees=tilt), np.random.default_rng(0))
    # Along a row through the middle: the row's own circle, at the places where values cross the half.
    i, j, k = np.rint(ct.grid.to_index(CENTRE_MM)).astype(int)
    for line, axis in ((ct.data[:, j, k], 0), (ct.data[i, :, k], 1)):
        above = line > 0
        crossings = np.flatnonzero(above[1:] != above[:-1])
        assert len(crossings) == 2
        for n in crossings:
            index = np.array([i, j, k], np.float64)
            index[axis] = n - line[n] / (int(line[n + 1]) - int(line[n]))
            off = np.linalg.norm(ct.grid.to_world(index) - CENTRE_MM) - RADIUS_MM
            assert abs(off) < 0.06  # a tenth of a pixel


def test_slices_follow_the_gantry():
    angle = np.deg2rad(18)
    grid = slices_over(cube(50, 2.0), Scanner(2.5, pixel_mm=0.5, tilt_degrees=18.0))
    assert grid.affine[:3, 0] == pytest.approx([0.5, 0, 0])
    assert grid.affine[:3, 1] == pytest.approx([0, 0.5 * np.cos(angle), 0.5 * np.sin(angle)])
    assert grid.affine[:3, 2] == pytest.approx([0, 0, 2.5])
    assert not grid.is_orthogonal
    for corner in cube(50, 2.0).corners_mm():
        index = grid.to_index(corner)
        assert (index > 0).all()
        assert (index < np.array(grid.shape) - 1).all()


def test_slices_may_overlap_or_leave_gaps():
    grid = slices_over(cube(50, 2.0), Scanner(5.0, step_mm=2.5))
    assert grid.spacing_mm[2] == pytest.approx(2.5)


@pytest.mark.parametrize("tilt", [0.0, 20.0])
def test_a_slice_is_the_mean_over_its_thickness(tilt):
    whole = cube(60, 1.0)
    image = Volume((whole.centres_mm()[..., 2] ** 2).astype(np.float32), whole)
    grid = slices_over(cube(20, 1.0), Scanner(5.0, pixel_mm=1.0, tilt_degrees=tilt))
    found = sliced(image, grid, 5.0).data
    z = grid.centres_mm()[..., 2]
    # z^2 over a thickness T, seen at an angle a: z^2 + (T cos a)^2 / 12.
    inner = np.abs(grid.centres_mm()).max(axis=-1) < 15
    expected = z**2 + (5.0 * np.cos(np.deg2rad(tilt))) ** 2 / 12
    assert np.abs(found - expected)[inner].max() < 0.25  # of a mean of nine planes, linear between voxels of 1 mm
    assert np.abs(found - z**2)[inner].min() > 1.5


@pytest.mark.parametrize("slice_mm", [1.0, 4.0])
@pytest.mark.parametrize("kernel", ["soft", "sharp"])
def test_noise_is_as_stated(kernel, slice_mm):
    water = Volume(np.full((60, 60, 60), 40, np.int16), cube(60, 1.0))
    ct = scan(water, Scanner(slice_mm, pixel_mm=0.5, kernel=kernel), np.random.default_rng(1))
    inner = ct.data[25:-25, 25:-25, 6:-6].astype(np.float64) if slice_mm < 2 else ct.data[25:-25, 25:-25, 3:-3]
    assert inner.mean() == pytest.approx(40, abs=2.0)
    assert inner.std() == pytest.approx(KERNELS[kernel].noise_hu / np.sqrt(slice_mm), rel=0.05)


@pytest.mark.parametrize("kernel", ["soft", "sharp"])
def test_a_line_is_as_wide_as_the_kernel_shows_it(monkeypatch, kernel):
    quiet(monkeypatch)
    monkeypatch.setitem(module.KERNELS, kernel, replace(module.KERNELS[kernel], overshoot=0.0))
    grid = Grid((120, 24, 24), np.diag([0.2, 1.0, 1.0, 1.0]))
    data = np.full(grid.shape, AIR, np.float32)
    data[60] = 3000.0
    ct = scan(Volume(data, grid), Scanner(1.0, pixel_mm=0.1), np.random.default_rng(0))
    line = ct.data[:, ct.shape[1] // 2, ct.shape[2] // 2].astype(np.float64) - AIR
    x = np.arange(len(line)) * 0.1
    middle = (line * x).sum() / line.sum()
    sd = np.sqrt((line * (x - middle) ** 2).sum() / line.sum())
    # The sheet's own width and what interpolation between voxels of 0.2 mm adds.
    expected = np.sqrt((KERNELS["soft"].fwhm_mm / 2.355) ** 2 + 0.2**2 / 6)
    assert sd == pytest.approx(expected, rel=0.03)


def test_only_the_sharp_kernel_draws_a_rim(monkeypatch):
    quiet(monkeypatch)
    grid = Grid((60, 40, 40), np.diag([0.5, 0.5, 0.5, 1.0]))
    data = np.zeros(grid.shape, np.float32)
    data[30:] = 1000.0
    rims = {}
    for kernel in KERNELS:
        ct = scan(Volume(data, grid), Scanner(1.0, pixel_mm=0.5, kernel=kernel), np.random.default_rng(0))
        line = ct.data[:, ct.shape[1] // 2, ct.shape[2] // 2]
        around = resample(Volume(data, grid), ct.grid, fill=AIR).data[:, ct.shape[1] // 2, ct.shape[2] // 2]
        edge = int(np.flatnonzero(around > 500)[0])
        rims[kernel] = line[edge : edge + 6].max() - 1000
    assert rims["soft"] <= 1
    assert rims["sharp"] == pytest.approx(1000 * KERNELS["sharp"].overshoot, rel=0.25)  # at pixels, not between them


@lru_cache(maxsize=1)
def shell() -> tuple[Volume, Volume]:
    """A skull with a round hole at its left side, and the same without; a cavity in its bone at the right."""
    grid = Grid.isotropic((146, 146, 142), 1.0, (-73.0, -73.0, -72.0))
    at = grid.centres_mm().astype(np.float32)
    radius = np.linalg.norm(at, axis=-1)
    whole = (radius > 60) & (radius < 69)
    whole &= np.linalg.norm(at - [-64.5, 0, 0], axis=-1) > 2.6
    hole = np.linalg.norm(at - [64.5, 0, 0], axis=-1) < 20
    return Volume(whole & ~hole, grid), Volume(whole, grid)


def value_at(volume: Volume, *point_mm: float) -> float:
    return float(volume.data[tuple(np.rint(volume.grid.to_index(point_mm)).astype(int))])


def test_a_head_holds_what_heads_hold():
    skull, whole = shell()
    tissue = tissue_hu(skull, np.random.default_rng(0), whole)
    assert value_at(tissue, 0, 0, 0) == module.BRAIN_HU
    assert value_at(tissue, 63, 0, 0) == module.BRAIN_HU  # in the hole, not air
    assert value_at(tissue, 0, 71, 0) == module.MUSCLE_HU
    assert value_at(tissue, 0, 74.3, 0) == module.FAT_HU
    assert value_at(tissue, 0, 77.5, 0) == module.AIR_HU
    assert value_at(tissue, -64.5, 0, 0) == module.AIR_HU  # a cavity in bone
    bone = np.abs(np.linalg.norm(tissue.grid.centres_mm(), axis=-1) - 64.5)
    there = tissue.data > 200
    assert tissue.data[there & (bone < 1.5)].mean() == pytest.approx(module.SPONGY_HU, rel=0.1)
    assert tissue.data[there & (bone > 3.6)].mean() == pytest.approx(module.CORTEX_HU, rel=0.1)


def test_the_same_chance_gives_the_same_head():
    skull, whole = shell()
    one, other, third = (tissue_hu(skull, np.random.default_rng(n), whole).data for n in (0, 0, 1))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, third)


def test_the_scan_ends_where_the_mask_is_cut_and_not_at_the_vertex():
    skull, whole = shell()
    skull, whole = (one.crop((slice(None), slice(None), slice(42, 142))) for one in (skull, whole))  # -30 to 69 mm
    tissue = tissue_hu(skull, np.random.default_rng(0), whole)
    assert tissue.grid.to_world((0, 0, 0))[2] == pytest.approx(-30)
    assert tissue.grid.to_world((0, 0, tissue.shape[2] - 1))[2] > 72  # the mask's grid ends at 69
    ct = scan(tissue, Scanner(3.0, pixel_mm=1.5), np.random.default_rng(0))
    assert ct.grid.to_world((0, 0, 0))[2] == pytest.approx(-30 - 0.5 + 1.5)
    assert (ct.data[..., 0] > 500).any()
    assert (ct.data[..., -1] < -900).all()
    tilted = scan(tissue, Scanner(3.0, pixel_mm=1.5, tilt_degrees=15.0), np.random.default_rng(0))
    middle = tilted.grid.to_world(((tilted.shape[0] - 1) / 2, (tilted.shape[1] - 1) / 2, 0))
    assert middle[2] == pytest.approx(-30 - 0.5 + 1.5, abs=0.01)
    # The front of the first slice lies below the mask's end, and shows bone all the same.
    assert (tilted.data[:, : tilted.shape[1] // 3, 0] > 500).any()


def test_what_cannot_be_scanned_is_refused():
    with pytest.raises(InputError, match="needs slices and pixels of more than 0 mm and a tilt up to 30 degrees; got"):
        Scanner(0.0)
    with pytest.raises(InputError, match="a tilt up to 30 degrees"):
        Scanner(tilt_degrees=-31.0)
    with pytest.raises(InputError, match="no such kernel: bone; known are soft, sharp"):
        Scanner(kernel="bone")
    empty = Volume(np.zeros((4, 4, 4), bool), Grid.isotropic((4, 4, 4), 1.0))
    with pytest.raises(InputError, match="the mask is empty: there is no head to scan"):
        tissue_hu(empty, np.random.default_rng(0))
    with pytest.raises(GeometryError, match="skull and head must lie on one grid"):
        tissue_hu(empty, np.random.default_rng(0), Volume(np.ones((4, 4, 5), bool), Grid.isotropic((4, 4, 5), 1.0)))
