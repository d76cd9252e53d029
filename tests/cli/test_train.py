"""``calvaria train reconstruction``: options become a recipe, a dry run is said, bad calls are one line."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from tests.synthesis.shells import cache_of

pytest.importorskip("lightning", reason="Lightning is not installed: the training of networks was not tried")

from calvaria.cli import main
from calvaria.training import reconstruction as module
from calvaria.training.recipes.reconstruction import ReconstructionRecipe

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return cache_of(tmp_path_factory.mktemp("train")).path


@pytest.fixture(autouse=True)
def sides(monkeypatch):
    split = SimpleNamespace(train=["train-0", "train-1"], validation=["train-2"], test=[])
    monkeypatch.setattr("calvaria.training.sketches.load_split", lambda: split)


def call(*words):
    return main(["train", "reconstruction", *map(str, words)])


def test_options_become_the_recipe(cache, tmp_path, monkeypatch, capsys):
    seen = {}

    def build(recipe, progress, **how):
        seen.update(recipe=recipe, **how)
        progress("step 1", 0.5)

    monkeypatch.setattr(module, "build", build)
    words = ["--network", "segresnet", "--size", "full", "--alpha", "1", "--alpha-rise", "50", "--window", "patch"]
    words += ["--steps", "200", "--batch", "4", "--rate", "0.01", "--patience", "3", "--seed", "7", "--minutes", "2"]
    assert call("--cache", cache, "-o", tmp_path / "x.safetensors", "--device", "cpu", "--devices", "2", *words) == 0
    made = seen["recipe"]
    assert (made.architecture.network, made.architecture.size) == ("segresnet", "full")
    assert (made.loss.alpha, made.loss.alpha_rise, made.loss.window) == (1.0, 50, "patch")
    assert (made.optimisation.steps, made.optimisation.batch, made.optimisation.rate) == (200, 4, 0.01)
    assert (made.validation.patience, made.data.seed) == (3, 7)
    assert made.data.coarsen == ReconstructionRecipe.data.coarsen
    assert (seen["minutes"], seen["device"], seen["devices"], seen["bar"]) == (2.0, "cpu", 2, False)
    assert capsys.readouterr().out == "step 1\n"


def test_a_dry_run_says_what_it_will_cost(cache, tmp_path, capsys):
    words = ["--cache", cache, "-o", tmp_path / "x.safetensors", "--coarsen", "4", "--batch", "1", "--dry-run"]
    words += ["--work", tmp_path / "work", "--device", "cpu"]
    assert call(*words, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["shape"] == [28, 36, 24]
    assert told["minutes"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--network", "vnet"], "there is no network called 'vnet'; the networks are runet,"),
        (["--size", "huge"], "runet comes in the sizes small, full; got 'huge'"),
        (["--steps", "250"], "250 steps are no whole number of validation intervals of 100 steps; take 200 or 300"),
        (["--alpha", "1", "--symmetry", "symmetry-none"], "there is no model called 'symmetry-none'"),
        (["--alpha", "-1"], "alpha, alpha_rise and cross_entropy are 0 or more; got -1.0"),
    ],
)
def test_bad_calls_are_one_line(cache, tmp_path, capsys, words, message):
    assert call("--cache", cache, "-o", tmp_path / "x.safetensors", "--coarsen", "4", "--dry-run", *words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
