"""Where bone is missing along the rays from the head centre, and where it is covered by intact bone.

Frontal sinuses may be opened by a hole, but air behind intact bone is no missing bone. The model fills the sinuses of
a person whose sinuses are larger than most. But bone was cut out from outside, so where the forehead's outer table is
intact nothing is missing behind it, except that a hole's edge may be undercut.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from calvaria.reconstruction.box import box_grid
from calvaria.reconstruction.rays import meets_bone
from calvaria.skull.canonical import SPACING_MM
from calvaria.types import BoolArray
from calvaria.volume.morphology import dilate_mm
from calvaria.volume.volume import Volume

SINUS_BACK_MM, SINUS_TOP_MM = -40.0, 25.0
"""Frontal sinuses lie before this y and below this z of the common box."""

COVERED_MM = 12.0
"""Bone covers what lies up to this far behind it; farther back are orbital roofs, which a hole above may include."""

OVER_MM, OWN_MM = 8.0, 2.4
"""A voxel lies over bone that is up to the first behind it; bone nearer than the second may be of its own plate."""

STEP_MM = SPACING_MM / 2
"""Rays are sampled at this spacing."""

UNDERCUT_MM = 3.0
"""Up to this far from an open part of a hole, bone may be missing behind intact bone."""


def behind_bone(voxels: BoolArray, bone: BoolArray) -> BoolArray:
    """Those voxels of the frontal sinuses' zone that have bone outside of them.

    Args:
        voxels: bool on the box grid: those in question.
        bone: bone present, on the same grid.
    """
    return covered_by(voxels & sinuses(), bone)


def covered_by(voxels: BoolArray, bone: BoolArray) -> BoolArray:
    """Those voxels that have bone outside of them, anywhere in the head; arguments as for `behind_bone`."""
    return meets_bone(voxels, bone, np.arange(STEP_MM, COVERED_MM, STEP_MM), box_grid())


@lru_cache(maxsize=1)
def sinuses() -> BoolArray:
    """Where frontal sinuses may lie, bool on the box grid."""
    points = box_grid().centres_mm()
    zone: BoolArray = (points[..., 1] < SINUS_BACK_MM) & (points[..., 2] < SINUS_TOP_MM)
    zone.setflags(write=False)
    return zone


def over_bone(voxels: BoolArray, bone: BoolArray) -> BoolArray:
    """Those voxels that have bone behind them: nothing lies outside the vault but a frontal sinus's anterior wall.

    Args:
        voxels: bool on the box grid: those in question.
        bone: bone present or completed, on the same grid.
    """
    return meets_bone(voxels & ~sinuses(), bone, np.arange(-OVER_MM, -OWN_MM, STEP_MM), box_grid())


def lies_open(voxels: BoolArray, bone: BoolArray) -> BoolArray:
    """Those voxels with no bone outside or inside of them: the vault is open there.

    Args:
        voxels: bool on the box grid: those in question.
        bone: bone present, on the same grid.
    """
    return voxels & ~meets_bone(voxels, bone, np.arange(-COVERED_MM, COVERED_MM, STEP_MM), box_grid())


def without_covered(missing: BoolArray, bone: BoolArray) -> BoolArray:
    """Missing bone, without what would fill a frontal sinus whose anterior wall is intact.

    Args:
        missing: bool on the box grid.
        bone: bone present, on the same grid.
    """
    openly = Volume(missing & ~behind_bone(missing, bone), box_grid())
    return missing & dilate_mm(openly, UNDERCUT_MM).mask
