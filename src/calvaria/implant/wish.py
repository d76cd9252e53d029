"""What is asked of one implant, on the lattice of the outer surface: where it ends, how thick and how clear it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calvaria.implant.outer import sheet_of
from calvaria.implant.parts import Sheet
from calvaria.implant.settings import ImplantSettings
from calvaria.implant.site import Site, sampled, spacing_of
from calvaria.types import F32, F64, BoolArray, FloatArray

SIDE_MM = 40.0
"""The temporal muscle lies farther than this from the mid-sagittal plane, canonical mm, ..."""

MUSCLE_Y_MM, MUSCLE_Z_MM = (-70.0, 25.0), 25.0
"""... between these, front to back, and below this."""

DOWNWARDS = (0.3, 0.7)
"""How far down an edge must face (cosine) before it is relieved, and from where on it is in full."""

SHARE_CELLS = 4.0
"""Sigma, in cells of the lattice, of the smoothing of where it is relieved."""

OWN_STEP_MM = 0.25
"""Depths at which the missing bone's own thickness is looked up."""

MAX_OWN_MM, MIN_OWN_MM = 10.0, 2.0
"""The bone's own thickness is no more and no less than this in an implant (K250334)."""

OWN_CALM_MM = 4.0
"""Sigma of the smoothing of the bone's own thickness."""

MIN_STEEP = 0.2
"""Cosine of rays with the middle direction, about 80 degrees, beyond which nothing is flattened any more."""

CREASE = 0.9
"""Flattening begins at the rim and is there in full at this part of the way to the middle: no crease along the rim."""

BULGE_MM, BULGE_ROOM_MM = 4.0, 3.0
"""Bone rises above the outer surface by no more than this, or is none of it; a flange rises with it within this."""


@dataclass(frozen=True, eq=False)
class Wish:
    """What of a site's outer surface one implant covers, and how thick and how clear it is; all (I, J), mm.

    Args:
        edge_mm: signed distance to its edge along the surface, negative inside.
        thickness_mm: of the body.
        clearance_mm: to bone at the outer surface.
        bulge_mm: how far a flange's upper side rises with the bone below it.
    """

    edge_mm: F32
    thickness_mm: F32
    clearance_mm: F32
    bulge_mm: F32


def wish_of(site: Site, frame_to_world: F64, settings: ImplantSettings) -> tuple[Wish, tuple[str, ...]]:
    """What the settings mean at a hole.

    Returns:
        The wish, and what the user should know of it, a line a matter.
    """
    thickness = np.full(site.edge_mm.shape, settings.thickness_mm, np.float32)
    if settings.thickness == "bone" or site.solid is not None:
        thickness = own_thickness(site)
    edge = site.edge_mm
    clearance = np.full(edge.shape, settings.clearance_mm, np.float32)
    notes: list[str] = []
    if settings.temporal_relief_mm:
        share = temporal(site, frame_to_world)
        if not (share[np.abs(edge) < 2.0] > 0.5).any():
            notes.append("no edge of the hole lies under the temporal muscle: there is nothing to relieve")
        edge = edge + settings.temporal_relief_mm * share
        clearance = clearance + settings.temporal_relief_mm * share
    bulge = _bulge(site, settings.flange_width_mm) if settings.flange_width_mm else np.zeros_like(thickness)
    thickness = np.maximum(thickness, np.float32(settings.min_wall_mm))
    return Wish(edge.astype(np.float32), thickness, clearance.astype(np.float32), bulge), tuple(notes)


def _bulge(site: Site, width_mm: float) -> F32:
    """(I, J) how far bone rises above the outer surface, where a flange may lie on it, smooth, from above."""
    from scipy.ndimage import gaussian_filter, maximum_filter

    height, foot = site.sheet.above(site.smooth.points_mm)
    edge = site.edge_mm.ravel()[foot]
    here = (height > 0) & (height < BULGE_MM) & (edge > -1.0) & (edge < width_mm + BULGE_ROOM_MM)
    top = np.zeros(site.edge_mm.size, np.float32)
    np.maximum.at(top, foot[here], height[here].astype(np.float32))
    room = BULGE_ROOM_MM / spacing_of(site.sheet)
    out: F32 = gaussian_filter(maximum_filter(top.reshape(site.edge_mm.shape), 2 * round(room) + 1), room / 2)
    return out


def shaped(site: Site, settings: ImplantSettings) -> Site:
    """The site with the outer surface that the implant is to have: flattened, and lower than the head's own."""
    sheet = site.sheet
    if settings.flatten:
        sheet = _flattened(sheet, site.edge_mm, settings.flatten)
    if settings.offset_mm:
        sheet = replace(sheet, points_mm=sheet.points_mm - settings.offset_mm * sheet.normals)
    return replace(site, sheet=sheet)


def own_thickness(site: Site) -> F32:
    """(I, J) thickness of the missing bone, or of a learned implant, below its outer surface, smooth, mm.

    It is continued beyond the hole.
    """
    from scipy.ndimage import gaussian_filter

    sheet = site.sheet
    points, normals = sheet.points_mm.reshape(-1, 3), sheet.normals.reshape(-1, 3)
    total = np.zeros(len(points))
    for depth in np.arange(OWN_STEP_MM / 2, MAX_OWN_MM + 2.0, OWN_STEP_MM):
        below = points - depth * normals
        there = sampled(site.patch, below) if site.solid is None else site.solid.distance_mm(below) < 0
        total += there * OWN_STEP_MM
    # Next to the rim a cut that is not square to the surface makes it look thinner.
    known = ((site.edge_mm < -1.0) & (total.reshape(sheet.hole.shape) > 0)).astype(np.float64)
    sigma = OWN_CALM_MM / spacing_of(sheet)
    weight = gaussian_filter(known, sigma)
    smooth = gaussian_filter(known * total.reshape(sheet.hole.shape), sigma) / np.maximum(weight, 1e-12)
    middle = float(np.median(total[known.ravel() > 0])) if known.any() else MIN_OWN_MM
    return np.clip(np.where(weight > 1e-9, smooth, middle), MIN_OWN_MM, MAX_OWN_MM).astype(np.float32)


def temporal(site: Site, frame_to_world: F64) -> F32:
    """(I, J) 0 to 1: how far the nearest edge is a lower one under the temporal muscle."""
    to_canonical = np.linalg.inv(frame_to_world)
    points = site.sheet.points_mm @ to_canonical[:3, :3].T + to_canonical[:3, 3]
    along, across = np.gradient(points, axis=(0, 1))
    slope = np.stack([np.gradient(site.edge_mm, axis=axis) for axis in (0, 1)], axis=-1)
    away = slope[..., :1] * along / _square(along) + slope[..., 1:] * across / _square(across)
    away /= np.linalg.norm(away, axis=-1, keepdims=True) + 1e-9
    down = _smooth_step((-away[..., 2] - DOWNWARDS[0]) / (DOWNWARDS[1] - DOWNWARDS[0]))
    (front, back), side = MUSCLE_Y_MM, np.abs(points[..., 0])
    there = (side > SIDE_MM) & (points[..., 1] > front) & (points[..., 1] < back) & (points[..., 2] < MUSCLE_Z_MM)
    from scipy.ndimage import gaussian_filter

    out: F32 = gaussian_filter((down * there).astype(np.float32), SHARE_CELLS)
    return out


def _square(vectors: F64) -> F64:
    return np.asarray((vectors**2).sum(axis=-1, keepdims=True))


def _smooth_step(share: FloatArray) -> F64:
    share = np.clip(share, 0.0, 1.0)
    return np.asarray(share**2 * (3 - 2 * share))


def _flattened(sheet: Sheet, edge_mm: F32, share: float) -> Sheet:
    """The surface drawn towards the membrane that spans the rim, along the rays from the head centre."""
    arms = sheet.points_mm - sheet.centre_mm
    radius = np.linalg.norm(arms, axis=-1)
    # A membrane's height over the plane across the middle direction is harmonic; radii would be those of a sphere.
    height = arms @ sheet.axes[0]
    steep = np.maximum(height / radius, MIN_STEEP)
    membrane = _membrane(height, edge_mm < 0) / steep
    amount = share * _smooth_step(-edge_mm / (CREASE * float(-edge_mm.min())))
    flat = sheet_of(sheet, radius - amount * np.maximum(radius - membrane, 0.0))
    return replace(flat, hole=sheet.hole)


def _membrane(height: F64, inside: BoolArray) -> F64:
    """(I, J) heights that are harmonic inside a region and as given outside of it."""
    from scipy.sparse import csc_array
    from scipy.sparse.linalg import spsolve

    inside = inside.copy()
    inside[[0, -1]] = inside[:, [0, -1]] = False
    number = np.full(inside.shape, -1)
    number[inside] = np.arange(np.count_nonzero(inside))
    here = np.argwhere(inside)
    rows, columns, right = [], [], np.zeros(len(here))
    for step in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        there = tuple((here + step).T)
        other = number[there]
        rows.append(np.flatnonzero(other >= 0))
        columns.append(other[other >= 0])
        right += np.where(other < 0, height[there], 0.0)
    off = np.concatenate(rows)
    values = np.concatenate([np.full(len(off), -1.0), np.full(len(here), 4.0)])
    every = np.arange(len(here))
    at = (np.concatenate([off, every]), np.concatenate([*columns, every]))
    out = height.copy()
    out[inside] = spsolve(csc_array((values, at), shape=(len(here), len(here))), right)
    return out


__all__ = ["Wish", "own_thickness", "shaped", "temporal", "wish_of"]
