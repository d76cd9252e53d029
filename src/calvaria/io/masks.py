"""A mask from whatever a mask may come in: an image, or a closed mesh."""

from __future__ import annotations

import math

import numpy as np

from calvaria.errors import InputError
from calvaria.files import PathLike, require_file
from calvaria.io.images import extension_of, read_mask
from calvaria.io.meshes import MESHES, read_mesh
from calvaria.io.stream import LARGEST_VOXELS
from calvaria.volume.grid import Grid
from calvaria.volume.mesh import Mesh
from calvaria.volume.resample import resample_mask
from calvaria.volume.volume import Volume
from calvaria.volume.voxelise import voxelise

MARGIN_VOXELS = 2
"""Empty voxels around a mesh on a grid of its own, so that its surface can be found again."""


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
            absurdly large; ``spacing_mm`` is not positive.
    """
    name = require_file(path).name
    if extension_of(path) not in MESHES:
        mask = read_mask(path, orientation=orientation)
        if grid is not None:
            mask = Volume(mask.data, grid) if mask.grid.same_as(grid) else resample_mask(mask, grid)
    else:
        mesh = read_mesh(path)
        wanted = grid or _grid_around(name, mesh, spacing_mm)
        try:
            mask = voxelise(mesh, wanted)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    if not mask.data.any():
        raise InputError(f"{name}: nothing of it lies on the grid; check that both are in one frame, and in mm")
    return mask


def _grid_around(name: str, mesh: Mesh, spacing_mm: float) -> Grid:
    if not (math.isfinite(spacing_mm) and spacing_mm > 0):
        raise InputError(f"{name}: the spacing must be a positive number of mm; got {spacing_mm}")
    low, high = mesh.vertices_mm.min(axis=0), mesh.vertices_mm.max(axis=0)
    counts = np.ceil((high - low) / spacing_mm) + 2 * MARGIN_VOXELS
    if np.prod(counts) > LARGEST_VOXELS:
        size = " x ".join(f"{v:.0f}" for v in high - low)
        raise InputError(f"{name}: a mesh of {size} mm at {spacing_mm} mm has too many voxels; is it in mm?")
    i, j, k = (int(n) for n in counts)
    middle = (low + high) / 2
    return Grid.isotropic((i, j, k), spacing_mm, middle - (counts - 1) / 2 * spacing_mm)
