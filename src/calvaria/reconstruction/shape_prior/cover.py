"""What the rays out of the head say: where its wall is missing, and where it stands.

Frontal sinuses may be opened by a hole, and air behind a wall that stands is no missing bone.
The model fills the sinuses of a person who has larger ones than most. But what was cut out was cut from outside, so
where the forehead's outer wall stands nothing is missing behind it, save that a hole's edge may be undercut.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from calvaria.reconstruction.box import box_grid
from calvaria.skull.canonical import SPACING_MM
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.types import BoolArray
from calvaria.volume.morphology import dilate_mm
from calvaria.volume.volume import Volume

SINUS_BACK_MM, SINUS_TOP_MM = -40.0, 25.0
"""Frontal sinuses lie before this y and below this z of the common box."""

COVERED_MM = 12.0
"""A wall covers what lies up to so far behind it; farther back the orbits' roofs begin, which a hole above may take."""

OVER_MM, OWN_MM = 8.0, 2.4
"""A place lies over a wall that is so far behind it; a nearer one may be its own plate's."""

STEP_MM = SPACING_MM / 2
"""Rays are followed in steps of this."""

UNDERCUT_MM = 3.0
"""So far beyond what is openly missing, bone may be missing under cover."""


def behind_bone(places: BoolArray, bone: BoolArray) -> BoolArray:
    """Those places of the sinuses' zone that have a wall before them.

    Args:
        places: bool on the box grid: where to look.
        bone: what is there, on the same grid.
    """
    return covered_by(places & sinuses(), bone)


def covered_by(places: BoolArray, bone: BoolArray) -> BoolArray:
    """Those places that have a wall before them, anywhere in the head; as `behind_bone`."""
    return meets_bone(places, bone, np.arange(STEP_MM, COVERED_MM, STEP_MM))


@lru_cache(maxsize=1)
def sinuses() -> BoolArray:
    """Where frontal sinuses may lie, bool on the box grid."""
    points = box_grid().centres_mm()
    zone: BoolArray = (points[..., 1] < SINUS_BACK_MM) & (points[..., 2] < SINUS_TOP_MM)
    zone.setflags(write=False)
    return zone


def over_bone(places: BoolArray, bone: BoolArray) -> BoolArray:
    """Those places that have a wall behind them: nothing stands before the head's outside but a sinus's front wall.

    Args:
        places: bool on the box grid: where to look.
        bone: what is there or was completed, on the same grid.
    """
    return meets_bone(places & ~sinuses(), bone, np.arange(-OVER_MM, -OWN_MM, STEP_MM))


def lies_open(places: BoolArray, bone: BoolArray) -> BoolArray:
    """Those places with no bone before or behind them: the head's wall is missing there.

    Args:
        places: bool on the box grid: where to look.
        bone: what is there, on the same grid.
    """
    return places & ~meets_bone(places, bone, np.arange(-COVERED_MM, COVERED_MM, STEP_MM))


def meets_bone(places: BoolArray, bone: BoolArray, steps_mm: NDArray[np.float64]) -> BoolArray:
    """Those places from which some step along the ray out of the head's middle ends in bone; bool on the box grid."""
    voxels = np.argwhere(places)
    out = box_grid().to_world(voxels) - HEAD_CENTRE_MM
    out /= SPACING_MM * np.maximum(np.linalg.norm(out, axis=1, keepdims=True), SPACING_MM)
    met = np.zeros(len(voxels), bool)
    for step_mm in steps_mm:
        there = np.rint(voxels + step_mm * out).astype(int)
        inside = ((there >= 0) & (there < bone.shape)).all(axis=1)
        met[inside] |= bone[tuple(there[inside].T)]
    meets = np.zeros_like(places)
    meets[tuple(voxels[met].T)] = True
    return meets


def without_covered(missing: BoolArray, bone: BoolArray) -> BoolArray:
    """Missing bone, without what would fill a frontal sinus whose outer wall is there.

    Args:
        missing: bool on the box grid.
        bone: what is there, on the same grid.
    """
    openly = Volume(missing & ~behind_bone(missing, bone), box_grid())
    return missing & dilate_mm(openly, UNDERCUT_MM).mask
