"""Connected components of masks, and cavities.

Bone is connected by faces, edges and corners (26 neighbours) unless asked otherwise, and what is not bone by faces
alone (6), so that a plate one voxel thick separates what it seems to separate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.types import BoolArray
from calvaria.volume.volume import Volume, bounding_box

CONNECTIVITIES = (6, 26)
"""Neighbours that count as connected: across faces; or across faces, edges and corners."""


def label(mask: BoolArray, *, connectivity: int = 26) -> tuple[NDArray[np.int32], int]:
    """Number the connected components of a mask.

    Args:
        mask: (I, J, K) bool; may be empty.
        connectivity: 6 or 26.

    Returns:
        (I, J, K) int32, 0 outside the mask and 1, 2, ... on its components; and how many there are.

    Raises:
        InputError: the connectivity is neither 6 nor 26, or the array is not of booleans.

    >>> label(np.eye(2, dtype=bool)[:, :, None])[1], label(np.eye(2, dtype=bool)[:, :, None], connectivity=6)[1]
    (1, 2)
    """
    from scipy import ndimage

    if connectivity not in CONNECTIVITIES:
        raise InputError(f"the connectivity of voxels is 6 or 26; got {connectivity}")
    if mask.dtype != np.bool_:
        raise InputError(f"a mask is wanted here; got {mask.dtype}")
    out = np.zeros(mask.shape, np.int32)
    box = bounding_box(mask)
    if box is None:
        return out, 0
    structure = np.ones((3, 3, 3), np.bool_) if connectivity > 6 else None
    count = ndimage.label(mask[box], structure, output=out[box])
    return out, int(count)


def largest_component(volume: Volume, *, connectivity: int = 26) -> Volume:
    """The component with the most voxels; the first one in memory order of those that tie.

    Args:
        volume: a mask; an empty one stays empty.
        connectivity: 6 or 26.

    Returns:
        A mask on the same grid.

    Raises:
        InputError: the volume is not a mask, or the connectivity is neither 6 nor 26.
    """
    out = np.zeros(volume.shape, np.bool_)
    box = bounding_box(volume.mask)
    if box is None:
        label(volume.mask, connectivity=connectivity)  # for its errors
        return volume.with_data(out)
    labels, count = label(volume.mask[box], connectivity=connectivity)
    sizes = np.bincount(labels.ravel(order="K"), minlength=count + 1)[1:]
    out[box] = labels == 1 + sizes.argmax()
    return volume.with_data(out)


def fill_holes(volume: Volume) -> Volume:
    """The mask with its cavities filled: what is not bone and not joined by faces to the outside.

    The outside begins beyond the array, so what is open only at the array's end is not a cavity.

    Args:
        volume: a mask; an empty one stays empty.

    Returns:
        A mask on the same grid.

    Raises:
        InputError: the volume is not a mask.
    """
    out = volume.mask.copy()
    box = bounding_box(volume.mask)
    if box is not None:
        around = np.pad(volume.mask[box], 1)
        labels, _ = label(~around, connectivity=6)
        np.not_equal(labels[1:-1, 1:-1, 1:-1], labels[0, 0, 0], out=out[box])
    return volume.with_data(out)


__all__ = ["fill_holes", "label", "largest_component"]
