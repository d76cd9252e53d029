from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.strategies import grids, mask_volumes, shapes, spacings

from calvaria.errors import InputError
from calvaria.volume import Grid, Volume, ball_offsets, dilate_mm, erode_mm, morphology

Work = Callable[[Volume, float], Volume]
WORKS = [dilate_mm, erode_mm]
small_masks = mask_volumes(grids(shape=shapes(1, 8), spacing=spacings(0.5, 2.0)))
radii = st.floats(0.0, 4.0).map(lambda v: round(v, 2))


def dilated_by_brute_force(volume: Volume, radius_mm: float) -> np.ndarray:
    world = volume.grid.to_world(np.stack(np.indices(volume.shape), axis=-1)).reshape(-1, 3)
    true = world[volume.mask.ravel()]
    apart = np.linalg.norm(world[:, None] - true[None], axis=-1)
    return (apart <= radius_mm + morphology.RADIUS_ATOL_MM).any(axis=1).reshape(volume.shape)


@pytest.mark.parametrize("most_lines", [0, 10**9])
@settings(max_examples=40)
@given(volume=small_masks, radius_mm=radii)
def test_dilation_is_what_brute_force_says_by_lines_and_by_distances(
    most_lines: int, volume: Volume, radius_mm: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(morphology, "MAX_LINES", most_lines)
        found = dilate_mm(volume, radius_mm)
        eroded = erode_mm(volume, radius_mm)
    np.testing.assert_array_equal(found.data, dilated_by_brute_force(volume, radius_mm))
    complement = dilated_by_brute_force(volume.with_data(~volume.mask), radius_mm)
    np.testing.assert_array_equal(eroded.data, ~complement)
    assert found.grid is volume.grid


@pytest.mark.parametrize("work", WORKS)
def test_empty_stays_empty_full_stays_full_and_radius_0_changes_nothing(work: Work) -> None:
    grid = Grid((5, 6, 7), np.diag([0.5, 1.0, 2.0, 1.0]))
    assert not work(Volume(np.zeros(grid.shape, bool), grid), 3.0).data.any()
    assert work(Volume(np.ones(grid.shape, bool), grid), 3.0).data.all()
    noise = Volume(np.random.default_rng(2).random(grid.shape) < 0.5, grid)
    np.testing.assert_array_equal(work(noise, 0.0).data, noise.data)


def test_a_sphere_grows_and_shrinks_by_the_radius_whatever_the_spacing() -> None:
    grid = Grid((90, 60, 30), np.diag([0.5, 0.75, 1.5, 1.0]))
    away = np.linalg.norm(grid.to_world(np.stack(np.indices(grid.shape), axis=-1)) - 22.0, axis=-1)
    sphere = Volume(away <= 12.0, grid)
    for work, radius in ((dilate_mm, 15.0), (erode_mm, 9.0)):
        wanted = 4 / 3 * np.pi * radius**3 / 1000
        assert work(sphere, 3.0).volume_ml == pytest.approx(wanted, rel=0.06)


def test_nothing_is_eroded_just_because_the_array_ends() -> None:
    grid = Grid.isotropic((6, 6, 6), 1.0)
    half = np.zeros(grid.shape, bool)
    half[:4] = True
    eroded = erode_mm(Volume(half, grid), 1.0).data
    assert eroded[:3].all() and not eroded[3:].any()


@given(grids(shape=st.just((1, 1, 1))), radii)
def test_a_ball_is_symmetric_holds_its_centre_and_only_what_is_near(grid: Grid, radius_mm: float) -> None:
    offsets = ball_offsets(grid, radius_mm)
    assert offsets.dtype == np.int64
    as_set = {tuple(o) for o in offsets.tolist()}
    assert (0, 0, 0) in as_set and len(as_set) == len(offsets)
    assert as_set == {tuple(-o) for o in offsets}
    assert np.linalg.norm(offsets @ grid.affine[:3, :3].T, axis=1).max() <= radius_mm + morphology.RADIUS_ATOL_MM


def test_a_large_ball_has_the_volume_of_a_ball() -> None:
    grid = Grid((1, 1, 1), np.array([[0.5, 0.2, 0, 0], [0, 0.6, 0.1, 0], [0, 0, 0.7, 0], [0, 0, 0, 1]]))
    volume = len(ball_offsets(grid, 8.0)) * grid.voxel_volume_mm3
    assert volume == pytest.approx(4 / 3 * np.pi * 8.0**3, rel=0.01)


@pytest.mark.parametrize("work", [*WORKS, lambda volume, radius: ball_offsets(volume.grid, radius)])
@pytest.mark.parametrize("radius_mm", [-0.1, np.nan, np.inf])
def test_a_radius_is_0_or_more(work: Work, radius_mm: float) -> None:
    volume = Volume(np.ones((2, 2, 2), bool), Grid.isotropic((2, 2, 2), 1.0))
    with pytest.raises(InputError, match="a radius must be 0 mm or more; got"):
        work(volume, radius_mm)


@pytest.mark.parametrize("work", WORKS)
def test_morphology_is_for_masks(work: Work) -> None:
    with pytest.raises(InputError, match="a mask is wanted here"):
        work(Volume(np.ones((2, 2, 2)), Grid.isotropic((2, 2, 2), 1.0)), 1.0)
