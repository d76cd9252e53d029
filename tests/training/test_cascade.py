"""Training of the cascade: what each head learns from, whose cases, the same bytes after a kill, bad inputs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.synthesis.shells import cache_of
from tests.training.cascades import clinical_set, recipe_of

from calvaria.datasets.cache import SkullCache
from calvaria.datasets.persons import digest_of
from calvaria.errors import InputError
from calvaria.models.registry import available, load_about
from calvaria.reconstruction.networks.cascade_engine import CASCADE, CascadeSpec, runs_in_torch
from calvaria.skull.canonical import CanonicalFrame
from calvaria.skull.proportions import Population, Proportions, write_population
from calvaria.symmetry.plane import Plane
from calvaria.training import cascade as module
from calvaria.training import cascade_cases

pytest.importorskip("lightning", reason="Lightning is not installed: the training of networks was not tried")

from calvaria.training.cascade import build, make_learner
from calvaria.training.cascade_batches import CascadeSource, sample_of, soft_window, window_start
from calvaria.training.cascade_cases import CascadeCases, Kept, clinical_sides, factors_to, now_and_then, prepare
from calvaria.training.dry_run import dry_run
from calvaria.training.recipes.fields import changed
from calvaria.training.sketches import TRAIN, VALIDATION

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

SPLIT = SimpleNamespace(train=["train-0", "train-1"], validation=["train-2", "test-3"], test=["train-9"])


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return cache_of(tmp_path_factory.mktemp("cascade")).path


@pytest.fixture(scope="module")
def clinical(tmp_path_factory):
    return clinical_set(tmp_path_factory.mktemp("clinical") / "set", ["train-9", "train-0", "train-2", "elsewhere"])


@pytest.fixture(scope="module")
def kept_cases(tmp_path_factory):
    """Cases are the same in all tests of one recipe: made once."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(autouse=True)
def sides(monkeypatch):
    monkeypatch.setattr("calvaria.training.sketches.load_split", lambda: SPLIT)
    monkeypatch.setattr("calvaria.training.folds.load_split", lambda: SPLIT)
    monkeypatch.setattr(cascade_cases, "load_split", lambda: SPLIT)
    # Conversion takes seconds; the engine's tests do it.
    monkeypatch.setattr("calvaria.training.weights.has_openvino", lambda: False)
    plane = Plane(np.array([1.0, 0.02, 0.0]), 1.5)
    monkeypatch.setattr(cascade_cases, "skull_plane", lambda bone: plane)  # tested with the networks' inputs


@pytest.fixture
def recipe(cache, clinical, kept_cases, tmp_path):
    return recipe_of(cache, clinical, tmp_path, kept_cases=kept_cases)


def sample(recipe, branch="patch", number=0):
    return CascadeCases(recipe).read(TRAIN, branch, number)


def test_a_killed_training_goes_on_to_the_same_bytes(recipe, tmp_path, monkeypatch):
    whole = build(recipe)
    other = changed(recipe, work=tmp_path / "other", output=tmp_path / "other" / "cascade.safetensors")
    real = module.CascadeLearner.training_step

    def ends(self, batch, number):
        if self.global_step == 3:
            raise RuntimeError("power cut")
        return real(self, batch, number)

    monkeypatch.setattr(module.CascadeLearner, "training_step", ends)
    with pytest.raises(RuntimeError, match="power cut"):
        build(other)
    monkeypatch.setattr(module.CascadeLearner, "training_step", real)
    lines = []
    again = build(other, lambda line, share: lines.append(line))
    assert "going on from step 2 of 4" in lines
    assert again.sha256 == whole.sha256
    assert (whole.kind, whole.name) == (CASCADE, "cascade-published")
    about = json.loads(load_about(whole)["calvaria"])
    assert about["branch"] == "both"
    # Of the clinical set, those that it learned from, and not by name.
    assert about["clinical_persons"] == sorted(map(digest_of, ("train-0", "elsewhere")))
    assert "Learned: patches and implants; yes or no" in whole.card
    coarse, fine = runs_in_torch(whole, CascadeSpec.of(whole))
    assert coarse(np.zeros((1, 2, 28, 36, 24), np.float32)).shape == (1, 2, 28, 36, 24)
    assert fine(np.zeros((1, 3, 24, 24, 24), np.float32)).shape == (1, 2, 24, 24, 24)
    with pytest.raises(InputError, match=r"trained by another recipe, or by an earlier version; delete it"):
        build(changed(recipe, rate=1e-4))


def test_steps_take_turns_and_each_head_learns_from_its_own_cases_alone(recipe):
    learner = make_learner(recipe)
    batch = learner.source.make([0, 1])
    assert batch["head"].tolist() == [0, 1]
    for step, fine in enumerate((False, True, False)):
        terms = learner.terms(batch)
        stages = ("coarse", "fine") if fine else ("coarse",)
        assert set(terms) == {"loss", *(f"{stage}_{branch}" for stage in stages for branch in ("patch", "implant"))}
        parts = [value for name, value in terms.items() if name != "loss"]
        assert float(terms["loss"].detach()) == pytest.approx(float(sum(parts).detach()), rel=1e-6)
        learner.zero_grad()
        terms["loss"].backward()
        reached = any(p.grad is not None for p in learner.network.fine.parameters())
        assert reached == fine, step
    only = {name: value[:1] for name, value in batch.items()}  # a patch, no implant
    for fine in (True, False):
        learner.zero_grad()
        learner.losses(only, fine=fine)["loss"].backward()
        for stage in (learner.network.coarse, learner.network.fine)[: 1 + fine]:
            patch, implant = ([p.grad for p in head.parameters()] for head in stage.heads)
            assert all(one is not None and bool(one.any()) for one in patch)
            # Neither by its own loss nor through the map that the fine network is shown.
            assert all(one is None or not one.any() for one in implant)
    # What the fine network learns reaches the coarse one: there is more than the coarse loss's own gradient.
    first = learner.network.coarse.first.around.weight
    found = []
    for fine in (False, True):
        learner.zero_grad()
        learner.losses(only, fine=fine)["loss"].backward()
        found.append(first.grad.clone())
    assert (found[0] != found[1]).any()


def test_a_loss_counts_what_is_its_own(recipe):
    learner = make_learner(recipe)
    batch = learner.source.make([0, 1])
    with torch.no_grad():
        one = learner.losses(batch, fine=True)
        batch["truth"][1] = 1 - batch["truth"][1]  # the implant's
        batch["window_truth"][1] = 255 - batch["window_truth"][1]
        other = learner.losses(batch, fine=True)
    for name in ("coarse_patch", "fine_patch"):
        assert float(one[name]) == float(other[name])
    for name in ("coarse_implant", "fine_implant"):
        assert float(one[name]) != float(other[name])
    batch["known"][:], batch["window_known"][:] = 0, 0
    with torch.no_grad():
        assert float(learner.losses(batch, fine=True)["loss"]) == 0


def test_the_published_input_is_the_skull_and_its_flipped_array_and_truths_are_yes_or_no(recipe):
    batch = CascadeSource(CascadeCases(recipe), 2).make([0, 1])
    maps = batch["maps"].numpy()
    assert maps.shape == (2, 2, 28, 36, 24)
    np.testing.assert_array_equal(maps[:, 1], maps[:, 0, ::-1])
    assert set(batch["truth"].unique().tolist()) == {0.0, 1.0}
    assert set(batch["window_truth"].unique().tolist()) == {0, 255}
    kept = sample(recipe)
    x, y, z = batch["start"][0].tolist()
    window = kept.bone[x : x + 24, y : y + 24, z : z + 24]
    np.testing.assert_array_equal(batch["window"][0, 0].numpy() == 255, window)
    assert batch["window"].dtype == torch.uint8
    assert batch["window_truth"][0].any()
    assert not (kept.bone & kept.truth).any()
    block = kept.bone[40:44, 60:64, 48:52].mean()
    assert float(maps[0, 0, 10, 15, 12]) == pytest.approx(block)


def test_ours_is_mirrored_about_the_plane_that_was_kept_and_learns_shares(recipe):
    ours = changed(recipe, form="cascade")
    batch = CascadeSource(CascadeCases(ours), 2).make([0, 1])
    maps = batch["maps"].numpy()
    assert (maps[:, 1] != maps[:, 0, ::-1]).any()
    assert np.abs(maps[:, 1] - maps[:, 0, ::-1]).mean() < 0.05  # 1.5 mm of 6.4
    assert len(batch["truth"].unique()) > 2
    assert len(batch["window_truth"].unique()) > 2
    assert ours.name == "cascade"
    assert changed(ours, mirror="none", targets="hard").form == replace(ours.form, mirror="none", soft=False)


def test_a_case_that_comes_again_is_mirrored(recipe):
    source = CascadeSource(CascadeCases(recipe), 2)
    first, again, third = (source.make([2 * n, 2 * n + 1]) for n in (0, 2, 4))  # two cases of each branch
    for part in ("maps", "truth"):
        np.testing.assert_array_equal(again[part].numpy(), first[part].numpy()[:, :, ::-1])
        np.testing.assert_array_equal(third[part].numpy(), first[part].numpy())
    assert (third["start"] != first["start"]).any()  # another window
    np.testing.assert_array_equal(source.make([8, 9])["window"], third["window"])
    kept = sample(recipe)
    np.testing.assert_allclose(kept.mirrored().plane, kept.plane * [1, -1, -1, -1])
    np.testing.assert_allclose(kept.mirrored().mirrored().plane, kept.plane)


def test_a_mini_batch_is_half_patches_half_implants(recipe):
    source = CascadeSource(CascadeCases(recipe), 4)
    read = []
    source.cases.read = lambda side, branch, number: read.append((branch, number)) or sample(recipe, branch, number)
    source.make([4, 5, 6, 7])
    assert read == [("patch", 0), ("patch", 1), ("implant", 0), ("implant", 1)]
    alone = changed(recipe, branch="implant")
    assert CascadeSource(CascadeCases(alone), 2).make([0, 1])["head"].tolist() == [1, 1]
    assert alone.name == "cascade-published-implant"


def test_implants_are_learned_from_training_persons_alone(clinical, tmp_path):
    found = clinical_sides(clinical)
    assert [case.person for case in found[TRAIN]] == ["train-0", "elsewhere"]
    assert [case.person for case in found[VALIDATION]] == ["train-2"]
    strangers = clinical_sides(clinical_set(tmp_path / "set", ["a", "b", "c"], masks=False))
    assert (len(strangers[TRAIN]), len(strangers[VALIDATION])) == (2, 1)


def test_a_clinical_case_is_first_as_it_is_and_then_moved(recipe):
    from tests.synthesis.shells import head
    from tests.training.cascades import implant_of, side_hole

    cases = CascadeCases(recipe)
    first, _, moved = (cases.read(TRAIN, "implant", n) for n in (0, 1, 2))
    bone = head((1.02, 1.0, 1.0))  # of train-0
    np.testing.assert_array_equal(first.bone, bone & ~side_hole())
    np.testing.assert_array_equal(first.truth, implant_of(bone))
    assert first.known.all()
    both = (moved.truth & first.truth).sum() / first.truth.sum()
    assert 0.05 < both < 0.98


@pytest.mark.parametrize(
    ("persons", "implants", "message"),
    [
        ([], True, "the clinical set has no usable case; its refused.csv says why"),
        (["train-0", "train-1"], False, "none of the 2 clinical cases has an implant; implants are learned from"),
        (["train-9"], True, "none of the 1 cases with an implant shows a training person"),
    ],
)
def test_clinical_sets_that_teach_nothing_are_refused(recipe, tmp_path, persons, implants, message):
    folder = clinical_set(tmp_path / "set", persons, implants=implants, masks=False)
    with pytest.raises(InputError, match=message):
        make_learner(changed(recipe, clinical=folder))
    assert CascadeCases(changed(recipe, clinical=folder, branch="patch")).branches == ("patch",)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"clinical": None}, r"implants are learned from clinical cases: give --clinical FOLDER .*, or --branch patch"),
        ({"batch": 3}, "half of a mini-batch are patches, half implants: batch is even; got 3"),
        ({"branch": "chin"}, "branch is one of both, patch, implant; got 'chin'"),
        ({"form": "vnet"}, "the cascade's forms are cascade-published, cascade, behind-prior; got 'vnet'"),
        ({"window": 8, "depth": 4}, "a network of 4 levels wants windows of 16 voxels or more; got 8"),
        ({"zoom": 1}, "zoom is 2 or more; got 1"),
        ({"doubt": True}, "doubt is the shape prior's; it goes with the prior only"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(recipe, values, message):
    with pytest.raises(InputError, match=message):
        changed(recipe, **values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"zoom": 5}, r"zoom: the cache's \(112, 144, 96\) voxels do not divide by 5"),
        ({"window": 100}, "fewer than 100"),
    ],
)
def test_grids_that_do_not_fit_are_refused(recipe, values, message):
    with pytest.raises(InputError, match=message):
        CascadeCases(changed(recipe, **values))


def test_windows_lie_on_the_grid_about_what_is_learned():
    truth = np.zeros((40, 50, 60), bool)
    truth[36:39, 20:23, 30:33] = True
    kept = Kept(~truth, truth, truth, np.array([1.0, 0, 0, 0]))
    starts = np.array([window_start(np.random.default_rng(n), kept, 16) for n in range(40)])
    assert (starts[:, 0] == 24).all()  # as far as the grid goes
    assert starts[:, 1].min() >= 20 - 8 - 3
    assert starts[:, 1].max() <= 22 - 8 + 3
    assert len(np.unique(starts[:, 1])) > 3
    assert window_start(None, kept, 16) == (24, 13, 23)
    nothing = replace(kept, truth=np.zeros_like(truth))
    assert window_start(np.random.default_rng(0), nothing, 16) == (12, 17, 22)


def test_soft_windows_keep_the_masks_surface_and_lose_nothing_towards_bone():
    truth = np.zeros((12, 12, 12), bool)
    truth[4:8, :, 4:8] = True
    bone = np.zeros_like(truth)
    bone[8:, :, 4:8] = True  # the patch goes on into bone along x
    kept = Kept(bone, truth, np.ones_like(truth), np.array([1.0, 0, 0, 0]))
    found = soft_window(kept, (0, 0, 0), 12)[:, 6] / 255
    assert ((found > 0.5) == truth[:, 6]).all()
    assert found[6, 3] == pytest.approx(0.25, abs=0.01)  # beside its outer surface
    assert found[6, 4] == pytest.approx(0.75, abs=0.01)
    assert found[7, 5] == pytest.approx(1.0)  # beside bone
    assert found[4, 5] == pytest.approx(0.75, abs=0.01)
    assert not found[8:, 4:8].any()
    assert found[8, 3] < 0.1  # the bone's own edge is none of the patch
    assert not found[9:].any()


def test_the_prior_is_asked_who_has_not_seen_the_person_and_what_it_says_is_kept(recipe, tmp_path, monkeypatch):
    asked = []
    soft = SimpleNamespace(spread=None)

    class Prior:
        template = None

        def complete(self, field, sketch):
            return soft

    monkeypatch.setattr(cascade_cases.FoldPriors, "of", lambda self, person: asked.append(person) or Prior())
    monkeypatch.setattr(cascade_cases, "load_prior", lambda: asked.append("shipped") or Prior())
    frame = CanonicalFrame(np.eye(4), np.ones(3), 0.0, ())
    monkeypatch.setattr(cascade_cases, "locate", lambda skull, template: frame)
    monkeypatch.setattr(cascade_cases, "settle", lambda skull, found, prior: (found, None, None))
    monkeypatch.setattr(cascade_cases, "missing_share", lambda *_: np.full((28, 36, 24), 0.4, np.float32))
    monkeypatch.setattr(cascade_cases, "doubt_on", lambda *_: np.full((28, 36, 24), 0.2, np.float32))
    with_prior = changed(recipe, form="cascade", prior=True, doubt=True, kept_cases=tmp_path / "prior")
    cases = CascadeCases(with_prior)
    assert [task for task in cases.tasks() if task[0] == "field"] == [("field", "", 0), ("field", "", 1)]
    batch = CascadeSource(cases, 2).make([0, 1])
    assert batch["maps"].shape == (2, 4, 28, 36, 24)
    assert batch["maps"][:, 2].unique().tolist() == pytest.approx([0.4], abs=0.002)
    assert batch["maps"][:, 3].unique().tolist() == pytest.approx([0.2], abs=0.002)
    assert set(asked) <= {"train-0", "train-1"}
    cases.read(TRAIN, "implant", 1)
    assert asked[-1] == "shipped"  # a person that no fold has
    learner = make_learner(with_prior)
    assert with_prior.name == "cascade-prior-doubt"
    assert {"fine_patch", "fine_implant"} <= set(learner.losses(batch, fine=True))


def test_behind_the_prior_the_fine_network_alone_corrects_its_completion(recipe, tmp_path, monkeypatch):
    soft, asked = SimpleNamespace(spread=None), []

    class Prior:
        template = None

        def complete(self, field, sketch):
            asked.append(sketch)
            return soft

    def depth_of(found, frame, bone, grid, reach_mm):
        assert found is soft
        depth = np.zeros(grid.shape, np.float32)
        depth[60:80, 40:90, 50:70] = 0.8
        return np.where(bone, 0, depth)

    monkeypatch.setattr(cascade_cases.FoldPriors, "of", lambda self, person: Prior())
    monkeypatch.setattr(cascade_cases.FoldPriors, "missing", lambda self: [])
    monkeypatch.setattr(cascade_cases, "load_prior", Prior)
    frame = CanonicalFrame(np.eye(4), np.ones(3), 0.0, ())
    monkeypatch.setattr(cascade_cases, "locate", lambda skull, template: frame)
    monkeypatch.setattr(cascade_cases, "settle", lambda skull, found, prior: (found, None, "sketch"))
    monkeypatch.setattr(cascade_cases, "missing_share", lambda *_: np.full((28, 36, 24), 0.4, np.float32))
    monkeypatch.setattr(cascade_cases, "missing_depth", depth_of)
    behind = changed(recipe, form="behind-prior", kept_cases=tmp_path / "behind")
    learner = make_learner(behind)
    assert behind.name == "behind-prior"
    assert set(asked) == {"sketch"}
    batch, again = learner.source.make([0, 1]), learner.source.make([4, 5])
    assert batch["maps"].shape == (2, 0, 28, 36, 24)
    x, y, z = batch["start"][0].tolist()
    kept = sample(behind)
    np.testing.assert_array_equal(batch["window_depth"][0, 0], kept.depth[x : x + 24, y : y + 24, z : z + 24])
    x, y, z = again["start"][0].tolist()
    turned = kept.depth[::-1]
    np.testing.assert_array_equal(again["window_depth"][0, 0], turned[x : x + 24, y : y + 24, z : z + 24])
    for _ in range(2):  # every step is the fine network's
        assert set(learner.terms(batch)) == {"loss", "fine_patch", "fine_implant"}
    whole = build(behind)
    assert "its fine network alone, which corrects the shape prior's completion" in whole.card
    coarse, fine = runs_in_torch(whole, CascadeSpec.of(whole))
    assert coarse is None
    assert fine(np.zeros((1, 2, 24, 24, 24), np.float32)).shape == (1, 2, 24, 24, 24)
    without = replace(kept, depth=None)
    with pytest.raises(InputError, match="kept without the depth of the prior's completion; name another folder"):
        sample_of(without, "patch", CascadeCases(behind), (0, 0, 0))


def test_cases_are_made_once_and_by_their_number(recipe, tmp_path, monkeypatch):
    here = changed(recipe, kept_cases=tmp_path / "a")
    lines, other = [], sample(recipe, number=1)
    prepare(CascadeCases(here), lambda line, share: lines.append(line))
    assert "6 of 6 cases" in lines[-1]
    assert CascadeCases(here).tasks() == []
    monkeypatch.setattr(CascadeCases, "_made", lambda *_: pytest.fail("made twice"))
    prepare(CascadeCases(here))
    one = sample(here, number=1)
    np.testing.assert_array_equal(one.bone, other.bone)
    np.testing.assert_array_equal(one.truth, other.truth)
    named = CascadeCases(changed(recipe, kept_cases=None)).folder
    assert named.parent == recipe.work
    assert named == CascadeCases(changed(recipe, kept_cases=None, form="cascade", rate=0.5)).folder
    assert named != CascadeCases(changed(recipe, kept_cases=None, seed=1)).folder


def test_skulls_are_rescaled_to_a_population(recipe, cache, tmp_path, monkeypatch):
    frame = CanonicalFrame(np.eye(4), np.ones(3), 0.0, ())
    monkeypatch.setattr(cascade_cases, "locate", lambda skull: frame)
    told = {}
    monkeypatch.setattr(
        cascade_cases,
        "proportions",
        lambda skull, frame: told.setdefault(len(told), Proportions(180.0, 140.0, 120.0)),
    )
    path = tmp_path / "population.json"
    mean = Proportions(189.0, 154.0, 120.0)
    write_population(path, Population(9, mean, Proportions(1.0, 1.0, 1.0)))
    assert factors_to(path, SkullCache(cache)) == pytest.approx((1.1, 1.05, 1.0))
    matched = CascadeCases(changed(recipe, match=path, kept_cases=tmp_path / "matched"))
    assert matched.factors == pytest.approx((1.1, 1.05, 1.0))
    grown, plain = (one.read(TRAIN, "patch", 0) for one in (matched, CascadeCases(recipe)))
    widths = [np.ptp(np.flatnonzero((one.bone | one.truth).any(axis=(1, 2)))) for one in (grown, plain)]
    assert widths[0] / widths[1] == pytest.approx(1.1, abs=0.03)
    assert matched.recipe.name == "cascade-published-matched"
    again = CascadeCases(changed(recipe, match=path, kept_cases=tmp_path / "matched"))
    monkeypatch.setattr(cascade_cases, "factors_to", lambda *_: pytest.fail("measured twice"))
    assert again.factors == pytest.approx((1.1, 1.05, 1.0))


def test_a_cascade_learns(recipe):
    # This project's form, whose steps take a fifth of the time.
    learner = make_learner(changed(recipe, form="cascade", width=4, depth=2))
    optimiser = torch.optim.AdamW(learner.network.parameters(), lr=3e-2)
    batch = learner.source.make([0, 1])
    found = []
    for _ in range(16):
        loss = learner.losses(batch, fine=True)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(float(loss.detach()))
    assert found[-1] < 0.6 * found[0]


def test_validations_tell_both_branches_at_both_resolutions(recipe):
    learner = make_learner(recipe)
    with torch.no_grad():
        figures = {name: float(value) for name, value in learner.validate(learner.watched[0], 0).items()}
    assert 0 <= figures["dsc"] <= 1
    said = learner.verdict(figures | {"fine_patch_dsc": 0.5, "coarse_implant_dsc": 0.25})
    assert said.startswith("validation DSC: patch ")
    assert "0.5000 fine; implant 0.2500 coarse" in said


def test_a_dry_run_times_both_kinds_of_steps(recipe):
    kinds = []
    learner = make_learner(recipe)
    real = learner.losses
    learner.losses = lambda batch, fine: kinds.append(fine) or real(batch, fine=fine)
    found = dry_run(recipe, partial(lambda made: made, learner))
    assert kinds == [False, True, False, True, True]  # the last is the validation's
    assert found.shape == (28, 36, 24)
    assert found.parameters == sum(p.numel() for p in learner.network.parameters())
    assert learner.STRATEGY == "ddp_find_unused_parameters_true"


def test_progress_is_told_now_and_then():
    heard = []
    tell = now_and_then(lambda line, share: heard.append(line), 45)
    for n in range(46):
        tell(f"{n} of 45", n / 45)
    assert heard == ["0 of 45", "20 of 45", "40 of 45", "45 of 45"]


def test_more_processes_than_validation_batches_are_refused(recipe):
    with pytest.raises(InputError, match="2 devices share 1 validation batches, one at least each: give more"):
        build(recipe, devices=2)


def test_two_processes_learn_together(recipe, cache, clinical, kept_cases, tmp_path):
    """By the command itself: every other step has no gradient of the fine network, which the processes must bear."""
    prepare(CascadeCases(changed(recipe, validation_cases=2)))
    start = tmp_path / "start.py"
    start.write_text(
        "from types import SimpleNamespace\n"
        "from calvaria.training import cascade, cascade_cases, folds, sketches\n"
        "cascade.has_openvino = lambda: False\n"
        f"split = SimpleNamespace(train={SPLIT.train}, validation={SPLIT.validation}, test={SPLIT.test})\n"
        "cascade_cases.load_split = folds.load_split = sketches.load_split = lambda: split\n"
        "from calvaria.cli import main\n"
        "raise SystemExit(main())\n"
    )
    words = {"--cache": cache, "-o": recipe.output, "--work": recipe.work, "--clinical": clinical}
    words |= {"--kept-cases": kept_cases, "--form": "cascade-published", "--width": 2, "--depth": 3, "--window": 24}
    words |= {"--count": 2, "--steps": 2, "--batch": 2, "--warmup": 1, "--validation-cases": 2}
    words |= {"--devices": 2, "--device": "cpu"}
    command = [sys.executable, str(start), "train", "cascade", *(str(one) for pair in words.items() for one in pair)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("cascade.safetensors") == 1  # said once, not by each process
    assert load_about(next(iter(available(recipe.output.parent))))["calvaria"]
    assert (recipe.folder / "last.ckpt").exists()
