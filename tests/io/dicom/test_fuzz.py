"""Damaged series give a volume or an error of calvaria's own; ``python -m benchmarks.dicom_fuzz`` does more."""

from __future__ import annotations

from benchmarks import dicom_fuzz


def test_300_damaged_series_raise_only_typed_errors():
    found = dicom_fuzz.run(300, seed=1)
    assert found.crashes == []
    assert found.outcomes["read"] > 20
    assert found.outcomes["InputError"] + found.outcomes["FormatError"] > 100
    assert found.slowest_s < 2
