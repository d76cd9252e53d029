"""NIfTI-1 and -2, single file, plain or gzip: https://nifti.nimh.nih.gov.

NIfTI's world is RAS; it becomes LPS here and nowhere else. The header is nibabel's; the voxels are read by
`calvaria.io.stream`, which knows what a file can hold before it is expanded.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from calvaria.errors import FormatError, GeometryError, InputError
from calvaria.io.frames import frame_to_lps, lps_grid, no_orientation, spacing_columns
from calvaria.io.stream import DAMAGE, GZIP_MAGIC, Encoding, Layout, open_encoded, read_array, stored_type, write_array
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

HEADER_BYTES = (348, 540)
"""Length of the two kinds of header, which is also the number they begin with."""

MAX_OFFSET = 1 << 26
"""Bytes of extensions (64 MB) that may lie between header and voxels."""

Header = Any
"""A header of nibabel, which ships no types for it."""

_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}


def header_bytes(head: bytes) -> bytes:
    """The first bytes of a file after gzip, if it is gzip; nothing if they cannot be expanded."""
    if not head.startswith(GZIP_MAGIC):
        return head
    try:
        return bytes(isal_zlib.decompressobj(31).decompress(head, 1024))
    except DAMAGE:
        return b""


def looks_like(head: bytes) -> bool:
    """Whether a file's first bytes (at least 540, gzip or not) are a header of NIfTI or of its parent, Analyze."""
    start = header_bytes(head)
    return any(int.from_bytes(start[:4], order) in HEADER_BYTES for order in ("little", "big"))


def read(path: Path, orientation: str | None = None) -> Volume:
    """Read a NIfTI file; stored integers with a scale come back as float32 (float64 for 32-bit integers).

    The sform is preferred, then the qform; one that is no grid (all zeros, NaN, no rotation) is passed over where the
    other is one. `notes_of` has a line for what speaks against the choice.

    Args:
        path: an existing file that `looks_like` one.
        orientation: the frame of the voxel axes, used only where the header has neither sform nor qform.

    Raises:
        FormatError: the header or the data cannot be used.
        GeometryError: the orientation is missing, singular or not positive.
    """
    header, encoding = _header(path)
    shape = _shape(path.name, header)
    grid = _grid(path.name, header, shape, orientation)
    dtype = _dtype(path.name, header)
    offset = float(header["vox_offset"])
    if not header.sizeof_hdr <= offset <= MAX_OFFSET:
        raise FormatError(f"{path.name}: the NIfTI header puts the voxels at byte {offset:g}, which cannot be")
    before, skip = (int(offset), 0) if encoding == "raw" else (0, int(offset))
    data = read_array(Layout(path.name, path, dtype, shape, encoding, before, skip))
    return Volume(_scaled(path.name, header, data), grid)


def write(path: Path, volume: Volume) -> None:
    """Write a volume as NIfTI-1, gzip if the name ends with ``.gz``; the grid is kept to float32 precision.

    The qform is set too where the axes are at right angles (it cannot hold a shear).

    Raises:
        InputError: an axis is longer than NIfTI-1 can say (32767 voxels).
    """
    from nibabel.nifti1 import Nifti1Header

    grid = volume.grid
    if max(grid.shape) > LONGEST_AXIS:
        raise InputError(f"{path.name}: NIfTI holds at most {LONGEST_AXIS} voxels along an axis; got {grid.shape}")
    ras = np.eye(4)
    ras[:3] = frame_to_lps("RAS") @ grid.affine[:3]  # its own inverse
    header: Header = cast(Any, Nifti1Header)(endianness="<")
    header.set_data_dtype(stored_type(volume.data))
    header.set_data_shape(grid.shape)
    header.set_qform(ras, code=1 if grid.is_orthogonal else 0, strip_shears=True)  # also sets the spacing
    header.set_sform(ras, code=1)
    header.set_xyzt_units("mm")
    header["descrip"] = b"calvaria"
    header["magic"] = b"n+1"
    header["vox_offset"] = VOXELS_AT
    header.set_slope_inter(1.0, 0.0)
    prefix = header.binaryblock.ljust(VOXELS_AT, b"\0")
    with path.open("wb") as file:
        write_array(file, volume.data, "gzip" if path.name.lower().endswith(".gz") else "raw", prefix)


VOXELS_AT = 352
"""First byte of the voxels: header and four bytes that say that there are no extensions."""

LONGEST_AXIS = 32767


def _header(path: Path) -> tuple[Header, Encoding]:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    name = path.name
    with path.open("rb") as file:
        zipped = file.read(2) == GZIP_MAGIC
        file.seek(0)
        try:
            block = open_encoded(file, "gzip" if zipped else "raw").read(540)
        except DAMAGE as error:
            raise FormatError(f"{name}: truncated or damaged: its gzip data do not hold a header") from error
    second = 540 in (int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big"))
    kind: Any = Nifti2Header if second else Nifti1Header
    if len(block) < kind.sizeof_hdr:
        raise FormatError(f"{name}: truncated: {len(block)} bytes do not hold a NIfTI header")
    header = kind(block[: kind.sizeof_hdr], check=False)
    magic = bytes(header["magic"].item())
    if not magic.startswith((b"n+1", b"n+2")):
        raise FormatError(
            f"{name}: a single-file NIfTI is wanted (magic n+1 or n+2); found {magic!r}; "
            "save an Analyze or NIfTI pair (.hdr and .img) again as .nii.gz"
        )
    return header, "gzip" if zipped else "raw"


def _shape(name: str, header: Header) -> tuple[int, int, int]:
    sizes = [int(n) for n in header["dim"]]
    count, sizes = sizes[0], sizes[1:]
    sizes = sizes[: max(0, min(count, 7))]
    if not 1 <= count <= 7 or min(sizes) < 1:
        raise FormatError(f"{name}: the NIfTI sizes must be positive; found dim {header['dim'].tolist()}")
    if count < 3 or max(sizes[3:], default=1) > 1:
        raise FormatError(
            f"{name}: one 3-D volume is wanted; found {count} axes of {sizes} samples "
            "(a single slice, a sequence, or several channels); export one scalar volume"
        )
    return sizes[0], sizes[1], sizes[2]


def _dtype(name: str, header: Header) -> np.dtype[Any]:
    from nibabel.spatialimages import HeaderDataError

    dtype: np.dtype[Any] | None = None
    with suppress(HeaderDataError, KeyError):
        dtype = header.get_data_dtype()
    if dtype is None or dtype.kind not in "iuf" or dtype.itemsize > 8:
        found = dtype if dtype is not None else f"code {header['datatype'].item()}"
        raise FormatError(f"{name}: voxels of NIfTI type {found} are not read; wanted plain numbers of up to 64 bits")
    return dtype


def notes_of(path: Path) -> list[str]:
    """What a reader of the file should know of its orientation: a line for each doubt, none for a sound header.

    Raises:
        FormatError: the header cannot be used.
    """
    header, _ = _header(path)
    forms = _forms(path.name, header, _shape(path.name, header))
    sform, qform = forms.get("sform"), forms.get("qform")
    if isinstance(sform, Grid) and isinstance(qform, Grid):
        apart_mm = float(np.linalg.norm(sform.corners_mm() - qform.corners_mm(), axis=-1).max())
        if apart_mm <= CONFLICT_MM:
            return []
        mirrored = np.linalg.det(sform.affine[:3, :3]) * np.linalg.det(qform.affine[:3, :3]) < 0
        what = "even on which side is left" if mirrored else f"by up to {apart_mm:.1f} mm"
        return [f"sform and qform of the NIfTI header disagree {what}; the sform was used"]
    if isinstance(qform, Grid) and sform is not None:
        return ["the sform of the NIfTI header is no grid (zeros or NaN); the qform was used"]
    if isinstance(sform, Grid):
        zooms = np.array(header["pixdim"][1:4], dtype=np.float64) * _unit(header)
        if not np.allclose(np.abs(zooms), sform.spacing_mm, rtol=SPACING_RTOL):
            stored, used = (" x ".join(f"{v:.4g}" for v in size) for size in (zooms, sform.spacing_mm))
            return [f"the NIfTI header's pixdim says voxels of {stored} mm, its sform {used} mm; the sform was used"]
    return []


CONFLICT_MM = 0.5
"""Sform and qform that place every corner within this are one: float32, a quaternion's rounding, no eye sees it."""

SPACING_RTOL = 1e-2
"""Spacings within this share are the same: what two programs round differently."""

QUATERNION_EXCESS = 2e-4
"""A quaternion's vector may be over unit length by this (squared), as when four digits were kept. It is then taken for
half a turn, which is right within two degrees; more is no rotation that anybody meant."""


def _unit(header: Header) -> float:
    """Mm of the header's unit of length; codes that mean nothing are taken for mm."""
    return _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)


def _grid(name: str, header: Header, shape: tuple[int, int, int], orientation: str | None) -> Grid:
    forms = _forms(name, header, shape)
    for form in forms.values():
        if isinstance(form, Grid):
            return form
    for error in forms.values():
        if isinstance(error, GeometryError):
            raise error
    if orientation is not None:
        zooms = np.array(header["pixdim"][1:4], dtype=np.float64) * _unit(header)
        return lps_grid(name, shape, spacing_columns(name, zooms), np.zeros(3), orientation)
    stored = np.array(header.get_sform(), dtype=np.float64)[:3, :3]
    with np.errstate(all="ignore"):
        sensible = np.isfinite(stored).all() and abs(np.linalg.det(stored)) > 0
    hint = " (one is stored, but sform_code 0 says that it does not count)" if sensible else ""
    raise no_orientation(name, f"the NIfTI header has neither sform nor qform{hint}")


def _forms(name: str, header: Header, shape: tuple[int, int, int]) -> dict[str, Grid | GeometryError]:
    """The sform and the qform, in this order, as far as their codes say that they count: a grid, or what is wrong."""
    found: dict[str, Grid | GeometryError] = {}
    for form, of in (("sform", _sform), ("qform", _qform)):
        if header[f"{form}_code"] > 0:
            try:
                affine = of(name, header)
                unit = _unit(header)
                found[form] = lps_grid(name, shape, affine[:3, :3] * unit, affine[:3, 3] * unit, "RAS")
            except GeometryError as error:
                found[form] = error
    return found


def _sform(name: str, header: Header) -> NDArray[np.float64]:
    return np.array(header.get_sform(), dtype=np.float64)


def _qform(name: str, header: Header) -> NDArray[np.float64]:
    """(4, 4) in the file's units, by the standard's formula.

    nibabel's own refuses a quaternion 1e-6 over unit length and a pixdim[0] of 0, which the standard and every other
    reader take.
    """
    from nibabel.quaternions import quat2mat

    zooms = np.diag(spacing_columns(name, np.array(header["pixdim"][1:4], dtype=np.float64)))
    vector = np.array([header[f"quatern_{axis}"] for axis in "bcd"], dtype=np.float64)
    excess = float(vector @ vector) - 1
    if not excess <= QUATERNION_EXCESS:
        raise GeometryError(
            f"{name}: the directions (qform) are not a rotation: the quaternion's vector has the squared length "
            f"{excess + 1:.6g}, at most 1 is possible; export the file again"
        )
    affine = np.eye(4)
    to_matrix = cast(Any, quat2mat)  # nibabel ships no types; it normalises what is over
    affine[:3, :3] = to_matrix([np.sqrt(max(-excess, 0.0)), *vector]) * zooms
    if header["pixdim"][0] < 0:  # qfac; 0 means 1
        affine[:3, 2] *= -1
    affine[:3, 3] = [header[f"qoffset_{axis}"] for axis in "xyz"]
    return affine


def _scaled(name: str, header: Header, data: NDArray[Any]) -> NDArray[Any]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0.0 or (slope, inter) == (1.0, 0.0) or np.isnan(slope):
        return data
    if not np.isfinite([slope, inter]).all():
        raise FormatError(f"{name}: the NIfTI scale (slope {slope}, intercept {inter}) is not finite")
    kind = np.result_type(data.dtype, np.float32)
    scaled = data.astype(kind, order="F", copy=False)
    with np.errstate(all="ignore"):  # what overflows is found, and counted, as infinite
        scaled *= kind.type(slope)
        scaled += kind.type(inter)
    return scaled
