"""The shape model of the outer and inner table, and where it can be trusted (see `shape_prior.table_distances`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from calvaria.errors import InputError
from calvaria.reconstruction.shape_prior.modes import Arrays, Modes, check_half, packed, unpacked, whole
from calvaria.types import F32

TABLE_MODES = 60
"""Modes kept of each table; 120 change nothing."""

MISFIT_REACH_MM = 6.0
"""The misfit is measured within this distance of the bone's surface; farther away, wrong distances do no harm."""

SMOOTH_MM = 4.8
"""The misfit is smoothed by a Gaussian of this standard deviation."""

MISFIT_STEPS = 50
"""The misfit is stored in steps of a 50th of a mm, up to 5 mm: from 1 mm on, the tables get no weight."""


@dataclass(frozen=True, eq=False)
class TableModel:
    """Modes of the distances to the outer and to the inner table.

    Args:
        outer: modes of the distance to the outer table, positive outside the head.
        inner: modes of the distance to the inner table, positive in the cranial cavity.
        misfit_half: (I // 2 + 1, J, K) float32, mm: mean error over subjects of bone as described by the two tables.
    """

    outer: Modes
    inner: Modes
    misfit_half: F32

    @cached_property
    def misfit(self) -> F32:
        """(I, J, K) the misfit on the whole grid, mm."""
        return whole(self.misfit_half)

    def to_arrays(self) -> Arrays:
        """The model as integer arrays, for a safetensors file."""
        misfit = np.clip(np.round(self.misfit_half * MISFIT_STEPS), 0, 255).astype(np.uint8)
        return {**packed(self.outer, "outer_"), **packed(self.inner, "inner_"), "wall_misfit": misfit}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> TableModel:
        """The model that `to_arrays` wrote.

        Raises:
            InputError: the arrays are of another kind of model, or do not fit together.
        """
        if "wall_misfit" not in arrays:
            raise InputError(
                "these weights lack the outer and inner table: they are an older version's, train them again"
            )
        outer, inner = unpacked(arrays, "outer_"), unpacked(arrays, "inner_")
        misfit = arrays["wall_misfit"].astype(np.float32) / np.float32(MISFIT_STEPS)
        check_half(misfit, outer.spacing_mm)
        return cls(outer, inner, misfit)


def table_misfit(bone_mm: F32, outer_mm: F32, inner_mm: F32, spacing_mm: float) -> F32:
    """Mean error of bone as described by its two tables, near its surface.

    Args:
        bone_mm: (N, I, J, K) signed distances to the subjects' bone.
        outer_mm: distances to the outer table.
        inner_mm: distances to the inner table.
        spacing_mm: voxel edge.

    Returns:
        (I // 2 + 1, J, K) float32, mm: `TableModel.misfit_half`; 0 far from every subject's bone.
    """
    from scipy import ndimage

    # Bone lies where both distances are negative: their maximum is its signed distance.
    near = np.abs(bone_mm) < MISFIT_REACH_MM
    off = np.minimum(np.abs(np.maximum(outer_mm, inner_mm) - bone_mm), MISFIT_REACH_MM) * near
    # Summed over subjects and over both sides of the head, for the map is symmetric.
    total, count = (part + part[::-1] for part in (off.sum(axis=0), near.sum(axis=0, dtype=np.float32)))
    blurred = [ndimage.gaussian_filter(part, SMOOTH_MM / spacing_mm) for part in (total, count)]
    # The constant keeps voxels that no subject's bone comes near at 0.
    out = blurred[0] / (blurred[1] + np.float32(0.01))
    return np.asarray(out[len(out) // 2 :], np.float32)
