"""Where an image's voxels lie, without expanding them."""

from __future__ import annotations

from calvaria.errors import FormatError
from calvaria.files import PathLike, require_file
from calvaria.io import metaimage, nifti, nrrd
from calvaria.io.stream import MAX_VOXELS
from calvaria.volume.grid import Grid

# The readers' own parts, which are private to this package, put together without the voxels.

_HEAD = 4096


def read_grid(path: PathLike, *, orientation: str | None = None) -> Grid:
    """The grid of an image, from its header: in a thousandth of the time that the voxels take.

    Args:
        path: as in `calvaria.io.read_volume`.
        orientation: as in `calvaria.io.read_volume`.

    Raises:
        InputError: there is no such file, or it is empty.
        FormatError: it is no image that is read, or its header cannot be used.
        GeometryError: as `calvaria.io.read_volume`.
    """
    path = require_file(path)
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(nrrd.MAGIC):
        fields, _ = nrrd._header(path)
        grid = nrrd._grid(path.name, fields, *nrrd._shape(path.name, fields), orientation)
    elif nifti.looks_like(head):
        header, _ = nifti._header(path)
        grid = nifti._grid(path.name, header, nifti._shape(path.name, header), orientation)
    elif metaimage.looks_like(head):
        fields = metaimage.without_fourth_axis(path.name, metaimage._header(path)[0])
        sizes = metaimage._numbers(path.name, fields, "DimSize")
        if len(sizes) != 3 or not all(n >= 1 and n.is_integer() for n in sizes.tolist()):
            raise FormatError(f"{path.name}: DimSize must be three positive whole numbers; found {fields['DimSize']}")
        grid = metaimage._grid(path.name, fields, (int(sizes[0]), int(sizes[1]), int(sizes[2])), orientation)
    else:
        raise FormatError(f"{path.name}: not an image that is read (NRRD, NIfTI, MetaImage); first bytes {head[:8]!r}")
    if grid.size > MAX_VOXELS:
        size = " x ".join(map(str, grid.shape))
        raise FormatError(f"{path.name}: the header says {size} voxels, more than the {MAX_VOXELS} that are read")
    return grid


__all__ = ["read_grid"]
