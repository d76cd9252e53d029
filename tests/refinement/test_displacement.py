"""Displacements: the published regularisation written out, sine waves, Jacobians of maps that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from tests.heads import rigid
from tests.strategies import shapes

from calvaria.refinement.displacement import (
    PAPER_LAMBDA,
    SHORTEST_MM,
    Displacement,
    Smoothness,
    finer,
    jacobians,
    paper_stiffness,
    roughness,
)
from calvaria.volume import Grid

ROUNDING = 2e-5
"""Relative, of sums and sine transforms of up to some thousand float32 numbers (6e-8 each)."""

SPACINGS = st.floats(0.5, 8.0)
SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def published(field_mm: NDArray[np.float64], spacing_mm: float) -> float:
    """The diffusive penalty of Wodzinski et al., written out: -1 to 1 across the volume, means over it, of each axis.

    A last layer of zeros is added, so that each mean is over the N^3 voxels.
    """
    edge = field_mm.shape[1]
    sampling = field_mm * 2 / (edge * spacing_mm)
    per_axis = []
    for axis in (1, 2, 3):
        squared = np.diff(sampling, axis=axis, append=0) ** 2
        per_axis.append(np.mean([component.mean() for component in squared]))
    return float(np.mean(per_axis))


class TestPaperStiffness:
    @pytest.mark.parametrize("spacing_mm", [1.0, 1.6, 3.0])
    @pytest.mark.parametrize("weight", [1.0, PAPER_LAMBDA])
    def test_it_is_the_published_weight(self, spacing_mm, weight):
        edge, inner = 12, 8
        field = np.zeros((3, edge, edge, edge))
        field[:, 2:-2, 2:-2, 2:-2] = np.random.default_rng(1).standard_normal((3, inner, inner, inner))
        stiffness = paper_stiffness(weight, edge, (edge * spacing_mm) ** 3)
        ours = stiffness * roughness(field[:, 1:-1, 1:-1, 1:-1], spacing_mm)[0]
        assert ours == pytest.approx(weight * published(field, spacing_mm), rel=1e-12)

    def test_half_the_voxel_edge_is_the_same_up_to_what_is_between_the_nodes(self):
        """A smooth field costs the same however finely its volume is sampled: lambda needs no knowing of voxels."""
        costs = []
        for edge in (32, 64):
            spacing = 64.0 / edge
            at = (np.arange(1, edge) * spacing - 32) / 20
            bump = np.clip(1 - at**2, 0, None) ** 2
            field = np.stack([bump[:, None, None] * bump[:, None] * bump] * 3)
            costs.append(published(np.pad(field, ((0, 0), (1, 0), (1, 0), (1, 0))), spacing) * edge**2)
            ours = paper_stiffness(1.0, edge, 64.0**3) * roughness(field, spacing)[0] * edge**2
            assert ours == pytest.approx(costs[-1], rel=1e-9)
        # In sampling units per voxel the penalty falls with the square of the voxel edge.
        assert costs[0] == pytest.approx(costs[1], rel=0.01)


class TestRoughness:
    @pytest.mark.parametrize("spacing_mm", [0.7, 2.0])
    def test_a_single_node_has_six_steps(self, spacing_mm):
        field = np.zeros((3, 5, 4, 3))
        field[1, 2, 1, 1] = 3.0
        assert roughness(field, spacing_mm)[0] == pytest.approx(6 * 9 * spacing_mm)

    def test_a_node_beside_the_border_too(self):
        assert roughness(np.ones((3, 1, 1, 1)), 1.0)[0] == pytest.approx(18)

    def test_a_ramp(self):
        """Up by 0.5 mm a mm over 8 mm and down again, along a line of nodes: across it, gradients at its sides."""
        ramp = np.array([1, 2, 3, 4, 3, 2, 1]) * 0.5 * 2.0
        field = np.zeros((3, 7, 1, 1))
        field[0, :, 0, 0] = ramp
        along = 8 * 0.5**2 * 2.0**3  # (du/dx)^2 times the volume of 8 nodes
        assert roughness(field, 2.0)[0] == pytest.approx(along + 4 * (ramp**2).sum() * 2.0)

    @given(
        st.tuples(*[st.integers(2, 8)] * 3).flatmap(
            lambda n: st.tuples(st.just(n), *[st.integers(1, v) for v in n])  # a wave of each axis that fits in
        ),
        SPACINGS,
    )
    def test_a_sine_wave(self, given_wave, spacing_mm):
        shape, *waves = given_wave
        lines = [np.sin(np.pi * p * np.arange(1, n + 1) / (n + 1)) for p, n in zip(waves, shape, strict=True)]
        field = np.zeros((3, *shape))
        field[2] = lines[0][:, None, None] * lines[1][:, None] * lines[2]
        per_step = sum(4 * np.sin(np.pi * p / (2 * (n + 1))) ** 2 for p, n in zip(waves, shape, strict=True))
        squares = np.prod([(n + 1) / 2 for n in shape])
        assert roughness(field, spacing_mm)[0] == pytest.approx(per_step * squares * spacing_mm, rel=1e-9)

    def test_fine_sampling_gives_the_integral(self):
        n, length = 63, 32.0
        line = np.sin(np.pi * np.arange(1, n + 1) / (n + 1))
        field = np.stack([line[:, None, None] * line[:, None] * line] * 3)
        integral = 3 * 3 * (np.pi / length) ** 2 * (length / 2) ** 3
        assert roughness(field, length / (n + 1))[0] == pytest.approx(integral, rel=1e-3)

    @given(shapes(1, 5), SPACINGS, SEEDS)
    @settings(max_examples=20)
    def test_the_derivative_is_that_of_finite_differences(self, shape, spacing_mm, seed):
        field = np.random.default_rng(seed).standard_normal((3, *shape))
        slope = roughness(field, spacing_mm)[1]
        assert slope.shape == field.shape
        towards = np.random.default_rng(seed + 1).standard_normal((3, *shape))
        up, down = (roughness(field + s * 1e-3 * towards, spacing_mm)[0] for s in (1, -1))
        # Of a quadratic form central differences are exact.
        assert np.vdot(slope, towards) == pytest.approx((up - down) / 2e-3, rel=1e-7, abs=1e-7)


class TestSmoothness:
    @given(shapes(1, 12), SPACINGS, st.floats(1e-7, 10.0), SEEDS)
    def test_half_the_squares_is_the_regularisation(self, shape, spacing_mm, stiffness, seed):
        smooth = Smoothness(shape, spacing_mm, stiffness)
        waves = drawn(seed, *smooth.waves(np.zeros((3, *shape), np.float32)).shape)
        field = smooth.field(waves)
        assert field.shape == (3, *shape)
        assert field.dtype == np.float32
        cost = stiffness * roughness(field.astype(np.float64), spacing_mm)[0]
        assert cost == pytest.approx(float((waves.astype(np.float64) ** 2).sum()) / 2, rel=ROUNDING)

    @given(shapes(1, 12), SPACINGS, SEEDS)
    def test_fields_of_waves_that_are_kept_come_back(self, shape, spacing_mm, seed):
        smooth = Smoothness(shape, spacing_mm, 1e-3)
        field = smooth.field(drawn(seed, *smooth.waves(np.zeros((3, *shape), np.float32)).shape))
        np.testing.assert_allclose(
            smooth.field(smooth.waves(field)), field, atol=ROUNDING * max(1, np.abs(field).max())
        )

    @given(shapes(1, 12), SPACINGS, SEEDS)
    def test_slope_is_the_transpose_of_field(self, shape, spacing_mm, seed):
        smooth = Smoothness(shape, spacing_mm, 0.05)
        of_field = drawn(seed, 3, *shape)
        waves = drawn(seed + 1, *smooth.waves(of_field).shape)
        one = np.vdot(smooth.field(waves).astype(np.float64), of_field)
        other = np.vdot(waves.astype(np.float64), smooth.slope(of_field))
        size = float(np.linalg.norm(smooth.field(waves)) * np.linalg.norm(of_field))
        assert one == pytest.approx(other, abs=ROUNDING * max(size, 1e-9))

    @pytest.mark.parametrize("spacing_mm", [1.6, 3.2, 6.4])
    def test_waves_that_are_too_short_are_left_out(self, spacing_mm):
        n = 15
        smooth = Smoothness((n, n, n), spacing_mm, 1.0)
        kept = []
        for p in range(1, n + 1):
            line = np.sin(np.pi * p * np.arange(1, n + 1) / (n + 1)).astype(np.float32)
            long = np.sin(np.pi * np.arange(1, n + 1) / (n + 1)).astype(np.float32)
            field = np.zeros((3, n, n, n), np.float32)
            field[0] = long[:, None, None] * line[:, None] * long
            after = smooth.field(smooth.waves(field))
            assert np.abs(after - field).max() < 1e-5 or np.abs(after).max() < 1e-5
            kept.append(bool(np.abs(after).max() > 0.5))
        lengths = 2 * (n + 1) * spacing_mm / np.arange(1, n + 1)
        assert kept == list(lengths >= SHORTEST_MM - 1e-9)


class TestFiner:
    @given(shapes(1, 5), SEEDS)
    def test_what_is_trilinear_stays_exactly(self, shape, seed):
        # Whole numbers: their means of up to eight are exact.
        field = np.random.default_rng(seed).integers(-99, 99, (3, *shape)).astype(np.float32)
        out = finer(field)
        assert out.shape == (3, *(2 * n + 1 for n in shape))
        assert out.dtype == np.float32
        padded = np.pad(field, ((0, 0), (1, 1), (1, 1), (1, 1)))
        at = np.stack(np.meshgrid(*(np.arange(1, 2 * n + 2) / 2 for n in shape), indexing="ij"), axis=-1)
        for one, fine in zip(padded, out, strict=True):
            exact = RegularGridInterpolator([np.arange(n) for n in one.shape], one.astype(np.float64))(at)
            np.testing.assert_array_equal(fine, exact)

    def test_its_displacement_is_the_same_everywhere(self):
        field = drawn(3, 3, 4, 3, 5)
        coarse = Displacement(np.pad(field, ((0, 0), (1, 1), (1, 1), (1, 1))), Grid.isotropic((6, 5, 7), 4.0))
        fine = Displacement(np.pad(finer(field), ((0, 0), (1, 1), (1, 1), (1, 1))), Grid.isotropic((11, 9, 13), 2.0))
        points = np.random.default_rng(4).uniform(-3, 30, (500, 3))
        # Between its nodes a refined field is the coarse one on the lines along the axes, and near it elsewhere.
        nodes = fine.grid.centres_mm().reshape(-1, 3)
        np.testing.assert_allclose(fine.at(nodes), coarse.at(nodes), atol=1e-5)
        np.testing.assert_allclose(fine.at(points), coarse.at(points), atol=1e-5)


class TestJacobians:
    @pytest.mark.parametrize("spacing_mm", [1.6, 5.0])
    def test_of_an_affine_map_is_its_determinant(self, spacing_mm):
        matrix = np.random.default_rng(5).normal(0, 0.2, (3, 3))
        at = spacing_mm * np.stack(np.meshgrid(*[np.arange(n) for n in (7, 6, 5)], indexing="ij"))
        field = np.einsum("ab,bijk->aijk", matrix, at).astype(np.float32)
        found = jacobians(field, spacing_mm)
        assert found.shape == (7, 6, 5)
        np.testing.assert_allclose(found, np.linalg.det(np.eye(3) + matrix), rtol=1e-5)

    def test_of_an_affine_map_in_the_middle_of_zeros(self):
        matrix = np.diag([0.1, -0.2, 0.05]) + 0.03
        at = np.stack(np.meshgrid(*[np.arange(9.0) - 4] * 3, indexing="ij")) * 2.0
        field = np.zeros((3, 9, 9, 9), np.float32)
        middle = (slice(None), *[slice(2, -2)] * 3)
        field[middle] = np.einsum("ab,bijk->aijk", matrix, at)[middle]
        found = Displacement(field, Grid.isotropic((9, 9, 9), 2.0)).jacobians()
        np.testing.assert_allclose(found[3:-3, 3:-3, 3:-3], np.linalg.det(np.eye(3) + matrix), rtol=1e-5)
        assert found[0, 0, 0] == 1

    def test_what_folds_is_negative_there_alone(self):
        field = np.zeros((3, 21, 9, 9), np.float32)
        field[0] = 5 * np.sin(2 * np.pi * np.arange(21) / 20)[:, None, None]
        found = jacobians(field, 1.0)
        expected = 1 + 5 * 2 * np.pi / 20 * np.cos(2 * np.pi * np.arange(21) / 20)
        assert expected.min() < 0
        np.testing.assert_allclose(found[1:-1, 4, 4], expected[1:-1], atol=0.05)  # differences over two nodes
        assert found[10, 4, 4] < 0 < found[3, 4, 4]

    def test_a_turn_keeps_volumes(self):
        turn = rigid((20, -10, 35))[:3, :3]
        at = np.stack(np.meshgrid(*[np.arange(5.0)] * 3, indexing="ij"))
        field = np.einsum("ab,bijk->aijk", turn - np.eye(3), at).astype(np.float32)
        np.testing.assert_allclose(jacobians(field, 1.0), 1, atol=1e-5)


class TestDisplacement:
    POSE = rigid((30, -20, 50), (12, -40, 7))

    def test_vectors_turn_with_the_grid(self):
        field = drawn(6, 3, 5, 6, 7)
        here = Displacement(field, Grid.isotropic((5, 6, 7), 2.0, (1, 2, 3)))
        there = Displacement(field, here.grid.moved(self.POSE))
        points = here.grid.to_world(np.random.default_rng(7).uniform(0, 4, (200, 3)))
        moved = points @ self.POSE[:3, :3].T + self.POSE[:3, 3]
        np.testing.assert_allclose(there.at(moved), here.at(points) @ self.POSE[:3, :3].T, atol=1e-5)
        assert here.at(points).dtype == np.float64

    def test_at_a_node_they_are_the_nodes_own_along_the_axes_of_the_grid(self):
        field = np.zeros((3, 3, 3, 3), np.float32)
        field[:, 1, 1, 1] = (1, 2, 3)
        shift = Displacement(field, Grid.isotropic((3, 3, 3), 4.0).moved(self.POSE))
        middle = shift.grid.to_world([[1, 1, 1]])
        np.testing.assert_allclose(shift.at(middle), [self.POSE[:3, :3] @ [1, 2, 3]], atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(shift.at(middle)), np.sqrt(14), atol=1e-6)  # mm, whatever the spacing

    def test_flipped_axes_flip_components(self):
        field = drawn(8, 3, 4, 4, 4)
        plain = Displacement(field, Grid.isotropic((4, 4, 4), 1.5))
        flipped = Displacement(field * np.float32([-1, 1, 1])[:, None, None, None], plain.grid)
        flipped = Displacement(np.ascontiguousarray(flipped.vectors_mm[:, ::-1]), plain.grid.flip((0,)))
        points = np.random.default_rng(9).uniform(0, 4.5, (100, 3))
        np.testing.assert_allclose(flipped.at(points), plain.at(points), atol=1e-5)

    def test_beyond_the_grid_nothing_moves(self):
        shift = Displacement(np.ones((3, 4, 4, 4), np.float32), Grid.isotropic((4, 4, 4), 2.0).moved(self.POSE))
        outside = shift.grid.to_world([[-0.1, 1, 1], [1, 3.2, 1], [50, 50, 50], [1, 1, -400]])
        np.testing.assert_array_equal(shift.at(outside), 0)
        assert np.abs(shift.at(shift.grid.to_world([[0.02, 1, 2.98]]))).max() > 0.5
