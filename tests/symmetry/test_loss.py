"""The symmetry loss where it can be worked out by hand, and by MONAI."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.strategies import grids, rotations, shapes, spacings

from calvaria.errors import GeometryError
from calvaria.symmetry.loss import EMPTY, dice_loss, symmetry_loss, symmetry_loss_at
from calvaria.symmetry.optimise import Comparison, frame_of
from calvaria.symmetry.plane import Plane
from calvaria.symmetry.reflection import unit_planes
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

BAR = Grid.isotropic((41, 3, 4), 2.0, (-40.0, -2.0, -3.0))
"""Symmetric about x = 0, long along x: voxel 20 lies on the plane."""

OBLIQUE = Grid(
    (6, 5, 4), np.array([[1.8, 0.3, 0.1, -5.0], [-0.2, 1.5, 0.4, -4.0], [0.1, -0.3, 2.0, -2.0], [0.0, 0.0, 0.0, 1.0]])
)
"""Oblique, sheared and uneven, about the origin."""

OBLIQUE_BONE = Grid((9, 8, 7), OBLIQUE.affine)

SIDE = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
"""The plane x = 0."""

BALL_ATOL = 0.01
"""A ball of 12 voxels' radius, drawn with whole voxels, has the volumes of lenses to 1 %."""

CLOUD_ATOL = 0.01
"""Interpolating a cloud of 4 voxels' standard deviation flattens its peak by up to 3 / 8 / 4^2; less elsewhere."""


def slab(first: int, last: int) -> torch.Tensor:
    """(1, 1, X, Y, Z) ones from voxel ``first`` to ``last`` of the bar, these included."""
    volume = torch.zeros((1, 1, *BAR.shape), dtype=torch.float64)
    volume[:, :, first : last + 1] = 1
    return volume


def at(offset_mm: float) -> torch.Tensor:
    """The plane x = offset."""
    return torch.tensor([[1.0, 0.0, 0.0, offset_mm]], dtype=torch.float64)


def noise(seed: int, count: int, shape: tuple[int, int, int]) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((count, 1, *shape)))


# ---- worked out by hand


@pytest.mark.parametrize(
    ("first", "last", "share"),
    [(15, 25, 0.0), (16, 25, 0.1), (17, 26, 0.3), (18, 27, 0.5), (20, 29, 0.9), (21, 30, 1.0), (30, 39, 1.0)],
)
def test_a_slab_and_its_mirror_image_overlap_by_what_is_counted(first, last, share):
    assert symmetry_loss(slab(first, last), BAR, SIDE).item() == pytest.approx(share, abs=1e-6)


@given(st.floats(-0.999, 0.999), st.integers(6, 14))
def test_a_slab_moved_by_part_of_a_voxel(part, thickness):
    # T voxels against the same moved by a part f: T - 1 ones, and f and 1 - f at the ends.
    f = abs(part)
    squares = thickness - 1 + f**2 + (1 - f) ** 2
    wanted = 1 - 2 * (thickness - f) / (thickness + squares)
    first = 20 - thickness // 2
    middle_mm = 2.0 * (first + (thickness - 1) / 2 - 20)
    # The plane moved by half of what the mirror image moves; one part of a voxel is 2 mm.
    found = symmetry_loss(slab(first, first + thickness - 1), BAR, at(middle_mm + part * 2.0 / 2))
    assert found.item() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("offset_mm", [0.0, 1.5, 5.0, 9.0, 13.0])
def test_a_ball_beside_the_plane_overlaps_its_mirror_image_in_a_lens(offset_mm, axis):
    radius, grid = 12.0, Grid.isotropic((53, 53, 53), 1.0, (-26.0, -26.0, -26.0))
    normal = np.eye(3)[axis]
    ball = np.linalg.norm(grid.centres_mm() - offset_mm * normal, axis=-1) < radius
    planes = torch.tensor([[*normal, 0.0]], dtype=torch.float32)
    found = symmetry_loss(torch.from_numpy(ball)[None, None].float(), grid, planes).item()
    apart = min(2 * offset_mm, 2 * radius)  # of the two centres
    wanted = 3 * apart / (4 * radius) - apart**3 / (16 * radius**3)
    assert found == pytest.approx(wanted, abs=BALL_ATOL)


@given(rotations(), st.floats(-6.0, 6.0))
@settings(max_examples=15)
def test_a_cloud_beside_any_plane(turn, offset_mm):
    # Of two Gaussians d apart, sum(V R) / sum(V^2) = exp(-d^2 / (4 s^2)); here d is twice the offset.
    deviation, grid = 4.0, Grid.isotropic((33, 33, 33), 1.0, (-16.0, -16.0, -16.0))
    planes = torch.tensor([[*turn[:, 0], offset_mm / 2]])
    cloud = np.exp(-0.5 * ((grid.centres_mm() + offset_mm / 2 * turn[:, 0]) ** 2).sum(axis=-1) / deviation**2)
    found = symmetry_loss(torch.from_numpy(cloud)[None, None], grid, planes).item()
    assert found == pytest.approx(1 - np.exp(-(offset_mm**2) / deviation**2), abs=CLOUD_ATOL)


@given(rotations(), st.floats(-1.0, 1.0), st.integers(0, 10**6))
@settings(max_examples=10)
def test_a_field_that_is_symmetric_has_no_loss(turn, offset_mm, seed):
    grid = Grid.isotropic((30, 30, 30), 1.0, (-14.5, -14.5, -14.5))
    plane = Plane(turn[:, 0], offset_mm)
    clouds = np.zeros(grid.shape)
    for centre in np.random.default_rng(seed).uniform(-2, 2, (3, 3)):
        for point in (centre, plane.reflect(centre)):
            clouds += np.exp(-0.5 * ((grid.centres_mm() - point) ** 2).sum(axis=-1) / 2.5**2)
    volume = torch.from_numpy(clouds)[None, None]
    planes = torch.tensor([[*plane.normal, plane.offset_mm]])
    assert symmetry_loss(volume, grid, planes).item() < 1e-3
    off = torch.tensor([[*plane.normal, plane.offset_mm + 1.0]])
    assert symmetry_loss(volume, grid, off).item() > 10 * symmetry_loss(volume, grid, planes).item()


@given(grids(shapes(2, 6), spacings(0.5, 3.0)), rotations(), st.integers(0, 10**6))
@settings(max_examples=25)
def test_the_loss_lies_between_0_and_1(grid, turn, seed):
    middle = grid.to_world((np.array(grid.shape) - 1) / 2)
    planes = torch.tensor([[*turn[:, 0], turn[:, 0] @ middle + 0.3]])
    volumes = noise(seed, 1, grid.shape)
    found = symmetry_loss(volumes, grid, planes).item()
    assert 0 <= found <= 1
    # Where the normal points does not matter, nor how much bone a voxel counts for, up to what is added for empty ones.
    assert symmetry_loss(volumes, grid, -planes).item() == pytest.approx(found, abs=1e-9)
    assert symmetry_loss(3 * volumes, grid, planes).item() == pytest.approx(found, abs=1e-5)


def test_nothing_is_symmetric():
    nothing = torch.zeros((2, 1, *BAR.shape))
    assert symmetry_loss(nothing, BAR, at(1.0).float().expand(2, 4)).tolist() == [0.0, 0.0]
    points = torch.zeros((1, 5, 3))
    assert symmetry_loss_at(nothing, BAR, at(1.0).float().expand(2, 4), points).tolist() == [0.0, 0.0]
    assert dice_loss(torch.zeros(2, 3), torch.zeros(2, 3)).tolist() == [0.0, 0.0]
    assert dice_loss(torch.zeros(1, 3), torch.ones(1, 3)).item() == pytest.approx(1)


def test_what_is_next_to_nothing_counts_as_nothing():
    faint = torch.full((1, 1), 1e-3 * EMPTY**0.5, dtype=torch.float64)
    assert dice_loss(faint, torch.zeros_like(faint)).item() == pytest.approx(1e-6, rel=1e-3)


def test_every_volume_is_judged_by_its_own_plane():
    volumes = torch.cat([slab(15, 25), slab(17, 26), slab(30, 39)])
    planes = torch.cat([at(0.0), at(0.0), at(29.0)])
    found = symmetry_loss(volumes, BAR, planes)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.3, 0.0], dtype=torch.float64), atol=1e-6, rtol=0)


def test_channels_count_together():
    one, other = slab(15, 25), slab(30, 40)  # 11 voxels each: one symmetric, one with nothing in common
    both = symmetry_loss(torch.cat([one, other], dim=1), BAR, SIDE)
    # The mirror images lie on the bar too: 22 voxels against 22, 11 of them in common.
    assert both.item() == pytest.approx(0.5, abs=1e-6)


# ---- windows


def test_a_window_shows_only_what_it_weighs():
    # Voxels 15 to 25 on both sides, and a bump of 5 voxels on one.
    volume = slab(15, 25) + slab(30, 34)
    window = torch.zeros_like(volume)
    window[:, :, 13:28] = 1
    assert symmetry_loss(volume, BAR, SIDE, window).item() == pytest.approx(0, abs=1e-6)
    window[:, :, 28:] = 1  # the bump, but not the place of its mirror image: 5 off, 11 + 5 and 11
    assert symmetry_loss(volume, BAR, SIDE, window).item() == pytest.approx(5 / 27, abs=1e-6)
    whole = symmetry_loss(volume, BAR, SIDE).item()
    assert whole == pytest.approx(10 / 32, abs=1e-6)
    assert symmetry_loss(volume, BAR, SIDE, torch.ones_like(volume)).item() == pytest.approx(whole)
    assert symmetry_loss(volume, BAR, SIDE, torch.zeros_like(volume)).item() == 0


def test_weights_weigh():
    volume, window = slab(15, 25) + slab(30, 34), torch.full((1, 1, *BAR.shape), 2.0, dtype=torch.float64)
    window[:, :, 28:] = 0.5
    # Off: the bump, half a weight, and its mirror image, two; both: 22 twos more.
    wanted = (5 * 0.5 + 5 * 2) / (5 * 0.5 + 5 * 2 + 22 * 2)
    assert symmetry_loss(volume, BAR, SIDE, window).item() == pytest.approx(wanted, abs=1e-6)
    twice = symmetry_loss(torch.cat([volume, slab(15, 25)]), BAR, SIDE.expand(2, 4), window)
    torch.testing.assert_close(twice, torch.tensor([wanted, 0.0], dtype=torch.float64), atol=1e-6, rtol=0)


# ---- at points


@given(grids(shapes(2, 6), spacings(0.5, 3.0)), rotations(), st.integers(0, 10**6))
@settings(max_examples=25)
def test_at_all_centres_it_is_that_of_the_whole_volume(grid, turn, seed):
    middle = grid.to_world((np.array(grid.shape) - 1) / 2)
    planes = torch.tensor([[*turn[:, axis], turn[:, axis] @ middle + 0.3] for axis in (0, 1)])
    volumes, centres = noise(seed, 2, grid.shape), torch.from_numpy(grid.centres_mm().reshape(1, -1, 3))
    found = symmetry_loss_at(volumes, grid, planes, centres)
    torch.testing.assert_close(found, symmetry_loss(volumes, grid, planes), atol=1e-9, rtol=0)
    torch.testing.assert_close(symmetry_loss_at(volumes, grid, planes, centres.expand(2, -1, -1)), found)


def test_each_volume_may_have_its_own_points():
    volumes = torch.cat([slab(15, 25) + slab(30, 34)] * 2)
    points = torch.from_numpy(BAR.centres_mm())
    inner, outer = points[13:28].reshape(-1, 3), points[26:].reshape(-1, 3)
    found = symmetry_loss_at(volumes, BAR, SIDE.expand(2, 4), torch.stack([inner, outer]))
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0], dtype=torch.float64), atol=1e-6, rtol=0)


@given(rotations(), st.floats(-4.0, 4.0), st.integers(0, 10**6))
@settings(max_examples=10)
def test_the_optimiser_makes_the_same_loss_small(turn, offset_mm, seed):
    clouds, plane = Volume(noise(seed, 1, (9, 8, 7))[0, 0].float().numpy(), OBLIQUE_BONE), Plane(turn[:, 0], offset_mm)
    level = Comparison.build(clouds, ((-12.0, 12.0), (-10.0, 10.0), (-8.0, 8.0)), 2.0, 2.0)
    sampler, to_world = level.sampler, frame_of(plane, np.zeros(3))
    blurred = torch.from_numpy(sampler.table[:, 0].reshape(1, 1, *sampler.shape)).double()
    points = torch.from_numpy(level.right @ to_world[:3, :3].T + to_world[:3, 3])[None]
    planes = torch.tensor([[*plane.normal, plane.offset_mm]])
    found = symmetry_loss_at(blurred, Grid(sampler.shape, np.linalg.inv(sampler.inverse)), planes, points)
    # Beyond the outermost centres one is zero and the other fades to zero: the blur has left next to nothing there.
    assert level.loss(to_world) == pytest.approx(found.item(), abs=0.01)


# ---- slopes


def test_slopes_of_the_loss():
    rng = np.random.default_rng(0)
    planes = torch.from_numpy(np.array([1.0, 0.2, -0.1, 0.3]) + 0.3 * rng.uniform(-1, 1, (2, 4))).requires_grad_()
    volumes, window = noise(1, 2, OBLIQUE.shape).requires_grad_(), noise(2, 1, OBLIQUE.shape)
    points = torch.from_numpy(rng.uniform(-4, 4, (1, 20, 3)))
    assert torch.autograd.gradcheck(lambda v, p: symmetry_loss(v, OBLIQUE, unit_planes(p), window), (volumes, planes))
    assert torch.autograd.gradcheck(
        lambda v, p: symmetry_loss_at(v, OBLIQUE, unit_planes(p), points), (volumes, planes)
    )


def test_going_down_the_slope_finds_the_plane():
    grid = Grid.isotropic((14, 14, 14), 1.4, (-9.1, -9.1, -9.1))
    squashed = (grid.centres_mm() - [0.5, 0.0, 0.0]) * [1.6, 1.0, 0.7]
    cloud = torch.from_numpy(np.exp(-0.5 * (squashed**2).sum(axis=-1) / 3.0**2))[None, None]
    planes = torch.tensor([[1.0, 0.15, -0.1, 1.2]], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([planes], max_iter=12, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = symmetry_loss(cloud, grid, unit_planes(planes)).sum()
        value.backward()
        return value

    optimiser.step(loss)
    (x, y, z, offset), truth = unit_planes(planes)[0].tolist(), Plane([1, 0, 0], 0.5)
    assert Plane([x, y, z], offset).angle_deg(truth) < 0.1
    assert Plane([x, y, z], offset).apart_mm(truth, [0.5, 0, 0]) < 0.02


# ---- by another library


@pytest.fixture(scope="module")
def monai_dice():
    """MONAI's Dice loss with squares: loading the library warns of its own and of torch's future."""
    pytest.importorskip("monai", reason="NO MONAI HERE")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.losses import DiceLoss
    return DiceLoss(squared_pred=True, smooth_nr=0.0, smooth_dr=EMPTY, reduction="none")


@given(st.integers(0, 10**6), shapes(2, 7), st.floats(0, 1))
@settings(max_examples=25)
def test_it_is_the_dice_loss_of_monai(monai_dice, seed, shape, empty):
    one, other = noise(seed, 3, shape), noise(seed + 1, 3, shape)
    one, other = one * (one > empty), other * (other > empty)
    one[0, 0, 0, 0, 0] = 0.7  # never empty in all: then one says 0, the other 1
    other[1:, 0, -1, -1, -1] = one[1:, 0, -1, -1, -1] = 0.4
    wanted = monai_dice(one, other).flatten()
    torch.testing.assert_close(dice_loss(one, other), wanted, atol=1e-5, rtol=0)
    assert dice_loss(one, one).abs().max() == 0


# ---- errors


def test_what_does_not_fit_is_refused():
    with pytest.raises(GeometryError, match=r"floating volumes \(B, C, 41, 3, 4\) are wanted; got"):
        symmetry_loss(torch.zeros(1, 1, 4, 3, 41), BAR, SIDE)
    with pytest.raises(GeometryError, match=r"floating volumes \(B, C, 41, 3, 4\) are wanted; got"):
        symmetry_loss_at(torch.zeros(1, 1, 4, 3, 41), BAR, SIDE.float(), torch.zeros(1, 5, 3))
    with pytest.raises(GeometryError, match=r"one plane \(4 values\) a volume is wanted; got \(1, 4\) for 2"):
        symmetry_loss(torch.zeros(2, 1, *BAR.shape), BAR, SIDE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_gives_the_same() -> None:
    volumes, window = noise(0, 2, OBLIQUE.shape).float(), noise(1, 1, OBLIQUE.shape).float()
    planes = unit_planes(torch.tensor([[1.0, 0.2, -0.1, 0.3], [1.0, -0.1, 0.3, -math.pi / 10]]))
    there = symmetry_loss(volumes.cuda(), OBLIQUE, planes.cuda(), window.cuda())
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), symmetry_loss(volumes, OBLIQUE, planes, window), atol=1e-5, rtol=0)
    points = torch.from_numpy(np.random.default_rng(2).uniform(-4, 4, (1, 50, 3))).float()
    there = symmetry_loss_at(volumes.cuda(), OBLIQUE, planes.cuda(), points.cuda())
    torch.testing.assert_close(there.cpu(), symmetry_loss_at(volumes, OBLIQUE, planes, points), atol=1e-5, rtol=0)
