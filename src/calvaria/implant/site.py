"""Where an implant goes: the bone around one hole, the outer surface over it, and how far points lie from bone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from calvaria.errors import InputError
from calvaria.implant.bone import LIMIT_MM, Nearest, SmoothBone
from calvaria.implant.outer import OUTWARD, Surfaces, fit_sheet
from calvaria.implant.parts import Sheet
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.skull.partial import Scan
from calvaria.types import F32, F64, BoolArray
from calvaria.volume.distance import reach_voxels
from calvaria.volume.resample import coarsen
from calvaria.volume.volume import Volume, bounding_box

if TYPE_CHECKING:
    from calvaria.implant.learned import Solid

ROOM_MM = 24.0
"""Bone within this of the missing bone is looked at."""

COARSE_MM = 0.95
"""Voxels are averaged to about this before the outer surface is fitted, which is far smoother."""

INWARDS_MM = 0.8
"""So far below a point of the completed skull's surface lies the bone that it belongs to."""

DEPTHS_MM = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
"""Below the outer surface; where one of them lies in the missing bone, the implant covers."""

SAME_MM = 1.6
"""A point of the engine's field belongs to the missing bone if it lies so near to its mask's surface."""

RIM_MM = 9.0
"""Bone is measured finely up to so far, along the outer surface, on both sides of the hole's edge."""

CALM_MM = 1.2
"""Corners of the hole's outline are rounded by about this: the voxels' steps."""


@dataclass(frozen=True, eq=False)
class Site:
    """One hole.

    Args:
        bone: mask of the bone around it.
        patch: mask of the missing bone on the same grid.
        sheet: the head's outer surface, with what of it is the hole's.
        edge_mm: (I, J) signed distance along it to the hole's edge, negative over the hole.
        smooth: the bone around it as a smooth body.
        rim: distances to the bone's surface near the hole's edge.
        fraction: how much of each voxel is bone, where a scan says it.
        solid: what the implant is to be, where that was learned; None: a layer under the sheet.
    """

    bone: Volume
    patch: Volume
    sheet: Sheet
    edge_mm: F32
    smooth: SmoothBone
    rim: Nearest
    fraction: Volume | None = None
    solid: Solid | None = None


def site_of(
    bone: Volume,
    patch: Volume,
    frame_to_world: F64,
    smooth_mm: float,
    *,
    outer: tuple[F64, F64] | None = None,
    scan: Scan | None = None,
) -> Site:
    """Look at one hole.

    Args:
        bone: mask of the defective skull.
        patch: mask of what is missing there, in one piece, on the same grid.
        frame_to_world: (4, 4) canonical mm -> world LPS mm.
        smooth_mm: of the outer surface.
        outer: (N, 3) points and (N, 3) outward unit normals of the completed skull, from an engine's field, world mm;
            None takes the patch's own surface.
        scan: the CT that the bone is of, for where it ends between voxels.

    Raises:
        InputError: there is no bone around the hole, or no outer surface.
    """
    box = bounding_box(patch.mask, reach_voxels(patch.grid, ROOM_MM))
    if box is None:
        raise InputError("the patch is empty: there is nothing to design an implant for")
    fraction = None if scan is None else scan.fraction(bone, box)
    bone, patch = bone.crop(box), patch.crop(box)
    if not bone.mask.any():
        raise InputError(f"there is no bone within {ROOM_MM:g} mm of the missing bone to fit an implant to")
    centre = frame_to_world[:3, :3] @ HEAD_CENTRE_MM + frame_to_world[:3, 3]
    completed = bone.mask | patch.mask if fraction is None else np.maximum(fraction.data, patch.data)
    whole = SmoothBone.of(coarsen(bone.with_data(completed), COARSE_MM), finer=False)
    filled = sampled(patch, whole.points_mm - INWARDS_MM * whole.normals)
    missing = (whole.points_mm[filled], whole.normals[filled])
    if outer is not None:
        missing = _belonging(outer, missing)
    own = (whole.points_mm[~filled], whole.normals[~filled])
    sheet = fit_sheet(Surfaces(own, missing, centre), smooth_mm)
    sheet, edge = _with_hole(sheet, patch)
    smooth = SmoothBone.of(bone if fraction is None else fraction)
    return Site(bone, patch, sheet, edge, smooth, smooth.near(_near(smooth.points_mm, sheet, edge)), fraction)


def sampled(mask: Volume, points_mm: F64) -> BoolArray:
    """Whether (N, 3) points lie in voxels of a mask."""
    index = np.rint(mask.grid.to_index(points_mm)).astype(int)
    inside = ((index >= 0) & (index < np.array(mask.shape))).all(axis=1)
    out = np.zeros(len(index), bool)
    out[inside] = mask.mask[tuple(index[inside].T)]
    return out


def _belonging(outer: tuple[F64, F64], missing: tuple[F64, F64]) -> tuple[F64, F64]:
    """The engine's points that lie at the missing bone."""
    from scipy.spatial import cKDTree

    if not len(missing[0]) or not len(outer[0]):
        return missing
    far, _ = cKDTree(missing[0]).query(outer[0], distance_upper_bound=SAME_MM, workers=2)
    near = np.isfinite(far)
    return outer[0][near], outer[1][near]


def _with_hole(sheet: Sheet, patch: Volume) -> tuple[Sheet, F32]:
    """The sheet with what of it covers the missing bone, and the distance to the edge of that."""
    from scipy.ndimage import binary_closing, binary_fill_holes, gaussian_filter, label

    flat, normals = sheet.points_mm.reshape(-1, 3), sheet.normals.reshape(-1, 3)
    covered = np.zeros(len(flat), bool)
    for depth in DEPTHS_MM:
        covered |= sampled(patch, flat - depth * normals)
    # Round the brow's edge, the sheet would go on along the roof of the orbit, and fold within its thickness.
    arm = flat - sheet.centre_mm
    covered &= np.einsum("nk,nk->n", arm, normals) > OUTWARD * np.linalg.norm(arm, axis=1)
    hole = binary_closing(covered.reshape(sheet.hole.shape), np.ones((3, 3)), iterations=2)
    hole = binary_fill_holes(hole)
    parts, count = label(hole)
    if not count:
        raise InputError("the missing bone does not reach the head's outer surface")
    hole = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    mm = spacing_of(sheet)
    edge = signed(hole, mm)
    edge = gaussian_filter(edge, CALM_MM / mm)
    return replace(sheet, hole=edge < 0), edge.astype(np.float32)


def spacing_of(sheet: Sheet) -> float:
    """Mean distance of neighbours of the lattice, mm."""
    return float(np.linalg.norm(np.diff(sheet.points_mm, axis=0), axis=-1).mean())


def area_cm2(site: Site, edge_mm: F32) -> float:
    """Area of the outer surface inside of an edge."""
    across = np.cross(np.gradient(site.sheet.points_mm, axis=0), np.gradient(site.sheet.points_mm, axis=1))
    return float(np.linalg.norm(across, axis=-1)[edge_mm < 0].sum() / 100)


def signed(inside: BoolArray, spacing_mm: float) -> F32:
    """(I, J) signed distance to the edge of a region of a lattice, negative inside, mm."""
    from scipy.ndimage import distance_transform_edt

    far = distance_transform_edt(~inside) - distance_transform_edt(inside)
    out: F32 = ((far - np.sign(far) * 0.5) * spacing_mm).astype(np.float32)
    return out


def _near(points_mm: F64, sheet: Sheet, edge_mm: F32) -> BoolArray:
    """Which points lie near the hole's rim; a k-d tree of all of them costs more than all else."""
    cells = np.rint(sheet.cells(points_mm)).astype(int)
    out: BoolArray = np.all((cells >= 0) & (cells < np.array(edge_mm.shape)), axis=1)
    index = np.flatnonzero(out)
    # A flange may lie on all bone that the sheet covers.
    out[index] = edge_mm[tuple(cells[index].T)] > -RIM_MM - LIMIT_MM
    if not out.any():
        raise InputError("there is no bone around the hole to fit an implant to")
    return out


__all__ = ["Site", "area_cm2", "sampled", "signed", "site_of", "spacing_of"]
