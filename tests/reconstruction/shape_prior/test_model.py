"""The shape model: modes of made-up heads, packed and unpacked."""

from __future__ import annotations

import numpy as np
import pytest
from tests.heads import ALL, MODEL_MM, PEOPLE, examples, family_model

from calvaria.errors import InputError
from calvaria.reconstruction.shape_prior.model import MAX_THICKENING_MM, ShapeModel, bone_depth, plate_lack
from calvaria.reconstruction.shape_prior.modes import fit_modes


def test_all_modes_give_every_example_and_its_mirror_image_back():
    model = family_model()
    modes = model.rows(np.arange(model.grid.size), model.count).astype(float)
    scales = (modes**2).sum(axis=0)
    for example in (examples()[3], examples()[7][::-1]):
        rest = example.reshape(-1) - model.mean
        weights = np.linalg.lstsq(modes[::3], rest[::3], rcond=None)[0]
        found = model.combine(weights[None].astype(np.float32))[0]
        near = np.abs(example.reshape(-1)) < 6
        assert np.sqrt(((found - rest)[near] ** 2).mean()) < 0.05  # mm, lost by the steps of 8 bits
        assert np.sqrt((rest[near] ** 2).mean()) > 0.25
    assert (scales > 0).all()


def test_modes_are_in_order_and_carry_their_standard_deviation():
    model = family_model()
    modes = model.rows(np.arange(model.grid.size), model.count)
    energy = (modes.astype(float) ** 2).sum(axis=0)
    assert (np.diff(energy) < 1e-3 * energy[0]).all()
    both = np.concatenate([examples(), examples()[:, ::-1]]).reshape(2 * PEOPLE, -1)
    total = ((both - both.mean(axis=0)) ** 2).sum() / (2 * PEOPLE)
    assert energy.sum() == pytest.approx(total, rel=0.01)


def test_every_mode_is_symmetric_or_antisymmetric_as_its_parity_says():
    model = family_model()
    modes = model.rows(np.arange(model.grid.size), model.count).reshape(*model.grid.shape, model.count)
    np.testing.assert_allclose(modes[::-1], modes * model.parity, atol=2 * model.step_mm.max())
    assert set(model.parity.tolist()) == {1, -1}
    np.testing.assert_array_equal(model.mean.reshape(model.grid.shape)[::-1], model.mean.reshape(model.grid.shape))
    np.testing.assert_array_equal(model.depth[::-1], model.depth)


def test_rows_and_sums_are_of_the_same_modes():
    model, rng = family_model(), np.random.default_rng(0)
    weights = rng.standard_normal((3, 12)).astype(np.float32)
    voxels = rng.integers(0, model.grid.size, 500)
    np.testing.assert_allclose(model.combine(weights)[:, voxels], weights @ model.rows(voxels, 12).T, atol=1e-3)


def test_the_mean_is_that_of_the_examples_and_their_mirror_images():
    mean = (examples() + examples()[:, ::-1]).mean(axis=0) / 2
    np.testing.assert_allclose(family_model().mean.reshape(mean.shape), mean, atol=1e-4)
    assert family_model().subjects == PEOPLE


def test_fewer_modes_are_the_first_ones():
    model = fit_modes(examples()[:4], MODEL_MM, 3)
    assert model.count == 3
    whole = fit_modes(examples()[:4], MODEL_MM, ALL)
    np.testing.assert_array_equal(model.codes, whole.codes[:, :3])
    assert whole.count <= 7  # four heads and their mirror images, less the mean


def test_one_head_alone_has_only_its_asymmetry():
    model = fit_modes(examples()[:1], MODEL_MM, ALL)
    assert (model.parity == -1).sum() == 1


def test_written_and_read_again_it_is_the_same_model():
    model = family_model()
    back = ShapeModel.from_arrays(model.to_arrays())
    np.testing.assert_array_equal(back.codes, model.codes)
    np.testing.assert_array_equal(back.step_mm, model.step_mm)
    np.testing.assert_array_equal(back.parity, model.parity)
    np.testing.assert_allclose(back.mean_half, model.mean_half, atol=0.0006)
    np.testing.assert_allclose(back.depth_half, np.maximum(model.depth_half, -6.35), atol=0.026)
    assert (back.subjects, back.spacing_mm) == (model.subjects, model.spacing_mm)
    assert back.mean.dtype == back.depth.dtype == np.float32


DAMAGES = {
    "no modes": lambda a: a.pop("modes"),
    "no depth": lambda a: a.pop("depth"),
    "torn": lambda a: a.update(modes=a["modes"][: len(a["modes"]) // 2]),
    "not packed": lambda a: a.update(modes=a["modes"][::-1]),
    "a mode too few": lambda a: a.update(mode_parity=a["mode_parity"][:-1]),
    "a step too few": lambda a: a.update(mode_step_mm=a["mode_step_mm"][:-1]),
    "another grid": lambda a: a.update(spacing_mm=np.array([2.0])),
    "no grid": lambda a: a.update(spacing_mm=np.zeros(0)),
    "a spacing of nothing": lambda a: a.update(spacing_mm=np.zeros(1)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_arrays_are_refused(damage):
    arrays = family_model().to_arrays()
    damage(arrays)
    with pytest.raises(InputError, match=r"these weights are no shape model|shape model's grid .* install its weights"):
        ShapeModel.from_arrays(arrays)


def test_the_depth_of_a_plate_is_half_its_thickness():
    distance = np.abs(np.arange(60) * 1.0 - 30)[:, None, None] - 4 + np.zeros((60, 30, 30))
    depth = bone_depth(distance.astype(np.float32), 1.0)
    np.testing.assert_allclose(depth[28:33, 15, 15], -4, atol=0.2)  # smoothed
    assert depth[5, 15, 15] > 5


def test_a_thinned_plate_is_deepened_to_its_share_and_a_lamella_is_left_alone():
    usual = np.array([-3.0, -3.0, -3.0, -0.5, -9.0], np.float32)
    depth = np.array([-0.5, -2.0, 1.0, 1.0, 2.0], np.float32)
    assert plate_lack(depth, usual, 0.5).tolist() == [1.0, 0.0, 2.5, 0.0, MAX_THICKENING_MM]
