"""A hole outlined by places around its rim, as a mask: what lies before and behind the outline, seen from within."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from calvaria.errors import InputError
from calvaria.volume import Grid, Volume

if TYPE_CHECKING:
    from calvaria.results.settings import Point
    from calvaria.types import F64

OUTLINED = "outlined.nrrd"

DEPTH_MM = 20.0
"""The mask reaches so far inwards and outwards of the places: bone is thinner, and the vault's bow less high."""

WIDENED = 1.08
"""The outline is widened so much: straight lines between its places cut the rim's curves, and bone is never filled."""

MIN_COSINE = 0.2
"""Between the outline's middle and its places, seen from within: a hole larger than half a head cannot be seen so."""


def outlined(points_mm: Sequence[Point], grid: Grid, within_mm: F64) -> Volume:
    """What is outlined.

    Args:
        points_mm: world LPS mm, three or more around the rim, in any order.
        grid: of the mask.
        within_mm: (3,) a place within the head.

    Returns:
        A mask.

    Raises:
        InputError: the places do not surround anything.
    """
    from skimage.measure import points_in_poly

    rays = np.asarray(points_mm, np.float64) - within_mm
    radii = np.linalg.norm(rays, axis=1)
    if not (radii > 0).all():
        raise InputError("a place of the outline lies in the middle of the head; give places on the rim of the hole")
    middle = (rays / radii[:, None]).mean(axis=0)
    middle /= max(float(np.linalg.norm(middle)), 1e-9)
    if ((rays / radii[:, None]) @ middle < MIN_COSINE).any():
        raise InputError("the places of the outline lie all around the head; give places on the rim of one hole")
    across = np.cross(middle, np.eye(3)[np.abs(middle).argmin()])
    across /= np.linalg.norm(across)
    plane = np.stack([across, np.cross(middle, across)], axis=1)  # (3, 2)
    corners = (rays @ plane) / (rays @ middle)[:, None]
    centre = corners.mean(axis=0)
    corners = corners[np.argsort(np.arctan2(*(corners - centre).T))]
    corners = centre + WIDENED * (corners - centre)
    mask = np.zeros(grid.shape, np.bool_)
    for i in range(grid.shape[0]):  # a slab at a time: coordinates of all voxels take a gigabyte
        index = np.stack(np.meshgrid([i], *map(np.arange, grid.shape[1:]), indexing="ij"), axis=-1).reshape(-1, 3)
        seen = grid.to_world(index) - within_mm
        ahead, far = seen @ middle, np.linalg.norm(seen, axis=1)
        near = (ahead > 0) & (far > radii.min() - DEPTH_MM) & (far < radii.max() + DEPTH_MM)
        flat = (seen[near] @ plane) / ahead[near, None]
        chosen = np.zeros(len(index), np.bool_)
        chosen[near] = points_in_poly(flat, corners)  # type: ignore[no-untyped-call]
        mask[i] = chosen.reshape(grid.shape[1:])
    if not mask.any():
        raise InputError("the outline surrounds nothing; give places around the rim of the hole, not in one line")
    return Volume(mask, grid)


def write_outlined(view: Path, points_mm: Sequence[Point]) -> Path:
    """Write the mask of what is outlined on a case's slices; returns its file.

    Args:
        view: the folder of what is shown of the case, with its slices.
        points_mm: as for `outlined`.

    Raises:
        InputError: the places do not surround anything.
    """
    from calvaria.io import write_volume
    from calvaria.web.views import shown_head

    head = shown_head(view)
    bright = np.argwhere(head.data > head.data.max() // 2)
    within = head.grid.to_world((bright.min(axis=0) + bright.max(axis=0)) / 2)
    path = view / OUTLINED
    write_volume(path, outlined(points_mm, head.grid, within))
    return path


__all__ = ["OUTLINED", "outlined", "write_outlined"]
