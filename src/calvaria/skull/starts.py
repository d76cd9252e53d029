"""Where the search for a head's pose starts: orientations, and the place that goes with each."""

from __future__ import annotations

import itertools

import numpy as np

from calvaria.types import F64
from calvaria.volume.rotation import rotation_matrix
from calvaria.volume.volume import Volume


def surface_points(bone: Volume, count: int = 1500) -> F64:
    """World mm of up to ``count`` voxels that are mostly bone, evenly drawn."""
    index = np.argwhere(bone.data > 0.4)
    return bone.grid.to_world(index[:: max(1, len(index) // count)])


def start_shift(surface_mm: F64, rotation: F64) -> F64:
    """World mm of the canonical origin if the head stands as ``rotation`` says: below the vertex, in mid-vault."""
    points = surface_mm @ rotation
    # Not the very top: single bright voxels above the head would lift it.
    top = np.percentile(points[:, 2], 99.9)
    # Only the vault, for jaw and neck would draw the middle to the front or the back.
    vault = points[points[:, 2] > top - 80.0, :2]
    # Halfway between the ends, unlike the centre of mass not moved by a hole.
    middle = (np.percentile(vault, 1, axis=0) + np.percentile(vault, 99, axis=0)) / 2
    return np.asarray(rotation @ np.array([middle[0], middle[1], top - 80.0]))


def near_orientations() -> list[F64]:
    """Orientations up to about 55 degrees from the header's, about 25 degrees apart."""
    steps = np.radians([-50.0, -25.0, 0.0, 25.0, 50.0])
    vectors = [np.array(v) for v in itertools.product(steps, steps, steps) if np.linalg.norm(v) < np.radians(58.0)]
    return [rotation_matrix(v) for v in vectors]


def nods() -> list[F64]:
    """The header's own orientation, and the head bent forwards and backwards by 25 degrees in it."""
    return [rotation_matrix(np.radians([degrees, 0.0, 0.0])) for degrees in (-25.0, 0.0, 25.0)]


def all_orientations() -> list[F64]:
    """The 24 ways a box can lie, each tilted by up to 35 degrees."""
    rotations = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            # Half of the 48 signed permutations are reflections.
            if np.linalg.det(matrix) > 0:
                rotations.append(matrix)
    # Upright, and by half a radian either way about each axis: a descent does the rest.
    tilts = [np.zeros(3)] + [s * 0.5 * np.eye(3)[a] for a in range(3) for s in (1, -1)]
    return [rotation_matrix(tilt) @ rotation for rotation in rotations for tilt in tilts]


__all__ = ["all_orientations", "near_orientations", "nods", "start_shift", "surface_points"]
