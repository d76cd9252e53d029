"""The losses of the reconstruction networks: known values, and the calvaria's region in the symmetry term."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from calvaria.skull.canonical import REGION_MM
from calvaria.training.objectives import cross_entropy, overlap_loss, symmetry_term
from calvaria.volume.grid import Grid

SURE = 30.0
"""A logit that is as good as certain."""


def logits_of(patch):
    return torch.logit(patch.clamp(1e-6, 1 - 1e-6))


def test_the_overlap_loss_is_none_for_the_truth_and_one_for_nothing_in_common():
    one = torch.zeros(2, 1, 4, 4, 4)
    one[:, :, :2] = 1
    logits = SURE * (2 * one - 1)
    ones = torch.ones_like(one)
    torch.testing.assert_close(overlap_loss(logits, one, ones), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(overlap_loss(-logits, one, ones), torch.ones(2), atol=1e-5, rtol=0)
    half = overlap_loss(torch.full_like(one, SURE), one, ones)  # 1 - 2 x 32 / (64 + 32)
    torch.testing.assert_close(half, torch.full((2,), 1 / 3), atol=1e-5, rtol=0)


def test_fractions_are_learned_not_rounded():
    torch.manual_seed(0)
    truth = torch.rand(1, 1, 3, 3, 3) * 0.8 + 0.1
    logits = logits_of(truth).requires_grad_()
    loss = overlap_loss(logits, truth, torch.ones_like(truth))
    loss.sum().backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert float(logits.grad.abs().max()) < 1e-6


@pytest.mark.parametrize("loss", [overlap_loss, cross_entropy])
def test_what_is_not_known_teaches_nothing(loss):
    torch.manual_seed(1)
    truth, weight = torch.rand(1, 1, 4, 4, 4).round(), torch.ones(1, 1, 4, 4, 4)
    weight[..., 2:] = 0
    logits = torch.randn(1, 1, 4, 4, 4, requires_grad=True)
    loss(logits, truth, weight).sum().backward()
    assert not logits.grad[..., 2:].any()
    assert logits.grad[..., :2].abs().min() > 0
    other = torch.where(weight > 0, truth, 1 - truth)
    torch.testing.assert_close(loss(logits, other, weight), loss(logits, truth, weight))


def test_cross_entropy_is_the_mean_over_what_is_known():
    weight = torch.zeros(1, 1, 2, 2, 2)
    weight[0, 0, 0, 0, 0] = 1
    found = cross_entropy(torch.zeros(1, 1, 2, 2, 2), torch.ones(1, 1, 2, 2, 2), weight)
    assert float(found) == pytest.approx(np.log(2))
    assert float(cross_entropy(torch.zeros(1, 1, 2, 2, 2), torch.ones(1, 1, 2, 2, 2), 0 * weight)) == 0


def test_the_symmetry_term_compares_the_sides_in_the_calvaria():
    grid = Grid.isotropic((28, 36, 24), 6.4, (-6.4 * 13.5, -6.4 * 17.5, -60.8))
    term = symmetry_term(nn.Identity(), grid, "calvaria")
    points = grid.centres_mm()
    inside = np.ones(grid.shape, bool)
    for axis, (low, high) in enumerate(REGION_MM):
        inside &= (points[..., axis] >= low) & (points[..., axis] <= high)
    assert term.window == "calvaria"
    assert 0 < inside.sum() < inside.size
    np.testing.assert_array_equal(term.calvaria[0, 0].numpy() > 0, inside)
