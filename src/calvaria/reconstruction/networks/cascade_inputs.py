"""What a cascade is shown beside the skull: the same in training and at run time.

Everything lies in the canonical frame, in mm; the coarse grid is symmetric about x = 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from calvaria.errors import InputError
from calvaria.reconstruction.networks.forms import FIRST_LOGIT, Form, Mirror
from calvaria.reconstruction.protocol import Spread
from calvaria.symmetry.estimate import estimate_from
from calvaria.symmetry.frame import coarse_bone
from calvaria.symmetry.plane import Plane, reflect_volume
from calvaria.types import F32, F64
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

MIDDLE = Plane(np.array([1.0, 0.0, 0.0]), 0.0)
"""The canonical frame's own plane."""

MAX_TURN_DEG, MAX_SHIFT_MM = 15.0, 15.0
"""A plane that lies farther off the frame's own is wrong: a frame is off by a few degrees, whatever the hole."""

DOUBT_MM = 1.5
"""Standard deviation of the prior's surface that counts as 1, and so does more; at holes it is 0.2 to 1 mm."""

DEPTH_MM = 3.2
"""So far from its surface the prior's completion is shown at full resolution: two nodes of the common box."""

DEPTH_SLOPE = 2.5
"""Logit of missing bone a millimetre below the prior's surface, before anything is learned: as steep as soft targets in
voxels of 0.8 mm."""

DOUBT_REACH = 1.5
"""The doubt stands in voxels whose centre lies within so many voxels of the prior's surface."""


def skull_plane(bone: Volume) -> Plane:
    """The mid-sagittal plane of a skull in its canonical frame, which a hole has pulled or a motion has turned.

    Estimated in the skull and in its mirror image, and averaged: a mirrored skull has the mirrored plane.

    Args:
        bone: mask, canonical mm, on a grid that is symmetric about x = 0.

    Returns:
        The plane; the frame's own where there is no bone or the estimate is out of all proportion.
    """
    try:
        one, other = (_estimated(Volume(data, bone.grid)) for data in (bone.mask, bone.mask[::-1]))
    except InputError:
        return MIDDLE
    # (n, d) of the mirror image, mirrored back: n_x changes its sign, and so does the whole, to point to +x.
    back = np.array([other[0], -other[1], -other[2], -other[3]])
    mean = (one + back) / 2
    plane = Plane(mean[:3], float(mean[3]))
    centre = np.array([0.0, 0.0, 20.0])
    if plane.angle_deg(MIDDLE) > MAX_TURN_DEG or plane.apart_mm(MIDDLE, centre) > MAX_SHIFT_MM:
        return MIDDLE
    return plane


def _estimated(bone: Volume) -> F64:
    """(4,) unit normal towards +x, and offset."""
    plane = estimate_from(coarse_bone(bone), "network", np.eye(3)).plane
    sign = 1.0 if plane.normal[0] >= 0 else -1.0
    return sign * np.array([*plane.normal, plane.offset_mm])


def mirrored(seen: F32, grid: Grid, how: Mirror, plane: Plane = MIDDLE) -> F32:
    """The skull's mirror image on the coarse grid.

    Args:
        seen: (X, Y, Z) how much of each voxel is bone.
        grid: canonical mm.
        how: "flip": the array from left to right, whatever the plane; "plane": reflected about it.
        plane: canonical mm.
    """
    if how == "flip":
        return np.ascontiguousarray(seen[::-1])
    out: F32 = reflect_volume(Volume(seen, grid), plane).data
    return out


def doubt_on(grid: Grid, spread: Spread | None, to_grid: F64) -> F32:
    """How far off the prior expects its surface to be, on the coarse grid: 0 to 1, in `DOUBT_MM`.

    Args:
        grid: of the answer.
        spread: the prior's; None where it cannot say: 0 everywhere.
        to_grid: (4, 4) scaled canonical mm of the common box -> the world of ``grid``.
    """
    out = np.zeros(grid.shape, np.float32)
    if spread is None or not len(spread.points_mm):
        return out
    from scipy.spatial import cKDTree

    points = spread.points_mm @ to_grid[:3, :3].T + to_grid[:3, 3]
    reach_mm = DOUBT_REACH * grid.spacing_mm[0]
    # Only voxels in the box around the surface are asked about.
    low, high = grid.to_index(points.min(axis=0) - reach_mm), grid.to_index(points.max(axis=0) + reach_mm)
    parts = tuple(
        slice(int(np.clip(np.floor(a), 0, n)), int(np.clip(np.ceil(b) + 1, 0, n)))
        for a, b, n in zip(low, high, grid.shape, strict=True)
    )
    first = [part.start for part in parts]
    index = np.indices([part.stop - part.start for part in parts]).reshape(3, -1).T + first
    if not len(index):
        return out
    apart, nearest = cKDTree(points).query(grid.to_world(index), distance_upper_bound=reach_mm)
    near = np.isfinite(apart)
    out[tuple(index[near].T)] = np.clip(spread.sd_mm[nearest[near]] / DOUBT_MM, 0, 1)
    return out


def prior_logit(depth: Any) -> Any:
    """What a fine network's patch is added to behind the prior, from a depth of `missing_depth`; array or tensor.

    `FIRST_LOGIT`, which every head subtracts, is taken back: before anything is learned, the patch is the prior's.
    """
    return 2 * DEPTH_MM * DEPTH_SLOPE * (depth - 0.5) - FIRST_LOGIT


def coarse_input(form: Form, maps: Mapping[str, F32]) -> F32:
    """(C, X, Y, Z), the channels in the form's order, from maps by the names in `Form.parts`; "skull" is among them."""
    some = [maps[name] for name in form.parts]
    return np.array(some, np.float32).reshape(len(some), *maps["skull"].shape)


__all__ = ["DEPTH_MM", "DEPTH_SLOPE", "MIDDLE", "coarse_input", "doubt_on", "mirrored", "skull_plane"]
