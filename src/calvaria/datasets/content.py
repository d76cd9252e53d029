"""What a mask shows, as a short text: equal for equal voxels, whatever file, type or compression they come in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from calvaria.datasets.layouts import SkullCase
from calvaria.volume.volume import Volume

DIGITS = 32
"""Hexadecimal digits that are kept of a SHA-256: 128 bits, so that no two masks ever share them at random."""


def mask_digest(mask: Volume) -> str:
    """Digest of a mask's shape and voxels; its place and spacing do not enter.

    Args:
        mask: a bool volume; may be empty.

    Returns:
        `DIGITS` hexadecimal digits.

    Raises:
        InputError: the volume is not a mask.
    """
    digest = hashlib.sha256(repr(mask.shape).encode())
    data = mask.mask
    for k in range(data.shape[2]):  # slice by slice: a few hundred kB at a time
        digest.update(np.packbits(data[:, :, k].ravel(order="F")).tobytes())
    return digest.hexdigest()[:DIGITS]


def skull_file(case: SkullCase) -> Path | None:
    """The file that says who a case shows: the complete skull, or else the defective one; None if there is neither."""
    return case.complete or case.defective


__all__ = ["DIGITS", "mask_digest", "skull_file"]
