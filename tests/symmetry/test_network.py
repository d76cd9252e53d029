"""The symmetry network: its size, its first answer, and what it learns by."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch.nn import functional

from calvaria.errors import InputError
from calvaria.symmetry.frame import SIZE, plane_of
from calvaria.symmetry.network import (
    ENCODERS,
    Patches,
    ResNetSettings,
    SymmetryNetwork,
    ViTSettings,
    planes_of,
    settings_of,
)

SMALL_VIT = ViTSettings(width=48, depth=2, heads=3, stem=8)
SMALL_RESNET = ResNetSettings(widths=(8, 16), blocks=1, groups=4)
SMALL = {"vit": SMALL_VIT, "resnet": SMALL_RESNET}

MAX_MB = 12
"""A file of weights that is shipped inside the package."""


def cubes(count: int = 2) -> torch.Tensor:
    values = np.random.default_rng(0).random((count, 1, SIZE, SIZE, SIZE), np.float32)
    return torch.from_numpy(values * (values > 0.7))


def learning(encoder: str) -> SymmetryNetwork:
    """A small network whose last layer is not zero any more."""
    torch.manual_seed(1)
    network = SymmetryNetwork(encoder, SMALL[encoder])
    torch.nn.init.normal_(network.numbers.weight)
    return network


def test_both_encoders_have_settings():
    assert ENCODERS == ("vit", "resnet")
    assert SMALL.keys() == set(ENCODERS)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_weights_are_few_enough_for_a_file_in_the_package(encoder):
    weights = {name: value.half() for name, value in SymmetryNetwork(encoder).state_dict().items()}
    size = len(save(weights))
    assert size < MAX_MB * 1e6
    assert size == pytest.approx(2 * sum(value.numel() for value in weights.values()), rel=0.02)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("small", [False, True], ids=["shipped", "small"])
def test_the_first_answer_is_the_plane_x_0(encoder, small):
    network = SymmetryNetwork(encoder, SMALL[encoder] if small else None)
    with torch.no_grad():
        numbers = network(cubes())
    assert numbers.shape == (2, 3)
    torch.testing.assert_close(planes_of(numbers), torch.tensor([[1.0, 0, 0, 0]] * 2), atol=0, rtol=0)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_each_head_is_judged_alone(encoder):
    network, both = learning(encoder), cubes()
    with torch.no_grad():
        together, alone = network(both), torch.cat([network(both[:1]), network(both[1:])])
        watched = network.eval()(both)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(watched, together)
    assert (together[0] - together[1]).abs().max() > 1e-4


def test_patches_are_a_convolution_over_a_head_and_its_mirror_image():
    torch.manual_seed(3)
    patches, seen = Patches(5, 4), torch.rand(2, 12, 8, 16)
    own, mirrored = patches.linear.weight.reshape(2, 5, 1, 4, 4, 4)
    kernel = torch.cat([own, mirrored.flip(2)], dim=1)  # what met a voxel meets its mirror image
    both = torch.stack([seen, seen.flip(1)], dim=1)
    wanted = functional.conv3d(both, kernel, patches.linear.bias.reshape(2, 5).sum(dim=0), stride=4)
    torch.testing.assert_close(patches(seen), wanted.movedim(1, -1))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_slopes_reach_every_parameter(encoder):
    network = learning(encoder)
    planes_of(network(cubes())).square().mul(torch.tensor([1.0, 2.0, 3.0, 0.1])).sum().backward()
    without = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert not without
    assert all(torch.isfinite(value.grad).all() for value in network.parameters() if value.grad is not None)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_of_an_untouched_network_the_last_layer_learns_first(encoder):
    torch.manual_seed(2)
    network = SymmetryNetwork(encoder, SMALL[encoder])
    network(cubes(1)).square().sum().backward()
    assert network.numbers.weight.grad is not None
    assert not network.numbers.weight.grad.any()  # the answer is 0 already
    network(cubes(1)).sum().backward()
    assert network.numbers.weight.grad.abs().max() > 0


# ---- numbers


@given(st.lists(st.tuples(*[st.floats(-8, 8)] * 3), min_size=1, max_size=4))
def test_numbers_mean_the_plane_that_they_mean_without_torch(several):
    found = planes_of(torch.tensor(several, dtype=torch.float64)).numpy()
    for numbers, (*normal, offset) in zip(several, found, strict=True):
        plane = plane_of(numbers, np.zeros(3))
        np.testing.assert_allclose(normal, plane.normal, atol=1e-12)
        assert offset == pytest.approx(plane.offset_mm, abs=1e-9)


def test_slopes_of_the_planes():
    numbers = torch.tensor([[0.3, -1.2, 0.7], [2.0, 0.1, -0.4]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(planes_of, (numbers,))


# ---- settings


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("small", [False, True], ids=["shipped", "small"])
def test_settings_come_back_from_a_file_and_fit_its_weights(encoder, small):
    shipped = {"vit": ViTSettings(), "resnet": ResNetSettings()}
    settings = (SMALL if small else shipped)[encoder]
    found = settings_of(encoder, json.loads(json.dumps(asdict(settings))))
    assert found == settings
    assert type(found) is type(settings)
    if small:
        weights = SymmetryNetwork(encoder, settings).state_dict()
        SymmetryNetwork(encoder, found).load_state_dict(weights)


@pytest.mark.parametrize(
    ("encoder", "settings"),
    [("swin", None), ("", None), ("vit", ResNetSettings()), ("resnet", ViTSettings()), ("swin", ViTSettings())],
)
def test_an_unknown_encoder_or_the_other_ones_settings_are_refused(encoder, settings):
    message = f"the encoder is one of vit, resnet, with its settings; got {encoder!r}"
    with pytest.raises(InputError, match=message):
        SymmetryNetwork(encoder, settings)
