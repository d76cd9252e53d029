"""Two surfaces of bone laid onto each other: rigid, point to plane, robust, between voxels.

What only one of two scans shows (a hole, a plate, a swelling taken for bone, another jaw) finds no partner or a far
one, and loses its weight; noise and voxel steps average out over thousands of points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calvaria.reconstruction.surface import BoneSurface
from calvaria.types import F64, BoolArray
from calvaria.volume.gauss_newton import Linear, descend
from calvaria.volume.rotation import rotation_matrix

STAGES = ((12.0, 4.0, 12), (6.0, 1.5, 12), (3.0, 0.5, 20))
"""How far partners may lie apart, the difference at which a pair has lost three quarters of its weight, both mm, and
steps at most: coarse to fine."""

ALIKE_FACING = 0.6
"""Partners face the same way: the cosine between their normals is more. The other table of a thin plate does not."""

MAX_STEP = np.array([0.15] * 3 + [10.0] * 3)
SETTLED_STEP = np.array([1e-5] * 3 + [1e-3] * 3)
"""Rotation (radians) and shift (mm) of a step: the largest that is taken, and the smallest that is followed."""


@dataclass(frozen=True, eq=False)
class Points:
    """Points on bone's surface.

    Args:
        at_mm: (N, 3) world mm.
        normals: (N, 3) unit vectors into bone.
        weight: (N,) what each counts.
    """

    at_mm: F64
    normals: F64
    weight: F64

    def thinned(self, count: int) -> Points:
        """At most so many of them, drawn evenly by a fixed seed."""
        if len(self.at_mm) <= count:
            return self
        chosen = np.sort(np.random.default_rng(0).permutation(len(self.at_mm))[:count])
        return Points(self.at_mm[chosen], self.normals[chosen], self.weight[chosen])

    def where(self, kept: BoolArray) -> Points:
        """Some of them."""
        return Points(self.at_mm[kept], self.normals[kept], self.weight[kept])

    def moved(self, pose: F64) -> Points:
        """The same points elsewhere, by a (4, 4) rigid map."""
        return Points(self.at_mm @ pose[:3, :3].T + pose[:3, 3], self.normals @ pose[:3, :3].T, self.weight)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Points and their partners on a surface.

    Args:
        found: (N,) whether a point has a partner near enough that faces the same way.
        off_mm: (N,) how far the point lies off the partner's plane, positive in bone; 0 without one.
        normals: (N, 3) the partner's.
    """

    found: BoolArray
    off_mm: F64
    normals: F64


def points_of(surface: BoneSurface, kept: BoolArray | None = None) -> Points:
    """The points of a surface that have a normal, each of weight 1.

    Args:
        surface: of any bone.
        kept: (S,) which of its points; None: all.
    """
    good = surface.normals.any(axis=1)
    if kept is not None:
        good &= kept
    return Points(surface.points_mm[good], surface.normals[good], np.ones(np.count_nonzero(good)))


def pairs(points: Points, surface: BoneSurface, limit_mm: float, facing: float = ALIKE_FACING) -> Pairs:
    """The nearest partners of points on a surface, not farther away than a limit."""
    count = len(points.at_mm)
    if surface.tree is None or not count:
        return Pairs(np.zeros(count, bool), np.zeros(count), np.zeros((count, 3)))
    apart, foot = surface.tree.query(points.at_mm, distance_upper_bound=limit_mm, workers=2)
    found = np.isfinite(apart)
    foot = np.where(found, foot, 0)
    normals = surface.normals[foot]
    found &= np.einsum("nk,nk->n", normals, points.normals) > facing
    off = np.einsum("nk,nk->n", points.at_mm - surface.points_mm[foot], normals)
    return Pairs(found, np.where(found, off, 0.0), normals)


def lay_onto(
    points: Points, surface: BoneSurface, start: F64, stages: tuple[tuple[float, float, int], ...] = STAGES
) -> F64:
    """The rigid map that takes points to where they lie best on a surface.

    Args:
        points: at least some hundred, spread over what both have.
        surface: of the other bone.
        start: (4, 4) rigid map of the points to the surface's world, right to some degrees and mm.
        stages: as `STAGES`.

    Returns:
        (4, 4) rigid map; ``start`` where nothing of the two meets.
    """
    pose = start
    for limit_mm, robust_mm, iterations in stages:
        centre = (points.at_mm @ pose[:3, :3].T + pose[:3, 3]).mean(axis=0)

        def linear(at: F64, limit_mm: float = limit_mm, centre: F64 = centre) -> Linear:
            here = points.moved(at)
            two = pairs(here, surface, limit_mm)
            jacobian = np.concatenate([np.cross(here.at_mm - centre, two.normals), two.normals], axis=1)
            return Linear(two.off_mm, jacobian, here.weight * two.found)

        def move(at: F64, step: F64, centre: F64 = centre) -> F64:
            return turned(step, centre) @ at

        pose = descend(
            pose, linear, move, iterations=iterations, robust=robust_mm, largest=MAX_STEP, settled=SETTLED_STEP
        )
    return pose


def turned(step: F64, centre: F64) -> F64:
    """(4, 4) a rotation (radians, axis times angle) about a centre and a shift (mm), both of a step of six."""
    out = np.eye(4)
    out[:3, :3] = rotation_matrix(step[:3])
    out[:3, 3] = centre - out[:3, :3] @ centre + step[3:]
    return out


__all__ = ["ALIKE_FACING", "Pairs", "Points", "lay_onto", "pairs", "points_of", "turned"]
