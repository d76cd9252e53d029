"""Holes that an engine fills, and the plate around a cut: its two tables, and the face that was cut."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calvaria.reconstruction.box import AIR_MM, box_grid, box_to_world
from calvaria.reconstruction.protocol import Completion
from calvaria.reconstruction.surface import BoneSurface, gradients
from calvaria.types import F32, F64, BoolArray
from calvaria.volume.components import label
from calvaria.volume.gather import trilinear_at
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

MIN_HOLE_ML, MAX_HOLES = 1.0, 3
"""Holes of less missing bone are none that a removed piece came from; so many are tried, the largest."""

EVENED, EVENED_MM = 32, 4.0
"""A table's normals are means of so many points, none farther away than the second."""

WALL_EDGE_MM = 2.5
"""Nearer to a cut a table is not looked at."""

WALL_RIM_MM = 15.0
"""The rim is bone so near to what is missing."""

TABLE, FACE = 0.85, 0.6
"""Cosines between a surface's normal and the plate's direction: more is one of its tables, less where it was cut."""


@dataclass(frozen=True, eq=False)
class Hole:
    """One piece of what the engine adds.

    Args:
        body: its surface, with the rim's faces.
        centre: (3,) world mm.
        axes: (3, 3) rows: two across, the last outwards.
        volume_ml: of what the engine adds.
        inside: bool on the box grid.
    """

    body: BoneSurface
    centre: F64
    axes: F64
    volume_ml: float
    inside: BoolArray


def holes_of(done: Completion) -> list[Hole]:
    """The pieces of a completion, largest first."""
    soft, field = done.soft, done.field
    box = box_grid().moved(box_to_world(done.frame))
    labels, count = label((soft.distance_mm < 0) & (field.distance_mm > 0) & soft.region)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    holes = []
    for number in np.argsort(-sizes)[:MAX_HOLES]:
        volume_ml = float(sizes[number] * box.voxel_volume_mm3 / 1000)
        if volume_ml < MIN_HOLE_ML:
            continue
        inside = labels == number
        points = box.to_world(np.argwhere(inside))
        centre = points.mean(axis=0)
        _, axes = np.linalg.eigh(np.cov((points - centre).T))
        rows = axes.T[::-1].copy()
        outwards = centre - done.frame.to_world[:3, 3]
        rows[2] *= np.sign(rows[2] @ outwards) or 1.0
        rows[1] = np.cross(rows[2], rows[0])
        # Bone that is added: in the completion, and off what is there.
        off_mm = np.maximum(soft.distance_mm, -field.distance_mm)
        share = np.where(inside | ~(labels > 0), np.clip(0.5 - off_mm / box.spacing_mm[0], 0, 1), 0.0)
        near = _near(inside)
        body = BoneSurface.of(Volume(np.where(near, share, 0.0).astype(np.float32), box), 0.5)
        holes.append(Hole(body, centre, rows, volume_ml, inside))
    return holes


def _near(inside: BoolArray) -> BoolArray:
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(inside, np.ones((3, 3, 3))))


@dataclass(frozen=True, eq=False)
class Walls:
    """A plate's surface around a cut.

    Args:
        tables: outer and inner table, but for their edge at the cut.
        faces: where the bone was cut.
        apart_mm: (S,) how far each point of ``tables`` lies off the hole.
    """

    tables: BoneSurface
    faces: BoneSurface
    apart_mm: F64

    @classmethod
    def of(cls, bone: BoneSurface, pose: F64, around: Around) -> Walls:
        """Find them.

        Args:
            bone: the skull's or the piece's surface.
            pose: (4, 4) its world -> the skull's.
            around: what is missing.
        """
        index = around.box.to_index(bone.points_mm @ pose[:3, :3].T + pose[:3, 3]).T
        apart = trilinear_at((around.away_mm - 99).reshape(-1), around.away_mm.shape, index) + 99
        near = (apart < WALL_RIM_MM) & bone.normals.any(axis=1)
        upright = gradients(around.completed_mm, index[:, near]) @ around.box.inverse[:3, :3] @ pose[:3, :3]
        upright /= np.linalg.norm(upright, axis=1, keepdims=True) + 1e-9
        points, normals = bone.points_mm[near], bone.normals[near]
        cosine = np.abs(np.einsum("nk,nk->n", upright, normals))
        table, face = cosine > TABLE, cosine < FACE
        faces = _surface(points[face], normals[face], bone)
        if faces.tree is not None:
            # Blurred, a table's normals turn towards the cut at its edge.
            beside, _ = faces.tree.query(points, distance_upper_bound=WALL_EDGE_MM, workers=2)
            table &= np.isinf(beside)
        tables = _surface(points[table], normals[table], bone)
        return cls(_evened(tables), faces, np.asarray(apart[near][table], np.float64))


@dataclass(frozen=True, eq=False)
class Around:
    """What is missing, on the common box's grid.

    Args:
        box: that grid in the world.
        away_mm: distance to the hole.
        completed_mm: signed distance to the completed skull, whose tables run on across the rim.
    """

    box: Grid
    away_mm: F32
    completed_mm: F32

    @classmethod
    def of(cls, hole: Hole, done: Completion) -> Around:
        """Of a hole."""
        from scipy.ndimage import distance_transform_edt

        box = box_grid().moved(box_to_world(done.frame))
        away = distance_transform_edt(~hole.inside, sampling=box.spacing_mm).astype(np.float32)
        soft = np.where(done.soft.region, done.soft.distance_mm, np.float32(AIR_MM))
        return cls(box, away, np.minimum(soft, done.field.distance_mm).astype(np.float32))


def _evened(tables: BoneSurface) -> BoneSurface:
    """The same points, with normals that are means around them: over a gap their noise would be a step."""
    if tables.tree is None:
        return tables
    apart, near = tables.tree.query(tables.points_mm, k=EVENED, distance_upper_bound=EVENED_MM, workers=2)
    near = np.where(np.isfinite(apart), near, np.arange(len(near))[:, None])
    around = tables.normals[near]
    around *= (np.einsum("nmk,nk->nm", around, tables.normals) > FACE)[:, :, None]
    normals = around.sum(axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return replace(tables, normals=normals)


def _surface(points: F64, normals: F64, like: BoneSurface) -> BoneSurface:
    from scipy.spatial import cKDTree

    tree = cKDTree(points, balanced_tree=False, compact_nodes=False) if len(points) else None
    return BoneSurface(like.fraction, points, normals, tree)


__all__ = ["TABLE", "Around", "Hole", "Walls", "holes_of"]
