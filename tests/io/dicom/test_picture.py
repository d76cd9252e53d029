"""Pictures as secondary captures in the scan's study."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian
from tests.io.dicom.read_back import complaints
from tests.io.dicom.source_files import SECRETS, ct_series, source_of

from calvaria.io.dicom.modules import deidentified
from calvaria.io.dicom.picture import write_picture
from calvaria.io.dicom.source import DicomSource
from calvaria.volume import Grid


@pytest.fixture
def source() -> DicomSource:
    return source_of(ct_series(Grid.isotropic((4, 5, 3), 1.0)))


def random_picture(shape: tuple[int, ...] = (21, 33, 3)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, shape, np.uint8))


@pytest.mark.parametrize("shape", [(21, 33, 3), (24, 32, 3), (1, 1, 3)], ids=str)
def test_the_colours_come_back(tmp_path, source, shape):
    picture = random_picture(shape)
    write_picture(tmp_path / "a.dcm", picture, source)
    found = pydicom.dcmread(tmp_path / "a.dcm")
    np.testing.assert_array_equal(found.pixel_array, np.asarray(picture))
    assert (found.PhotometricInterpretation, found.BitsStored) == ("RGB", 8)


def test_any_archive_takes_it(tmp_path, source):
    write_picture(tmp_path / "a.dcm", random_picture(), source)
    assert pydicom.dcmread(tmp_path / "a.dcm").file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_what_is_transparent_is_white(tmp_path, source):
    picture = Image.new("RGBA", (3, 2), (0, 0, 0, 0))
    picture.putpixel((1, 0), (10, 20, 30, 255))
    write_picture(tmp_path / "a.dcm", picture, source)
    pixels = pydicom.dcmread(tmp_path / "a.dcm").pixel_array
    assert pixels[0].tolist() == [[255, 255, 255], [10, 20, 30], [255, 255, 255]]


def test_grey_pictures_become_colours(tmp_path, source):
    write_picture(tmp_path / "a.dcm", Image.new("L", (3, 2), 77), source)
    assert pydicom.dcmread(tmp_path / "a.dcm").pixel_array.shape == (2, 3, 3)


def test_it_is_a_new_series_of_the_scans_study(tmp_path, source):
    write_picture(tmp_path / "a.dcm", random_picture(), source, description="Implant, pictures")
    found = pydicom.dcmread(tmp_path / "a.dcm")
    assert found.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert found.StudyInstanceUID == source.study_uid
    assert found.SeriesInstanceUID != source.series_uid
    assert found.RelatedSeriesSequence[0].SeriesInstanceUID == source.series_uid
    assert found.SeriesDescription == "Implant, pictures"
    assert str(found.PatientName) == SECRETS["PatientName"]
    assert "FrameOfReferenceUID" not in found


def test_of_a_deidentified_source_nothing_of_the_patient_is_in_the_file(tmp_path, source):
    write_picture(tmp_path / "a.dcm", random_picture(), deidentified(source))
    data = (tmp_path / "a.dcm").read_bytes()
    for secret in (*SECRETS.values(), source.study_uid, source.series_uid):
        assert secret.encode() not in data
    assert complaints(tmp_path / "a.dcm") == ""


def test_dciodvfy_finds_no_error(tmp_path, source):
    write_picture(tmp_path / "a.dcm", random_picture(), source)
    assert complaints(tmp_path / "a.dcm") == ""
