"""What is asked for of DICOM on the command line."""

from __future__ import annotations

import pytest
from tests.io.dicom.source_files import ct_series, source_of

from calvaria.cli.dicom_options import archive_of
from calvaria.errors import InputError
from calvaria.volume import Grid


def test_nothing_is_written_unless_it_is_asked_for():
    source = source_of(ct_series(Grid.isotropic((2, 2, 2), 1.0)))
    assert archive_of("head", source, dicom=False, deidentify=False) is None
    named = archive_of("head", source, dicom=True, deidentify=False)
    assert named is not None
    assert (named.source, named.deidentify) == (source, False)


def test_deidentified_results_need_not_be_asked_for_twice():
    source = source_of(ct_series(Grid.isotropic((2, 2, 2), 1.0)))
    found = archive_of("head", source, dicom=False, deidentify=True)
    assert found is not None
    assert found.deidentify


@pytest.mark.parametrize("option", ["dicom", "deidentify"])
def test_an_input_without_a_study_is_refused(option):
    asked = {"dicom": False, "deidentify": False, option: True}
    with pytest.raises(InputError, match=rf"skull\.nrrd: --{option} needs a DICOM series as input, .*; leave it out"):
        archive_of("skull.nrrd", None, **asked)
