"""The mean skull, made from heads in no particular pose."""

from __future__ import annotations

import numpy as np
import pytest
from tests.heads import Head, family_template, grid_around, rigid

from calvaria.errors import InputError
from calvaria.skull.canonical import Pose
from calvaria.skull.edges import CutPlane
from calvaria.training import template as module
from calvaria.training.template import Subject, build_template, mean_of, template_grid


def soft(number: int, pose: np.ndarray) -> Subject:
    bone = Head(number).soft(grid_around(pose, (3.0, 3.0, 3.0)), pose)
    return Subject(bone, (), Pose(pose[:3, :3], pose[:3, 3], np.log(Head(number).scale)))


def test_heads_that_stand_askew_come_together(monkeypatch):
    monkeypatch.setattr(module, "ROUNDS", ((8.0, 9.0, 12), (6.0, 8.0, 8), (4.0, 7.0, 8)))
    poses = [rigid((9, 0, 0)), rigid((-6, 5, 8), (30, 0, 0)), rigid((0, -7, -9)), rigid((-4, 3, 0), (0, 50, 9))]
    bones = [soft(number, pose).bone for number, pose in enumerate(poses)]
    built = build_template(bones, 1)
    straight = mean_of([soft(number, np.eye(4)) for number in range(4)], 3.0, 1)
    np.testing.assert_allclose(built.mean.data, built.mean.data[::-1], atol=1e-6)
    # Sharp, hence aligned: as much contrast as the mean of heads whose pose is known, within a tenth.
    upper = template_grid().centres_mm()[..., 2] > 10
    assert built.mean.data[upper].std() > 0.9 * straight.mean.data[upper].std()


def test_the_mean_of_one_even_head_is_that_head():
    head = Head(31, even=True)
    bone = head.soft(grid_around(None, (3.0, 3.0, 3.0)))
    subject = Subject(bone, (), Pose(np.eye(3), np.zeros(3), np.log(head.scale)))
    mean = mean_of([subject], 3.0, 1)
    near = family_template().mean.data
    # Another head, but in the same place and of the same kind.
    assert np.corrcoef(mean.mean.data.ravel(), near.ravel())[0, 1] > 0.9
    assert mean.weight.data.min() == 1


def test_what_a_scan_does_not_show_counts_as_unseen_not_as_air():
    cut = CutPlane(np.array([0, 0, -1.0]), 10.0)
    whole, seen = soft(5, np.eye(4)), soft(5, np.eye(4))
    bone = seen.bone.with_data(np.where(seen.bone.grid.centres_mm()[..., 2] > -10, seen.bone.data, 0))
    mixed = mean_of([whole, Subject(bone, (cut,), seen.pose)], 3.0, 1)
    alone = mean_of([whole], 3.0, 1)
    height = template_grid().centres_mm()[..., 2] * Head(5).scale[2]
    low, high = height < -10.5, height > -9.5
    np.testing.assert_allclose(mixed.mean.data[low], alone.mean.data[low], atol=1e-5)
    np.testing.assert_allclose(mixed.weight.data[low], 0.5)
    np.testing.assert_allclose(mixed.weight.data[high], 1.0)


def test_several_processes_make_the_same_mean():
    subjects = [soft(number, np.eye(4)) for number in range(2)]
    one, other = (mean_of(subjects, 3.0, jobs) for jobs in (1, 2))
    np.testing.assert_array_equal(one.mean.data, other.mean.data)
    np.testing.assert_array_equal(one.weight.data, other.weight.data)


def test_no_skulls_give_no_mean():
    with pytest.raises(InputError, match="a mean skull needs skulls; none were given"):
        build_template([], 1)
