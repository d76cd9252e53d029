"""Images and masks in and out: which reader a file needs, and what may come of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import FormatError, InputError, naming
from calvaria.files import PathLike, atomic_path, require_file
from calvaria.io import metaimage, nifti, nrrd
from calvaria.io.frames import frame_to_lps
from calvaria.io.stream import GZIP_MAGIC
from calvaria.volume.foreground import foreground_of, has_two_values
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

WRITTEN: dict[str, Callable[[Path, Volume], None]] = {
    ".nrrd": nrrd.write,
    ".nii.gz": nifti.write,
    ".nii": nifti.write,
    ".mha": metaimage.write,
}
"""Extensions that can be written."""

READ_AS = {
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".nii": "NIfTI",
    ".nii.gz": "NIfTI",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
}
"""Extensions of images, and what a file so named should be."""

_OTHERS = (
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"PK\x03\x04", "a zip archive; unpack it first"),
    (0, b"solid ", "an STL mesh; read_mesh reads it"),
    (0, b"ply", "a PLY mesh; read_mesh reads it"),
    (128, b"DICM", "one DICOM slice; convert the series to .nrrd or .nii.gz first"),
    (0, b"\x1f\x8b", "gzip data that hold no NIfTI image; unpack it first"),
)

_HEAD = 4096
MAX_VALUES = 1000
"""Distinct values that are counted for an error message; more are not distinguished."""


UNLIKELY_MM = (30.0, 3000.0)
"""A field of view whose longest side is outside of this shows no part of a head that a person would reconstruct."""


def read_volume(path: PathLike, *, orientation: str | None = None, notes: list[str] | None = None) -> Volume:
    """Read a 3-D image: NRRD, NIfTI or MetaImage, recognised by their content.

    Args:
        path: ``.nrrd``, ``.nhdr`` with its data file, ``.nii``, ``.nii.gz``, ``.mha``, ``.mhd`` with its data file.
        orientation: three letters, such as ``"LPS"`` or ``"RAS"``, that say where the coordinates of the file grow to.
            Used only where the file itself does not say; for a file without directions these are its voxel axes.
        notes: gets a line for whatever is doubtful of the position and size of the voxels: two orientations that
            disagree, a spacing that may have been lost, a size that is no head's. Lines do not name the file.

    Returns:
        The voxels in their stored type (a scaled NIfTI as float), Fortran order, with their grid in LPS mm.

    Raises:
        InputError: there is no such file, it cannot be read or is empty.
        FormatError: it is no image, truncated, damaged, of an absurd size, not one 3-D scalar volume, or has NaN.
        GeometryError: spacing or directions are missing, singular, not positive or not finite.
    """
    if orientation is not None:
        frame_to_lps(orientation)
    path = require_file(path)
    reader = _reader(path)
    volume = reader(path, orientation)
    _require_finite(path.name, volume.data)
    if notes is not None:
        notes += nifti.notes_of(path) if reader is nifti.read else []
        notes += _notes_on_size(volume.grid)
    return volume


def read_mask(path: PathLike, *, orientation: str | None = None) -> Volume:
    """Read a bone mask: any image of two values, see `calvaria.volume.foreground`.

    Args:
        path: as in `read_volume`.
        orientation: as in `read_volume`.

    Returns:
        A bool volume, True where bone is: where the file is positive and its other value is 0, or where it has not
        the value of its border; never empty.

    Raises:
        InputError: there are more than two values, or two of which neither is the background, or no voxel is set; also
            as `read_volume`.
    """
    volume = read_volume(path, orientation=orientation)
    name = Path(path).name
    data = volume.data
    if not has_two_values(data):
        raise InputError(f"{name}: a mask has two values, such as 0 and 1; found {_describe(data)}")
    with naming(name):
        mask = foreground_of(data)
    if not mask.any():
        raise InputError(f"{name}: no voxel is set: the mask is empty")
    return volume.with_data(mask)


def write_volume(path: PathLike, volume: Volume) -> None:
    """Write an image or a mask; the file appears whole or not at all.

    A mask is stored as uint8 0 and 1. The grid comes back exactly from ``.nrrd`` and ``.mha``, to float32 precision
    (about 1e-5 mm for a head) from ``.nii`` and ``.nii.gz``. The same volume gives the same bytes.

    Args:
        path: ends with ``.nrrd``, ``.nii.gz``, ``.nii`` or ``.mha``; all but ``.nii`` are compressed.
        volume: bool, integers, float16 (stored as float32), float32 or float64.

    Raises:
        InputError: another extension, another type of voxel, no such folder, or the disk refuses.
    """
    path = Path(path)
    extension = extension_of(path)
    if extension not in WRITTEN:
        raise InputError(f"{path.name}: an image is written as {', '.join(WRITTEN)}; choose one of these extensions")
    with atomic_path(path) as part:
        WRITTEN[extension](part, volume)


def extension_of(path: PathLike) -> str:
    """The extension in lower case, ``.nii.gz`` as one.

    >>> extension_of("a.b/Head.NII.GZ"), extension_of("mask.nrrd")
    ('.nii.gz', '.nrrd')
    """
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def is_detached(path: Path) -> bool:
    """Whether an image, as `read_volume` takes it, is a header whose voxels lie in another file.

    Raises:
        FormatError: it is no image.
    """
    reader = _reader(path)
    return (reader is nrrd.read and nrrd.is_detached(path)) or (
        reader is metaimage.read and metaimage.is_detached(path)
    )


def _reader(path: Path) -> Callable[[Path, str | None], Volume]:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(nrrd.MAGIC):
        return nrrd.read
    if nifti.looks_like(head):
        return nifti.read
    if metaimage.looks_like(head):
        return metaimage.read
    kind = READ_AS.get(extension_of(path))
    for at, magic, what in _OTHERS:
        if head[at : at + len(magic)] == magic and not (kind == "NIfTI" and head.startswith(GZIP_MAGIC)):
            raise FormatError(f"{path.name}: not an image that is read (NRRD, NIfTI, MetaImage) but {what}")
    if kind is not None:
        raise FormatError(
            f"{path.name}: named like {kind}, but it does not begin like one (first bytes {head[:8]!r}); "
            "it may be truncated, damaged or misnamed"
        )
    raise FormatError(f"{path.name}: not an image that is read (NRRD, NIfTI, MetaImage); first bytes {head[:8]!r}")


def _require_finite(name: str, data: NDArray[Any]) -> None:
    if data.dtype.kind != "f":
        return
    with np.errstate(invalid="ignore"):
        finite = math.isfinite(data.min()) and math.isfinite(data.max())  # both pass NaN on; no array is made
    if not finite:
        count = sum(int(np.count_nonzero(~np.isfinite(data[:, :, k]))) for k in range(data.shape[2]))
        if count == data.size:
            raise FormatError(f"{name}: every voxel is NaN or infinite; export the image again")
        raise FormatError(f"{name}: {count} voxels are NaN or infinite; fill them (a CT's background is -1024)")


def _notes_on_size(grid: Grid) -> list[str]:
    """Lines on a voxel size that is probably not the scan's."""
    sides = [n * s for n, s in zip(grid.shape, grid.spacing_mm, strict=True)]
    if not UNLIKELY_MM[0] <= max(sides) <= UNLIKELY_MM[1]:
        size = " x ".join(f"{side:.3g}" for side in sides)
        return [f"the image spans {size} mm by its header, which is no head: check the spacing and its unit"]
    if grid.spacing_mm == (1.0, 1.0, 1.0):
        return [
            "the voxels are 1 x 1 x 1 mm by the header, which is also what programs write when the spacing was lost: "
            "if it is not the scan's, the patch has the wrong size"
        ]
    return []


def _planes(data: NDArray[Any]) -> list[NDArray[Any]]:
    return [data[:, :, k] for k in range(data.shape[2])]


def _describe(data: NDArray[Any]) -> str:
    low, high = data.min(), data.max()
    seen: set[float] = set()
    for plane in _planes(data):
        seen.update(np.unique(plane).tolist())
        if len(seen) > MAX_VALUES:
            break
    count = f"more than {MAX_VALUES}" if len(seen) > MAX_VALUES else str(len(seen))
    found = f"{count} values from {low} to {high}"
    if low >= 0 and 2 < len(seen) <= MAX_LABELS:
        return found + ": it looks like a map of labels; export the bone alone"
    if low < 0 or len(seen) > MAX_LABELS:
        return found + ": it looks like a CT; read_volume reads it and `calvaria reconstruct` takes it as it is"
    return found


MAX_LABELS = 40
"""Up to this many values are taken for labels rather than grey values, in a message only."""
