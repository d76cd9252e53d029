"""Finding the pose again on a roughly filled skull."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calvaria.reconstruction import repose
from calvaria.reconstruction.box import AIR_MM, TRUNCATION_MM, BoxField, box_grid, box_to_world
from calvaria.reconstruction.protocol import SoftField
from calvaria.reconstruction.repose import complete_iteratively, displacement_mm, filled, moved, moved_field, settle
from calvaria.reconstruction.surface import to_box
from calvaria.skull.canonical import CanonicalFrame
from calvaria.skull.edges import CutPlane
from calvaria.volume import Grid, Volume
from calvaria.volume.rotation import rotation_matrix


def frame(turn=(0.0, 0.0, 0.0), shift=(0.0, 0.0, 0.0), scale=(1.0, 1.0, 1.0)) -> CanonicalFrame:
    to_world = np.eye(4)
    to_world[:3, :3], to_world[:3, 3] = rotation_matrix(np.array(turn)), shift
    return CanonicalFrame(to_world, np.array(scale), 0.05, ())


def ramp() -> SoftField:
    """A field that is linear in x, near the middle of the box."""
    points = box_grid().centres_mm()
    region = np.abs(points).max(axis=-1) < 40
    return SoftField((0.1 * points[..., 0]).astype(np.float32), region, 0.2)


def test_the_same_frame_changes_nothing():
    field = ramp()
    found = moved(field, frame((0.1, 0.2, 0.3), (5, 6, 7)), frame((0.1, 0.2, 0.3), (5, 6, 7)))
    np.testing.assert_allclose(found.distance_mm[field.region], field.distance_mm[field.region], atol=1e-3)
    assert (found.distance_mm[~field.region] > AIR_MM - 1e-3).all()


def test_a_field_stays_where_it_is_in_the_world():
    before, after = frame(), frame(shift=(10.0, 0.0, 0.0))
    found = moved(ramp(), before, after)
    deep = np.abs(box_grid().centres_mm()).max(axis=-1) < 20
    wanted = 0.1 * (box_grid().centres_mm()[..., 0] + 10)
    np.testing.assert_allclose(found.distance_mm[deep], wanted[deep], atol=1e-3)


def test_a_skull_stays_where_it_is_in_the_world_and_is_known_where_it_was_scanned():
    cut = CutPlane(np.array([0.0, 0.0, -1.0]), 30.0)
    before = frame((0.1, 0.0, 0.05), (3.0, -2.0, 1.0), (1.0, 1.02, 0.98))
    place = frame((0.05, 0.1, 0.0), (5.0, 1.0, -3.0), (1.03, 1.0, 1.0))
    after = CanonicalFrame(place.to_world, place.scale, 0.05, (cut,))
    far = np.linalg.norm(box_grid().moved(box_to_world(before)).centres_mm(), axis=-1) - 40
    ball = np.clip(far, -TRUNCATION_MM, TRUNCATION_MM).astype(np.float32)
    found = moved_field(BoxField(ball, np.ones(ball.shape, bool)), before, after)
    points = box_grid().moved(box_to_world(after)).centres_mm()
    wanted = np.clip(np.linalg.norm(points, axis=-1) - 40, -TRUNCATION_MM, TRUNCATION_MM)
    near = np.abs(wanted) < 8
    np.testing.assert_allclose(found.distance_mm[near], wanted[near], atol=0.1)
    assert (np.abs(found.distance_mm[np.abs(wanted) == TRUNCATION_MM]) > TRUNCATION_MM - 1.5).all()
    at_cut = points @ cut.moved(after.to_world).normal - cut.moved(after.to_world).offset_mm
    np.testing.assert_array_equal(found.known, at_cut < 0)


def test_displacement_of_a_shift_and_of_a_scale():
    assert displacement_mm(frame(), frame(shift=(3.0, 0.0, 4.0))) == pytest.approx(5.0)
    assert displacement_mm(frame(), frame()) == 0
    assert displacement_mm(frame(), frame(scale=(1.1, 1.1, 1.1))) > 5


def test_bone_is_added_only_where_the_sketch_has_it():
    grid = Grid.isotropic((40, 40, 40), 3.0, (-58.5, -58.5, -58.5))
    there = np.zeros(grid.shape, np.float32)
    there[30:] = 0.7
    found = filled(Volume(there, grid), frame(), ramp()).data
    points = grid.centres_mm()
    inside = np.abs(points).max(axis=-1) < 36
    assert (found[inside & (points[..., 0] < -20)] == 1).all()
    np.testing.assert_array_equal(found[inside & (points[..., 0] > 20)], there[inside & (points[..., 0] > 20)])
    far = np.abs(points).max(axis=-1) > 44
    np.testing.assert_array_equal(found[far], there[far])


def cube() -> Volume:
    """Bone enough for a skull: 262 ml."""
    return Volume(np.ones((32, 32, 32), bool), Grid.isotropic((32, 32, 32), 2.0))


class Sketcher:
    """It sketches a ball of missing bone, wherever the skull lies."""

    template = None

    def __init__(self, finds: bool = True) -> None:
        self.finds, self.given = finds, []

    def sketch(self, field: BoxField, before: SoftField | None = None) -> SoftField:
        self.given.append(before)
        return ramp() if self.finds else SoftField(field.distance_mm, np.zeros(field.known.shape, bool), 0.0)


def moves(steps_mm, monkeypatch) -> list[CanonicalFrame]:
    """Make every search for the pose move it along x by the next step; gives the poses that were searched from."""
    asked: list[CanonicalFrame] = []

    def relocate(bone, before, template, absent):
        # The hole is told by what was completed.
        assert absent(np.array([[500.0, 0.0, 0.0]])).tolist() == [False]
        asked.append(before)
        step = np.eye(4)
        step[0, 3] = steps_mm[len(asked) - 1]
        return CanonicalFrame(before.to_world @ step, before.scale, 0.05, ())

    monkeypatch.setattr(repose, "relocate", relocate)
    return asked


@pytest.mark.parametrize(
    ("steps_mm", "turns", "carried"),
    [
        ((0.0, 0.0, 0.0), 2, True),
        ((8.0, 0.1, 0.0), 2, True),
        ((8.0, 1.2, 0.0), 2, False),
        ((0.1, 8.0, 8.0), 3, False),
        ((8.0, 8.0, 8.0), 3, False),
    ],
    ids=["stays", "stays once moved", "moves a little at last", "moves late", "moves on and on"],
)
def test_the_pose_is_found_twice_at_least_and_until_it_stays(monkeypatch, steps_mm, turns, carried):
    asked = moves(steps_mm, monkeypatch)
    engine, skull = Sketcher(), cube()
    last, field, sketch = settle(skull, frame(), engine)
    assert len(asked) == turns
    assert last.to_world[0, 3] == pytest.approx(sum(steps_mm[:turns]))
    # Each pose has a sketch of its own, drawn from the one before, but the last of those that hardly differ; the skull
    # is that of the last pose.
    assert [before is None for before in engine.given] == [True] + [False] * (turns - carried)
    np.testing.assert_array_equal(field.distance_mm, to_box(skull, last).distance_mm)
    assert sketch.region.any()


def test_a_skull_without_a_hole_keeps_its_pose():
    engine, skull = Sketcher(finds=False), cube()
    first = frame((0.1, 0.0, 0.0))
    last, _, sketch = settle(skull, first, engine)
    assert last is first
    assert len(engine.given) == 1
    assert not sketch.region.any()


@pytest.mark.parametrize(
    ("steps_mm", "completions", "at_mm"),
    [((0.0,), 1, 0.0), ((0.3, 0.2), 2, 0.3), ((8.0, 0.1), 2, 8.0), ((0.3, 8.0), 3, 8.3), ((8.0, 8.0), 3, 16.0)],
    ids=["stays", "moves a little", "stays once moved", "moves late", "moves on and on"],
)
def test_without_sketches_a_skull_is_completed_once_a_pose_and_three_times_at_most(
    monkeypatch, steps_mm, completions, at_mm
):
    moves(steps_mm, monkeypatch)
    skull, fields = cube(), []

    def complete(field: BoxField) -> SoftField:
        fields.append(field)
        return replace(ramp(), misfit_mm=float(len(fields)))

    frame_, field, soft = complete_iteratively(skull, frame(), complete, None)
    assert len(fields) == completions
    assert len({one.distance_mm.tobytes() for one in fields}) == completions
    # The answer is the last completion, in the pose that it was made in.
    assert frame_.to_world[0, 3] == pytest.approx(at_mm)
    assert soft.misfit_mm == completions
    assert field is fields[-1]
    np.testing.assert_array_equal(field.distance_mm, to_box(skull, frame_).distance_mm)


def test_without_a_hole_a_skull_is_completed_once_in_its_own_pose(monkeypatch):
    asked, fields, first = moves((), monkeypatch), [], frame((0.1, 0.0, 0.0))

    def complete(field: BoxField) -> SoftField:
        fields.append(field)
        return SoftField(field.distance_mm, np.zeros(field.known.shape, bool), 0.0)

    done = complete_iteratively(cube(), first, complete, None)
    assert done.frame is first
    assert (len(fields), asked) == (1, [])
