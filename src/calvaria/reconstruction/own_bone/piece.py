"""The bone of a removed piece that was scanned alone: no head lies around it, only air, a bag, a table."""

from __future__ import annotations

import numpy as np

from calvaria.errors import InputError
from calvaria.reconstruction.surface import BoneSurface
from calvaria.skull.halfway import Edges, draw_in
from calvaria.skull.kinds import UNSIGNED_OFFSET_HU, require_numbers
from calvaria.skull.partial import Scan
from calvaria.types import BoolArray
from calvaria.volume.components import label
from calvaria.volume.foreground import foreground_of, has_two_values, looks_inverted
from calvaria.volume.volume import Volume, bounding_box

MIN_FLAP_ML, MAX_FLAP_ML = 0.5, 300.0
"""A removed piece has 2 to 120 ml; a whole skull has more than the second."""

PIECE_HU = 150.0
"""Bone of a piece lies above this, and its surface there or further in: half way from air to cortex. Wet tissue that
hangs on it stays below 100."""

AIR_HU = -500.0
"""A CT has air, and values below this; files that hold HU + 1024 have none below 0."""

MARGIN = 3
"""Voxels around the piece whose values are looked at."""


def piece_of(volume: Volume) -> BoneSurface:
    """The surface of a removed piece.

    Args:
        volume: a CT of the piece in air, in HU or HU + 1024, or a mask of it; on any grid. Only its largest part
            counts.

    Returns:
        The surface; of a CT between its voxels.

    Raises:
        InputError: it is neither CT nor mask, or shows no piece of a skull's size.
    """
    if volume.is_mask:
        return BoneSurface.of(_cropped(volume))
    require_numbers(volume, "the removed piece")
    if has_two_values(volume.data):
        mask = volume.with_data(foreground_of(volume.data))
        if looks_inverted(mask.mask):
            raise InputError("bone and background seem to be exchanged; write the piece as 1 and the background as 0")
        return BoneSurface.of(_cropped(mask))
    return _of_ct(volume)


def _of_ct(ct: Volume) -> BoneSurface:
    low, high = float(ct.data.min()), float(ct.data.max())
    offset = 0 if low <= AIR_HU else UNSIGNED_OFFSET_HU
    if high - offset <= PIECE_HU or (offset and low < 0):
        raise InputError(
            f"values from {low:g} to {high:g} are no CT of a piece of bone in air (air -1000, bone over 300); give its "
            "CT in Hounsfield units, or a mask of it"
        )
    bone = _largest(ct.data > PIECE_HU + offset)
    box = bounding_box(bone, (MARGIN, MARGIN, MARGIN))
    if box is None:
        raise InputError("no bone was found in it: give a CT of the removed piece, or a mask of it")
    part, mask = ct.crop(box), bone[box].copy()
    edges = Edges.of(part, offset, PIECE_HU + offset)
    draw_in(mask, part, edges)
    found = Volume(mask, part.grid)
    _require_piece(found)
    everywhere = (slice(0, mask.shape[0]), slice(0, mask.shape[1]), slice(0, mask.shape[2]))
    return BoneSurface.of(Scan(part, PIECE_HU + offset, edges).fraction(found, everywhere))


def _cropped(mask: Volume) -> Volume:
    """The largest part of a mask, alone."""
    largest = mask.with_data(_largest(mask.mask))
    box = bounding_box(largest.mask)
    if box is None:
        raise InputError("the mask is empty: no voxel is bone; give the removed piece as a mask, or its CT")
    part = largest.crop(box)
    _require_piece(part)
    return part


def _largest(mask: BoolArray) -> BoolArray:
    labels, count = label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax()) if count else mask


def _require_piece(piece: Volume) -> None:
    """Raise where something is no removed piece by its size.

    Raises:
        InputError: it is not.
    """
    if not MIN_FLAP_ML <= piece.volume_ml <= MAX_FLAP_ML:
        raise InputError(
            f"the piece holds {piece.volume_ml:.1f} ml of bone, a removed one {MIN_FLAP_ML:g} to {MAX_FLAP_ML:g}: "
            "give the scan of the piece alone (a scan of the whole head from before is for --pre-op)"
        )


__all__ = ["piece_of"]
