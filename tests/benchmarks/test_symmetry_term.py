"""What the symmetry term wants of a patch: dents of known depth, and a head that is symmetric by construction."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.synthesis.shells import cache_of

from calvaria.benchmarks import symmetry_term as module
from calvaria.benchmarks.symmetry_term import DENT_AT_MM, DENT_WIDTH_MM, SHARES, best, dented, line, pulls
from calvaria.datasets.cache import training_grid
from calvaria.errors import InputError
from calvaria.symmetry.runner import load_module


def reach_mm(mask, direction):
    """How far bone reaches from the origin along a direction."""
    grid, far = training_grid(), np.arange(0.0, 110.0, 0.2)
    index = np.rint(grid.to_index(far[:, None] * direction)).astype(int)
    return far[np.flatnonzero(mask[tuple(index.T)])[-1]]


def test_a_ball_is_dented_as_deep_as_told():
    grid, middle = training_grid(), np.array(DENT_AT_MM)
    radius = float(np.linalg.norm(middle))
    ball = (np.linalg.norm(grid.centres_mm(), axis=-1) < radius)[None, None]
    found = dented(torch.from_numpy(ball).float(), grid, 8.0)[0, 0].numpy() > 0.5
    outwards = middle / radius
    # What is seen at depth t is what lay at t + 8 exp(-t^2 / 2 s^2): the surface comes from t with that sum 0.
    t = np.linspace(0, 20, 2001)
    depth = t[np.argmin(np.abs(-t + 8 * np.exp(-(t**2) / (2 * DENT_WIDTH_MM**2))))]
    assert reach_mm(ball[0, 0], outwards) - reach_mm(found, outwards) == pytest.approx(depth, abs=1.0)
    assert reach_mm(found, -outwards) == reach_mm(ball[0, 0], -outwards)


def test_no_dent_changes_nothing():
    mask = torch.rand(1, 1, *training_grid().shape).round()
    assert dented(mask, training_grid(), 0.0) is mask


@pytest.mark.parametrize("at", [0.3, 0.5, 1.0, 1.26])
def test_the_least_of_a_parabola_is_found_between_the_shares(at):
    assert best((np.array(SHARES) - at) ** 2 + 0.1) == pytest.approx(at)


def test_the_least_at_an_end_is_the_end():
    assert best(np.array(SHARES)) == SHARES[0]
    assert best(-np.array(SHARES)) == SHARES[-1]


def test_symmetry_alone_wants_the_round_head_and_the_truth_holds_it_back(tmp_path, monkeypatch):
    cache = cache_of(tmp_path)
    monkeypatch.setattr(module, "load_split", lambda: SimpleNamespace(validation=["train-0", "test-3"]))
    found = {(one.window, one.alpha): one for one in pulls(cache, load_module("symmetry-vit"), 5, 8.0)}
    assert all(len(one.off_mm) == 1 for one in found.values())  # the other has no known truth
    for window in ("skull", "calvaria", "patch"):
        pulled = [found[window, alpha].off_mm[0] for alpha in (0.3, 1.0, 3.0, None)]
        assert pulled == sorted(pulled), window
        assert pulled[-1] > 5.0, window
        assert found[window, 0.3].dsc[0] > found[window, None].dsc[0]
    assert found["calvaria", 0.3].off_mm[0] == pytest.approx(0.0, abs=0.5)
    assert "overlap + 0.3 symmetry" in line(found["skull", 0.3])
    assert "symmetry alone" in line(found["skull", None])


def test_nobody_to_be_dented(tmp_path, monkeypatch):
    cache = cache_of(tmp_path)
    monkeypatch.setattr(module, "load_split", lambda: SimpleNamespace(validation=["train-7"]))
    with pytest.raises(InputError, match="no complete skull of a validation person"):
        list(pulls(cache, load_module("symmetry-vit"), 5, 8.0))


def test_a_number_of_persons_that_makes_no_sense(tmp_path):
    with pytest.raises(InputError, match="--persons is 1 or more; got 0"):
        module.main(["--cache", str(tmp_path / "cache.safetensors"), "--persons", "0"])
