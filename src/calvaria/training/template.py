"""The mean skull, made from skulls in no particular pose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.jobs import in_order
from calvaria.skull.canonical import Level, Pose
from calvaria.skull.edges import CutPlane, cut_planes
from calvaria.skull.starts import start_shift, surface_points
from calvaria.skull.template import SIGMA_MM, Template
from calvaria.volume.grid import Grid
from calvaria.volume.sampler import Sampler
from calvaria.volume.volume import Volume

ROUNDS = ((8.0, 8.0, 15), (8.0, 8.0, 10), (6.0, 6.0, 10), (5.0, 6.0, 8), (3.0, 5.0, 8), (3.0, 5.0, 8))
"""Smoothing (mm), point spacing (mm) and steps of each round: register all to the mean, then renew the mean."""

TEMPLATE_MM = 4.0
"""Voxel edge of the stored mean; it is smoothed by 3 mm, so nothing is lost."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A skull on its way into the mean."""

    bone: Volume
    cuts: tuple[CutPlane, ...]
    pose: Pose


def template_grid() -> Grid:
    """Grid of the mean: the canonical calvaria with room to slide."""
    return Grid.isotropic((53, 63, 41), TEMPLATE_MM, (-104.0, -124.0, -62.0))


def build_template(bones: Sequence[Volume], jobs: int) -> Template:
    """Register skulls to their symmetric running mean.

    Args:
        bones: bone fractions from `coarse_bone`, heads roughly upright (within about 30 degrees).
        jobs: processes.
    """
    if not bones:
        raise InputError("a mean skull needs skulls; none were given")
    subjects = []
    for bone in bones:
        surface = surface_points(bone)
        subjects.append(Subject(bone, cut_planes(bone), Pose(np.eye(3), start_shift(surface, np.eye(3)), np.zeros(3))))
    template = mean_of(subjects, ROUNDS[0][0], jobs)
    for sigma_mm, spacing_mm, steps in ROUNDS:
        poses = list(in_order(partial(_register, template, sigma_mm, spacing_mm, steps), subjects, jobs))
        middle = np.mean([p.log_scale for p in poses], axis=0)
        subjects = [
            Subject(subject.bone, subject.cuts, Pose(p.rotation, p.shift, p.log_scale - middle))
            for subject, p in zip(subjects, poses, strict=True)
        ]
        template = mean_of(subjects, SIGMA_MM, jobs)
    return template


def mean_of(subjects: Sequence[Subject], sigma_mm: float, jobs: int) -> Template:
    """The mirror-symmetric mean of the skulls where they are seen, and the share that shows each voxel."""
    grid = template_grid()
    total = np.zeros(grid.shape, np.float32)
    seen = np.zeros(grid.shape, np.float32)
    for value, known in in_order(partial(_sample, sigma_mm), subjects, jobs):
        total += value
        seen += known
    total, seen = total + total[::-1], seen + seen[::-1]
    weight = seen / (2 * len(subjects))
    mean = np.where(seen > 0, total / np.maximum(seen, 1), 0)
    return Template(Volume(mean.astype(np.float32), grid), Volume((weight * (weight > 0.3)).astype(np.float32), grid))


def _sample(sigma_mm: float, subject: Subject) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    grid, pose = template_grid(), subject.pose
    points = grid.centres_mm().reshape(-1, 3)
    world = (points * np.exp(pose.log_scale)) @ pose.rotation.T + pose.shift
    value, known = Sampler.smooth(subject.bone, sigma_mm, subject.cuts).values(world)
    return (value * known).reshape(grid.shape), known.reshape(grid.shape)


def _register(template: Template, sigma_mm: float, spacing_mm: float, steps: int, subject: Subject) -> Pose:
    level = Level.build(subject.bone, subject.cuts, template, sigma_mm, spacing_mm)
    return level.descend(subject.pose, steps, 3e-4, None, subject.pose.rotation, 0.0)
