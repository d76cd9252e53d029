"""The cascade's networks: sizes and inputs, heads that share all but themselves, gradients that reach the first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: networks were not tried")

import torch

from calvaria.errors import InputError
from calvaria.reconstruction.box import box_to_world
from calvaria.reconstruction.networks.cascade import CascadeNet, Stage
from calvaria.reconstruction.networks.cascade_inputs import (
    DEPTH_MM,
    DEPTH_SLOPE,
    MIDDLE,
    coarse_input,
    doubt_on,
    mirrored,
    skull_plane,
)
from calvaria.reconstruction.networks.forms import FIRST_LOGIT, FORMS, Form, form_called
from calvaria.reconstruction.protocol import Spread
from calvaria.symmetry.plane import Plane
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

SMALL = Form(width=2, depth=3)
GRID = Grid.isotropic((24, 20, 16), 8.0, (-92.0, -76.0, -60.0))


def test_the_published_form_sees_the_skull_and_its_flipped_array_and_windows_both_coarse_answers():
    form = form_called("cascade-published")
    assert (form.parts, form.coarse_channels, form.fine_channels) == (("skull", "mirror"), 2, 3)
    assert (form.width, form.soft, form.mirror) == (12, False, "flip")
    seen = np.random.default_rng(0).random(GRID.shape).astype(np.float32)
    plane = Plane(np.array([1.0, 0.1, 0.0]), 5.0)  # of no account
    shown = coarse_input(form, {"skull": seen, "mirror": mirrored(seen, GRID, form.mirror, plane)})
    np.testing.assert_array_equal(shown, np.stack([seen, seen[::-1]]))


def test_ours_is_mirrored_about_the_plane():
    middle = GRID.centres_mm()
    seen = np.exp(-((middle - [40.0, 10.0, 0.0]) ** 2).sum(axis=-1) / 800).astype(np.float32)
    plane = Plane(np.array([1.0, 0.05, 0.0]), 12.0)
    found = mirrored(seen, GRID, "plane", plane)
    peak = (middle * found[..., None]).sum(axis=(0, 1, 2)) / found.sum()
    assert peak == pytest.approx(plane.reflect([40.0, 10.0, 0.0]), abs=0.5)
    np.testing.assert_allclose(mirrored(seen, GRID, "plane", MIDDLE), seen[::-1], atol=1e-5)


def test_forms_have_the_channels_that_they_say():
    ours = replace(FORMS["cascade"], prior=True, doubt=True)
    assert ours.parts == ("skull", "mirror", "prior", "doubt")
    assert ours.further == ("prior", "doubt")
    assert (ours.coarse_channels, ours.fine_channels) == (4, 5)
    assert replace(ours, mirror="none").parts == ("skull", "prior", "doubt")
    assert Form.of(ours.told()) == ours
    behind = FORMS["behind-prior"]
    assert (behind.parts, behind.coarse_channels, behind.fine_channels) == ((), 0, 2)
    assert replace(behind, doubt=True).parts == ("doubt",)
    assert (ours.stages, behind.stages) == (("coarse", "fine"), ("fine",))
    earlier = {name: value for name, value in ours.told().items() if name != "behind"}
    assert Form.of(earlier) == ours


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: form_called("vnet"), "the cascade's forms are cascade-published, cascade, behind-prior; got 'vnet'"),
        (lambda: Form(mirror="left"), "mirror is one of flip, plane, none; got 'left'"),
        (lambda: Form(doubt=True), "doubt is the shape prior's; it goes with the prior only"),
        (
            lambda: Form(behind=True, mirror="none"),
            "behind the shape prior a network is shown the prior, and no mirror",
        ),
        (lambda: Form(behind=True, prior=True), "behind the shape prior a network is shown the prior, and no mirror"),
        (lambda: Form(depth=1), "width is 1 channel or more, depth 2 to 6 levels; got 12 and 1"),
        (lambda: Form.of({"width": 3}), "a form of the cascade has behind, depth, doubt, .*; got width"),
    ],
)
def test_forms_that_there_are_not(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("shape", [(16, 16, 16), (19, 21, 17)])
def test_an_answer_is_as_large_as_its_input_and_begins_low(halved, shape):
    torch.manual_seed(0)
    stage = Stage(2, replace(SMALL, halved=halved))
    with torch.no_grad():
        out = stage(torch.rand(1, 2, *shape))
    assert out.shape == (1, 2, *shape)
    assert -5.5 < float(out.mean()) < -2.5


def test_a_head_has_as_many_features_as_the_last_layer_before_it():
    stage = Stage(2, Form())
    x = torch.rand(1, 2, 16, 16, 16)
    with torch.no_grad():
        assert stage.features(x).shape[1] == 12
    for head in stage.heads:
        first, _, last = head
        assert (first.in_channels, first.out_channels, last.in_channels, last.out_channels) == (12, 12, 12, 1)
    assert 2e6 < sum(p.numel() for p in CascadeNet(Form()).parameters()) < 3.5e6  # 11 MB


def test_heads_share_all_but_themselves():
    torch.manual_seed(0)
    stage = Stage(2, SMALL)
    stage(torch.rand(1, 2, 16, 16, 16))[:, 0].sum().backward()
    assert all(p.grad is None for p in stage.heads[1].parameters()) or all(
        not p.grad.any() for p in stage.heads[1].parameters()
    )
    assert all(p.grad is not None for p in stage.heads[0].parameters())
    assert stage.downs[0][0][0].weight.grad.abs().sum() > 0


def test_the_fine_networks_loss_reaches_the_coarse_one_through_both_maps():
    torch.manual_seed(0)
    network = CascadeNet(SMALL)
    maps = torch.rand(1, 2, 8, 8, 8, requires_grad=True)
    out = network.refine(torch.rand(1, 1, 16, 16, 16), maps, torch.tensor([[8, 4, 12]]), 4)
    assert out.shape == (1, 2, 16, 16, 16)
    out[:, 0].sum().backward()
    for channel in range(2):
        touched = maps.grad[0, channel].abs() > 0
        assert touched.any()
        assert not touched[7].any()  # the window lies in voxels 2 to 6


def test_the_plane_of_a_turned_skull_is_found_and_of_its_mirror_image_the_mirrored_one():
    from tests.heads import Head, rigid

    grid = Grid.isotropic((64, 80, 60), 3.2, (-100.8, -126.4, -90.0))
    turned = Head(20, even=True).on(grid, rigid((0, 3, 4), (4, 0, 0)))
    plane = skull_plane(turned)
    true = Plane(rigid((0, 3, 4))[:3, 0], float(rigid((0, 3, 4))[:3, 0] @ [4, 0, 0]))
    assert plane.angle_deg(true) < 2.0
    assert plane.apart_mm(true, [0, 0, 20]) < 2.0
    other = skull_plane(Volume(turned.mask[::-1], grid))
    np.testing.assert_allclose(other.normal, plane.normal * [1, -1, -1], atol=1e-6)
    assert other.offset_mm == pytest.approx(-plane.offset_mm, abs=1e-6)


def test_no_bone_and_no_head_have_the_frames_own_plane():
    grid = Grid.isotropic((32, 32, 32), 6.4, (-99.2, -99.2, -99.2))
    nothing = np.zeros(grid.shape, bool)
    assert skull_plane(Volume(nothing, grid)) is MIDDLE


def test_doubt_stands_along_the_priors_surface_in_the_grids_own_millimetres():
    from calvaria.skull.canonical import CanonicalFrame

    frame = CanonicalFrame(np.eye(4), np.array([1.0, 1.1, 1.0]), 0.0, ())
    spread = Spread(np.array([[40.0, 10.0, 4.0], [-40.0, 0.0, 4.0]], np.float32), np.array([0.75, 9.0], np.float32))
    found = doubt_on(GRID, spread, box_to_world(frame))
    at = np.rint(GRID.to_index([[40.0, 11.0, 4.0], [-40.0, 0.0, 4.0], [0.0, 0.0, 4.0]])).astype(int)
    np.testing.assert_allclose(found[tuple(at.T)], [0.5, 1.0, 0.0])
    points = GRID.centres_mm()[found > 0]
    near = np.linalg.norm(points[:, None] - [[40.0, 11.0, 4.0], [-40.0, 0.0, 4.0]], axis=-1).min(axis=1)
    assert near.max() <= 12.0
    assert not doubt_on(GRID, None, np.eye(4)).any()


def test_behind_the_prior_a_network_begins_with_the_priors_patch():
    torch.manual_seed(0)
    form = replace(FORMS["behind-prior"], width=2, depth=2, doubt=True)
    network = CascadeNet(form)
    assert not hasattr(network, "coarse")
    depth = torch.rand(2, 1, 16, 16, 16)
    window, maps, start = torch.rand(2, 1, 16, 16, 16), torch.rand(2, 1, 8, 8, 8), torch.tensor([[8, 4, 12], [0, 0, 0]])
    out = network.refine(window, maps, start, 4, depth)
    torch.testing.assert_close(out[:, :1] > 0, depth > 0.5)
    torch.testing.assert_close(out[:, 0], 2 * DEPTH_MM * DEPTH_SLOPE * (depth[:, 0] - 0.5))
    assert (out[:, 1] - FIRST_LOGIT).abs().max() < 2  # the implant's head begins with nothing
    out[:, 0].sum().backward()
    assert network.fine.heads[0][-1].weight.grad.abs().sum() > 0  # and yet it learns
