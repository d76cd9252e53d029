"""Implants of plastic or cement in the vault: plates without a diploe, of one value, with a sharp edge to bone.

PMMA has 100 to 300 HU (with barium 500 and more), PEEK 100 to 250. Bone of the same values (a thin squama, a child's)
varies from place to place and passes into denser bone without a step. What is wrongly taken out makes a hole in a
healthy skull, so every sign has to be there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calvaria.skull.foreign.pieces import disc
from calvaria.skull.foreign.shell import DEPTHS_MM, Shell
from calvaria.types import F32, BoolArray

PLATE_HU = (95.0, 900.0)
"""Mean of an implant; below is soft tissue and blood, above dense bone."""

SOFT_HU = 45.0
"""Around an implant."""

MIN_THICK_MM = 4.0
"""A thinner plate shows no level of its own between the slopes of its two faces."""

RAY_SHARE, RAY_NOISES = 0.12, 4.0
"""Within an implant the values along a ray span less than this share of their mean, and so many deviations of noise."""

SPREAD_SHARE, SPREAD_HU = 0.06, 8.0
"""Rays belong to one implant when their means differ from its own by less than this."""

THICK_MM, THICK_FACTOR, THICK_HU = 2.6, 2.0, 320.0
"""In slices farther apart than the first, partial volume along the rays widens both limits by the second, for what has
less than the third: denser implants look too much like bone there (4 of 12 intact heads had one in slices of 5 mm)."""

MIN_AREA_CM2 = 5.0
"""A smaller piece is left alone: a burr hole's cap, or chance."""

STEP_HU, STEP_SHARE = 220.0, 0.65
"""Around an implant, bone is denser by so much, or there is a gap, on at least this share of the edge."""

DENSER = 1.4
"""The skull's typical peak is at least so many times the implant's value."""

EDGE_PIXELS = 4
"""From the level part of an implant to the bone around it: partial volume, bevels, a gap."""


class Plate(NamedTuple):
    """An implant on the map.

    Args:
        where: (P, P) its rays.
        low_mm, high_mm: (P, P) heights between which it lies.
        hu: its mean.
    """

    where: BoolArray
    low_mm: F32
    high_mm: F32
    hu: float


class _Runs(NamedTuple):
    """Along each ray, the plate about the highest value: its mean, how its values span, and its ends (indices)."""

    mean: F32
    span: F32
    first: F32
    last: F32


def plates_of(shell: Shell, slice_mm: float = 1.0) -> list[Plate]:
    """The implants in a vault, the largest first; none in ordinary ones.

    Args:
        shell: the vault.
        slice_mm: the scan's widest spacing.
    """
    from scipy.ndimage import binary_fill_holes, gaussian_filter, label

    smooth = gaussian_filter(shell.hu, (0.8, 0.8, 0.6), truncate=3.0)
    peak = smooth.max(axis=2)
    typical = float(np.median(peak[shell.known & (peak > PLATE_HU[0])])) if shell.known.any() else 0.0
    noise = _noise(smooth)
    runs = _runs(smooth, peak)
    thick = runs.last - runs.first + 1
    wide = np.where((slice_mm > THICK_MM) & (runs.mean < THICK_HU), THICK_FACTOR, 1.0)
    even = shell.known & (thick >= MIN_THICK_MM) & (runs.span < wide * RAY_SHARE * runs.mean + RAY_NOISES * noise)
    even &= (runs.mean > PLATE_HU[0]) & (runs.mean < min(PLATE_HU[1], typical / DENSER))
    if (even * shell.pixel_cm2).sum() < MIN_AREA_CM2:
        return []
    found = []
    pieces, number = label(even)
    sizes = np.bincount(pieces.ravel(), (shell.pixel_cm2 * even).ravel(), number + 1)
    for one in np.argsort(-sizes[1:], kind="stable") + 1:
        if sizes[one] < MIN_AREA_CM2:
            break
        level = _level(runs.mean[pieces == one])
        own = (pieces == one) & (np.abs(runs.mean - level) < wide * SPREAD_SHARE * level + SPREAD_HU + 2 * noise)
        parts, count = label(own)
        if not count:
            continue
        areas = np.bincount(parts.ravel(), (shell.pixel_cm2 * own).ravel(), count + 1)
        areas[0] = 0
        own = binary_fill_holes(parts == int(np.argmax(areas)))
        if areas.max() < max(MIN_AREA_CM2, 0.6 * sizes[one]) or not _has_edge(own, peak, level, shell.known):
            continue
        found.append(_whole(own, smooth, peak, runs, level))
    return found


def _noise(smooth: F32) -> float:
    """Standard deviation in the brain under the vault; 0 where there is none."""
    deep = smooth[:, :, :4]
    values = deep[np.abs(deep - 35) < 90]
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) if values.size > 1000 else 0.0


def _level(values: F32) -> float:
    """The commonest of some values: the middle of the densest quarter."""
    ordered = np.sort(values)
    width = max(len(ordered) // 2, 1)
    spans = ordered[width:] - ordered[:-width]
    start = int(np.argmin(spans)) if len(spans) else 0
    return float(np.median(ordered[start : start + width + 1]))


def _runs(smooth: F32, peak: F32) -> _Runs:
    depth = smooth.shape[2]
    at = np.arange(depth, dtype=np.float32)
    top = smooth.argmax(axis=2)[:, :, None]
    below = smooth <= ((peak + SOFT_HU) / 2)[:, :, None]
    first = np.where(below & (at < top), at, -1).max(axis=2) + 1
    last = np.where(below & (at > top), at, depth).min(axis=2) - 1
    # Without the slope of each face.
    inner = (at > first[:, :, None]) & (at < last[:, :, None])
    count = np.maximum(inner.sum(axis=2), 1)
    mean = (smooth * inner).sum(axis=2) / count
    high = np.where(inner, smooth, -3000).max(axis=2)
    low = np.where(inner, smooth, 9000).min(axis=2)
    return _Runs(mean.astype(np.float32), (high - low).astype(np.float32), first, last)


def _has_edge(own: BoolArray, peak: F32, level: float, known: BoolArray) -> bool:
    """Whether most of what surrounds a region is denser bone, or a gap."""
    from scipy.ndimage import binary_dilation, grey_dilation

    ring = binary_dilation(own, disc(EDGE_PIXELS)) & ~binary_dilation(own, disc(EDGE_PIXELS - 1)) & known
    if not ring.any():
        return False
    denser = grey_dilation(peak, footprint=disc(1.5)) > level + STEP_HU
    return bool((denser | (peak < 0.6 * level + 0.4 * SOFT_HU))[ring].mean() >= STEP_SHARE)


def _whole(own: BoolArray, smooth: F32, peak: F32, runs: _Runs, level: float) -> Plate:
    """The level part, grown over its edge to half way up to the bone around it."""
    from scipy.ndimage import binary_dilation, distance_transform_edt, grey_dilation

    bone = grey_dilation(peak, footprint=disc(EDGE_PIXELS + 1))
    may = own | ((peak < (level + np.maximum(bone, level + STEP_HU)) / 2) & (peak > (level + SOFT_HU) / 2))
    where = binary_dilation(own, disc(1.0), iterations=EDGE_PIXELS - 1, mask=may)
    # Heights of the nearest ray of the level part: along the edge the runs follow the bone.
    nearest = distance_transform_edt(~own, return_distances=False, return_indices=True)
    i, j = nearest
    low, high = (DEPTHS_MM[0] + one[i, j] for one in (runs.first, runs.last))
    return Plate(where, (low - 1.5).astype(np.float32), (high + 1.5).astype(np.float32), level)


__all__ = ["Plate", "plates_of"]
