"""Is it a mask or a CT: decided by the values."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.types import F32
from calvaria.volume.foreground import has_two_values
from calvaria.volume.volume import Volume

UNSIGNED_OFFSET_HU = 1024
"""Scanners store HU + 1024 as unsigned numbers; files whose rescale intercept was lost hold these."""

MIXED_SHARE = 0.5
"""On the HU scale, at most this many times as many voxels lie between air and fat as at soft tissue."""

SAMPLED_VOXELS = 2_000_000
"""The values of about this many voxels, evenly spread, are examined."""

MAX_LABELS = 32
"""No more different whole values than this are labels; an 8-bit picture has more."""


def ct_offset_hu(volume: Volume) -> int | None:
    """What has to be taken from the values to have HU.

    Args:
        volume: any image.

    Returns:
        0 for a CT in HU; 1024 for one whose file holds HU + 1024 (seen by air at 0 and soft tissue near 1064); None
        for anything else.
    """
    if volume.is_mask or not _is_real(volume.data):
        return None
    values = _sample(volume.data)
    if not np.isfinite(values).all():
        return None
    low, high = float(values.min()), float(values.max())
    if low <= -500 and _is_hounsfield(values):
        return 0
    if low >= 0 and high >= UNSIGNED_OFFSET_HU + 300 and _is_hounsfield(values - UNSIGNED_OFFSET_HU):
        return UNSIGNED_OFFSET_HU
    return None


def kind_of(volume: Volume, name: str = "the volume") -> Literal["mask", "ct"]:
    """Tell a bone mask from a CT by the values.

    Args:
        volume: booleans, two values (`calvaria.volume.foreground` says which is the bone), or a CT in HU or in
            HU + 1024.
        name: of the file or case, for messages.

    Raises:
        InputError: anything else: a probability map, labels, a windowed picture, an MR, NaN. The message says what
            it looks like and what to do.
    """
    if volume.is_mask:
        return "mask"
    require_numbers(volume, name)
    data = volume.data
    low, high = data.min(), data.max()
    if low == high and low not in (0, 1):
        raise InputError(f"{name}: every voxel is {low:g}; a bone mask (two values) or a head CT is wanted")
    if has_two_values(data):
        return "mask"
    if ct_offset_hu(volume) is not None:
        return "ct"
    raise InputError(f"{name}: {what_else(volume)}")


def require_numbers(volume: Volume, name: str) -> None:
    """Raise unless the values are real and finite.

    Raises:
        InputError: they are not.
    """
    if not _is_real(volume.data):
        raise InputError(f"{name}: a bone mask or a CT is wanted; the values are of type {volume.data.dtype}")
    if not (np.isfinite(volume.data.min()) and np.isfinite(volume.data.max())):
        raise InputError(f"{name}: the values contain NaN or infinity; export the image again without them")


def _is_real(data: NDArray[Any]) -> bool:
    return bool(np.issubdtype(data.dtype, np.integer) or np.issubdtype(data.dtype, np.floating))


def _sample(data: NDArray[Any]) -> F32:
    step = max(round((data.size / SAMPLED_VOXELS) ** (1 / 3)), 1)
    return data[::step, ::step, ::step].astype(np.float32).ravel(order="K")


def _is_hounsfield(hu: F32) -> bool:
    """Air, a peak of soft tissue near water, bone, and little between air and fat."""
    air = np.count_nonzero((hu > -1100) & (hu < -850)) + np.count_nonzero(hu <= -1100)
    soft = np.count_nonzero((hu > -150) & (hu < 150))
    peak = np.count_nonzero((hu > -30) & (hu < 110))
    between = np.count_nonzero((hu > -800) & (hu < -200))
    bone = np.count_nonzero(hu > 300)
    least = 0.001 * hu.size
    return bool(air > least and bone > least and soft > 10 * least and peak > soft / 2 and between < MIXED_SHARE * soft)


def what_else(volume: Volume) -> str:
    """What an image looks like that is neither a mask nor a head CT, and what to do, as a part of a message."""
    data = volume.data
    low, high = float(data.min()), float(data.max())
    values = np.unique(_sample(data))
    whole = bool(np.all(values == np.round(values)))
    if low >= 0 and high <= 1:
        return "this looks like a probability map (0 to 1); threshold it, for instance at 0.5, and give the mask"
    if whole and len(values) <= MAX_LABELS and low >= 0:
        return f"this looks like a label map ({len(values)} labels up to {high:g}); give the bone alone as a mask"
    if whole and low >= 0 and high <= 255:
        return "this looks like a windowed 8-bit picture (0 to 255), not HU; export the CT with its full range"
    if low >= 0:
        return (
            f"values from {low:g} to {high:g} without the peaks of a CT: an MR or an unscaled image; "
            "give a CT in Hounsfield units (air -1000, bone over 300) or a bone mask, or say --kind ct if it is a CT"
        )
    return (
        f"values from {low:g} to {high:g} are neither a mask nor a head CT in Hounsfield units (air -1000, soft tissue "
        "near 0, bone over 300); export the CT with its rescale slope and intercept, give a bone mask, or "
        "say --kind ct if it is a CT (a dry skull, a replica)"
    )


__all__ = ["UNSIGNED_OFFSET_HU", "ct_offset_hu", "kind_of", "require_numbers", "what_else"]
