"""Bone around a hole as the checks see it, found once for all implants that are designed for it.

Distances end after a few mm, so what lies farther off changes none: bone is looked at a little wider than one implant
needs, and serves the next one.
"""

from __future__ import annotations

import numpy as np

from calvaria.implant.measure import BONE_MM, REACH_MM, near_box, passed, way_field
from calvaria.implant.parts import Part
from calvaria.reconstruction.surface import BoneSurface
from calvaria.types import F64
from calvaria.volume.grid import Box
from calvaria.volume.volume import Volume

ALIGNED = 12
"""Boxes of voxels begin at a multiple of this, so that blocks of voxels are the same in all of them."""


class Around:
    """Bone's surface around one hole, and distances to it along the way in.

    Args:
        spare_mm: bone is looked at so much wider than the implant needs.
    """

    def __init__(self, spare_mm: float = 0.0) -> None:
        self._spare_mm = spare_mm
        self._bone: Volume | None = None
        self._box: Box | None = None
        self._surface: BoneSurface | None = None
        self._field: Volume | None = None

    def surface(self, part: Part, bone: Volume, travel_mm: float) -> BoneSurface:
        """Bone's surface, in the scan's own voxels, where an implant lies and where it passes when it is put in."""
        points = passed(part, travel_mm)
        needed = near_box(bone.grid, points, REACH_MM)
        if self._surface is None or self._bone is not bone or self._box is None or not _within(needed, self._box):
            self._bone, self._box = bone, _aligned(near_box(bone.grid, points, REACH_MM + self._spare_mm))
            self._surface, self._field = BoneSurface.of(bone.crop(self._box), BONE_MM), None
        return self._surface

    def way(self, low_mm: F64, high_mm: F64) -> Volume:
        """Distances to the last surface within a box of the world; see `measure.way_field`."""
        if self._surface is None:
            raise ValueError("there is no surface yet")
        if self._field is not None:
            first, last = (
                self._field.grid.to_world(np.array(at)) for at in ((0, 0, 0), np.array(self._field.shape) - 1)
            )
            if (first <= low_mm).all() and (high_mm <= last).all():
                return self._field
        self._field = way_field(self._surface, low_mm - self._spare_mm, high_mm + self._spare_mm)
        return self._field


def _within(inner: Box, outer: Box) -> bool:
    return all(a.start >= b.start and a.stop <= b.stop for a, b in zip(inner, outer, strict=True))


def _aligned(box: Box) -> Box:
    i, j, k = (slice(one.start // ALIGNED * ALIGNED, one.stop) for one in box)
    return i, j, k


__all__ = ["Around"]
