"""Deformations: exact where the answer is known, invertible, mirrored as heads are, and found again by registration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.synthesis.shells import head

from calvaria.datasets.cache import training_grid
from calvaria.deformation.flow import DeformationGrids, centres, compose, flow, jacobian, on_grid, read
from calvaria.deformation.registration import Surface, blur, misfit_mm, register, surface_of, to_lattice
from calvaria.errors import InputError
from calvaria.synthesis.between import Blend, mirror, sample_blend

GRIDS = DeformationGrids.over(training_grid())

MIDDLE = (slice(None), slice(None), slice(12, -12), slice(12, -12), slice(10, -10))
"""Away from the border, beyond which fields go on as they are."""


def smooth_velocity(seed: int, largest_mm: float) -> torch.Tensor:
    """A velocity of a few cycles a head, zero towards the border."""
    rng = np.random.default_rng(seed)
    points = centres(GRIDS.lattice) / 100.0
    parts = []
    for _ in range(3):
        wave = torch.tensor(rng.normal(0, 2.0, 3), dtype=torch.float32).reshape(3, 1, 1, 1)
        parts.append(torch.sin((wave * points).sum(dim=0) + float(rng.uniform(0, 6))))
    fade = torch.exp(-((points**2).sum(dim=0)) * 1.5)
    field = torch.stack(parts) * fade
    return (field / field.abs().max() * largest_mm)[None]


def test_grids_share_their_middle() -> None:
    for grid in (GRIDS.lattice, GRIDS.flow):
        middle = grid.to_world((np.array(grid.shape) - 1) / 2)
        assert np.allclose(middle, training_grid().to_world((np.array(training_grid().shape) - 1) / 2))
    assert GRIDS.flow.spacing_mm == pytest.approx((3.2,) * 3)


def test_centres_are_those_of_the_grid() -> None:
    assert np.allclose(centres(GRIDS.flow).numpy(), np.moveaxis(GRIDS.flow.centres_mm(), -1, 0), atol=1e-4)


def test_reading_a_linear_field_is_exact_anywhere_inside() -> None:
    grid = GRIDS.flow
    slope = torch.tensor([0.3, -0.2, 0.5]).reshape(3, 1, 1, 1)
    values = (centres(grid) * slope).sum(dim=0)[None, None]
    points = torch.from_numpy(np.random.default_rng(0).uniform(-60, 60, (1, 3, 4, 5, 6)).astype(np.float32))
    wanted = (points[0] * slope).sum(dim=0)
    assert torch.allclose(read(values, grid, points)[0, 0], wanted, atol=1e-3)


def test_beyond_the_grid_there_is_the_border_or_nothing() -> None:
    values = torch.ones(1, 1, *GRIDS.flow.shape)
    far = torch.full((1, 3, 1, 1, 1), 500.0)
    assert float(read(values, GRIDS.flow, far)) == 1.0
    assert float(read(values, GRIDS.flow, far, "zeros")) == 0.0


def test_a_constant_velocity_flows_to_a_shift() -> None:
    velocity = torch.tensor([3.0, -2.0, 1.0]).reshape(1, 3, 1, 1, 1).expand(1, 3, *GRIDS.lattice.shape)
    assert torch.allclose(flow(velocity, GRIDS), torch.tensor([3.0, -2.0, 1.0]).reshape(1, 3, 1, 1, 1), atol=1e-4)


def test_a_stretching_velocity_flows_to_its_exponential() -> None:
    points = centres(GRIDS.lattice)[None]
    found = flow(0.1 * points, GRIDS)
    wanted = (np.exp(0.1) - 1) * centres(GRIDS.flow)[None]
    inner = (centres(GRIDS.flow).abs() < 45).all(dim=0)  # beyond the border the velocity stays as it is there
    assert (found - wanted)[..., inner].abs().max() < 0.05  # of 4.7 mm; a 32nd of the way is a straight step


@settings(max_examples=8)
@given(st.integers(0, 1000), st.floats(1, 9))
def test_a_flow_is_undone_by_its_opposite_and_never_folds(seed: int, largest_mm: float) -> None:
    velocity = smooth_velocity(seed, largest_mm)
    there, back = flow(velocity, GRIDS), flow(-velocity, GRIDS)
    assert compose(there, back, GRIDS.flow)[MIDDLE].abs().max() < 0.12 + 0.02 * largest_mm
    assert jacobian(there, GRIDS.flow).min() > 0


def test_the_jacobian_of_a_scaling_is_its_volume() -> None:
    factor = torch.tensor([0.1, 0.2, -0.3]).reshape(1, 3, 1, 1, 1)
    volume = jacobian(factor * centres(GRIDS.flow)[None], GRIDS.flow)
    assert torch.allclose(volume, torch.tensor(1.1 * 1.2 * 0.7), atol=1e-4)


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_the_mirrored_velocity_flows_to_the_mirrored_displacement(seed: int) -> None:
    velocity = smooth_velocity(seed, 6.0)
    assert torch.allclose(flow(mirror(velocity), GRIDS), mirror(flow(velocity, GRIDS)), atol=1e-3)
    assert torch.equal(mirror(mirror(velocity)), velocity)


def test_blurring_keeps_the_mean_and_widens_by_its_sigma() -> None:
    spike = torch.zeros(1, 1, 41, 41, 41)
    spike[0, 0, 20, 20, 20] = 1.0
    out = blur(spike, GRIDS.flow, 9.6)[0, 0]
    assert float(out.sum()) == pytest.approx(1.0, abs=1e-5)
    place = (torch.arange(41) - 20).float() * 3.2
    assert float((out.sum(dim=(1, 2)) * place**2).sum().sqrt()) == pytest.approx(9.6, rel=0.03)


def test_the_lattice_holds_what_is_smooth() -> None:
    wanted = on_grid(smooth_velocity(3, 6.0), GRIDS.lattice, GRIDS.flow)
    assert (on_grid(to_lattice(wanted, GRIDS), GRIDS.lattice, GRIDS.flow) - wanted)[MIDDLE].abs().max() < 0.15


@pytest.fixture(scope="module")
def mean_head() -> Surface:
    return surface_of(head((1.0, 1.0, 1.0)), training_grid())


def test_another_head_is_laid_over_the_mean_one(mean_head: Surface) -> None:
    skull = surface_of(head((1.08, 0.94, 1.06)), training_grid())
    still = torch.zeros(1, 3, *GRIDS.lattice.shape)
    velocity = register(skull, mean_head, GRIDS)
    before, after = misfit_mm(still, skull, mean_head, GRIDS), misfit_mm(velocity, skull, mean_head, GRIDS)
    assert before.mean() > 2.0
    assert after.mean() < 0.35
    assert jacobian(flow(velocity, GRIDS), GRIDS.flow).min() > 0.4


def test_what_fills_a_hole_is_not_believed(mean_head: Surface) -> None:
    hole = np.zeros(training_grid().shape, bool)
    hole[35:77, 30:80, 70:] = True
    bone, bulge = head((1.0, 1.0, 1.0)), head((1.1, 1.1, 1.1))
    filled = np.where(hole, bulge, bone)
    middle = torch.tensor([0.0, 0.0, 75.0]).reshape(1, 3, 1, 1, 1)
    surfaces = (surface_of(filled, training_grid(), hidden) for hidden in (None, hole))
    moved = (flow(register(surface, mean_head, GRIDS), GRIDS) for surface in surfaces)
    trusted, doubted = (float(read(one, GRIDS.flow, middle)[0, 2]) for one in moved)
    assert trusted > 6.0  # the bulge stands 7 mm out
    assert doubted < 0.4 * trusted


def test_a_mask_of_another_grid_is_refused() -> None:
    with pytest.raises(InputError, match=r"a grid of \(112, 144, 96\) is wanted for registration; got a mask of"):
        surface_of(np.zeros((4, 5, 6), bool), training_grid())


def test_a_blend_adds_up_and_is_repeatable() -> None:
    for seed in range(50):
        blend = sample_blend(np.random.default_rng(seed), 4, [1, 2, 3])
        assert blend == sample_blend(np.random.default_rng(seed), 4, [1, 2, 3])
        assert (blend.source, blend.rows[0], blend.mirrored[0]) == (4, 4, False)
        assert sum(blend.weights) == pytest.approx(1)
        assert min(blend.weights) >= 0
        assert set(blend.rows[1:]) <= {1, 2, 3}
        assert 2 <= len(blend.rows) == len(blend.mirrored) == len(blend.weights) <= 4
    shares = [sample_blend(np.random.default_rng(seed), 0, [1, 2], 0.7).weights[0] for seed in range(400)]
    assert np.mean(shares) == pytest.approx(0.7, abs=0.05)
    assert isinstance(blend, Blend)
