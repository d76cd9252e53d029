"""What the picture and the page of a design have in common: its bone, its colours, and its maps on what is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.report.errors import ANCHORS
from calvaria.report.mesh_raster import Solid
from calvaria.report.scene import Colour
from calvaria.report.sheet import PATCH
from calvaria.types import F32, F64
from calvaria.volume.blocks import coarsen
from calvaria.volume.mesh import Mesh, extract_surface
from calvaria.volume.volume import bounding_box

if TYPE_CHECKING:
    from calvaria.implant.parts import Design

PART_COLOURS: tuple[Colour, ...] = (PATCH, (70, 178, 168), (190, 132, 214), (226, 196, 84))
"""Of the implants in turn: orange, teal, mauve, yellow."""

UNKNOWN: Colour = (112, 114, 122)
"""Grey: where a map has no value."""

THICKNESS_COLOURS: tuple[Colour, ...] = ((84, 40, 142), (62, 100, 176), (34, 156, 148), (112, 204, 90), (252, 228, 60))
"""From thin to thick: violet, blue, green, yellow; the colour-blind, and prints in grey, tell them apart."""

CLEARANCE_COLOURS: tuple[Colour, ...] = tuple(reversed(ANCHORS))
"""From tight to wide: red, ivory where it is what was asked, blue."""

COARSE_MM = 2.2
"""Voxels that the skull away from the hole is drawn of."""

COARSE_LEVEL = 0.4
"""Share of bone at which its surface is drawn: somewhat under a half, so that thin bone does not break up."""

BESIDE_SHARE, BESIDE_MM = 0.6, 0.3
"""The bone around the holes covers what lies above or below it, and beside a vertex by this share of its longest edge
and so many mm."""

FROM_IMPLANT_MM = 8.0
"""Bone nearer to an implant is never drawn coarse: it is all in the bone around the holes."""

SHOWN_PERCENT = (1.0, 99.0)
"""The thickness's colours reach over this part of its values."""


@dataclass(frozen=True)
class Scale:
    """Colours of values.

    Args:
        title: what it is of.
        values: rising, mm; the first and the last are the ends.
        colours: those of the values; between them in proportion.
        mark_mm: a value pointed out on the bar; None: none.
        mark: what is written there.
    """

    title: str
    values: tuple[float, ...]
    colours: tuple[Colour, ...]
    mark_mm: float | None
    mark: str

    def colours_of(self, values: ArrayLike) -> F32:
        """(N, 3) colours, 0-255, of (N,) values; beyond the ends the last ones, grey for NaN."""
        found = np.asarray(values, np.float64)
        channels = [np.interp(found, self.values, channel) for channel in np.array(self.colours, np.float64).T]
        return np.where(np.isnan(found)[:, None], UNKNOWN, np.stack(channels, axis=-1)).astype(np.float32)


def thickness_scale(design: Design) -> Scale:
    """From a little under the thinnest to a little over the thickest place, at least 2 mm apart."""
    settings = design.settings
    asked = design.asked_thickness_mm
    known = np.concatenate([one.thickness_mm[np.isfinite(one.thickness_mm)] for one in design.maps] or [np.zeros(0)])
    low, high = np.percentile(known, SHOWN_PERCENT) if len(known) else (settings.thickness_mm,) * 2
    middle = (low + high) / 2 if asked is None else asked
    low, high = min(low, middle - 1), max(high, middle + 1)
    steps = 2 if high - low <= 2 else 1  # per mm: ends that make short numbers at the bar
    low, high = max(np.floor(steps * low) / steps, 0.0), np.ceil(steps * high) / steps
    values = tuple(float(v) for v in np.linspace(low, high, len(THICKNESS_COLOURS)))
    return Scale("thickness", values, THICKNESS_COLOURS, asked, "" if asked is None else f"asked {asked:g}")


def clearance_scale(design: Design) -> Scale:
    """From 0 to twice what was asked, and further where it was asked to widen."""
    settings = design.settings
    asked, top = settings.clearance_mm, 2 * settings.clearance_mm + settings.widening_mm
    values = (0.0, asked / 2, asked, (asked + top) / 2, top)
    return Scale("clearance", values, CLEARANCE_COLOURS, asked, f"asked {asked:g}")


def part_colour(number: int) -> Colour:
    """Of an implant, counted from 0."""
    return PART_COLOURS[number % len(PART_COLOURS)]


def rest_of_skull(design: Design) -> Mesh:
    """The skull away from the bone around the holes, coarse: one shows where on the head that lies.

    Returns:
        A mesh that is open where the bone around the holes takes over; empty where that is all the bone there is.
    """
    from scipy.spatial import cKDTree

    box = bounding_box(design.bone.mask, (2, 2, 2))
    if box is None:
        return Mesh.empty()
    coarse = coarsen(design.bone.crop(box), COARSE_MM)
    mesh = extract_surface(coarse, COARSE_LEVEL)
    if mesh.is_empty or design.host.is_empty:
        return mesh
    host, reach = design.host, max(coarse.grid.spacing_mm)
    longest = np.zeros(len(host.vertices_mm))  # edge at each vertex: the bone around the holes may have large triangles
    for start, end in ((0, 1), (1, 2), (2, 0)):
        edge = np.linalg.norm(host.vertices_mm[host.faces[:, start]] - host.vertices_mm[host.faces[:, end]], axis=1)
        np.maximum.at(longest, host.faces[:, start], edge)
    tree = cKDTree(host.vertices_mm, leafsize=32, balanced_tree=False, compact_nodes=False)
    _, nearest = tree.query(mesh.vertices_mm, workers=2)
    off, normal = mesh.vertices_mm - host.vertices_mm[nearest], host.vertex_normals[nearest]
    above = np.einsum("nk,nk->n", off, normal)
    beside = np.linalg.norm(off - above[:, None] * normal, axis=1)
    # The walls where that bone is cut off cover nothing: they face along the head.
    alike = np.einsum("nk,nk->n", mesh.vertex_normals, normal) > SAME_SIDE_COSINE
    covered = alike & (np.abs(above) < reach) & (beside < BESIDE_SHARE * longest[nearest] + BESIDE_MM)
    faces = mesh.faces
    for _ in range(2):  # and one row of triangles more, beneath its edge
        kept = np.zeros(len(covered), bool)
        kept[faces[~covered[faces].all(axis=1)]] = True
        covered = ~kept
    implants = cKDTree(np.concatenate([part.mesh.vertices_mm[::4] for part in design.parts] or [np.zeros((0, 3))]))
    apart, _ = implants.query(mesh.vertices_mm, distance_upper_bound=FROM_IMPLANT_MM, workers=2)
    faces = faces[kept[faces].all(axis=1) & np.isinf(apart)[faces].any(axis=1)]
    used, faces = np.unique(faces, return_inverse=True)
    return Mesh(mesh.vertices_mm[used], faces.reshape(-1, 3))


def thickness_on(values: F64, drawn: Solid) -> F64:
    """(N,) a map on what is drawn: next to a place without value, that of the nearest place that has one.

    Faces none of whose corners has a value, as those of the rim, keep none.

    Args:
        values: (N,) at its vertices, NaN where there is none.
        drawn: it.
    """
    from scipy.spatial import cKDTree

    found = np.array(values, np.float64)
    known = np.isfinite(found)
    if not known.any():
        return found
    touched = _of_faces(drawn, np.asarray(known[drawn.faces].any(axis=1))) & ~known
    _, nearest = cKDTree(drawn.vertices_mm[known]).query(drawn.vertices_mm[touched])
    found[touched] = found[known][nearest]
    return found


def clearance_on(values: F64, drawn: Solid) -> F64:
    """(N,) a map on what is drawn: only on faces all of whose corners have a value.

    Args:
        values: (N,) at its vertices, NaN where there is none.
        drawn: it.
    """
    found = np.array(values, np.float64)
    found[~_of_faces(drawn, np.asarray(np.isfinite(found)[drawn.faces].all(axis=1)))] = np.nan
    return found


def directions_of(design: Design) -> list[list[int]]:
    """The implants in groups that are put in from about the same side: each group is looked at from there."""
    groups: list[list[int]] = []
    for number, part in enumerate(design.parts):
        for group in groups:
            if float(design.parts[group[0]].direction @ part.direction) > SAME_SIDE_COSINE:
                group.append(number)
                break
        else:
            groups.append([number])
    return groups


SAME_SIDE_COSINE = 0.64
"""Implants whose ways in differ by less than 50 degrees are seen well in one picture."""


def mean_direction(design: Design, group: Sequence[int]) -> F64:
    """(3,) unit, world: the way in of a group of implants."""
    total = np.sum([design.parts[n].direction for n in group], axis=0)
    return np.asarray(total / np.linalg.norm(total))


def _of_faces(drawn: Solid, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N,) the corners of some faces."""
    corners = np.zeros(len(drawn.vertices_mm), bool)
    corners[drawn.faces[chosen]] = True
    return corners


__all__ = [
    "PART_COLOURS",
    "UNKNOWN",
    "Scale",
    "clearance_on",
    "clearance_scale",
    "directions_of",
    "mean_direction",
    "part_colour",
    "rest_of_skull",
    "thickness_on",
    "thickness_scale",
]
