from __future__ import annotations

import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.strategies import axis_orders, flips, grids, mask_volumes, shapes

from calvaria.errors import InputError
from calvaria.volume import Grid, Volume, distance_to, signed_distance
from calvaria.volume.distance import reach_voxels, reduced_basis, shifted


def brute_force(volume: Volume) -> np.ndarray:
    """Distance of every voxel to every True voxel, the least of them."""
    world = volume.grid.to_world(np.stack(np.indices(volume.shape), axis=-1)).reshape(-1, 3)
    true = world[volume.mask.ravel()]
    if not len(true):
        return np.full(volume.shape, np.inf)
    return np.linalg.norm(world[:, None] - true[None], axis=-1).min(axis=1).reshape(volume.shape)


@pytest.fixture(params=["scipy", "edt"])
def transform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to a distance transform; edt is optional."""
    if request.param == "edt":
        pytest.importorskip("edt")
    else:
        monkeypatch.setitem(sys.modules, "edt", None)
    return str(request.param)


@given(mask_volumes(grids(shape=shapes(1, 6))))
def test_distances_are_those_of_brute_force_on_any_grid(volume: Volume) -> None:
    np.testing.assert_allclose(distance_to(volume), brute_force(volume), rtol=1e-5, atol=1e-5)


@given(mask_volumes(grids(shape=shapes(1, 6))), st.floats(0.2, 5.0))
def test_a_limit_only_cuts(volume: Volume, limit_mm: float) -> None:
    wanted = np.minimum(brute_force(volume), limit_mm)
    np.testing.assert_allclose(distance_to(volume, limit_mm=limit_mm), wanted, rtol=1e-5, atol=1e-5)
    whole = np.clip(signed_distance(volume), -limit_mm, limit_mm)
    np.testing.assert_allclose(signed_distance(volume, limit_mm=limit_mm), whole, rtol=1e-5, atol=1e-5)


@given(st.floats(-80, 80), st.floats(-60, 60), st.tuples(*[st.floats(0.3, 5.0)] * 3))
@settings(max_examples=40)
def test_distances_are_exact_however_far_the_axes_are_tilted(
    a: float, b: float, spacing: tuple[float, float, float]
) -> None:
    axes = np.array([[1, np.tan(np.radians(a)), np.tan(np.radians(b))], [0, 1, 0.4], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = axes / np.linalg.norm(axes, axis=0) * spacing
    mask = np.random.default_rng(3).random((6, 5, 7)) < 0.6
    volume = Volume(mask, Grid(mask.shape, affine))
    np.testing.assert_allclose(distance_to(volume), brute_force(volume), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("transform")
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.4, 0.4, 2.5), (3.0, 0.7, 1.1)])
def test_distances_from_a_slab_are_exact(spacing: tuple[float, float, float]) -> None:
    grid = Grid((20, 15, 12), np.diag([*spacing, 1.0]))
    for axis in range(3):
        mask = np.zeros(grid.shape, bool)
        index = np.indices(grid.shape)[axis]
        mask[(index >= 4) & (index <= 6)] = True
        wanted = np.maximum(np.maximum(4 - index, index - 6), 0) * spacing[axis]
        np.testing.assert_allclose(distance_to(Volume(mask, grid)), wanted, atol=1e-5)


@pytest.mark.usefixtures("transform")
def test_distances_agree_with_the_maurer_transform_of_itk() -> None:
    sitk = pytest.importorskip("SimpleITK")
    rng = np.random.default_rng(11)
    grid = Grid((24, 18, 20), np.diag([0.45, 0.8, 1.7, 1.0]))
    mask = rng.random(grid.shape) < 0.004
    image = sitk.GetImageFromArray(mask.T.astype(np.uint8))
    image.SetSpacing(grid.spacing_mm)
    # On its outside, ITK measures from the boundary voxels' centres.
    itk = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, useImageSpacing=True, squaredDistance=False)).T
    found = distance_to(Volume(np.asfortranarray(mask), grid))
    np.testing.assert_allclose(found[~mask], itk[~mask], rtol=1e-5, atol=1e-4)


@pytest.mark.usefixtures("transform")
def test_signed_distances_of_faces_are_exact_and_vanish_halfway() -> None:
    grid = Grid((40, 8, 8), np.diag([0.5, 1.0, 2.0, 1.0]))
    mask = np.zeros(grid.shape, bool)
    mask[:17] = True
    x = np.arange(40) * 0.5
    wanted = np.broadcast_to((x - 8.25)[:, None, None], grid.shape)
    np.testing.assert_allclose(signed_distance(Volume(mask, grid)), wanted, atol=1e-5)


@given(mask_volumes(grids(shape=shapes(1, 6))))
def test_signed_distances_are_negative_inside_and_those_of_the_complement_negated(volume: Volume) -> None:
    field = signed_distance(volume)
    assert field.dtype == np.float32
    np.testing.assert_array_equal(field < 0, volume.mask)
    np.testing.assert_array_equal(signed_distance(volume.with_data(~volume.mask)), -field)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 0.5)])
def test_signed_distances_of_a_sphere_are_as_good_as_a_mask_allows(spacing: tuple[float, float, float]) -> None:
    grid = Grid((41, 41, 41), np.diag([*spacing, 1.0]))
    world = grid.to_world(np.stack(np.indices(grid.shape), axis=-1))
    truth = np.linalg.norm(world - 20.13 * spacing[0], axis=-1) - 12.2 * spacing[0]
    error = (signed_distance(Volume(truth < 0, grid)) - truth) / spacing[0]
    away = np.abs(truth) / spacing[0]
    assert np.abs(error[away < 8]).max() < 0.6
    assert abs((error * np.sign(truth))[away < 1].mean()) < 0.1
    assert abs((error * np.sign(truth))[away < 8].mean()) < 0.3


@given(mask_volumes(grids(shape=shapes(2, 6))), axis_orders(), flips())
def test_distances_travel_with_the_axes(volume: Volume, order: tuple[int, int, int], axes: tuple[int, ...]) -> None:
    moved = distance_to(volume.permute(order).flip(axes))
    np.testing.assert_allclose(moved, np.flip(distance_to(volume).transpose(order), axes), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("limit_mm", [None, 7.0])
def test_empty_and_full_masks(limit_mm: float | None) -> None:
    most = np.inf if limit_mm is None else limit_mm
    sheared = np.eye(4)
    sheared[0, 1] = 0.5
    for affine in (np.eye(4), sheared):
        grid = Grid((3, 4, 5), affine)
        empty, full = Volume(np.zeros(grid.shape, bool), grid), Volume(np.ones(grid.shape, bool), grid)
        assert (distance_to(empty, limit_mm=limit_mm) == most).all()
        assert (distance_to(full, limit_mm=limit_mm) == 0).all()
        assert (signed_distance(empty, limit_mm=limit_mm) == most).all()
        assert (signed_distance(full, limit_mm=limit_mm) == -most).all()


@given(grids(shape=st.just((1, 1, 1))), st.floats(0.1, 4.0), st.tuples(*[st.integers(-15, 15)] * 3))
def test_voxels_beyond_the_reach_are_beyond_the_radius(grid: Grid, radius_mm: float, offset: tuple[int, ...]) -> None:
    reach = reach_voxels(grid, radius_mm)
    if any(abs(o) > r for o, r in zip(offset, reach, strict=True)):
        assert np.linalg.norm(grid.affine[:3, :3] @ offset) > radius_mm - 1e-9


@given(grids(shape=st.just((1, 1, 1))))
def test_a_reduced_basis_spans_the_same_lattice_with_its_shortest_vectors(grid: Grid) -> None:
    axes = grid.affine[:3, :3]
    basis = reduced_basis(axes)
    assert round(abs(np.linalg.det(basis))) == 1
    shortest = min(np.linalg.norm(axes @ step) for step in product(range(-4, 5), repeat=3) if any(step))
    assert np.linalg.norm(axes @ basis, axis=0).min() == pytest.approx(shortest)


def test_shifting_past_the_end_leaves_nothing() -> None:
    assert not shifted(np.ones((3, 3, 3), bool), (0, -3, 0)).any()
    assert shifted(np.ones((3, 3, 3), bool), (0, -2, 0)).sum() == 9


@pytest.mark.parametrize("limit_mm", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("work", [distance_to, signed_distance])
def test_a_limit_must_be_positive(work: object, limit_mm: float) -> None:
    volume = Volume(np.ones((2, 2, 2), bool), Grid.isotropic((2, 2, 2), 1.0))
    with pytest.raises(InputError, match="a distance limit must be a positive number of mm; got"):
        work(volume, limit_mm=limit_mm)  # type: ignore[operator]


@pytest.mark.parametrize("work", [distance_to, signed_distance])
def test_distances_are_for_masks(work: object) -> None:
    with pytest.raises(InputError, match="a mask is wanted here, the volume holds float64"):
        work(Volume(np.ones((2, 2, 2)), Grid.isotropic((2, 2, 2), 1.0)))  # type: ignore[operator]
