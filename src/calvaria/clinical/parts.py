"""An implant or a patch of a clinical case: read, closed if it can be, and put where it belongs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calvaria.clinical.mesh_coordinates import Placement, Surroundings, mask_conventions, mesh_conventions, place
from calvaria.clinical.table import ClinicalRow
from calvaria.errors import InputError
from calvaria.io.images import extension_of, read_mask
from calvaria.io.meshes import MESHES, read_mesh
from calvaria.types import F64
from calvaria.volume.grid import Grid
from calvaria.volume.mesh import Mesh
from calvaria.volume.resample import resample_mask
from calvaria.volume.volume import Volume
from calvaria.volume.voxelise import voxelise

VOLUME_ML = (2.0, 400.0)
"""Implants and patches are this large; a hemicraniectomy's patch has about 100 ml."""

RASTER_CELLS = 90
"""Cells along a mesh's longest side in which points of its inside are sought."""


@dataclass(frozen=True, eq=False)
class Part:
    """An implant or patch, and where it belongs.

    Args:
        name: of its file.
        shape: as the file has it: a mesh in the file's coordinates, or a mask.
        placement: the convention, and how it sits.
        warnings: what was done to it, and doubts.
    """

    name: str
    shape: Mesh | Volume
    placement: Placement
    warnings: tuple[str, ...] = ()

    def on(self, world: Grid) -> Volume:
        """Its mask on a grid in world mm."""
        to_world = self.placement.to_world
        if isinstance(self.shape, Mesh):
            return voxelise(self.shape.moved(to_world), world)
        return resample_mask(Volume(self.shape.mask, self.shape.grid.moved(to_world)), world)

    def record(self) -> dict[str, Any]:
        """What is kept of it in the case's record."""
        sit, second = self.placement.sit, self.placement.second
        return {
            "form": "mesh" if isinstance(self.shape, Mesh) else "mask",
            "convention": self.placement.convention,
            "file_to_world": self.placement.to_world.round(9).tolist(),
            "sits": {name: round(value, 4) for name, value in (*vars(sit).items(), ("fit", sit.fit))},
            "next_best": None if second is None else {"convention": second[0], "fit": round(second[1].fit, 4)},
        }


def read_part(path: Path, what: str, row: ClinicalRow, grid: Grid, around: Surroundings) -> Part:
    """Read an implant or patch and find its position.

    Args:
        path: a mesh or a mask.
        what: "implant" or "patch", for messages.
        row: the case; its convention, if one is named, is the only one that is tried.
        grid: of the skull's file.
        around: the skull.

    Returns:
        The part.

    Raises:
        InputError: it cannot be read, is open, sits nowhere or at two positions, or is too small or too large.
    """
    shape, warnings = _closed_mesh(path) if extension_of(path) in MESHES else (read_mask(path), ())
    name = path.name
    if isinstance(shape, Mesh):
        conventions, points = mesh_conventions(grid), _points_inside(shape)
        if not len(points):
            raise InputError(f"{name}: the mesh encloses next to nothing; is it a surface without thickness?")
    else:
        conventions = mask_conventions(shape.grid, grid)
        points = shape.grid.to_world(np.argwhere(shape.mask))
    if row.convention is not None and isinstance(shape, Mesh):
        if row.convention not in conventions:
            raise InputError(f"the convention {row.convention!r} is none of {', '.join(conventions)}")
        conventions = {row.convention: conventions[row.convention]}
    placement = place(points, conventions, around, name)
    part = Part(name, shape, placement, (*warnings, *placement.doubts(name)))
    volume_ml = _volume_ml(part)
    if not VOLUME_ML[0] <= volume_ml <= VOLUME_ML[1]:
        raise InputError(
            f"{name}: the {what} holds {volume_ml:.1f} ml, {VOLUME_ML[0]:g} to {VOLUME_ML[1]:g} are accepted; check "
            f"that it is the {what} alone"
        )
    return part


def _volume_ml(part: Part) -> float:
    grows = abs(float(np.linalg.det(part.placement.to_world[:3, :3])))
    return grows * abs(part.shape.volume_ml)


def _closed_mesh(path: Path) -> tuple[Mesh, tuple[str, ...]]:
    """A mesh that encloses a volume; small holes are closed, and that is said."""
    mesh = read_mesh(path, require_closed=False)
    if not mesh.open_edges:
        return mesh, ()
    import trimesh

    name = path.name
    repaired = trimesh.Trimesh(mesh.vertices_mm, mesh.faces, process=True)
    with np.errstate(all="ignore"):
        trimesh.repair.fill_holes(repaired)
        trimesh.repair.fix_normals(repaired)  # type: ignore[no-untyped-call]
    closed = Mesh(np.asarray(repaired.vertices, np.float64), np.asarray(repaired.faces, np.int64))
    if closed.open_edges or closed.is_empty:
        raise InputError(
            f"{name}: the mesh is open ({mesh.open_edges} edges without a partner) and has holes too large to be "
            "closed by themselves; repair it first, e.g. in Meshmixer or MeshLab"
        )
    return closed, (f"{name}: the mesh was open ({mesh.open_edges} edges without a partner); small holes were closed",)


def _points_inside(mesh: Mesh) -> F64:
    """(N, 3) points inside a closed mesh, in its own units, evenly spread."""
    low, high = mesh.vertices_mm.min(axis=0), mesh.vertices_mm.max(axis=0)
    step = float((high - low).max()) / RASTER_CELLS
    if step <= 0:
        return np.zeros((0, 3))
    i, j, k = (int(n) for n in np.ceil((high - low) / step) + 1)
    inside = voxelise(mesh, Grid.isotropic((i, j, k), step, low))
    return inside.grid.to_world(np.argwhere(inside.mask))


__all__ = ["Part", "read_part"]
