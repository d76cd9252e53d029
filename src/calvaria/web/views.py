"""What the page shows: small copies of voxels and surfaces, in the formats and the frame (RAS) of its viewer."""

from __future__ import annotations

import gzip
import io
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calvaria.files import atomic_path
from calvaria.volume import Grid, Mesh, Volume

if TYPE_CHECKING:
    from calvaria.pipeline import Reconstruction
    from calvaria.types import F64

HEAD, PATCH_VOXELS = "head.nii.gz", "patch.nii.gz"
SKULL, PATCH, IMPLANT = "skull.mz3", "patch.mz3", "implant.mz3"
SLICES = "slices.npz"
VIEW_NAMES = (HEAD, PATCH_VOXELS, SKULL, PATCH, IMPLANT)
"""Files that the page may ask for."""

MAX_EDGE = 256
"""Voxels along an axis: more is taken together."""

WINDOW_HU = (-200.0, 1800.0)
"""Of a CT, from black to white: soft tissue is dim, bone is bright."""

SKULL_STEP_MM = 1.6
"""Voxels of the surface that is shown of the skull are at least as long."""

SKULL_TRIANGLES = 150_000
SKULL_ERROR_MM = 0.4

NAMES = ("sagittal", "coronal", "axial")
"""Slices across the world's axes."""

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""LPS mm to RAS mm, which the viewer takes."""

MZ3 = 0x5A4D
"""Magic of a .mz3 surface."""

_FACES, _VERTICES, _COLOURS = 1, 2, 4


def show_head(folder: Path, volume: Volume, *, ct: bool) -> dict[str, Any]:
    """Write what slices are shown of, and say how its voxels lie.

    Args:
        folder: of the view, which is there.
        volume: a mask, or an image.
        ct: whether the image is in HU.

    Returns:
        ``shape`` and ``affine`` (rows, voxel centres -> world LPS mm) of the copy, and ``planes``: how slices across
        each of its axes are drawn, see `planes_of`.
    """
    small = coarser(volume, MAX_EDGE)
    grey = _grey(small, ct)
    _write_nifti(folder / HEAD, grey, small.grid)
    with atomic_path(folder / SLICES) as part:
        np.savez(part, head=grey, affine=small.affine)
    return {"shape": list(small.grid.shape), "affine": small.affine.tolist(), "planes": planes_of(small.affine)}


def planes_of(affine: F64) -> list[dict[str, Any]]:
    """How slices across each voxel axis are drawn, so that up is up and the patient's left is on the right.

    Args:
        affine: (4, 4) voxel -> world LPS mm.

    Returns:
        For each axis: ``name``; ``across`` and ``down``, the voxel axes along rows and columns of the picture;
        ``flip_across`` and ``flip_down``, whether they run the other way.

    >>> [plane["name"] for plane in planes_of(np.eye(4))]
    ['sagittal', 'coronal', 'axial']
    """
    world = _world_axes(affine)

    def plane(axis: int) -> dict[str, Any]:
        first, second = (other for other in range(3) if other != axis)
        across, down = (first, second) if world[first] < world[second] else (second, first)
        # x and y grow to the right; y downwards where it is the second, z upwards.
        forwards = bool(affine[world[across], across] > 0)
        downwards = bool(affine[world[down], down] > 0) == (world[down] == 1)
        turned = {"flip_across": not forwards, "flip_down": not downwards}
        return {"name": NAMES[world[axis]], "across": across, "down": down, **turned}

    return [plane(axis) for axis in range(3)]


def _world_axes(affine: F64) -> list[int]:
    """For each voxel axis the world's that it follows most, each once."""
    share = np.abs(affine[:3, :3]) / np.linalg.norm(affine[:3, :3], axis=0)
    return list(max(permutations(range(3)), key=lambda order: float(sum(share[w, a] for a, w in enumerate(order)))))


def show_result(folder: Path, result: Reconstruction) -> None:
    """Write patch and skull for slices and 3-D."""
    from calvaria.report.sheet import doubt_colours
    from calvaria.results.images import LEVEL, SURFACE_SMOOTH_MM
    from calvaria.volume import extract_surface

    _show_skull(folder / SKULL, result.defective)
    patch = coarser(result.patch, MAX_EDGE)
    marked = (patch.data > 0.5).astype(np.uint8) * np.uint8(255)
    _write_nifti(folder / PATCH_VOXELS, marked, patch.grid)
    grey = _stored(folder)["head"]
    if grey.shape == marked.shape:
        with atomic_path(folder / SLICES) as part:
            np.savez(part, head=grey, patch=marked, affine=patch.affine)
    if not result.patch.mask.any():
        return
    mesh = extract_surface(result.patch, smooth_mm=SURFACE_SMOOTH_MM)
    doubt = None if result.uncertainty is None else result.uncertainty.at(mesh.vertices_mm, LEVEL)
    write_mz3(folder / PATCH, mesh, None if doubt is None else doubt_colours(doubt).astype(np.uint8))


def show_implants(folder: Path, meshes: list[Mesh]) -> None:
    """Write implants for 3-D, as one surface."""
    from calvaria.volume.mesh import joined

    write_mz3(folder / IMPLANT, joined(meshes))


def shown_head(folder: Path) -> Volume:
    """What slices are shown of, grey values from 0 to 255."""
    found = _stored(folder)
    grey = found["head"]
    return Volume(grey, Grid(grey.shape, found["affine"]))


def slice_png(folder: Path, axis: int, index: int) -> bytes:
    """A slice as a picture, the patch in red.

    Args:
        folder: of the view.
        axis: 0, 1 or 2 of the copy that is shown.
        index: along it.

    Returns:
        A PNG, drawn as `planes_of` says.

    Raises:
        IndexError: there is no such slice.
    """
    from PIL import Image

    found = _stored(folder)
    grey = found["head"]
    if not (0 <= axis < 3 and 0 <= index < grey.shape[axis]):
        raise IndexError(f"no slice {index} along axis {axis}")
    plane = np.take(grey, index, axis)
    rgb = np.repeat(plane[..., None], 3, axis=2)
    if "patch" in found:
        inside = np.take(found["patch"], index, axis) > 0
        rgb[inside] = (rgb[inside] * 0.35 + np.array([214, 64, 54]) * 0.65).astype(np.uint8)
    plan = planes_of(found["affine"])[axis]
    if plan["across"] < plan["down"]:  # rows of a picture come first
        rgb = rgb.transpose(1, 0, 2)
    rgb = rgb[:: -1 if plan["flip_down"] else 1, :: -1 if plan["flip_across"] else 1]
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def coarser(volume: Volume, most: int) -> Volume:
    """The same place in fewer voxels: means of blocks, float32; what does not fill a block at the end is left out."""
    step = [max(1, -(-n // most)) for n in volume.shape]
    return _blocks(volume, (step[0], step[1], step[2]))


def _blocks(volume: Volume, step: tuple[int, int, int]) -> Volume:
    count = [n // s for n, s in zip(volume.shape, step, strict=True)]
    data = volume.data[tuple(slice(0, n * s) for n, s in zip(count, step, strict=True))]
    split = data.reshape(count[0], step[0], count[1], step[1], count[2], step[2])
    affine = volume.affine.copy()
    affine[:3, 3] = volume.affine[:3, :3] @ ((np.array(step) - 1) / 2) + volume.affine[:3, 3]
    affine[:3, :3] = volume.affine[:3, :3] * np.array(step)
    grid = Grid((count[0], count[1], count[2]), affine)
    return Volume(split.mean(axis=(1, 3, 5), dtype=np.float32), grid)


def _grey(volume: Volume, ct: bool) -> np.ndarray:
    """(I, J, K) uint8: a mask from 0 to 255, a CT by its window, anything else from its least to its most."""
    data = volume.data
    low, high = WINDOW_HU if ct else (float(data.min()), float(data.max()))
    share = np.clip((data - low) / max(high - low, 1e-6), 0, 1)
    return (share * 255).astype(np.uint8)


def _show_skull(path: Path, bone: Volume) -> None:
    from calvaria.implant.solids import simplified
    from calvaria.volume import extract_surface

    step = [max(1, round(SKULL_STEP_MM / mm)) for mm in bone.grid.spacing_mm]
    mesh = extract_surface(_blocks(bone, (step[0], step[1], step[2])), 0.4)
    write_mz3(path, mesh if len(mesh.faces) <= SKULL_TRIANGLES else _fewer(mesh, simplified))


def _fewer(mesh: Mesh, simplified: Any) -> Mesh:
    """The large pieces of a surface, with fewer triangles."""
    from calvaria.volume.mesh import joined

    shells = [shell for shell in mesh.shells if len(shell.faces) > 500]
    reduced: Mesh = simplified(joined(shells), SKULL_TRIANGLES, SKULL_ERROR_MM)[0]
    return reduced


def _stored(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / SLICES, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def _write_nifti(path: Path, data: np.ndarray, grid: Grid) -> None:
    import nibabel as nib

    image = nib.Nifti1Image(data, TO_RAS @ grid.affine)  # type: ignore[no-untyped-call]
    with atomic_path(path) as part:
        part.write_bytes(gzip.compress(image.to_bytes(), 1))


def write_mz3(path: Path, mesh: Mesh, colours: np.ndarray | None = None) -> None:
    """Write a surface as .mz3 in RAS mm.

    Args:
        path: ends in ``.mz3``.
        mesh: world LPS mm.
        colours: (V, 3) uint8 of the vertices.
    """
    vertices: F64 = mesh.vertices_mm @ TO_RAS[:3, :3]
    parts = [mesh.faces.astype("<i4").tobytes(), vertices.astype("<f4").tobytes()]
    attributes = _FACES | _VERTICES
    if colours is not None:
        attributes |= _COLOURS
        opaque = np.full((len(colours), 1), 255, np.uint8)
        parts.append(np.hstack([colours.astype(np.uint8), opaque]).tobytes())
    header = np.array([MZ3, attributes], "<u2").tobytes()
    header += np.array([len(mesh.faces), len(mesh.vertices_mm), 0], "<u4").tobytes()
    with atomic_path(path) as part:
        part.write_bytes(gzip.compress(header + b"".join(parts), 1))


__all__ = [
    "IMPLANT",
    "PATCH",
    "SKULL",
    "VIEW_NAMES",
    "coarser",
    "planes_of",
    "show_head",
    "show_implants",
    "show_result",
    "shown_head",
    "slice_png",
    "write_mz3",
]
