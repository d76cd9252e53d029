"""A small made-up CT series as pydicom datasets, and where it comes from as the reader would say it."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from calvaria.io.dicom.source import DicomSource, SliceRef
from calvaria.volume import Grid

SECRETS = {
    "PatientName": "Doubtful^Dora",
    "PatientID": "SECRET-4711",
    "PatientBirthDate": "19491123",
    "AccessionNumber": "ACC-0815",
    "StudyID": "ST-99",
    "StudyDescription": "Secret head",
    "ReferringPhysicianName": "Hush^Henry",
    "InstitutionName": "Hidden Hospital",
}
"""Values that may stand in no message, and in no file that is de-identified."""


def ct_series(grid: Grid) -> list[Dataset]:
    """A slice for each of the grid's last axis, rows along its first one, all of zeros."""
    study, series, frame = (generate_uid() for _ in range(3))
    across, down = (grid.affine[:3, axis] / grid.spacing_mm[axis] for axis in (0, 1))
    made = []
    for k in range(grid.shape[2]):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, generate_uid()
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        for keyword, value in SECRETS.items():
            setattr(one, keyword, value)
        one.PatientSex = "F"
        one.StudyDate, one.StudyTime = "20200102", "101500"
        one.SpecificCharacterSet = "ISO_IR 100"
        one.PositionReferenceIndicator = ""
        one.Modality, one.Manufacturer = "CT", "Maker"
        one.SeriesNumber, one.InstanceNumber = 3, k + 1
        one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.PixelSpacing = [f"{grid.spacing_mm[1]:.10g}", f"{grid.spacing_mm[0]:.10g}"]
        one.SliceThickness = "1"
        one.ImageOrientationPatient = [f"{x:.12f}"[:16] for x in (*across, *down)]
        one.ImagePositionPatient = [f"{x:.12f}"[:16] for x in grid.to_world((0, 0, k))]
        one.Rows, one.Columns = grid.shape[1], grid.shape[0]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        one.RescaleIntercept, one.RescaleSlope = "0", "1"
        one.PixelData = np.zeros((one.Rows, one.Columns), np.int16).tobytes()
        made.append(one)
    return made


def source_of(series: list[Dataset]) -> DicomSource:
    """What the reader says of a series."""
    header = deepcopy(series[0])
    del header.PixelData
    return DicomSource(
        study_uid=series[0].StudyInstanceUID,
        series_uid=series[0].SeriesInstanceUID,
        frame_uid=series[0].FrameOfReferenceUID,
        slices=tuple(SliceRef(one.SOPClassUID, one.SOPInstanceUID) for one in series),
        header=header,
    )


def resampled(source: DicomSource) -> DicomSource:
    """The same, whose voxels are no longer those of the scan."""
    return DicomSource(source.study_uid, source.series_uid, source.frame_uid, (), source.header, resampled=True)


def save_series(folder: Path, series: list[Dataset]) -> None:
    for number, one in enumerate(series):
        one.save_as(folder / f"{number:03}.dcm", enforce_file_format=True)
