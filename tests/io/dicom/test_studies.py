"""Several studies in one place: which there are, what they are called, and one of them read."""

from __future__ import annotations

import pytest
from tests.dicom_files import IDENTITY, Series, enhanced, replace, slices_of, write, zipped

from calvaria.errors import InputError
from calvaria.io.dicom import find_studies, list_series, read_dicom

SMALL = Series(slices=24, shape=(8, 8))


def other(**changes):
    """The same series of another study; of another patient where it is said so."""
    return replace(SMALL, uids=Series().uids, changes=changes)


@pytest.fixture
def export(tmp_path):
    """Two patients' studies, one of them with an MR beside, and an MR alone between them."""
    write(tmp_path / "export/a/CT", slices_of(SMALL))
    mr = replace(SMALL, number=7, slices=30, uids=(SMALL.uids[0], *Series().uids[1:]), changes={"Modality": "MR"})
    write(tmp_path / "export/a/MR", slices_of(mr))
    write(tmp_path / "export/b", slices_of(other(Modality="MR", PatientID="b")))
    write(tmp_path / "export/c/one/deep", slices_of(other(PatientID="c")))
    (tmp_path / "export/c/one/report.txt").write_text("none")
    return tmp_path / "export"


@pytest.mark.parametrize("packed", [False, True])
def test_studies_are_counted_in_order_of_their_files(export, tmp_path, packed):
    found = find_studies(zipped(export, tmp_path / "export.zip") if packed else export)
    assert [(one.number, one.folder, one.slices) for one in found] == [(1, "a", 24), (2, "b", 0), (3, "c/one/deep", 24)]
    assert [one.shows_a_head for one in found] == [True, False, True]
    assert found[0].series == {"2", SMALL.uids[1]}


def test_nothing_that_is_shown_of_a_study_says_whose_it_is(export):
    assert repr(find_studies(export)[2]) == "Study(number=3, slices=24)"


def test_one_study_of_several_is_read(export):
    ids = [read_dicom(export, study=number).source.header.PatientID for number in (1, 3)]
    assert ids == [IDENTITY["PatientID"], "c"]
    assert read_dicom(export, "2", study=3).source.header.PatientID == "c"
    with pytest.raises(InputError, match=r"^export: no CT series that can be used \(series 2: MR, not CT\)"):
        read_dicom(export, study=2)
    with pytest.raises(InputError, match=r"^export: there is no study 4; there are 3: see calvaria dicom list"):
        read_dicom(export, study=4)


def test_several_studies_need_a_choice(export):
    with pytest.raises(InputError, match=r"^export: 2 studies that can be used; choose one with --study, see calvaria"):
        read_dicom(export)
    uid = read_dicom(export, study=3).source.series_uid
    assert read_dicom(export, uid).source.header.PatientID == "c"


def test_the_list_has_the_best_series_of_each_study(export):
    assert [(one.study, one.number, one.chosen) for one in list_series(export)] == [
        (1, "2", True),
        (1, "7", False),
        (2, "2", False),
        (3, "2", True),
    ]


def test_an_enhanced_file_is_a_study_of_its_own(tmp_path):
    write(tmp_path / "a", [enhanced(SMALL)])
    write(tmp_path / "a", [enhanced(other(PatientID="b"))], first=1)
    assert [one.slices for one in find_studies(tmp_path / "a")] == [24, 24]


def test_two_studies_of_one_patient_are_two(tmp_path):
    write(tmp_path / "a", slices_of(SMALL))
    write(tmp_path / "a", slices_of(other()), first=50)
    assert [one.folder for one in find_studies(tmp_path / "a")] == ["", ""]


def test_patients_under_one_series_uid_stay_together_and_are_refused(tmp_path):
    files = slices_of(SMALL)
    files[3].PatientID = "other"
    write(tmp_path / "a", files)
    assert len(find_studies(tmp_path / "a")) == 1
    with pytest.raises(InputError, match="slices of 2 patients under one series UID"):
        read_dicom(tmp_path / "a")


def test_files_that_are_none_or_broken_belong_to_no_study(tmp_path):
    write(tmp_path / "a", slices_of(SMALL))
    whole = (tmp_path / "a/I00000").read_bytes()
    (tmp_path / "a/broken").write_bytes(whole[:300])
    (tmp_path / "a/text").write_text("a" * 500)
    assert [one.slices for one in find_studies(tmp_path / "a")] == [24]
