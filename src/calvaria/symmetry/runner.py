"""A trained symmetry network by name, ready to run: the vision transformer in NumPy, the ResNet in torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from calvaria.errors import InputError, MissingExtraError
from calvaria.models import find, load_arrays
from calvaria.models.registry import load_about
from calvaria.symmetry.forward import vit_numbers
from calvaria.types import F32

if TYPE_CHECKING:
    from calvaria.symmetry.network import SymmetryNetwork

Numbers = Callable[[F32], F32]
"""(96, 96, 96) bone fractions -> (3,) parameters of a plane, see :mod:`calvaria.symmetry.frame`."""

KIND = "symmetry-network"
"""What the registry calls such models."""


@lru_cache(maxsize=4)
def load_network(name: str) -> Numbers:
    """A symmetry network, loaded once a process.

    Args:
        name: as `calvaria models` lists it, or a file.

    Raises:
        InputError: there is no such model, or it is another kind of model.
        MissingExtraError: it runs in torch, which is not installed.
    """
    weights, about = _read(name)
    if about["encoder"] == "vit":
        return partial(vit_numbers, weights, int(about["settings"]["heads"]))
    network = load_module(name)
    import torch

    def numbers(cube: F32) -> F32:
        with torch.no_grad():
            out: F32 = network(torch.from_numpy(cube)[None, None])[0].numpy()
        return out

    return numbers


def load_module(name: str) -> SymmetryNetwork:
    """A symmetry network as a torch module, with gradients; arguments and errors as for `load_network`."""
    weights, about = _read(name)
    try:
        import torch
    except ImportError:
        raise MissingExtraError(
            f"{name!r} runs in torch, which is not installed: pip install 'calvaria[train]', or take symmetry-vit"
        ) from None
    from calvaria.symmetry.network import SymmetryNetwork, settings_of

    network = SymmetryNetwork(about["encoder"], settings_of(about["encoder"], about["settings"]))
    network.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    return network.eval()


def _read(name: str) -> tuple[dict[str, F32], dict[str, Any]]:
    """The weights in 32 bits, and what the file's header says of them."""
    model = find(name)
    if model.kind != KIND:
        raise InputError(f"{name!r} is a {model.kind}; a symmetry network is wanted here, such as symmetry-vit")
    weights = {key: np.asarray(value, np.float32) for key, value in load_arrays(model).items()}
    about: dict[str, Any] = json.loads(load_about(model)["calvaria"])
    return weights, about


__all__ = ["KIND", "Numbers", "load_module", "load_network"]
