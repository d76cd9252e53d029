"""Heads in cubes: where they come to lie, and that a symmetry plane stays one on the way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.synthesis.shells import head

from calvaria.datasets.cache import training_grid
from calvaria.errors import InputError
from calvaria.symmetry.frame import HEIGHT_MM, network_grid
from calvaria.training.poses import Pose, place, sample_pose
from calvaria.training.recipes.symmetry import PoseSettings
from calvaria.volume.resample import resample
from calvaria.volume.volume import Volume

ANY = PoseSettings(flips=(0.5, 0.5, 0.5), usual_share=0.0)


def soft_head() -> torch.Tensor:
    return torch.from_numpy(head()).float()


def test_a_pose_turns_flips_and_scales_but_never_shears() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        linear = sample_pose(rng, PoseSettings(scale_sd=0.0)).matrix
        product = linear.T @ linear
        assert np.allclose(product, np.eye(3) * product[0, 0])


def test_unequal_scales_act_along_the_heads_own_axes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        linear = sample_pose(rng, PoseSettings()).matrix
        product = linear.T @ linear
        assert np.allclose(product, np.diag(np.diag(product)), atol=1e-12)


def test_rotations_end_where_they_should() -> None:
    rng = np.random.default_rng(1)
    still = PoseSettings(flips=(0, 0, 0), usual_share=0.0, size_sd=0.0, scale_sd=0.0)
    for limit, most in ((None, 55.0), (20.0, 20.0)):
        turns = [sample_pose(rng, still, limit).matrix for _ in range(300)]
        angles = [np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) for turn in turns]
        assert most * 0.9 < max(angles) <= most + 1e-6


def test_the_same_state_gives_the_same_pose() -> None:
    one, other = (sample_pose(np.random.default_rng(7), PoseSettings()) for _ in range(2))
    assert one == other


def test_the_cube_shows_what_plain_interpolation_shows() -> None:
    grid, bone = training_grid(), soft_head()
    pose = sample_pose(np.random.default_rng(5), ANY)
    seen, to_cube = place(bone, grid, pose)
    there = Volume(bone.numpy(), grid.moved(to_cube))
    wanted = resample(there, network_grid()).data
    shown = np.flatnonzero(seen[0].numpy().any(axis=(0, 1)))
    lowest = shown[0] + 2  # below, what lies too far under the top is cut off
    assert np.abs(seen[0].numpy() - wanted)[:, :, lowest:].max() < 1e-4


def test_heads_lie_about_the_middle_of_the_cube_and_end_below() -> None:
    grid, bone = training_grid(), soft_head()
    rng = np.random.default_rng(2)
    for _ in range(5):
        seen, _ = place(bone, grid, sample_pose(rng, PoseSettings(shift_mm=0.0)))
        where = network_grid().to_world(np.argwhere(seen[0].numpy() > 0.5))
        assert np.abs(where.mean(axis=0)).max() < 4.0
        assert np.ptp(where[:, 2]) <= HEIGHT_MM + 2.5


def test_nothing_cannot_be_placed() -> None:
    empty = torch.zeros(training_grid().shape)
    with pytest.raises(InputError, match="no bone"):
        place(empty, training_grid(), Pose(tuple(np.eye(3).reshape(-1)), (0.0, 0.0, 0.0)))


@pytest.mark.parametrize("wrong", [{"flips": (0.5, 2.0, 0.0)}, {"usual_share": -0.1}, {"most_deg": 80.0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="got"):
        PoseSettings(**wrong)  # type: ignore[arg-type]
