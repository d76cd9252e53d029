"""A mask from whatever a mask may come in: an image, or a closed mesh."""

from __future__ import annotations

import math

import numpy as np

from calvaria.errors import InputError, naming
from calvaria.files import PathLike, require_file
from calvaria.io.images import extension_of, read_mask
from calvaria.io.meshes import MESHES, read_mesh
from calvaria.io.stream import MAX_VOXELS
from calvaria.volume.grid import Grid
from calvaria.volume.mesh import Mesh
from calvaria.volume.resample import resample_mask
from calvaria.volume.volume import Volume
from calvaria.volume.voxelise import voxelise

MARGIN_VOXELS = 2
"""Empty voxels around a mesh on a grid of its own, so that its surface can be found again."""

MIN_MESH_MM, MAX_MESH_MM = 10.0, 1000.0
"""A skull, a patch or an implant whose longest side is outside of this is not in mm; a burr hole's cover has 12."""

HEAD_MM = (120.0, 300.0)
"""The longest side of a skull, with or without face and jaw, in any pose."""

UNITS = {"cm": 10.0, "inches": 25.4, "m": 1000.0, "um": 0.001}
"""What a mesh may be in by mistake, for a message, and the mm of each."""


def read_as_mask(
    path: PathLike, grid: Grid | None = None, spacing_mm: float = 0.5, *, orientation: str | None = None
) -> Volume:
    """Read a mask from an image, or from a closed mesh by the voxel centres inside it.

    Args:
        path: an image as in `read_mask`, or a mesh as in `read_mesh`.
        grid: where the mask is wanted; an image on another grid is resampled. None: the image's own grid, or for a mesh
            a grid along the world's axes around it.
        spacing_mm: voxel edge of that grid, mm; not used otherwise.
        orientation: as in `read_mask`; not used for a mesh.

    Returns:
        A bool volume, never empty.

    Raises:
        InputError: as `read_mask` and `read_mesh`; nothing of it lies on the grid; a grid around the mesh would be
            absurdly large; a mesh is so small or so large that it cannot be in mm; ``spacing_mm`` is not positive.
    """
    name = require_file(path).name
    if extension_of(path) not in MESHES:
        mask = read_mask(path, orientation=orientation)
        if grid is not None:
            mask = Volume(mask.data, grid) if mask.grid.same_as(grid) else resample_mask(mask, grid)
    else:
        mesh = read_mesh(path)
        _require_mm(name, mesh)
        wanted = grid or _grid_around(name, mesh, spacing_mm)
        with naming(name):
            mask = voxelise(mesh, wanted)
    if not mask.data.any():
        raise InputError(f"{name}: nothing of it lies on the grid; check that both are in one frame, and in mm")
    return mask


def _require_mm(name: str, mesh: Mesh) -> None:
    """Raise for a mesh that is no part of a head in mm, with the unit that would make it one."""
    sides = np.ptp(mesh.vertices_mm, axis=0)
    longest = float(sides.max())
    if MIN_MESH_MM <= longest <= MAX_MESH_MM:
        return
    size = " x ".join(f"{side:.3g}" for side in sides)
    fitting = [unit for unit, mm in UNITS.items() if HEAD_MM[0] <= longest * mm <= HEAD_MM[1]]
    guess = f"in {fitting[0]} it would be a head's: " if fitting else ""
    raise InputError(f"{name}: a mesh in mm is wanted, and this one is {size} large; {guess}export it in mm")


def _grid_around(name: str, mesh: Mesh, spacing_mm: float) -> Grid:
    if not (math.isfinite(spacing_mm) and spacing_mm > 0):
        raise InputError(f"{name}: the spacing must be a positive number of mm; got {spacing_mm}")
    low, high = mesh.vertices_mm.min(axis=0), mesh.vertices_mm.max(axis=0)
    counts = np.ceil((high - low) / spacing_mm) + 2 * MARGIN_VOXELS
    if np.prod(counts) > MAX_VOXELS:
        size = " x ".join(f"{v:.0f}" for v in high - low)
        raise InputError(f"{name}: a mesh of {size} mm at {spacing_mm} mm has too many voxels; take a coarser spacing")
    i, j, k = (int(n) for n in counts)
    middle = (low + high) / 2
    return Grid.isotropic((i, j, k), spacing_mm, middle - (counts - 1) / 2 * spacing_mm)
