"""How much of each voxel of a CT is bone: where bone ends between voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calvaria.skull.halfway import Edges, over_neighbours
from calvaria.volume.grid import Box
from calvaria.volume.volume import Volume, indices_of

SPAN_HU = 300.0
"""Values so far above the threshold, and more, are bone throughout; as far below, none. The surface, at a half, is
where the scan itself crosses the threshold, whatever the span."""

SIDE = 0.02
"""Voxels of the mask are at least so much more than half bone, the others so much less: what was segmented stays so."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A CT and the value that divides its bone from the rest.

    Args:
        volume: as it was read.
        threshold: in its own values.
        edges: how high bone's edges are, where bone ends half way up; None: it ends at the threshold everywhere.
    """

    volume: Volume
    threshold: float
    edges: Edges | None = None

    def fraction(self, bone: Volume, box: Box) -> Volume:
        """Bone fractions in a box of the scan's grid.

        Args:
            bone: the mask that was segmented out of it, on the whole grid.
            box: which part.

        Returns:
            float32, 0 to 1, above a half just where the mask is.
        """
        mask = bone.mask[box]
        # Values away from the bone are those of tissue, of a head rest, of a plate: they move no surface. Nor do those
        # of marrow deep in bone.
        near, deep = mask, mask
        for axis in range(3):
            near, deep = over_neighbours(np.logical_or, near, axis), over_neighbours(np.logical_and, deep, axis)
        index = tuple(indices_of(near & ~deep).T)
        values = self.volume.data[box][index].astype(np.float32)
        grid = self.volume.grid.crop(box)
        if self.edges is None:
            share = 0.5 + (values - np.float32(self.threshold)) / np.float32(2 * SPAN_HU)
        else:
            level, height = self.edges.at(grid.to_world(np.stack(index, axis=1)))
            share = 0.5 + (values - level) / height
        share = np.clip(share, 0.0, 1.0)
        out = deep.astype(np.float32)
        out[index] = np.where(mask[index], np.maximum(share, 0.5 + SIDE), np.minimum(share, 0.5 - SIDE))
        return Volume(out, grid)


__all__ = ["Scan"]
