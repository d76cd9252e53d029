from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import axis_orders, boxes, flips, grids, mask_volumes

from calvaria.errors import GeometryError, InputError
from calvaria.volume import Grid, Volume, bounding_box


def places(grid: Grid) -> Volume:
    """An image whose values tell where each voxel lies: its world x + 1000 y + 1e6 z."""
    world = grid.to_world(np.stack(np.indices(grid.shape), axis=-1))
    return Volume(world @ [1.0, 1e3, 1e6], grid)


@given(st.data(), grids(), axis_orders(), flips())
def test_values_travel_with_their_places(
    data: st.DataObject, grid: Grid, order: tuple[int, int, int], axes: tuple[int, ...]
) -> None:
    box = data.draw(boxes(grid.shape))
    changed = places(grid).permute(order).flip(axes).permute((2, 0, 1))
    np.testing.assert_allclose(changed.data, places(changed.grid).data, atol=1e-2)
    cropped = places(grid).crop(box)
    np.testing.assert_allclose(cropped.data, places(cropped.grid).data, atol=1e-2)


@given(mask_volumes(), *[st.tuples(*[st.integers(0, 3)] * 3)] * 2)
def test_padding_adds_the_value_asked_for_and_negative_padding_takes_it_away(
    volume: Volume, before: tuple[int, int, int], after: tuple[int, int, int]
) -> None:
    padded = volume.pad(before, after, True)
    added = padded.grid.size - volume.grid.size
    assert padded.data.sum() == volume.data.sum() + added
    i, j, k = (tuple(-v for v in ends) for ends in zip(before, after, strict=True))
    back = padded.pad((i[0], j[0], k[0]), (i[1], j[1], k[1]))
    np.testing.assert_array_equal(back.data, volume.data)
    assert back.grid.same_as(volume.grid)


def test_padding_away_everything_is_refused() -> None:
    volume = Volume(np.ones((3, 3, 3), bool), Grid.isotropic((3, 3, 3), 1.0))
    with pytest.raises(GeometryError, match="at least one voxel"):
        volume.pad((-2, 0, 0), (-1, 0, 0))


def test_views_share_the_data() -> None:
    volume = places(Grid.isotropic((3, 4, 5), 1.0))
    part = volume.crop((slice(1, 3), slice(0, 2), slice(0, 5))).permute((1, 0, 2)).flip((0, 2))
    assert np.shares_memory(part.data, volume.data)


def test_volume_in_ml() -> None:
    grid = Grid((10, 10, 10), np.diag([-0.5, 2.0, 1.0, 1.0]))
    assert Volume(np.ones(grid.shape, bool), grid).volume_ml == pytest.approx(1.0)
    assert Volume(np.zeros(grid.shape, bool), grid).volume_ml == 0.0


def test_an_image_is_no_mask() -> None:
    volume = Volume(np.ones((2, 2, 2), np.uint8), Grid.isotropic((2, 2, 2), 1.0))
    assert not volume.is_mask
    with pytest.raises(InputError, match="a mask is wanted here, the volume holds uint8; threshold it first"):
        _ = volume.mask
    assert volume.with_data(volume.data > 0).mask.all()


@pytest.mark.parametrize("data", [np.ones((2, 2, 3)), np.ones((2, 2)), [[[1.0]]], None])
def test_data_of_another_shape_are_refused(data: object) -> None:
    with pytest.raises(GeometryError, match=r"the grid's shape \(2, 2, 2\); got"):
        Volume(data, Grid.isotropic((2, 2, 2), 1.0))  # type: ignore[arg-type]


@given(mask_volumes(), st.tuples(*[st.integers(0, 2)] * 3))
def test_the_bounding_box_is_the_smallest(volume: Volume, margin: tuple[int, int, int]) -> None:
    box = bounding_box(volume.mask, margin)
    where = np.argwhere(volume.mask)
    if box is None:
        assert len(where) == 0
        return
    for axis, part in enumerate(box):
        assert part.start == max(where[:, axis].min() - margin[axis], 0)
        assert part.stop == min(where[:, axis].max() + 1 + margin[axis], volume.shape[axis])
