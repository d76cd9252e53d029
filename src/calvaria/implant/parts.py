"""What a design consists of: the outer surface, the implants, what was checked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from calvaria.implant.settings import ImplantSettings
from calvaria.reconstruction.checks import Check, Verdict
from calvaria.types import F64, BoolArray
from calvaria.volume.mesh import Mesh
from calvaria.volume.volume import Volume

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

FOOT_STEPS, ASIDE_MM = 2, 0.6
"""Steps from a point to its foot on the outer surface, and how far beside the normal there it may lie: a cell."""

CHUNK = 16_384
"""Points that are looked at together: what they need stays in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """A smooth open surface: the head's outer surface over a hole and around it, on a lattice of directions.

    Neighbours of the lattice lie about `outer.CELL_MM` apart.

    Args:
        points_mm: (I, J, 3) world LPS mm.
        normals: (I, J, 3) unit, outwards.
        hole: (I, J) what belongs to the implant: the missing bone lies below, bone beside.
        centre_mm: (3,) all directions start here.
        axes: (3, 3) rows: the middle direction and two across it; see `cells`.
        low: (2,) what cell the lattice begins at.
        cell_rad: angle between neighbours.
    """

    points_mm: F64
    normals: F64
    hole: BoolArray
    centre_mm: F64
    axes: F64
    low: F64
    cell_rad: float

    def cells(self, points_mm: F64) -> F64:
        """(N, 2) fractional lattice indices of the directions in which (N, 3) world points lie.

        Angles from the middle direction, equidistant (azimuthal equidistant projection).
        """
        along, *across = self.axes @ (np.asarray(points_mm, np.float64) - self.centre_mm).T
        wide = np.hypot(*across)
        angle = np.arctan2(wide, along) / np.maximum(wide, 1e-9) / self.cell_rad
        return np.stack([across[0] * angle, across[1] * angle], axis=1) - self.low

    def at(self, cells: F64) -> tuple[F64, F64]:
        """(N, 3) points and (N, 3) unit normals of the surface at (N, 2) fractional lattice indices, clipped to it."""
        from scipy.ndimage import map_coordinates

        where = np.asarray(cells, np.float64).T
        both = np.concatenate([self.points_mm, self.normals], axis=2)
        found = np.stack([map_coordinates(both[..., k], where, order=1, mode="nearest") for k in range(6)], axis=1)
        normals = found[:, 3:] / np.linalg.norm(found[:, 3:], axis=1, keepdims=True)
        return found[:, :3], normals

    def above(self, points_mm: F64) -> tuple[F64, NDArray[np.intp]]:
        """How far (N, 3) points lie above the surface.

        The foot is looked for along the ray from the centre first, then along the normal there; where that leads
        nowhere, such as inside of a sharp bend, it is the nearest point of all.

        Returns:
            (N,) signed distance, mm, positive outside of the head; (N,) flat numbers of the lattice points below.
        """
        points = np.asarray(points_mm, np.float64)
        if len(points) <= CHUNK:
            return self._above(points)
        self.tree  # noqa: B018  # made once, before two threads want it
        pieces = [points[start : start + CHUNK] for start in range(0, len(points), CHUNK)]
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(self._above, pieces))
        return np.concatenate([height for height, _ in found]), np.concatenate([foot for _, foot in found])

    def _above(self, points: F64) -> tuple[F64, NDArray[np.intp]]:
        places, normals = self.points_mm.reshape(-1, 3), self.normals.reshape(-1, 3)
        foot = self._nearest(points)
        for _ in range(FOOT_STEPS):
            way = normals[foot]
            height = np.einsum("nk,nk->n", points - places[foot], way)
            foot = self._nearest(points - height[:, None] * way)
        height = np.einsum("nk,nk->n", points - places[foot], normals[foot])
        aside = np.linalg.norm(points - places[foot] - height[:, None] * normals[foot], axis=1)
        lost = np.flatnonzero(aside > ASIDE_MM)
        if len(lost):
            foot[lost] = self.tree.query(points[lost], workers=2)[1]
            height[lost] = np.einsum("nk,nk->n", points[lost] - places[foot[lost]], normals[foot[lost]])
        return height, foot

    @cached_property
    def tree(self) -> cKDTree:
        """Of the points, in C order."""
        from scipy.spatial import cKDTree

        return cKDTree(self.points_mm.reshape(-1, 3), leafsize=24, balanced_tree=False, compact_nodes=False)

    def _nearest(self, points_mm: F64) -> NDArray[np.intp]:
        """(N,) flat numbers of the lattice points nearest in direction, at its border for those outside."""
        rows, columns = self.hole.shape
        i, j = np.rint(self.cells(points_mm)).astype(np.intp).T
        out: NDArray[np.intp] = np.clip(i, 0, rows - 1) * columns + np.clip(j, 0, columns - 1)
        return out


@dataclass(frozen=True, eq=False)
class Outline:
    """The edge of an implant, or of its flange, on the outer surface, one closed line, about 1 mm between its points.

    Args:
        points_mm: (R, 3) world LPS mm, in their order; the last is next to the first.
        normals: (R, 3) of the outer surface there.
        away: (R, 3) unit, along the surface, square to the edge, away from the implant.
        bone_mm: (R,) thickness of the bone beside it (6 mm from the edge, along the normal), or under the middle of a
            flange; 0 where there is none.
    """

    points_mm: F64
    normals: F64
    away: F64
    bone_mm: F64


@dataclass(frozen=True)
class Relief:
    """What had to be taken away so that the implant can be put in, and what was left out elsewhere.

    Args:
        depth_mm: how far it reaches into the implant from where clearance alone would end it; the most.
        volume_ml: of it.
        narrow_ml: parts narrower or thinner than the smallest wall, which were left out.
    """

    depth_mm: float
    volume_ml: float
    narrow_ml: float = 0.0


@dataclass(frozen=True, eq=False)
class Part:
    """One implant.

    Args:
        name: "implant", or "implant-1" and so on where there are several.
        mesh: finished, with all details; closed, world LPS mm.
        body: the same before holes, seats and mark: what thickness and clearance are measured on.
        direction: (3,) unit, world LPS: the way it moves when it is put in.
        sheet: its outer surface (where nothing is sunk, relieved or flattened: the head's own).
        outline: its edges on the outer surface, the longest first.
        thickness_mm: (I, J) asked for, on the sheet's lattice.
        asked_mm: (V,) clearance that was asked for at the body's vertices; NaN where none is (not at the rim).
        relief: what was taken away.
    """

    name: str
    mesh: Mesh
    body: Mesh
    direction: F64
    sheet: Sheet
    outline: tuple[Outline, ...]
    thickness_mm: F64
    asked_mm: F64
    relief: Relief


@dataclass(frozen=True, eq=False)
class Maps:
    """Per vertex of a part's body, for pictures and checks.

    Args:
        thickness_mm: (V,) to the other side, along the outer surface's normal; NaN at the rim.
        clearance_mm: (V,) to the bone's surface; NaN away from the rim.
    """

    thickness_mm: F64
    clearance_mm: F64


@dataclass(frozen=True, eq=False)
class Design:
    """What `calvaria.design` gives back.

    Args:
        parts: the implants, that of the largest hole first.
        host: the bone around the holes, to print and try; closed, world LPS mm.
        bone: the defective skull, a mask on the input's grid.
        frame_to_world: (4, 4) canonical mm -> world LPS mm.
        settings: how they were made.
        checks: all that was measured.
        maps: for each part.
        mould: for each part lower and upper half; empty where none was asked for.
        surface_from: where the outer surface comes from: the engine's "field", a "mask", or what was "learned".
        seconds: by step.
        notes: what the user should read, a line a matter.
        fraction: how much of each voxel around the implants is bone, where a scan says it: what is measured against.
    """

    parts: tuple[Part, ...]
    host: Mesh
    bone: Volume
    frame_to_world: F64
    settings: ImplantSettings
    checks: tuple[Check, ...] = ()
    maps: tuple[Maps, ...] = ()
    mould: tuple[tuple[Mesh, Mesh], ...] = ()
    surface_from: Literal["field", "mask", "learned"] = "mask"
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fraction: Volume | None = None

    @property
    def failed(self) -> bool:
        """Whether a check failed."""
        return any(check.verdict == "fail" for check in self.checks)

    @property
    def asked_thickness_mm(self) -> float | None:
        """The thickness that was asked for; None where it is the bone's own, or was learned."""
        constant = self.settings.thickness == "constant" and self.surface_from != "learned"
        return self.settings.thickness_mm if constant else None


__all__ = ["Check", "Design", "Maps", "Outline", "Part", "Relief", "Sheet", "Verdict"]
