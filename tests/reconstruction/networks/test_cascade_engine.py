"""A cascade as an engine: windows about the hole, both branches at full resolution, both ways to run it agree."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.heads import SIDE, Head, boxed, family_template, rigid, scan, true_frame

pytest.importorskip("torch", reason="torch is not installed: networks were not tried")

import torch

from calvaria.errors import InputError
from calvaria.models import register
from calvaria.models.runtime import convert
from calvaria.reconstruction.box import AIR_MM, BoxField, box_grid
from calvaria.reconstruction.engines import load_engine
from calvaria.reconstruction.networks import cascade_engine as module
from calvaria.reconstruction.networks.cascade import CascadeNet
from calvaria.reconstruction.networks.cascade_engine import (
    CASCADE,
    CASCADE_STAGES,
    CascadeEngine,
    CascadeSpec,
    load_runs,
    runs_in_torch,
    stage_path,
)
from calvaria.reconstruction.networks.cascade_inputs import DEPTH_SLOPE
from calvaria.reconstruction.networks.engine import sketch_on
from calvaria.reconstruction.networks.forms import FIRST_LOGIT, FORMS, Form
from calvaria.reconstruction.protocol import SoftField, Spread
from calvaria.volume.grid import Grid
from calvaria.volume.resample import resample_mask

GRID = Grid.isotropic((56, 72, 48), 3.2, (-88.0, -113.6, -62.4))
SPEC = CascadeSpec(FORMS["cascade-published"], GRID, 2, 32)
HEAD = Head(20, (SIDE,))
SMALL = CascadeSpec(Form(width=2, depth=2), Grid.isotropic((32, 32, 32), 6.4, (-99.2, -99.2, -60.0)), 2, 24)


class Shown:
    """A network that says what ``run`` says, and keeps what it was shown."""

    def __init__(self, run):
        self.run, self.inputs = run, []

    def __call__(self, x):
        self.inputs.append(x.copy())
        return self.run(x).astype(np.float32)


def ball_at(side, radius_mm):
    """A coarse network that finds the patch in a ball, and the implant in a smaller one, on one side or on the other
    where the skull is mirrored."""
    centre = np.array([side * 58.0, 8.0, 46.0])
    apart = np.linalg.norm(GRID.centres_mm() - centre, axis=-1)
    maps = np.stack([apart < radius_mm, apart < radius_mm - 8])

    def run(x):
        where = maps if run.turn % 2 == 0 else maps[:, ::-1]
        run.turn += 1
        return 20.0 * (where[None] - 0.5)

    run.turn = 0
    return run


def keeping(x):
    """A fine network that says what the coarse one said."""
    return 20 * (x[:, 1:3] - 0.5)


def of_two(spec=SPEC, radius_mm=26.0):
    coarse, fine = Shown(ball_at(1, radius_mm)), Shown(keeping)
    return CascadeEngine(spec, coarse, fine, family_template()), coarse, fine


@pytest.fixture(scope="module")
def told():
    """What the ball's cascade says of a head, and its networks with what they were shown."""
    engine, coarse, fine = of_two()
    return engine, coarse, fine, engine.answer(boxed(HEAD))


def test_the_coarse_network_sees_the_skull_and_its_flipped_array_and_both_ways_round(told):
    _, coarse, _, _ = told
    one, other = coarse.inputs
    assert one.shape == (1, 2, *GRID.shape)
    np.testing.assert_array_equal(one[0, 1], one[0, 0, ::-1])
    np.testing.assert_array_equal(other, one[:, :, ::-1])


def test_windows_hold_the_hole_at_full_resolution_and_are_blended(told):
    engine, _, fine, found = told
    assert found.grid.spacing_mm == pytest.approx((1.6,) * 3)
    assert found.maps.dtype == np.uint8
    assert found.bone.dtype == np.bool_
    assert all(x.shape == (1, 3, 32, 32, 32) for x in fine.inputs)
    assert set(np.unique(fine.inputs[0][0, 0])) <= {0.0, 1.0}
    # A network that repeats what it is shown gives the ball back, without seams.
    centre = [58.0, 8.0, 46.0]
    apart = np.linalg.norm(found.grid.centres_mm() - centre, axis=-1)
    patch = found.maps[0] / 255
    assert patch[apart < 22].min() > 0.95
    assert patch[apart > 30].max() < 0.05
    assert found.grid.size < 0.2 * engine.spec.full.size


def test_each_branch_has_its_own_map_and_neither_is_told_where_bone_is(told):
    found = told[-1]
    patch, implant = found.probability("patch"), found.probability("implant")
    assert (patch.data > 0.5).sum() > 1.8 * (implant.data > 0.5).sum()
    assert not patch.data[found.bone].any()
    assert not implant.data[found.bone].any()


def test_the_skulls_own_voxels_are_read_where_they_are_given(told):
    pose = rigid((4, -6, 10), (5, 60, -20))
    defective, frame = scan(HEAD, pose), true_frame(HEAD, pose)
    engine, _, _ = of_two()
    found = engine.answer(boxed(HEAD), None, defective, frame)
    wanted = resample_mask(defective, found.grid.moved(pose)).mask
    np.testing.assert_array_equal(found.bone, wanted)
    interpolated = told[-1]
    assert (interpolated.bone != found.bone).any()  # of 1.6 mm
    assert (interpolated.bone & found.bone).sum() > 0.9 * found.bone.sum()


def test_the_implant_of_a_reconstructed_skull_lies_in_the_world():
    pose = rigid((4, -6, 10), (5, 60, -20))
    defective, frame = scan(HEAD, pose), true_frame(HEAD, pose)
    engine, _, _ = of_two()
    field = boxed(HEAD)
    nothing = SoftField(np.full(box_grid().shape, AIR_MM, np.float32), np.zeros(box_grid().shape, bool), 0.0)
    done = module.Completion(frame, field, nothing)  # of a prior, it would be the sketch
    implant = engine.implant_field(defective, done)
    points = implant.grid.to_world(np.argwhere(implant.data > 0.5))
    centre = (pose @ [58.0, 8.0, 46.0, 1.0])[:3]
    assert np.linalg.norm(points - centre, axis=1).max() < 20
    assert not resample_mask(defective, implant.grid).mask[implant.data > 0.5].any()


def test_nothing_found_is_no_region_and_no_implant():
    engine = CascadeEngine(SPEC, lambda x: np.full((1, 2, *GRID.shape), -9, np.float32), keeping, family_template())
    field = boxed(HEAD)
    assert engine.answer(field) is None
    soft = engine.complete(field)
    assert not soft.region.any()
    done = module.Completion(true_frame(HEAD), field, soft)
    assert engine.implant_field(scan(HEAD, spacing_mm=(4.0, 4.0, 4.0)), done) is None


def test_a_head_that_has_learned_nothing_is_not_asked(tmp_path):
    spec = replace(SPEC, branches=("implant",))
    engine, coarse, _ = of_two(spec)
    field = boxed(HEAD)
    whole = of_two()[0].answer(field)
    alone = engine.answer(field)
    assert alone.grid.size < whole.grid.size  # windows about the implant's ball, not about the patch's
    assert engine.implant_of(alone, true_frame(HEAD)).data.max() > 0.9
    seen = len(coarse.inputs)
    for ask in (engine.complete, engine.sketch):
        with pytest.raises(InputError, match="this cascade has learned implants alone, so it completes no skull; name"):
            ask(field)
    assert len(coarse.inputs) == seen
    made = weights(tmp_path, replace(SMALL, branches=("implant",)), converted=False)
    assert CascadeSpec.of(made).branches == ("implant",)


class KnowingPrior:
    """Stands for the shape prior: the hole's ball is bone, and it is off by so much at one point."""

    template = None

    def __init__(self):
        box = box_grid()
        apart = np.linalg.norm(box.centres_mm() - np.array(SIDE.centre_mm) / HEAD.scale, axis=-1) - SIDE.radius_mm
        near = apart < 6.0
        self.soft = SoftField(np.where(near, apart, AIR_MM).astype(np.float32), near, 0.0)
        self.spread = Spread(np.array([SIDE.centre_mm], np.float32), np.array([0.6], np.float32))
        self.asked = []

    def sketch(self, field, before=None):
        raise AssertionError("there is a sketch already")

    def complete(self, field, sketch=None):
        self.asked.append((field, sketch))
        return replace(self.soft, spread=self.spread)


def test_with_a_prior_both_networks_are_shown_its_completion_and_its_doubt(monkeypatch):
    form = Form(mirror="plane", prior=True, doubt=True)
    coarse, fine, prior = Shown(ball_at(1, 26.0)), Shown(keeping), KnowingPrior()
    engine = CascadeEngine(replace(SPEC, form=form), coarse, fine, family_template(), prior)
    field, frame, settled = boxed(HEAD), true_frame(HEAD), []
    skull = scan(HEAD)

    def settle(*given):
        settled.append(given)
        return frame, field, prior.soft

    monkeypatch.setattr(module, "settle", settle)
    done = engine.reconstruct(skull, true_frame(Head(21)))
    ((seen, start, sketcher, _),) = settled
    assert seen is skull
    assert sketcher is prior  # its sketches settle the pose
    assert start.scale.tolist() == true_frame(Head(21)).scale.tolist()
    assert done.frame is frame
    assert prior.asked == [(field, prior.soft)]
    assert len(coarse.inputs) == 2  # once, in the pose that the sketches settled
    assert coarse.inputs[0].shape[1] == 4
    np.testing.assert_array_equal(coarse.inputs[0][0, 2], sketch_on(GRID, field, prior.soft))
    assert coarse.inputs[0][0, 2].max() == 1
    doubt = coarse.inputs[0][0, 3]
    np.testing.assert_allclose(np.unique(doubt), [0.0, 0.4], rtol=1e-6)
    assert all(x.shape[1] == 5 for x in fine.inputs)
    assert done.soft.region.any()
    with pytest.raises(InputError, match="this cascade is shown the shape prior's answer, and was given no prior"):
        CascadeEngine(replace(SPEC, form=form), coarse, fine, family_template())


def correcting(x):
    """A fine network that corrects nothing, and sees an implant where the prior sees much missing bone."""
    return np.stack([np.full_like(x[:, 0], FIRST_LOGIT), 20 * (x[:, 1] - 0.8)], axis=1)


def test_behind_a_prior_that_needs_no_correction_the_patch_is_the_priors(monkeypatch):
    prior, fine = KnowingPrior(), Shown(correcting)
    spec = replace(SPEC, form=FORMS["behind-prior"])
    engine = CascadeEngine(spec, None, fine, family_template(), prior)
    field = boxed(HEAD)
    found = engine.answer(field, prior.soft)
    assert prior.asked == [(field, prior.soft)]
    assert all(x.shape == (1, 2, 32, 32, 32) for x in fine.inputs)
    scale = np.array(field.scale)
    centre = np.array(SIDE.centre_mm) / HEAD.scale
    apart = np.linalg.norm(found.grid.centres_mm() / scale - centre, axis=-1) - SIDE.radius_mm
    patch, implant = found.probability("patch").data, found.probability("implant").data
    np.testing.assert_array_equal(patch[np.abs(apart) > 0.3] > 0.5, ((apart < 0) & ~found.bone)[np.abs(apart) > 0.3])
    assert (implant > 0.5).any()
    assert not (implant > 0.5)[patch < 0.5].any()
    done = engine.complete(field, prior.soft)
    assert done.spread is prior.spread  # how sure the prior is is still said
    near = done.region & (np.abs(prior.soft.distance_mm) < 2.0)
    np.testing.assert_array_equal(done.region, prior.soft.region)
    np.testing.assert_allclose(done.distance_mm[near], prior.soft.distance_mm[near], atol=1e-4)


def test_behind_a_prior_the_surface_moves_by_what_is_added_to_its_logits():
    prior, outwards_mm = KnowingPrior(), 0.6

    def run(x):
        return correcting(x) + DEPTH_SLOPE * outwards_mm

    engine = CascadeEngine(replace(SPEC, form=FORMS["behind-prior"]), None, Shown(run), family_template(), prior)
    field = boxed(HEAD)
    done = engine.complete(field, prior.soft)
    near = done.region & (np.abs(prior.soft.distance_mm) < 1.0) & (field.distance_mm > 4.0)
    assert near.sum() > 100
    np.testing.assert_allclose((prior.soft.distance_mm - done.distance_mm)[near], outwards_mm, atol=0.05)
    there = done.region & (field.distance_mm < -3.0)  # bone stays where it is
    np.testing.assert_array_equal(done.distance_mm[there], prior.soft.distance_mm[there])


def weights(folder, spec=SMALL, converted=True):
    torch.manual_seed(1)
    network = CascadeNet(spec.form)
    from safetensors.torch import save_file

    path = folder / "net.safetensors"
    save_file(dict(network.state_dict()), path, metadata={"calvaria": json.dumps(spec.told())})
    others = []
    if converted:
        shapes = ((2, *spec.grid.shape), (3, *(spec.window,) * 3))
        for stage, shape in zip(CASCADE_STAGES, shapes, strict=True):
            others += convert(getattr(network, stage), torch.zeros(1, *shape), stage_path(path, stage))
    return register(path, "net", CASCADE, "CC-BY-NC-SA-4.0", others)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pytest.importorskip("openvino", reason="OpenVINO is not installed: it was not held against torch")
    return weights(tmp_path_factory.mktemp("cascade"))


def test_openvino_and_torch_agree_on_both_stages(model, monkeypatch):
    spec = CascadeSpec.of(model)
    assert spec.told() == SMALL.told()
    monkeypatch.setattr(module, "runs_in_torch", lambda *_: pytest.fail("OpenVINO is there"))
    there, here = load_runs(model, spec, "cpu"), runs_in_torch(model, spec)
    shapes = ((1, 2, *spec.grid.shape), (1, 3, *(spec.window,) * 3))
    for one, other, shape in zip(there, here, shapes, strict=True):
        x = np.random.default_rng(0).random(shape).astype(np.float32)
        a, b = one(x), other(x)
        assert a.shape == b.shape == (1, 2, *shape[2:])
        assert np.abs(a - b).max() < 1e-2 * b.std()
        assert b.std() > 0.02


def test_a_weights_file_is_an_engine(model):
    engine = load_engine(str(model.path), "cpu")
    assert isinstance(engine, CascadeEngine)
    engine.prepare()
    field = boxed(HEAD)
    empty = BoxField(np.full_like(field.distance_mm, 12.7), field.known)
    assert engine.complete(empty).region.shape == box_grid().shape


def test_torch_runs_where_nothing_was_converted_and_a_gpu_where_it_is_asked_for(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "runs_in_torch", lambda model, spec, device: asked.append(device))
    made = weights(tmp_path, converted=False)
    load_runs(made, SMALL, "cpu")
    load_runs(made, SMALL, "cuda")
    assert asked == ["cpu", "cuda"]


def test_weights_of_another_form_and_other_files_are_refused(tmp_path):
    made = weights(tmp_path, converted=False)
    with pytest.raises(InputError, match=r"net\.safetensors: the weights are not those of its form of the cascade"):
        runs_in_torch(made, replace(SMALL, form=replace(SMALL.form, width=3)))
    with pytest.raises(InputError, match=r"net\.safetensors: the weights are not those of its form") as error:
        runs_in_torch(made, replace(SMALL, form=replace(SMALL.form, mirror="none")))
    assert "\n" not in str(error.value)
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(1, np.float32)}, tmp_path / "x.safetensors")
    register(tmp_path / "x.safetensors", "x", CASCADE, "CC-BY-NC-SA-4.0")
    with pytest.raises(InputError, match=r"x\.safetensors: is no cascade of this version"):
        load_engine(str(tmp_path / "x.safetensors"))
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="--device cuda: torch sees no GPU here"):
            runs_in_torch(made, SMALL, "cuda")
