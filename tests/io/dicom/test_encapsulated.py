"""Implants as Encapsulated STL: mm, LPS, in the scan's frame of reference."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import trimesh
from tests.io.dicom.read_back import complaints
from tests.io.dicom.source_files import SECRETS, ct_series, resampled, source_of

from calvaria.errors import InputError
from calvaria.io import read_mesh
from calvaria.io.dicom.encapsulated import write_encapsulated
from calvaria.io.dicom.modules import deidentified, new_uid
from calvaria.io.dicom.source import DicomSource, SliceRef
from calvaria.volume import Grid, Mesh


@pytest.fixture
def source() -> DicomSource:
    return source_of(ct_series(Grid.isotropic((4, 5, 3), 1.0, (-20.0, 30.0, 600.0))))


@pytest.fixture
def ball() -> Mesh:
    made = trimesh.creation.icosphere(subdivisions=2, radius=11.0)
    return Mesh(made.vertices + np.array([40.0, -17.5, 650.25]), made.faces)


def test_the_surface_in_it_is_the_surface(tmp_path, source, ball):
    write_encapsulated(tmp_path / "a.dcm", ball, source)
    found = pydicom.dcmread(tmp_path / "a.dcm")
    assert found.MIMETypeOfEncapsulatedDocument == "model/stl"
    assert len(found.EncapsulatedDocument) - found.EncapsulatedDocumentLength in (0, 1)
    (tmp_path / "a.stl").write_bytes(found.EncapsulatedDocument[: found.EncapsulatedDocumentLength])
    again = read_mesh(tmp_path / "a.stl")
    np.testing.assert_allclose(
        sorted(map(tuple, again.vertices_mm)), sorted(map(tuple, ball.vertices_mm.astype(np.float32))), atol=1e-4
    )
    assert again.volume_ml == pytest.approx(ball.volume_ml, rel=1e-5)


def test_it_says_unit_frame_and_sources(tmp_path, source, ball):
    write_encapsulated(tmp_path / "a.dcm", ball, source, title="Implant 2 of 3", number=2)
    found = pydicom.dcmread(tmp_path / "a.dcm")
    assert found.SOPClassUID == "1.2.840.10008.5.1.4.1.1.104.3"
    assert found.Modality == "M3D"
    (unit,) = found.MeasurementUnitsCodeSequence
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("mm", "UCUM")
    assert found.FrameOfReferenceUID == source.frame_uid
    assert found.StudyInstanceUID == source.study_uid
    assert (found.DocumentTitle, found.InstanceNumber) == ("Implant 2 of 3", 2)
    named = [one.ReferencedSOPInstanceUID for one in found.SourceInstanceSequence]
    assert named == [ref.sop_instance_uid for ref in source.slices]
    assert str(found.PatientName) == SECRETS["PatientName"]
    assert found.BurnedInAnnotation == "NO"


def test_of_a_multi_frame_scan_each_instance_is_named_once(tmp_path, source, ball):
    slices = tuple(SliceRef("1.2.840.10008.5.1.4.1.1.2.1", "1.2.3.4", frame) for frame in (1, 2, 3))
    multi = DicomSource(source.study_uid, source.series_uid, source.frame_uid, slices, source.header)
    write_encapsulated(tmp_path / "a.dcm", ball, multi)
    found = pydicom.dcmread(tmp_path / "a.dcm")
    (named,) = found.SourceInstanceSequence
    assert named.ReferencedSOPInstanceUID == "1.2.3.4"
    assert complaints(tmp_path / "a.dcm") == ""


def test_of_a_resampled_scan_the_series_is_named(tmp_path, source, ball):
    write_encapsulated(tmp_path / "a.dcm", ball, resampled(source))
    found = pydicom.dcmread(tmp_path / "a.dcm")
    assert found.RelatedSeriesSequence[0].SeriesInstanceUID == source.series_uid
    assert "SourceInstanceSequence" not in found
    assert complaints(tmp_path / "a.dcm") == ""


def test_several_share_a_series(tmp_path, source, ball):
    series = new_uid()
    for number in (1, 2):
        write_encapsulated(tmp_path / f"{number}.dcm", ball, source, series_uid=series, number=number)
    one, two = (pydicom.dcmread(tmp_path / f"{number}.dcm") for number in (1, 2))
    assert one.SeriesInstanceUID == two.SeriesInstanceUID == series
    assert one.SOPInstanceUID != two.SOPInstanceUID


def test_of_a_deidentified_source_nothing_of_the_patient_is_in_the_file(tmp_path, source, ball):
    write_encapsulated(tmp_path / "a.dcm", ball, deidentified(source))
    data = (tmp_path / "a.dcm").read_bytes()
    for secret in (*SECRETS.values(), source.study_uid, source.frame_uid, source.slices[0].sop_instance_uid):
        assert secret.encode() not in data
    assert complaints(tmp_path / "a.dcm") == ""


def test_dciodvfy_finds_no_error(tmp_path, source, ball):
    write_encapsulated(tmp_path / "a.dcm", ball, source, marked=True)
    assert pydicom.dcmread(tmp_path / "a.dcm").BurnedInAnnotation == "YES"
    assert complaints(tmp_path / "a.dcm") == ""


def test_a_surface_that_encloses_nothing_is_refused(tmp_path, source, ball):
    opened = Mesh(ball.vertices_mm, ball.faces[1:])
    with pytest.raises(InputError, match=r"a\.dcm: an encapsulated surface must be closed; 3 of its edges have no"):
        write_encapsulated(tmp_path / "a.dcm", opened, source)
    with pytest.raises(InputError, match=r"a\.dcm: an encapsulated surface must be closed; it is empty"):
        write_encapsulated(tmp_path / "a.dcm", Mesh.empty(), source)


def test_a_title_that_is_too_long_is_refused(tmp_path, source, ball):
    with pytest.raises(InputError, match=r"a\.dcm: a title has at most 1024 characters; got 1025; shorten it"):
        write_encapsulated(tmp_path / "a.dcm", ball, source, title="x" * 1025)
