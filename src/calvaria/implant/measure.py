"""What can be measured of an implant and of the bone around it; world LPS mm throughout.

Nothing here uses the fields that an implant was made of: its finished triangles are held against bone's surface.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calvaria.implant.parts import Maps, Part
from calvaria.reconstruction.box import FINE_MM
from calvaria.reconstruction.surface import HALF, BoneSurface
from calvaria.types import F64
from calvaria.volume.grid import Box, Grid
from calvaria.volume.mesh import Mesh
from calvaria.volume.volume import Volume

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

BONE_MM = 0.4
"""Blocks that bone next to an implant is averaged to: voxels wider than 0.6 mm, and most others, stay as they are."""

SAMPLES_MM = 0.5
"""Distance between points on triangles, about."""

OUTER = 0.7
"""Cosine, 45 degrees, within which a triangle is part of the outer side: its rounded edge is not."""

FACING = 0.5
"""Cosine of the angle to the outer surface's normal, 60 degrees, within which a triangle faces out of the head, or in;
the others belong to the rim."""

DISC = 0.35
"""Radius, in voxels, of what a point of bone's surface stands for: half the usual distance to the next one."""

DISCS = 4
"""Of the nearest ones that are looked at."""

ACROSS_MM = 1.0
"""A side further than this beside a ray is not what the ray meets."""

OPPOSITE = -0.866
"""Cosine of 150 degrees: two sides that face away from each other by more bound a wall; by less they form an edge,
as a bevelled rim does up to 45 degrees."""

WAY_MM = 0.8
"""Voxels of the distances along the way in; what comes near is measured without them."""

FIRST_STEP_MM = 0.25
"""Of the way in: a point that is nearer to bone than this goes on by so much; others by their distance to it."""

NEAR_MM = 6.0
"""Distances along the way in are cut here."""

REACH_MM = NEAR_MM + 6.0
"""Bone is looked at up to so far from an implant and its way."""

WALL_SAMPLES_MM, SPOT_MM2 = 0.7, 3.0
"""Distance between points where walls are measured, and how much thin wall is none."""

MAX_SHRINKS = 12
"""Of a ball; two or three are usual."""

MIRRORED_MM = 3.0
"""Bone's outer surface is there, on the other side, if one of its points lies no further beside the mirrored one."""

MIN_MIRRORED = 0.5
"""Of the implant's outer surface that must have a counterpart, for a symmetry to be told."""

MIDLINE_MM = 10.0
"""An implant that reaches further than this to both sides lies across the midline, and has no other side."""


class Samples(NamedTuple):
    """Points on the triangles of a mesh: (N, 3) world mm, (N, 3) unit normals of their triangles."""

    points_mm: F64
    normals: F64


class Passage(NamedTuple):
    """The way in: the smallest distance to bone at any time (negative in bone), mm, and the overlap in place, ml."""

    clearance_mm: float
    overlap_ml: float


def near_bone(bone: Volume, points_mm: F64, margin_mm: float) -> Volume:
    """Bone around points, cropped along its grid's axes; one voxel where it reaches none.

    Args:
        bone: mask or fractions.
        points_mm: (N, 3).
        margin_mm: around them.
    """
    return bone.crop(near_box(bone.grid, points_mm, margin_mm))


def near_box(grid: Grid, points_mm: F64, margin_mm: float) -> Box:
    """The voxels of a grid around points, at least one; arguments as for `near_bone`."""
    index = grid.to_index(points_mm)
    reach = margin_mm * np.linalg.norm(grid.inverse[:3, :3], axis=1)
    shape = np.array(grid.shape)
    low = np.clip(np.floor(index.min(axis=0) - reach), 0, shape - 1).astype(int)
    high = np.clip(np.ceil(index.max(axis=0) + reach) + 1, low + 1, shape).astype(int)
    i, j, k = (slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True))
    return i, j, k


def passed(part: Part, travel_mm: float) -> F64:
    """(N, 3) where the vertices of an implant lie in the end and at the beginning of its way."""
    return np.concatenate([part.body.vertices_mm, part.body.vertices_mm - travel_mm * part.direction])


def surface_around(part: Part, bone: Volume, travel_mm: float) -> BoneSurface:
    """Bone's surface, in the scan's own voxels, where an implant lies and where it passes when it is put in."""
    return BoneSurface.of(near_bone(bone, passed(part, travel_mm), REACH_MM), BONE_MM)


def bone_distances(surface: BoneSurface, points_mm: F64) -> F64:
    """(N,) signed distances of (N, 3) points to bone, mm, negative in it; infinite where there is no bone at all.

    Far from bone this is the distance to the nearest point of its surface; nearer than a voxel and a half, more and
    more that to small discs about the points, or it would be too large by what lies between them.
    """
    from scipy.ndimage import map_coordinates

    if surface.tree is None or not len(points_mm):
        return np.full(len(points_mm), np.inf)
    count = min(DISCS, len(surface.points_mm))
    apart, found = surface.tree.query(points_mm, k=np.arange(1, count + 1), workers=2)
    off = points_mm[:, None] - surface.points_mm[found]
    along = np.einsum("nkc,nkc->nk", off, surface.normals[found])
    beside = np.sqrt(np.maximum(apart**2 - along**2, 0.0))
    voxel = max(surface.fraction.grid.spacing_mm)
    disc = np.hypot(along, np.maximum(beside - DISC * voxel, 0.0)).min(axis=1)
    distance = disc + np.clip(apart[:, 0] / voxel - DISC, 0.0, 1.0) * (apart[:, 0] - disc)
    index = surface.fraction.grid.to_index(points_mm).T
    inside = map_coordinates(surface.fraction.data, index, order=1, cval=0.0) > HALF
    return np.asarray(np.where(inside, -distance, distance))


def samples(mesh: Mesh, spacing_mm: float = SAMPLES_MM) -> Samples:
    """Points spread evenly over a mesh, in the order of its triangles; small ones share one.

    Args:
        mesh: any; an empty one has none.
        spacing_mm: about the distance between neighbours.
    """
    corners = mesh.vertices_mm[mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    twice = np.linalg.norm(cross, axis=1)
    # Rounded in the running sum, so that many triangles smaller than a point's share are not left out.
    whole = np.rint(np.cumsum(twice / 2 * 1.5 / spacing_mm**2)).astype(np.intp)
    count = np.diff(whole, prepend=0)
    face = np.repeat(np.arange(len(count)), count)
    number = np.arange(len(face)) - np.repeat(np.cumsum(count) - count, count)
    # A sequence of low discrepancy (Roberts' R2), folded into the triangle.
    share = (np.stack([number * 0.7548776662466927, number * 0.5698402909980532]) + 0.5) % 1.0
    share = np.where(share.sum(axis=0) > 1, 1 - share, share)
    first = corners[face, 0]
    points = first + share[0, :, None] * (corners[face, 1] - first) + share[1, :, None] * (corners[face, 2] - first)
    normals = cross / np.maximum(twice, 1e-12)[:, None]
    return Samples(points, normals[face])


def vertex_areas(mesh: Mesh) -> F64:
    """(V,) area that each vertex stands for, mm2: a third of its triangles'."""
    a, b, c = np.moveaxis(mesh.vertices_mm[mesh.faces], 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    return np.bincount(mesh.faces.ravel(), np.repeat(area, 3), len(mesh.vertices_mm)).astype(np.float64)


def maps(part: Part, surface: BoneSurface, band_mm: float = 0.0) -> Maps:
    """Thickness and clearance at the vertices of a part's body.

    Args:
        part: the implant.
        surface: of the bone around it.
        band_mm: along its edge, where a flange makes it thicker; it counts as rim.
    """
    clearance = np.full(len(part.asked_mm), np.nan)
    rim = ~np.isnan(part.asked_mm)
    clearance[rim] = bone_distances(surface, part.body.vertices_mm[rim])
    return Maps(thickness_map(part, band_mm), clearance)


def thickness_map(part: Part, band_mm: float = 0.0) -> F64:
    """(V,) thickness at the vertices of a part's body along the outer surface's normal; NaN at the rim.

    A vertex belongs to the rim within one thickness of an outline (or within ``band_mm``, if that is more), or where no
    other side lies across.
    """
    points, spots = part.body.vertices_mm, samples(part.body)
    above, foot = part.sheet.above(points)
    normals = part.sheet.normals.reshape(-1, 3)[foot]
    facing = np.einsum("nk,nk->n", part.body.vertex_normals, normals)
    asked = asked_thickness(part, points)
    inside = outline_tree(part).query(points - above[:, None] * normals, workers=2)[0] > np.maximum(asked, band_mm)
    _, spot_foot = part.sheet.above(spots.points_mm)
    spot_facing = np.einsum("nk,nk->n", spots.normals, part.sheet.normals.reshape(-1, 3)[spot_foot])
    out = np.full(len(points), np.nan)
    for sign in (1.0, -1.0):
        seen = np.flatnonzero(inside & (sign * facing > FACING))
        other = sign * spot_facing < -FACING
        across = Samples(spots.points_mm[other], spots.normals[other])
        out[seen] = _across(points[seen], -sign * normals[seen], asked[seen], across)
    return out


def _across(points_mm: F64, ways: F64, guess_mm: F64, other: Samples) -> F64:
    """How far it is from points, along unit ways, to the triangles of the other side; NaN where there is none."""
    from scipy.spatial import cKDTree

    if not len(points_mm) or not len(other.points_mm):
        return np.full(len(points_mm), np.nan)
    tree = cKDTree(other.points_mm, balanced_tree=False, compact_nodes=False)
    reach = guess_mm.copy()
    for _ in range(3):
        found = tree.query(points_mm + reach[:, None] * ways, workers=2)[1]
        slope = np.einsum("nk,nk->n", ways, other.normals[found])
        reach = np.einsum("nk,nk->n", other.points_mm[found] - points_mm, other.normals[found]) / slope
    met = np.linalg.norm(points_mm + reach[:, None] * ways - other.points_mm[found], axis=1)
    return np.where((met < ACROSS_MM) & (reach > 0), reach, np.nan)


def asked_thickness(part: Part, points_mm: F64) -> F64:
    """(N,) thickness that was asked for at (N, 3) points, mm."""
    from scipy.ndimage import map_coordinates

    out: F64 = map_coordinates(part.thickness_mm, part.sheet.cells(points_mm).T, order=1, mode="nearest")
    return out


def outline_tree(part: Part) -> cKDTree:
    """Of the points of all outlines, one after the other."""
    from scipy.spatial import cKDTree

    return cKDTree(np.concatenate([outline.points_mm for outline in part.outline]))


def thinnest_wall(mesh: Mesh, limit_mm: float) -> float:
    """The smallest distance between two sides of a body that face away from each other, mm; edges are none.

    Balls that touch the surface from within are shrunk until they hold none of it (Ma et al. 2012); two sides within
    30 degrees of opposite ones bound a wall.

    Args:
        mesh: closed.
        limit_mm: what is thicker is not looked at; this is then given back.

    Returns:
        What all walls reach but `SPOT_MM2` of them: a few triangles at an edge's end are no wall.
    """
    from scipy.spatial import cKDTree

    spots = samples(mesh, WALL_SAMPLES_MM)
    tree = cKDTree(spots.points_mm, balanced_tree=False, compact_nodes=False)
    left, radius = np.arange(len(spots.points_mm)), np.full(len(spots.points_mm), limit_mm / 2)
    touched = np.full(len(left), -1)
    walls = []
    for _ in range(MAX_SHRINKS):
        inward = -spots.normals[left]
        apart, found = tree.query(spots.points_mm[left] + radius[:, None] * inward, workers=2)
        off = spots.points_mm[found] - spots.points_mm[left]
        depth = np.einsum("nk,nk->n", off, inward)
        smaller = np.einsum("nk,nk->n", off, off) / (2 * np.maximum(depth, 1e-9))
        holds = (apart < radius - 1e-3) & (depth > 1e-3) & (smaller < radius - 1e-3)
        done = ~holds & (touched >= 0)
        if done.any():
            walls.append(_walls_between(spots, left[done], touched[done], radius[done]))
        left, radius, touched = left[holds], smaller[holds], found[holds]
        if not len(left):
            break
    every = np.sort(np.concatenate([[limit_mm], *walls]))
    return float(every[min(int(SPOT_MM2 / WALL_SAMPLES_MM**2), len(every) - 1)])


def _walls_between(spots: Samples, one: NDArray[np.intp], other: NDArray[np.intp], radius: F64) -> F64:
    """Distances between points that a ball within the body touches, where they lie on opposite sides."""
    inward = -spots.normals[one]
    off = spots.points_mm[other] - spots.points_mm[one]
    centre = radius[:, None] * inward
    away = np.einsum("nk,nk->n", spots.normals[other], -inward) < OPPOSITE
    # Seen from the ball's centre, too.
    across = np.einsum("nk,nk->n", -centre, off - centre) < OPPOSITE * radius**2
    return np.asarray(np.einsum("nk,nk->n", off, inward)[away & across])


def collision(part: Part, surface: BoneSurface, travel_mm: float, way: WayField | None = None) -> Passage:
    """Whether an implant passes bone on its way in.

    Each point of its body starts in place and goes back along the way. Where it is some distance from bone it may go as
    far without meeting any, so nothing is passed over; distances come from a coarse grid first, and where they are
    smallest from bone's surface itself.

    Args:
        part: it moves along its direction.
        surface: of the bone around the body and around the way.
        travel_mm: length of the way.
        way: gives the coarse grid around a box, where it is known already; see `way_field`.
    """
    points = np.concatenate([part.body.vertices_mm, samples(part.body, 0.8).points_mm])
    overlap = overlap_ml(part.body, surface)
    if surface.tree is None:
        return Passage(np.inf, overlap)
    least, where = _coarse_way(points, -part.direction, way or partial(way_field, surface), travel_mm)
    # A voxel of the coarse grid blunts an edge of bone by about half of it.
    first = np.flatnonzero(least < max(float(least.min()), 0.0) + WAY_MM)
    back = where[first, None] + np.linspace(-2 * FIRST_STEP_MM, 2 * FIRST_STEP_MM, 5)
    close = points[first, None] - np.clip(back, 0.0, travel_mm)[..., None] * part.direction
    exact = bone_distances(surface, close.reshape(-1, 3))
    return Passage(float(exact.min()), overlap)


WayField = Callable[[F64, F64], Volume]
"""(3,) lowest and (3,) highest corner of a box, mm -> distances to bone there."""


def way_field(surface: BoneSurface, low_mm: F64, high_mm: F64) -> Volume:
    """Distances to bone on a coarse grid around a box along the world's axes, mm, cut off at `NEAR_MM`.

    Its nodes lie at multiples of `WAY_MM`, whatever the box.
    """
    low, high = np.floor(low_mm / WAY_MM), np.ceil(high_mm / WAY_MM)
    i, j, k = (int(n) + 1 for n in high - low)
    grid = Grid.isotropic((i, j, k), WAY_MM, low * WAY_MM)
    return Volume(surface.distances(grid, NEAR_MM), grid)


def _coarse_way(points_mm: F64, back: F64, way_of: WayField, travel_mm: float) -> tuple[F64, F64]:
    """(N,) smallest distance of each point to bone on the way out, by a coarse grid, and after what way, mm."""
    from scipy.ndimage import map_coordinates

    ends = np.concatenate([points_mm, points_mm + travel_mm * back])
    field = way_of(ends.min(axis=0) - 2 * WAY_MM, ends.max(axis=0) + 2 * WAY_MM)
    least, where = np.full(len(points_mm), np.inf), np.zeros(len(points_mm))
    left, way = np.arange(len(points_mm)), np.zeros(len(points_mm))
    while len(left):
        at = field.grid.to_index(points_mm[left] + way[left, None] * back).T
        found = map_coordinates(field.data, at, order=1, mode="nearest")
        nearer = found < least[left]
        least[left[nearer]], where[left[nearer]] = found[nearer], way[left[nearer]]
        done = way[left] >= travel_mm
        way[left] = np.minimum(way[left] + np.maximum(found, FIRST_STEP_MM), travel_mm)
        left = left[~done]
    return least, where


def overlap_ml(body: Mesh, surface: BoneSurface, spacing_mm: float = SAMPLES_MM) -> float:
    """What a body and bone have in common, counted in small voxels, ml."""
    from scipy.ndimage import map_coordinates

    from calvaria.volume.voxelise import voxelise

    if body.is_empty or body.open_edges:
        return float("nan")
    low, high = body.vertices_mm.min(axis=0), body.vertices_mm.max(axis=0)
    i, j, k = (int(n) + 1 for n in np.ceil((high - low) / spacing_mm))
    grid = Grid.isotropic((i, j, k), spacing_mm, low)
    inside = grid.to_world(np.argwhere(voxelise(body, grid).mask))
    fraction = surface.fraction
    bone = map_coordinates(fraction.data, fraction.grid.to_index(inside).T, order=1, cval=0.0) > HALF
    return float(np.count_nonzero(bone)) * grid.voxel_volume_mm3 / 1000


def outer_area_mm2(part: Part) -> float:
    """Area of what faces out of the head."""
    corners = part.body.vertices_mm[part.body.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1)
    _, foot = part.sheet.above(corners.mean(axis=1))
    facing = np.einsum("nk,nk->n", cross, part.sheet.normals.reshape(-1, 3)[foot])
    return float(area[facing > OUTER * area].sum()) / 2


def symmetry_mm(part: Part, bone: Volume, frame_to_world: F64) -> float | None:
    """Mean distance between an implant's outer surface, mirrored at the head's plane, and the bone of the other side.

    Args:
        part: the implant.
        bone: the whole defective skull.
        frame_to_world: (4, 4) canonical mm -> world LPS mm; the plane is x = 0 of the frame.

    Returns:
        The mean over the places that have a counterpart; None for an implant across the midline, or where bone is
        missing on the other side too.
    """
    spots = samples(part.body, 1.5)
    _, foot = part.sheet.above(spots.points_mm)
    outer = np.einsum("nk,nk->n", spots.normals, part.sheet.normals.reshape(-1, 3)[foot]) > FACING
    points, outward = spots.points_mm[outer], spots.normals[outer]
    to_frame = np.linalg.inv(frame_to_world)
    x = points @ to_frame[0, :3] + to_frame[0, 3]
    if not len(x) or (x.min() < -MIDLINE_MM and x.max() > MIDLINE_MM):
        return None
    mirror = frame_to_world @ np.diag([-1.0, 1.0, 1.0, 1.0]) @ to_frame
    points, outward = points @ mirror[:3, :3].T + mirror[:3, 3], outward @ mirror[:3, :3].T
    surface = BoneSurface.of(near_bone(bone, points, 15.0), FINE_MM)
    return _apart(points, outward, surface)


def _apart(points_mm: F64, outward: F64, surface: BoneSurface) -> float | None:
    """Mean distance along the normals of a surface to the bone's outer one; None where most of it has none."""
    if surface.tree is None:
        return None
    count = min(24, len(surface.points_mm))
    _, found = surface.tree.query(points_mm, k=np.arange(1, count + 1), workers=2)
    off = surface.points_mm[found] - points_mm[:, None]
    along = np.einsum("nkc,nc->nk", off, outward)
    beside = np.linalg.norm(off - along[..., None] * outward[:, None], axis=2)
    same = np.einsum("nkc,nc->nk", -surface.normals[found], outward) > FACING
    beside = np.where(same, beside, np.inf)
    first = beside.argmin(axis=1)[:, None]
    there = np.take_along_axis(beside, first, 1)[:, 0] < MIRRORED_MM
    if there.mean() < MIN_MIRRORED:
        return None
    return float(np.abs(np.take_along_axis(along, first, 1)[there, 0]).mean())


def extents_mm(mesh: Mesh) -> tuple[float, float, float]:
    """Lengths of a mesh along its principal axes, the longest first."""
    centred = mesh.vertices_mm - mesh.vertices_mm.mean(axis=0)
    weight = vertex_areas(mesh)
    _, axes = np.linalg.eigh((centred * weight[:, None]).T @ centred)
    a, b, c = sorted(np.ptp(centred @ axes, axis=0), reverse=True)
    return float(a), float(b), float(c)


__all__ = [
    "BONE_MM",
    "FACING",
    "Passage",
    "Samples",
    "asked_thickness",
    "bone_distances",
    "collision",
    "extents_mm",
    "maps",
    "near_bone",
    "near_box",
    "outer_area_mm2",
    "outline_tree",
    "overlap_ml",
    "passed",
    "samples",
    "surface_around",
    "symmetry_mm",
    "thickness_map",
    "thinnest_wall",
    "vertex_areas",
    "way_field",
]
