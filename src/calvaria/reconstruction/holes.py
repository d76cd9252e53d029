"""The holes that were filled, described in the words of a report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calvaria.volume.components import label
from calvaria.volume.volume import Volume, bounding_box

PIXEL_MM = 1.0
"""Resolution at which the opening's area is counted, where voxels are not coarser."""


@dataclass(frozen=True)
class Hole:
    """One piece of missing bone.

    Args:
        volume_ml: volume of the piece.
        area_cm2: area of its outline, seen along its thinnest direction.
        centre_mm: (x, y, z) centre of mass, world LPS mm.
    """

    volume_ml: float
    area_cm2: float
    centre_mm: tuple[float, float, float]


def holes_in(patch: Volume) -> tuple[Hole, ...]:
    """The separate pieces of a patch, largest first; none for an empty patch."""
    box = bounding_box(patch.mask)
    if box is None:
        return ()
    part = patch.crop(box)
    labels, count = label(part.mask, connectivity=6)  # as post-processing tells pieces apart
    holes = [_describe(part, labels == number) for number in range(1, count + 1)]
    return tuple(sorted(holes, key=lambda hole: -hole.volume_ml))


def _describe(part: Volume, piece: np.ndarray) -> Hole:
    points = part.grid.to_world(np.argwhere(piece))
    centre = points.mean(axis=0)
    volume_ml = len(points) * part.grid.voxel_volume_mm3 / 1000
    some = points[:: max(1, len(points) // 20000)]
    _, axes = np.linalg.eigh(np.cov((some - centre).T) if len(some) > 1 else np.eye(3))
    pixel_mm = max(PIXEL_MM, *part.grid.spacing_mm)  # smaller pixels would show gaps between coarse voxels
    pixel = np.floor((points - centre) @ axes[:, 1:] / pixel_mm).astype(int)
    pixel -= pixel.min(axis=0)
    seen = np.zeros(pixel.max(axis=0) + 1, bool)
    seen[pixel[:, 0], pixel[:, 1]] = True
    area_mm2 = int(np.count_nonzero(seen)) * pixel_mm**2
    x, y, z = (round(float(v), 2) for v in centre)
    return Hole(round(volume_ml, 3), round(area_mm2 / 100, 2), (x, y, z))
