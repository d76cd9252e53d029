from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import axis_orders, boxes, flips, grids

from calvaria.errors import GeometryError
from calvaria.volume import Grid

EYE = np.eye(4)


def indices(grid: Grid) -> np.ndarray:
    return np.stack(np.indices(grid.shape), axis=-1)


@given(grids())
def test_world_and_index_are_inverse(grid: Grid) -> None:
    index = indices(grid) + 0.25
    np.testing.assert_allclose(grid.to_index(grid.to_world(index)), index, atol=1e-8)


@given(grids())
def test_the_origin_and_the_axes_are_where_the_affine_says(grid: Grid) -> None:
    np.testing.assert_allclose(grid.to_world([0, 0, 0]), grid.affine[:3, 3])
    for axis in range(3):
        step = grid.to_world(np.eye(3)[axis]) - grid.to_world([0, 0, 0])
        assert np.linalg.norm(step) == pytest.approx(grid.spacing_mm[axis])


@given(grids(), axis_orders())
def test_a_point_keeps_its_place_when_axes_are_reordered(grid: Grid, order: tuple[int, int, int]) -> None:
    index = indices(grid)
    other = grid.permute(order)
    assert other.shape == tuple(grid.shape[a] for a in order)
    np.testing.assert_allclose(other.to_world(index[..., order]), grid.to_world(index), atol=1e-9)


@given(grids(), flips())
def test_a_point_keeps_its_place_when_axes_are_flipped(grid: Grid, axes: tuple[int, ...]) -> None:
    there, here = grid.flip(axes).to_world(indices(grid)), grid.to_world(indices(grid))
    np.testing.assert_allclose(there, np.flip(here, axes), atol=1e-9)
    assert grid.flip(axes).flip(axes).same_as(grid)


@given(st.data(), grids())
def test_a_point_keeps_its_place_when_the_grid_is_cropped(data: st.DataObject, grid: Grid) -> None:
    box = data.draw(boxes(grid.shape))
    cropped = grid.crop(box)
    np.testing.assert_allclose(cropped.to_world(indices(cropped)), grid.to_world(indices(grid))[box], atol=1e-9)


@given(grids(), *[st.tuples(*[st.integers(0, 3)] * 3)] * 2)
def test_padding_and_cropping_back_is_nothing(
    grid: Grid, before: tuple[int, int, int], after: tuple[int, int, int]
) -> None:
    padded = grid.pad(before, after)
    i, j, k = (slice(b, b + n) for b, n in zip(before, grid.shape, strict=True))
    assert padded.crop((i, j, k)).same_as(grid, atol_mm=1e-9)
    less, fewer = (tuple(-v for v in width) for width in (before, after))
    assert padded.pad(less, fewer).same_as(grid, atol_mm=1e-9)  # type: ignore[arg-type]


@given(grids(), grids())
def test_a_moved_grid_takes_its_voxels_along(grid: Grid, pose: Grid) -> None:
    moved = grid.moved(pose.affine)
    np.testing.assert_allclose(moved.to_world(indices(grid)), pose.to_world(grid.to_world(indices(grid))), atol=1e-8)


@given(grids())
def test_the_voxel_volume_is_the_determinant_and_never_negative(grid: Grid) -> None:
    a, b, c = grid.affine[:3, :3].T
    assert grid.voxel_volume_mm3 == pytest.approx(abs(float(np.dot(np.cross(a, b), c))))


@given(grids(sheared=False))
def test_rotated_and_flipped_grids_are_orthogonal(grid: Grid) -> None:
    assert grid.is_orthogonal


def test_a_tilted_gantry_is_not_orthogonal() -> None:
    affine = np.eye(4)
    affine[1, 2] = np.tan(np.radians(5.0))
    assert not Grid((2, 2, 2), affine).is_orthogonal


def test_same_as_sees_a_shift_at_the_far_corner() -> None:
    grid = Grid.isotropic((100, 100, 100), 0.5)
    affine = grid.affine.copy()
    affine[0, 0] += 1e-4
    assert not grid.same_as(Grid(grid.shape, affine))
    assert grid.same_as(Grid(grid.shape, affine), atol_mm=0.01)
    assert not grid.same_as(grid.pad((0, 0, 0), (1, 0, 0)))


def test_a_grid_cannot_be_changed_from_outside() -> None:
    affine = np.eye(4)
    grid = Grid((1, 1, 1), affine)
    affine[0, 0] = 7.0
    assert grid.spacing_mm == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 7.0


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((0, 1, 1), EYE, "three axes of at least one voxel; got .0, 1, 1."),
        ((2, 2), EYE, "three axes"),
        ((1.5, 2, 2), EYE, "three axes"),
        ((1, 1, 1), np.eye(3), r"an affine is 4 x 4; got \(3, 3\)"),
        ((1, 1, 1), np.full((4, 4), np.nan), "NaN or infinite"),
        ((1, 1, 1), np.ones((4, 4)), "last row of an affine is 0 0 0 1"),
        ((1, 1, 1), np.diag([1.0, 0.0, 1.0, 1.0]), r"spacing must be positive; got \(1.0, 0.0, 1.0\) mm"),
        ((1, 1, 1), np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "directions are singular"),
    ],
)
def test_an_unusable_grid_says_why(shape: tuple[int, int, int], affine: np.ndarray, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        Grid(shape, affine)


def test_grids_that_must_agree_say_how_they_differ() -> None:
    grid = Grid.isotropic((3, 3, 3), 1.0)
    grid.require_same(Grid.isotropic((3, 3, 3), 1.0))
    with pytest.raises(GeometryError, match=r"patch and truth must lie on one grid; their shapes are \(3, 3, 3\) and"):
        grid.require_same(Grid.isotropic((3, 3, 4), 1.0), "patch and truth")
    with pytest.raises(GeometryError, match=r"their corners are up to 0.5 mm apart"):
        grid.require_same(Grid.isotropic((3, 3, 3), 1.0, (0.5, 0.0, 0.0)))


def test_impossible_changes_of_a_grid_are_refused() -> None:
    grid = Grid.isotropic((3, 3, 3), 1.0)
    whole = slice(0, 3)
    with pytest.raises(GeometryError, match="whole ranges; use coarsen"):
        grid.crop((slice(0, 3, 2), whole, whole))
    with pytest.raises(GeometryError, match=r"at least one voxel; got \(0, 3, 3\)"):
        grid.crop((slice(2, 2), whole, whole))
    with pytest.raises(GeometryError, match=r"at least one voxel; got \(-1, 3, 3\)"):
        grid.pad((-2, 0, 0), (-2, 0, 0))
    with pytest.raises(GeometryError, match="permutation of 0, 1, 2"):
        grid.permute((0, 0, 1))
    for axes in ((-1,), (3,), (0, 0)):
        with pytest.raises(GeometryError, match="axes to flip are different numbers from 0 to 2"):
            grid.flip(axes)
