"""Rules of the shape prior on fields made for them."""

from __future__ import annotations

import numpy as np
import pytest
from tests.heads import SIDE, Head, boxed, family_engine

from calvaria.reconstruction.box import BoxField, box_grid, vault
from calvaria.reconstruction.protocol import SoftField
from calvaria.reconstruction.shape_prior.engine import (
    AIR_MM,
    CLOSED_MM,
    LAMELLA_MM,
    MAX_DEEPENING_MM,
    MAX_LAMELLA_DEEPENING_MM,
    MAX_POINTS,
    close_valleys,
    frontal_floor,
)
from calvaria.reconstruction.shape_prior.find import OPEN_MM, real_holes
from calvaria.reconstruction.shape_prior.observations import Falloff, around
from calvaria.skull.canonical import SPACING_MM
from calvaria.skull.head import HEAD_CENTRE_MM

FLOOR = np.array([35.0, -65.0, 3.0])
"""A place over the orbit, where lamellae come and go between people."""

ROOF = np.array([35.0, -40.0, 60.0])

MIRROR = np.array([-1.0, 1.0, 1.0])


def ball(centre_mm: np.ndarray, radius_mm: float = 11.0) -> np.ndarray:
    """Signed distance to a ball on the box grid, cut at 12 mm."""
    distance = np.linalg.norm(box_grid().centres_mm() - centre_mm, axis=-1) - radius_mm
    return np.minimum(distance, 12.0).astype(np.float32)


def kept(bone: np.ndarray, added: np.ndarray) -> np.ndarray:
    """What is left of added bone (distances) in a skull (distances)."""
    field = BoxField(bone, np.ones(bone.shape, bool))
    region = (added < 2) & vault()
    soft = family_engine()._only_holes(SoftField(np.where(region, added, AIR_MM), region, 0.0), field)
    return (soft.distance_mm < 0) & soft.region


NOTHING = np.full(box_grid().shape, 12.0, np.float32)


@pytest.mark.parametrize(
    ("where", "bone", "stays"),
    [
        (FLOOR, NOTHING, False),
        (FLOOR, ball(FLOOR * MIRROR), True),
        (ROOF, NOTHING, True),
    ],
    ids=["floor, none opposite", "floor, bone opposite", "vault, none opposite"],
)
def test_a_lamella_of_the_frontal_floor_stays_only_with_a_counterpart(where, bone, stays):
    added = ball(where)
    whole = (added < 0) & vault()
    assert frontal_floor()[whole].mean() > 0.95 if where is FLOOR else not frontal_floor()[whole].any()
    found = kept(bone, added)[whole & frontal_floor()] if where is FLOOR else kept(bone, added)[whole]
    assert found.all() if stays else not found.any()


def test_a_lamella_that_both_sides_lack_is_given_back_on_both():
    both = np.minimum(ball(FLOOR), ball(FLOOR * MIRROR))
    found = kept(NOTHING, both)
    np.testing.assert_array_equal(found, (both < 0) & vault())


def test_a_sketch_saves_the_search_and_changes_nothing():
    field, engine = boxed(Head(20, (SIDE,))), family_engine()
    sketch = engine.sketch(field, engine.sketch(field))
    assert sketch.region.any()
    given, own = engine.complete(field, sketch), engine.complete(field)
    np.testing.assert_array_equal(given.distance_mm, own.distance_mm)
    np.testing.assert_array_equal(given.region, own.region)


def test_a_complete_skull_has_an_empty_sketch():
    assert not family_engine().sketch(boxed(Head(23))).region.any()


def test_a_thin_plate_of_the_brow_that_lies_open_stays_in_the_outline():
    points = box_grid().centres_mm()
    x, y, z = np.moveaxis(points, -1, 0)
    engine = family_engine()
    brow = engine._outside & vault() & (np.abs(x) < 25)
    front = y - np.where(brow, y, np.inf).min(axis=1, keepdims=True)  # how far behind the most forward voxel
    plate = brow & (front > 1.0) & (front < 1.0 + SPACING_MM) & (z < 12) & frontal_floor()
    wall = brow & (front < 8) & (z >= 10) & (z < 45) & (y < 0)
    assert plate.sum() > 100
    distance = np.where(plate | wall, np.float32(-0.5), np.float32(2.0))
    rough = SoftField(distance, np.ones(distance.shape, bool), 0.0)
    outline = engine._hole(BoxField(NOTHING, np.ones(NOTHING.shape, bool)), rough)
    assert outline[plate].mean() > 0.6  # steps of the sheet that hang on by a corner alone go


def shell(radius_mm: float, half_mm: float, blur_mm: float) -> np.ndarray:
    """Distance to a shell about the head's middle, that never gets lower than ``blur_mm`` - ``half_mm``."""
    away = np.linalg.norm(box_grid().centres_mm(), axis=-1) - radius_mm
    return np.maximum(np.abs(away) - half_mm, blur_mm - half_mm).astype(np.float32)


@pytest.mark.parametrize(("bottom_mm", "closed"), [(0.4, True), (1.2, True), (3.0, False)])
def test_the_valley_of_a_thin_plate_is_closed_and_open_air_is_not(bottom_mm, closed):
    values = shell(60.0, 1.0, 1.0 + bottom_mm)
    zone = box_grid().centres_mm()[..., 2] > 20
    found = close_valleys(values, zone, LAMELLA_MM, MAX_LAMELLA_DEEPENING_MM)
    valley = values < bottom_mm + 0.01
    assert (found[valley & zone] < 0).all() == closed
    assert closed or (found > 0).all()
    np.testing.assert_array_equal(found[~zone], values[~zone])
    assert (values - found).max() <= MAX_LAMELLA_DEEPENING_MM


def test_what_is_thick_already_is_not_deepened():
    values = shell(60.0, 3.0, 0.0)
    zone = box_grid().centres_mm()[..., 2] > 0  # away from the box's edge, which cuts the shell
    found = close_valleys(values, zone, CLOSED_MM, MAX_DEEPENING_MM)
    np.testing.assert_array_equal(found[values < 0], values[values < 0])
    assert close_valleys(values, zone & ~zone, CLOSED_MM, MAX_DEEPENING_MM) is values


@pytest.mark.parametrize(("depth_mm", "hole"), [(0.0, True), (-7.0, False)], ids=["through the wall", "behind it"])
def test_what_lies_behind_a_standing_wall_is_no_hole(depth_mm, hole):
    centres = box_grid().centres_mm() - HEAD_CENTRE_MM
    away = np.linalg.norm(centres, axis=-1)
    cap = centres[..., 2] > 0.8 * away
    wall = np.abs(away - 70) < 3
    missing = cap & (np.abs(away - 70 - depth_mm) < 3)
    bone = wall & ~missing
    # Nowhere but in bone is bone near, as if the hole were wide.
    field = BoxField(np.where(bone, np.float32(-1), np.float32(OPEN_MM + 1)), np.ones(bone.shape, bool))
    assert real_holes(missing, missing, field, 3.0).any() == hole


def test_around_a_larger_hole_than_any_the_points_are_thinned():
    engine = family_engine()
    gap_mm = np.asarray(np.abs(box_grid().centres_mm()[..., 0]) / 6 + 0.1, np.float32)
    chosen = engine.settings
    falloff = Falloff(chosen.noise_mm, chosen.fade_mm, chosen.mirror_mm, chosen.reach_mm)
    all_points = around(gap_mm, engine.model.spacing_mm, chosen.dense_mm, falloff)
    assert len(all_points.mm) > 2 * MAX_POINTS
    left = engine._around(gap_mm, chosen.dense_mm)
    assert MAX_POINTS / 3 < len(left.mm) <= MAX_POINTS
    assert left.gap_mm.min() < 1  # next to the hole there are points still


def test_what_is_off_the_bone_by_more_than_any_head_is_given_up_with_its_misfit(monkeypatch):
    engine = family_engine()
    field = boxed(Head(20, (SIDE,)))
    assert engine.sketch(field).region.any()
    monkeypatch.setattr("calvaria.reconstruction.shape_prior.engine.MAX_MISFIT_MM", 1e-3)
    sketch = engine.sketch(field)
    assert not sketch.region.any()
    assert sketch.misfit_mm > 1e-3
    assert engine.complete(field, sketch) is sketch
