"""What the symmetry network learns from, and that the loss says in the canonical frame what it says in the cube."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.synthesis.shells import cache_of

from calvaria.datasets.cache import SkullCache
from calvaria.symmetry.reflection import unit_planes
from calvaria.training.recipes.fields import changed, made
from calvaria.training.recipes.symmetry import PoseSettings, SymmetryRecipe
from calvaria.training.samples import SCALES, SampleMaker, Samples, losses_of, misses, windows

SMALL = made(SymmetryRecipe, cache=Path(), output=Path(), batch=3, reuse=1, block=3, growing=0)
STEP, NEXT = range(3), range(3, 6)
"""Numbers of the samples of two steps."""
IDS = ["train-0", "train-1", "train-2"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> SkullCache:
    return cache_of(tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="module")
def maker(cache: SkullCache) -> SampleMaker:
    return SampleMaker(SMALL, cache, IDS)


def canonical_plane_in(samples: Samples, plane: list[float]) -> torch.Tensor:
    """(B, 4) a canonical plane, where it lies in the cubes."""
    covector = torch.tensor([*plane[:3], -plane[3]], dtype=torch.float32) @ torch.linalg.inv(samples.to_cube)
    return unit_planes(torch.cat([covector[:, :3], -covector[:, 3:]], dim=1))


def test_a_step_can_be_made_again_in_any_order(cache: SkullCache) -> None:
    one, other = SampleMaker(SMALL, cache, IDS), SampleMaker(SMALL, cache, IDS)
    first, second = one.make(STEP), one.make(NEXT)
    assert torch.equal(other.make(NEXT).cubes, second.cubes)
    again = SampleMaker(SMALL, cache, IDS).make(STEP)
    assert torch.equal(again.cubes, first.cubes)
    assert torch.equal(again.to_cube, first.to_cube)
    assert not torch.equal(first.cubes, second.cubes)


def test_samples_have_the_networks_shape_and_every_scale(maker: SampleMaker) -> None:
    samples = maker.make(STEP)
    assert samples.cubes.shape == (3, 1, 96, 96, 96)
    assert 0 <= float(samples.cubes.min()) < float(samples.cubes.max()) < 1 + 1e-6
    assert [tuple(v.shape[2:]) for v in samples.complete] == [grid.shape for grid in maker.grids]
    assert samples.weights == tuple(scale.late for scale in SCALES)


def test_without_defects_the_network_sees_the_complete_skull(cache: SkullCache) -> None:
    whole = SampleMaker(changed(SMALL, complete_only=True), cache, IDS)
    holed = SampleMaker(SMALL, cache, IDS)
    more, less = (float(m.make(STEP).cubes.sum()) for m in (whole, holed))
    assert more > 1.05 * less


def test_the_true_plane_has_no_loss_however_the_head_lies(maker: SampleMaker) -> None:
    # The made-up heads are symmetric but for the drawn bend, so the loss at x = 0 is small, and larger elsewhere.
    samples, points = maker.make(STEP), windows()
    right = losses_of(canonical_plane_in(samples, [1.0, 0.0, 0.0, 0.0]), samples, maker.grids, points)
    assert float(right.max()) < 0.02
    for plane in ([1.0, 0.0, 0.0, 3.0], [1.0, 0.08, 0.0, 0.0], [1.0, 0.0, 0.08, 0.0]):
        off = losses_of(canonical_plane_in(samples, plane), samples, maker.grids, points)
        assert bool((off > 2 * right).all())


def test_misses_are_measured_in_the_canonical_frame(cache: SkullCache) -> None:
    settings = changed(SMALL, poses=PoseSettings(scale_sd=0.0, size_sd=0.0))
    samples = SampleMaker(settings, cache, IDS).make(STEP)
    degrees, mm = misses(canonical_plane_in(samples, [1.0, 0.0, 0.0, 0.0]), samples.to_cube)
    assert float(degrees.max()) < 1e-2
    assert float(mm.max()) < 1e-2
    tilt = np.tan(np.radians(3.0))
    degrees, mm = misses(canonical_plane_in(samples, [1.0, tilt, 0.0, 2.0]), samples.to_cube)
    assert degrees.numpy() == pytest.approx(3.0, abs=1e-2)
    assert mm.numpy() == pytest.approx(2.0 * np.cos(np.radians(3.0)), abs=1e-2)


def test_the_loss_pulls_a_plane_that_lies_far_off_towards_the_head(maker: SampleMaker) -> None:
    samples, points = maker.make(STEP), windows()
    middle = canonical_plane_in(samples, [1.0, 0.0, 0.0, 0.0])
    off = canonical_plane_in(samples, [1.0, 0.0, 0.0, 25.0])
    shift = torch.zeros(len(off), 1, requires_grad=True)
    moved = torch.cat([off[:, :3], off[:, 3:] + shift], dim=1)
    losses_of(moved, samples, maker.grids, points).sum().backward()
    wanted = (middle[:, 3:] - off[:, 3:]).sign()
    assert shift.grad is not None
    assert torch.equal(-shift.grad.sign(), wanted)
