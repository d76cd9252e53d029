"""What every written object has in common: whose it is, and how that is taken away."""

from __future__ import annotations

import sys

import pytest
from tests.io.dicom.source_files import ct_series, source_of

from calvaria.errors import MissingExtraError
from calvaria.io.dicom.modules import deidentified, new_uid, once, pydicom_is_here
from calvaria.io.dicom.source import SliceRef
from calvaria.volume import Grid


def test_uids_are_valid_and_never_the_same():
    uids = {new_uid() for _ in range(100)}
    assert len(uids) == 100
    assert all(len(uid) <= 64 and uid.startswith("2.25.") for uid in uids)


def test_a_deidentified_source_hangs_together_and_is_nobodys():
    source = source_of(ct_series(Grid.isotropic((4, 5, 3), 1.0)))
    found = deidentified(source)
    assert len(found.slices) == 3
    assert [ref.sop_class_uid for ref in found.slices] == [ref.sop_class_uid for ref in source.slices]
    own = {source.study_uid, source.series_uid, source.frame_uid, *(ref.sop_instance_uid for ref in source.slices)}
    new = {found.study_uid, found.series_uid, found.frame_uid, *(ref.sop_instance_uid for ref in found.slices)}
    assert len(own) == len(new) == 6
    assert not own & new
    assert "PatientName" not in found.header
    assert deidentified(source).study_uid != found.study_uid


def test_two_frames_of_one_instance_keep_one_new_uid():
    source = source_of(ct_series(Grid.isotropic((4, 5, 2), 1.0)))
    slices = (SliceRef("1.2", "3.4", 1), SliceRef("1.2", "3.4", 2))
    found = deidentified(type(source)(source.study_uid, source.series_uid, source.frame_uid, slices, source.header))
    assert found.slices[0].sop_instance_uid == found.slices[1].sop_instance_uid
    assert [ref.frame for ref in found.slices] == [1, 2]
    assert once(found.slices) == [SliceRef("1.2", found.slices[0].sop_instance_uid)]


@pytest.mark.parametrize("name", ["pydicom", "highdicom"])
def test_without_the_extra_one_line_says_what_to_install(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'calvaria\[dicom\]'"):
        pydicom_is_here()
