"""Metal that was taken for bone: plates, meshes, screws, clips; taken out together with its bloom.

Cortical bone stays under 2000 HU but for the densest fraction of a millilitre (the ear's capsule, sharp kernels);
enamel reaches 3000, but lies where teeth are. Titanium, steel and ceramics lie above 2500, and where a plate is thinner
than the voxels, still above 2000. Bone under a plate stays, and so does what a screw goes through.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calvaria.skull.foreign.pieces import Middle
from calvaria.types import F64, BoolArray
from calvaria.volume.components import label
from calvaria.volume.grid import Box
from calvaria.volume.volume import Volume, bounding_box, indices_of

DENSE_HU, MIN_DENSE_ML = 2000.0, 3.0
"""A connected piece above this, of at least so much, is hardly bone: a real head has 0.2 ml above it in all."""

METAL_HU, MIN_METAL_ML = 2500.0, 0.06
"""A piece that has so much above this is metal: a real head has 0.02 ml above it in all."""

TEETH_BELOW_VERTEX_MM = 130.0
"""Metal in the front half, deeper below the highest bone than this, belongs to a tooth, not to the vault."""

BLOOM_MM = 2.4
"""So far from metal, what has the values of bone may be its bloom."""

MAX_STEP_MM = 2.0
"""Thicker slices count as so thick: metal's partial volume reaches one slice up and down."""

FILLED_MM = 3.5
"""Metal within bone, up to twice as wide (a screw, a pin), stays: it leaves no hole to be found."""


class MetalPiece(NamedTuple):
    """A piece of metal in the bone.

    Args:
        ml: of it above ``DENSE_HU``.
        taken_ml: how much left the bone with it; 0 where it is dense, but not surely metal.
        centre_mm: (3,) world LPS.
        hu: median.
    """

    ml: float
    taken_ml: float
    centre_mm: F64
    hu: float


def metal_in(ct: Volume, bone: Volume, offset_hu: float) -> tuple[BoolArray | None, list[MetalPiece]]:
    """What has to leave the bone, and the pieces of metal, the largest first; teeth are left out.

    Args:
        ct: in HU + ``offset_hu``, world LPS, upright.
        bone: mask on its grid.
        offset_hu: what has to be taken from the values to have HU.

    Returns:
        (I, J, K) what metal and its bloom take from the bone (None: no metal), and the pieces.
    """
    dense = bone.mask & (ct.data > DENSE_HU + offset_hu)
    voxel_ml = ct.grid.voxel_volume_mm3 / 1000
    box = bounding_box(dense)
    if box is None or np.count_nonzero(dense) * voxel_ml < MIN_METAL_ML:
        return None, []
    pieces, number = label(dense[box])
    index = indices_of(dense[box])
    piece = pieces[tuple(index.T)]
    values = ct.data[box][tuple(index.T)].astype(np.float32) - np.float32(offset_hu)
    dense_ml = np.bincount(piece, minlength=number + 1) * voxel_ml
    metal_ml = np.bincount(piece, values > METAL_HU, minlength=number + 1) * voxel_ml
    part = ct.grid.crop(box)
    taken: BoolArray | None = None
    found = []
    middle = Middle.of(bone)
    for one in np.flatnonzero((dense_ml >= MIN_DENSE_ML) | (metal_ml >= MIN_METAL_ML)):
        own = piece == one
        centre = part.to_world(index[own].mean(axis=0))
        in_front = centre[1] < (middle.low_mm[1] + middle.high_mm[1]) / 2
        if in_front and centre[2] < middle.high_mm[2] - TEETH_BELOW_VERTEX_MM:
            continue
        taken = np.zeros(bone.shape, bool, "F" if bone.mask.flags.f_contiguous else "C") if taken is None else taken
        lost_ml = 0.0
        if metal_ml[one] >= MIN_METAL_ML:
            core = np.zeros(part.shape, bool)
            core[tuple(index[own & (values > METAL_HU)].T)] = True
            where, gone = _taken(core, box, bone, dense)
            taken[where] |= gone
            lost_ml = np.count_nonzero(gone) * voxel_ml
        found.append(MetalPiece(float(dense_ml[one]), lost_ml, centre, float(np.median(values[own]))))
    return taken, sorted(found, key=lambda one: -one.ml)


def _taken(core: BoolArray, box: Box, bone: Volume, dense: BoolArray) -> tuple[Box, BoolArray]:
    """Where one piece of metal lies, and what it takes from the bone there.

    Args:
        core: in the box, above ``METAL_HU``.
        box: in the grid of the bone.
        bone: mask.
        dense: above ``DENSE_HU``, in the grid of the bone.
    """
    from scipy.ndimage import distance_transform_edt

    step = np.minimum(bone.grid.spacing_mm, MAX_STEP_MM)
    inner = bounding_box(core) or box
    room = np.ceil((BLOOM_MM + 2 * FILLED_MM + 2) / step).astype(int)
    low = [b.start + p.start - r for b, p, r in zip(box, inner, room, strict=True)]
    high = [b.start + p.stop + r for b, p, r in zip(box, inner, room, strict=True)]
    i, j, k = (slice(max(a, 0), min(b, n)) for a, b, n in zip(low, high, bone.shape, strict=True))
    where: Box = (i, j, k)
    metal = np.zeros(bone.mask[where].shape, bool)
    inside = tuple(
        slice(b.start + p.start - w.start, b.start + p.stop - w.start)
        for b, p, w in zip(box, inner, where, strict=True)
    )
    metal[inside] = core[inner]
    solid = bone.mask[where]
    # Dense bone may touch metal: only what is near is metal, too.
    metal |= dense[where] & (distance_transform_edt(~metal, sampling=step) <= BLOOM_MM)
    zone = solid & (distance_transform_edt(~metal, sampling=step) <= BLOOM_MM)
    clean = solid & ~zone
    if not clean.any():
        return where, zone
    # The bone beneath grows back through the bloom, up to the metal.
    clean |= zone & ~metal & (distance_transform_edt(~clean, sampling=step) <= BLOOM_MM)
    # What lies between bone and bone, nearer than twice FILLED_MM, is bone with a screw in it.
    wide = distance_transform_edt(~clean, sampling=step) <= FILLED_MM
    # Beyond the box, bone goes on.
    closed = distance_transform_edt(np.pad(wide, 1, mode="edge"), sampling=step)[1:-1, 1:-1, 1:-1] > FILLED_MM
    return where, zone & ~clean & ~closed


__all__ = ["DENSE_HU", "MetalPiece", "metal_in"]
