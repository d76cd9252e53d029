"""A CT as a scanner stores it: one DICOM file a slice, named by nothing. For scans that are made up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from calvaria.errors import GeometryError, InputError
from calvaria.io.dicom.modules import BODY_PART, add_common, new_uid, pydicom_is_here, save, unsaid
from calvaria.io.dicom.source import DicomSource, SliceRef
from calvaria.types import F64
from calvaria.volume.volume import Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
"""SOP class of a slice."""

INTERCEPT_HU = -1024
"""Of the stored values, as scanners have it."""

FLAT = 1e-6
"""Cosine between rows and columns above which they are not at a right angle, as a slice's must be."""

NAMES, STRIDE = 100_003, 7919
"""Files are numbered by remainders of multiples: of two primes, so that no name comes twice and none says its place."""


@dataclass(frozen=True)
class SeriesHeader:
    """What the headers of a series say beside its geometry.

    Args:
        number: of the series.
        thickness_mm: of the slices.
        kernel: name of the reconstruction kernel, such as "H30s"; empty where there is none.
        tilt_degrees: of the gantry, for the tag that only names it.
        image_type: such as ("ORIGINAL", "PRIMARY", "AXIAL").
        description: of the series.
    """

    number: int
    thickness_mm: float
    kernel: str = ""
    tilt_degrees: float = 0.0
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")
    description: str = ""


def new_study() -> DicomSource:
    """A study of nobody's, with a frame of reference and no series yet.

    Raises:
        MissingExtraError: pydicom is not installed.
    """
    pydicom_is_here()
    from pydicom.dataset import Dataset

    return DicomSource(new_uid(), new_uid(), new_uid(), (), Dataset())


def write_slices(folder: Path, volume: Volume, header: SeriesHeader, study: DicomSource) -> DicomSource:
    """Write a volume as a series of CT slices.

    Positions and directions are the grid's own, so a sheared grid is a tilted gantry's. Names have no suffix, and
    their order is not that of the slices.

    Args:
        folder: where the files go; made if it is missing. Other series of the study may lie there.
        volume: whole HU; columns, rows, slices. One slice is allowed.
        header: what else stands in the headers.
        study: whose series it is; see `new_study`.

    Returns:
        The series, with its slices in the order of the volume's.

    Raises:
        InputError: the volume does not hold whole HU from -1024 to 31743, or the disk refuses.
        GeometryError: rows and columns are not at a right angle.
        MissingExtraError: pydicom is not installed.
    """
    pydicom_is_here()
    pixels = _stored(volume)
    along, down = _axes(volume)
    series_uid, refs = new_uid(), []
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(volume.shape[2]):
        one = _slice(header, study, series_uid, k)
        with unsaid():
            one.ImagePositionPatient = [_decimal(x) for x in volume.grid.to_world((0, 0, k))]
            one.ImageOrientationPatient = [_decimal(x, 9) for x in (*along, *down)]
            columns_mm, rows_mm, _ = volume.grid.spacing_mm
            one.PixelSpacing = [_decimal(rows_mm, 9), _decimal(columns_mm, 9)]
            one.Rows, one.Columns = volume.shape[1], volume.shape[0]
            one.PixelData = np.ascontiguousarray(pixels[:, :, k].T).tobytes()
            one["PixelData"].VR = "OW"
        save(folder / f"I{header.number:03d}{(k + 1) * STRIDE % NAMES:06d}", one, "1.2.840.10008.1.2.1")
        refs.append(SliceRef(CT_IMAGE, str(one.SOPInstanceUID)))
    return DicomSource(study.study_uid, series_uid, study.frame_uid, tuple(refs), study.header)


def _stored(volume: Volume) -> np.ndarray:
    """(I, J, K) stored values, 16 bits with a sign."""
    data = volume.data
    low, high = int(data.min()), int(data.max())
    if data.dtype.kind not in "iu" or low < INTERCEPT_HU or high > np.iinfo(np.int16).max + INTERCEPT_HU:
        raise InputError(
            f"CT slices hold whole HU from {INTERCEPT_HU} to {np.iinfo(np.int16).max + INTERCEPT_HU}; the volume holds "
            f"{data.dtype} from {low} to {high}: round and clip it"
        )
    return (data.astype(np.int32) - INTERCEPT_HU).astype("<i2")


def _axes(volume: Volume) -> tuple[F64, F64]:
    """Unit directions of rows and of columns."""
    unit = volume.affine[:3, :2] / np.array(volume.grid.spacing_mm[:2])
    if abs(float(unit[:, 0] @ unit[:, 1])) > FLAT:
        raise GeometryError("the rows and columns of CT slices are at a right angle; those of the volume are not")
    return unit[:, 0], unit[:, 1]


def _slice(header: SeriesHeader, study: DicomSource, series_uid: str, k: int) -> Dataset:
    """A slice without its place and pixels."""
    from pydicom.dataset import Dataset

    one = Dataset()
    one.SOPClassUID = CT_IMAGE
    add_common(one, study, what="picture", series_uid=series_uid, description=header.description, number=k + 1)
    one.SeriesNumber = header.number
    one.Modality = "CT"
    one.BodyPartExamined = BODY_PART
    one.ImageType = list(header.image_type)
    one.PatientPosition = "HFS"
    one.AcquisitionNumber = 1
    one.KVP = 120
    one.ConvolutionKernel = header.kernel
    one.SliceThickness = _decimal(header.thickness_mm)
    one.GantryDetectorTilt = _decimal(header.tilt_degrees)
    one.RescaleIntercept, one.RescaleSlope, one.RescaleType = INTERCEPT_HU, 1, "HU"
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    return one


def _decimal(value: float, digits: int = 6) -> float:
    """A number that fits into the 16 characters of a decimal string."""
    return round(float(value), digits) + 0.0


__all__ = ["SeriesHeader", "new_study", "write_slices"]
