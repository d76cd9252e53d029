"""The layers in numpy against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from calvaria.reconstruction import layers

SHAPES = [(6, 4, 2), (2, 2, 2), (18, 20, 22)]
"""Of volumes; the last one takes several chunks."""


def compare(ours, theirs, shape, channels=8):
    x = np.random.default_rng(1).standard_normal((channels, *shape)).astype(np.float32)
    torch.manual_seed(1)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    weight, bias = (part.detach().numpy() for part in (theirs.weight, theirs.bias))
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(x)[None])[0].numpy()
    found = ours(x.copy(), weight, bias)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_layers_are_torchs(shape):
    compare(layers.conv, nn.Conv3d(8, 12, 3, padding=1), shape)
    compare(layers.halved, nn.Conv3d(8, 12, 2, stride=2), shape)
    compare(layers.doubled, nn.ConvTranspose3d(8, 12, 2, stride=2), shape)
    compare(layers.point, nn.Conv3d(8, 12, 1), shape)
    compare(layers.normed, nn.GroupNorm(layers.GROUPS, 8), shape)


def test_the_volume_may_have_one_voxel_or_one_channel():
    compare(layers.conv, nn.Conv3d(1, 1, 3, padding=1), (1, 1, 1), channels=1)
    compare(layers.conv, nn.Conv3d(3, 1, 3, padding=1), (1, 5, 1), channels=3)


def test_rectification_is_torchs():
    x = np.linspace(-2, 2, 9, dtype=np.float32).reshape(1, 3, 3, 1)
    wanted = nn.functional.leaky_relu(torch.from_numpy(x), layers.SLOPE).numpy()
    np.testing.assert_array_equal(layers.leaky(x.copy()), wanted)


def test_a_norm_of_a_constant_is_its_bias():
    x = np.full((8, 4, 4, 4), 3.0, np.float32)
    out = layers.normed(x, np.ones(8, np.float32), np.arange(8, dtype=np.float32))
    np.testing.assert_allclose(out[:, 0, 0, 0], np.arange(8), atol=1e-3)
