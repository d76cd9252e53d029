"""Frontal sinuses opened by a hole: air behind a wall that stands is no missing bone.

The model fills the sinuses of a person who has larger ones than most. But what was cut out was cut from outside, so
where the forehead's outer wall stands nothing is missing behind it, save that a hole's edge may be undercut.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calvaria.reconstruction.box import box_grid
from calvaria.skull.canonical import SPACING_MM
from calvaria.volume.volume import bounding_box

BoolArray = NDArray[np.bool_]

BACK_MM, TOP_MM = -40.0, 25.0
"""Frontal sinuses lie before this y and below this z of the common box."""

HEAD_CENTRE_MM = np.array([0.0, 0.0, 10.0])
"""Outwards is away from here."""

DEEPEST_MM = 12.0
"""A wall covers what lies up to so far behind it; farther back the orbits' roofs begin, which a hole above may take."""

UNDERCUT_MM = 3.0
"""So far beyond what is openly missing, bone may be missing under cover."""


def behind_wall(places: BoolArray, bone: BoolArray) -> BoolArray:
    """Those places of the sinuses' zone that have a wall before them.

    Args:
        places: bool on the box grid: where to look.
        bone: what is there, on the same grid.
    """
    voxels = np.argwhere(places)
    points = box_grid().to_world(voxels)
    front = (points[:, 1] < BACK_MM) & (points[:, 2] < TOP_MM)
    voxels, out = voxels[front], points[front] - HEAD_CENTRE_MM
    out /= SPACING_MM * np.linalg.norm(out, axis=1, keepdims=True)
    covered = np.zeros(len(voxels), bool)
    for step_mm in np.arange(SPACING_MM / 2, DEEPEST_MM, SPACING_MM / 2):
        there = np.rint(voxels + step_mm * out).astype(int)
        inside = ((there >= 0) & (there < bone.shape)).all(axis=1)
        covered[inside] |= bone[tuple(there[inside].T)]
    behind = np.zeros_like(places)
    behind[tuple(voxels[covered].T)] = True
    return behind


def without_covered(missing: BoolArray, bone: BoolArray) -> BoolArray:
    """Missing bone, without what would fill a frontal sinus whose outer wall is there.

    Args:
        missing: bool on the box grid.
        bone: what is there, on the same grid.
    """
    from scipy import ndimage

    openly = missing & ~behind_wall(missing, bone)
    box = bounding_box(openly, (2, 2, 2))
    if box is None:
        return openly
    kept = np.zeros_like(missing)
    kept[box] = missing[box] & (ndimage.distance_transform_edt(~openly[box], sampling=SPACING_MM) <= UNDERCUT_MM)
    return kept
