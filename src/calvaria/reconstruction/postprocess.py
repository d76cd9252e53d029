"""From the soft field in the common box to a patch on the input's own grid."""

from __future__ import annotations

import numpy as np

from calvaria.reconstruction.box import box_grid, box_to_world
from calvaria.reconstruction.protocol import SoftField
from calvaria.reconstruction.surface import crossings, gradients
from calvaria.skull.canonical import CanonicalFrame
from calvaria.types import F64, BoolArray
from calvaria.volume.components import label
from calvaria.volume.gather import trilinear_at
from calvaria.volume.grid import Box, Grid
from calvaria.volume.morphology import dilate_mm, erode_mm
from calvaria.volume.sampler import known_mask
from calvaria.volume.volume import Volume, bounding_box

MARGIN_MM = 3.0
"""Room kept around the missing bone when the input's grid is cropped."""

EDGE_MM = 0.8
"""Value of the field outside the region where bone is predicted: half a voxel, so that the cut lies at its edge."""

FLAKE_MM = 0.6
"""Sheets of the patch thinner than twice this are dropped where they spread over bone, away from the body."""

REACH_MM = 1.2
"""How far beyond the body a thin edge may run: the rim tapers, it does not spread."""

SPECK_ML = 0.02
"""... and of what the user points at those smaller than this: a few voxels."""

BLOCK = 16
"""Voxels along the edge of the blocks in which a field is read."""

MIN_PIECE_ML = 0.5
"""Loose pieces smaller than this are dropped; a hole that matters needs more bone."""


def to_patch(
    soft: SoftField, frame: CanonicalFrame, defective: Volume, within: BoolArray | None = None, *, narrow: bool = False
) -> Volume:
    """The missing bone on the input's grid.

    The field is interpolated (trilinear) at the input's voxels and cut at zero there; nothing is set where bone is or
    where the scan shows nothing; thin flakes over the bone's surface and small loose pieces are removed.

    Args:
        soft: an engine's answer.
        frame: where the common box lies in the world.
        defective: bone on the input's grid.
        within: bool on that grid: the patch keeps to it; None: anywhere.
        narrow: slits and small pieces stay too: for what the user points at.

    Returns:
        A mask on the input's grid; empty if the region is.
    """
    out = np.zeros(defective.shape, bool, order="F" if defective.data.flags.f_contiguous else "C")
    patch = Volume(out, defective.grid)
    # Outside the region nothing is added: there the field is air, from the region's edge on.
    distance = np.where(soft.region, soft.distance_mm, np.maximum(soft.distance_mm, EDGE_MM))
    box = reached(distance < 0, frame, defective.grid)
    if box is None:
        return patch
    part = defective.crop(box)
    place = box_grid().moved(box_to_world(frame))
    missing = below_zero(Volume(distance, place), part.grid) & ~part.mask
    if frame.cuts:
        missing &= known_mask(part, [cut.moved(frame.to_world) for cut in frame.cuts])
    if within is not None:
        missing &= within[box]
    deep = None
    if narrow:
        # Flakes lie as deep as they are thick; the middle of a slit, however narrow, as deep as the bone beside it.
        deep = missing & below_zero(Volume(distance + np.float32(2 * FLAKE_MM), place), part.grid)
    out[box] = without_flakes(Volume(missing, part.grid), deep, SPECK_ML if narrow else MIN_PIECE_ML)
    return patch


def surface_of(soft: SoftField, frame: CanonicalFrame) -> tuple[F64, F64]:
    """The completed skull's surface in the region of a soft field, between its nodes.

    Args:
        soft: an engine's answer.
        frame: where the common box lies in the world.

    Returns:
        (N, 3) points, world mm, and (N, 3) unit normals out of the bone.
    """
    grid = box_grid().moved(box_to_world(frame))
    # Outside of the region the field says nothing: from its edge on there is air, whose surface is the region's edge.
    distance = np.where(soft.region, soft.distance_mm, np.maximum(soft.distance_mm, EDGE_MM)).astype(np.float32)
    index = crossings(distance, 0.0)
    normals = gradients(distance, index) @ grid.inverse[:3, :3]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    return grid.to_world(index.T), normals


def reached(bone: BoolArray, frame: CanonicalFrame, grid: Grid) -> Box | None:
    """The part of a grid that voxels of the box reach, with a margin; None if they reach nothing."""
    inner = bounding_box(bone)
    if inner is None:
        return None
    corners = box_grid().crop(inner).moved(box_to_world(frame)).corners_mm()
    index = grid.to_index(corners)
    margin = MARGIN_MM / np.asarray(grid.spacing_mm)
    low = np.clip(np.floor(index.min(axis=0) - margin), 0, grid.shape).astype(int)
    high = np.clip(np.ceil(index.max(axis=0) + margin) + 1, 0, grid.shape).astype(int)
    if (high <= low).any():
        return None
    a, b, c = (slice(int(i), int(j)) for i, j in zip(low, high, strict=True))
    return a, b, c


def below_zero(field: Volume, grid: Grid) -> BoolArray:
    """Where a field, read trilinear at a grid's voxel centres, is negative; outside the field it is not.

    Only blocks of voxels that some negative value can reach are read: a patch is a thin, curved plate in a large box.
    """
    from scipy import ndimage

    to_field = field.grid.inverse @ grid.affine
    half = np.abs(to_field[:3, :3]).sum(axis=1) * (BLOCK - 1) / 2
    reach = [2 * int(np.ceil(h + 1)) + 1 for h in half]
    near = ndimage.minimum_filter(field.data, reach, mode="nearest") < 0
    starts = np.stack(np.meshgrid(*(np.arange(0, n, BLOCK) for n in grid.shape), indexing="ij")).reshape(3, -1)
    middle = np.rint(to_field[:3, :3] @ (starts + (BLOCK - 1) / 2) + to_field[:3, 3:]).astype(int)
    starts = starts[:, near[tuple(np.clip(middle, 0, np.array(near.shape)[:, None] - 1))]]
    steps = np.indices((BLOCK, BLOCK, BLOCK)).reshape(3, -1)
    out = np.zeros(grid.shape, bool)
    for some in np.array_split(starts, max(1, starts.shape[1] // 64), axis=1):
        index = (some[:, :, None] + steps[:, None]).reshape(3, -1)
        index = index[:, (index < np.array(grid.shape)[:, None]).all(axis=0)]
        values = trilinear_at(field.data.reshape(-1), field.shape, to_field[:3, :3] @ index + to_field[:3, 3:])
        out[tuple(index)] = values < 0
    return out


def without_flakes(missing: Volume, deep: BoolArray | None = None, min_ml: float = MIN_PIECE_ML) -> BoolArray:
    """The mask without thin sheets away from its body, and without small pieces.

    An opening by ``FLAKE_MM`` finds the body; thin parts stay only within ``REACH_MM`` of it, so that the rim keeps
    its exact edge against the bone.

    Args:
        missing: mask.
        deep: bool on its grid: what belongs to the body even where it is thin.
        min_ml: loose pieces smaller than this are dropped.
    """
    box = bounding_box(missing.mask, (1, 1, 1))
    out = np.zeros(missing.shape, bool)
    if box is None:
        return out
    # A border of air, so that the body does not end where the crop does.
    part = missing.crop(box).pad((1, 1, 1), (1, 1, 1), False)
    core = erode_mm(part, FLAKE_MM)
    if deep is not None:
        core = core.with_data(core.mask | Volume(deep, missing.grid).crop(box).pad((1, 1, 1), (1, 1, 1), False).mask)
    if not core.mask.any():
        return out
    kept = part.mask & dilate_mm(core, FLAKE_MM + REACH_MM).mask
    # Joined by faces: what hangs on an edge or a corner would be a loose shell in print.
    labels, count = label(kept, connectivity=6)
    sizes = np.bincount(labels.ravel(), minlength=count + 1) * missing.grid.voxel_volume_mm3 / 1000
    sizes[0] = 0
    out[box] = (sizes >= min_ml)[labels][1:-1, 1:-1, 1:-1]
    return out
