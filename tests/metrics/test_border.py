"""The border metrics on caps of spherical shells, where every answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from tests.strategies import rotations

from calvaria.metrics.border import border_errors, outer_surface, outer_surfaces
from calvaria.volume import Grid, Volume

RADIUS_MM, THICK_MM = 60.0, 6.0
HEAD_MM = np.zeros(3)


def shells(proud_mm: float = 0.0, thick_mm: float = THICK_MM, turn=None, spacing: float = 0.8, gap_mm: float = 0.0):
    """Patch (the cap of a shell, 30 mm across, so far proud) and the shell around its hole."""
    affine = np.eye(4)
    affine[:3, :3] = spacing * (np.eye(3) if turn is None else turn)
    shape = (82, 82, 52)
    middle = np.array([0.0, 0.0, RADIUS_MM - 10.0]) @ (np.eye(3) if turn is None else turn).T
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    grid = Grid(shape, affine)
    points = grid.centres_mm() @ (np.eye(3) if turn is None else turn)
    far = np.linalg.norm(points, axis=-1)
    aside = np.hypot(points[..., 0], points[..., 1])
    shell = (far <= RADIUS_MM) & (far > RADIUS_MM - THICK_MM)
    plate = (far <= RADIUS_MM + proud_mm) & (far > RADIUS_MM + proud_mm - thick_mm)
    bone = shell & (aside >= 15.0)
    return Volume(plate & (aside < 15.0 - gap_mm) & ~bone, grid), bone


def errors(proud_mm: float, **kind):
    truth, bone = shells(**{k: v for k, v in kind.items() if k in {"turn", "spacing"}})
    patch, _ = shells(proud_mm, **kind)
    return border_errors(*outer_surfaces(patch, truth, bone, HEAD_MM))


@settings(max_examples=6)
@given(rotations())
def test_outer_voxels_lie_on_the_outside_and_the_border_is_their_rim(turn):
    patch, bone = shells(turn=turn)
    found = outer_surface(patch, bone, HEAD_MM)
    points = found.points_mm @ turn
    far = np.linalg.norm(points, axis=1)
    assert far.min() > RADIUS_MM - 1.5
    assert len(points) == pytest.approx(np.pi * 15**2 / 0.8**2, rel=0.35)  # a turned plane has up to 1.7 as many voxels
    aside = np.hypot(points[:, 0], points[:, 1])
    assert aside[found.border].min() > 15 - 1.8
    assert aside[~found.border].max() < 15


def test_the_true_patch_has_no_error():
    found = errors(0.0)
    assert (found.outer_mm, found.border_mm, found.curvature_mse) == (0, 0, 0)
    assert found.border_voxels > 80


@settings(max_examples=4)
@given(rotations())
def test_a_patch_that_stands_proud_is_off_by_that_much(turn):
    found = errors(1.6, turn=turn, thick_mm=8.0)
    assert found.outer_mm == pytest.approx(1.6, abs=0.35)
    # Of a step of two voxels only the lower half touches the skull.
    assert 0.6 < found.border_mm < 1.7
    assert errors(0.8, turn=turn, thick_mm=7.0).border_mm == pytest.approx(0.8, abs=0.3)


def test_the_curvature_error_grows_steeply_with_the_step():
    mse = [errors(proud, thick_mm=THICK_MM + proud, spacing=0.4).curvature_mse for proud in (0.4, 0.8, 1.2)]
    assert mse == sorted(mse)
    # Per voxel^4 of 0.4 mm a cap of 60 mm gives some 1e-9 to 1e-8, as in the published sizes.
    assert mse[1] * 0.4**4 == pytest.approx(3e-9, rel=0.9)
    assert mse[2] > 2 * mse[1] > 4 * mse[0]


def test_an_outside_thickness_does_not_count():
    assert errors(0.0, thick_mm=4.0).outer_mm < 0.05


def test_a_patch_that_touches_nothing_has_no_border():
    found = errors(0.0, gap_mm=3.0)
    assert found.border_voxels == 0
    assert np.isnan([found.border_mm, found.curvature_mse]).all()
    assert 0 < found.outer_mm < 2


def test_empty_patches():
    patch, bone = shells()
    empty = patch.with_data(np.zeros_like(patch.mask))
    assert border_errors(*outer_surfaces(empty, empty, bone, HEAD_MM)).outer_mm == 0
    assert border_errors(*outer_surfaces(empty, patch, bone, HEAD_MM)).outer_mm == np.inf
    lost = border_errors(*outer_surfaces(patch, empty, bone, HEAD_MM))
    assert lost.outer_mm == np.inf
    assert lost.border_mm == np.inf


def test_where_the_blurred_surface_is_flat_there_is_no_curvature():
    patch, bone = shells()
    ours, true = outer_surfaces(shells(0.8)[0], patch, bone, HEAD_MM)
    flat = replace(ours, joined=ours.joined.with_data(0.01 * ours.joined.data))
    assert np.isnan(border_errors(flat, true).curvature_mse)
    assert border_errors(flat, true).border_mm == border_errors(ours, true).border_mm
