"""Is it a mask or a CT, and where is the bone in a CT.

The simple way, made sturdy: bone is what lies above a threshold, belongs to the head and hangs together. The head is
the largest piece of tissue after thin things (a head rest's shell, a table's skins, tubes, a blanket) are opened away.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.types import BoolArray
from calvaria.volume.blocks import coarsen, grid_of_blocks
from calvaria.volume.grid import Box, Grid
from calvaria.volume.volume import Volume, bounding_box

BONE_HU = 250.0
"""Bone lies above this. The usual choices are 150-300: brain and muscle stay under 100, a haemorrhage under 100, and
a wall a third as thick as the slices still reaches it. Half way up to cortical bone (600) would lose thin walls."""

TISSUE_HU = -300.0
"""Head, with its fat, lies above this; air and foam below."""

UNSIGNED_OFFSET_HU = 1024
"""Scanners store HU + 1024 as unsigned numbers; files whose rescale intercept was lost hold these."""

MIXED_SHARE = 0.5
"""On the HU scale, at most this many times as many voxels lie between air and fat as at soft tissue."""

SAMPLED_VOXELS = 2_000_000
"""Values are judged by about this many voxels, evenly spread."""

MOST_LABELS = 32
"""Whole numbers of no more kinds than this are labels; an 8-bit picture has more."""

COARSE_MM = 2.5
"""The head is looked for on blocks of about this size."""

THIN_MM = 6.0
"""Half the thickness under which tissue is taken for a support or a tube and opened away from the head."""

HEAD_REACH_MM = 30.0
"""Bone is looked for up to this far from the head's core: over the sinuses and the nose, which the opening took."""

LEAST_HEAD_ML, LEAST_BONE_ML = 200.0, 10.0
"""Less tissue or bone than this is no head: a child's braincase alone holds more."""

GAP_MM = 1.6
"""Bone pieces are one piece when they meet on blocks of about this size: sutures and thin walls stay together."""

NOISY_HU = 40.0
"""Noise above which the image is smoothed first: the brain is then less than five deviations below bone."""

SMOOTHING_MM = 0.6
"""Standard deviation of that smoothing."""


def looks_like_ct(volume: Volume) -> bool:
    """Whether the values are a head CT's in Hounsfield units: air near -1000, soft tissue near 0, bone over 300."""
    return ct_offset_hu(volume) == 0


def ct_offset_hu(volume: Volume) -> int | None:
    """What has to be taken from the values to have HU.

    Args:
        volume: any image.

    Returns:
        0 for a CT in HU; 1024 for one whose file holds HU + 1024 (seen by air at 0 and soft tissue near 1064); None
        for anything else.
    """
    if volume.is_mask or not _is_real(volume.data):
        return None
    values = _sample(volume.data)
    if not np.isfinite(values).all():
        return None
    low, high = float(values.min()), float(values.max())
    if low <= -500 and _is_hounsfield(values):
        return 0
    if low >= 0 and high >= UNSIGNED_OFFSET_HU + 300 and _is_hounsfield(values - UNSIGNED_OFFSET_HU):
        return UNSIGNED_OFFSET_HU
    return None


def kind_of(volume: Volume, name: str = "the volume") -> Literal["mask", "ct"]:
    """Tell a bone mask from a CT by the values.

    Args:
        volume: booleans, 0 and one other value, or a CT in HU or in HU + 1024.
        name: of the file or case, for messages.

    Raises:
        InputError: anything else: a probability map, labels, a windowed picture, an MR, NaN. The message says what
            it looks like and what to do.
    """
    if volume.is_mask:
        return "mask"
    data = volume.data
    if not _is_real(data):
        raise InputError(f"{name}: a bone mask or a CT is wanted; the values are of type {data.dtype}")
    low, high = data.min(), data.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{name}: the values contain NaN or infinity; export the image again without them")
    if _has_two_values(data, low, high):
        if 0 in (low, high) or low == high == 1:
            return "mask"
        raise InputError(
            f"{name}: only the values {low:g} and {high:g} occur; a mask is 0 outside the bone: set its background to 0"
        )
    if ct_offset_hu(volume) is not None:
        return "ct"
    raise InputError(f"{name}: {_why_neither(data, float(low), float(high))}")


def segment_bone(ct: Volume, threshold_hu: float = BONE_HU, name: str = "the CT") -> Volume:
    """The bone of the head in a CT.

    Everything above the threshold that hangs together (over gaps of about 1.6 mm) with most of the head's bone. Head
    rest, table and what else lies around the head is left out; noisy images are smoothed lightly first.

    Args:
        ct: in HU, or HU + 1024 (recognised). Any orthogonal or sheared grid. 400 MB of voxels are worked through in
            slabs: extra memory is about three bytes a voxel.
        threshold_hu: bone lies above it.
        name: of the file or case, for messages.

    Returns:
        A mask on the grid of ``ct``, not empty.

    Raises:
        InputError: not a CT, a threshold outside 100 to 1500 HU, no head, or no bone in it.
    """
    if not 100 <= threshold_hu <= 1500:
        raise InputError(f"{name}: a bone threshold lies from 100 to 1500 HU; got {threshold_hu:g}")
    offset = ct_offset_hu(ct)
    if offset is None:
        kind_of(ct, name)  # says what else it looks like
        raise InputError(f"{name}: a CT in Hounsfield units is wanted here; this is a mask: use it as the skull itself")
    core = _head_core(ct, offset, name)
    box = _box_around(core, ct.grid)
    part = ct.crop(box)
    bone = _above(part, threshold_hu + offset, _noise_hu(part, offset))
    _keep_main_piece(bone, part.grid, core)
    found_ml = float(np.count_nonzero(bone)) * ct.grid.voxel_volume_mm3 / 1000
    if found_ml < LEAST_BONE_ML:
        raise InputError(
            f"{name}: no skull found: {found_ml:.1f} ml above {threshold_hu:g} HU hang together in the head, at least "
            f"{LEAST_BONE_ML:g} are wanted; lower the threshold, or check that the scan shows the head"
        )
    whole = np.zeros(ct.shape, bool, _order(ct.data))
    whole[box] = bone
    return ct.with_data(whole)


def _is_real(data: NDArray[Any]) -> bool:
    return bool(np.issubdtype(data.dtype, np.integer) or np.issubdtype(data.dtype, np.floating))


def _sample(data: NDArray[Any]) -> NDArray[np.float32]:
    step = max(round((data.size / SAMPLED_VOXELS) ** (1 / 3)), 1)
    return data[::step, ::step, ::step].astype(np.float32).ravel(order="K")


def _is_hounsfield(hu: NDArray[np.float32]) -> bool:
    """Air, a peak of soft tissue near water, bone, and little between air and fat."""
    air = np.count_nonzero((hu > -1100) & (hu < -850)) + np.count_nonzero(hu <= -1100)
    soft = np.count_nonzero((hu > -150) & (hu < 150))
    peak = np.count_nonzero((hu > -30) & (hu < 110))
    between = np.count_nonzero((hu > -800) & (hu < -200))
    bone = np.count_nonzero(hu > 300)
    least = 0.001 * hu.size
    return bool(air > least and bone > least and soft > 10 * least and peak > soft / 2 and between < MIXED_SHARE * soft)


def _has_two_values(data: NDArray[Any], low: Any, high: Any) -> bool:
    middle = _sample(data)
    if np.any((middle != np.float32(low)) & (middle != np.float32(high))):
        return False
    return all(bool(((slab == low) | (slab == high)).all()) for _, slab in _slabs(data))


def _why_neither(data: NDArray[Any], low: float, high: float) -> str:
    values = np.unique(_sample(data))
    whole = bool(np.all(values == np.round(values)))
    if low >= 0 and high <= 1:
        return "this looks like a probability map (0 to 1); threshold it, for instance at 0.5, and give the mask"
    if whole and len(values) <= MOST_LABELS and low >= 0:
        return f"this looks like a label map ({len(values)} labels up to {high:g}); give the bone alone as a mask"
    if whole and low >= 0 and high <= 255:
        return "this looks like a windowed 8-bit picture (0 to 255), not HU; export the CT with its full range"
    if low >= 0:
        return (
            f"values from {low:g} to {high:g} without the peaks of a CT: an MR or an unscaled image; "
            "give a CT in Hounsfield units (air -1000, bone over 300) or a bone mask"
        )
    return (
        f"values from {low:g} to {high:g} are neither a mask nor a head CT in Hounsfield units (air -1000, soft tissue "
        "near 0, bone over 300); export the CT with its rescale slope and intercept, or give a bone mask"
    )


def _order(data: NDArray[Any]) -> Literal["C", "F"]:
    return "F" if abs(data.strides[0]) < abs(data.strides[2]) else "C"


def _slabs(data: NDArray[Any], thickness: int = 16) -> Iterator[tuple[Box, NDArray[Any]]]:
    """Views of slices that lie together in memory, with their boxes."""
    slow = int(np.argmax(np.abs(data.strides)))
    for start in range(0, data.shape[slow], thickness):
        i, j, k = (slice(start, start + thickness) if axis == slow else slice(None) for axis in range(3))
        yield (i, j, k), data[i, j, k]


def _head_core(ct: Volume, offset: int, name: str) -> Volume:
    """The head without what is thin, on blocks of about COARSE_MM; a mask."""
    from scipy.ndimage import distance_transform_edt, label

    coarse = coarsen(ct, COARSE_MM)
    tissue = coarse.data > TISSUE_HU + offset
    # Beyond the scan's ends there is no outside: nothing is opened away there.
    grid = coarse.grid
    depth = distance_transform_edt(tissue, sampling=grid.spacing_mm)
    pieces, number = label(depth > THIN_MM)
    sizes = np.bincount(pieces.ravel())[1:]
    if not number or sizes.max() * grid.voxel_volume_mm3 / 1000 < LEAST_HEAD_ML:
        found = sizes.max() * grid.voxel_volume_mm3 / 1000 if number else 0.0
        raise InputError(
            f"{name}: no head found: the largest piece of tissue holds {found:.0f} ml, at least {LEAST_HEAD_ML:g} are "
            "wanted; check that the scan shows a head and that its values are Hounsfield units"
        )
    return Volume(pieces == 1 + int(np.argmax(sizes)), grid)


def _box_around(core: Volume, grid: Grid) -> Box:
    """The core's box in the full grid, wider by what the opening took and HEAD_REACH_MM."""
    inner = bounding_box(core.mask)
    if inner is None:
        return (slice(0, grid.shape[0]), slice(0, grid.shape[1]), slice(0, grid.shape[2]))
    ends = np.array([[p.start - 0.5 for p in inner], [p.stop - 0.5 for p in inner]])
    ends = grid.to_index(core.grid.to_world(ends))
    reach = HEAD_REACH_MM / np.array(grid.spacing_mm)
    starts = np.clip(np.floor(ends[0] - reach), 0, grid.shape).astype(int)
    stops = np.clip(np.ceil(ends[1] + reach) + 1, 0, grid.shape).astype(int)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True))
    return i, j, k


def _noise_hu(part: Volume, offset: int) -> float:
    """Standard deviation of the noise in soft tissue, from differences 3 voxels apart; 0 where there is none."""
    slow = int(np.argmax(np.abs(part.data.strides)))
    slices = np.moveaxis(part.data, slow, 0)
    middle = slices[:: max(len(slices) // 16, 1)].astype(np.float32) - offset
    before, after = middle[:, :-3], middle[:, 3:]
    pairs = (np.abs(before + after - 80) < 160) & (np.abs(before - after) < 400)
    if np.count_nonzero(pairs) < 1000:
        return 0.0
    return float(1.4826 * np.median(np.abs(before[pairs] - after[pairs])) / np.sqrt(2))


def _above(part: Volume, threshold: float, noise_hu: float) -> BoolArray:
    """Where the values, smoothed if they are noisy, are over a threshold; in slabs."""
    from scipy.ndimage import gaussian_filter

    data = part.data
    bone = np.zeros(data.shape, bool, _order(data))
    if noise_hu <= NOISY_HU:
        limit = np.floor(threshold) if np.issubdtype(data.dtype, np.integer) else threshold
        for box, slab in _slabs(data):
            np.greater(slab, data.dtype.type(limit), out=bone[box])
        return bone
    sigma = [SMOOTHING_MM / s for s in part.grid.spacing_mm]
    slow = int(np.argmax(np.abs(data.strides)))
    halo = int(np.ceil(3 * sigma[slow]))
    for box, _ in _slabs(data, 32):
        start, stop, _ = box[slow].indices(data.shape[slow])
        wide = slice(max(start - halo, 0), min(stop + halo, data.shape[slow]))
        around = tuple(wide if axis == slow else slice(None) for axis in range(3))
        smooth = gaussian_filter(data[around].astype(np.float32), sigma, truncate=3.0)
        inner = tuple(
            slice(start - wide.start, stop - wide.start) if axis == slow else slice(None) for axis in range(3)
        )
        bone[box] = smooth[inner] > threshold
    return bone


def _keep_main_piece(bone: BoolArray, grid: Grid, core: Volume) -> None:
    """Clear, in place, all but the piece that holds most of the bone near the head's core."""
    from scipy.ndimage import distance_transform_edt, label

    i, j, k = factors = tuple(max(round(GAP_MM / s), 1) for s in grid.spacing_mm)
    count = np.zeros([-(-n // f) for n, f in zip(grid.shape, factors, strict=True)], np.uint16, _order(bone))
    for start in product(range(i), range(j), range(k)):
        piece = bone[tuple(slice(s, None, f) for s, f in zip(start, factors, strict=True))]
        count[tuple(slice(0, n) for n in piece.shape)] += piece
    blocks = grid_of_blocks(grid, count.shape, factors)
    pieces, number = label(count > 0, np.ones((3, 3, 3)))
    if not number:
        return
    near = distance_transform_edt(~core.mask, sampling=core.grid.spacing_mm) <= 2 * THIN_MM
    index = np.stack(np.nonzero(count))
    at = np.rint(core.grid.to_index(blocks.to_world(index.T))).astype(int).T
    at = np.clip(at, 0, np.array(core.shape)[:, None] - 1)
    weight = count[tuple(index)] * near[tuple(at)]
    main = 1 + int(np.argmax(np.bincount(pieces[tuple(index)], weight, number + 1)[1:]))
    kept = pieces == main
    for start in product(range(i), range(j), range(k)):
        piece = bone[tuple(slice(s, None, f) for s, f in zip(start, factors, strict=True))]
        piece &= kept[tuple(slice(0, n) for n in piece.shape)]
