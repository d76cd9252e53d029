"""Finding the symmetry plane by direct optimisation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calvaria.volume.rotation import rotation_matrix
from calvaria.volume.sampler import Region, Sampler, lattice

F64 = NDArray[np.float64]

ROBUST = 0.15
"""Bone fraction at which a difference between the two sides loses most of its weight: a hole is no asymmetry."""


def refine_plane(sampler: Sampler, to_world: F64, region: Region, spacing_mm: float = 5.0, iterations: int = 12) -> F64:
    """Turn and shift a frame until the skull equals its mirror image about x = 0.

    Gauss-Newton on the robust difference between the smoothed skull and its reflection. Only yaw, roll and the
    offset along x change: they are the plane; pitch and the position within the plane stay.

    Args:
        sampler: smoothed bone in world mm.
        to_world: (4, 4) rigid frame -> world, roughly symmetric already (20 degrees, 20 mm).
        region: part of the frame that is compared, symmetric in x.
        spacing_mm: spacing of the compared points.
        iterations: at most so many steps.

    Returns:
        (4, 4) the refined frame -> world; ``to_world`` itself where there is no bone.
    """
    half: Region = ((spacing_mm / 2, region[0][1]), region[1], region[2])
    right = lattice(half, spacing_mm)
    left = right * [-1.0, 1.0, 1.0]
    rotation, shift = to_world[:3, :3], to_world[:3, 3]
    for _ in range(iterations):
        sides = []
        for points in (right, left):
            value, ok, slope = sampler(points @ rotation.T + shift)
            local = slope @ rotation  # gradient in the frame
            turn = np.cross(points, local)
            sides.append((value, ok, np.stack([turn[:, 1], turn[:, 2], local[:, 0]], axis=1)))
        (value_a, ok_a, jac_a), (value_b, ok_b, jac_b) = sides
        off, jacobian = value_a - value_b, jac_a - jac_b
        weight = (ok_a & ok_b) / (1 + (off / ROBUST) ** 2) ** 2
        weighted = (jacobian * weight[:, None]).T
        normal = weighted @ jacobian
        if np.trace(normal) <= 0:
            break  # nothing in sight differs from its mirror image in any direction
        step = -np.linalg.solve(normal + 1e-6 * np.trace(normal) * np.eye(3) / 3, weighted @ off)
        step /= max(1.0, np.abs(step[:2]).max() / 0.1, abs(step[2]) / 6.0)
        shift = shift + rotation @ np.array([step[2], 0.0, 0.0])
        rotation = rotation @ rotation_matrix(np.array([0.0, step[0], step[1]]))
        if np.abs(step[:2]).max() < 1e-5 and abs(step[2]) < 1e-3:
            break
    refined = np.eye(4)
    refined[:3, :3], refined[:3, 3] = rotation, shift
    return refined
