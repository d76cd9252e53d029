"""Training of reconstruction networks: the same curve after a kill, the best state kept, a word when it fails."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.synthesis.shells import cache_of

from calvaria.errors import InputError
from calvaria.models import available
from calvaria.models.registry import load_about, load_arrays
from calvaria.models.runtime import run_in_openvino
from calvaria.reconstruction.networks.engine import KIND, NetworkSpec, run_in_torch
from calvaria.reconstruction.networks.zoo import make_network

pytest.importorskip("lightning", reason="Lightning is not installed: the training of networks was not tried")

from calvaria.training.dry_run import dry_run
from calvaria.training.learner import Stream
from calvaria.training.recipes.fields import changed, made
from calvaria.training.recipes.reconstruction import ReconstructionRecipe
from calvaria.training.reconstruction import ReconstructionLearner, build, make_learner
from calvaria.training.source import batch_of
from calvaria.training.watching import STOPPED, out_of_memory

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return cache_of(tmp_path_factory.mktemp("reconstruction")).path


@pytest.fixture(autouse=True)
def sides(monkeypatch):
    split = SimpleNamespace(train=["train-0", "train-1"], validation=["train-2", "test-3"], test=[])
    monkeypatch.setattr("calvaria.training.sketches.load_split", lambda: split)
    # Conversion takes seconds; one test does it.
    monkeypatch.setattr("calvaria.training.weights.has_openvino", lambda: False)


@pytest.fixture
def recipe(cache, tmp_path):
    return made(
        ReconstructionRecipe,
        cache=cache,
        work=tmp_path / "work",
        output=tmp_path / "weights" / "runet.safetensors",
        coarsen=4,
        steps=4,
        batch=1,
        warmup=1,
        interval_steps=2,
        validation_cases=1,
    )


class Lines(list):
    """Lines of progress, and how much is done at each."""

    def __call__(self, line, fraction):
        assert 0 <= fraction <= 1
        self.append(line)


def killed_at(monkeypatch, step, error):
    """Trainings end with ``error`` when they come to a step; returns how to let them be."""
    real = ReconstructionLearner.training_step

    def ends(self, batch, number):
        if self.global_step == step:
            raise error
        return real(self, batch, number)

    monkeypatch.setattr(ReconstructionLearner, "training_step", ends)
    return lambda: monkeypatch.setattr(ReconstructionLearner, "training_step", real)


WHOLE: list[str] = []
"""The digest of the weights of an undisturbed training, once there is one."""


@pytest.fixture
def whole(recipe, tmp_path):
    """The digest of what an undisturbed training by the recipe leaves."""
    if not WHOLE:
        WHOLE.append(
            build(changed(recipe, work=tmp_path / "whole", output=tmp_path / "whole" / "runet.safetensors")).sha256
        )
    return WHOLE[0]


def test_a_killed_training_goes_on_to_the_same_bytes(recipe, whole, tmp_path, monkeypatch):
    other = changed(recipe, work=tmp_path / "other", output=tmp_path / "other" / "runet.safetensors")
    revive = killed_at(monkeypatch, 3, RuntimeError("power cut"))
    with pytest.raises(RuntimeError, match="power cut"):
        build(other)
    revive()
    lines = Lines()
    again = build(other, lines)
    assert lines[0] == "going on from step 2 of 4"
    assert again.sha256 == whole


def test_pieces_of_minutes_lead_to_the_same_bytes(recipe, whole, tmp_path):
    pieces = changed(recipe, work=tmp_path / "pieces", output=tmp_path / "pieces" / "runet.safetensors")
    lines, found, calls = Lines(), None, 0
    while found is None:
        found, calls = build(pieces, lines, minutes=0.0), calls + 1
        assert calls <= recipe.optimisation.steps
    assert (
        calls == recipe.optimisation.steps // recipe.validation.interval_steps + 1
    )  # it always gets on, and stops after a validation's next step
    assert sum("the same command goes on from here" in line for line in lines) == calls - 1
    assert found.sha256 == whole


def test_a_finished_training_is_not_done_again_and_its_network_is_converted(recipe, monkeypatch):
    first = build(recipe)
    assert not first.others
    monkeypatch.setattr("calvaria.training.weights.has_openvino", lambda: True)
    recipe.output.unlink()
    lines = Lines()
    again = build(recipe, lines)
    assert again.sha256 == first.sha256
    assert not lines
    spec, x = NetworkSpec.of(again), np.random.default_rng(0).random((1, 1, 28, 36, 24)).astype(np.float32)
    np.testing.assert_allclose(run_in_openvino(again)(x), run_in_torch(again, spec)(x), atol=1e-3)


def test_another_recipe_does_not_go_on_from_the_state(recipe):
    build(recipe, minutes=0.0)
    with pytest.raises(
        InputError,
        match=r"trained by another recipe, or by an earlier version; delete it to begin anew, or name another --work",
    ):
        build(changed(recipe, rate=1e-4))


def test_the_weights_on_disk_are_the_average_of_the_best_validation(recipe, monkeypatch):
    seen = {}
    real = ReconstructionLearner.validation_step

    def validation_step(self, batch, number):
        real(self, batch, number)
        seen[self.global_step] = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.log("validation/dsc", torch.tensor({2: 0.9, 4: 0.3}[self.global_step]), batch_size=1)

    monkeypatch.setattr(ReconstructionLearner, "validation_step", validation_step)
    # Lightning logs a name once a step: the real line is left out here.
    monkeypatch.setattr(
        ReconstructionLearner,
        "log",
        lambda self, name, *a, _log=ReconstructionLearner.log, **k: (
            None if "sync_dist" in k else _log(self, name, *a, **k)
        ),
    )
    info = build(recipe)
    assert info.kind == KIND
    about = json.loads(load_about(info)["calvaria"])
    assert about["step"] == 2
    assert about["shape"] == [28, 36, 24]
    found = load_arrays(info)
    for name, value in seen[2].items():
        np.testing.assert_array_equal(found[name], value.numpy(), err_msg=name)
    assert any((seen[4][name] != seen[2][name]).any() for name in seen[2])
    network = make_network(about["network"], tuple(about["shape"]), size=about["size"])
    network.load_state_dict({name: torch.from_numpy(value) for name, value in found.items()})
    assert "DSC\n  0.900" in info.card
    assert "CC BY-NC-SA 4.0" in info.card
    assert [model.name for model in available(recipe.output.parent)] == ["runet"]


def test_a_training_that_gets_no_better_ends(recipe):
    # An average that never moves: every validation is the same.
    lines = Lines()
    info = build(changed(recipe, steps=40, patience=2, average=0.0, rate=1e-30), lines)
    assert info is not None
    assert lines[-1] == "no better validation in 2: done at step 6"


def test_a_loss_that_is_no_number_is_said_and_the_state_kept(recipe, monkeypatch):
    real = ReconstructionLearner.losses

    def broken(self, batch, logits):
        terms = real(self, batch, logits)
        return {**terms, "loss": terms["loss"] * math.nan} if self.global_step == 3 else terms

    monkeypatch.setattr(ReconstructionLearner, "losses", broken)
    with pytest.raises(InputError, match=r"runet: step 3: the loss is nan; try a lower --rate.*stopped\.ckpt") as error:
        build(recipe)
    assert "\n" not in str(error.value)
    kept = torch.load(recipe.work / "runet" / STOPPED, weights_only=True)
    assert kept["global_step"] == 3
    assert all(torch.isfinite(value).all() for value in kept["state_dict"].values())
    assert torch.load(recipe.work / "runet" / "last.ckpt", weights_only=True)["global_step"] == 2


def without_gradients_at(monkeypatch, steps):
    """Losses that are numbers, and whose gradients are not finite, at some steps."""
    real = ReconstructionLearner.losses

    def broken(self, batch, logits):
        terms = real(self, batch, logits)
        if self.global_step in steps and logits.requires_grad:
            terms["loss"] = terms["loss"] + (logits.sum() * 0).sqrt()
        return terms

    monkeypatch.setattr(ReconstructionLearner, "losses", broken)


def test_gradients_that_are_not_finite_change_nothing(recipe, monkeypatch):
    lines = Lines()
    monkeypatch.setattr("calvaria.training.watching.NOTE_STEPS", 1)
    without_gradients_at(monkeypatch, {1})
    info = build(recipe, lines)
    assert all(np.isfinite(value).all() for value in load_arrays(info).values())
    assert "passed over" not in lines[0]
    assert any(line.endswith("1 steps passed over: their gradients were not finite") for line in lines)
    state = torch.load(recipe.work / "runet" / "last.ckpt", weights_only=True)["optimizer_states"][0]["state"]
    assert {int(weight["step"]) for weight in state.values()} == {recipe.optimisation.steps - 1}


def test_steps_passed_over_are_counted_on_when_a_training_goes_on(recipe, monkeypatch):
    lines = Lines()
    monkeypatch.setattr("calvaria.training.watching.NOTE_STEPS", 1)
    without_gradients_at(monkeypatch, {0})
    assert build(recipe, lines, minutes=0.0) is None
    while build(recipe, lines, minutes=0.0) is None:
        pass
    later = next(line for line in lines if line.startswith("step 3 of 4"))
    assert later.endswith("1 steps passed over: their gradients were not finite")


def test_gradients_that_stay_not_finite_end_it_with_good_weights(recipe, monkeypatch):
    monkeypatch.setattr("calvaria.training.learner.MAX_SKIPPED", 2)
    without_gradients_at(monkeypatch, {1, 2, 3})
    with pytest.raises(
        InputError, match=r"gradients were not finite 2 times in a row; try a lower --rate.*stopped\.ckpt"
    ):
        build(recipe)
    kept = torch.load(recipe.work / "runet" / STOPPED, weights_only=True)
    assert all(torch.isfinite(value).all() for value in kept["state_dict"].values())


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ],
)
def test_too_little_memory_is_said_and_the_state_kept(recipe, monkeypatch, error):
    revive = killed_at(monkeypatch, 3, error)
    with pytest.raises(InputError, match=r"does not suffice for 1 cases a step; try a smaller --batch, --size small"):
        build(recipe)
    assert torch.load(recipe.work / "runet" / STOPPED, weights_only=True)["global_step"] == 3
    revive()
    assert build(recipe) is not None
    assert not out_of_memory(RuntimeError("another trouble"))


def test_ctrl_c_is_ctrl_c(recipe, monkeypatch):
    revive = killed_at(monkeypatch, 3, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        build(recipe)
    revive()
    assert build(recipe) is not None


def test_nobody_is_learned_from_who_is_watched(recipe):
    learner = make_learner(changed(recipe, validation_cases=3))
    ids = [learner.source.maker.cache.entries[row].id for row in learner.source.maker.rows]
    assert sorted(ids) == ["train-0", "train-1"]
    assert learner.grid.shape == (28, 36, 24)
    watched = [one["truth"] for one in learner.watched]
    again = [one["truth"] for one in make_learner(changed(recipe, validation_cases=3, seed=5)).watched]
    assert all((a == b).all() for a, b in zip(watched, again, strict=True))


def test_a_batch_says_how_much_of_each_voxel_is_what(recipe):
    learner = make_learner(recipe)
    cases = learner.source.maker.make([0, 1])
    batch = batch_of(cases, 4)
    assert batch["seen"].shape == (2, 1, 28, 36, 24)
    assert float(batch["truth"].sum()) * 64 == pytest.approx(float(cases.patch.sum()))
    assert float(batch["seen"].max()) <= 1
    here = cases.shown[1, 0, 40:44, 60:64, 48:52]
    assert float(batch["seen"][1, 0, 10, 15, 12]) == pytest.approx(float(here.mean()))


def test_processes_share_the_cases(recipe):
    learner = make_learner(recipe)
    parts = [list(Stream(learner.source, recipe.optimisation, 2, process=n, processes=2)) for n in range(2)]
    assert [len(part) for part in parts] == [2, 2]
    for turn in range(2):
        for process in range(2):
            wanted = batch_of(learner.source.maker.make([(2 + turn) * 2 + process]), 4)
            assert (parts[process][turn]["truth"] == wanted["truth"]).all()


def test_alpha_rises(recipe):
    learner = make_learner(recipe)
    found = []
    for step in (0, 5, 10, 20):
        learner.loss = changed(recipe, alpha=2.0, alpha_rise=10).loss
        learner.trainer = SimpleNamespace(global_step=step)
        found.append(learner.alpha)
    assert found == [0.0, 1.0, 2.0, 2.0]
    learner.loss = changed(recipe, alpha=2.0).loss
    assert learner.alpha == 2.0


class Still(torch.nn.Module):
    """A symmetry network that finds the plane through the head's centre."""

    def forward(self, cubes):
        return cubes.mean(dim=(2, 3, 4)).expand(-1, 3) * 0


def test_the_symmetry_term_is_learned_from_and_no_part_of_the_state(recipe, monkeypatch):
    monkeypatch.setattr("calvaria.symmetry.runner.load_module", lambda name: Still())
    with_term = changed(recipe, alpha=1.0, steps=2)
    assert with_term.name == "runet-sym"
    learner = make_learner(with_term)
    batch = batch_of(learner.source.maker.make([0]), 4)
    learner.trainer = SimpleNamespace(global_step=0)
    with torch.no_grad():
        terms = learner.losses(batch, learner.network(batch["seen"]))
    assert float(terms["loss"]) == pytest.approx(float(terms["overlap"] + terms["symmetry"]), rel=1e-5)
    assert all(name.startswith("network.") for name in learner.state_dict())
    info = build(with_term)
    assert info.name == "runet-sym"
    assert "symmetry term alpha 1 in the window 'calvaria'" in info.card


def test_cross_entropy_is_added_where_it_is_wanted(recipe):
    learner = make_learner(changed(recipe, cross_entropy=0.5))
    learner.trainer = SimpleNamespace(global_step=0)
    batch = batch_of(learner.source.maker.make([0]), 4)
    with torch.no_grad():
        terms = learner.losses(batch, learner.network(batch["seen"]))
    assert float(terms["loss"]) == pytest.approx(float(terms["overlap"] + 0.5 * terms["cross_entropy"]), rel=1e-5)


def test_a_network_learns(recipe):
    learner = make_learner(recipe)
    learner.trainer = SimpleNamespace(global_step=0)
    optimiser = torch.optim.AdamW(learner.network.parameters(), lr=3e-3)
    batch = batch_of(learner.source.maker.make([0]), 4)
    found = []
    for _ in range(25):
        loss = learner.losses(batch, learner.network(batch["seen"]))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(float(loss.detach()))
    assert found[-1] < 0.5 * found[0]


def test_a_dry_run_says_what_the_whole_costs_and_leaves_nothing(recipe):
    found = dry_run(recipe, partial(make_learner, recipe))
    assert found.parameters == sum(p.numel() for p in make_network("runet", found.shape).parameters())
    assert found.steps == 4
    assert found.step_s > 0
    assert found.case_s > 0
    assert found.memory_mb > 100
    assert found.minutes * 60 >= 4 * found.step_s
    assert not recipe.work.exists()
    assert len(found.lines()) == 4
    assert found.as_json()["shape"] == (28, 36, 24)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 1 or more; got 0"),
        ({"steps": 5}, "5 steps are no whole number of validation intervals of 2 steps; take 4 or 6"),
        ({"batch": 0}, "batch is 1 or more; got 0"),
        ({"alpha": -1.0}, "alpha, alpha_rise and cross_entropy are 0 or more; got -1.0, 0 and 0.0"),
        ({"rate": 0.0}, "rate and clip are above 0; got 0.0 and 1.0"),
        ({"warmup": -1}, "warmup and decay are 0 or more; got -1 and 0.01"),
        ({"patience": -1}, "patience is 0 or more; got -1"),
        ({"keep": "first"}, "keep is one of best, last; got 'first'"),
        ({"average": 1.0}, "average lies from 0 to below 1"),
        ({"window": "nose"}, "the window is one of skull, calvaria, patch; got 'nose'"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(recipe, change, message):
    with pytest.raises(InputError, match=message):
        changed(recipe, **change)


def test_a_grid_that_does_not_divide_is_refused(recipe):
    with pytest.raises(InputError, match="do not divide by 5"):
        make_learner(changed(recipe, coarsen=5))


def test_two_processes_learn_together(tmp_path):
    """By the command itself, since Lightning starts the second process by it."""
    made = cache_of(tmp_path)
    start = tmp_path / "start.py"
    start.write_text(
        "from types import SimpleNamespace\n"
        "from calvaria.training import sketches, weights\n"
        "weights.has_openvino = lambda: False\n"
        "sketches.load_split = lambda: SimpleNamespace(train=['train-0', 'train-1'], validation=['train-2'])\n"
        "from calvaria.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, str(start), "train", "reconstruction", "--cache", str(made.path), "--coarsen", "4"]
    command += ["-o", str(tmp_path / "out" / "runet.safetensors"), "--steps", "2", "--batch", "1", "--devices", "2"]
    command += ["--device", "cpu", "--work", str(tmp_path / "work")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation DSC") == 1  # said once, not by each process
    assert [model.name for model in available(tmp_path / "out")] == ["runet"]
    assert (tmp_path / "work" / "runet" / "last.ckpt").exists()
