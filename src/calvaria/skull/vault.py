"""Whether a scan shows a head at all: a trunk has bones too, but none that enclose what lies inside."""

from __future__ import annotations

import numpy as np

from calvaria.errors import InputError
from calvaria.types import BoolArray
from calvaria.volume.volume import Volume

MAX_HEAD_L = 6.5
"""A body of more than this is larger than a head: that has 4 to 5 litres with the face, and grows by what the scan
shows of the neck. Only then is it asked whether there is a vault in it."""

ENCLOSED_SIDES = 5
"""Tissue is enclosed where bone lies before it and behind it, to both sides, above and below; one side may be open: the
hole, or the end of the scan."""

MIN_ENCLOSED_ML = 150.0
"""Less tissue than this is enclosed in no head: in 9 skulls it is 1200 to 1500 ml, with half of the vault taken out 650
or more. A trunk has a few drops in its vertebrae and between its ribs."""


def require_vault(ct: Volume, body: Volume, threshold: float, name: str) -> None:
    """Make sure that a large body has a head in it.

    Args:
        ct: on blocks of a few mm, HU as stored.
        body: mask of the body on the same grid, without what is thin.
        threshold: bone lies above it, as stored.
        name: of the file or case; the message begins with it.

    Raises:
        InputError: it is larger than a head, and nothing in it is enclosed in bone.
    """
    if body.volume_ml <= MAX_HEAD_L * 1000:
        return
    enclosed_ml = np.count_nonzero(_enclosed(ct.data > threshold) & body.mask) * ct.grid.voxel_volume_mm3 / 1000
    if enclosed_ml < MIN_ENCLOSED_ML:
        raise InputError(
            f"{name}: no head found: the body in the scan holds {body.volume_ml / 1000:.1f} litres, but bone encloses "
            f"only {enclosed_ml:.0f} ml of it, in a head {MIN_ENCLOSED_ML:g} or more: give a scan of the head"
        )


def _enclosed(bone: BoolArray) -> BoolArray:
    """Voxels that are no bone and have it on at least `ENCLOSED_SIDES` of the grid's six sides."""
    sides = np.zeros(bone.shape, np.uint8)
    for axis in range(3):
        sides += np.logical_or.accumulate(bone, axis=axis)
        sides += np.flip(np.logical_or.accumulate(np.flip(bone, axis), axis=axis), axis)
    out: BoolArray = (sides >= ENCLOSED_SIDES) & ~bone
    return out


__all__ = ["require_vault"]
