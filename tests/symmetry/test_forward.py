"""The vision transformer in NumPy against the same in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from calvaria.symmetry.forward import vit_numbers
from calvaria.symmetry.network import SymmetryNetwork, ViTSettings

SAME_ATOL = 1e-4
"""Numbers of about 1, a thousandth of a millimetre each, computed in 32 bits in another order."""

SMALL = ViTSettings(width=48, depth=2, heads=3, stem=8)


def network(seed: int, settings: ViTSettings) -> SymmetryNetwork:
    """A network of which no parameter is as it begins: ones and zeros would hide what is left out or mixed up."""
    torch.manual_seed(seed)
    made = SymmetryNetwork("vit", settings)
    with torch.no_grad():
        for value in made.parameters():
            value.add_(torch.randn_like(value) * 0.1 * (1 if value.ndim == 1 else value[0].numel() ** -0.5))
        made.numbers.weight.normal_(std=0.3)
    return made


def weights_of(made: SymmetryNetwork) -> dict[str, np.ndarray]:
    return {name: value.detach().float().numpy() for name, value in made.state_dict().items()}


def cube(seed: int) -> np.ndarray:
    """Noise, air, and blocks of bone, more on one side."""
    rng = np.random.default_rng(seed)
    out = np.zeros((96, 96, 96), np.float32)
    out[20:70, 16:80, 10:84] = rng.random((50, 64, 74), np.float32)
    out[30:60, 30:66, 20:70] = 0
    out[60:90, 40:50, 40:60] = 1
    return out


def by_torch(made: SymmetryNetwork, seen: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        numbers: np.ndarray = made(torch.from_numpy(seen.copy())[None, None])[0].numpy()
    return numbers


@pytest.mark.parametrize("seed", range(4))
def test_both_see_the_same(seed):
    made = network(seed, SMALL)
    for seen in (cube(seed), cube(seed)[::-1], np.zeros((96, 96, 96), np.float32), np.asfortranarray(cube(seed))):
        wanted, found = by_torch(made, seen), vit_numbers(weights_of(made), SMALL.heads, seen)
        assert np.abs(wanted).max() > 0.02
        np.testing.assert_allclose(found, wanted, atol=SAME_ATOL)
        assert found.shape == (3,)
        assert found.dtype == np.float32


@pytest.mark.parametrize("seed", [10, 11])
def test_in_the_size_that_is_shipped_too(seed):
    made = network(seed, ViTSettings())
    wanted = by_torch(made, cube(seed))
    found = vit_numbers(weights_of(made), ViTSettings().heads, cube(seed))
    np.testing.assert_allclose(found, wanted, atol=SAME_ATOL)


@pytest.mark.parametrize("settings", [SMALL, ViTSettings()], ids=["small", "shipped"])
def test_with_weights_of_16_bits_both_see_the_same_and_nearly_what_they_saw_before(settings):
    made = network(20, settings)
    before = by_torch(made, cube(20))
    rounded = {name: value.half().float() for name, value in made.state_dict().items()}
    made.load_state_dict(rounded)
    after = by_torch(made, cube(20))
    assert not np.array_equal(after, before)
    np.testing.assert_allclose(after, before, atol=0.02)
    stored = {name: value.half().numpy() for name, value in rounded.items()}
    read = {name: value.astype(np.float32) for name, value in stored.items()}
    np.testing.assert_allclose(vit_numbers(read, settings.heads, cube(20)), after, atol=SAME_ATOL)


def test_the_heads_of_attention_and_every_side_of_the_cube_matter():
    made = network(30, SMALL)
    weights, seen = weights_of(made), cube(30)
    wanted = by_torch(made, seen)
    assert np.abs(vit_numbers(weights, 2, seen) - wanted).max() > 10 * SAME_ATOL
    for axis in range(3):
        other = np.ascontiguousarray(np.flip(seen, axis))
        assert np.abs(vit_numbers(weights, SMALL.heads, other) - wanted).max() > 10 * SAME_ATOL


def test_every_parameter_is_read():
    asked = set()

    class Noted(dict[str, Any]):
        """Weights that note which of them are asked for."""

        def __getitem__(self, name: str) -> Any:
            asked.add(name)
            return super().__getitem__(name)

    made = network(40, SMALL)
    vit_numbers(Noted(weights_of(made)), SMALL.heads, cube(40))
    assert asked == set(made.state_dict())
