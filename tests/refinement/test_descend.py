"""A patch that is pushed in comes back, on a shell whose other side shows where it belongs."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from calvaria.refinement.descend import LEVELS, MIN_JACOBIAN, STIFFER, Descent, Level, descend
from calvaria.refinement.displacement import PAPER_LAMBDA, Displacement, paper_stiffness
from calvaria.refinement.energy import Evidence, Scene
from calvaria.skull.canonical import SIZE, SPACING_MM
from calvaria.volume import Grid

STEP_MM = 2.0
GRID = Grid.isotropic((89, 81, 77), STEP_MM, (-88.0, -80.0, -72.0))
BOX = (slice(56, 89), slice(20, 69), slice(36, 77))
RADIUS_MM, THICK_MM, FAR_MM = 75.0, 6.0, 12.0
AXIS = np.array([0.85, 0.1, 0.5]) / np.linalg.norm([0.85, 0.1, 0.5])
HOLE_MM = 20.0
PUSH_MM = 3.0
STIFFNESS = paper_stiffness(PAPER_LAMBDA, SIZE, (SIZE * SPACING_MM) ** 3)
"""The paper's."""

Fields = tuple[NDArray[np.float64], NDArray[np.float64]]


@lru_cache(maxsize=1)
def polar() -> Fields:
    """(I, J, K) distances from the middle, and how far inside the hole a node's direction lies, mm on the sphere."""
    points = GRID.centres_mm()
    far = np.maximum(np.linalg.norm(points, axis=-1), 1e-6)
    return far, HOLE_MM - RADIUS_MM * np.arccos(np.clip(points @ AXIS / far, -1, 1))


def shell(push_mm: NDArray[np.float64] | float = 0.0) -> NDArray[np.float32]:
    far = polar()[0] + push_mm
    return np.maximum(far - RADIUS_MM, RADIUS_MM - THICK_MM - far).clip(-FAR_MM, FAR_MM).astype(np.float32)


@lru_cache(maxsize=1)
def pushed_in() -> Scene:
    """The patch 3 mm too deep, but for its outermost 6 mm, where it comes up to the rim."""
    far, inside = polar()
    bone = np.maximum(shell(), inside).clip(-FAR_MM, FAR_MM).astype(np.float32)
    patch = np.maximum(shell(PUSH_MM * np.clip(inside / 6, 0, 1)), -1 - inside)
    completed = np.minimum(bone, patch).astype(np.float32)
    open_ = (inside > -1.5) & (far > 50) & (bone > 0)
    return Scene(bone, completed, open_, np.ones(GRID.shape, np.float32), STEP_MM)


def moved_by(found: Descent) -> Displacement:
    field = np.pad(found.field, ((0, 0), (1, 1), (1, 1), (1, 1)))
    i, j, k = field.shape[1:]
    return Displacement(field, Grid.isotropic((i, j, k), STEP_MM * found.step, GRID.crop(BOX).to_world([0, 0, 0])))


def off_mm(scene: Scene, found: Descent | None) -> NDArray[np.float32]:
    """How far the outer table lies from the true one in the hole's inner three quarters."""
    rays = np.random.default_rng(0).normal(size=(40000, 3))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    surface = RADIUS_MM * rays[RADIUS_MM * np.arccos(rays @ AXIS) < 0.75 * HOLE_MM]
    there = surface if found is None else surface + moved_by(found).at(surface)
    return np.abs(map_coordinates(scene.completed_mm, GRID.to_index(there).T, order=1))


@lru_cache(maxsize=8)
def by_symmetry(stiffer: float = 1.0) -> Descent:
    return descend(pushed_in(), BOX, stiffer * STIFFNESS)


def test_symmetry_brings_it_back():
    assert off_mm(pushed_in(), None).mean() > 2.8
    off = off_mm(pushed_in(), by_symmetry())
    assert off.mean() < 0.5
    assert off.max() < 1.0
    assert moved_by(by_symmetry()).jacobians().min() >= MIN_JACOBIAN
    assert by_symmetry().stiffness == STIFFNESS
    assert by_symmetry().step == LEVELS[-1].step
    assert by_symmetry().field.dtype == np.float32


def test_it_moves_outwards_and_about_as_far_as_it_was_pushed():
    """What is refined has at x what the given one has at x + u(x): u points inwards."""
    shift = moved_by(by_symmetry()).at(RADIUS_MM * AXIS[None])[0]
    assert shift @ AXIS == pytest.approx(-PUSH_MM, abs=0.5)
    assert np.linalg.norm(shift - (shift @ AXIS) * AXIS) < 0.5


def test_so_does_what_else_is_known():
    known = Evidence("prior", shell(), np.full(GRID.shape, 20, np.float32))
    scene = replace(pushed_in(), evidence=[known], symmetry=0.0)
    found = descend(scene, BOX, STIFFNESS, [Level(4, 8.0, 30), Level(2, 4.0, 30)])
    assert off_mm(scene, found).mean() < 0.5
    assert off_mm(scene, found).mean() < off_mm(pushed_in(), by_symmetry()).mean() + 0.1
    assert moved_by(found).jacobians().min() >= MIN_JACOBIAN


def test_evidence_for_another_surface_wins_over_symmetry_by_its_weight():
    deeper = Evidence("prior", shell(PUSH_MM), np.full(GRID.shape, 1000, np.float32))
    found = descend(replace(pushed_in(), evidence=[deeper]), BOX, STIFFNESS, [Level(4, 8.0, 30), Level(2, 4.0, 30)])
    assert off_mm(pushed_in(), found).mean() > 2.5


def test_ten_times_as_stiff_moves_less():
    stiff, plain = by_symmetry(10.0), by_symmetry()
    assert (
        off_mm(pushed_in(), plain).mean() + 0.2 < off_mm(pushed_in(), stiff).mean() < off_mm(pushed_in(), None).mean()
    )
    assert np.linalg.norm(stiff.field) < 0.9 * np.linalg.norm(plain.field)


def test_nothing_moves_where_nothing_pulls():
    whole = replace(pushed_in(), completed_mm=np.minimum(shell(), pushed_in().bone_mm))
    found = descend(whole, BOX, STIFFNESS)
    assert np.linalg.norm(found.field, axis=0).max() < 0.25
    empty = np.full(GRID.shape, FAR_MM, np.float32)
    found = descend(replace(whole, bone_mm=empty, completed_mm=empty), BOX, STIFFNESS, LEVELS[:2])
    assert not found.field.any()
    assert found.field.shape == (3, 15, 23, 19)


@pytest.mark.parametrize("seed", [1, 2])
def test_wild_starts_do_not_fold(seed):
    """Bumps of 8 mm under a hundredth of the stiffness: levels are done again, stiffer."""
    bumps = gaussian_filter(np.random.default_rng(seed).standard_normal(GRID.shape), 3)
    scene = pushed_in()
    wild = scene.completed_mm + 8 * bumps / bumps.std()
    wild = np.where(scene.open, np.minimum(scene.bone_mm, wild), scene.bone_mm).clip(-FAR_MM, FAR_MM)
    found = descend(replace(scene, completed_mm=wild.astype(np.float32)), BOX, STIFFNESS / 100, LEVELS[:2])
    assert moved_by(found).jacobians().min() >= MIN_JACOBIAN
    assert found.stiffness > STIFFNESS / 100
    assert np.log(found.stiffness / (STIFFNESS / 100)) / np.log(STIFFER) == pytest.approx(
        round(np.log(found.stiffness / (STIFFNESS / 100)) / np.log(STIFFER))
    )
    assert np.linalg.norm(found.field, axis=0).max() > 1


def test_twice_the_same():
    once, again = (descend(pushed_in(), BOX, STIFFNESS, LEVELS[:2]) for _ in range(2))
    np.testing.assert_array_equal(once.field, again.field)
    assert once.evaluations == again.evaluations > 0


def test_levels_may_share_a_step():
    found = descend(pushed_in(), BOX, STIFFNESS, [Level(4, 8.0, 10), Level(4, 5.0, 10)])
    assert found.step == 4
    assert found.field.shape == (3, 7, 11, 9)
    assert off_mm(pushed_in(), found).mean() < 1


def test_without_levels_there_is_no_descent():
    with pytest.raises(ValueError, match="a descent has one level or more"):
        descend(pushed_in(), BOX, STIFFNESS, [])
