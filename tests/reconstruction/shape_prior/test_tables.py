"""The outer and inner table in the shape model, and what they do to a completion."""

from __future__ import annotations

import numpy as np
import pytest
from tests.heads import MODEL_MM, SIDE, Head, boxed, examples, family_engine, family_wall, walled_engine

from calvaria.errors import InputError
from calvaria.reconstruction.box import BoxField, box_grid
from calvaria.reconstruction.shape_prior.engine import MAX_BLEND_WEIGHT, MIN_BLEND_WEIGHT, distance_mm
from calvaria.reconstruction.shape_prior.tables import MISFIT_REACH_MM, TableModel, table_misfit


def side_hole(field: BoxField) -> np.ndarray:
    """Distance to the hole in a head's side."""
    rough = family_engine().sketch(field)
    return distance_mm((rough.distance_mm < 0) & rough.region & (field.distance_mm > 0), 3.3)


def test_written_and_read_again_it_is_the_same_wall():
    wall = family_wall()
    back = TableModel.from_arrays(wall.to_arrays())
    for name in ("outer", "inner"):
        one, other = getattr(wall, name), getattr(back, name)
        np.testing.assert_array_equal(other.codes, one.codes)
        np.testing.assert_allclose(other.mean_half, one.mean_half, atol=0.0006)
    np.testing.assert_allclose(back.misfit_half, np.minimum(wall.misfit_half, 5.1), atol=0.011)
    np.testing.assert_array_equal(back.misfit, back.misfit[::-1])


@pytest.mark.parametrize("lost", ["wall_misfit", "outer_modes", "inner_mean"])
def test_weights_without_a_wall_are_refused(lost):
    arrays = family_wall().to_arrays()
    del arrays[lost]
    with pytest.raises(InputError, match=r"these weights (lack the outer and inner table|are no shape model)"):
        TableModel.from_arrays(arrays)


def test_a_misfit_on_another_grid_is_refused():
    arrays = family_wall().to_arrays()
    arrays["wall_misfit"] = arrays["wall_misfit"][1:]
    with pytest.raises(InputError, match=r"shape model's grid .* is not that of this version"):
        TableModel.from_arrays(arrays)


def test_the_misfit_is_the_mean_difference_near_bone():
    bone = examples()[:3]
    true, high = bone + 0.0, np.full_like(bone, -9.0)
    right = bone.shape[1] // 2
    assert table_misfit(bone, true, high, MODEL_MM).max() < 1e-5
    off = np.where(np.arange(bone.shape[0])[:, None, None, None] == 0, 0.9, 0.0).astype(np.float32)
    found = table_misfit(bone, true + off, high, MODEL_MM)
    near = (np.abs(bone) < MISFIT_REACH_MM).all(axis=0)[right:]
    assert found.shape == bone[0, right:].shape
    np.testing.assert_allclose(found[near].mean(), 0.3, atol=0.02)


def test_the_vault_is_told_by_its_sides_and_the_base_is_not():
    engine = walled_engine()
    grid = box_grid()
    z = grid.centres_mm()[..., 2]
    bone = np.abs(boxed(Head(20)).distance_mm) < 3
    assert engine._blend_weight.max() <= MAX_BLEND_WEIGHT
    assert engine._blend_weight[bone & (z > 30)].mean() > 0.8 * MAX_BLEND_WEIGHT
    assert engine._blend_weight[bone & (z < -30)].mean() < 0.5 * MAX_BLEND_WEIGHT


def test_a_completion_is_drawn_to_the_sides_where_they_are_believed_and_stays_elsewhere():
    field, both, alone = boxed(Head(20, (SIDE,))), walled_engine(), family_engine()
    gap_mm = side_hole(field)
    one, other = both.complete_known(field, gap_mm), alone.complete_known(field, gap_mm)
    np.testing.assert_array_equal(one.region, other.region)
    moved = np.abs(one.distance_mm - other.distance_mm)
    assert moved[one.region].max() > 0.02
    assert not moved[both._blend_weight <= MIN_BLEND_WEIGHT].any()
    truth = np.clip(boxed(Head(20)).distance_mm, -9, 9)
    near = one.region & (np.abs(truth) < 3)
    errors = [np.abs(found.distance_mm - truth)[near].mean() for found in (one, other)]
    assert errors[0] < 1.1 * errors[1]
