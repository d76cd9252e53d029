"""A network as an engine: what it sees, what becomes of its answer, and that both ways to run it agree."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from tests.heads import SIDE, Head, boxed, dice, family_engine, rigid, scan, true_frame, truth_of

from calvaria.errors import InputError, MissingExtraError
from calvaria.models import Calibration, register
from calvaria.models import runtime as runtime_module
from calvaria.models.calibration import MEASURES, Regression
from calvaria.models.runtime import convert, converted_files, run_in_openvino
from calvaria.reconstruction.box import BoxField, box_grid
from calvaria.reconstruction.engines import load_engine
from calvaria.reconstruction.networks import engine as module
from calvaria.reconstruction.networks.engine import (
    KIND,
    NetworkEngine,
    NetworkSpec,
    bone_on,
    load_run,
    run_in_torch,
    sketch_on,
)
from calvaria.reconstruction.postprocess import to_patch
from calvaria.reconstruction.repose import settle
from calvaria.volume.grid import Grid

pytest.importorskip("torch", reason="torch is not installed: networks were not tried")

import torch

from calvaria.reconstruction.networks.zoo import make_network

GRID = Grid.isotropic((56, 72, 48), 3.2, (-88.0, -113.6, -62.4))
SPEC = NetworkSpec("runet", "small", 1, GRID)
SHAPE = (32, 32, 32)
CALIBRATION = Calibration(dict.fromkeys(MEASURES, Regression((-2.5, 0.5, 0.1, 1.0, 0.1), 0.3, 0.4)), 0.3, 60.0, 5.0)


def ball_field(radius_mm=50.0, scale=(1.0, 1.0, 1.0)):
    points = box_grid().centres_mm() * np.array(scale)
    distance = np.linalg.norm(points - [0.0, 0.0, 15.0], axis=-1) - radius_mm
    return BoxField(np.clip(distance, -12.7, 12.7).astype(np.float32), np.ones(distance.shape, bool), scale)


def engine_of(run):
    return NetworkEngine(SPEC, run, family_engine().template)


def knowing(whole):
    """A network that knows the complete skull."""
    return lambda x: (20 * (np.clip(whole - x, 0, 1) - 0.5)).astype(np.float32)


@pytest.mark.parametrize("scale", [(1.0, 1.0, 1.0), (0.93, 1.04, 1.1)])
def test_bone_is_seen_in_its_own_millimetres(scale):
    seen = bone_on(GRID, ball_field(scale=scale))
    assert seen.shape == GRID.shape
    assert float(seen.sum()) * GRID.voxel_volume_mm3 == pytest.approx(4 / 3 * np.pi * 50**3, rel=0.01)
    middle = (GRID.centres_mm() * seen[..., None]).sum(axis=(0, 1, 2)) / float(seen.sum())
    assert middle == pytest.approx([0, 0, 15], abs=0.2)
    partial = seen[(seen > 0) & (seen < 1)]
    assert len(np.unique(partial)) == 7  # eighths: thresholded on the cache's voxels, then averaged


def test_where_nothing_is_known_no_bone_is_seen():
    field = ball_field()
    half = BoxField(field.distance_mm, box_grid().centres_mm()[..., 2] > 15)
    seen = bone_on(GRID, half)
    assert not seen[..., GRID.centres_mm()[0, 0, :, 2] < 12].any()
    assert float(seen.sum()) == pytest.approx(float(bone_on(GRID, field).sum()) / 2, rel=0.03)


def test_what_the_network_says_is_missing_becomes_the_patch():
    head = Head(20, (SIDE,))
    whole = bone_on(GRID, boxed(replace(head, holes=())))
    both = (whole + whole[::-1]) / 2  # the mirrored skull is asked about as well
    soft = engine_of(knowing(both)).complete(boxed(head))
    defective = scan(head)
    patch = to_patch(soft, true_frame(head), defective)
    assert dice(patch, truth_of(head, defective)) > 0.85
    assert not (patch.mask & defective.mask).any()


def test_left_and_right_are_alike():
    torch.manual_seed(0)
    network = make_network("runet", GRID.shape).eval()

    def run(x):
        with torch.no_grad():
            return (40 * (network(torch.from_numpy(x)) + 4)).numpy()  # an untrained network, told to be bold

    engine, field = engine_of(run), boxed(Head(20, (SIDE,)))
    mirrored = BoxField(field.distance_mm[::-1].copy(), field.known[::-1].copy(), field.scale)
    here, there = engine.complete(field), engine.complete(mirrored)
    assert here.region.any()
    assert np.count_nonzero(here.region != there.region[::-1]) < 1e-4 * here.region.sum()
    np.testing.assert_allclose(here.distance_mm, there.distance_mm[::-1], atol=0.02)


def test_a_skull_without_a_hole_has_no_region_and_crumbs_are_none():
    silent = engine_of(lambda x: np.full(x.shape, -6, np.float32))
    assert not silent.complete(ball_field()).region.any()

    def crumb(x):
        logits = np.full(x.shape, -9, np.float32)
        logits[0, 0, 20:22, 30:33, 20:23] = 9  # 18 voxels, 0.6 ml
        return logits

    assert not engine_of(crumb).complete(ball_field()).region.any()


class Counted:
    """A network that says what `run` says, and keeps what it was shown."""

    def __init__(self, run):
        self.run, self.shown = run, []

    def __call__(self, x):
        self.shown.append(x.copy())
        return self.run(x)


def nudged(head):
    """The pose of a head, moved as by its hole."""
    return replace(true_frame(head), to_world=rigid((1, -1, 1), (1, -0.5, 1)))


def test_the_network_sees_no_skull_twice():
    head = Head(20, (SIDE,))
    whole = bone_on(GRID, boxed(replace(head, holes=())))
    run = Counted(knowing((whole + whole[::-1]) / 2))
    engine_of(run).reconstruct(scan(head), nudged(head))
    looks = [x.tobytes() for x in run.shown]
    assert len(set(looks)) == len(looks)
    assert len(looks) == 2 * 2  # each pose's skull and its mirror image


def test_with_a_prior_the_network_completes_once_in_the_pose_that_the_sketches_settle():
    head, prior = Head(20, (SIDE,)), family_engine()
    run = Counted(lambda x: (20 * (x[:, 1:] - 0.5)).astype(np.float32))
    engine = NetworkEngine(replace(SPEC, channels=2), run, prior.template, prior)
    done = engine.reconstruct(scan(head), nudged(head))
    assert len(run.shown) == 2  # the skull and its mirror image
    np.testing.assert_array_equal(run.shown[0][0, 0], bone_on(GRID, done.field))
    frame, _, sketch = settle(scan(head), nudged(head), prior)
    np.testing.assert_array_equal(done.frame.to_world, frame.to_world)
    np.testing.assert_array_equal(run.shown[0][0, 1], sketch_on(GRID, done.field, sketch))


def test_the_calibration_of_the_index_reaches_the_engine(tmp_path):
    found = weights(tmp_path, converted=False)
    register(found.path, "net", KIND, "MIT", calibration=CALIBRATION)
    assert load_engine(str(found.path), "cpu").calibration == CALIBRATION


def weights(folder, converted=True):
    torch.manual_seed(1)
    network = make_network("runet", SHAPE)
    path = folder / "net.safetensors"
    from safetensors.torch import save_file

    grid = Grid.isotropic(SHAPE, 6.4, (-99.2, -99.2, -60.0))
    about = {"network": "runet", "size": "small", "channels": 1, "shape": SHAPE, "affine": grid.affine.tolist()}
    save_file(dict(network.state_dict()), path, metadata={"calvaria": json.dumps(about)})
    others = convert(network, torch.zeros(1, 1, *SHAPE), path) if converted else ()
    return register(path, "net", KIND, "CC-BY-NC-SA-4.0", others)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pytest.importorskip("openvino", reason="OpenVINO is not installed: it was not held against torch")
    return weights(tmp_path_factory.mktemp("net"))


def test_openvino_and_torch_agree(model):
    spec = NetworkSpec.of(model)
    x = np.random.default_rng(0).random((1, 1, *SHAPE)).astype(np.float32)
    one, other = run_in_torch(model, spec)(x), run_in_openvino(model)(x)
    assert one.shape == other.shape == x.shape
    assert np.abs(one - other).max() < 1e-2 * one.std()
    assert one.std() > 0.05


def test_a_weights_file_is_an_engine(model):
    engine = load_engine(str(model.path), "cpu")
    assert isinstance(engine, NetworkEngine)
    assert engine.calibration is None
    assert engine.spec.grid.shape == SHAPE
    engine.prepare()
    soft = engine.complete(ball_field())
    assert soft.region.shape == box_grid().shape


def test_openvino_runs_where_it_can_and_torch_where_not(model, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "run_in_openvino", lambda model: asked.append("openvino"))
    monkeypatch.setattr(module, "run_in_torch", lambda model, spec, device: asked.append(f"torch on {device}"))
    spec = NetworkSpec.of(model)
    load_run(model, spec, "cpu")
    load_run(model, spec, "cuda")
    load_run(weights(tmp_path, converted=False), spec, "cpu")
    monkeypatch.setattr(module, "has_openvino", lambda: False)
    load_run(model, spec, "cpu")
    assert asked == ["openvino", "torch on cuda", "torch on cpu", "torch on cpu"]


def test_a_converted_file_that_was_touched_is_refused(tmp_path):
    pytest.importorskip("openvino")
    made = weights(tmp_path)
    form, content = converted_files(made.path)
    content.write_bytes(content.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(InputError, match=r"net\.bin: missing, damaged or not the registered file"):
        run_in_openvino(made)
    form.unlink()
    with pytest.raises(InputError, match=r"net\.xml: missing, damaged"):
        run_in_openvino(made)
    with pytest.raises(InputError, match="net: was not converted for the CPU"):
        run_in_openvino(replace(made, others={}))


def test_a_gpu_that_is_not_there_is_said(model):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(InputError, match="--device cuda: torch sees no GPU here"):
        load_engine(str(model.path), "cuda")


def test_without_openvino_the_message_says_what_to_install(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'calvaria\[networks\]'"):
        run_in_openvino(model)


def test_weights_of_another_network_are_refused(model):
    with pytest.raises(InputError, match="the weights are not those of runet"):
        run_in_torch(model, replace(NetworkSpec.of(model), size="full"))


def test_a_file_without_a_header_is_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(1, np.float32)}, tmp_path / "x.safetensors")
    register(tmp_path / "x.safetensors", "x", KIND, "CC-BY-NC-SA-4.0")
    with pytest.raises(InputError, match=r"x\.safetensors: is no reconstruction network of this version"):
        load_engine(str(tmp_path / "x.safetensors"))


def test_openvino_asks_nobody():
    pytest.importorskip("openvino")
    code = (
        "import socket\n"
        "def refused(*args, **kwargs): raise SystemExit(f'asked for {args}')\n"
        "socket.getaddrinfo = refused\n"
        f"from {runtime_module.__name__} import openvino\n"
        "ov = openvino()\n"
        "ov.Core()\n"
        "import threading, time\n"
        "time.sleep(1)\n"
        "print(ov.__version__, threading.active_count())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split()[-1] == "1"  # no thread is left that might ask later
