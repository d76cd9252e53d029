"""The energy against the symmetry loss in torch, and its derivative against autograd of the formula written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from calvaria.refinement.energy import Energy, Evidence, Scene, amount, amount_slope
from calvaria.volume import Grid

torch = pytest.importorskip("torch")

SHAPE = (25, 21, 17)
BOX = (slice(8, 25), slice(0, 21), slice(0, 17))
"""Off to one side, and over the plane at x = 12."""

INSIDE = (slice(12, 21), slice(4, 17), slice(4, 13))
"""Nodes of the box that the coarsest level moves too, and those between them: there the patch lies."""

SPACING_MM = 2.0

GRADIENT_RTOL = 2e-4
"""Of the largest derivative. Single precision places points to 2e-6 of a node; a derivative of amounts changes by 1 /
width a mm, and hundreds of such terms are summed; the reference is in double precision."""

VALUE_RTOL = 1e-5
"""Sums of some thousand single precision terms."""


def smooth(seed: int, size_mm: float, sigma: float = 2.0) -> NDArray[np.float32]:
    """Random and smooth, about ``size_mm`` large."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), sigma)
    return (size_mm * noise / noise.std()).astype(np.float32)


def random_scene(seed: int = 0, *, evidence: bool = False, uneven: bool = False, window: bool = True) -> Scene:
    bone, patch = smooth(seed, 4.0), smooth(seed + 1, 4.0)
    compared = np.ones(SHAPE, np.float32)
    if window:
        compared = np.clip(smooth(seed + 2, 0.5) + 0.5, 0, 1)
        compared = np.ascontiguousarray((compared + compared[::-1]) / 2)
    expected = []
    if evidence:
        expected = [
            Evidence("rim", smooth(seed + 3, 3.0), np.abs(smooth(seed + 4, 5.0))),
            Evidence("prior", smooth(seed + 5, 3.0), np.full(SHAPE, 2.0, np.float32)),
        ]
    off = None
    if uneven:
        off = smooth(seed + 6, 1.0)
        off = (off - off[::-1]) / 2
    open_ = smooth(seed + 7, 1.0) > -0.7
    filled = np.zeros(SHAPE, bool)
    filled[INSIDE] = open_[INSIDE]
    completed = np.where(filled, np.minimum(bone, patch), bone)
    return Scene(bone, completed, open_, compared, SPACING_MM, expected, 1.0, off)


def random_moves(energy: Energy, seed: int = 50, size_mm: float = 2.0) -> NDArray[np.float32]:
    """Of less than a node of the level, so that all is read on the grid."""
    drawn = np.random.default_rng(seed).standard_normal((3, *energy.shape))
    most = 0.95 * energy.step * SPACING_MM
    return (size_mm * energy.step * drawn).clip(-most, most).astype(np.float32)


def read(values: NDArray[np.float32], nodes) -> torch.Tensor:
    """(N,) trilinear values at (3, N) fractional nodes, by torch."""
    top = torch.tensor(values.shape, dtype=torch.float64)[:, None] - 1
    at = (2 * nodes / top - 1).flip(0).T[None, None, None]
    volume = torch.tensor(values, dtype=torch.float64)[None, None]
    return torch.nn.functional.grid_sample(volume, at, padding_mode="border", align_corners=True).reshape(-1)


def soft(distance_mm: torch.Tensor, width_mm: float) -> torch.Tensor:
    part = (distance_mm / width_mm).clamp(-1, 1)
    return 0.5 - 0.75 * part + 0.25 * part**3


def inner_nodes(scene: Scene, step: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """(3, I, J, K) nodes of the scene that a level moves, and whether the patch may lie there."""
    ranges = [np.arange(s.start + step, s.stop - step, step) for s in BOX]
    nodes = np.stack(np.meshgrid(*ranges, indexing="ij"))
    return nodes, scene.open[tuple(nodes)]


def written_out(scene: Scene, step: int, width_mm: float, moved: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The energy as the module's docstring has it, and SL alone, in double precision."""
    nodes, open_ = inner_nodes(scene, step)
    at = torch.tensor(nodes[:, open_], dtype=torch.float64)
    there = read(scene.completed_mm, at + moved[:, torch.tensor(open_)] / SPACING_MM)
    every = (slice(None, None, step),) * 3
    level = tuple(nodes[:, open_] // step)
    bone = torch.tensor(scene.bone_mm[every], dtype=torch.float64)
    first = torch.minimum(bone, torch.tensor(scene.completed_mm[every], dtype=torch.float64))
    distance = first.clone()
    distance[level] = torch.minimum(bone[level], there)
    off = 0.0 if scene.asymmetry_mm is None else torch.tensor(scene.asymmetry_mm[every], dtype=torch.float64) / 2
    window = torch.tensor(scene.compared[every], dtype=torch.float64)
    skull, skull_0 = soft(distance - off, width_mm), soft(first - off, width_mm)
    loss = (window * (skull - skull.flip(0)) ** 2).sum() / (2 * (window * skull**2).sum())
    total = scene.symmetry * loss
    for one in scene.evidence:
        target = soft(torch.tensor(one.distance_mm[every], dtype=torch.float64), width_mm)[level]
        weight = torch.tensor(one.weight[every], dtype=torch.float64)[level]
        apart = (weight * (soft(distance[level], width_mm) - target) ** 2).sum()
        total = total + apart / (2 * (window * skull_0**2).sum())
    return total, loss


def shell_scene(**changes: object) -> Scene:
    """The same on both sides: a hollow ball, whose hole on one side is filled."""
    at = (np.moveaxis(np.indices(SHAPE), 0, -1) - (np.array(SHAPE) - 1) / 2) * SPACING_MM
    ball = (np.abs(np.linalg.norm(at, axis=-1) - 12) - 3).astype(np.float32)
    hole = np.minimum(7 - np.hypot(at[..., 1], at[..., 2]), at[..., 0]).astype(np.float32)
    scene = Scene(np.maximum(ball, hole), ball, hole > -3, np.ones(SHAPE, np.float32), SPACING_MM)
    return replace(scene, **changes)


class TestAmount:
    def test_inside_at_the_surface_and_outside(self):
        distance = np.array([-9, -4, 0, 4, 9], np.float32)
        np.testing.assert_array_equal(amount(distance, 4.0), [1, 1, 0.5, 0, 0])
        np.testing.assert_array_equal(amount_slope(distance, 4.0)[[0, 1, 3, 4]], 0)
        assert amount_slope(distance, 4.0)[2] == pytest.approx(-0.75 / 4)

    @given(st.floats(0.5, 20.0))
    def test_it_falls_and_its_two_sides_add_up_to_one(self, width_mm):
        distance = np.linspace(-1.5 * width_mm, 1.5 * width_mm, 301).astype(np.float32)
        values = amount(distance, width_mm)
        assert values.dtype == np.float32
        assert (np.diff(values) <= 1e-7).all()
        assert (np.diff(values)[105:195] < 0).all()
        np.testing.assert_allclose(values + values[::-1], 1, atol=1e-6)

    @given(st.floats(0.5, 20.0))
    def test_its_derivative_is_that_of_finite_differences_and_continuous(self, width_mm):
        distance = np.linspace(-1.5, 1.5, 1201) * width_mm
        step = distance[1] - distance[0]
        slope = amount_slope(distance, width_mm)
        found = (amount(distance[2:], width_mm) - amount(distance[:-2], width_mm)) / (2 * step)
        np.testing.assert_allclose(slope[1:-1] * width_mm, found * width_mm, atol=5e-3)
        # Its own derivative is at most 1.5 / width^2.
        assert np.abs(np.diff(slope)).max() * width_mm < 1.6 * step / width_mm


class TestSymmetryLoss:
    @pytest.mark.parametrize("step", [1, 2, 4])
    @pytest.mark.parametrize("window", [False, True])
    def test_it_is_that_of_the_completed_skull_about_the_plane(self, step, window):
        from calvaria.symmetry.loss import symmetry_loss

        scene = random_scene(step, window=window)
        energy = Energy(scene, BOX, step, 3.0, reach_mm=1e3)
        moved = random_moves(energy)
        nodes, open_ = inner_nodes(scene, step)
        there = torch.tensor(nodes[:, open_] + moved[:, open_] / np.float32(SPACING_MM), dtype=torch.float64)
        every = (slice(None, None, step),) * 3
        skull = np.minimum(scene.bone_mm, scene.completed_mm).astype(np.float64)
        skull[tuple(nodes[:, open_])] = np.minimum(
            scene.bone_mm[tuple(nodes[:, open_])], read(scene.completed_mm, there).numpy()
        )
        soft_bone = amount(skull[every], 3.0)
        middle = -(SHAPE[0] - 1) / 2 * SPACING_MM
        grid = Grid.isotropic(soft_bone.shape, SPACING_MM * step, (middle, -30.0, 7.0))
        loss = symmetry_loss(
            torch.tensor(soft_bone, dtype=torch.float64)[None, None],
            grid,
            torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64),
            torch.tensor(scene.compared[every])[None, None],
        )
        assert 0.05 < float(loss) < 1
        assert energy.symmetry_loss(moved) == pytest.approx(float(loss.detach()), rel=VALUE_RTOL)

    def test_what_is_the_same_on_both_sides_has_none_and_no_derivative(self):
        energy = Energy(shell_scene(), BOX, 1, 3.0)
        value, slope = energy(np.zeros((3, *energy.shape), np.float32))
        assert value == energy.symmetry_loss(np.zeros((3, *energy.shape), np.float32)) == 0
        assert not slope.any()
        assert energy(random_moves(energy, size_mm=1.0))[0] > 1e-3

    @pytest.mark.parametrize("step", [1, 2, 4])
    def test_known_asymmetry_is_none(self, step):
        """A ball that is larger on one side, and the asymmetry that says by how much."""
        scene = shell_scene()
        off = smooth(3, 1.0)
        off = (off - off[::-1]) / 2
        bone, completed = scene.bone_mm + off / 2, scene.completed_mm + off / 2
        known = replace(scene, bone_mm=bone, completed_mm=completed, asymmetry_mm=off)
        still = np.zeros((3, *Energy(known, BOX, step, 3.0).shape), np.float32)
        assert Energy(known, BOX, step, 3.0).symmetry_loss(still) < 1e-10
        assert Energy(replace(known, asymmetry_mm=None), BOX, step, 3.0).symmetry_loss(still) > 1e-3

    @pytest.mark.parametrize("symmetry", [0.0, 1.0])
    def test_without_any_bone_it_is_nought(self, symmetry):
        far = np.full(SHAPE, 12.0, np.float32)
        scene = Scene(far, far, np.ones(SHAPE, bool), np.ones(SHAPE, np.float32), SPACING_MM, symmetry=symmetry)
        energy = Energy(scene, BOX, 2, 3.0)
        value, slope = energy(random_moves(energy))
        assert value == energy.symmetry_loss(random_moves(energy)) == 0
        assert not slope.any()

    def test_where_nothing_is_compared_it_is_nought(self):
        energy = Energy(replace(random_scene(), compared=np.zeros(SHAPE, np.float32)), BOX, 1, 3.0)
        value, slope = energy(random_moves(energy))
        assert value == 0
        assert not slope.any()


@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize("terms", ["symmetry", "evidence", "all", "all, asymmetry known", "asymmetry known"])
def test_value_and_derivative_are_those_of_the_formula_written_out(step, terms):
    scene = random_scene(10 * step, evidence="all" in terms or terms == "evidence", uneven="asymmetry" in terms)
    scene = replace(scene, symmetry=0.0 if terms == "evidence" else 1.7)
    energy = Energy(scene, BOX, step, 3.0 * step, reach_mm=1e3)
    moved = random_moves(energy, step)
    value, slope = energy(moved)
    variable = torch.tensor(moved, dtype=torch.float64, requires_grad=True)
    total, loss = written_out(scene, step, 3.0 * step, variable)
    total.backward()
    exact = variable.grad.numpy()
    assert value == pytest.approx(float(total.detach()), rel=VALUE_RTOL)
    assert energy.symmetry_loss(moved) == pytest.approx(float(loss.detach()), rel=VALUE_RTOL)
    assert slope.dtype == np.float32
    assert slope.shape == moved.shape
    assert np.abs(exact).max() > 1e-6
    np.testing.assert_allclose(slope, exact, atol=GRADIENT_RTOL * np.abs(exact).max())


@pytest.mark.parametrize("step", [1, 2])
def test_nodes_that_bone_cannot_reach_are_left_out_without_a_difference(step):
    """Of true distances, which change by no more than a mm a mm."""
    scene = shell_scene()
    moved = random_moves(Energy(scene, BOX, step, 3.0), size_mm=1.0).clip(-2, 2)
    reach = 2.0 * np.sqrt(3)
    found = [Energy(scene, BOX, step, 3.0, reach_mm=far)(moved) for far in (reach, 1e3)]
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-9)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-9)


@pytest.mark.parametrize("step", [1, 2])
def test_reach_counts_from_where_a_level_starts(step):
    scene = shell_scene()
    start = random_moves(Energy(scene, BOX, step, 3.0), size_mm=2.0)
    moved = start + random_moves(Energy(scene, BOX, step, 3.0), 51, 0.3).clip(-0.5, 0.5)
    found = [Energy(scene, BOX, step, 3.0, start, far)(moved) for far in (0.5 * np.sqrt(3), 1e3)]
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-9)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-9)


def test_where_bone_rules_nothing_pulls():
    scene = random_scene(4, evidence=True)
    energy = Energy(scene, BOX, 1, 3.0, reach_mm=1e3)
    moved = random_moves(energy)
    nodes, open_ = inner_nodes(scene, 1)
    there = torch.tensor(nodes[:, open_] + moved[:, open_] / np.float32(SPACING_MM), dtype=torch.float64)
    bone = scene.bone_mm[tuple(nodes[:, open_])]
    rules = bone < read(scene.completed_mm, there).numpy() - 1e-3
    slope = energy(moved)[1][:, open_]
    assert 100 < np.count_nonzero(rules) < len(rules) - 100
    assert not slope[:, rules].any()
    assert slope[:, ~rules].any()


def test_where_the_patch_may_not_lie_nothing_moves():
    scene = random_scene(5, evidence=True, uneven=True)
    energy = Energy(scene, BOX, 1, 3.0, reach_mm=1e3)
    moved = random_moves(energy)
    shut = ~inner_nodes(scene, 1)[1]
    assert 50 < np.count_nonzero(shut) < shut.size - 50
    value, slope = energy(moved)
    assert not slope[:, shut].any()
    other = moved.copy()
    other[:, shut] += 3
    assert energy(other)[0] == value
    np.testing.assert_array_equal(energy(other)[1], slope)


@pytest.mark.parametrize("symmetry", [0.0, 1.0])
def test_evidence_where_no_bone_is_compared_counts_for_nothing(symmetry):
    """The scan shows neither side, or there is no bone at all: no amount of bone to count by."""
    scene = replace(random_scene(evidence=True), compared=np.zeros(SHAPE, np.float32), symmetry=symmetry)
    energy = Energy(scene, BOX, 1, 3.0)
    value, slope = energy(random_moves(energy))
    assert value == 0
    assert not slope.any()
