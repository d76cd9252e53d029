"""The surface of a mask as something that could be made: one closed shell a piece, of the mask's own volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.volume.components import fill_holes, label
from calvaria.volume.mesh import Mesh, extract_surface
from calvaria.volume.volume import Volume

LOST_SHARE = 0.002
"""Smoothing that takes more of a piece than this away, or tears it so, is halved."""

SMOOTHINGS = 4
"""How often smoothing is halved before the voxels' own surface is taken."""


def solid_surface(mask: Volume, smooth_mm: float = 0.0) -> Mesh:
    """The closed surface of a mask's pieces, without cavities and small components.

    Args:
        mask: what is solid; pieces are joined by voxels' faces, so that none hangs on an edge or a corner. What it
            encloses is filled.
        smooth_mm: sigma of a Gaussian, mm along each axis, that removes the voxel staircase; halved where a thin piece
            would tear.

    Returns:
        A mesh in world LPS mm, one closed shell with outward normals a piece, whose volume is within 0.5 % of the
        filled mask's; empty for an empty mask.

    Raises:
        InputError: the volume is not a mask, or smoothing is negative.
    """
    if not mask.is_mask:
        raise InputError(f"the surface of a solid is that of a mask; the volume holds {mask.data.dtype}")
    solid = fill_holes(mask)
    pieces = label(solid.mask, connectivity=6)[1]
    for halvings in range(SMOOTHINGS):
        whole = extract_surface(solid, smooth_mm=smooth_mm / 2**halvings)
        mesh = largest_shells(whole, pieces)
        if abs(mesh.volume_ml - solid.volume_ml) <= LOST_SHARE * solid.volume_ml and shell_count(mesh) == pieces:
            return mesh
    return largest_shells(extract_surface(solid), pieces)


def shells(mesh: Mesh) -> NDArray[np.intp]:
    """(F,) the number of the connected shell that each triangle belongs to, from 0 on."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    a, b, c = mesh.faces.T
    ends = np.concatenate([a, b]), np.concatenate([b, c])
    count = len(mesh.vertices_mm)
    joined = coo_matrix((np.ones(len(ends[0]), np.int8), ends), shape=(count, count))
    of_vertex = connected_components(joined, directed=False)[1]
    return np.unique(of_vertex[a], return_inverse=True)[1].astype(np.intp)


def shell_count(mesh: Mesh) -> int:
    """How many shells a mesh has that nothing joins; 0 for an empty one."""
    return int(shells(mesh).max()) + 1 if len(mesh.faces) else 0


def largest_shells(mesh: Mesh, count: int) -> Mesh:
    """The ``count`` shells of largest volume; those that face inwards, around cavities, count as smaller than none.

    Vertices of the others go.
    """
    if not len(mesh.faces):
        return mesh
    shell = shells(mesh)
    middle = mesh.vertices_mm.mean(axis=0)
    a, b, c = np.moveaxis((mesh.vertices_mm - middle)[mesh.faces], 1, 0)
    volume = np.bincount(shell, np.einsum("nk,nk->n", a, np.cross(b, c)) / 6)
    if len(volume) <= count and (volume > 0).all():
        return mesh
    kept = np.argsort(-volume, kind="stable")[:count]
    kept = kept[volume[kept] > 0]
    faces = mesh.faces[np.isin(shell, kept)]
    used, place = np.unique(faces, return_inverse=True)
    return Mesh(mesh.vertices_mm[used], place.reshape(faces.shape))


__all__ = ["largest_shells", "shell_count", "shells", "solid_surface"]
