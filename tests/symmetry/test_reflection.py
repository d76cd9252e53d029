"""Reflection in torch: held against the plain one, and its slopes against differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.strategies import grids, rotations, shapes, spacings

from calvaria.errors import GeometryError
from calvaria.symmetry.plane import Plane, reflect_volume
from calvaria.symmetry.reflection import (
    read_volumes,
    reflect_points,
    reflect_volumes,
    reflection_matrices,
    unit_planes,
)
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

SINGLE_ATOL = 2e-4
"""Values from 0 to 1, read in 32 bits up to 300 mm from the world's origin: places are right to 1e-4 voxels."""

OBLIQUE = Grid(
    (5, 6, 4), np.array([[1.8, 0.3, 0.1, -4.0], [-0.2, 1.5, 0.4, -5.0], [0.1, -0.3, 2.0, -2.0], [0.0, 0.0, 0.0, 1.0]])
)
"""Oblique, sheared and uneven, about the origin."""


def rows(*planes: Plane) -> torch.Tensor:
    """(B, 4) planes."""
    return torch.tensor([[*plane.normal, plane.offset_mm] for plane in planes], dtype=torch.float64)


def middle(grid: Grid) -> np.ndarray:
    return grid.to_world((np.array(grid.shape) - 1) / 2)


def noise(count: int, channels: int, shape: tuple[int, int, int], border: int = 0) -> np.ndarray:
    """(B, C, X, Y, Z) from 0 to 1, and zeros around."""
    values = np.random.default_rng(0).random((count, channels, *shape))
    i, j, k = (slice(border, n - border) for n in shape)
    framed = np.zeros_like(values)
    framed[:, :, i, j, k] = values[:, :, i, j, k]
    return framed


@st.composite
def planes_through(draw: st.DrawFn, grid: Grid) -> Plane:
    """Planes that pass near a grid's middle."""
    normal = draw(rotations())[:, 0]
    return Plane(normal, float(normal @ middle(grid)) + draw(st.floats(-3.0, 3.0)))


@st.composite
def grids_and_planes(draw: st.DrawFn, count: int = 2) -> tuple[Grid, list[Plane]]:
    grid = draw(grids(shapes(3, 8), spacings(0.5, 3.0)))
    return grid, [draw(planes_through(grid)) for _ in range(count)]


# ---- as the plain one does


@given(st.data(), st.integers(0, 10**6))
def test_points_are_reflected_as_by_the_plane(data, seed):
    points = np.random.default_rng(seed).uniform(-300, 300, (2, 7, 3))
    planes = [Plane(data.draw(rotations())[:, 0], data.draw(st.floats(-200, 200))) for _ in range(2)]
    found = reflect_points(torch.from_numpy(points), rows(*planes)).numpy()
    matrices = reflection_matrices(rows(*planes)).numpy()
    for plane, x, y, matrix in zip(planes, points, found, matrices, strict=True):
        np.testing.assert_allclose(y, plane.reflect(x), atol=1e-9)
        np.testing.assert_allclose(matrix, plane.reflection, atol=1e-9)


@given(grids_and_planes())
def test_volumes_are_reflected_as_by_the_plane_on_any_grid(case):
    # With a border of zeros: the plain one holds the outermost values for half a voxel, where this one fades to zero.
    grid, planes = case
    volumes = noise(2, 2, grid.shape, border=1)
    found = reflect_volumes(torch.from_numpy(volumes), grid, rows(*planes)).numpy()
    for item, plane in enumerate(planes):
        for channel in range(2):
            wanted = reflect_volume(Volume(volumes[item, channel], grid), plane).data
            np.testing.assert_allclose(found[item, channel], wanted, atol=1e-5)


@given(grids_and_planes())
def test_without_a_border_they_agree_wherever_the_mirror_image_lies_among_voxels(case):
    grid, planes = case
    volumes = noise(2, 1, grid.shape)
    found = reflect_volumes(torch.from_numpy(volumes), grid, rows(*planes)).numpy()
    for item, plane in enumerate(planes):
        index = grid.to_index(plane.reflect(grid.centres_mm()))
        inside = ((index >= 0) & (index <= np.array(grid.shape) - 1)).all(axis=-1)
        beyond = ((index <= -1) | (index >= np.array(grid.shape))).any(axis=-1)
        wanted = reflect_volume(Volume(volumes[item, 0], grid), plane).data
        np.testing.assert_allclose(found[item, 0][inside], wanted[inside], atol=1e-5)
        assert (np.abs(found[item, 0][beyond]) < 1e-9).all()


@given(grids_and_planes())
def test_in_32_bits_too(case):
    grid, planes = case
    volumes = torch.from_numpy(noise(2, 1, grid.shape, border=1))
    exact = reflect_volumes(volumes, grid, rows(*planes))
    for number in (torch.float32, torch.float64):  # of the planes
        found = reflect_volumes(volumes.float(), grid, rows(*planes).to(number))
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, exact.float(), atol=SINGLE_ATOL, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_about_the_middle_layer_a_volume_is_flipped(axis):
    grid = Grid((4, 5, 6), np.diag([-1.5, 2.0, 0.75, 1.0]))
    volumes = torch.from_numpy(noise(1, 2, grid.shape))
    normal = np.eye(3)[axis]
    planes = rows(Plane(normal, float(normal @ middle(grid))))
    torch.testing.assert_close(reflect_volumes(volumes, grid, planes), volumes.flip(2 + axis), atol=1e-12, rtol=0)


@given(grids_and_planes(3))
@settings(max_examples=20)
def test_a_batch_gives_what_each_alone_gives(case):
    grid, planes = case
    volumes, batch = torch.from_numpy(noise(3, 2, grid.shape)), rows(*planes)
    points = torch.from_numpy(middle(grid) + np.random.default_rng(1).uniform(-4, 4, (3, 9, 3)))
    reflected, read = reflect_volumes(volumes, grid, batch), read_volumes(volumes, grid, points)
    for item in range(3):
        one = slice(item, item + 1)
        torch.testing.assert_close(reflect_volumes(volumes[one], grid, batch[one]), reflected[one], atol=1e-12, rtol=0)
        torch.testing.assert_close(read_volumes(volumes[one], grid, points[one]), read[one], atol=1e-12, rtol=0)
        torch.testing.assert_close(reflect_points(points[one], batch[one]), reflect_points(points, batch)[one])


@given(grids_and_planes())
@settings(max_examples=20)
def test_values_at_the_mirror_images_of_all_centres_are_the_reflected_volume(case):
    grid, planes = case
    volumes = torch.from_numpy(noise(2, 2, grid.shape))
    centres = torch.from_numpy(grid.centres_mm().reshape(1, -1, 3)).expand(2, -1, -1)
    found = read_volumes(volumes, grid, reflect_points(centres, rows(*planes)))
    torch.testing.assert_close(found, reflect_volumes(volumes, grid, rows(*planes)).flatten(2), atol=1e-9, rtol=0)
    torch.testing.assert_close(read_volumes(volumes, grid, centres), volumes.flatten(2), atol=1e-9, rtol=0)


@given(grids(shapes(3, 7)), st.integers(0, 10**6))
def test_a_linear_field_is_read_exactly_and_air_is_zero(grid, seed):
    slope = np.array([0.03, -0.02, 0.01])
    field = torch.from_numpy((grid.centres_mm() - middle(grid)) @ slope)
    index = np.random.default_rng(seed).uniform(-3, np.array(grid.shape) + 2, (40, 3))
    points = grid.to_world(index)
    found = read_volumes(field[None, None], grid, torch.from_numpy(points)[None])[0, 0].numpy()
    inside = ((index >= 0) & (index <= np.array(grid.shape) - 1)).all(axis=-1)
    beyond = ((index <= -1) | (index >= np.array(grid.shape))).any(axis=-1)
    np.testing.assert_allclose(found[inside], ((points - middle(grid)) @ slope)[inside], atol=1e-9)
    assert (np.abs(found[beyond]) < 1e-9).all()


def test_between_the_last_centre_and_air_values_fade():
    grid = Grid.isotropic((3, 3, 3), 2.0)
    points = torch.tensor([[[4.0, 2.0, 2.0], [4.5, 2.0, 2.0], [5.0, 2.0, 2.0], [6.0, 2.0, 2.0]]], dtype=torch.float64)
    found = read_volumes(torch.ones((1, 1, 3, 3, 3), dtype=torch.float64), grid, points)
    torch.testing.assert_close(found[0, 0], torch.tensor([1.0, 0.75, 0.5, 0.0], dtype=torch.float64))


# ---- its own inverse


@given(st.data(), st.integers(0, 10**6))
def test_twice_is_nothing_for_points(data, seed):
    points = torch.from_numpy(np.random.default_rng(seed).uniform(-300, 300, (1, 5, 3)))
    planes = rows(Plane(data.draw(rotations())[:, 0], data.draw(st.floats(-200, 200))))
    torch.testing.assert_close(reflect_points(reflect_points(points, planes), planes), points, atol=1e-9, rtol=0)
    matrices = reflection_matrices(planes)
    torch.testing.assert_close(matrices @ matrices, torch.eye(4, dtype=torch.float64)[None], atol=1e-9, rtol=0)


def test_empty_batches_stay_empty():
    none = torch.zeros((0, 4))
    assert unit_planes(none).shape == (0, 4)
    assert reflection_matrices(none).shape == (0, 4, 4)
    assert reflect_points(torch.zeros((2, 0, 3)), torch.tensor([[1.0, 0, 0, 0]] * 2)).shape == (2, 0, 3)


# ---- unit planes


@given(st.data(), st.floats(1e-3, 1e3))
def test_the_points_of_a_plane_stay_when_its_normal_is_made_a_unit(data, length):
    plane = Plane(data.draw(rotations())[:, 0], data.draw(st.floats(-200, 200)))
    torch.testing.assert_close(unit_planes(length * rows(plane)), rows(plane), atol=1e-9, rtol=1e-12)


@pytest.mark.parametrize(
    ("planes", "message"),
    [
        (torch.ones(4), r"planes are \(B, 4\) floating-point values, normal and offset; got \(4,\)"),
        (torch.ones(2, 3), r"planes are \(B, 4\) .* got \(2, 3\)"),
        (torch.ones(2, 4, dtype=torch.long), r"planes are \(B, 4\) floating"),
        (torch.tensor([[1.0, 0, 0, 5], [0, 0, 0, 5]]), "a normal that is not zero, and finite numbers"),
        (torch.tensor([[1.0, torch.nan, 0, 5]]), "a normal that is not zero, and finite numbers"),
        (torch.tensor([[1.0, 0, 0, torch.inf]]), "a normal that is not zero, and finite numbers"),
    ],
)
def test_planes_that_are_none_are_refused(planes, message):
    with pytest.raises(GeometryError, match=message):
        unit_planes(planes)


# ---- slopes


def wanting(seed: int, *shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    """Numbers in 64 bits that want a slope."""
    values = np.random.default_rng(seed).uniform(low, high, shape)
    return torch.from_numpy(values).requires_grad_()


def slanting(seed: int) -> torch.Tensor:
    """(2, 4) planes near x = 0 whose normals are no unit vectors yet."""
    near = torch.tensor([1.0, 0.2, -0.1, 0.3], dtype=torch.float64)
    return (near + 0.3 * wanting(seed, 2, 4, low=-1).detach()).requires_grad_()


def test_slopes_of_unit_planes_and_matrices():
    assert torch.autograd.gradcheck(unit_planes, (slanting(0),))
    assert torch.autograd.gradcheck(lambda planes: reflection_matrices(unit_planes(planes)), (slanting(1),))


def test_slopes_of_reflected_points():
    points = wanting(0, 2, 4, 3, low=-20, high=20)
    assert torch.autograd.gradcheck(lambda x, planes: reflect_points(x, unit_planes(planes)), (points, slanting(2)))


def test_slopes_of_reflected_volumes():
    volumes = wanting(1, 2, 1, *OBLIQUE.shape)
    assert torch.autograd.gradcheck(
        lambda v, planes: reflect_volumes(v, OBLIQUE, unit_planes(planes)), (volumes, slanting(3))
    )


def test_slopes_of_values_that_are_read():
    volumes, points = wanting(2, 2, 2, *OBLIQUE.shape), wanting(3, 2, 6, 3, low=-4, high=4)
    assert torch.autograd.gradcheck(lambda v, x: read_volumes(v, OBLIQUE, x), (volumes, points))


def test_slopes_are_there_after_a_first_call_that_wanted_none():
    grid, volumes, planes = Grid.isotropic((2, 3, 7), 1.0), wanting(4, 2, 1, 2, 3, 7), slanting(5)
    with torch.inference_mode():
        reflect_volumes(volumes, grid, planes)
    reflect_volumes(volumes, grid, planes).sum().backward()
    assert planes.grad is not None
    assert planes.grad.abs().max() > 0


# ---- errors


def test_volumes_and_planes_that_do_not_fit_are_refused():
    grid, planes = Grid.isotropic((4, 5, 6), 1.0), torch.tensor([[1.0, 0, 0, 2]])
    wrong = r"floating volumes \(B, C, 4, 5, 6\) are wanted; got "
    with pytest.raises(GeometryError, match=wrong + r"\(4, 5, 6\)"):
        reflect_volumes(torch.zeros(4, 5, 6), grid, planes)
    with pytest.raises(GeometryError, match=wrong + r"\(1, 1, 6, 5, 4\)"):
        reflect_volumes(torch.zeros(1, 1, 6, 5, 4), grid, planes)
    with pytest.raises(GeometryError, match=wrong):
        reflect_volumes(torch.zeros((1, 1, 4, 5, 6), dtype=torch.bool), grid, planes)
    with pytest.raises(GeometryError, match=r"one plane \(4 values\) a volume is wanted; got \(1, 4\) for 2"):
        reflect_volumes(torch.zeros(2, 1, 4, 5, 6), grid, planes)
    with pytest.raises(GeometryError, match=r"one plane \(4 values\) a volume is wanted; got \(1, 3\) for 1"):
        reflect_volumes(torch.zeros(1, 1, 4, 5, 6), grid, planes[:, :3])
    with pytest.raises(GeometryError, match=wrong + r"\(1, 1, 6, 5, 4\)"):
        read_volumes(torch.zeros(1, 1, 6, 5, 4), grid, torch.zeros(1, 2, 3))


# ---- on a graphics card


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_gives_the_same() -> None:
    volumes, planes = torch.from_numpy(noise(2, 2, OBLIQUE.shape)).float(), unit_planes(slanting(6).detach().float())
    points = torch.from_numpy(np.random.default_rng(2).uniform(-4, 4, (2, 50, 3))).float()
    there = reflect_volumes(volumes.cuda(), OBLIQUE, planes.cuda())
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), reflect_volumes(volumes, OBLIQUE, planes), atol=1e-5, rtol=0)
    read = read_volumes(volumes.cuda(), OBLIQUE, reflect_points(points.cuda(), planes.cuda()))
    wanted = read_volumes(volumes, OBLIQUE, reflect_points(points, planes))
    torch.testing.assert_close(read.cpu(), wanted, atol=1e-5, rtol=0)
