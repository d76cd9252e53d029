"""A scan from before: the same person's is laid on, another's is refused with figures."""

from __future__ import annotations

import numpy as np
import pytest
from tests.heads import Head, rigid
from tests.reconstruction.own_bone.parts import POSE, done, old_skull, surface

from calvaria.errors import InputError
from calvaria.reconstruction.own_bone import pre_op
from calvaria.reconstruction.own_bone.pre_op import OldSkull, lay_pre_op, vault_points
from calvaria.skull.canonical import CanonicalFrame


def test_the_same_head_elsewhere_is_found_and_its_fit_told():
    own, fit = lay_pre_op(old_skull(), surface(), done().frame)
    np.testing.assert_allclose(own.from_skull, POSE, atol=0.25)
    np.testing.assert_allclose(np.array(fit.to_skull) @ own.from_skull, np.eye(4), atol=1e-3)
    assert fit.agreeing > 0.7
    assert fit.mean_mm < 0.35 < fit.p95_mm < 1.2
    angle = np.degrees(np.arccos((np.trace(POSE[:3, :3]) - 1) / 2))
    assert fit.rotation_degrees == pytest.approx(angle, abs=0.3)


def test_another_persons_is_refused_with_figures():
    with pytest.raises(
        InputError, match=r"another person's: only \d+% of the vault's .*\d\.\d mm apart .* leave it out"
    ):
        lay_pre_op(old_skull(Head(18)), surface(), done().frame)


def test_a_pose_that_was_found_badly_is_found_by_turning():
    old = old_skull()
    bad = rigid((0, 0, 38)) @ old.frame.to_world
    bad[:3, 3] = old.frame.to_world[:3, 3]
    turned = OldSkull(old.surface, CanonicalFrame(bad, old.frame.scale, 0.1, ()), old.grid)
    own, fit = lay_pre_op(turned, surface(), done().frame)
    np.testing.assert_allclose(own.from_skull, POSE, atol=0.25)
    assert fit.agreeing > pre_op.MIN_AGREEING


def test_only_the_vault_counts():
    points = vault_points(surface(), done().frame)
    back = (points.at_mm - done().frame.to_world[:3, 3]) @ done().frame.to_world[:3, :3]
    assert 0 < len(points.at_mm) < len(surface().points_mm)
    assert back[:, 2].min() > -45


def test_what_lies_beyond_the_old_scan_or_at_its_end_is_not_shown():
    old = old_skull()
    middle = old.grid.to_world((np.array(old.grid.shape) - 1) / 2)
    corner = old.grid.to_world((0.5, 0.5, 0.5))
    beyond = old.grid.to_world((-3.0, 5.0, 5.0))
    assert old.shown(np.stack([middle, corner, beyond])).tolist() == [True, False, False]
