"""Training of the symmetry network: what is resumed, what is refused, and what is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.synthesis.shells import cache_of

from calvaria.datasets.cache import SkullCache
from calvaria.errors import InputError
from calvaria.models import available
from calvaria.symmetry.network import SymmetryNetwork
from calvaria.symmetry.runner import load_network
from calvaria.training import symmetry as module
from calvaria.training.poses import PoseSettings
from calvaria.training.samples import SampleSettings
from calvaria.training.symmetry import Recipe, Trainer, build, device_of, rate_at

SMALL = SampleSettings(batch=2, reuse=2, block=2, growing=0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache_of(tmp_path_factory.mktemp("symmetry")).path


@pytest.fixture(autouse=True)
def sides(monkeypatch: pytest.MonkeyPatch) -> None:
    split = SimpleNamespace(train=["train-0", "train-1"], validation=["train-2", "test-3"], test=[])
    monkeypatch.setattr(module, "load_split", lambda: split)
    monkeypatch.setattr(module, "LOOK_SAMPLES", 2)


def recipe(cache: Path, folder: Path, **changes: object) -> Recipe:
    made = Recipe(cache, folder / "work", folder / "weights" / "symmetry.safetensors", steps=4, samples=SMALL)
    return replace(made, **changes)  # type: ignore[arg-type]


def silent(line: str) -> None:
    assert line


@pytest.mark.parametrize("encoder", ["vit", "resnet"])
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    cache: Path, tmp_path: Path, encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEP_STEPS", 2)
    whole = build(recipe(cache, tmp_path / "whole", encoder=encoder), silent)
    assert whole is not None
    parts = recipe(cache, tmp_path / "parts", encoder=encoder)
    advance, count = Trainer.advance, 0

    def stop_at_three(self: Trainer) -> torch.Tensor:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return advance(self)

    monkeypatch.setattr(Trainer, "advance", stop_at_three)
    with pytest.raises(KeyboardInterrupt):
        build(parts, silent)
    said: list[str] = []
    resumed = build(parts, said.append)
    assert said[0] == "going on from step 2 of 4"
    assert resumed is not None
    assert resumed.sha256 == whole.sha256


def test_no_time_left_keeps_the_state_and_writes_no_weights(cache: Path, tmp_path: Path) -> None:
    said: list[str] = []
    made = recipe(cache, tmp_path)
    assert build(made, said.append, minutes=0.0) is None
    assert "the time is over at step 1 of 4" in said[-1]
    assert not made.output.exists()
    assert build(made, silent) is not None


def test_a_state_of_another_recipe_is_refused(cache: Path, tmp_path: Path) -> None:
    build(recipe(cache, tmp_path), silent, minutes=0.0)
    with pytest.raises(InputError, match="another recipe; delete it"):
        build(recipe(cache, tmp_path, rate=1e-4), silent)


def test_the_weights_answer_as_the_trained_network(cache: Path, tmp_path: Path) -> None:
    made = recipe(cache, tmp_path, encoder="vit", steps=2, rate=1e-2, warmup=1)
    info = build(made, silent)
    assert info is not None
    assert info.size_bytes < 12e6
    assert [model.name for model in available(made.output.parent)] == ["symmetry-vit"]
    assert "CC BY-NC-SA" in info.card
    assert "`calvaria train symmetry --encoder vit --steps 2`" in info.card
    state = torch.load(made.work / "symmetry-vit.pt", weights_only=True)["average"]
    network = SymmetryNetwork("vit")
    network.load_state_dict({k.removeprefix("module."): v for k, v in state.items() if k.startswith("module.")})
    cube = np.random.default_rng(0).random((96, 96, 96)).astype(np.float32)
    with torch.no_grad():
        wanted = network(torch.from_numpy(cube)[None, None])[0].numpy()
    assert np.abs(wanted).max() > 1e-3
    assert load_network(str(made.output))(cube) == pytest.approx(wanted, abs=2e-3)


def test_both_kinds_of_training_have_names_of_their_own(cache: Path, tmp_path: Path) -> None:
    both = [recipe(cache, tmp_path, samples=replace(SMALL, defects=d), encoder="resnet") for d in (True, False)]
    assert [one.name for one in both] == ["symmetry-resnet", "symmetry-resnet-complete"]
    assert both[0].key() != both[1].key()


def test_the_loss_of_one_batch_can_be_learned_away(cache: Path, tmp_path: Path) -> None:
    near = replace(SMALL, batch=1, growing=1000, poses=PoseSettings(flips=(0.5, 0, 0), usual_share=0.0, most_deg=12.0))
    trainer = Trainer(recipe(cache, tmp_path, steps=1000, warmup=1, rate=3e-4, samples=near), SkullCache(cache))
    batch = trainer.train.make(range(1))
    trainer.train.make = lambda numbers: batch  # type: ignore[method-assign]
    first = float(trainer.advance().mean())
    for _ in range(19):
        last = float(trainer.advance().mean())
    trainer.close()
    assert last < 0.6 * first


def test_people_of_other_sides_are_not_learned_from(cache: Path, tmp_path: Path) -> None:
    trainer = Trainer(recipe(cache, tmp_path), SkullCache(cache))
    trainer.close()
    assert trainer.train.ids == ("train-0", "train-1")
    assert trainer.watched is not None


def test_the_rate_rises_and_falls() -> None:
    made = Recipe(Path(), Path(), Path(), steps=1000, rate=1e-3, warmup=100)
    rates = [rate_at(step, made) for step in range(1000)]
    assert max(rates) == pytest.approx(1e-3)
    assert rates[0] == pytest.approx(1e-5)
    assert np.argmax(rates) in (99, 100)
    assert rates[-1] < 1e-5


@pytest.mark.parametrize("wrong", [{"encoder": "cnn"}, {"steps": 0}, {"rate": 0.0}, {"average": 1.0}])
def test_recipes_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Recipe(Path(), Path(), Path(), **wrong)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_said() -> None:
    assert device_of("auto") == "cpu"
    with pytest.raises(InputError, match="no GPU"):
        device_of("cuda")
