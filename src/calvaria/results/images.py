"""What a reconstruction leaves as images and surfaces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calvaria.pipeline import Reconstruction
    from calvaria.reconstruction.uncertainty import Uncertainty
    from calvaria.volume import Mesh

UNCERTAINTY = "uncertainty.ply"

SURFACE_SMOOTH_MM = 0.5
"""Sigma of the Gaussian against the voxel staircase in patch.stl: about a voxel of a head CT, well below its bone."""

LEVEL = 0.9
"""The true surface lies within a vertex's value with this probability."""


def write_images(folder: Path, result: Reconstruction, ending: str) -> None:
    """Patch and completed skull as images; the patch as a surface, and with how sure it is (none for an empty patch).

    Args:
        folder: which is there.
        result: of a reconstruction.
        ending: of the images, such as ``.nrrd``.

    Raises:
        InputError: they cannot be written.
    """
    from calvaria.io import write_mesh, write_volume
    from calvaria.volume import extract_surface

    write_volume(folder / f"patch{ending}", result.patch)
    write_volume(folder / f"completed{ending}", result.completed)
    if not result.patch.mask.any():
        return
    mesh = extract_surface(result.patch, smooth_mm=SURFACE_SMOOTH_MM)
    write_mesh(folder / "patch.stl", mesh)
    if result.uncertainty is not None:
        write_uncertainty(folder / UNCERTAINTY, mesh, result.uncertainty)


def write_uncertainty(path: Path, mesh: Mesh, uncertainty: Uncertainty) -> None:
    """Write a mesh with half the width of the 90 % interval, mm, as each vertex's value, from blue (0) to red (2 mm).

    Args:
        path: a ``.ply`` file.
        mesh: the patch's surface, world LPS mm.
        uncertainty: of the completed surface.

    Raises:
        InputError: it cannot be written.
    """
    from calvaria.io import write_mesh
    from calvaria.report.sheet import doubt_colours

    half_mm = uncertainty.at(mesh.vertices_mm, LEVEL)
    write_mesh(path, mesh, values=half_mm, colours=doubt_colours(half_mm))


__all__ = ["SURFACE_SMOOTH_MM", "UNCERTAINTY", "write_images", "write_uncertainty"]
