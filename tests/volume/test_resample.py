from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.strategies import axis_orders, flips, grids, mask_volumes, rotations, shapes, spacings

from calvaria.errors import InputError
from calvaria.volume import Grid, Volume, resample, resample_mask, resample_soft

RNG = np.random.default_rng(7)


def centres(grid: Grid) -> np.ndarray:
    return grid.to_world(np.stack(np.indices(grid.shape), axis=-1))


def linear(grid: Grid) -> np.ndarray:
    return (centres(grid) @ [0.3, -0.2, 0.5] + 4.0).astype(np.float32)


@st.composite
def grids_inside(draw: st.DrawFn, outer: Grid) -> Grid:
    """Grids of any kind whose voxel centres lie among those of ``outer``."""
    inner = draw(grids(shape=shapes(2, 6)))
    corners = inner.to_world(np.zeros(3)) + (inner.corners_mm() - inner.to_world(np.zeros(3)))
    at = outer.to_index(corners)
    size = (at.max(axis=0) - at.min(axis=0)) / (np.array(outer.shape) - 1)
    affine = inner.affine.copy()
    affine[:3, :3] /= max(size.max() * 1.01, 1.0)
    small = Grid(inner.shape, affine)
    at = outer.to_index(small.corners_mm())
    room = np.array(outer.shape) - 1 - (at.max(axis=0) - at.min(axis=0))
    wanted = room * [draw(st.floats(0.001, 0.999)) for _ in range(3)]
    affine[:3, 3] += outer.affine[:3, :3] @ (wanted - at.min(axis=0))
    return Grid(inner.shape, affine)


@given(st.data(), grids(shape=shapes(4, 8)), st.sampled_from([1, 1, 1, 3]))
def test_a_linear_image_is_read_exactly_on_any_grid_inside(data: st.DataObject, grid: Grid, order: int) -> None:
    # A cubic spline is linear only where its edges' mirror images do not reach: not in arrays as small as these.
    target = data.draw(grids_inside(grid))
    image = np.asfortranarray(linear(grid)) if data.draw(st.booleans()) else linear(grid)
    out = resample(Volume(image, grid), target, order=1)
    assert out.data.dtype == np.float32
    np.testing.assert_allclose(out.data, linear(target), atol=2e-4)
    if order == 3:
        assert np.isfinite(resample(Volume(image, grid), target, order=3).data).all()


@given(grids(shape=shapes(1, 5)), grids(shape=shapes(1, 5)), st.sampled_from([0, 1]))
def test_resampling_agrees_with_a_plain_reading_point_by_point(source: Grid, target: Grid, order: int) -> None:
    affine = target.affine.copy()
    affine[:3, 3] = source.to_world((np.array(source.shape) - 1) / 2) + affine[:3, 3] / 200
    target = Grid(target.shape, affine)
    image = RNG.random(source.shape)
    at = source.to_index(centres(target))
    wanted = np.full(target.shape, -7.0)
    clear = np.ones(target.shape, bool)
    for index in np.ndindex(target.shape):
        point = at[index]
        clear[index] = np.abs(point % 1 - 0.5).min() > 1e-5
        if (point >= -0.5).all() and (point <= np.array(source.shape) - 0.5).all():
            wanted[index] = read(image, np.clip(point, 0, np.array(source.shape) - 1), order)
    out = resample(Volume(image, source), target, order=order, fill=-7.0).data
    np.testing.assert_allclose(out[clear], wanted[clear], atol=1e-5)


def read(image: np.ndarray, point: np.ndarray, order: int) -> float:
    """Nearest or trilinear value at a fractional index, written out."""
    if order == 0:
        return float(image[tuple(np.floor(point + 0.5).astype(int))])
    value = 0.0
    low = np.minimum(np.floor(point).astype(int), np.maximum(np.array(image.shape) - 2, 0))
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod([f if c else 1 - f for f, c in zip(point - low, corner, strict=True)])
        value += weight * image[tuple(np.minimum(low + corner, np.array(image.shape) - 1))]
    return float(value)


@given(mask_volumes(), axis_orders(), flips(), *[st.tuples(*[st.integers(-2, 3)] * 3)] * 2)
def test_grids_whose_voxels_coincide_give_the_same_voxels(
    volume: Volume,
    order: tuple[int, int, int],
    axes: tuple[int, ...],
    before: tuple[int, int, int],
    after: tuple[int, int, int],
) -> None:
    if any(n + b + a < 1 for n, b, a in zip(volume.shape, before, after, strict=True)):
        before = after = (1, 0, 2)
    wanted = volume.pad(before, after).permute(order).flip(axes)
    np.testing.assert_array_equal(resample_mask(volume, wanted.grid).data, wanted.data)
    np.testing.assert_array_equal(resample_soft(volume, wanted.grid).data, wanted.data)
    image = volume.with_data(volume.data * np.int16(300))
    np.testing.assert_array_equal(resample(image, wanted.grid).data, wanted.data * 300)


@given(mask_volumes(grids(shape=shapes(2, 6))), grids())
def test_a_mask_read_on_its_own_grid_written_with_six_digits_is_unchanged(volume: Volume, pose: Grid) -> None:
    rounded = np.array([[float(f"{v:.6g}") for v in row] for row in volume.affine])
    if np.abs(rounded - volume.affine).max() < 1e-3 * min(volume.grid.spacing_mm):
        out = resample_mask(volume, Grid(volume.shape, rounded))
        np.testing.assert_array_equal(out.data, volume.data)


@given(grids(), grids(), st.floats(-2000, 2000))
def test_where_the_grids_do_not_meet_there_is_only_the_fill_value(source: Grid, target: Grid, fill: float) -> None:
    affine = target.affine.copy()
    affine[:3, 3] += 1e4
    away = Grid(target.shape, affine)
    assert (resample(Volume(np.ones(source.shape), source), away, fill=fill).data == np.float32(fill)).all()
    assert not resample_mask(Volume(np.ones(source.shape, bool), source), away).data.any()
    assert not resample_soft(Volume(np.ones(source.shape, bool), source), away).data.any()


@given(grids(), grids())
def test_an_empty_mask_stays_empty(source: Grid, target: Grid) -> None:
    assert not resample_mask(Volume(np.zeros(source.shape, bool), source), target).data.any()
    assert not resample_soft(Volume(np.zeros(source.shape, bool), source), target).data.any()


def ellipsoid(grid: Grid, centre_mm: np.ndarray, radii_mm: tuple[float, float, float]) -> np.ndarray:
    return (((centres(grid) - centre_mm) / radii_mm) ** 2).sum(axis=-1) <= 1


@settings(max_examples=15)
@given(
    rotations(),
    st.sampled_from([(1.0, 1.0, 1.0), (0.7, 0.7, 2.5), (0.6, 0.9, 0.6)]),
    st.sampled_from([(1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (0.6, 0.6, 0.6), (0.8, 0.8, 2.4)]),
    st.booleans(),
)
def test_an_ellipsoid_keeps_shape_and_volume_from_grid_to_grid(
    turn: np.ndarray, source: tuple[float, ...], target: tuple[float, ...], sheared: bool
) -> None:
    centre, radii = np.array([3.0, -5.0, 8.0]), (11.0, 9.0, 8.0)
    fine, coarse = around(centre, np.eye(3), source), around(centre, turn, target, 0.3 if sheared else 0.0)
    mask = Volume(ellipsoid(fine, centre, radii), fine)
    out, truth = resample_mask(mask, coarse), ellipsoid(coarse, centre, radii)
    dice = 2 * (out.data & truth).sum() / (out.data.sum() + truth.sum())
    thick = max(source) > 2
    assert dice > (0.935 if thick else 0.965)
    if max(target) < 1.5:  # wider voxels can miss a shape by more than that, however it is read
        assert out.volume_ml == pytest.approx(mask.volume_ml, rel=0.05 if thick else 0.02)
    soft = resample_soft(mask, coarse)
    assert soft.data.min() >= 0 and soft.data.max() <= 1
    assert soft.data.sum() * coarse.voxel_volume_mm3 / 1000 == pytest.approx(mask.volume_ml, rel=0.015)


def around(centre: np.ndarray, turn: np.ndarray, spacing: tuple[float, ...], shear: float = 0.0) -> Grid:
    """A grid that holds a 26 mm cube about a point."""
    shape = tuple(int(28 / s) + 1 for s in spacing)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[1, 0, 0], [0, 1, shear], [0, 0, 1]]) * spacing
    affine[:3, 3] = centre - affine[:3, :3] @ (np.array(shape) - 1) / 2 + 0.17
    return Grid(shape, affine)  # type: ignore[arg-type]


@pytest.mark.parametrize(("thickness_mm", "found"), [(1.1, True), (0.25, False)])
def test_a_thin_sheet_survives_coarsening_while_it_fills_half_a_voxel(thickness_mm: float, found: bool) -> None:
    fine = Grid.isotropic((40, 40, 40), 0.1)
    mask = np.abs(centres(fine)[..., 0] - 2.0) <= thickness_mm / 2
    coarse = Grid.isotropic((4, 3, 3), 1.0, (0.0, 0.95, 0.95))
    assert resample_mask(Volume(mask, fine), coarse).data.any() == found


def test_without_antialiasing_only_the_nearest_voxels_count() -> None:
    fine = Grid.isotropic((41, 41, 41), 0.1)
    mask = np.zeros(fine.shape, bool)
    mask[19:22] = True
    coarse = Grid.isotropic((5, 3, 3), 1.0, (0.0, 1.0, 1.0))
    out = resample_mask(Volume(mask, fine), coarse, antialias=False)
    assert out.data[2].all() and out.data.sum() == 9
    assert not resample_mask(Volume(mask, fine), coarse).data.any()


def test_a_shift_by_half_a_voxel_keeps_the_volume() -> None:
    grid = Grid.isotropic((20, 20, 20), 1.0)
    mask = np.zeros(grid.shape, bool)
    mask[5:15, 6:12, 4:16] = True
    for shift in np.eye(3) / 2:
        out = resample_mask(Volume(mask, grid), Grid.isotropic((22, 22, 22), 1.0, shift - 1.0))
        assert out.data.sum() == mask.sum()


def test_thick_slices_are_joined_by_shape_not_by_steps() -> None:
    slices, fine = Grid((60, 60, 12), np.diag([0.5, 0.5, 2.5, 1.0])), Grid.isotropic((60, 60, 50), 0.5)
    slanted = [np.abs(centres(grid) @ [0.6, 0.0, 0.8] - 20.0) < 3.0 for grid in (slices, fine)]
    out = resample_mask(Volume(slanted[0], slices), fine)
    inner = (slice(4, -4), slice(4, -4), slice(6, -6))
    a, b = out.data[inner], slanted[1][inner]
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.975


def test_bone_ends_half_a_voxel_outside_the_last_centre() -> None:
    full = Volume(np.ones((4, 4, 4), bool), Grid.isotropic((4, 4, 4), 2.0))
    out = resample_mask(full, Grid.isotropic((16, 16, 16), 0.6, (-1.5, -1.5, -1.5)))
    edge = out.grid.to_world(np.argwhere(out.data))
    np.testing.assert_allclose(edge.min(axis=0), -0.9)
    np.testing.assert_allclose(edge.max(axis=0), 6.9)


@given(spacings(), st.sampled_from(["<i2", ">i2", ">f4", "f2", "u1", "u8", "f8"]))
def test_every_real_dtype_is_read(spacing: tuple[float, float, float], dtype: str) -> None:
    source = Grid((4, 5, 6), np.diag([*spacing, 1.0]))
    image = np.arange(120).reshape(4, 5, 6).astype(dtype)
    target = source.moved(np.array([[1, 0, 0, 0.25 * spacing[0]], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    out = resample(Volume(image, source), target.crop((slice(0, 3), slice(0, 5), slice(0, 6))))
    np.testing.assert_allclose(out.data, image[:3].astype(float) + 0.25 * 30, rtol=1e-6)


def test_what_cannot_be_resampled_says_so() -> None:
    grid = Grid.isotropic((2, 2, 2), 1.0)
    with pytest.raises(InputError, match="an image is wanted here, the volume holds a mask; use resample_mask"):
        resample(Volume(np.ones(grid.shape, bool), grid), grid)
    with pytest.raises(InputError, match="the interpolation order must be 0 to 5; got 6"):
        resample(Volume(np.ones(grid.shape), grid), grid, order=6)
    with pytest.raises(InputError, match="real numbers is wanted here; got complex128"):
        resample(Volume(np.ones(grid.shape, complex), grid), grid)
    for work in (resample_mask, resample_soft):
        with pytest.raises(InputError, match="a mask is wanted here"):
            work(Volume(np.ones(grid.shape), grid), grid)
