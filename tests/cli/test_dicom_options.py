"""What is asked for of DICOM on the command line."""

from __future__ import annotations

from calvaria.cli.dicom_options import dicom_asked
from calvaria.results.dicom_out import DicomAsked


def test_nothing_is_written_unless_it_is_asked_for():
    assert dicom_asked(dicom=False, deidentify=False) is None
    assert dicom_asked(dicom=True, deidentify=False) == DicomAsked(deidentify=False)


def test_deidentified_results_need_not_be_asked_for_twice():
    assert dicom_asked(dicom=False, deidentify=True) == DicomAsked(deidentify=True)
