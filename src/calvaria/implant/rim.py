"""How bone goes on beside an implant: the step and the change of curvature across its rim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calvaria.implant.measure import FACING, outline_tree, samples
from calvaria.implant.parts import Part, Sheet
from calvaria.reconstruction.surface import BoneSurface
from calvaria.types import F64, BoolArray

BESIDE_MM = (2.0, 4.0)
"""From the edge, where the height of bone is taken: nearer, its own edge is rounded by the voxels."""

WITHIN_MM = (1.0, 3.0)
"""From the edge, where the height of the implant is taken."""

FITTED_MM = (1.0, 9.0)
"""From the edge, on both sides, where parabolas are fitted."""

ALONG_STEP, ALONG_CURVATURE = 3, 6
"""Points of an outline (1 mm apart) to either side whose neighbourhood is taken together."""

OUTER_TABLE_MM = 1.2
"""Bone this far below the highest one of a neighbourhood is the floor of a pore or of a diploic space."""


HIGH = 0.8
"""Share of a neighbourhood's points that lie below what counts as its highest."""


@dataclass(frozen=True, eq=False)
class Rim:
    """How bone goes on beside an implant, along all of its outlines, one after the other.

    Args:
        step_mm: (R,) how far bone's outer surface lies above the implant's continued; NaN where there is no bone.
        curvature: (R,) curvature of bone's outer surface less the implant's, across the rim, 1/m; NaN likewise.
    """

    step_mm: F64
    curvature: F64


class _Beside(NamedTuple):
    """Points of an outer surface near an implant's edge.

    Args:
        rim: (N,) numbers of the outline's points next to them.
        away_mm: (N,) way from the edge, positive away from the implant.
        height_mm: (N,) above the sheet.
    """

    rim: NDArray[np.intp]
    away_mm: F64
    height_mm: F64


def rim_of(part: Part, surface: BoneSurface, step_within_mm: float = 3.0, gap_mm: float = 0.0) -> Rim:
    """How bone goes on beside an implant.

    Heights are taken above the part's sheet, which runs on over the bone, so that the head's own curvature drops out.
    The step is the median height of bone 2 to 4 mm beside the edge (and as much farther as the gap is wide), less that
    of the implant 1 to 3 mm within it. The curvature across the rim is that of two parabolas, fitted to the heights 1
    to 9 mm off the edge on either side.

    Args:
        part: the implant.
        surface: of the bone around it.
        step_within_mm: outer surface of bone that lies further off the sheet than this is none that goes on from it.
        gap_mm: clearance between edge and bone, beyond a usual one.
    """
    count = sum(len(outline.points_mm) for outline in part.outline)
    spots = samples(part.body, 0.7)
    reach_mm = FITTED_MM[1] + 1.0 + gap_mm
    implant = _beside(part, spots.points_mm, spots.normals, step_within_mm, reach_mm)
    near = _near_sheet(part.sheet, surface, step_within_mm)
    near[near] = _near_outline(part, surface.points_mm[near], step_within_mm + reach_mm)
    bone = _beside(part, surface.points_mm[near], -surface.normals[near], step_within_mm, reach_mm)
    step, curvature = np.full(count, np.nan), np.full(count, np.nan)
    begin = 0
    for outline in part.outline:
        size = len(outline.points_mm)
        sides = [_around(side, begin, size) for side in (bone, implant)]
        beside, fitted = ((low + gap_mm, high + gap_mm) for low, high in (BESIDE_MM, FITTED_MM))
        for place in range(size):
            heights = [
                _height(_window(side, place, ALONG_STEP), *between)
                for side, between in zip(sides, (beside, (-WITHIN_MM[1], -WITHIN_MM[0])), strict=True)
            ]
            step[begin + place] = heights[0] - heights[1]
            bent = [
                _bend(_window(side, place, ALONG_CURVATURE), *between)
                for side, between in zip(sides, (fitted, (-FITTED_MM[1], -FITTED_MM[0])), strict=True)
            ]
            # Up is out of the head: a rounder surface falls off faster.
            curvature[begin + place] = bent[1] - bent[0]
        begin += size
    return Rim(step, curvature)


def _near_sheet(sheet: Sheet, surface: BoneSurface, within_mm: float) -> BoolArray:
    """(S,) which points of bone's surface lie within the box around a sheet: the others need not be looked at."""
    points = sheet.points_mm.reshape(-1, 3)
    low, high = points.min(axis=0) - within_mm, points.max(axis=0) + within_mm
    return np.asarray(((surface.points_mm > low) & (surface.points_mm < high)).all(axis=1))


def _near_outline(part: Part, points_mm: F64, within_mm: float) -> BoolArray:
    """(N,) which points lie near an implant's edges."""
    apart, _ = outline_tree(part).query(points_mm, distance_upper_bound=within_mm, workers=2)
    return np.asarray(np.isfinite(apart))


def _beside(part: Part, points_mm: F64, outward: F64, within_mm: float, reach_mm: float) -> _Beside:
    """The points that face out of the head and lie on the sheet's lattice, not at its end."""
    above, foot = part.sheet.above(points_mm)
    normals = part.sheet.normals.reshape(-1, 3)[foot]
    shape = part.sheet.hole.shape
    row, column = np.unravel_index(foot.astype(np.intp), shape)
    ends = (row == 0) | (row == shape[0] - 1) | (column == 0) | (column == shape[1] - 1)
    out = (np.einsum("nk,nk->n", outward, normals) > FACING) & (np.abs(above) < within_mm) & ~ends
    points, above, normals = points_mm[out], above[out], normals[out]
    edge = np.concatenate([outline.points_mm for outline in part.outline])
    away = np.concatenate([outline.away for outline in part.outline])
    apart, nearest = outline_tree(part).query(points - above[:, None] * normals, workers=2)
    way = np.einsum("nk,nk->n", points - edge[nearest], away[nearest])
    close = apart < reach_mm
    return _Beside(nearest[close], way[close], above[close])


def _around(side: _Beside, begin: int, size: int) -> _Beside:
    """The points of one outline by their places along it, which goes round: from half a turn before to one after."""
    own = (side.rim >= begin) & (side.rim < begin + size)
    place, way, height = side.rim[own] - begin, side.away_mm[own], side.height_mm[own]
    three = np.concatenate([place - size, place, place + size])
    order = np.argsort(three, kind="stable")
    return _Beside(three[order], np.tile(way, 3)[order], np.tile(height, 3)[order])


def _window(side: _Beside, place: int, along: int) -> tuple[F64, F64]:
    """Ways from the edge and heights of the points next to a place of an outline."""
    start, stop = np.searchsorted(side.rim, [place - along, place + along + 1])
    return side.away_mm[start:stop], side.height_mm[start:stop]


def _height(found: tuple[F64, F64], low_mm: float, high_mm: float) -> float:
    """Median height between two ways from the edge; NaN where there is not enough."""
    way, height = found
    some = height[(way >= low_mm) & (way <= high_mm)]
    if len(some) < 5:
        return float("nan")
    return float(np.median(some[some > _high(some) - OUTER_TABLE_MM]))


def _high(values: F64) -> float:
    """The 80th percentile; numpy's own looks at its arguments for longer than at so few values.

    >>> _high(np.array([3.0, 0.0, 1.0, 2.0])) == np.quantile([0.0, 1.0, 2.0, 3.0], 0.8)
    np.True_
    """
    at = HIGH * (len(values) - 1)
    low = int(at)
    near = np.partition(values, [low, min(low + 1, len(values) - 1)])
    return float(near[low] + (at - low) * (near[min(low + 1, len(values) - 1)] - near[low]))


def _bend(found: tuple[F64, F64], low_mm: float, high_mm: float) -> float:
    """Second derivative of the height across the edge, 1/m; NaN where there is not enough."""
    way, height = found
    seen = (way >= low_mm) & (way <= high_mm)
    way, height = way[seen], height[seen]
    if len(way) < 30 or np.ptp(way) < 0.6 * (high_mm - low_mm):
        return float("nan")
    top = height > _high(height) - OUTER_TABLE_MM
    middle = way[top] - (low_mm + high_mm) / 2
    powers = np.stack([np.ones_like(middle), middle, middle**2], axis=1)
    return float(np.linalg.lstsq(powers, height[top], rcond=None)[0][2]) * 2 * 1000


__all__ = ["Rim", "rim_of"]
