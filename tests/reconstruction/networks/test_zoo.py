"""The networks by name: one signature, whatever is behind it."""

from __future__ import annotations

import builtins
import sys

import pytest
import torch
from torch import nn

from calvaria.errors import InputError, MissingExtraError
from calvaria.reconstruction.networks.runet import RUNet
from calvaria.reconstruction.networks.zoo import FIRST_LOGIT, SIZES, ZOO, Adapted, make_network

SHAPE = (40, 48, 32)
OF_MONAI = [name for name in ZOO if name != "runet"]


class Own(nn.Module):
    """A network of somebody else's."""

    def __init__(self, channels, shape):
        super().__init__()
        self.shape, self.only = shape, nn.Conv3d(channels, 1, 1)

    def forward(self, x):
        return self.only(x)


def not_a_network(channels, shape):
    return channels, shape


@pytest.fixture(params=list(ZOO))
def name(request):
    if request.param in OF_MONAI:
        pytest.importorskip("monai", reason="MONAI is not installed: its four networks were not tried")
        pytest.importorskip("einops", reason="einops is not installed: MONAI's networks were not tried")
    return request.param


def test_the_papers_five_are_there():
    assert set(ZOO) == {"runet", "swinunetr", "unetr", "attentionunet", "segresnet"}
    assert all(tuple(architecture.sizes) == SIZES for architecture in ZOO.values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("channels", [1, 2])
def test_logits_come_back_on_the_grid_and_slopes_go_in(name, channels):
    torch.manual_seed(0)
    network = make_network(name, SHAPE, channels=channels)
    x = torch.rand(2, channels, *SHAPE, requires_grad=True)
    out = network(x)
    assert out.shape == (2, 1, *SHAPE)
    assert out.min() < FIRST_LOGIT < out.max()  # logits: no sigmoid at the end
    assert torch.sigmoid(out).mean() < 0.1  # nearly nothing is missing bone
    out.square().sum().backward()
    assert all(x.grad[:, n].any() for n in range(channels))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_full_is_larger_than_small(name):
    small, full = (sum(p.numel() for p in make_network(name, SHAPE, size=s).parameters()) for s in SIZES)
    assert full > 3 * small


def test_padding_is_even_and_taken_off_again():
    padded = Adapted(nn.Identity(), 8)
    x = torch.rand(1, 1, 9, 8, 14)
    seen = []
    padded.network.register_forward_pre_hook(lambda _, values: seen.append(values[0]))
    torch.testing.assert_close(padded(x), x + FIRST_LOGIT, atol=0, rtol=0)
    assert seen[0].shape == (1, 1, 16, 8, 16)
    torch.testing.assert_close(seen[0][:, :, 3:12, :, 1:15], x, atol=0, rtol=0)
    assert float(seen[0].sum()) == pytest.approx(float(x.sum()), rel=1e-5)


def test_an_own_network_goes_by_its_dotted_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "somebodys_nets", sys.modules[__name__])
    network = make_network("somebodys_nets.Own", SHAPE, channels=2)
    assert isinstance(network.network, Own)
    assert network.network.shape == SHAPE
    assert network(torch.rand(1, 2, *SHAPE)).shape == (1, 1, *SHAPE)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vnet", "there is no network called 'vnet'; the networks are runet, "),
        ("no_such_package.Net", "No module named 'no_such_package'"),
        ("somebodys_nets.Missing", "somebodys_nets has no Missing"),
        ("somebodys_nets.SHAPE", "can't be called"),
        ("somebodys_nets.not_a_network", "gave a tuple; a torch.nn.Module is wanted"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(monkeypatch, name, message):
    monkeypatch.setitem(sys.modules, "somebodys_nets", sys.modules[__name__])
    with pytest.raises(InputError, match=message):
        make_network(name, SHAPE)


def test_an_unknown_size_is_refused():
    with pytest.raises(InputError, match="runet comes in the sizes small, full; got 'huge'"):
        make_network("runet", SHAPE, size="huge")


@pytest.mark.parametrize("name", OF_MONAI)
def test_without_monai_the_message_says_what_to_install(monkeypatch, name):
    real = builtins.__import__

    def without(module, *args, **kwargs):
        if module.split(".")[0] in ("monai", "einops"):
            raise ImportError(module)
        return real(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'calvaria\[zoo\]', or take runet"):
        make_network(name, SHAPE)
    assert isinstance(make_network("runet", SHAPE).network, RUNet)
