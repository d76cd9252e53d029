"""Checks that something is an adult's head of a known kind: its size and proportions, as its pose measured them.

A wrong voxel spacing is the commonest fault of files that were converted once too often, and every step after reading
accepts it: the patch is as wrong as the spacing, and fits. Only the head itself shows it. The scales of the pose
over the mean skull are measured by the whole vault, and holes hardly move them.
"""

from __future__ import annotations

import numpy as np

from calvaria.errors import InputError
from calvaria.skull.canonical import CanonicalFrame
from calvaria.types import F64
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

MEAN_MM = np.array([137.5, 183.5, 118.5])
"""Width, length and height (meatus to vertex) of the mean skull, whose scales are 1."""

KNOWN_MM = "127-153 x 162-202 x 104-132"
"""The same of the 85 complete skulls of AutoImplant 2020: smallest and largest."""

USUAL_HEIGHT = (0.885, 1.105)
"""z / sqrt(x y) of the scales. In 85 complete skulls 0.897 to 1.053 and, of one very high head, 1.128 (sd 0.042); in 30
with holes 0.923 to 1.047. Slices 0.7, 0.8 and 1.2 times as far apart as they should be take 85, 82 and 58 of the 85 out
of this or another limit: a vault that is too high may as well be tilted."""

USUAL_WIDTH = (0.885, 1.19)
"""x / y of the scales: 0.917 to 1.158 (sd 0.051) in the same heads, long ones and short ones. A wrong factor of 0.8 or
1.2 along one of the two is noticed in three quarters of them."""

USUAL_SIZE = (0.87, 1.11)
"""Geometric mean of the scales: 0.917 to 1.058 (sd 0.036); times 0.8 all of the 85 are noticed, times 1.2 all but 8,
mostly small ones. By head circumference a child of two has 0.88, of six 0.92."""

ACCEPTED_HEIGHT, ACCEPTED_WIDTH, ACCEPTED_SIZE = (0.62, 1.6), (0.65, 1.55), (0.72, 1.3)
"""Beyond these no head is completed: the model does not cover them, and the work to fit them has no bounds.
A newborn has a size of 0.62, a head with half its slices' distance a height of 0.5; the widest deformed heads that are
published (brachycephaly, scaphocephaly) have a width of 0.7 and 1.35."""

MAX_REACH_MM = 600.0
"""Bone that reaches farther along an axis of the grid is more than a head: with neck and shoulders it has up to 500."""

MIN_REACH_MM = 90.0
"""Bone that reaches less far along every axis is less than a head; a newborn's has 110."""


def require_head_sized(bone: Volume) -> None:
    """Refuse what cannot be a head by its extent alone, before any work that grows with it.

    Args:
        bone: a mask, cropped to its bone.

    Raises:
        InputError: it reaches too far, or nowhere far enough.
    """
    reach = np.asarray(bone.grid.spacing_mm) * bone.shape
    size = " x ".join(f"{mm:.0f}" for mm in reach)
    if reach.max() > MAX_REACH_MM:
        raise InputError(
            f"the bone reaches over {size} mm, a head and neck over less than {MAX_REACH_MM:.0f}: crop the scan to the "
            f"head, or check the voxel spacing ({_spacing(bone.grid)} mm)"
        )
    if reach.max() < MIN_REACH_MM:
        raise InputError(
            f"the bone reaches over {size} mm only, a head over more than {MIN_REACH_MM:.0f}: give a head with its "
            f"calvaria, or check the voxel spacing ({_spacing(bone.grid)} mm)"
        )


def require_adult(frame: CanonicalFrame, grid: Grid) -> None:
    """Refuse a head whose size or proportions no adult has.

    Args:
        frame: its canonical frame.
        grid: of its file, for the message.

    Raises:
        InputError: with what was measured and what adults have.
    """
    limits = (ACCEPTED_HEIGHT, ACCEPTED_WIDTH, ACCEPTED_SIZE)
    if all(low <= value <= high for value, (low, high) in zip(_ratios(frame.scale), limits, strict=True)):
        return
    raise InputError(
        f"the head measures {_measured(frame)} mm (width, length, height above the ears), adult ones {KNOWN_MM}: check "
        f"the voxel spacing ({_spacing(grid)} mm); small children's heads cannot be completed"
    )


def size_doubts(frame: CanonicalFrame, grid: Grid) -> tuple[str, ...]:
    """Why the size of a head may be wrong, one line each; none for a usual head.

    Args:
        frame: its canonical frame.
        grid: of its file, for the message.
    """
    height, width, size = _ratios(frame.scale)
    check = f"check the voxel spacing ({_spacing(grid)} mm), for the patch is as wrong as that"
    lines = []
    if not USUAL_HEIGHT[0] <= height <= USUAL_HEIGHT[1]:
        usual = f"heads have {USUAL_HEIGHT[0]:.2f} to {USUAL_HEIGHT[1]:.2f}"
        lines.append(f"for its length and width the head is {height:.2f} times as high as the mean ({usual}): {check}")
    if not USUAL_WIDTH[0] <= width <= USUAL_WIDTH[1]:
        usual = f"heads have {USUAL_WIDTH[0]:.2f} to {USUAL_WIDTH[1]:.2f}"
        lines.append(f"for its length the head is {width:.2f} times as wide as the mean ({usual}): {check}")
    if not USUAL_SIZE[0] <= size <= USUAL_SIZE[1]:
        measured = f"{_measured(frame)} mm (width, length, height above the ears)"
        lines.append(f"the head measures {measured}, known adult ones {KNOWN_MM}: {check}")
    return tuple(lines)


def usual_ratios(frame: CanonicalFrame) -> tuple[tuple[str, float, tuple[float, float]], ...]:
    """Height, width and size of a head over the mean skull's: the name, the value and the usual range of each."""
    names, limits = ("height for length and width", "width for length", "size"), (USUAL_HEIGHT, USUAL_WIDTH, USUAL_SIZE)
    return tuple(zip(names, _ratios(frame.scale), limits, strict=True))


def _ratios(scale: F64) -> tuple[float, float, float]:
    """Height for length and width, width for length, and size, each over the mean skull's."""
    x, y, z = (float(value) for value in scale)
    return z / float(np.sqrt(x * y)), x / y, float(np.cbrt(x * y * z))


def _measured(frame: CanonicalFrame) -> str:
    return " x ".join(f"{mm:.0f}" for mm in MEAN_MM * frame.scale)


def _spacing(grid: Grid) -> str:
    return " x ".join(f"{mm:.3g}" for mm in grid.spacing_mm)


__all__ = ["require_adult", "require_head_sized", "size_doubts", "usual_ratios"]
