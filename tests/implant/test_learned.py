"""A learned implant: its solid takes the place of the layer, and all that is done and checked stays as it was."""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest
from tests.implant.shapes import ball_with_hole

from calvaria import pipeline
from calvaria.errors import InputError
from calvaria.implant import learned as module
from calvaria.implant.checks import CLEARANCE_LEAST, THICKNESS_SHARE, WATERTIGHT
from calvaria.implant.design import design
from calvaria.implant.learned import Solid, learned_solid, require_learned
from calvaria.implant.settings import ImplantSettings
from calvaria.reconstruction.networks.cascade_engine import CascadeEngine, CascadeSpec
from calvaria.reconstruction.networks.forms import FORMS
from calvaria.skull.canonical import CanonicalFrame
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.volume import Grid, Volume

WINDOW_DEG, VOXEL_MM = 18.0, 1.0
OUTSIDE_MM, THICK_MM = 79.6, 3.0
FIELD_MM = 0.8


@lru_cache(maxsize=4)
def solid(edge_deg: float, turned: bool = False) -> Solid:
    """A part of a shell about +x (or -x) as a probability: its surface is at a half, between voxels."""
    count = (30, 80, 80)
    first = HEAD_CENTRE_MM + np.array([60.0, -39.5 * FIELD_MM, -39.5 * FIELD_MM])
    grid = Grid.isotropic(count, FIELD_MM, first)
    arm = grid.centres_mm() - HEAD_CENTRE_MM
    radius = np.linalg.norm(arm, axis=-1)
    angle = np.arccos(arm[..., 0] / radius)
    off = np.maximum.reduce(
        [radius - OUTSIDE_MM, OUTSIDE_MM - THICK_MM - radius, (angle - np.radians(edge_deg)) * radius]
    )
    field = Volume(np.clip(0.5 - off / (2 * FIELD_MM), 0, 1).astype(np.float32), grid)
    return Solid(field if not turned else Volume(field.data, grid.moved(np.diag([-1.0, 1.0, 1.0, 1.0]))))


def polar(mesh):
    arm = mesh.vertices_mm - HEAD_CENTRE_MM
    radius = np.linalg.norm(arm, axis=1)
    return radius, np.degrees(np.arccos(arm[:, 0] / radius))


def values(made, name):
    return [one.value for one in made.checks if one.name == name]


def test_the_implant_is_the_shell_that_was_learned_and_is_checked_like_any_other():
    bone, hole = ball_with_hole(VOXEL_MM, WINDOW_DEG)
    edge = WINDOW_DEG - 1.2  # 1.7 mm to bone
    made = design(bone, hole, np.eye(4), learned=solid(edge))
    assert made.surface_from == "learned"
    (part,) = made.parts
    radius, angle = polar(part.body)
    faces = radius[angle < edge - 6]
    outer, inner = faces[faces > OUTSIDE_MM - THICK_MM / 2], faces[faces < OUTSIDE_MM - THICK_MM / 2]
    assert np.median(outer) == pytest.approx(OUTSIDE_MM, abs=0.1)
    assert np.median(outer) - np.median(inner) == pytest.approx(THICK_MM, abs=0.1)
    # Its own edge, not the hole's.
    assert np.quantile(angle, 0.98) == pytest.approx(edge, abs=0.4)
    assert values(made, WATERTIGHT) == [True]
    assert values(made, THICKNESS_SHARE)[0] > 95
    assert values(made, CLEARANCE_LEAST)[0] > 0.7
    assert {"outer step at the rim", "insertion path, smallest clearance", "mass in PEEK"} <= {
        one.name for one in made.checks
    }
    assert part.direction[0] < -0.95


def test_what_reaches_into_bone_is_taken_back_to_the_clearance():
    bone, hole = ball_with_hole(VOXEL_MM, WINDOW_DEG)
    made = design(bone, hole, np.eye(4), ImplantSettings(clearance_mm=1.0), learned=solid(WINDOW_DEG + 3))
    (part,) = made.parts
    radius, angle = polar(part.body)
    gap = np.sin(np.radians(WINDOW_DEG - angle)) * radius
    assert gap.min() == pytest.approx(1.0, abs=0.4)
    assert values(made, "overlap with bone") == [0]


def test_a_solid_that_lies_elsewhere_is_refused():
    bone, hole = ball_with_hole(VOXEL_MM, WINDOW_DEG)
    with pytest.raises(InputError, match="the learned implant does not lie at the missing bone: leave --implant learn"):
        design(bone, hole, np.eye(4), learned=solid(12.0, turned=True))


@pytest.mark.parametrize("changes", [{"thickness_mm": 5.0}, {"thickness": "bone"}, {"offset_mm": 1.0}, {"flatten": 1}])
def test_a_shape_that_is_asked_for_is_none_that_was_learned(changes):
    bone, hole = ball_with_hole(VOXEL_MM, WINDOW_DEG)
    (name,) = changes
    with pytest.raises(InputError, match=f"^{name} is the parametric implant's: a learned implant has its own outer"):
        design(bone, hole, np.eye(4), ImplantSettings(**changes), learned=solid(12.0))


class Stub(CascadeEngine):
    """A cascade whose implant is the shell; ``None`` where it finds no hole."""

    def __init__(self, found, branches=("patch", "implant")):
        grid = Grid.isotropic((16, 16, 16), 12.0)
        self.spec = CascadeSpec(FORMS["cascade-published"], grid, 2, 16, branches)
        self.found, self.calls = found, []

    def implant_field(self, skull, done):
        self.calls.append(done)
        return self.found

    def answer(self, field, sketch=None, skull=None, frame=None):
        self.calls.append(frame)
        return self.found

    @staticmethod
    def implant_of(found, frame):
        return found


FRAME = CanonicalFrame(np.eye(4), np.ones(3), 0.0, ())


def result():
    bone, hole = ball_with_hole(2.0, WINDOW_DEG)
    return SimpleNamespace(defective=bone, patch=hole, frame=FRAME, soft=None, scan=None)


def test_python_takes_it_from_a_model_by_name(monkeypatch):
    engine, asked, given = Stub(solid(15.0).probability), [], {}
    monkeypatch.setattr(module, "load_engine", lambda name, device: asked.append((name, device)) or engine)
    monkeypatch.setattr("calvaria.implant.design.design", lambda *parts, **how: given.update(how))
    pipeline.design(result(), learned="cascade.safetensors", device="cpu")
    assert asked == [("cascade.safetensors", "cpu")]
    assert given["learned"].probability is engine.found
    pipeline.design(result())
    assert given["learned"] is None


def test_a_completion_in_the_same_pose_is_handed_on():
    bone, _ = ball_with_hole(2.0, WINDOW_DEG)
    engine, soft = Stub(solid(15.0).probability), object()
    learned_solid(engine, bone, FRAME, soft)
    ((frame, field, handed),) = engine.calls
    assert (frame, handed) == (FRAME, soft)
    assert field.scale == (1.0, 1.0, 1.0)


def test_models_without_a_learned_implant_are_refused(monkeypatch):
    engines = {"prior": SimpleNamespace(), "patches": Stub(None, ("patch",)), "implants": Stub(None, ("implant",))}
    monkeypatch.setattr(module, "load_engine", lambda name, device: engines[name])
    for name in ("prior", "patches"):
        with pytest.raises(InputError, match=f"the model '{name}' has no implant branch: a learned implant wants a"):
            require_learned(name)
    assert require_learned("implants") is engines["implants"]
    bone, hole = ball_with_hole(2.0, WINDOW_DEG)
    with pytest.raises(InputError, match="the model's implant branch finds no hole in this skull"):
        learned_solid(engines["implants"], bone, FRAME, None)
    with pytest.raises(InputError, match="there is no bone to fit an implant to"):
        learned_solid(engines["implants"], hole.with_data(np.zeros(hole.shape, bool)), FRAME, None)
