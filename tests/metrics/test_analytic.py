"""All metrics on shapes whose figures are known, on uneven and oblique grids."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from tests.strategies import rotations, spacings

from calvaria.metrics import measure
from calvaria.metrics.asymmetry import asymmetry_mm
from calvaria.metrics.border import outer_surface
from calvaria.symmetry.plane import Plane
from calvaria.volume import Grid, Volume

MIDDLE_MM = np.array([7.0, -11.0, 23.0])

STAIRS = math.sqrt(3.0) / 2.0
"""In voxels, half a diagonal: so far a surface of voxels lies from the true one at most. The nearest of its points are
nearer than the true surface, by half a voxel on average."""


def grid_about(half_mm: float, spacing, turn) -> Grid:
    """An oblique grid about MIDDLE_MM."""
    shape = tuple(int(2 * half_mm / s) + 2 for s in spacing)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = MIDDLE_MM - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def ball(grid: Grid, radius: float, centre=(0.0, 0.0, 0.0)) -> Volume:
    return Volume(np.linalg.norm(grid.centres_mm() - MIDDLE_MM - centre, axis=-1) < radius, grid)


def nothing(grid: Grid) -> Volume:
    return Volume(np.zeros(grid.shape, bool), grid)


@settings(max_examples=6)
@given(rotations(), spacings(0.5, 0.9), st.floats(1.8, 3.5))
def test_a_ball_in_a_ball(turn, spacing, gap):
    outer_mm, inner_mm = 14.0, 14.0 - gap
    grid = grid_about(16.0, spacing, turn)
    inner, outer = ball(grid, inner_mm), ball(grid, outer_mm)
    found = measure(inner, outer, nothing(grid))
    voxel = max(spacing)
    # The voxels' own ratio: that of a ball's voxels to its volume varies by 2 % with the grid (Gauss's circle problem).
    ratio = inner.volume_ml / outer.volume_ml
    assert found["dsc"] == pytest.approx(2 * ratio / (1 + ratio), abs=1e-9)
    assert found["volume_error_percent"] == pytest.approx(100 * (ratio - 1), abs=1e-6)
    for name in ("hd_mm", "hd95_mm", "hd95_max_mm", "hd95_area_mm"):
        assert found[name] == pytest.approx(gap, abs=voxel), name
    for name in ("msd_mm", "assd_mm"):
        assert gap - STAIRS * voxel < found[name] < gap + 0.25 * voxel, name
    if gap > 0.5 + 2 * STAIRS * voxel:
        assert found["sdsc_0.5mm"] == 0
    assert math.isnan(found["bdsc"])  # no bone, so neither has a border


@settings(max_examples=6)
@given(rotations(), spacings(0.5, 0.9), st.floats(2.0, 8.0))
def test_two_balls_side_by_side(turn, spacing, apart):
    radius = 10.0
    grid = grid_about(radius + apart / 2 + 2, spacing, turn)
    first, second = (ball(grid, radius, (sign * apart / 2, 0, 0)) for sign in (-1, 1))
    found = measure(first, second, nothing(grid))
    lens = math.pi * (4 * radius + apart) * (2 * radius - apart) ** 2 / 12
    assert found["dsc"] == pytest.approx(lens / (4 / 3 * math.pi * radius**3), abs=0.01)
    assert found["hd_mm"] == pytest.approx(apart, abs=max(spacing))
    # A point of one sphere lies |distance to the other centre - radius| from the other sphere; heights are uniform.
    mean = quad(lambda u: abs(math.sqrt(radius**2 + apart**2 + 2 * radius * apart * u) - radius), -1, 1)[0] / 2
    assert mean - STAIRS * max(spacing) < found["msd_mm"] < mean + 0.25 * max(spacing)
    # Within a tolerance lies the belt of heights where that distance is no more; staircases widen it, as above.
    assert belt(radius, apart, 1.0) - 0.05 < found["sdsc_1mm"] < belt(radius, apart, 1.0 + STAIRS * max(spacing)) + 0.02


def belt(radius: float, apart: float, tolerance: float) -> float:
    """Share of a sphere's area that lies within a tolerance of another, so far apart."""
    low, high = (((radius + sign * tolerance) ** 2 - radius**2 - apart**2) / (2 * radius * apart) for sign in (-1, 1))
    return (min(high, 1.0) - max(low, -1.0)) / 2


@given(rotations(), spacings(0.4, 2.0), st.integers(0, 2), st.integers(1, 3), st.integers(5, 9))
def test_a_cube_that_moved_by_some_voxels(turn, spacing, axis, steps, side):
    shape = (side + 8, side + 8, side + 8)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    grid = Grid(shape, affine)
    masks = [np.zeros(shape, bool) for _ in range(2)]
    place = [slice(3, 3 + side)] * 3
    masks[0][tuple(place)] = True
    place[axis] = slice(3 + steps, 3 + steps + side)
    masks[1][tuple(place)] = True
    found = measure(Volume(masks[0], grid), Volume(masks[1], grid), nothing(grid))
    assert found["dsc"] == pytest.approx((side - steps) / side)
    assert found["hd_mm"] == pytest.approx(steps * spacing[axis])
    assert found["hd95_area_mm"] == pytest.approx(steps * spacing[axis])
    assert found["volume_error_percent"] == 0


@settings(max_examples=4)
@given(rotations())
def test_a_mirrored_patch_finds_the_other_side(turn):
    spacing = 1.5
    grid = grid_about(46.0, (spacing,) * 3, turn)
    points = grid.centres_mm() - MIDDLE_MM
    far = np.linalg.norm(points, axis=-1)
    shell = (far < 40) & (far > 34)
    cap = points[..., 0] > 35
    plane = Plane([1.0, 0.0, 0.0], MIDDLE_MM[0])
    bone, true = shell & ~cap, shell & cap
    proud = (far < 42) & (far > 36) & cap

    def residual(patch, mirror=plane.reflect):
        volume = Volume(patch, grid)
        outside = outer_surface(volume, bone, MIDDLE_MM).points_mm
        return asymmetry_mm(outside, Volume(patch | bone, grid), MIDDLE_MM, mirror)

    assert residual(true) < 0.65 * spacing
    assert residual(proud) == pytest.approx(2.0, abs=0.45 * spacing)
    # 4 mm off, the plane puts the patch 8 mm beyond the other side.
    assert residual(true, Plane([1.0, 0.0, 0.0], MIDDLE_MM[0] - 4).reflect) == pytest.approx(8.0, abs=spacing)
    found = measure(Volume(proud, grid), Volume(true, grid), Volume(bone, grid), plane.reflect)
    assert found["asymmetry_mm"] == pytest.approx(residual(proud))
    assert found["asymmetry_excess_mm"] == pytest.approx(residual(proud) - residual(true))


def test_where_there_is_no_other_side_there_is_no_asymmetry():
    grid = grid_about(20.0, (1.0,) * 3, np.eye(3))
    patch = ball(grid, 5.0, (10.0, 0, 0))
    outside = outer_surface(patch, np.zeros(grid.shape, bool), MIDDLE_MM).points_mm
    far_plane = Plane([1.0, 0.0, 0.0], MIDDLE_MM[0] - 40)
    assert math.isnan(asymmetry_mm(outside, patch, MIDDLE_MM, far_plane.reflect))
    assert math.isnan(asymmetry_mm(np.zeros((0, 3)), patch, MIDDLE_MM, far_plane.reflect))
    empty, sheared = measure(nothing(grid), patch, nothing(grid), far_plane.reflect), np.eye(4)
    assert math.isnan(empty["asymmetry_mm"])
    sheared[0, 1] = 0.3
    found = measure(*[Volume(patch.mask, Grid(grid.shape, sheared))] * 3, far_plane.reflect)
    assert math.isnan(found["asymmetry_mm"])
