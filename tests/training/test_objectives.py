"""The losses of the reconstruction networks: known values, slopes, windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from calvaria.errors import InputError
from calvaria.symmetry.frame import plane_of
from calvaria.training.objectives import WINDOWS, SymmetryTerm, completed, cross_entropy, overlap_loss
from calvaria.volume.grid import Grid

GRID = Grid.isotropic((28, 36, 24), 6.4, (-6.4 * 13.5, -6.4 * 17.5, -60.8))
SURE = 30.0
"""A logit that is as good as certain."""


class Told(nn.Module):
    """A symmetry network that gives the same answer to everything, moved by how much bone it sees."""

    def __init__(self, numbers=(0.0, 0.0, 0.0), slope=0.0):
        super().__init__()
        self.numbers = nn.Parameter(torch.tensor(numbers))
        self.slope, self.seen = slope, []

    def forward(self, cubes):
        self.seen.append(cubes)
        return self.numbers + self.slope * cubes.mean(dim=(1, 2, 3, 4))[:, None]


def egg(shift_mm=0.0):
    """(1, 1, X, Y, Z) a hollow egg, symmetric about x = ``shift_mm``."""
    points = GRID.centres_mm() - np.array([shift_mm, 0.0, 0.0])
    radius = np.linalg.norm(points / np.array([70.0, 90.0, 75.0]), axis=-1)
    return torch.from_numpy(np.clip(1 - np.abs(radius - 0.9) / 0.12, 0, 1)).float()[None, None]


def without(whole, x, y, z):
    """The egg without a box, and what was in it."""
    inside = np.ones(GRID.shape, bool)
    for axis, (low, high) in enumerate((x, y, z)):
        inside &= (GRID.centres_mm()[..., axis] > low) & (GRID.centres_mm()[..., axis] < high)
    box = torch.from_numpy(inside)[None, None]
    return whole * ~box, whole * box


def about_zero(window, monkeypatch):
    """The term with a network that always finds x = 0."""
    term = SymmetryTerm(Told(), GRID, window)
    monkeypatch.setattr(term, "planes", lambda skull: torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    return term


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


def test_a_patch_in_bone_changes_nothing():
    shown = torch.tensor([0.0, 0.0, 1.0, 1.0])
    patch = torch.tensor([0.0, 0.7, 0.0, 0.7], requires_grad=True)
    whole = completed(shown, patch)
    torch.testing.assert_close(whole, torch.tensor([0.0, 0.7, 1.0, 1.0]))
    whole.sum().backward()
    torch.testing.assert_close(patch.grad, torch.tensor([1.0, 1.0, 0.0, 0.0]))


def test_the_plane_of_the_network_stands_in_canonical_mm():
    network = Told((0.3, -0.2, 0.4))
    skull = egg(9.0)
    planes = SymmetryTerm(network, GRID).planes(skull)
    bone = GRID.centres_mm()[(skull[0, 0] > 0.5).numpy()]
    wanted = plane_of((0.3, -0.2, 0.4), bone.mean(axis=0))
    normal = wanted.normal / np.linalg.norm(wanted.normal)
    assert planes[0, :3].detach().numpy() == pytest.approx(normal, abs=1e-5)
    assert float(planes[0, 3]) == pytest.approx(wanted.offset_mm / np.linalg.norm(wanted.normal), abs=1e-3)
    seen = network.seen[0][0, 0]
    middle = (np.indices(seen.shape).reshape(3, -1) * seen.reshape(-1).numpy()).sum(axis=1) / float(seen.sum())
    assert middle == pytest.approx([47.5] * 3, abs=1.0)  # the head lies in the middle of the cube


@pytest.mark.parametrize("window", WINDOWS)
def test_the_missing_side_is_asked_for(window, monkeypatch):
    whole = egg()
    shown, patch = without(whole, (20, 99), (-40, 40), (0, 99))
    term = about_zero(window, monkeypatch)
    full, half = term(shown, logits_of(patch)), term(shown, logits_of(0.5 * patch))
    empty = term(shown, torch.full_like(shown, -SURE))
    assert float(full) < 1e-3
    if window != "patch":  # where there is no patch there is no window
        assert float(full) < float(half) < float(empty)
    logits = logits_of(0.5 * patch).requires_grad_()
    term(shown, logits).sum().backward()
    missing = patch > 0.5
    assert (logits.grad[missing] < 0).all()  # more bone there, less loss
    assert logits.grad[shown > 0.999].abs().max() < 1e-6 * logits.grad.abs().max()


def test_the_calvarias_window_does_not_see_the_face_and_the_patchs_no_other_bone(monkeypatch):
    whole = egg()
    shown, patch = without(whole, (20, 99), (-40, 40), (0, 99))
    lumps = shown.clone()
    face = torch.from_numpy(GRID.centres_mm()[..., 2] < -20.0)[None, None]
    lumps[:, :, :10] = torch.where(face[:, :, :10], torch.ones_like(lumps[:, :, :10]), lumps[:, :, :10])
    found = {}
    for window in WINDOWS:
        term = about_zero(window, monkeypatch)
        found[window] = [float(term(bone, logits_of(patch))) for bone in (shown, lumps)]
    assert found["skull"][1] > found["skull"][0] + 0.05
    assert found["calvaria"][1] == pytest.approx(found["calvaria"][0], abs=1e-3)
    assert found["patch"][1] == pytest.approx(found["patch"][0], abs=1e-3)


def test_slopes_flow_through_the_plane_as_well():
    whole = egg(6.0)
    shown, patch = without(whole, (30, 99), (-40, 40), (0, 99))
    logits = logits_of(patch * 0.4 + 0.01)  # below a half: what counts as bone stays, and so does the head's centre
    still, moving = (SymmetryTerm(Told(slope=slope), GRID) for slope in (0.0, 40.0))
    slopes = []
    for term in (still, moving):
        here = logits.clone().requires_grad_()
        term(shown, here).sum().backward()
        slopes.append(here.grad)
    assert (slopes[0] - slopes[1]).abs().max() > 0.1 * slopes[0].abs().max()
    direction = slopes[1] / slopes[1].norm()
    with torch.no_grad():
        ahead, behind = (moving(shown, logits + sign * 0.05 * direction) for sign in (1, -1))
    assert float((ahead - behind) / 0.1) == pytest.approx(float(slopes[1].norm()), rel=0.05)


def test_the_symmetry_network_is_frozen():
    network = Told().train()
    term = SymmetryTerm(network, GRID)
    assert not network.training
    logits = torch.zeros(1, 1, *GRID.shape, requires_grad=True)
    term(egg(), logits).sum().backward()
    assert network.numbers.grad is None


def test_finer_bone_is_averaged_as_the_network_knows_it():
    fine = Grid.isotropic((56, 72, 48), 1.6, (-44.0, -56.8, -37.6))
    network, dot = Told(), torch.zeros(1, 1, *fine.shape)
    dot[0, 0, 28, 36, 24] = 1.0
    SymmetryTerm(network, fine).planes(dot)
    seen = network.seen[0]
    assert 0 < float(seen.max()) <= 1 / 27 + 1e-6


def test_an_unknown_window_is_refused():
    with pytest.raises(InputError, match="the window is one of skull, calvaria, patch; got 'nose'"):
        SymmetryTerm(Told(), GRID, "nose")
