"""Options made from a dataclass: what its fields and its docstring say, and nothing heavy loaded for it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from calvaria.cli.from_dataclass import help_of, options_of, with_options_of
from calvaria.training.recipes.fields import groups_of, setting
from calvaria.training.recipes.reconstruction import ReconstructionRecipe
from calvaria.training.recipes.shape_prior import ShapePriorRecipe
from calvaria.training.recipes.sketches import SketchRecipe
from calvaria.training.recipes.symmetry import SymmetryRecipe

RECIPES = (ReconstructionRecipe, SymmetryRecipe, SketchRecipe, ShapePriorRecipe)

HEAVY = ("torch", "lightning", "numpy", "scipy", "safetensors")


@dataclass(frozen=True)
class Oven:
    """Where it is baked.

    Args:
        heat_c: How hot, in degrees;
            the first ten minutes.
        light: Leave the light on.
        brand: nobody asks.

    Raises:
        ValueError: never: this is no field.
    """

    heat_c: float = setting(180.0, metavar="C")
    light: bool = setting(default=False)
    brand: str = setting("none", option=None)


@dataclass(frozen=True, kw_only=True)
class Cake:
    """A cake.

    Args:
        into: Where it goes.
        layers: How many.
        filling: What lies between; default: nothing.
        oven: how it is baked.
    """

    into: Path = setting(option=("-o", "--into"), metavar="PLATE")
    layers: int = 1
    filling: str | None = setting(None)
    oven: Oven = Oven(heat_c=200.0)
    guests: list[str] = field(default_factory=list)


@pytest.fixture
def call():
    """Calls the command; what the recipe became stands in the second value."""
    seen = SimpleNamespace()

    @with_options_of(Cake)
    def bake(context: typer.Context, recipe: Cake, *, loud: bool = False) -> None:
        """Bake it."""
        seen.recipe, seen.loud = recipe, loud

    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command()(bake)
    return lambda *words: (CliRunner().invoke(app, words), seen)


def test_options_become_the_recipe_and_its_groups(call):
    done, seen = call("-o", "plate", "--layers", "3", "--heat-c", "150", "--light", "--loud")
    assert done.exit_code == 0, done.output
    assert seen.recipe == Cake(into=Path("plate"), layers=3, oven=Oven(heat_c=150.0, light=True))
    assert seen.loud


def test_defaults_are_those_of_the_recipe_not_of_the_group(call):
    done, seen = call("--into", "plate")
    assert done.exit_code == 0
    assert seen.recipe == Cake(into=Path("plate"))
    assert seen.recipe.oven.heat_c == 200.0
    assert seen.recipe.filling is None


def test_what_has_no_default_must_be_given(call):
    done, _ = call("--layers", "2")
    assert done.exit_code == 2
    assert "Missing option '-o' / '--into'" in done.output


def test_help_says_what_the_docstring_says(call):
    done, _ = call("--help")
    words = " ".join(done.output.split())
    assert "Bake it." in words
    assert "-o, --into PLATE Where it goes. [required]" in words
    assert "--heat-c C How hot, in degrees; the first ten minutes. [default: 200.0]" in words
    assert "--light Leave the light on." in words
    assert "--brand" not in words
    assert "--guests" not in words


def test_only_fields_are_helped():
    assert set(help_of(Oven)) == {"heat_c", "light", "brand"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_option_of_a_recipe_has_help(recipe):
    said = help_of(recipe)
    for group in groups_of(recipe).values():
        said |= help_of(type(group))
    for option in options_of(recipe):
        assert said.get(option.name), f"{recipe.__name__}.{option.name}"


@pytest.mark.parametrize("command", ["reconstruction", "symmetry", "sketches", "shape-prior"])
def test_the_help_of_trainings_loads_nothing_heavy(command):
    code = f"""
import json, sys
from calvaria.cli import main
main(["train", "{command}", "--help"])
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True)
    assert not set(json.loads(done.stdout.splitlines()[-1])) & set(HEAVY)
