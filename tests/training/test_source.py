"""Cases that are kept are those that would have been made."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tests.synthesis.shells import cache_of

from calvaria.datasets.cache import SkullCache
from calvaria.errors import InputError
from calvaria.synthesis.batched.cases import CaseSettings
from calvaria.training.recipes.fields import changed, made
from calvaria.training.recipes.reconstruction import ReconstructionRecipe
from calvaria.training.sketches import TRAIN, case_maker
from calvaria.training.source import KeptCases, Source


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return cache_of(tmp_path_factory.mktemp("source")).path


@pytest.fixture
def maker(cache, monkeypatch):
    split = SimpleNamespace(train=["train-0", "train-1"], validation=["train-2"], test=[])
    monkeypatch.setattr("calvaria.training.sketches.load_split", lambda: split)
    return case_maker(SkullCache(cache), CaseSettings(blend_chance=0.0), TRAIN, 0)


@pytest.fixture
def recipe(cache, tmp_path):
    output = tmp_path / "net.safetensors"
    return made(ReconstructionRecipe, cache=cache, work=tmp_path, output=output, coarsen=4)


@pytest.mark.parametrize("coarsen", [1, 2, 4])
def test_kept_cases_are_the_made_ones_to_the_bit(maker, recipe, tmp_path, coarsen):
    recipe = changed(recipe, coarsen=coarsen)
    plain, kept = Source(maker, recipe), Source(maker, changed(recipe, kept_cases=tmp_path))
    wanted = plain.make([3, 0, 3])
    for turn in range(2):
        found = kept.make([3, 0, 3])
        assert set(found) == set(wanted)
        assert all(torch.equal(found[name], wanted[name]) for name in wanted), turn
    assert float(wanted["truth"].sum()) > 0


def test_a_case_is_made_once(maker, recipe, tmp_path, monkeypatch):
    recipe = changed(recipe, kept_cases=tmp_path)
    Source(maker, recipe).make([0, 1])
    made = []
    monkeypatch.setattr(type(maker), "make", lambda self, numbers: made.append(list(numbers)))
    Source(maker, recipe).make([1, 0])
    assert not made
    with pytest.raises(AttributeError):  # the one that is not there is asked for, and this maker gives nothing
        Source(maker, recipe).make([1, 2])
    assert made == [[2]]


@pytest.mark.parametrize("change", [{"seed": 1}, {"coarsen": 2}, {"cases": CaseSettings(rim_chance=0.5)}])
def test_other_cases_lie_elsewhere(maker, recipe, tmp_path, change):
    folders = set()
    for one in (recipe, changed(recipe, **change)):
        Source(maker, changed(one, kept_cases=tmp_path / "kept"))
        folders |= {path.name for path in (tmp_path / "kept").iterdir()}
    assert len(folders) == 2


def test_a_file_that_was_cut_off_is_not_there(maker, tmp_path, monkeypatch):
    kept = KeptCases(maker, 4, tmp_path)
    monkeypatch.setattr("calvaria.training.source.np.savez_compressed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept.make([0])
    monkeypatch.undo()
    monkeypatch.setattr("calvaria.training.sketches.load_split", lambda: SimpleNamespace(train=[], validation=[]))
    assert kept.make([0])["seen"].shape == (1, 1, 28, 36, 24)


def interrupted(path, **arrays):
    path.write_bytes(b"half")
    raise KeyboardInterrupt


def test_too_coarse_to_be_counted_in_a_byte(maker, tmp_path):
    with pytest.raises(InputError, match="coarsen up to 6"):
        KeptCases(maker, 8, tmp_path)
