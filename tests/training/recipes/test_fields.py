"""Recipes of groups of settings: values find their group, and the hash says what is learned."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from calvaria.errors import InputError
from calvaria.synthesis.defects import soundness
from calvaria.training.recipes.fields import changed, groups_of, key_of, learned, made
from calvaria.training.recipes.reconstruction import ReconstructionRecipe
from calvaria.training.recipes.shape_prior import ShapePriorRecipe
from calvaria.training.recipes.sketches import SketchRecipe
from calvaria.training.recipes.symmetry import SymmetryRecipe

NETWORKS = (ReconstructionRecipe, SymmetryRecipe)


def recipe(kind=ReconstructionRecipe, **values):
    return made(kind, cache=Path("cache.safetensors"), output=Path("out.safetensors"), **values)


def test_values_find_the_group_that_has_them():
    found = recipe(rate=0.5, alpha=2.0, seed=7, work=Path("there"))
    assert (found.optimisation.rate, found.loss.alpha, found.data.seed, found.work) == (0.5, 2.0, 7, Path("there"))
    again = changed(found, rate=0.25)
    assert (again.optimisation.rate, again.loss.alpha) == (0.25, 2.0)
    assert found.optimisation.rate == 0.5


def test_a_value_that_no_group_has_is_a_mistake_of_the_caller():
    with pytest.raises(TypeError, match="ReconstructionRecipe has no decays, rates"):
        recipe(rates=0.5, decays=1.0)


@pytest.mark.parametrize("kind", [*NETWORKS, SketchRecipe, ShapePriorRecipe])
def test_no_two_groups_have_a_field_in_common(kind):
    groups = groups_of(kind)
    names = [name for group in groups.values() for name in asdict(group)]
    names += [name for name in kind.__dataclass_fields__ if name not in groups]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", NETWORKS)
def test_where_things_lie_is_no_part_of_the_hash(kind):
    first = recipe(kind)
    same = changed(first, cache=Path("a"), work=Path("b"), output=Path("c"), state_steps=7)
    assert same.key() == first.key()
    assert len(first.key()) == 12


@pytest.mark.parametrize(
    "change",
    [
        {"rate": 0.5},
        {"steps": 100},
        {"seed": 1},
        {"alpha": 1.0},
        {"size": "full"},
        {"prior": Path("sketches")},
        {"validation_cases": 3},
    ],
)
def test_what_is_learned_is_in_the_hash(change):
    assert recipe(**change).key() != recipe().key()


def test_which_file_of_sketches_it_is_does_not_count_but_whether_there_is_one():
    assert recipe(prior=Path("a")).key() == recipe(prior=Path("b")).key()


def test_kept_cases_change_nothing_that_is_learned():
    assert recipe(kept_cases=Path("a")).key() == recipe().key()
    assert "kept_cases" not in learned(recipe().data)


def test_the_json_of_a_recipe_holds_every_setting_and_the_hash():
    told = json.loads(recipe().as_json())
    assert told["key"] == recipe().key()
    assert told["architecture"] == {"network": "runet", "size": "small"}
    assert told["cases"]["blend_chance"] == 0.0
    assert told["output"] == "out.safetensors"


def test_the_hash_of_sketches_holds_what_decides_which_cases_there_are_and_no_more():
    # Files of sketches take hours: their hash must not change with the layout of the recipe, but with the rule of which
    # defects are sound, for another rule draws others from the same seed.
    told = {"cases": asdict(recipe().cases), "seed": 3, "coarsen": 2, "folds": 4, "soundness": soundness.VERSION}
    assert recipe(SketchRecipe, seed=3).key() == key_of(told)


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (SketchRecipe, {"count": 0}, "count is 1 or more; got 0"),
        (SketchRecipe, {"folds": 1}, "folds is 2 or more; got 1"),
        (ReconstructionRecipe, {"coarsen": 0}, "coarsen is 1 or more; got 0"),
        (ReconstructionRecipe, {"min_rate_share": 2.0}, "min_rate_share from 0 to 1; got 0.99 and 2.0"),
    ],
)
def test_values_that_make_no_sense_are_refused(kind, wrong, message):
    with pytest.raises(InputError, match=message):
        recipe(kind, **wrong)
