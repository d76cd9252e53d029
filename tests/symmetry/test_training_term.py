"""The symmetry term of training: known values, gradients, windows, and the public symmetry loss in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from calvaria.errors import InputError
from calvaria.skull.canonical import REGION_MM
from calvaria.symmetry.frame import plane_of
from calvaria.symmetry.loss import EMPTY
from calvaria.symmetry.reflection import reflect_volumes
from calvaria.symmetry.training_term import WINDOWS, SymmetryTerm, completed
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
    term = SymmetryTerm(Told(), GRID, REGION_MM, window)
    monkeypatch.setattr(term, "planes", lambda skull: torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    return term


def logits_of(patch):
    return torch.logit(patch.clamp(1e-6, 1 - 1e-6))


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
    planes = SymmetryTerm(network, GRID, REGION_MM).planes(skull)
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


def test_gradients_flow_through_the_plane_as_well():
    whole = egg(6.0)
    shown, patch = without(whole, (30, 99), (-40, 40), (0, 99))
    logits = logits_of(patch * 0.4 + 0.01)  # below a half: what counts as bone stays, and so does the head's centre
    still, moving = (SymmetryTerm(Told(slope=slope), GRID, REGION_MM) for slope in (0.0, 40.0))
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
    term = SymmetryTerm(network, GRID, REGION_MM)
    assert not network.training
    logits = torch.zeros(1, 1, *GRID.shape, requires_grad=True)
    term(egg(), logits).sum().backward()
    assert network.numbers.grad is None


def test_finer_bone_is_averaged_as_the_network_knows_it():
    fine = Grid.isotropic((56, 72, 48), 1.6, (-44.0, -56.8, -37.6))
    network, dot = Told(), torch.zeros(1, 1, *fine.shape)
    dot[0, 0, 28, 36, 24] = 1.0
    SymmetryTerm(network, fine, REGION_MM).planes(dot)
    seen = network.seen[0]
    assert 0 < float(seen.max()) <= 1 / 27 + 1e-6


def test_an_unknown_window_is_refused():
    with pytest.raises(InputError, match="the window is one of skull, calvaria, patch; got 'nose'"):
        SymmetryTerm(Told(), GRID, REGION_MM, "nose")


def written_out(term, shown, logits):
    """The term as it was written out before it was built on `symmetry_loss`: eq. 2, sum by sum."""
    patch = torch.sigmoid(logits)
    skull = 1 - (1 - shown) * (1 - patch)
    planes = term.planes(skull)
    mirrored = reflect_volumes(skull, term.grid, planes)
    weight = torch.ones_like(skull)
    if term.window == "calvaria":
        weight = term.calvaria
    if term.window == "patch":
        weight = (1 - (1 - patch) * (1 - reflect_volumes(patch, term.grid, planes))).detach()
    off, both = (skull - mirrored) ** 2 * weight, (skull**2 + mirrored**2) * weight
    return off.flatten(1).sum(dim=1) / (both.flatten(1).sum(dim=1) + EMPTY)


@pytest.mark.parametrize("window", WINDOWS)
def test_values_and_gradients_are_those_of_the_equation_written_out(window):
    torch.manual_seed(2)
    shown, patch = without(torch.cat([egg(4.0), egg(-7.0)]), (20, 99), (-40, 40), (0, 99))
    term = SymmetryTerm(Told((0.2, -0.1, 0.3), slope=20.0), GRID, REGION_MM, window)
    start = logits_of(0.6 * patch + 0.02) + 0.5 * torch.randn(patch.shape)
    found, wanted = [], []
    for loss, kept in ((term, found), (lambda a, b: written_out(term, a, b), wanted)):
        logits = start.clone().requires_grad_()
        values = loss(shown, logits)
        values.sum().backward()
        kept += [values.detach(), logits.grad]
    assert found[0].shape == (2,)
    assert float(found[0].min()) > 0.01
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(found[1], wanted[1], rtol=1e-5, atol=1e-6 * float(wanted[1].abs().max()))
