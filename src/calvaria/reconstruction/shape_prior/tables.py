"""The shape model's two sides of the wall, and where they can be believed (see `shape_prior.table_distances`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from calvaria.errors import InputError
from calvaria.reconstruction.shape_prior.modes import Arrays, Modes, check_half, packed, unpacked, whole
from calvaria.types import F32

TABLE_MODES = 60
"""Modes kept of each side; 120 change nothing."""

MISFIT_REACH_MM = 6.0
"""How well the sides tell bone is asked so near to its surface; beyond, wrong distances do no harm."""

SMOOTH_MM = 4.8
"""... and smoothed by a Gaussian of this standard deviation."""

MISFIT_STEPS = 50
"""The misfit is stored in steps of a 50th of a mm, up to 5 mm: from 1 mm on the sides are not believed at all."""


@dataclass(frozen=True, eq=False)
class TableModel:
    """What is known of the two sides of people's walls.

    Args:
        outer: of the distance to the outer side, positive outside the head.
        inner: of the distance to the inner side, positive in the cavity.
        misfit_half: (I // 2 + 1, J, K) float32, mm: how far bone as the two sides tell it is off, mean over people.
    """

    outer: Modes
    inner: Modes
    misfit_half: F32

    @cached_property
    def misfit(self) -> F32:
        """(I, J, K) the misfit on the whole grid, mm."""
        return whole(self.misfit_half)

    def to_arrays(self) -> Arrays:
        """The wall as arrays of whole numbers, for a safetensors file."""
        misfit = np.clip(np.round(self.misfit_half * MISFIT_STEPS), 0, 255).astype(np.uint8)
        return {**packed(self.outer, "outer_"), **packed(self.inner, "inner_"), "wall_misfit": misfit}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> TableModel:
        """The wall that `to_arrays` wrote.

        Raises:
            InputError: the arrays are of another kind of model, or do not fit together.
        """
        if "wall_misfit" not in arrays:
            raise InputError(
                "these weights lack the two sides of the wall: they are an older version's, train them again"
            )
        outer, inner = unpacked(arrays, "outer_"), unpacked(arrays, "inner_")
        misfit = arrays["wall_misfit"].astype(np.float32) / np.float32(MISFIT_STEPS)
        check_half(misfit, outer.spacing_mm)
        return cls(outer, inner, misfit)


def table_misfit(bone_mm: F32, outer_mm: F32, inner_mm: F32, spacing_mm: float) -> F32:
    """How far bone as the two sides tell it is off, near its surface.

    Args:
        bone_mm: (N, I, J, K) signed distances to people's bone.
        outer_mm: distances to the outer side.
        inner_mm: distances to the inner side.
        spacing_mm: voxel edge.

    Returns:
        (I // 2 + 1, J, K) float32, mm: `TableModel.misfit_half`; 0 far from everybody's bone.
    """
    from scipy import ndimage

    near = np.abs(bone_mm) < MISFIT_REACH_MM
    off = np.minimum(np.abs(np.maximum(outer_mm, inner_mm) - bone_mm), MISFIT_REACH_MM) * near
    total, count = (part + part[::-1] for part in (off.sum(axis=0), near.sum(axis=0, dtype=np.float32)))
    blurred = [ndimage.gaussian_filter(part, SMOOTH_MM / spacing_mm) for part in (total, count)]
    out = blurred[0] / (blurred[1] + np.float32(0.01))
    return np.asarray(out[len(out) // 2 :], np.float32)
