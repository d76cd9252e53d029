"""The reconstruction networks by name: those of Wodzinski et al., section 3.2, and any other by its dotted name.

Every network takes (B, C, X, Y, Z) float32, the defective skull and what else is given, and answers with
(B, 1, X, Y, Z) logits of the missing bone. RUNet is the project's own; the four others are MONAI's, which is needed
only when one of them is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from calvaria.errors import InputError, MissingExtraError
from calvaria.reconstruction.networks.forms import FIRST_LOGIT
from calvaria.reconstruction.networks.runet import RUNet, RUNetSettings

Shape = tuple[int, int, int]
Sizes = Mapping[str, Any]

SIZES = ("small", "full")
"""Names of the sizes: for a CPU, and as published or as the library has it."""


@dataclass(frozen=True)
class Architecture:
    """One kind of network.

    Args:
        about: a line for the table.
        make: (channels of the input, voxels along each axis, sizes) -> the network.
        sizes: what ``make`` is given, by the size's name.
        multiple: voxel counts must divide by it; others are padded with air on both sides.
    """

    about: str
    make: Callable[[int, Shape, Sizes], nn.Module]
    sizes: Mapping[str, Sizes]
    multiple: int = 1


def _runet(channels: int, shape: Shape, sizes: Sizes) -> nn.Module:
    return RUNet(channels, RUNetSettings(**sizes))


def _swin_unetr(channels: int, shape: Shape, sizes: Sizes) -> nn.Module:
    made: nn.Module = _monai().SwinUNETR(channels, 1, **sizes)
    return made


def _unetr(channels: int, shape: Shape, sizes: Sizes) -> nn.Module:
    made: nn.Module = _monai().UNETR(channels, 1, shape, **sizes)
    return made


def _attention_unet(channels: int, shape: Shape, sizes: Sizes) -> nn.Module:
    made: nn.Module = _monai().AttentionUnet(3, channels, 1, strides=(2, 2, 2, 2), **sizes)
    return made


def _segresnet(channels: int, shape: Shape, sizes: Sizes) -> nn.Module:
    made: nn.Module = _monai().SegResNet(3, in_channels=channels, out_channels=1, **sizes)
    return made


def _monai() -> ModuleType:
    try:
        import einops  # noqa: F401  # SwinUNETR and UNETR fail without it only when they are run
        from monai.networks import nets
    except ImportError:
        raise MissingExtraError(
            "this network is MONAI's, which is not installed: pip install 'calvaria[zoo]', or take runet"
        ) from None
    return nets


ZOO: Mapping[str, Architecture] = {
    "runet": Architecture("residual U-Net, no block at full resolution", _runet, {"small": {"width": 8}, "full": {}}),
    "swinunetr": Architecture(
        "Swin transformer encoder, convolutional decoder (Hatamizadeh et al. 2022)",
        _swin_unetr,
        {"small": {"feature_size": 12, "window_size": 4}, "full": {"feature_size": 48}},
        multiple=32,
    ),
    "unetr": Architecture(
        "vision transformer encoder, convolutional decoder (Hatamizadeh et al. 2022)",
        _unetr,
        {"small": {"feature_size": 8, "hidden_size": 192, "mlp_dim": 768, "num_heads": 6}, "full": {}},
        multiple=16,
    ),
    "attentionunet": Architecture(
        "U-Net with attention gates (Oktay et al. 2018)",
        _attention_unet,
        {"small": {"channels": (8, 16, 32, 64, 128)}, "full": {"channels": (32, 64, 128, 256, 512)}},
        multiple=16,
    ),
    "segresnet": Architecture(
        "residual encoder and decoder (Myronenko 2018), without its autoencoder",
        _segresnet,
        {"small": {"init_filters": 8}, "full": {"init_filters": 32}},
        multiple=8,
    ),
}
"""The networks that have a short name."""


def make_network(name: str, shape: Shape, *, size: str = "small", channels: int = 1) -> nn.Module:
    """An untrained network.

    Args:
        name: of `ZOO`, or the dotted name of anything that is called with (channels, shape) and gives such a network.
        shape: voxels along each axis of its input.
        size: "small" or "full"; of the networks of `ZOO` only.
        channels: of the input.

    Returns:
        (B, channels, *shape) -> (B, 1, *shape) logits, about -4 before it is trained.

    Raises:
        InputError: an unknown name or size.
        MissingExtraError: the network is MONAI's, and MONAI is not installed.
    """
    if name not in ZOO:
        made = _by_dotted_name(name)(channels, shape)
        if not isinstance(made, nn.Module):
            raise InputError(f"{name} gave a {type(made).__name__}; a torch.nn.Module is wanted")
        return Adapted(made, 1)
    architecture = ZOO[name]
    if size not in architecture.sizes:
        raise InputError(f"{name} comes in the sizes {', '.join(architecture.sizes)}; got {size!r}")
    x, y, z = (n + -n % architecture.multiple for n in shape)
    return Adapted(architecture.make(channels, (x, y, z), architecture.sizes[size]), architecture.multiple)


class Adapted(nn.Module):
    """A network as it is used here: with air around its input, and beginning at `FIRST_LOGIT`.

    Args:
        network: (B, C, X, Y, Z) -> (B, 1, X, Y, Z), where the counts divide by ``multiple``.
        multiple: as many voxels of air are added as that takes.
    """

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network, self.multiple = network, multiple

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) -> (B, 1, X, Y, Z) logits."""
        size = x.shape[2:]
        padding = [-n % self.multiple for n in size]
        wide = functional.pad(x, [v for n in reversed(padding) for v in (n // 2, n - n // 2)]) if any(padding) else x
        out: Tensor = self.network(wide)
        for axis, (n, more) in enumerate(zip(size, padding, strict=True), 2):
            out = out.narrow(axis, more // 2, n)
        return out + FIRST_LOGIT


def _by_dotted_name(name: str) -> Callable[..., Any]:
    module, _, attribute = name.rpartition(".")
    known = f"the networks are {', '.join(ZOO)}, or the dotted name of your own, such as my_package.nets.MyNet"
    if not module:
        raise InputError(f"there is no network called {name!r}; {known}")
    try:
        found = getattr(import_module(module), attribute)
    except ImportError as error:
        raise InputError(f"{name}: {error}; {known}") from None
    except AttributeError:
        raise InputError(f"{name}: {module} has no {attribute}; {known}") from None
    if not callable(found):
        raise InputError(f"{name} can't be called; {known}")
    made: Callable[..., Any] = found
    return made


__all__ = ["SIZES", "ZOO", "Adapted", "Architecture", "make_network"]
