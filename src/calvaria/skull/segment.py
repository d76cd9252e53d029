"""Where the bone is in a CT.

A threshold finds the bone: it lies above a number of HU, belongs to the head and is connected. The head is the largest
piece of tissue after a morphological opening has removed thin things (head rest, table top, tubes, a blanket). Then
bone is drawn in to half of its edge (`calvaria.skull.halfway`), unless the user gave the threshold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.skull.foreign.find import without_foreign
from calvaria.skull.foreign.pieces import ForeignPiece
from calvaria.skull.halfway import Edges, draw_in
from calvaria.skull.kinds import UNSIGNED_OFFSET_HU, ct_offset_hu, kind_of, require_numbers, what_else
from calvaria.skull.partial import Scan
from calvaria.skull.vault import require_vault
from calvaria.types import BoolArray
from calvaria.volume.blocks import coarsen, grid_of_blocks
from calvaria.volume.grid import Box, Grid
from calvaria.volume.volume import Volume, bounding_box

BONE_HU = 250.0
"""Bone lies above this, and its surface there or further in. The usual choices are 150-300: brain and muscle stay under
100, a haemorrhage under 100, and a plate a third as thick as the slices still reaches it."""

TISSUE_HU = -300.0
"""Head, with its fat, lies above this; air and foam below."""

COARSE_MM = 2.5
"""The head is found on blocks of about this size."""

THIN_MM = 6.0
"""Half the thickness under which tissue is taken for a support or a tube and removed by the opening."""

HEAD_REACH_MM = 30.0
"""Bone is segmented up to this far from the head's core: the opening has removed the sinuses and the nose."""

MIN_HEAD_ML, MIN_BONE_ML = 200.0, 10.0
"""Less tissue or bone than this is no head: a child's braincase alone holds more."""

GAP_MM = 1.6
"""Bone pieces are one piece when they meet on blocks of about this size: sutures and thin plates stay together."""

NOISY_HU = 40.0
"""Noise above which the image is smoothed first: the brain is then less than five deviations below bone."""

SMOOTHING_MM = 0.6
"""Standard deviation of that smoothing."""


THRESHOLDS_HU = (100.0, 1500.0)
"""A threshold outside of this is soft tissue, or leaves nothing of a vault."""

MIN_BONE_PEAK_HU = 300.0
"""An image whose values all stay under this on the HU scale, at the usual threshold, is not in HU."""

HEAD_MM, MAX_HEAD_MM = 280.0, 350.0
"""A skull with its jaw is up to 260 mm long in any direction. Bone longer than the first holds a neck, longer than the
second a trunk, whose bones outweigh the head's."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The bone of a head.

    Args:
        bone: a mask on the grid of the input, not empty.
        threshold_hu: bone lies above it; None for a mask that was given.
        notes: lines on what is doubtful: metal, implants and flaps in the bone, a neck, values that are no head CT's.
            They do not name the file.
        scan: the CT, for where bone ends between its voxels; None for a mask that was given.
        foreign: what is not this skull's intact bone, in numbers.
    """

    bone: Volume
    threshold_hu: float | None
    notes: tuple[str, ...] = ()
    scan: Scan | None = None
    foreign: tuple[ForeignPiece, ...] = ()


def segment_bone(
    ct: Volume, threshold_hu: float | None = None, name: str = "the CT", *, stated: bool = False
) -> Segmentation:
    """The bone of the head in a CT.

    Everything above the threshold that is connected (over gaps of about 1.6 mm) to most of the head's bone, as far out
    as half of its edge. Head rest, table and whatever else lies around the head are left out; noisy images are
    smoothed lightly first.

    Args:
        ct: in HU, or HU + 1024 (recognised). Any orthogonal or sheared grid. Large volumes are processed
            in slabs: extra memory is about five bytes a voxel of the head.
        threshold_hu: bone ends at it, everywhere; None: it ends half way up its edge, at ``BONE_HU`` or above.
        name: of the file or case, for messages.
        stated: the user said that it is a CT: what does not look like one is a note and no error, and where there is
            no head of soft tissue, the largest piece of bone is taken for a dry skull or a replica.

    Returns:
        The bone, on the grid of ``ct``, and what is doubtful.

    Raises:
        InputError: not a CT (or stated, and without values above the threshold), a threshold outside of
            ``THRESHOLDS_HU``, no head, no bone in it, or more than a head.
    """
    threshold = BONE_HU if threshold_hu is None else threshold_hu
    if not THRESHOLDS_HU[0] <= threshold <= THRESHOLDS_HU[1]:
        low, high = THRESHOLDS_HU
        raise InputError(f"{name}: a bone threshold lies from {low:g} to {high:g} HU; got {threshold:g}")
    offset, notes = _offset_hu(ct, name, stated=stated)
    if stated:
        _require_bone_values(ct, offset, threshold_hu, name)
    core = _head_core(ct, offset, threshold + offset, name, required=not stated)
    # A dry skull has no core of soft tissue: the whole volume is searched.
    box = _box_around(core, ct.grid) if core is not None else (slice(None), slice(None), slice(None))
    part = ct.crop(box)
    bone = _above(part, threshold + offset, _noise_hu(part, offset))
    _keep_main_piece(bone, part.grid, core)
    found = Volume(bone, part.grid)
    if found.volume_ml < MIN_BONE_ML:
        raise InputError(
            f"{name}: no skull found: {found.volume_ml:.1f} ml above {threshold:g} HU are connected in the head, at "
            f"least {MIN_BONE_ML:g} are wanted; lower the threshold, or check that the scan shows the head"
        )
    if core is None:
        notes.append("there is no head of soft tissue: taken for a dry skull or a replica, its largest piece is used")
    notes += _notes_on_length(found, name)
    clean = without_foreign(part, found, offset, threshold, keep=threshold_hu is not None)
    edges = Edges.of(part, offset, threshold + offset) if threshold_hu is None else None
    if edges is not None:
        draw_in(clean.bone.mask, part, edges)
    whole = np.zeros(ct.shape, bool, _order(ct.data))
    whole[box] = clean.bone.mask
    notes += clean.notes
    scan = Scan(ct, threshold + offset, edges)
    return Segmentation(ct.with_data(whole), threshold, tuple(notes), scan, clean.pieces)


def _offset_hu(ct: Volume, name: str, *, stated: bool) -> tuple[int, list[str]]:
    """What has to be taken from the values to have HU, and what is doubtful of that."""
    if not ct.is_mask:
        require_numbers(ct, name)
    offset = ct_offset_hu(ct)
    if offset is not None:
        return offset, []
    if ct.is_mask or not stated:
        kind_of(ct, name)  # says what else it looks like
        raise InputError(f"{name}: a CT in Hounsfield units is wanted here; this is a mask: use it as the skull itself")
    low, high = float(ct.data.min()), float(ct.data.max())
    unsigned = low >= 0 and high >= UNSIGNED_OFFSET_HU + MIN_BONE_PEAK_HU
    scale = f"HU + {UNSIGNED_OFFSET_HU}" if unsigned else "HU"
    return UNSIGNED_OFFSET_HU if unsigned else 0, [
        f"the values ({low:g} to {high:g}) do not look like a living head's CT; as it is said to be one, they are "
        f"taken for {scale}"
    ]


def _require_bone_values(ct: Volume, offset: int, threshold_hu: float | None, name: str) -> None:
    """Raise where no threshold in HU can find bone in what is said to be a CT."""
    highest = float(ct.data.max()) - offset
    wanted = MIN_BONE_PEAK_HU if threshold_hu is None else threshold_hu
    if highest <= wanted:
        raise InputError(
            f"{name}: said to be a CT, but no value is above {wanted:g} HU (the highest is {highest:g}), so no bone: "
            f"{what_else(ct)}"
        )


def _notes_on_length(bone: Volume, name: str) -> list[str]:
    """A line if a neck hangs on the skull.

    Raises:
        InputError: a trunk does.
    """
    box = bounding_box(bone.mask)
    sides = [(p.stop - p.start) * s for p, s in zip(box or (), bone.grid.spacing_mm, strict=False)]
    longest = max(sides, default=0.0)
    if longest > MAX_HEAD_MM:
        raise InputError(
            f"{name}: the connected bone is {longest:.0f} mm long, a skull at most {HEAD_MM:.0f}: the scan "
            "shows more of the body than the head; crop it to the head"
        )
    if longest > HEAD_MM:
        return [f"the bone is {longest:.0f} mm long, more than a skull: crop it to the head if the patch is wrong"]
    return []


def _order(data: NDArray[Any]) -> Literal["C", "F"]:
    return "F" if abs(data.strides[0]) < abs(data.strides[2]) else "C"


def _slabs(data: NDArray[Any], thickness: int = 16) -> Iterator[tuple[Box, NDArray[Any]]]:
    """Views of slices that lie together in memory, with their boxes."""
    slow = int(np.argmax(np.abs(data.strides)))
    for start in range(0, data.shape[slow], thickness):
        i, j, k = (slice(start, start + thickness) if axis == slow else slice(None) for axis in range(3))
        yield (i, j, k), data[i, j, k]


def _head_core(ct: Volume, offset: int, threshold: float, name: str, *, required: bool) -> Volume | None:
    """The head without what is thin, on blocks of about COARSE_MM; a mask. None where there is none and none is wanted.

    Raises:
        InputError: there is none, and one is required; or it is a trunk.
    """
    from scipy.ndimage import distance_transform_edt, label

    coarse = coarsen(ct, COARSE_MM)
    tissue = coarse.data > TISSUE_HU + offset
    # Beyond the scan's ends there is no outside: nothing is opened away there.
    grid = coarse.grid
    # Tissue deeper than the opening's radius: what is thinner than twice that has none.
    depth = distance_transform_edt(tissue, sampling=grid.spacing_mm)
    pieces, number = label(depth > THIN_MM)
    sizes = np.bincount(pieces.ravel())[1:]
    if not number or sizes.max() * grid.voxel_volume_mm3 / 1000 < MIN_HEAD_ML:
        found = sizes.max() * grid.voxel_volume_mm3 / 1000 if number else 0.0
        if not required:
            return None
        raise InputError(
            f"{name}: no head found: the largest piece of tissue holds {found:.0f} ml, at least {MIN_HEAD_ML:g} are "
            "wanted; check that the scan shows a head and that its values are Hounsfield units, or say --kind ct if it "
            "is a dry skull"
        )
    core = Volume(pieces == 1 + int(np.argmax(sizes)), grid)
    require_vault(coarse, core, threshold, name)
    return core


def _box_around(core: Volume, grid: Grid) -> Box:
    """The core's box in the full grid, wider by what the opening took and HEAD_REACH_MM."""
    inner = bounding_box(core.mask)
    if inner is None:
        return (slice(0, grid.shape[0]), slice(0, grid.shape[1]), slice(0, grid.shape[2]))
    # (2, 3) outer faces of the outermost coarse voxels, then in indices of the full grid.
    ends = np.array([[p.start - 0.5 for p in inner], [p.stop - 0.5 for p in inner]])
    ends = grid.to_index(core.grid.to_world(ends))
    reach = HEAD_REACH_MM / np.array(grid.spacing_mm)
    starts = np.clip(np.floor(ends[0] - reach), 0, grid.shape).astype(int)
    stops = np.clip(np.ceil(ends[1] + reach) + 1, 0, grid.shape).astype(int)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True))
    return i, j, k


def _noise_hu(part: Volume, offset: int) -> float:
    """Standard deviation of the noise in soft tissue, from differences 3 voxels apart; 0 where there is none."""
    # Within slices that lie together in memory; (slices, rows, columns).
    slow = int(np.argmax(np.abs(part.data.strides)))
    slices = np.moveaxis(part.data, slow, 0)
    middle = slices[:: max(len(slices) // 16, 1)].astype(np.float32) - offset
    # Neighbours share noise through the reconstruction kernel; voxels 3 apart hardly do.
    before, after = middle[:, :-3], middle[:, 3:]
    pairs = (np.abs(before + after - 80) < 160) & (np.abs(before - after) < 400)
    if np.count_nonzero(pairs) < 1000:
        return 0.0
    # Median absolute difference to standard deviation, and two noisy values in each difference.
    return float(1.4826 * np.median(np.abs(before[pairs] - after[pairs])) / np.sqrt(2))


def _above(part: Volume, threshold: float, noise_hu: float) -> BoolArray:
    """Where the values, smoothed if they are noisy, are over a threshold; in slabs."""
    from scipy.ndimage import gaussian_filter

    data = part.data
    # In the memory order of the input: slabs are then runs of memory in both.
    bone = np.zeros(data.shape, bool, _order(data))
    if noise_hu <= NOISY_HU:
        # Whole values are compared as they are stored: over 250.5 is over 250.
        limit = np.floor(threshold) if np.issubdtype(data.dtype, np.integer) else threshold
        for box, slab in _slabs(data):
            np.greater(slab, data.dtype.type(limit), out=bone[box])
        return bone
    sigma = [SMOOTHING_MM / s for s in part.grid.spacing_mm]
    slow = int(np.argmax(np.abs(data.strides)))
    # As far as the truncated Gaussian reaches, so that slabs meet without seams.
    halo = int(np.ceil(3 * sigma[slow]))
    for box, _ in _slabs(data, 32):
        start, stop, _ = box[slow].indices(data.shape[slow])
        # The slab with its halo, of which only the inner part is kept.
        wide = slice(max(start - halo, 0), min(stop + halo, data.shape[slow]))
        around = tuple(wide if axis == slow else slice(None) for axis in range(3))
        smooth = gaussian_filter(data[around].astype(np.float32), sigma, truncate=3.0)
        inner = tuple(
            slice(start - wide.start, stop - wide.start) if axis == slow else slice(None) for axis in range(3)
        )
        bone[box] = smooth[inner] > threshold
    return bone


def _keep_main_piece(bone: BoolArray, grid: Grid, core: Volume | None) -> None:
    """Clear, in place, all but the piece that holds most of the bone (near the head's core, if there is one)."""
    from scipy.ndimage import distance_transform_edt, label

    i, j, k = factors = tuple(max(round(GAP_MM / s), 1) for s in grid.spacing_mm)
    count = np.zeros([-(-n // f) for n, f in zip(grid.shape, factors, strict=True)], np.uint16, _order(bone))
    # Voxels of bone in each block, by adding strided views: no copy of the volume.
    for start in product(range(i), range(j), range(k)):
        piece = bone[tuple(slice(s, None, f) for s, f in zip(start, factors, strict=True))]
        count[tuple(slice(0, n) for n in piece.shape)] += piece
    blocks = grid_of_blocks(grid, count.shape, factors)
    # Blocks that meet at an edge or corner are connected, too.
    pieces, number = label(count > 0, np.ones((3, 3, 3)))
    if not number:
        return
    index = np.stack(np.nonzero(count))
    weight = count[tuple(index)].astype(np.float64)
    if core is not None:
        # A table full of metal may hold more bone-like voxels than the head: only those near the head count.
        near = distance_transform_edt(~core.mask, sampling=core.grid.spacing_mm) <= 2 * THIN_MM
        at = np.rint(core.grid.to_index(blocks.to_world(index.T))).astype(int).T
        # Blocks beyond the core's grid take the value of its nearest edge.
        weight *= near[tuple(np.clip(at, 0, np.array(core.shape)[:, None] - 1))]
    main = 1 + int(np.argmax(np.bincount(pieces[tuple(index)], weight, number + 1)[1:]))
    # (blocks) -> voxels: a block is kept or cleared as a whole.
    kept = pieces == main
    for start in product(range(i), range(j), range(k)):
        piece = bone[tuple(slice(s, None, f) for s, f in zip(start, factors, strict=True))]
        piece &= kept[tuple(slice(0, n) for n in piece.shape)]


__all__ = ["BONE_HU", "THRESHOLDS_HU", "Segmentation", "segment_bone"]
