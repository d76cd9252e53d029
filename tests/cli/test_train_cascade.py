"""``calvaria train cascade``: options become a recipe, a dry run is said, bad calls are one line."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from tests.synthesis.shells import cache_of
from tests.training.cascades import clinical_set

pytest.importorskip("lightning", reason="Lightning is not installed: the training of networks was not tried")

from calvaria.cli import main
from calvaria.symmetry.plane import Plane
from calvaria.training import cascade as module
from calvaria.training import cascade_cases

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

SPLIT = SimpleNamespace(train=["train-0", "train-1"], validation=["train-2"], test=[])
SMALL = ["--zoom", "4", "--window", "32", "--width", "2", "--depth", "3", "--count", "2", "--validation-cases", "1"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return cache_of(tmp_path_factory.mktemp("train")).path


@pytest.fixture(autouse=True)
def sides(monkeypatch):
    monkeypatch.setattr("calvaria.training.sketches.load_split", lambda: SPLIT)
    monkeypatch.setattr(cascade_cases, "load_split", lambda: SPLIT)
    monkeypatch.setattr(cascade_cases, "skull_plane", lambda bone: Plane(np.array([1.0, 0.0, 0.0]), 0.0))


def call(*words):
    return main(["train", "cascade", *map(str, words)])


def test_options_become_the_recipe(cache, tmp_path, monkeypatch, capsys):
    seen = {}

    def build(recipe, progress, **how):
        seen.update(recipe=recipe, **how)
        progress("step 1", 0.5)

    monkeypatch.setattr(module, "build", build)
    words = ["--form", "cascade", "--prior", "--doubt", "--mirror", "flip", "--targets", "hard", "--branch", "implant"]
    words += [
        "--clinical",
        tmp_path / "c",
        "--zoom",
        "3",
        "--window",
        "96",
        "--steps",
        "200",
        "--match",
        tmp_path / "p",
    ]
    assert call("--cache", cache, "-o", tmp_path / "x.safetensors", "--device", "cpu", "--minutes", "2", *words) == 0
    made = seen["recipe"]
    assert (made.form.mirror, made.form.soft, made.form.prior, made.form.doubt) == ("flip", False, True, True)
    assert (made.data.branch, made.data.zoom, made.data.window) == ("implant", 3, 96)
    assert (made.data.clinical, made.data.match) == (tmp_path / "c", tmp_path / "p")
    assert (made.optimisation.steps, made.optimisation.batch) == (200, 4)
    assert (seen["minutes"], seen["device"], seen["devices"], seen["bar"]) == (2.0, "cpu", 1, False)
    assert made.name == "cascade-flip-hard-prior-doubt-implant-matched"
    assert capsys.readouterr().out == "step 1\n"


def test_a_dry_run_says_what_it_will_cost(cache, tmp_path, capsys):
    clinical = clinical_set(tmp_path / "set", ["train-0", "train-2"])
    words = ["--cache", cache, "--clinical", clinical, "-o", tmp_path / "x.safetensors", "--dry-run", "--batch", "2"]
    words += ["--kept-cases", tmp_path / "kept", "--device", "cpu", *SMALL]
    assert call(*words, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["shape"] == [28, 36, 24]
    assert told["minutes"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "set"]  # what was made is of use later


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--form", "vnet"], "the cascade's forms are cascade-published, cascade, behind-prior; got 'vnet'"),
        (["--branch", "both"], "implants are learned from clinical cases: give --clinical FOLDER"),
        (["--branch", "patch", "--doubt"], "doubt is the shape prior's; it goes with the prior only"),
        (["--clinical", "nowhere"], "nowhere: no index.csv in it; calvaria data import-clinical TABLE"),
    ],
)
def test_bad_calls_are_one_line(cache, tmp_path, capsys, words, message):
    assert call("--cache", cache, "-o", tmp_path / "x.safetensors", "--dry-run", *words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
