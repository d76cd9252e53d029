"""Metal in what was segmented as bone: plates, meshes, clips; reported, since nothing else would show it.

Cortical bone stays under 2000 HU but for the densest fraction of a millilitre (the ear's capsule, sharp kernels);
enamel reaches 3000, but lies where teeth are. Titanium, steel and ceramics lie above 2500, and where a plate is thinner
than the voxels, still above 2000. Plastics (PEEK, acrylic: 100 to 400 HU) have the values of bone.
"""

from __future__ import annotations

import numpy as np

from calvaria.types import F64
from calvaria.volume.components import label
from calvaria.volume.volume import Volume, bounding_box, indices_of

DENSE_HU, MIN_DENSE_ML = 2000.0, 3.0
"""A connected piece above this, of at least so much, is no bone: a real head has 0.2 ml above it in all."""

METAL_HU, MIN_METAL_ML = 2500.0, 0.5
"""A piece that has so much above this is metal: a real head has 0.02 ml above it in all."""

TEETH_BELOW_VERTEX_MM = 130.0
"""Metal in the front half, deeper below the highest bone than this, belongs to a tooth, not to the vault."""

MAX_REPORTED = 3
"""Number of pieces that get a line each, the largest first."""


def notes_on_metal(ct: Volume, bone: Volume, offset_hu: int = 0) -> list[str]:
    """A line for each piece of metal, or of something as dense, that was taken for bone; teeth are left out.

    Args:
        ct: the image, in HU + ``offset_hu``, world LPS, upright.
        bone: mask on its grid, what was taken for bone.
        offset_hu: what has to be taken from the values to have HU.

    Returns:
        Lines with position and size, the largest piece first; none for an ordinary head.
    """
    box = bounding_box(bone.mask)
    if box is None:
        return []
    hu = ct.crop(box)
    dense = bone.mask[box] & (hu.data > DENSE_HU + offset_hu)
    voxel_ml = ct.grid.voxel_volume_mm3 / 1000
    if np.count_nonzero(dense) * voxel_ml < MIN_METAL_ML:
        return []
    pieces, number = label(dense)
    index = indices_of(dense)
    piece = pieces[tuple(index.T)]
    over = hu.data[tuple(index.T)] > METAL_HU + offset_hu
    dense_ml = np.bincount(piece, minlength=number + 1) * voxel_ml
    metal_ml = np.bincount(piece, over, minlength=number + 1) * voxel_ml
    ends_mm = bone.grid.to_world(indices_of(bone.mask)[:: max(np.count_nonzero(bone.mask) // 100_000, 1)])
    low, high = ends_mm.min(axis=0), ends_mm.max(axis=0)
    found: list[tuple[float, F64]] = []
    for one in np.flatnonzero((dense_ml >= MIN_DENSE_ML) | (metal_ml >= MIN_METAL_ML)):
        centre = hu.grid.to_world(index[piece == one].mean(axis=0))
        if not (centre[2] < high[2] - TEETH_BELOW_VERTEX_MM and centre[1] < (low[1] + high[1]) / 2):
            found.append((float(dense_ml[one]), centre))
    found.sort(key=lambda one: -one[0])
    lines = [_line(ml, centre, (low + high) / 2) for ml, centre in found[:MAX_REPORTED]]
    if len(found) > MAX_REPORTED:
        lines.append(f"{len(found) - MAX_REPORTED} more pieces as dense as metal were counted as bone")
    return lines


def _line(ml: float, centre: F64, middle: F64) -> str:
    x, y, z = centre
    words = ("left" if x > middle[0] else "right", "back" if y > middle[1] else "front")
    place = f"{words[0]}, {words[1]}, {'upper' if z > middle[2] else 'lower'} part; {x:.0f} {y:.0f} {z:.0f} mm"
    return (
        f"{ml:.1f} ml as dense as metal (over {DENSE_HU:g} HU; {place}) were counted as bone: if it is an implant or a "
        "plate, take it out of the image first, or a hole that it covers is not found"
    )


__all__ = ["notes_on_metal"]
