"""The mean skull, made from skulls in no particular pose."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.skull.canonical import Level, Pose, start_shift, surface_points
from calvaria.skull.edges import CutPlane, cut_planes
from calvaria.skull.template import SIGMA_MM, Template
from calvaria.volume.grid import Grid
from calvaria.volume.sampler import Sampler
from calvaria.volume.volume import Volume

ROUNDS = ((8.0, 8.0, 15), (8.0, 8.0, 10), (6.0, 6.0, 10), (5.0, 6.0, 8), (3.0, 5.0, 8), (3.0, 5.0, 8))
"""Smoothing (mm), point spacing (mm) and steps of each round: register all to the mean, then renew the mean."""

TEMPLATE_MM = 4.0
"""Voxel edge of the stored mean; it is smoothed by 3 mm, so nothing is lost."""


@dataclass(frozen=True, eq=False)
class Person:
    """A skull on its way into the mean."""

    bone: Volume
    cuts: tuple[CutPlane, ...]
    pose: Pose


def template_grid() -> Grid:
    """Grid of the mean: the canonical calvaria with room to slide."""
    return Grid.isotropic((53, 63, 41), TEMPLATE_MM, (-104.0, -124.0, -62.0))


def build_template(bones: Sequence[Volume], executor: Executor) -> Template:
    """Register skulls to their symmetric running mean.

    Args:
        bones: bone fractions from `coarse_bone`, heads roughly upright (within about 30 degrees).
        executor: runs the registrations.
    """
    if not bones:
        raise InputError("a mean skull needs skulls; none were given")
    people = []
    for bone in bones:
        surface = surface_points(bone)
        people.append(Person(bone, cut_planes(bone), Pose(np.eye(3), start_shift(surface, np.eye(3)), np.zeros(3))))
    template = mean_of(people, ROUNDS[0][0], executor)
    for sigma_mm, spacing_mm, steps in ROUNDS:
        jobs = [(person, template, sigma_mm, spacing_mm, steps) for person in people]
        poses = list(executor.map(_register, jobs, chunksize=4))
        middle = np.mean([p.log_scale for p in poses], axis=0)
        people = [
            Person(person.bone, person.cuts, Pose(p.rotation, p.shift, p.log_scale - middle))
            for person, p in zip(people, poses, strict=True)
        ]
        template = mean_of(people, SIGMA_MM, executor)
    return template


def mean_of(people: Sequence[Person], sigma_mm: float, executor: Executor) -> Template:
    """The mirror-symmetric mean of the skulls where they are seen, and the share that shows each voxel."""
    grid = template_grid()
    total = np.zeros(grid.shape, np.float32)
    seen = np.zeros(grid.shape, np.float32)
    for value, known in executor.map(_sample, [(person, sigma_mm) for person in people], chunksize=4):
        total += value
        seen += known
    total, seen = total + total[::-1], seen + seen[::-1]
    weight = seen / (2 * len(people))
    mean = np.where(seen > 0, total / np.maximum(seen, 1), 0)
    return Template(Volume(mean.astype(np.float32), grid), Volume((weight * (weight > 0.3)).astype(np.float32), grid))


def _sample(job: tuple[Person, float]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    person, sigma_mm = job
    grid, pose = template_grid(), person.pose
    points = grid.centres_mm().reshape(-1, 3)
    world = (points * np.exp(pose.log_scale)) @ pose.rotation.T + pose.shift
    value, known = Sampler.smooth(person.bone, sigma_mm, person.cuts).values(world)
    return (value * known).reshape(grid.shape), known.reshape(grid.shape)


def _register(job: tuple[Person, Template, float, float, int]) -> Pose:
    person, template, sigma_mm, spacing_mm, steps = job
    level = Level.build(person.bone, person.cuts, template, sigma_mm, spacing_mm)
    return level.descend(person.pose, steps, 3e-4, None, person.pose.rotation, 0.0)
