"""What speaks of where a patch belongs, beside symmetry: the rim, the shape prior, and how unlike the two sides are.

**The rim.** Along rays from the head centre, the outer and the inner table of intact bone lie at certain distances.
Both are carried on into the hole by radial basis functions over the sphere (linear ones: surface and thickness run on
from the rim, and soon say nothing more). Their weight falls with the distance to intact bone.

**The shape prior.** The surface that it expects. Its weight is the same everywhere.

**Asymmetry.** A head's two sides differ by a millimetre. How they differ around the hole is carried over it in the same
way, and taken out of the comparison of the two sides.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calvaria.refinement.energy import Evidence
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.types import F32, F64, BoolArray
from calvaria.volume.gather import trilinear_at
from calvaria.volume.grid import Grid

SPHERE_MM = 80.0
"""About the distance of the vault from the head centre: angles are measured on a sphere of this radius."""

RAYS = 12000
"""Rays over the whole sphere, about 2.6 mm apart on it."""

RAY_MM = (35.0, 125.0)
"""Bone is looked for between these distances from the head centre."""

STEP_MM = 0.8
"""Rays are sampled at this spacing."""

ANGLE_RAYS = 24
"""So many rays tell together at which angle they meet a table."""

MIN_COSINE = 0.3
"""Surfaces that a ray meets at a flatter angle, 73 degrees from the normal, are taken to be met at this one."""

AROUND_MM = 16.0
"""Intact bone up to this far from the hole tells how its tables run on."""

STEP_OF_EDGE_MM = 1.5
"""Where a table lies farther than this from the completed skull's, bone is missing."""

EDGE_MM = 3.0
"""Bone nearer than this to the hole is left out: edges are worn, chamfered or blurred. The hole is known by the rays
through it, which are up to 2.6 mm apart, so less would let the edge itself in."""

SMOOTHING = 0.5
"""Of the radial basis functions: they need not go through every ray exactly."""

MAX_KNOWN, MIN_KNOWN = 1500, 4
"""Rays or points that are used at most, since the cost grows with their cube, and at least."""

RIM_REACH_MM = 12.0
"""Farther from intact bone than this the rim says nothing."""


MAX_SURFACE_MM, MAX_ASYMMETRY_MM = 2.5, 6.0
"""Nodes so near to a surface are compared, if the other side's surface is not farther than the second."""

RING_MM = 20.0
"""How the sides differ is taken from up to this far around the hole."""

BEND_SMOOTHING = 30.0
"""Of the radial basis functions that carry the asymmetry over: it is noisy."""

COARSE = 4
"""Asymmetry is smooth: it is worked out at every so many nodes, and read between them."""

CLOSE_MM = 12.0
"""... those that lie no farther than this from where it is wanted."""


class Tables(NamedTuple):
    """Where rays from the head centre leave and enter bone.

    Args:
        present: (R,) bool, whether they meet bone.
        outer_mm: (R,) distance of the outermost surface from the head centre.
        inner_mm: (R,) ... of the inner surface of the same plate.
        outer_cosine: (R,) cosine of the angle between the ray and the outer surface's normal, `MIN_COSINE` to 1.
        inner_cosine: (R,) ... and the inner surface's.
    """

    present: BoolArray
    outer_mm: F64
    inner_mm: F64
    outer_cosine: F64
    inner_cosine: F64


def directions(count: int = RAYS) -> F64:
    """(count, 3) unit vectors spread evenly over the sphere (Fibonacci)."""
    n = np.arange(count) + 0.5
    z = 1 - 2 * n / count
    angle, ring = np.pi * (3 - np.sqrt(5)) * n, np.sqrt(1 - z**2)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)


def tables_along(distance_mm: F32, grid: Grid, rays: F64, far_mm: float = 12.0) -> Tables:
    """The outermost plate of bone along rays from the head centre.

    Args:
        distance_mm: (I, J, K) signed distance on a grid of the canonical frame, negative in bone.
        grid: of it.
        rays: (R, 3) unit vectors.
        far_mm: value beyond the grid.
    """
    along = np.arange(*RAY_MM, STEP_MM)
    points = HEAD_CENTRE_MM + rays[:, None] * along[None, :, None]
    shifted = (distance_mm - np.float32(far_mm)).reshape(-1)  # `trilinear_at` gives 0 beyond the grid
    index = grid.to_index(points.reshape(-1, 3)).T
    values = (trilinear_at(shifted, grid.shape, index) + np.float32(far_mm)).reshape(len(rays), len(along))
    inside = values < 0
    inside[:, -1] = False
    row, last = np.arange(len(rays)), len(along) - 1
    present = inside.any(axis=1)
    out = np.where(present, last - np.argmax(inside[:, ::-1], axis=1), 0)
    outer, outer_cosine = _crossing(values, along, row, out, np.minimum(out + 1, last))
    air = ~inside & (np.arange(len(along)) < out[:, None])
    below = np.where(air.any(axis=1), last - np.argmax(air[:, ::-1], axis=1), 0)
    inner, inner_cosine = _crossing(values, along, row, below, np.minimum(below + 1, last))
    return Tables(np.asarray(present), outer, inner, outer_cosine, inner_cosine)


def _crossing(
    values: F32, along: F64, row: NDArray[np.intp], one: NDArray[np.intp], other: NDArray[np.intp]
) -> tuple[F64, F64]:
    """Where the values change their sign between two samples of each ray, and how steeply: the cosine there."""
    a, b = values[row, one].astype(np.float64), values[row, other].astype(np.float64)
    share = np.divide(a, a - b, out=np.zeros_like(a), where=a != b)
    at = along[one] + np.clip(share, 0, 1) * (along[other] - along[one])
    # A signed distance rises by one a mm along its normal.
    return np.asarray(at), np.clip(np.abs(b - a) / STEP_MM, MIN_COSINE, 1.0)


def rim_evidence(bone_mm: F32, expected_mm: F32, grid: Grid, nodes: BoolArray, weight: float) -> Evidence:
    """Where the tables lie if they run on from the rim.

    Args:
        bone_mm: (I, J, K) signed distance to the bone that is there, on a grid of the canonical frame.
        expected_mm: ... to the completed skull, however rough: it shows where bone is missing.
        grid: of both.
        nodes: (I, J, K) bool, where it is wanted.
        weight: at the rim itself.

    Returns:
        Evidence with weight 0 where there is no rim near.
    """
    from scipy.interpolate import RBFInterpolator
    from scipy.spatial import cKDTree

    nothing = Evidence("rim", np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32))
    rays = directions()
    bone, whole = tables_along(bone_mm, grid, rays), tables_along(expected_mm, grid, rays)
    moved = np.maximum(np.abs(bone.outer_mm - whole.outer_mm), np.abs(bone.inner_mm - whole.inner_mm))
    missing = whole.present & (~bone.present | (moved > STEP_OF_EDGE_MM))
    if not missing.any():
        return nothing
    at = SPHERE_MM * rays
    gap = cKDTree(at[missing]).query(at)[0]
    known = np.flatnonzero(bone.present & ~missing & (gap > EDGE_MM) & (gap < AROUND_MM))
    known = known[np.argsort(gap[known], kind="stable")][:MAX_KNOWN]
    if len(known) < MIN_KNOWN:
        return nothing
    index = np.argwhere(nodes)
    off = grid.to_world(index) - HEAD_CENTRE_MM
    radius = np.linalg.norm(off, axis=1)
    there = SPHERE_MM * off / np.maximum(radius, 1e-6)[:, None]
    apart = cKDTree(at[known]).query(there)[0]
    near = (apart < RIM_REACH_MM) & (cKDTree(at[missing]).query(there)[0] < 2 * EDGE_MM)
    index, there, radius, apart = index[near], there[near], radius[near], apart[near]
    if not len(index):
        return nothing
    tables = np.stack([bone.outer_mm[known], bone.inner_mm[known]], axis=1)
    outer, inner = RBFInterpolator(at[known], tables, kernel="linear", degree=0, smoothing=SMOOTHING)(there).T
    # Angles are noisy and change slowly: those of the nearest rays, together.
    _, beside = cKDTree(at[known]).query(there, k=min(ANGLE_RAYS, len(known)))
    outwards, inwards = bone.outer_cosine[known][beside].mean(axis=1), bone.inner_cosine[known][beside].mean(axis=1)
    nothing.distance_mm[tuple(index.T)] = np.maximum((radius - outer) * outwards, (inner - radius) * inwards)
    nothing.weight[tuple(index.T)] = weight * np.exp(-((apart / (RIM_REACH_MM / 2)) ** 2))
    return nothing


def asymmetry(bone_mm: F32, away: BoolArray, near: BoolArray, grid: Grid) -> F32:
    """How much farther out the surface lies than its mirror image, carried over from around the hole.

    Args:
        bone_mm: (I, J, K) signed distance, on a grid symmetric in x.
        away: (I, J, K) bool, where bone is not damaged.
        near: (I, J, K) bool, where it is wanted.
        grid: of all of them.

    Returns:
        (I, J, K) float32, mm: d(x) - d(mirror image of x), antisymmetric in x; 0 where not wanted or not known.
    """
    from scipy.interpolate import RBFInterpolator
    from scipy.ndimage import map_coordinates
    from scipy.spatial import cKDTree

    out = np.zeros(bone_mm.shape, np.float32)
    wanted = near | near[::-1]
    mirror_mm = bone_mm[::-1]
    surface = away & away[::-1] & (np.abs(bone_mm) < MAX_SURFACE_MM) & (np.abs(mirror_mm) < MAX_ASYMMETRY_MM)
    if not surface.any() or not wanted.any():
        return out
    points, hole = grid.to_world(np.argwhere(surface)), cKDTree(grid.to_world(np.argwhere(wanted)[::8]))
    ring = np.flatnonzero(hole.query(points, distance_upper_bound=RING_MM)[0] < np.inf)
    if len(ring) < MIN_KNOWN:
        return out
    # Evenly thinned; each point stands beside its mirror image with the opposite value, so the fit is antisymmetric.
    ring = ring[:: max(1, 2 * len(ring) // MAX_KNOWN)]
    values = (bone_mm - mirror_mm)[surface][ring]
    both = np.concatenate([points[ring], points[ring] * [-1.0, 1.0, 1.0]])
    fit = RBFInterpolator(both, np.concatenate([values, -values]), kernel="linear", degree=-1, smoothing=BEND_SMOOTHING)
    coarse = np.zeros(tuple(-(-n // COARSE) for n in bone_mm.shape), np.float32)
    nodes = COARSE * np.indices(coarse.shape).reshape(3, -1).T
    close = hole.query(grid.to_world(nodes), distance_upper_bound=CLOSE_MM)[0] < np.inf
    coarse.reshape(-1)[close] = fit(grid.to_world(nodes[close]))
    index = np.argwhere(wanted)
    out[wanted] = map_coordinates(coarse, index.T / COARSE, order=1, mode="nearest", output=np.float32)
    out -= out[::-1].copy()
    out /= 2
    return out


__all__ = ["Tables", "asymmetry", "directions", "rim_evidence", "tables_along"]
