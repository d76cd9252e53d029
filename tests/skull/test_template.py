"""The mean skull as it is read and stored."""

from __future__ import annotations

import numpy as np
import pytest
from tests.heads import family_template

from calvaria.skull.template import SIGMA_MM, load_template, template_from
from calvaria.training.shape_prior import template_arrays


def test_it_is_symmetric():
    template = family_template()
    for volume in (template.mean, template.weight):
        np.testing.assert_allclose(volume.data, volume.data[::-1], atol=1e-6)
    grid = template.mean.grid
    middle = grid.to_world((np.array(grid.shape) - 1) / 2)
    assert middle[0] == pytest.approx(0)


def test_read_at_its_own_voxels_it_is_what_is_stored():
    template = family_template()
    index = np.argwhere(template.mean.data > 0.3)[::50]
    points = template.mean.grid.to_world(index)
    mean, weight = template.at(points, SIGMA_MM)
    np.testing.assert_allclose(mean, template.mean.data[tuple(index.T)], atol=1e-6)
    np.testing.assert_allclose(weight, template.weight.data[tuple(index.T)], atol=1e-6)


def test_smoothed_further_it_is_flatter_and_holds_as_much_bone():
    template = family_template()
    inner = template.mean.grid.centres_mm()[6:-6, 6:-6, 6:-6].reshape(-1, 3)
    sharp, flat = (template.at(inner, sigma)[0] for sigma in (SIGMA_MM, 8.0))
    assert flat.max() < 0.7 * sharp.max()
    assert flat.sum() == pytest.approx(sharp.sum(), rel=0.05)


def test_stored_in_8_bits_it_comes_back():
    template = family_template()
    back = template_from(template_arrays(template))
    assert back.mean.grid.same_as(template.mean.grid)
    np.testing.assert_allclose(back.mean.data, template.mean.data, atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(back.weight.data, template.weight.data, atol=0.5 / 255 + 1e-6)


def test_the_shipped_one_looks_like_the_upper_part_of_a_head():
    template = load_template()
    bone = template.mean.grid.to_world(np.argwhere((template.mean.data > 0.25) & (template.weight.data > 0.5)))
    np.testing.assert_allclose(template.mean.data, template.mean.data[::-1], atol=1.5 / 255)
    assert bone[:, 2].max() == pytest.approx(80, abs=8)
    assert np.ptp(bone[:, 0]) == pytest.approx(140, abs=20)
    assert np.ptp(bone[:, 1]) == pytest.approx(180, abs=20)
