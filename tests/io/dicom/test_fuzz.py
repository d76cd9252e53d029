"""Damaged series give a volume or an error of calvaria's own; ``python -m benchmarks.dicom_fuzz`` does more."""

from __future__ import annotations

from benchmarks import dicom_fuzz


def test_300_damaged_series_raise_only_typed_errors():
    found = dicom_fuzz.run(300, seed=1)
    assert found.crashes == []
    assert found.outcomes["read"] > 20
    assert found.outcomes["InputError"] + found.outcomes["FormatError"] > 100
    assert found.slowest_s < 2


def test_copies_that_once_raised_other_errors_are_typed_now():
    """Unknown kinds of values in what says whose study it is; a list for a transfer syntax."""
    assert dicom_fuzz.run((532, 1812, 1881)).crashes == []
