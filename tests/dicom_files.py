"""Made-up CT series as DICOM files: a shape known as a formula, drawn on slices of any kind."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

F64 = NDArray[np.float64]

SPHERE_MM = 40.0
"""Radius of the sphere in the series, about the world's origin unless told otherwise."""

BALL_HU, AIR_HU = 1000, -1000

BIG = ExplicitVRBigEndian

IDENTITY = {
    "PatientName": "Zebrowski^Ottilie",
    "PatientID": "MRN-4471-ZQ",
    "PatientBirthDate": "19330417",
    "PatientSex": "F",
    "PatientAddress": "Nightingale Lane 9",
    "AccessionNumber": "ACC-99817",
    "InstitutionName": "Saint Quirinus Hospital",
    "ReferringPhysicianName": "Grubenhagen^Xaver",
    "StudyDate": "20190213",
    "StudyTime": "101112",
    "StudyID": "STU-5512",
    "StudyDescription": "Head of Ottilie",
    "SeriesDescription": "Zebrowski thin",
    "StationName": "QUIRINUS-CT7",
    "DeviceSerialNumber": "SN-33871",
}
"""What must stand nowhere but in the files."""


def sphere(points: F64, radius_mm: float = SPHERE_MM) -> F64:
    """A ball of bone in air whose edge is a ramp of 4 mm, so that a level of it can be found between voxels."""
    inside = np.clip((radius_mm - np.linalg.norm(points, axis=-1)) / 4.0 + 0.5, 0, 1)
    return AIR_HU + (BALL_HU - AIR_HU) * inside


def abdomen(points: F64) -> F64:
    """A trunk of 340 x 220 mm: soft tissue within fat, a spine of vertebrae and slanted ribs."""
    x, y, z = np.moveaxis(points, -1, 0)
    hu = np.where(
        (x / 170) ** 2 + (y / 110) ** 2 < 1, np.where((x / 155) ** 2 + (y / 95) ** 2 < 1, 50.0, -100.0), -1000
    )
    spine = np.hypot(x, y - 70)
    hu[spine < 20] = 200
    hu[(spine > 16) & (spine < 20) & (np.abs(z % 36 - 18) < 15)] = 700
    hu[(np.abs(np.hypot(x / 150, y / 92) - 1) < 0.04) & ((z + 0.5 * y) % 28 < 9)] = 600
    return hu


@dataclass(frozen=True)
class Series:
    """A CT series; by default 60 axial slices of 64 x 60 pixels, 2 mm each way.

    Args:
        slices: their number.
        shape: rows, columns.
        pixel_mm: between rows, between columns.
        step_mm: along the table.
        tilt_degrees: of the gantry: slices turn about the rows' direction, their places run along the table.
        orientation: of an untilted slice, rows and columns.
        table: direction that the table takes the slices in.
        slope, intercept: to HU.
        signed: stored values.
        bits: stored.
        number: of the series.
        kernel: of the reconstruction.
        image_type: values.
        syntax: transfer syntax.
        changes: more elements for every slice.
        hu: of (..., 3) world points, mm.
        uids: study, series, frame of reference.
    """

    slices: int = 60
    shape: tuple[int, int] = (60, 64)
    pixel_mm: tuple[float, float] = (2.0, 2.0)
    step_mm: float = 2.0
    tilt_degrees: float = 0.0
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0)
    table: tuple[float, ...] = (0, 0, 1)
    slope: float = 1.0
    intercept: float = -1024.0
    signed: bool = False
    bits: int = 16
    number: int = 2
    kernel: str = "H30s"
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")
    syntax: str = ExplicitVRLittleEndian
    changes: dict[str, Any] = field(default_factory=dict)
    hu: Callable[[F64], F64] = sphere
    uids: tuple[str, str, str] = field(default_factory=lambda: (generate_uid(), generate_uid(), generate_uid()))

    @property
    def axes(self) -> F64:
        """Directions of rows and columns, (2, 3), with the tilt."""
        along, down = np.array(self.orientation, np.float64).reshape(2, 3)
        angle = np.radians(self.tilt_degrees)
        return np.stack([along, down * np.cos(angle) + np.cross(along, down) * np.sin(angle)])

    def position(self, at_mm: float) -> F64:
        """Centre of the first pixel of the slice whose middle the table has at ``at_mm``."""
        along, down = self.axes
        rows, columns = self.shape
        middle = np.array(self.table, np.float64) * at_mm
        return middle - along * self.pixel_mm[1] * (columns - 1) / 2 - down * self.pixel_mm[0] * (rows - 1) / 2

    def places(self) -> F64:
        """(N,) where the table is for each slice, mm."""
        return (np.arange(self.slices) - (self.slices - 1) / 2) * self.step_mm

    def values(self, at_mm: float) -> F64:
        """(rows, columns) HU of a slice."""
        along, down = self.axes
        row, column = np.indices(self.shape)
        points = self.position(at_mm) + along * (column * self.pixel_mm[1])[..., None]
        return self.hu(points + down * (row * self.pixel_mm[0])[..., None])


def slices_of(series: Series, places: Sequence[float] | F64 | None = None) -> list[FileDataset]:
    """The series' files, one for each slice; ``places`` in mm along the table."""
    return [_slice(series, n, float(at)) for n, at in enumerate(series.places() if places is None else places)]


def _meta(sop_class: str, sop: str, syntax: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = sop_class, sop, syntax
    meta.ImplementationClassUID = "1.2.826.0.1.3680043.8.498.1"
    return meta


def _common(series: Series, sop_class: str) -> FileDataset:
    sop = generate_uid()
    meta = _meta(sop_class, sop, series.syntax)
    order = {"is_implicit_VR": meta.TransferSyntaxUID.is_implicit_VR, "is_little_endian": series.syntax != BIG}
    found = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128, **order)
    found.SOPClassUID, found.SOPInstanceUID = sop_class, sop
    for name, value in IDENTITY.items():
        setattr(found, name, value)
    found.StudyInstanceUID, found.SeriesInstanceUID, found.FrameOfReferenceUID = series.uids
    found.Modality, found.SeriesNumber, found.ConvolutionKernel = "CT", series.number, series.kernel
    found.ImageType = list(series.image_type)
    found.Rows, found.Columns = series.shape
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
    found.BitsAllocated, found.BitsStored, found.HighBit = 16, series.bits, series.bits - 1
    found.PixelRepresentation = int(series.signed)
    found.PatientPosition = "HFS"
    return found


def stored(series: Series, hu: F64, slope: float | None = None, intercept: float | None = None) -> NDArray[Any]:
    """HU as they are stored."""
    slope = series.slope if slope is None else slope
    values = np.rint((hu - (series.intercept if intercept is None else intercept)) / slope)
    order = ">" if series.syntax == BIG else "<"
    return values.astype(f"{order}{'i' if series.signed else 'u'}2")


def set_pixels(found: Dataset, pixels: NDArray[Any]) -> None:
    """Plain pixels."""
    found.PixelData = pixels.tobytes()
    found["PixelData"].VR = "OW"


def _slice(series: Series, n: int, at_mm: float) -> FileDataset:
    found = _common(series, CTImageStorage)
    found.InstanceNumber = n + 1
    found.ImagePositionPatient = [round(float(x), 6) for x in series.position(at_mm)]
    found.ImageOrientationPatient = [round(float(x), 9) for x in series.axes.ravel()]
    found.PixelSpacing = list(series.pixel_mm)
    found.SliceThickness = series.step_mm
    found.RescaleSlope, found.RescaleIntercept = series.slope, series.intercept
    # Tags that only name the places, all of them wrong: none may be used.
    found.SliceLocation, found.SpacingBetweenSlices, found.GantryDetectorTilt = 7.0, 9.9, 33.0
    set_pixels(found, stored(series, series.values(at_mm)))
    for name, value in series.changes.items():
        setattr(found, name, value)
    return found


def enhanced(series: Series) -> FileDataset:
    """The whole series as one multi-frame file; frames in reverse order, each with a rescale of its own."""
    found = _common(series, EnhancedCTImageStorage)
    places = series.places()[::-1]
    found.NumberOfFrames = len(places)
    measures = Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(series.pixel_mm), series.step_mm
    orientation = Dataset()
    orientation.ImageOrientationPatient = [round(float(x), 9) for x in series.axes.ravel()]
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([orientation])
    found.SharedFunctionalGroupsSequence = Items([shared])
    frames, pixels = [], []
    for n, at in enumerate(places):
        place, scale, own = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [round(float(x), 6) for x in series.position(at)]
        scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = 1, -1024 - n, "HU"
        own.PlanePositionSequence, own.PixelValueTransformationSequence = Items([place]), Items([scale])
        frames.append(own)
        pixels.append(stored(series, series.values(at), 1.0, -1024.0 - n))
    found.PerFrameFunctionalGroupsSequence = Items(frames)
    set_pixels(found, np.stack(pixels))
    return found


def compressed(found: FileDataset, kind: str) -> FileDataset:
    """The same slice as ``rle``, ``jpeg2000``, ``jpegls`` or ``jpeg lossless``."""
    pixels = found.pixel_array
    if kind == "rle":
        found.compress(RLELossless)
    elif kind == "jpeg2000":
        found.compress("1.2.840.10008.1.2.4.90")
    elif kind == "jpeg lossless":
        return _by_gdcm(found)
    else:
        import jpeg_ls

        found.PixelData = encapsulate([bytes(jpeg_ls.encode(pixels.view(np.uint16)))])
        found["PixelData"].is_undefined_length = True
        found.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.80"
    return found


def _by_gdcm(found: FileDataset) -> FileDataset:
    """The same slice as JPEG lossless, process 14, first-order prediction, which gdcm alone encodes here."""
    gdcm = pytest.importorskip("gdcm", reason="NOT TESTED: JPEG lossless, for want of python-gdcm")
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = f"{folder}/plain", f"{folder}/packed"
        found.save_as(plain, enforce_file_format=True)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(plain)
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(packed)
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return pydicom.dcmread(BytesIO(Path(packed).read_bytes()))


def write(folder: Path, files: Sequence[FileDataset], *, first: int = 0, plain: bool = False) -> Path:
    """Write files with names that say nothing; returns the folder.

    Args:
        folder: made if it is missing.
        files: the slices.
        first: number of the first name.
        plain: without preamble and file meta group, implicit little endian.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for n, found in enumerate(files, first):
        path = folder / f"I{n * 7919 % 10007:05d}"  # the order of names is not that of places
        if plain:
            bare = Dataset(found)
            bare.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
            continue
        found.save_as(path, enforce_file_format=True)
    return folder


def zipped(folder: Path, path: Path) -> Path:
    """A folder as a zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder).as_posix())
    return path


__all__ = [
    "AIR_HU",
    "BALL_HU",
    "IDENTITY",
    "SPHERE_MM",
    "ImplicitVRLittleEndian",
    "Series",
    "abdomen",
    "compressed",
    "enhanced",
    "replace",
    "set_pixels",
    "slices_of",
    "sphere",
    "stored",
    "write",
    "zipped",
]
