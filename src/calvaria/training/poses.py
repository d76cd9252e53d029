"""Where heads lie in the cubes that the symmetry network sees: drawn as parameters first, then applied.

Flips, rotations, shifts and scales, and no shear (Wodzinski et al., section 2.2): every one of them takes a symmetry
plane to a symmetry plane, so the loss of a plane in the cube can be computed in the canonical frame, on the complete
skull.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calvaria.deformation.warp import CELL, read_cells
from calvaria.errors import InputError
from calvaria.symmetry.frame import HEIGHT_MM, SIZE, network_grid
from calvaria.training.recipes.symmetry import PoseSettings
from calvaria.types import F64
from calvaria.volume.grid import Grid
from calvaria.volume.rotation import rotation_matrix

EVERY = 2
"""A head's top and centre are taken from every second voxel along each axis."""


@dataclass(frozen=True)
class Pose:
    """How one head lies in its cube.

    Args:
        linear: 3 x 3, row by row: canonical mm -> mm along the cube's axes.
        shift_mm: of the head's centre from the cube's.
    """

    linear: tuple[float, ...]
    shift_mm: tuple[float, float, float]

    @property
    def matrix(self) -> F64:
        """(3, 3) canonical mm -> cube mm."""
        return np.array(self.linear).reshape(3, 3)


def sample_pose(rng: np.random.Generator, settings: PoseSettings, most_deg: float | None = None) -> Pose:
    """Draw a pose; ``most_deg`` limits the rotation further (early in training)."""
    axis = rng.standard_normal(3)
    usual = min(abs(rng.standard_normal()) * settings.usual_deg, settings.most_deg)
    any_angle = rng.random() * settings.most_deg
    angle = usual if rng.random() < settings.usual_share else any_angle
    angle = angle if most_deg is None else min(angle, most_deg)
    flips = np.where(rng.random(3) < np.array(settings.flips), -1.0, 1.0)
    size = 1 + settings.size_sd * float(np.clip(rng.standard_normal(), -2, 2))
    scale = size * (1 + settings.scale_sd * np.clip(rng.standard_normal(3), -2, 2))
    linear = np.diag(flips) @ rotation_matrix(np.radians(angle) * axis / np.linalg.norm(axis)) @ np.diag(scale)
    x, y, z = (float(s) for s in settings.shift_mm * rng.standard_normal(3))
    return Pose(tuple(float(v) for v in linear.reshape(-1)), (x, y, z))


def place(bone: Tensor, grid: Grid, pose: Pose) -> tuple[Tensor, F64]:
    """A head as the network sees it.

    Args:
        bone: (X, Y, Z) soft bone in the canonical frame.
        grid: its grid.
        pose: how it lies.

    Returns:
        (1, 96, 96, 96) float32, and the (4, 4) map from canonical mm to mm from the cube's centre.

    Raises:
        InputError: there is no bone.
    """
    some = (bone[::EVERY, ::EVERY, ::EVERY] > 0.5).nonzero().cpu().numpy() * EVERY
    if not len(some):
        raise InputError("there is no bone to be placed")
    turned = grid.to_world(some) @ pose.matrix.T
    floor = turned[:, 2].max() - HEIGHT_MM
    to_cube = np.eye(4)
    to_cube[:3, :3] = pose.matrix
    to_cube[:3, 3] = np.array(pose.shift_mm) - turned[turned[:, 2] > floor].mean(axis=0)
    cube, count = network_grid(), SIZE // CELL + 1
    corners = np.stack(np.meshgrid(*[np.arange(count) * float(CELL)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    where = grid.to_index(cube.to_world(corners) @ np.linalg.inv(to_cube)[:3, :3].T + np.linalg.inv(to_cube)[:3, 3])
    nodes = torch.from_numpy(where.T.reshape(3, count, count, count).astype(np.float32)).to(bone.device)
    seen = read_cells(bone[None].float(), nodes)
    low = cube.to_world([[0, 0, k] for k in range(SIZE)])[:, 2] < floor + to_cube[2, 3]
    seen[..., : int(low.sum())] = 0.0  # heights grow with k
    return seen, to_cube


__all__ = ["Pose", "place", "sample_pose"]
