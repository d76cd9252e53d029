"""Gaussian curvature of shapes whose curvature is known."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from tests.strategies import rotations, shapes, spacings

from calvaria.errors import GeometryError
from calvaria.metrics.curvature import blurred, gaussian_curvature, gradient_at
from calvaria.metrics.surface import surface_voxels
from calvaria.volume import Grid, Volume


def grid(half_mm: float, spacing=(0.8, 0.8, 0.8), turn=None) -> Grid:
    """A grid about the origin, each axis turned."""
    shape = tuple(int(2 * half_mm / s) + 1 for s in spacing)
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ np.diag(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def outside(mask: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Surface voxels off the array's edge, and where they are in mm."""
    voxels = surface_voxels(mask.mask)
    inner = ((voxels > 12) & (voxels < np.array(mask.shape) - 13)).all(axis=1)
    return voxels[inner], mask.grid.to_world(voxels[inner])


PAPER_SPACING_MM = 0.4
"""Voxels of the paper, in whose units its figures are: per voxel^2 is per mm^2 times this squared."""


def ball(radius: float, thickness: float | None = None, **kind) -> Volume:
    where = grid(radius + 12, **kind)
    far = np.linalg.norm(where.centres_mm(), axis=-1)
    inner = 0.0 if thickness is None else radius - thickness
    return Volume((far < radius) & (far >= inner), where)


def test_the_papers_ball_of_40_voxels():
    mask = ball(40 * PAPER_SPACING_MM, spacing=(PAPER_SPACING_MM,) * 3)
    voxels, points = outside(mask)
    per_voxel = gaussian_curvature(blurred(mask), voxels) * PAPER_SPACING_MM**2
    assert np.median(per_voxel) == pytest.approx(1 / 40**2, rel=0.03)
    # The level surface through a voxel's centre has the voxel's own radius.
    radius = np.linalg.norm(points, axis=1) / PAPER_SPACING_MM
    assert np.median(per_voxel * radius**2) == pytest.approx(1, abs=0.01)


@settings(max_examples=8)
@given(rotations(), st.tuples(*[st.floats(0.4, 0.7)] * 3), st.floats(16, 20))
def test_a_ball_and_a_shell_have_one_over_r_squared_on_any_grid(turn, spacing, radius):
    for thickness in (None, 7.0):
        mask = ball(radius, thickness, spacing=spacing, turn=turn)
        voxels, points = outside(mask)
        far = np.linalg.norm(points, axis=1)
        outer = far > radius - 3
        found = gaussian_curvature(blurred(mask), voxels[outer])
        assert np.median(found * far[outer] ** 2) == pytest.approx(1, abs=0.04)


def test_planes_and_cylinders_are_flat():
    where = grid(30)
    x, y, z = np.moveaxis(where.centres_mm(), -1, 0)
    for mask in (x + 0.4 * y + 0.3 * z < 0, np.hypot(x, y) < 18):
        shape = Volume(mask, where)
        found = gaussian_curvature(blurred(shape), outside(shape)[0])
        assert abs(np.median(found)) < 2e-5
        assert np.abs(np.percentile(found, [10, 90])).max() < 4e-4  # steps of the voxels, 1 / (50 mm)^2


def test_an_ellipsoid_point_by_point():
    axes = np.array([30.0, 24.0, 20.0])
    where = grid(36, (0.4, 0.4, 0.4))
    mask = Volume(((where.centres_mm() / axes) ** 2).sum(axis=-1) < 1, where)
    voxels, points = outside(mask)
    wanted = 1 / (np.prod(axes**2) * ((points / axes**2) ** 2).sum(axis=1) ** 2)
    found = gaussian_curvature(blurred(mask), voxels)
    assert np.corrcoef(found, wanted)[0, 1] > 0.97
    assert np.median(found / wanted) == pytest.approx(1, abs=0.05)


def test_a_saddle_is_negative():
    where = grid(30)
    x, y, z = np.moveaxis(where.centres_mm(), -1, 0)
    bend = 25.0
    mask = Volume(z < (x**2 - y**2) / (2 * bend), where)
    voxels, points = outside(mask)
    middle = np.abs(points).max(axis=1) < 6
    assert np.median(gaussian_curvature(blurred(mask), voxels[middle])) == pytest.approx(-1 / bend**2, rel=0.15)


@settings(max_examples=10)
@given(rotations(), st.tuples(*[st.floats(0.4, 1.5)] * 3))
def test_the_gradient_is_in_mm_and_world_axes(turn, spacing):
    where = grid(8, spacing, turn)
    slope = np.array([0.3, -0.2, 0.5])
    ramp = Volume((where.centres_mm() @ slope).astype(np.float32), where)
    inner = np.argwhere(np.ones(where.shape, bool))[::7]
    inner = inner[((inner > 0) & (inner < np.array(where.shape) - 1)).all(axis=1)]
    np.testing.assert_allclose(gradient_at(ramp, inner), np.tile(slope, (len(inner), 1)), atol=1e-4)


def test_flat_places_and_the_arrays_edge_give_numbers():
    mask = Volume(np.ones((6, 6, 6), bool), grid(2.4))
    found = gaussian_curvature(blurred(mask), np.argwhere(mask.mask))
    assert np.isfinite(found).all()
    assert gaussian_curvature(blurred(mask), np.zeros((0, 3), int)).shape == (0,)


def test_a_sheared_grid_is_refused():
    affine = np.eye(4)
    affine[0, 1] = 0.3
    with pytest.raises(GeometryError, match="right angles"):
        blurred(Volume(np.ones((4, 4, 4), bool), Grid((4, 4, 4), affine)))


@settings(max_examples=20)
@given(st.integers(0, 10**6), shapes(4, 40), spacings(0.3, 3.0), st.integers(1, 6))
def test_the_field_at_a_few_voxels_is_that_of_the_whole_and_scipys(seed, shape, spacing, count):
    rng = np.random.default_rng(seed)
    mask = Volume(rng.random(shape) > 0.5, Grid(shape, np.diag([*spacing, 1.0])))
    voxels = np.stack([rng.integers(0, n, count) for n in shape], axis=1)
    whole, part = blurred(mask), blurred(mask, at=voxels)
    sigma = [2.0 / s for s in spacing]
    plain = ndimage.gaussian_filter(mask.mask.astype(float), sigma, mode="nearest", truncate=4.0)
    np.testing.assert_allclose(whole.data, plain, atol=2e-6)
    for step in product((-1, 0, 1), repeat=3):  # derivatives look at the neighbours
        near = tuple(np.clip(voxels + step, 0, np.array(shape) - 1).T)
        np.testing.assert_allclose(part.data[near], plain[near], atol=2e-6)


def test_voxels_far_apart_do_not_cost_what_lies_between():
    mask = np.zeros((300, 20, 20), bool)
    mask[5:10, 5:10, 5:10] = mask[290:295, 5:10, 5:10] = True
    volume = Volume(mask, Grid.isotropic(mask.shape, 1.0))
    field = blurred(volume, at=np.argwhere(mask)).data
    assert field[7, 7, 7] > 0.1
    assert not field[100:200].any()


def test_where_the_field_is_flat_the_curvature_has_a_bound():
    # In the middle of a corner between eight blocks, every other one of bone, there is no slope but a curve.
    signs = np.sign(np.arange(41) - 20)
    mask = (signs[:, None, None] * signs[:, None] * signs) > 0
    volume = Volume(mask, Grid.isotropic(mask.shape, 0.8))
    found = gaussian_curvature(blurred(volume), np.array([[20, 20, 20], [21, 20, 20], [21, 21, 21]]))
    assert np.abs(found).max() < 1.0
