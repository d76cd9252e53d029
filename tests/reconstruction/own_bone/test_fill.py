"""Own bone where it is, the engine's elsewhere, and never a voxel in bone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tests.heads import SIDE, Ball, Head, dice
from tests.reconstruction.own_bone.parts import POSE, defective, done, old_skull, surface, truth

from calvaria.reconstruction.box import AIR_MM
from calvaria.reconstruction.own_bone.fill import Filled, OwnBone, fill
from calvaria.reconstruction.own_bone.pre_op import OldSkull
from calvaria.reconstruction.postprocess import to_patch
from calvaria.reconstruction.protocol import Completion, SoftField
from calvaria.volume import Volume

OLD_HOLE = Ball((64.0, -6.0, 40.0), 13.0)
"""A hole in the bone that was removed later."""


def filled(old: OldSkull, completion: Completion | None = None, min_hole_ml: float = 5.0) -> Filled:
    own = OwnBone(old.surface, POSE, old.shown)
    return fill(own, completion or done(), surface(), defective(), min_hole_ml)


def without_engine() -> Completion:
    """As if the engine had seen no hole."""
    nothing = np.zeros(done().soft.region.shape, bool)
    return done()._replace(soft=SoftField(np.full(nothing.shape, AIR_MM, np.float32), nothing, 0.0))


def test_a_whole_head_from_before_gives_its_own_bone():
    found = filled(old_skull())
    assert dice(found.patch, truth()) > 0.96
    assert found.share > 0.9
    assert found.rim_share > 0.9
    assert not (found.patch.mask & defective().mask).any()
    assert found.patch.grid is defective().grid


def test_it_is_found_without_the_engine():
    found = filled(old_skull(), without_engine())
    assert dice(found.patch, truth()) > 0.96
    assert found.share == 1.0


def test_a_hole_that_is_larger_than_the_user_wants_to_fill_is_left():
    assert not filled(old_skull(), without_engine(), 500.0).patch.mask.any()
    assert filled(old_skull(), done(), 500.0).patch.mask.any()  # the engine was told what to leave


def test_an_old_hole_is_filled_by_the_engine():
    found = filled(old_skull(Head(22, (OLD_HOLE,))))
    assert dice(found.patch, truth()) > 0.94
    assert 0.4 < found.share < 0.95
    alone = filled(old_skull(Head(22, (OLD_HOLE,))), without_engine())
    assert alone.patch.volume_ml < found.patch.volume_ml - 1.0


def test_where_the_old_scan_ends_the_engine_goes_on():
    found = filled(old_skull(half=True))
    assert dice(found.patch, truth()) > 0.94
    assert 0.15 < found.share < 0.7
    alone = filled(old_skull(half=True), without_engine())
    assert alone.patch.volume_ml < 0.7 * found.patch.volume_ml


def test_bone_that_does_not_fit_the_rim_gives_way_to_the_engine():
    old = old_skull()
    off = np.eye(4)
    off[0, 3] = 1.4  # outwards on the left
    moved = OwnBone(old.surface, POSE @ np.linalg.inv(off), old.shown)
    found = fill(moved, done(), surface(), defective(), 5.0)
    assert found.rim_share < 0.5
    blunt = fill(moved, without_engine(), surface(), defective(), 5.0)
    assert dice(found.patch, truth()) > dice(blunt.patch, truth()) + 0.02


def test_no_hole_and_no_missing_bone_give_an_empty_patch():
    whole = Volume(defective().mask | truth().mask, defective().grid)
    from calvaria.reconstruction.surface import BoneSurface

    there = BoneSurface.of(whole)
    completion = without_engine()._replace(field=there.in_box(done().frame))
    old = old_skull()
    found = fill(OwnBone(old.surface, POSE, old.shown), completion, there, whole, 5.0)
    assert not found.patch.mask.any()
    assert (found.share, found.rim_share) == (0.0, 0.0)


def test_own_bone_beats_the_engine():
    engine = to_patch(done().soft, done().frame, defective())
    soft = done().soft
    worse = done()._replace(soft=replace(soft, distance_mm=soft.distance_mm + np.float32(0.7)))
    assert dice(filled(old_skull(), worse).patch, truth()) > 0.95
    assert dice(engine, truth()) > 0.9
    assert SIDE.radius_mm > 0
