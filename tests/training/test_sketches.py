"""The prior's sketches of training cases: of people that it has not seen, kept, resumed, and shown to a network."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.heads import SIDE, Head, boxed, family_engine

from calvaria.datasets.cache import Entry, Item, pack, training_grid, write_cache
from calvaria.errors import FormatError, InputError
from calvaria.reconstruction.networks.engine import NetworkEngine, NetworkSpec, bone_on, sketch_on
from calvaria.synthesis.augmentation.draw import NOTHING
from calvaria.synthesis.batched.cases import CaseSettings
from calvaria.training import folds
from calvaria.training import sketches as module
from calvaria.training.folds import FoldPriors
from calvaria.training.recipes.fields import changed, made
from calvaria.training.recipes.reconstruction import ReconstructionRecipe
from calvaria.training.recipes.sketches import SketchRecipe
from calvaria.training.reconstruction import make_learner
from calvaria.training.sketches import TRAIN, VALIDATION, Sketcher, Sketches, build_sketches
from calvaria.volume.grid import Grid

PLAIN = CaseSettings({"parietotemporal": 1.0}, rim_chance=0.0, blend_chance=0.0, augmentation=NOTHING)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Three heads that the family's prior has not seen; the last one is watched."""
    path = tmp_path_factory.mktemp("sketches") / "cache.safetensors"
    heads = [Head(n).on(training_grid()).data for n in (20, 21, 22)]
    items = [Item(Entry(f"train-{n}", f"person-{n}", True, f"key-{n}"), np.eye(4), {}, None) for n in range(3)]
    write_cache(path, items, (pack(np.ascontiguousarray(head)) for head in heads), 1)
    return path


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    """The family's prior for every fold, and quick fields."""
    split = SimpleNamespace(train=["train-0", "train-1"], validation=["train-2"], test=[])
    monkeypatch.setattr(module, "load_split", lambda: split)
    monkeypatch.setattr(module, "load_prior", family_engine)
    monkeypatch.setattr(folds, "load_split", lambda: split)
    monkeypatch.setattr(FoldPriors, "of", lambda self, person: family_engine())
    monkeypatch.setattr(FoldPriors, "write_field", lambda self, row: self._path(row).touch())


@pytest.fixture(scope="module")
def once(cache, tmp_path_factory):
    """Filled once by the first test that asks."""
    return tmp_path_factory.mktemp("made"), {}


def recipe_in(folder, cache, **changes):
    output = folder / "sketches.safetensors"
    recipe = SketchRecipe(cache=cache, work=folder / "work", output=output, count=2, validation_cases=1, cases=PLAIN)
    return replace(recipe, **changes)


@pytest.fixture
def sketches(once, cache):
    folder, kept = once
    if not kept:
        kept["path"] = build_sketches(recipe_in(folder, cache))
    return kept["path"]


def test_the_prior_finds_the_holes_of_the_cases(sketches, cache):
    found = Sketches(sketches)
    assert (found.count, found.validation_cases, found.shape) == (2, 1, (56, 72, 48))
    learner = make_learner(training(cache, sketches))
    for number in range(2):
        truth = learner.source.make([number])["truth"][0, 0]
        sketch = found.read(TRAIN, number)
        assert 0 <= float(sketch.min()) < float(sketch.max()) <= 1
        dice = 2 * float((sketch * truth).sum() / (sketch**2 + truth**2).sum())
        assert dice > 0.75
    shown = found.read(VALIDATION, 0)
    watched = learner.watched[0]
    assert (watched["seen"][0, 1] == shown).all()
    assert 2 * float((shown * watched["truth"][0, 0]).sum()) > 0.75 * float(
        (shown**2 + watched["truth"][0, 0] ** 2).sum()
    )


def training(cache, sketches, **changes):
    recipe = made(
        ReconstructionRecipe,
        cache=cache,
        work=cache.parent,
        output=cache.parent / "x.safetensors",
        prior=sketches,
        cases=PLAIN,
        validation_cases=1,
    )
    return changed(recipe, **changes)


def test_a_case_that_comes_again_is_mirrored(sketches, cache):
    source = make_learner(training(cache, sketches)).source
    first, second, third = (source.make([number]) for number in (1, 3, 5))
    for name in ("seen", "truth", "weight"):
        assert (second[name] == first[name].flip(2)).all()
        assert (third[name] == first[name]).all()
    assert first["seen"].shape == (1, 2, 56, 72, 48)
    both = source.make([0, 3])
    assert (both["truth"][1] == second["truth"][0]).all()
    assert (both["truth"][0] == source.make([0])["truth"][0]).all()


def test_the_network_has_a_channel_more_and_learns_from_it(sketches, cache):
    recipe = training(cache, sketches)
    assert (recipe.name, recipe.channels) == ("runet-prior", 2)
    assert changed(recipe, alpha=1.0).name == "runet-prior-sym"
    learner = make_learner(recipe)
    learner.trainer = SimpleNamespace(global_step=0)
    batch = learner.source.make([0])
    learner.losses(batch, learner.network(batch["seen"]))["loss"].backward()
    kernel = learner.network.network.down_1[0].weight.grad
    assert kernel[:, 1].abs().max() > 0


def test_an_interrupted_run_goes_on(cache, tmp_path, monkeypatch):
    real, asked = Sketcher.do, []

    def do(self, what, number):
        asked.append((what, number))
        if len(asked) == 4:
            raise KeyboardInterrupt
        real(self, what, number)

    monkeypatch.setattr(Sketcher, "do", do)
    recipe = recipe_in(tmp_path, cache, count=1)
    with pytest.raises(KeyboardInterrupt):
        build_sketches(recipe)
    assert asked == [("field", 0), ("field", 1), (TRAIN, 0), (VALIDATION, 0)]
    lines = []
    build_sketches(recipe, lambda line, fraction: lines.append((line, fraction)))
    assert asked[4:] == [(VALIDATION, 0)]
    assert lines == [("cases sketched: 2 of 2, 0 min left", 1.0)]


def test_sketches_of_other_cases_are_refused(sketches, cache):
    for change in ({"seed": 1}, {"coarsen": 4}, {"cases": replace(PLAIN, rim_chance=0.5)}):
        with pytest.raises(InputError, match=r"sketches\.safetensors: sketches of other cases"):
            make_learner(training(cache, sketches, **change))
    with pytest.raises(InputError, match="1 validation cases; the recipe asks for 5"):
        make_learner(training(cache, sketches, validation_cases=5))


def test_other_files_are_refused(cache, tmp_path):
    with pytest.raises(FormatError, match=r"cache\.safetensors: no sketches of the shape prior"):
        Sketches(cache)
    with pytest.raises(InputError, match=r"none\.safetensors: no such file; make it with: calvaria train sketches"):
        Sketches(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="folds is 2 or more; got 1"):
        recipe_in(tmp_path, cache, folds=1)
    with pytest.raises(InputError, match="do not divide by 5"):
        build_sketches(recipe_in(tmp_path, cache, coarsen=5))


def test_a_case_that_the_scan_shows_nothing_of_is_sketched_as_nothing(cache, tmp_path, monkeypatch):
    sketcher = Sketcher(recipe_in(tmp_path, cache), tmp_path)
    empty = SimpleNamespace(shown=torch.zeros(1, 1, *training_grid().shape), rows=(0,))
    monkeypatch.setattr(sketcher, "maker", lambda side: SimpleNamespace(make=lambda numbers: empty))
    found = sketcher._sketch(TRAIN, 0)
    assert found["part"].size == 0
    assert not found["box"].any()


def test_at_run_time_the_network_is_shown_the_priors_sketch():
    grid = Grid.isotropic((56, 72, 48), 3.2, (-88.0, -113.6, -62.4))
    field, prior, seen = boxed(Head(20, (SIDE,))), family_engine(), []

    def run(x):
        seen.append(x)
        return np.where(x[:, 1:] > 0.5, 8, -8).astype(np.float32)  # it believes the prior

    engine = NetworkEngine(NetworkSpec("runet", "small", 2, grid), run, prior.template, prior)
    engine.prepare()
    sketch = prior.sketch(field)
    soft = engine.complete(field, sketch)
    np.testing.assert_array_equal(seen[0][0, 0], bone_on(grid, field))
    shown = sketch_on(grid, field, sketch)
    np.testing.assert_array_equal(seen[0][0, 1], shown)
    np.testing.assert_array_equal(seen[1], seen[0][:, :, ::-1])
    whole = np.clip(bone_on(grid, boxed(Head(20))) - bone_on(grid, field), 0, 1)
    assert 2 * (shown * whole).sum() > 0.85 * ((shown**2).sum() + (whole**2).sum())
    assert soft.region.any()
    assert engine.complete(field).region.any()  # it sketches itself where no sketch is given
