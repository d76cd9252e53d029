"""RUNet: the published size and steps, on any grid."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calvaria.errors import InputError
from calvaria.reconstruction.networks.runet import ChannelNorm, ResidualBlock, RUNet, RUNetSettings

PUBLISHED_PARAMETERS = 12_723_489


def test_it_has_as_many_parameters_as_the_published_code():
    assert sum(p.numel() for p in RUNet().parameters()) == PUBLISHED_PARAMETERS


def test_a_further_channel_costs_one_kernel_of_the_first_step():
    more = sum(p.numel() for p in RUNet(2).parameters()) - PUBLISHED_PARAMETERS
    assert more == 16 * 4**3


@settings(max_examples=15, deadline=None)
@given(st.tuples(*[st.integers(16, 37)] * 3), st.integers(1, 2))
def test_every_grid_comes_back(shape, channels):
    network = RUNet(channels, RUNetSettings(width=1))
    with torch.no_grad():
        assert network(torch.rand(2, channels, *shape)).shape == (2, 1, *shape)


def test_nothing_is_seen_of_the_other_heads():
    torch.manual_seed(0)
    network = RUNet(1, RUNetSettings(width=2)).double()  # a norm over the few deepest voxels enlarges rounding
    heads = torch.rand(3, 1, 32, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        together, alone = network(heads), torch.cat([network(one[None]) for one in heads])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_slopes_reach_every_parameter():
    torch.manual_seed(1)
    network = RUNet(1, RUNetSettings(width=2))
    network(torch.rand(1, 1, 32, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for name, p in network.named_parameters() if name.endswith("weight"))


def test_the_block_goes_around_itself():
    block = ResidualBlock(2, 3)
    torch.nn.init.zeros_(block.main[4].weight)
    torch.nn.init.zeros_(block.main[4].bias)
    x = torch.rand(1, 2, 4, 4, 4)
    torch.testing.assert_close(block(x), block.around(x))


def test_a_width_below_one_is_refused():
    with pytest.raises(InputError, match="width is 1 channel or more; got 0"):
        RUNetSettings(width=0)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last_3d])
def test_the_norm_and_its_gradients_are_torchs(form):
    torch.manual_seed(2)
    ours, torchs = ChannelNorm(5).double(), torch.nn.GroupNorm(5, 5).double()
    torch.nn.init.normal_(ours.weight)
    torch.nn.init.normal_(ours.bias)
    torchs.load_state_dict(ours.state_dict())
    x, weight = 3 * torch.randn(2, 5, 4, 6, 3, dtype=torch.float64) + 7, torch.randn(2, 5, 4, 6, 3, dtype=torch.float64)
    inputs = [x.clone().to(memory_format=form).requires_grad_() for _ in range(2)]
    answers = [norm(one) for norm, one in zip((ours, torchs), inputs, strict=True)]
    for answer in answers:
        (answer * weight).sum().backward()
    torch.testing.assert_close(*answers)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    for one, other in zip(ours.parameters(), torchs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_the_norm_learns_the_same_in_sixteen_bits():
    torch.manual_seed(3)
    norm, x = ChannelNorm(4), torch.randn(2, 4, 8, 8, 8)
    slopes = []
    for dtype in (torch.float32, torch.bfloat16):
        shown = x.clone().to(dtype).requires_grad_()
        norm.zero_grad()
        norm(shown).float().square().mul(x).sum().backward()
        slopes.append(torch.cat([shown.grad.float().flatten(), norm.weight.grad, norm.bias.grad]))
    assert torch.nn.functional.cosine_similarity(*slopes, dim=0) > 0.999
