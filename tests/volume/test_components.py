from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from tests.strategies import axis_orders, flips, mask_volumes

from calvaria.errors import InputError
from calvaria.volume import Grid, Volume, fill_holes, label, largest_component

GRID = Grid.isotropic((12, 12, 12), 2.0)


def cube(*ranges: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(GRID.shape, bool)
    mask[tuple(slice(*r) for r in ranges)] = True
    return mask


@given(mask_volumes(), st.sampled_from([6, 26]))
def test_voxels_share_a_number_just_when_neighbours_join_them(volume: Volume, connectivity: int) -> None:
    labels, count = label(volume.mask, connectivity=connectivity)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels > 0, volume.mask)
    assert set(np.unique(labels)) - {0} == set(range(1, count + 1))
    structure = ndimage.generate_binary_structure(3, 1 if connectivity == 6 else 3)
    for number in range(1, count + 1):
        part = labels == number
        assert not (ndimage.binary_dilation(part, structure) & volume.mask & ~part).any()
        seed = np.zeros_like(part)
        seed[tuple(np.argwhere(part)[0])] = True
        np.testing.assert_array_equal(ndimage.binary_propagation(seed, structure, part), part)


def test_corners_join_at_26_and_not_at_6() -> None:
    mask = cube((0, 2), (0, 2), (0, 2)) | cube((2, 4), (2, 4), (2, 4))
    assert label(mask)[1] == 1
    assert label(mask, connectivity=6)[1] == 2


def test_the_largest_component_is_kept_and_the_first_of_equals() -> None:
    small, large = cube((0, 2), (0, 2), (0, 2)), cube((5, 9), (5, 9), (5, 9))
    np.testing.assert_array_equal(largest_component(Volume(small | large, GRID)).data, large)
    twin = cube((5, 7), (5, 7), (5, 7))
    np.testing.assert_array_equal(largest_component(Volume(twin | small, GRID)).data, small)
    touching = cube((2, 4), (2, 4), (2, 4))
    assert largest_component(Volume(small | touching, GRID), connectivity=6).data.sum() == 8


def test_a_cavity_is_filled_and_what_opens_outside_is_not() -> None:
    shell = cube((2, 9), (2, 9), (2, 9)) & ~cube((4, 7), (4, 7), (4, 7))
    np.testing.assert_array_equal(fill_holes(Volume(shell, GRID)).data, cube((2, 9), (2, 9), (2, 9)))
    tunnel = shell & ~cube((5, 6), (5, 6), (0, 6))
    np.testing.assert_array_equal(fill_holes(Volume(tunnel, GRID)).data, tunnel)
    by_corner = shell & ~cube((3, 4), (3, 4), (3, 4)) & ~cube((2, 3), (2, 3), (2, 3))
    filled = fill_holes(Volume(by_corner, GRID)).data
    assert filled[5, 5, 5] and not filled[2, 2, 2]
    at_the_end = cube((0, 3), (0, 3), (0, 3)) & ~cube((0, 2), (1, 2), (1, 2))
    np.testing.assert_array_equal(fill_holes(Volume(at_the_end, GRID)).data, at_the_end)


@given(mask_volumes())
def test_filling_is_what_scipy_fills(volume: Volume) -> None:
    np.testing.assert_array_equal(fill_holes(volume).data, ndimage.binary_fill_holes(volume.mask))


@given(mask_volumes(), axis_orders(), flips())
def test_components_travel_with_the_axes(volume: Volume, order: tuple[int, int, int], axes: tuple[int, ...]) -> None:
    moved, there = fill_holes(volume.permute(order).flip(axes)), fill_holes(volume).permute(order).flip(axes)
    np.testing.assert_array_equal(moved.data, there.data)


def test_empty_stays_empty_and_full_stays_full() -> None:
    empty, full = Volume(np.zeros(GRID.shape, bool), GRID), Volume(np.ones(GRID.shape, bool), GRID)
    assert label(empty.mask)[1] == 0
    for work in (fill_holes, largest_component):
        assert not work(empty).data.any()
        assert work(full).data.all()


def test_what_has_no_components_says_so() -> None:
    empty, image = Volume(np.zeros(GRID.shape, bool), GRID), Volume(np.zeros(GRID.shape), GRID)
    with pytest.raises(InputError, match="the connectivity of voxels is 6 or 26; got 18"):
        largest_component(empty, connectivity=18)
    with pytest.raises(InputError, match="a mask is wanted here; got float64"):
        label(image.data)
    for work in (fill_holes, largest_component):
        with pytest.raises(InputError, match="a mask is wanted here"):
            work(image)
