"""Rotations as matrices and as vectors (axis times angle), without the half second that scipy's class takes to load."""

from __future__ import annotations

import numpy as np

from calvaria.types import F64


def rotation_matrix(vector: F64) -> F64:
    """Rotation about ``vector`` by its length in radians (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    x, y, z = np.asarray(vector) / max(angle, 1e-12)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def rotation_vector(rotation: F64) -> F64:
    """Axis times angle (radians) of a rotation; exact up to 180 degrees."""
    skew = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    angle = float(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    if angle < 1e-4:
        return skew / 2
    if angle > np.pi - 1e-3:
        axis = np.sqrt(np.clip((np.diag(rotation) + 1) / 2, 0, 1))
        return np.asarray(angle * axis * np.where(skew < 0, -1, 1))
    return np.asarray(skew * angle / (2 * np.sin(angle)))


def across(direction: F64) -> tuple[F64, F64]:
    """Two unit vectors across a direction and each other, always the same two; with it they are right-handed.

    Args:
        direction: (3,) unit.

    >>> [(vector + 0.0).tolist() for vector in across(np.array([1.0, 0.0, 0.0]))]
    [[0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]
    """
    side = np.cross(direction, np.eye(3)[np.abs(direction).argmin()])
    side /= np.linalg.norm(side)
    return np.asarray(side), np.asarray(np.cross(direction, side))
