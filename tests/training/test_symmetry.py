"""Training of the symmetry network: what is resumed, what is refused, and what is written."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from tests.synthesis.shells import cache_of

from calvaria.errors import InputError
from calvaria.models import available
from calvaria.models.registry import load_about
from calvaria.symmetry.network import ENCODERS, SymmetryNetwork
from calvaria.symmetry.runner import load_network
from calvaria.synthesis.augmentation.draw import AugmentationSettings
from calvaria.training.recipes.fields import made
from calvaria.training.recipes.symmetry import Encoder, PoseSettings, SymmetryRecipe

pytest.importorskip("lightning", reason="Lightning is not installed: the training of networks was not tried")

from calvaria.training import symmetry as module
from calvaria.training.dry_run import dry_run
from calvaria.training.learner import rate_share
from calvaria.training.loop import device_of
from calvaria.training.samples import Samples
from calvaria.training.symmetry import SymmetryLearner, build, make_learner

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

SMALL = {"steps": 4, "batch": 2, "reuse": 2, "block": 2, "growing": 0, "validation_cases": 2}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache_of(tmp_path_factory.mktemp("symmetry")).path


@pytest.fixture(autouse=True)
def sides(monkeypatch: pytest.MonkeyPatch) -> None:
    split = SimpleNamespace(train=["train-0", "train-1"], validation=["train-2", "test-3"], test=[])
    monkeypatch.setattr(module, "load_split", lambda: split)


def recipe(cache: Path, folder: Path, **changes: object) -> SymmetryRecipe:
    output = folder / "weights" / "symmetry.safetensors"
    return made(SymmetryRecipe, cache=cache, work=folder / "work", output=output, **{**SMALL, **changes})


class Lines(list[str]):
    """Lines of progress."""

    def __call__(self, line: str, fraction: float) -> None:
        assert 0 <= fraction <= 1
        self.append(line)


@pytest.mark.parametrize("encoder", ["vit", "resnet"])
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    cache: Path, tmp_path: Path, encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = build(recipe(cache, tmp_path / "whole", encoder=encoder))
    assert whole is not None
    parts = recipe(cache, tmp_path / "parts", encoder=encoder, state_steps=2)
    terms, count = SymmetryLearner.terms, 0

    def stop_at_three(self: SymmetryLearner, batch: Samples) -> dict[str, torch.Tensor]:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return terms(self, batch)

    monkeypatch.setattr(SymmetryLearner, "terms", stop_at_three)
    with pytest.raises(KeyboardInterrupt):
        build(parts)
    said = Lines()
    resumed = build(parts, said)
    assert said[0] == "going on from step 2 of 4"
    assert resumed is not None
    assert resumed.sha256 == whole.sha256


def test_no_time_left_keeps_the_state_and_writes_no_weights(cache: Path, tmp_path: Path) -> None:
    said = Lines()
    asked = recipe(cache, tmp_path)
    assert build(asked, said, minutes=0.0) is None
    assert "the time is over at step 1 of 4" in said[-1]
    assert not asked.output.exists()
    assert build(asked) is not None


def test_a_state_of_another_recipe_is_refused(cache: Path, tmp_path: Path) -> None:
    build(recipe(cache, tmp_path), minutes=0.0)
    with pytest.raises(InputError, match="another recipe, or by an earlier version; delete it"):
        build(recipe(cache, tmp_path, rate=1e-4))


def test_a_state_of_an_earlier_version_is_refused(cache: Path, tmp_path: Path) -> None:
    asked = recipe(cache, tmp_path)
    asked.work.mkdir()
    (asked.work / "symmetry-vit.pt").touch()
    with pytest.raises(InputError, match=r"symmetry-vit\.pt: the state of an earlier version.*delete it to begin anew"):
        build(asked)


def test_the_recipe_lies_beside_the_state_and_its_hash_is_in_the_weights(cache: Path, tmp_path: Path) -> None:
    asked = recipe(cache, tmp_path)
    info = build(asked)
    assert info is not None
    told = json.loads((asked.folder / "recipe.json").read_text())
    assert told["key"] == asked.key() == json.loads(load_about(info)["calvaria"])["recipe"]
    assert told["optimisation"]["steps"] == 4
    assert told["samples"]["poses"]["most_deg"] == 55.0


def test_the_weights_answer_as_the_trained_network(cache: Path, tmp_path: Path) -> None:
    asked = recipe(cache, tmp_path, encoder="vit", steps=2, rate=1e-2, warmup=1)
    info = build(asked)
    assert info is not None
    assert info.size_bytes < 12e6
    assert [model.name for model in available(asked.output.parent)] == ["symmetry-vit"]
    assert "CC BY-NC-SA" in info.card
    assert "`calvaria train symmetry --encoder vit --steps 2`" in info.card
    state = torch.load(asked.folder / "last.ckpt", weights_only=True)["state_dict"]
    network = SymmetryNetwork("vit")
    network.load_state_dict({name.removeprefix("network."): value for name, value in state.items()})
    cube = np.random.default_rng(0).random((96, 96, 96)).astype(np.float32)
    with torch.no_grad():
        wanted = network(torch.from_numpy(cube)[None, None])[0].numpy()
    assert np.abs(wanted).max() > 1e-3
    assert load_network(str(asked.output))(cube) == pytest.approx(wanted, abs=2e-3)


def test_both_kinds_of_training_have_names_of_their_own(cache: Path, tmp_path: Path) -> None:
    both = [recipe(cache, tmp_path, complete_only=only, encoder="resnet") for only in (False, True)]
    assert [one.name for one in both] == ["symmetry-resnet", "symmetry-resnet-complete"]
    assert both[0].key() != both[1].key()


def test_the_loss_of_one_batch_can_be_learned_away(cache: Path, tmp_path: Path) -> None:
    poses = PoseSettings(flips=(0.5, 0, 0), usual_share=0.0, most_deg=12.0)
    near = recipe(cache, tmp_path, steps=1000, warmup=1, rate=3e-4, batch=1, growing=1000, poses=poses)
    learner = make_learner(near)
    batch = learner.source.make(range(1))
    optimiser = torch.optim.AdamW(learner.network.parameters(), lr=3e-4)
    found = []
    for _ in range(20):
        terms = learner.terms(batch)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        found.append(float(terms["sl"].detach()))
    learner.close()
    assert found[-1] < 0.6 * found[0]


def test_persons_of_other_sides_are_not_learned_from(cache: Path, tmp_path: Path) -> None:
    learner = make_learner(recipe(cache, tmp_path))
    learner.close()
    assert learner.source.ids == ("train-0", "train-1")
    assert [len(batch.cubes) for batch in learner.watched] == [2]


def test_a_cache_without_a_complete_validation_skull_is_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = SimpleNamespace(train=["train-0", "train-1"], validation=["test-3"], test=[])
    monkeypatch.setattr(module, "load_split", lambda: split)
    with pytest.raises(InputError, match=r"cache\.safetensors: there is no complete skull of the split's validation"):
        make_learner(recipe(cache, tmp_path))


def test_the_rate_rises_and_falls() -> None:
    settings = recipe(Path(), Path(), steps=1000, rate=1e-3, warmup=100).optimisation
    rates = [settings.rate * rate_share(step, settings) for step in range(1000)]
    assert max(rates) == pytest.approx(1e-3)
    assert rates[0] == pytest.approx(1e-5)
    assert np.argmax(rates) in (99, 100)
    assert rates[-1] == pytest.approx(1e-3 * settings.min_rate_share)


def test_a_dry_run_says_what_the_whole_costs_and_leaves_nothing(cache: Path, tmp_path: Path) -> None:
    asked = recipe(cache, tmp_path)
    found = dry_run(asked, partial(make_learner, asked))
    assert found.shape == (96, 96, 96)
    assert found.parameters == sum(p.numel() for p in SymmetryNetwork("vit").parameters())
    assert found.minutes * 60 >= 4 * found.step_s > 0
    assert list(tmp_path.iterdir()) == []


def test_the_encoders_of_the_recipe_are_those_that_there_are() -> None:
    assert get_args(Encoder) == ENCODERS


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"encoder": "cnn"}, "the encoder is one of vit, resnet; got 'cnn'"),
        ({"steps": 0}, "steps is 1 or more; got 0"),
        ({"steps": 1200}, "1200 steps are no whole number of validation intervals of 500 steps; take 1000 or 1500"),
        ({"rate": 0.0}, "rate and clip are above 0; got 0.0 and 1.0"),
        ({"average": 1.0}, "average lies from 0 to below 1"),
        ({"batch": 0}, "batch is 1 or more; got 0"),
        ({"reuse": 0}, "reuse is 1 or more; got 0"),
        ({"growing": -1}, "growing is 0 or more; got -1"),
        ({"heads": AugmentationSettings()}, "a sheared head has no symmetry plane: shear_sd must be 0 here"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        recipe(Path(), Path(), **wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_said() -> None:
    assert device_of("auto") == "cpu"
    with pytest.raises(InputError, match="no GPU"):
        device_of("cuda")
