"""The statistical shape model: a mean skull, the modes in which skulls differ, and how deep bone usually is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from calvaria.errors import InputError
from calvaria.reconstruction.shape_prior.modes import Arrays, Modes, check_half, packed, unpacked, whole
from calvaria.types import F32

MODEL_SPACING_MM = 2.4
"""Voxel edge of mean and modes: thresholding a true skull read from it costs 0.006 DSC; 3.2 mm cost 0.01 in the thin
bone of brow and temple."""

MODEL_TRUNCATION_MM = 10.0
"""Distances of the examples are cut off here before the modes are taken."""

MAX_MODES = 140
"""Modes kept; 60 or 200 change nothing that validation shows."""

ONE_PLATE_MM = 5.0
"""Bone within this distance is taken for one plate."""

DEPTH_STEPS = 20
"""The usual depth is stored in steps of a 20th of a mm; deeper than 6 mm is solid bone."""


MIN_PLATE_DEPTH_MM = -0.8
"""Usual depths above this are those of thin lamellae, which may well be absent."""

MAX_THICKENING_MM = 4.0
"""A plate is thickened by this at most: what would need more is no plate."""


@dataclass(frozen=True, eq=False)
class ShapeModel(Modes):
    """Mean and modes of the signed distance to bone, mm, negative in it.

    Args:
        depth_half: (I // 2 + 1, J, K) float32, mm: the usual depth of the nearest bone, the median over subjects of the
            smallest distance within 5 mm; negative, minus half the thickness of a plate.
    """

    depth_half: F32

    @classmethod
    def of(cls, modes: Modes, depth_half: F32) -> ShapeModel:
        """The model of some modes of the signed distance."""
        kept = modes.mean_half, modes.codes, modes.step_mm, modes.parity
        return cls(*kept, modes.spacing_mm, modes.subjects, np.minimum(depth_half, 0))

    @cached_property
    def depth(self) -> F32:
        """(I, J, K) the usual depth of the nearest bone on the whole grid, mm."""
        return whole(self.depth_half)

    def to_arrays(self) -> Arrays:
        """The model as integer arrays, for a safetensors file."""
        depth = np.clip(np.round(self.depth_half * DEPTH_STEPS), -127, 0).astype(np.int8)
        return {**packed(self), "depth": depth}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> ShapeModel:
        """The model that `to_arrays` wrote.

        Raises:
            InputError: the arrays are of another kind of model, or do not fit together.
        """
        modes = unpacked(arrays)
        if "depth" not in arrays:
            raise InputError("these weights are no shape model: 'depth'")
        depth = arrays["depth"].astype(np.float32) / np.float32(DEPTH_STEPS)
        check_half(depth, modes.spacing_mm)
        return cls.of(modes, depth)


def bone_depth(distance_mm: F32, spacing_mm: float) -> F32:
    """The smallest signed distance within 5 mm, smoothed: minus half the thickness of the nearest plate.

    Args:
        distance_mm: (I, J, K) float32, signed distance, negative in bone.
        spacing_mm: voxel edge.
    """
    from scipy import ndimage

    # A ball, not a cube: a plate is equally thick in whatever direction it runs.
    reach = round(ONE_PLATE_MM / spacing_mm)
    ball = np.indices((2 * reach + 1,) * 3) - reach
    footprint = (ball**2).sum(axis=0) * spacing_mm**2 <= ONE_PLATE_MM**2 + 1e-6
    smallest = ndimage.minimum_filter(distance_mm, footprint=footprint)
    # Smoothed, since a minimum filter has edges where two plates are equally deep.
    return np.asarray(ndimage.gaussian_filter(smallest, ONE_PLATE_MM / 2 / spacing_mm))


def plate_lack(depth_mm: F32, usual_mm: F32, share: float) -> F32:
    """How much deeper a field must get for its plates to keep a share of their usual depth.

    A sum of signed distances of thin shells that do not quite coincide never gets as negative as each of them: where
    the examples disagree by more than the bone's thickness, the sum stays positive and the plate has a gap, though its
    valley still shows where the plate runs.

    Args:
        depth_mm: (I, J, K) `bone_depth` of a prediction.
        usual_mm: (I, J, K) usual depth of the nearest plate.
        share: part of the usual depth that is kept, 0 to 1.

    Returns:
        (I, J, K) mm to subtract, 0 to `MAX_THICKENING_MM`; 0 where plates are usually thin lamellae.
    """
    lack = np.clip(depth_mm - share * usual_mm, 0.0, MAX_THICKENING_MM)
    return np.where(usual_mm < MIN_PLATE_DEPTH_MM, lack, np.float32(0))
