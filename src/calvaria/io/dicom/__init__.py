"""DICOM in and out: series of CT slices as volumes, and results for the archive. Needs the extra ``dicom``."""

from calvaria.io.dicom.places import holds_dicom
from calvaria.io.dicom.reader import DicomVolume, SeriesInfo, list_series, read_dicom
from calvaria.io.dicom.source import DicomSource, SliceRef
from calvaria.io.dicom.studies import Study, find_studies

__all__ = [
    "DicomSource",
    "DicomVolume",
    "SeriesInfo",
    "SliceRef",
    "Study",
    "find_studies",
    "holds_dicom",
    "list_series",
    "read_dicom",
]
