"""What is set in an image of two values: a mask, whichever two numbers a program stored for it.

0 and a positive number are what everybody means. Other pairs occur: 0 and -1 (255 read as a signed byte), -1000 and 0,
1 and 2 (labels counted from 1), -1024 and 3071 (a mask painted into a CT). There the background is the value of the
volume's border, for a bone or a patch seldom reaches more than a small part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.types import BoolArray

BORDER_SHARE = 0.8
"""A value that has at least this share of the voxels on the volume's six faces is its background."""


def has_two_values(data: NDArray[Any]) -> bool:
    """Whether an array holds nothing but its smallest and its largest value; also for a single value.

    Args:
        data: (I, J, K) numbers or booleans, not empty, without NaN.
    """
    if data.dtype == np.bool_:
        return True
    low, high = data.min(), data.max()
    if data.dtype.kind in "iu" and int(high) - int(low) <= 1:
        return True
    return all(bool(((slab == low) | (slab == high)).all()) for slab in _slabs(data))


def foreground_of(data: NDArray[Any]) -> BoolArray:
    """The set voxels of an image of two values.

    Args:
        data: (I, J, K) booleans, or numbers of which two occur: 0 and a positive one, or any two of which one has
            most of the volume's border. A single value is all set if it is positive, none if it is 0.

    Returns:
        (I, J, K) bool; a view where the data are 0 and 1 in single bytes.

    Raises:
        InputError: one value that is negative; or two of which neither is the background. The message names them.
    """
    if data.dtype == np.bool_:
        return data
    low, high = data.min(), data.max()
    if low == high:
        if low < 0:
            raise InputError(f"every voxel is {low:g}; a mask has two values, the bone's and the background's")
        return np.asarray(data != 0)
    if low == 0:
        return data.view(np.bool_) if data.dtype.itemsize == 1 and high == 1 else np.asarray(data != 0)
    share = _border_share(data, high)
    if max(share, 1 - share) < BORDER_SHARE:
        raise InputError(
            f"the values {low:g} and {high:g} occur, and neither is clearly the background ({share:.0%} of the "
            f"volume's border is {high:g}); write the bone as 1 and the background as 0"
        )
    return np.asarray(data == (low if share > 0.5 else high))


def looks_inverted(mask: BoolArray) -> bool:
    """Whether a mask has most of the volume's border and most of the volume: bone and background are then exchanged."""
    return _border_share(mask, True) >= BORDER_SHARE and 2 * int(np.count_nonzero(mask)) > mask.size


def _border_share(data: NDArray[Any], value: Any) -> float:
    """Which share of the voxels on the six faces has a value; edges count twice, corners three times."""
    # Views: np.take copies a whole array whose first axis runs fastest, 4 s for a head CT.
    faces = [np.moveaxis(data, axis, 0)[end] for axis in range(3) for end in (0, -1)]
    return float(sum(np.count_nonzero(face == value) for face in faces) / sum(face.size for face in faces))


def _slabs(data: NDArray[Any], thickness: int = 16) -> Iterator[NDArray[Any]]:
    """Views of slices that lie together in memory."""
    slow = int(np.argmax(np.abs(data.strides)))
    slices = np.moveaxis(data, slow, 0)
    return (slices[start : start + thickness] for start in range(0, len(slices), thickness))


__all__ = ["foreground_of", "has_two_values", "looks_inverted"]
