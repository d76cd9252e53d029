"""DICOM in and out: series of CT slices as volumes, and results for the archive. Needs the extra ``dicom``."""
