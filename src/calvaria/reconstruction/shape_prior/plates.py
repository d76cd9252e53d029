"""Thin bone in a completion: kept where the model thins it out, closed where it is torn, and which of it is outside."""

from __future__ import annotations

import numpy as np

from calvaria.reconstruction.box import FRONT_FLOOR_MM, BoxField, box_grid, on_box
from calvaria.reconstruction.shape_prior.model import ShapeModel, bone_depth, plate_lack
from calvaria.skull.canonical import SPACING_MM
from calvaria.types import F32, BoolArray
from calvaria.volume.volume import bounding_box

REGION_MM = 0.8
"""The completed surface is used so far around the hole's outline: the outline has already been given room."""

HULL_DEPTH_MM = 9.0
"""Bone so near to the mean head's convex hull is its outside: forehead, brow, vault; not the orbital roofs."""

HULL_MM = 4.8
"""Spacing at which the depth under the hull is computed; it is smooth."""


def keep_plates(values: F32, field: BoxField, gap_mm: F32, depth: F32, share: float) -> F32:
    """Thicken the completion where it has thinned out or vanished.

    Its valley is lowered to ``share`` of the usual depth (`plate_lack`), scaled by how thick this skull is around the
    hole.

    Args:
        values: completed distances on the box grid, `AIR_MM` where none were read.
        field: the skull.
        gap_mm: distance to the hole's outline.
        depth: usual depth of the nearest bone, mm, negative.
        share: part of the usual depth that is kept.

    Returns:
        The distances, lowered where needed.
    """
    inside = bounding_box(gap_mm < 16.0)
    if inside is None:
        return values
    near, gap, usual = field.distance_mm[inside], gap_mm[inside], depth[inside]
    merged = np.where(gap <= REGION_MM, values[inside], near)
    found = bone_depth(merged, SPACING_MM)
    # How thick this skull is beside the hole, compared with others; 4 mm away from an outline that may be wrong.
    rim = (near < 0) & (gap > 4.0) & (gap < 16.0) & (usual < -1.0)
    ratio = float(np.clip(np.median(found[rim] / usual[rim]), 0.4, 1.2)) if rim.any() else 0.6
    out = values.copy()
    out[inside] -= plate_lack(found, usual, share * ratio)
    return out


def close_valleys(values: F32, zone: BoolArray, closed_mm: float, max_deepening_mm: float) -> F32:
    """Deepen the valley of a thin completion, so that no gap is left in it.

    Args:
        values: completed distances on the box grid.
        zone: where a valley is a plate.
        closed_mm: its bottom is lowered to this, negative.
        max_deepening_mm: ... by this at most: what would have to be deepened by more is no plate.

    Returns:
        The distances, lowered where needed.
    """
    from scipy import ndimage

    inside = bounding_box(zone)
    if inside is None:
        return values
    # Next to bone some neighbour is deep enough, so that only the valley itself and what lies over it are lowered.
    smallest = ndimage.minimum_filter(values[inside], 3)
    out = values.copy()
    out[inside] -= np.where(zone[inside], np.clip(smallest - closed_mm, 0.0, max_deepening_mm), 0.0)
    return out


def outside(model: ShapeModel) -> BoolArray:
    """Bool on the box grid: the outside of the head, down to `HULL_DEPTH_MM` under the mean vault's convex hull."""
    from scipy.spatial import ConvexHull

    bone = model.grid.to_world(np.argwhere(model.mean.reshape(model.grid.shape) < 0))
    hull = ConvexHull(bone[bone[:, 2] > FRONT_FLOOR_MM])
    coarse = box_grid(HULL_MM)
    points = coarse.centres_mm().reshape(-1, 3).astype(np.float32)
    within = np.full(len(points), np.inf, np.float32)
    # Facets that face down only close the hull where the vault was cut off.
    for normal in hull.equations[hull.equations[:, 2] > -0.7].astype(np.float32):
        np.minimum(within, -(points @ normal[:3] + normal[3]), out=within)
    return on_box(within.reshape(coarse.shape), HULL_MM) < HULL_DEPTH_MM


__all__ = ["REGION_MM", "close_valleys", "keep_plates", "outside"]
