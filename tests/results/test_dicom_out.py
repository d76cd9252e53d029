"""The results of a case as DICOM: which files, what hangs together, what an archive gives back of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from tests.implant.shapes import cap
from tests.io.dicom.read_back import complaints, on_grid, points_of
from tests.io.dicom.source_files import SECRETS, ct_series, source_of
from tests.results.test_designing import ORIGIN

from calvaria.errors import InputError
from calvaria.implant.parts import Design
from calvaria.io.dicom.source import DicomSource
from calvaria.jobs import unheard
from calvaria.results.case import Clock
from calvaria.results.design_files import DicomBone, fill_design
from calvaria.results.dicom_out import Archive, DicomAsked, archive_for, write_dicom
from calvaria.results.names import names_of_design, names_of_dicom
from calvaria.results.settings import Settings
from calvaria.results.staging import staged
from calvaria.volume import Grid, Mesh, Volume, extract_surface

GRID = Grid((12, 14, 10), np.diag([2.0, 2.0, 2.5, 1.0]))
ALL = ["dicom/segmentation.dcm", "dicom/implant-1.dcm", "dicom/implant-2.dcm", "dicom/picture.dcm"]


@pytest.fixture
def source() -> DicomSource:
    return source_of(ct_series(GRID))


def block(low: int, high: int) -> Volume:
    mask = np.zeros(GRID.shape, bool)
    mask[low:high, 4:9, 3:7] = True
    return Volume(mask, GRID)


def surface(low: int, high: int) -> Mesh:
    return extract_surface(block(low, high))


def write(folder: Path, archive: Archive, *, marked: bool = False) -> list[str]:
    """A case with two implants and a picture."""
    return write_dicom(
        folder,
        archive,
        patch=block(2, 6),
        completed=block(2, 10),
        implants=[("implant-1", surface(2, 4)), ("implant-2", surface(5, 7))],
        implant_mask=block(3, 6),
        picture=Image.new("RGB", (40, 30), "teal"),
        marked=marked,
    )


def test_all_objects_are_written_and_named(tmp_path, source):
    assert write(tmp_path, Archive(source)) == ALL
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.dcm")) == sorted(ALL)


def test_a_reconstruction_alone_is_two_segments(tmp_path, source):
    names = write_dicom(tmp_path, Archive(source), patch=block(2, 6), completed=block(2, 10))
    assert names == ["dicom/segmentation.dcm"]
    found = points_of(tmp_path / names[0])
    assert list(found) == ["completed", "patch"]
    np.testing.assert_array_equal(on_grid(found["patch"], GRID), block(2, 6).mask)
    np.testing.assert_array_equal(on_grid(found["completed"], GRID), block(2, 10).mask)


@pytest.mark.parametrize("deidentify", [False, True])
def test_all_objects_lie_in_one_study_and_each_kind_in_a_series(tmp_path, source, deidentify):
    found = [pydicom.dcmread(tmp_path / name) for name in write(tmp_path, Archive(source, deidentify))]
    studies = {one.StudyInstanceUID for one in found}
    assert len(studies) == 1
    assert (studies == {source.study_uid}) is not deidentify
    frames = {one.FrameOfReferenceUID for one in found if "FrameOfReferenceUID" in one}
    assert len(frames) == 1
    assert (frames == {source.frame_uid}) is not deidentify
    assert found[1].SeriesInstanceUID == found[2].SeriesInstanceUID
    assert len({one.SeriesInstanceUID for one in found}) == 3
    assert len({one.SeriesNumber for one in found}) == 3
    assert len({one.SOPInstanceUID for one in found}) == 4
    slices = [one.ReferencedSOPInstanceUID for one in found[1].SourceInstanceSequence]
    named = found[0].ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert slices == [one.ReferencedSOPInstanceUID for one in named]


def test_objects_of_a_scan_without_a_frame_of_reference_share_a_new_one(tmp_path, source):
    names = write(tmp_path, Archive(replace(source, frame_uid="")))
    frames = {pydicom.dcmread(tmp_path / name).get("FrameOfReferenceUID") for name in names[:3]}
    assert len(frames) == 1
    assert frames.pop().startswith("2.25.")


def test_deidentified_results_hold_nothing_of_the_patient(tmp_path, source):
    own = [source.study_uid, source.series_uid, source.frame_uid, *(ref.sop_instance_uid for ref in source.slices)]
    for name in write(tmp_path, Archive(source, deidentify=True)):
        data = (tmp_path / name).read_bytes()
        for secret in (*SECRETS.values(), *own):
            assert secret.encode() not in data
        assert pydicom.dcmread(tmp_path / name).PatientIdentityRemoved == "YES"


def test_what_is_asked_for_tells_nothing_of_the_patient(source):
    assert repr(Archive(source)) == "Archive(deidentify=False)"
    assert repr(source) == "DicomSource(resampled=False)"


def test_an_archive_is_where_it_is_asked_for(source):
    assert archive_for("head", source, None) is None
    assert archive_for("head", None, None) is None
    found = archive_for("head", source, DicomAsked(deidentify=True))
    assert found is not None
    assert (found.source, found.deidentify) == (source, True)


@pytest.mark.parametrize(("deidentify", "option"), [(False, "--dicom"), (True, "--deidentify")])
def test_an_input_without_a_study_is_refused(deidentify, option):
    with pytest.raises(InputError, match=rf"skull\.nrrd: {option} needs a DICOM series as input, .*; leave it out"):
        archive_for("skull.nrrd", None, DicomAsked(deidentify))


@pytest.mark.parametrize("deidentify", [False, True])
def test_dciodvfy_finds_no_error(tmp_path, source, deidentify):
    assert [complaints(tmp_path / name) for name in write(tmp_path, Archive(source, deidentify))] == [""] * 4


def test_a_marked_implant_is_somebodys(tmp_path, source):
    with pytest.raises(InputError, match=r"--deidentify: the implant is to bear a mark, .*; leave out --mark, or --de"):
        write(tmp_path, Archive(source, deidentify=True), marked=True)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path, Archive(source), marked=True)
    assert pydicom.dcmread(tmp_path / "dicom/implant-1.dcm").BurnedInAnnotation == "YES"


def test_a_file_in_the_place_of_the_folder_is_one_line(tmp_path, source):
    (tmp_path / "dicom").write_text("")
    with pytest.raises(InputError, match="dicom: cannot be made: File exists; give another folder with -o"):
        write(tmp_path, Archive(source))


def test_an_archive_gives_back_what_was_stored(tmp_path, source):
    names = write(tmp_path, Archive(source))
    sent = [pydicom.dcmread(tmp_path / name) for name in names]
    kept: dict[str, Dataset] = {}

    def store(event: evt.Event) -> int:
        kept[event.request.AffectedSOPInstanceUID] = event.dataset
        return 0x0000

    archive, scanner = AE("ARCHIVE"), AE("CALVARIA")
    for one in sent:
        for entity in (archive, scanner):
            entity.add_supported_context(one.SOPClassUID, one.file_meta.TransferSyntaxUID)
        scanner.add_requested_context(one.SOPClassUID, one.file_meta.TransferSyntaxUID)
    server = archive.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        link = scanner.associate("127.0.0.1", server.server_address[1])
        assert link.is_established
        assert [link.send_c_store(one).Status for one in sent] == [0x0000] * 4
        link.release()
    finally:
        server.shutdown()
    assert len(kept) == 4
    for one in sent:
        assert kept[one.SOPInstanceUID] == one


@pytest.fixture
def design() -> Design:
    return cap()


def test_a_design_takes_its_implants_along(tmp_path, design):
    grid = design.bone.grid
    source = source_of(ct_series(grid))
    patch = Volume(np.zeros(grid.shape, bool), grid)
    bone = DicomBone(Archive(source), patch, design.bone)

    origin = replace(ORIGIN, settings=Settings(preview=False))
    record = fill_design(tmp_path, design, origin, Clock(), unheard, bone=bone)
    assert {"dicom/segmentation.dcm", "dicom/implant.dcm"} < set(record.files)
    assert all((tmp_path / name).is_file() for name in record.files)
    assert len(points_of(tmp_path / "dicom/segmentation.dcm")["implant"]) > 100


def test_dicom_files_of_an_earlier_run_give_way(tmp_path):
    (tmp_path / "dicom").mkdir()
    for name in ("segmentation.dcm", "implant-2.dcm", "mine.dcm"):
        (tmp_path / "dicom" / name).write_text("old")
    assert "dicom/implant-2.dcm" in names_of_dicom(tmp_path)
    with staged(tmp_path, names_of_dicom(tmp_path), last=()) as folder:
        (folder / "dicom").mkdir()
        (folder / "dicom" / "picture.dcm").write_text("new")
    assert {path.name: path.read_text() for path in (tmp_path / "dicom").iterdir()} == {
        "mine.dcm": "old",
        "picture.dcm": "new",
    }


def test_their_folder_goes_with_the_last_of_them(tmp_path):
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "segmentation.dcm").write_text("old")
    with staged(tmp_path, names_of_dicom(tmp_path), last=()) as folder:
        (folder / "patch.stl").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["patch.stl"]


def test_a_new_design_takes_the_old_implant_away_and_a_first_one_leaves_the_segmentation(tmp_path):
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "segmentation.dcm").write_text("old")
    assert "dicom/segmentation.dcm" not in names_of_design(tmp_path)
    (tmp_path / "dicom" / "implant.dcm").write_text("old")
    assert "dicom/segmentation.dcm" in names_of_design(tmp_path)
