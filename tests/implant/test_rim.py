"""The step and the curvature across the rim of a spherical implant, and of the same one sunk or flattened."""

from __future__ import annotations

import numpy as np
import pytest
from tests.implant.caps import fine_ball, polar, the_cap, with_body
from tests.implant.shapes import OUTER_MM, edge_deg

from calvaria.implant import measure
from calvaria.implant.rim import rim_of
from calvaria.skull.head import HEAD_CENTRE_MM

SURFACE = measure.surface_around(the_cap(), fine_ball(), 30.0)


def test_bone_goes_on_from_a_cap_without_a_step():
    found = rim_of(the_cap(), SURFACE)
    assert len(found.step_mm) == len(the_cap().outline[0].points_mm)
    assert np.isfinite(found.step_mm).all()
    assert np.abs(found.step_mm).max() < 0.1
    assert np.abs(found.curvature).max() < 6.0


@pytest.mark.parametrize("off_mm", [-0.8, 0.6])
def test_a_step_is_measured_with_its_sign(off_mm):
    arm = the_cap().body.vertices_mm - HEAD_CENTRE_MM
    radius = np.linalg.norm(arm, axis=1, keepdims=True)
    sunk = with_body(the_cap(), HEAD_CENTRE_MM + arm * (1 - off_mm / radius))
    assert np.nanmedian(rim_of(sunk, SURFACE).step_mm) == pytest.approx(off_mm, abs=0.05)


def test_a_flat_implant_is_less_curved_than_the_bone_beside_it():
    arm = the_cap().body.vertices_mm - HEAD_CENTRE_MM
    radius, angle = polar(the_cap().body.vertices_mm)
    inside = np.maximum(np.radians(edge_deg()) - angle, 0.0) * OUTER_MM
    flatter = with_body(the_cap(), HEAD_CENTRE_MM + arm * (1 + (0.01 * inside**2 / radius))[:, None])
    # A parabola that rises towards the middle by 0.01 x2 bends by 20 / m the other way.
    assert np.nanmedian(rim_of(flatter, SURFACE).curvature) == pytest.approx(20.0, abs=4.0)


def test_the_rim_is_not_known_where_bone_is_missing():
    bone = fine_ball()
    y = bone.grid.centres_mm()[..., 1] - HEAD_CENTRE_MM[1]
    half = measure.surface_around(the_cap(), bone.with_data(bone.mask & (y < 0)), 30.0)
    step = rim_of(the_cap(), half).step_mm
    side = the_cap().outline[0].points_mm[:, 1] - HEAD_CENTRE_MM[1]
    assert np.isnan(step[side > 5]).all()
    assert np.abs(step[side < -5]).max() < 0.1


def test_without_bone_nothing_is_known():
    air = measure.surface_around(the_cap(), fine_ball().with_data(np.zeros(fine_ball().shape, bool)), 30.0)
    assert np.isnan(rim_of(the_cap(), air).step_mm).all()
    assert np.isnan(rim_of(the_cap(), air).curvature).all()
