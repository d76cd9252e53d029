"""Made-up CT series of every kind that scanners write, read back: voxels, places, notes, refusals."""

from __future__ import annotations

import shutil
import struct
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, generate_uid
from skimage.measure import marching_cubes
from tests.dicom_files import (
    SPHERE_MM,
    Series,
    compressed,
    enhanced,
    replace,
    set_pixels,
    slices_of,
    sphere,
    stored,
    write,
    zipped,
)

from calvaria.errors import FormatError, InputError, MissingExtraError
from calvaria.io.dicom import list_series, read_dicom

AIR = -1024


def hu_at_voxels(volume, hu=sphere):
    """What the formula says at the centre of each voxel, by the affine."""
    return hu(volume.grid.centres_mm())


def assert_faithful(volume, hu=sphere, atol=0.51):
    assert np.abs(volume.data - hu_at_voxels(volume, hu)).max() <= atol


def read(folder, series=None):
    notes = []
    return read_dicom(folder, series, notes), notes


def radii_mm(volume):
    """From the world's origin to the surface of half the ball's HU."""
    vertices = marching_cubes(volume.data.astype(np.float32), 0.0)[0]
    return np.linalg.norm(volume.grid.to_world(vertices), axis=1)


@pytest.mark.parametrize("tilt", [0.0, -18.5, 16.5, 30.0])
def test_every_voxel_lies_where_its_position_says_and_a_tilt_shears_the_grid(tmp_path, tilt):
    series = Series(tilt_degrees=tilt, slices=40, step_mm=2.5)
    found, notes = read(write(tmp_path / "a", slices_of(series)))
    assert found.volume.data.dtype == np.int16
    assert found.volume.data.flags.f_contiguous
    assert found.volume.shape == (64, 60, 40)
    assert found.geometry["tilt_degrees"] == pytest.approx(tilt, abs=1e-3)
    assert found.volume.grid.is_orthogonal == (tilt == 0.0)
    assert found.volume.affine[:3, 2] == pytest.approx([0, 0, 2.5], abs=1e-6)
    assert_faithful(found.volume)
    assert notes == []


@settings(max_examples=15)
@given(
    turn=st.permutations([0, 1, 2]),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    tilt=st.sampled_from([0.0, 12.0, -25.0]),
)
def test_any_orientation_and_direction_of_the_table(tmp_path_factory, turn, signs, tilt):
    axes = (np.eye(3) * signs)[list(turn)]
    series = Series(slices=22, shape=(12, 14), tilt_degrees=tilt, orientation=(*axes[0], *axes[1]), table=axes[2])
    series = replace(series, hu=lambda points: sphere(points, 15.0))
    found, _ = read(write(tmp_path_factory.mktemp("a"), slices_of(series)))
    assert_faithful(found.volume, series.hu)
    assert found.source.slices[0].sop_instance_uid != found.source.slices[1].sop_instance_uid


@pytest.mark.parametrize("position", ["FFS", "HFP", "FFP"])
def test_feet_first_and_prone_are_in_the_positions_already(tmp_path, position):
    turned = {"FFS": (-1, 0, 0, 0, 1, 0), "HFP": (-1, 0, 0, 0, -1, 0), "FFP": (1, 0, 0, 0, -1, 0)}[position]
    ahead = np.array([0.0, 5.0, 10.0])
    series = Series(slices=30, orientation=turned, changes={"PatientPosition": position})
    series = replace(series, hu=lambda points: sphere(points - ahead, 20.0))
    found, _ = read(write(tmp_path / "a", slices_of(series)))
    assert_faithful(found.volume, series.hu)


def test_slices_know_which_instance_they_are(tmp_path):
    files = slices_of(Series(slices=25))
    found, _ = read(write(tmp_path / "a", files))
    assert [one.sop_instance_uid for one in found.source.slices] == [file.SOPInstanceUID for file in files]
    assert all(one.frame is None for one in found.source.slices)
    assert found.source.header.PatientID == files[0].PatientID
    assert "PixelData" not in found.source.header
    assert not found.source.resampled


@pytest.mark.parametrize(
    "changes",
    [
        {"signed": True, "intercept": 0.0},
        {"signed": True, "intercept": 0.0, "bits": 12},
        {"bits": 12},
        {"syntax": ExplicitVRBigEndian},
        {"syntax": ImplicitVRLittleEndian},
        {"slope": 2.0, "intercept": -8192.0, "bits": 14},
    ],
    ids=str,
)
def test_stored_values_of_every_kind(tmp_path, changes):
    series = Series(slices=30, **changes)
    found, _ = read(write(tmp_path / "a", slices_of(series)))
    assert found.volume.data.dtype == np.int16
    assert_faithful(found.volume, atol=series.slope / 2 + 0.01)


def test_bits_above_those_stored_are_not_values(tmp_path):
    series = Series(slices=24, bits=12)
    files = slices_of(series)
    for file in files:
        set_pixels(file, np.frombuffer(file.PixelData, "<u2") | 0xA000)
    found, _ = read(write(tmp_path / "a", files))
    assert_faithful(found.volume)


def test_each_slice_has_a_rescale_of_its_own(tmp_path):
    series = Series(slices=30)
    files = slices_of(series)
    for n, (file, at) in enumerate(zip(files, series.places(), strict=True)):
        file.RescaleSlope, file.RescaleIntercept = 0.5 + n / 64, -1100
        set_pixels(file, stored(series, series.values(at), 0.5 + n / 64, -1100))
    found, _ = read(write(tmp_path / "a", files))
    assert found.volume.data.dtype == np.float32
    assert_faithful(found.volume, atol=0.5)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("intercept", [-1024.0, 0.0])
def test_padding_is_air_and_said_where_it_looked_like_tissue(tmp_path, signed, intercept):
    value = -2000 if signed else 63536
    series = Series(slices=24, signed=signed, intercept=intercept, hu=lambda p: np.maximum(sphere(p), intercept))
    files = slices_of(series)
    for file in files:
        pixels = np.frombuffer(file.PixelData, "<i2" if signed else "<u2").reshape(series.shape).copy()
        pixels[:5] = value
        set_pixels(file, pixels)
        file.add_new(0x00280120, "SS" if signed else "US", value)
    found, notes = read(write(tmp_path / "a", files))
    assert (found.volume.data[:, :5] == AIR).all()
    assert not (found.volume.data[:, 5:] == AIR).any() or intercept == -1024.0
    assert bool(notes) == (not signed)
    assert signed or "was set to air (-1024 HU)" in notes[0]


SYNTAXES = {
    "rle": "1.2.840.10008.1.2.5",
    "jpeg2000": "1.2.840.10008.1.2.4.90",
    "jpegls": "1.2.840.10008.1.2.4.80",
    "jpeg lossless": "1.2.840.10008.1.2.4.70",
}


@pytest.mark.parametrize("kind", SYNTAXES)
@pytest.mark.parametrize("signed", [False, True])
def test_compressed_slices_are_the_same_slices(tmp_path, kind, signed):
    series = Series(slices=21, signed=signed, intercept=0.0 if signed else -1024.0)
    plain, _ = read(write(tmp_path / "plain", slices_of(series)))
    files = [compressed(file, kind) for file in slices_of(series)]
    assert {file.file_meta.TransferSyntaxUID for file in files} == {SYNTAXES[kind]}
    found, _ = read(write(tmp_path / "packed", files))
    assert found.geometry["compressed"]
    assert found.volume.data.dtype == plain.volume.data.dtype
    np.testing.assert_array_equal(found.volume.data, plain.volume.data)
    assert_faithful(found.volume)


def test_a_transfer_syntax_that_is_no_text_is_damage(tmp_path):
    """Of another kind by its header: it is not taken for a UID."""
    folder = write(tmp_path / "a", [compressed(file, "jpegls") for file in slices_of(Series(slices=21))])
    path = sorted(folder.iterdir())[4]
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\x02\x00\x10\x00UI", b"\x02\x00\x10\x00US"))
    assert path.read_bytes() != data
    with pytest.raises(FormatError, match="a: series 2: transfer syntax unknown is not read; export the series uncom"):
        read(folder)


@pytest.mark.parametrize("kind", ["jpeg2000", "jpegls", "jpeg lossless"])
def test_a_stream_of_another_size_is_not_decoded(tmp_path, kind):
    """60 x 64 made 60,000 x 64,000: a decoder would take the memory, or minutes, before it saw what is wrong."""
    files = [compressed(file, kind) for file in slices_of(Series(slices=21))]
    small, large = ((60, 64), (60000, 64000))
    old, new = (
        struct.pack(">II", across, down) if kind == "jpeg2000" else struct.pack(">HH", down, across)
        for down, across in (small, large)
    )
    assert files[9].PixelData.count(old) >= 1
    files[9].PixelData = files[9].PixelData.replace(old, new)
    with pytest.raises(FormatError, match=r"a slice \(JPEG.*\) is not of the size that its header says; export the"):
        read(write(tmp_path / "a", files))


@pytest.mark.parametrize("tilt", [0.0, 20.0])
@pytest.mark.parametrize("packed", [False, True])
def test_an_enhanced_file_is_the_series(tmp_path, tilt, packed):
    series = Series(slices=30, tilt_degrees=tilt)
    file = enhanced(series)
    if packed:
        file = compressed(file, "rle")
    folder = write(tmp_path / "a", [file])
    found, _ = read(next(folder.iterdir()))
    assert_faithful(found.volume)
    assert [one.frame for one in found.source.slices] == list(range(30, 0, -1))
    assert found.geometry["tilt_degrees"] == pytest.approx(tilt, abs=1e-3)


def test_folders_in_folders_a_zip_a_dicomdir_and_files_that_are_not_dicom(tmp_path):
    files = slices_of(Series(slices=30))
    root = tmp_path / "study"
    write(root / "deep" / "deeper", files[:15])
    write(root / "other", files[15:], first=15)
    (root / "notes.txt").write_text("Ottilie was here")
    (root / "deep" / "README").write_bytes(b"\x02\x00" * 500)
    (root / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (root / "empty").write_bytes(b"")
    expected, _ = read(root)
    assert expected.volume.shape[2] == 30
    for path in (zipped(root, tmp_path / "a.zip"), root / "DICOMDIR"):
        found, _ = read(path)
        assert np.array_equal(found.volume.data, expected.volume.data)
        assert np.array_equal(found.volume.affine, expected.volume.affine)


def test_files_without_preamble_are_read(tmp_path):
    found, _ = read(write(tmp_path / "a", slices_of(Series(slices=22)), plain=True))
    assert_faithful(found.volume)


@pytest.mark.parametrize("tilt", [0.0, 18.0])
def test_a_sphere_with_uneven_gaps_and_a_tilt_stays_a_sphere(tmp_path, tilt):
    series = Series(slices=100, step_mm=1.0, tilt_degrees=tilt, pixel_mm=(1.5, 1.5), shape=(64, 64))
    places = series.places() + np.random.default_rng(5).uniform(-0.3, 0.3, 100)
    found, notes = read(write(tmp_path / "a", slices_of(series, places)))
    radii = radii_mm(found.volume)
    assert np.abs(np.percentile(radii, [1, 50, 99]) / SPHERE_MM - 1).max() < 0.01
    assert found.source.resampled
    assert found.source.slices == ()
    assert not found.geometry["even"]
    assert found.geometry["tilt_degrees"] == pytest.approx(tilt, abs=0.01)
    assert len(notes) == 1
    assert "uneven slices (" in notes[0]
    assert "were resampled to " in notes[0]


def test_thin_slices_below_thick_ones_are_no_gap(tmp_path):
    series = Series(step_mm=2.0, slices=60)
    places = [*np.arange(-55, 0, 2.0), *np.arange(1, 56, 5.0)]
    files = slices_of(series, places)
    for file in files[-11:]:
        file.SliceThickness = 5.0
    found, notes = read(write(tmp_path / "a", files))
    assert found.geometry["missing_slices"] == 0
    assert found.geometry["step_mm"] == pytest.approx(2.0, rel=0.02)
    assert "made up" not in notes[0]


def test_few_missing_slices_are_made_up_and_said(tmp_path):
    files = slices_of(Series(slices=60))
    found, notes = read(write(tmp_path / "a", [*files[:20], *files[21:40], *files[41:]]))
    assert found.volume.shape[2] == 60
    assert found.geometry["missing_slices"] == 2
    assert "2 missing ones made up between their neighbours" in notes[0]
    straight = found.volume.data - hu_at_voxels(found.volume)
    assert np.abs(straight[:, :, :19]).max() <= 1.0
    assert np.abs(straight).max() < 400  # linear over the ramp of the edge


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (lambda n: n not in (30, 31), r"series 2: slices 30 and 31 are 6\.00 mm apart, the others 2\.00 mm"),
        (lambda n: n % 12 != 5, r"about 5 of 60 slices are missing; export the whole series"),
        (lambda n: n < 19, r"19 slices; at least 20 are needed"),
    ],
)
def test_more_is_refused(tmp_path, kept, message):
    files = [file for n, file in enumerate(slices_of(Series(slices=60))) if kept(n)]
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / "a", files))


def test_a_slice_that_lies_aside_is_put_back(tmp_path):
    series = Series(slices=40)
    files = slices_of(series)
    aside = np.array([4.0, 0.0, 0.0])
    shifted = replace(series, hu=lambda points: sphere(points + aside))
    x, y, z = files[20].ImagePositionPatient
    files[20].ImagePositionPatient = [x + 4.0, y, z]
    set_pixels(files[20], stored(series, shifted.values(series.places()[20])))
    found, notes = read(write(tmp_path / "a", files))
    assert np.abs(found.volume.data - hu_at_voxels(found.volume))[4:-4].max() <= 1.0
    assert "were resampled" in notes[0]


def test_slices_that_are_there_twice_are_dropped(tmp_path):
    files = slices_of(Series(slices=30))
    folder = write(tmp_path / "a", files)
    shutil.copy(next(folder.iterdir()), folder / "copy")
    again = slices_of(Series(slices=30))[7]  # another instance with the same pixels
    again.SeriesInstanceUID, again.StudyInstanceUID = files[0].SeriesInstanceUID, files[0].StudyInstanceUID
    again.FrameOfReferenceUID = files[0].FrameOfReferenceUID
    write(folder, [again], first=99)
    found, notes = read(folder)
    assert found.volume.shape[2] == 30
    assert notes == ["2 slices that were there twice were left out"]
    assert found.geometry["left_out"] == {"duplicates": 2}


def test_two_phases_are_told_apart_by_their_acquisition(tmp_path):
    series = Series(slices=24, changes={"AcquisitionNumber": 1})
    late = replace(series, changes={"AcquisitionNumber": 2}, hu=lambda points: sphere(points, 30.0))
    folder = write(tmp_path / "a", [*slices_of(series), *slices_of(late)])
    assert [one.number for one in list_series(folder)] == ["2.1", "2.2"]
    found, notes = read(folder)
    assert_faithful(found.volume)
    assert "series 2.1 was taken of 2 that can be used" in notes[0]
    assert "2 volumes, told apart by acquisition" in notes[1]
    other, _ = read(folder, "2.2")
    assert_faithful(other.volume, late.hu)
    with pytest.raises(InputError, match=r"series 2 is several volumes; choose with --series: 2\.1, 2\.2"):
        read(folder, "2")


def test_two_phases_that_no_tag_tells_apart_are_refused(tmp_path):
    series = Series(slices=24)
    late = replace(series, hu=lambda points: sphere(points, 30.0))
    folder = write(tmp_path / "a", [*slices_of(series), *slices_of(late)])
    with pytest.raises(InputError, match=r"different images at 24 positions .* that no tag tells apart"):
        read(folder)


def test_localizers_and_strays_under_the_same_uid_are_left_out(tmp_path):
    series = Series(slices=30)
    scout = replace(series, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"), orientation=(0, 1, 0, 0, 0, -1))
    stray = replace(series, orientation=(0, 1, 0, 0, 0, -1))
    shot = replace(series, changes={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"})
    others = [*slices_of(scout, [0.0, 1.0]), *slices_of(stray, [0.0]), *slices_of(shot, [0.0])]
    folder = write(tmp_path / "a", [*slices_of(series), *others])
    found, notes = read(folder)
    assert_faithful(found.volume)
    assert found.geometry["left_out"] == {"localizers": 2, "pictures": 1, "other_orientation_or_size": 1}
    assert notes[0] == "2 localizers in the series were left out"
    assert len(notes) == 3


REFUSED = [
    ({"Modality": "MR"}, "MR, not CT"),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "pictures made from a CT"),
    ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, r"pictures in colour \(RGB\), not HU"),
    ({"PixelSpacing": [0.0, 0.0]}, "PixelSpacing is zero or negative"),
    ({"PixelSpacing": None}, "24 of 24 slices have no PixelSpacing"),
    ({"ImageOrientationPatient": None}, "24 of 24 slices have no ImageOrientationPatient: where they lie is not known"),
    ({"ImagePositionPatient": None}, "24 of 24 slices have no ImagePositionPatient"),
    ({"ImagePositionPatient": [0, 0, 0]}, "different images at 1 positions"),
    ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "not two unit vectors at a right angle"),
    ({"RescaleSlope": 0}, "RescaleSlope is zero"),
    ({"BitsAllocated": 24}, r"pixels of 16 bits in 24 \(high bit 15\), which are not read"),
    ({"HighBit": 11}, "high bit 11"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizers only"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[str(one) for one, _ in REFUSED])
def test_what_cannot_be_used_is_refused_in_one_line(tmp_path, changes, message):
    folder = write(tmp_path / "a", slices_of(Series(slices=24, changes=changes)))
    with pytest.raises(InputError, match=f"^a: .*{message}") as caught:
        read(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PatientID", "other", "slices of 2 patients under one series UID"),
        ("FrameOfReferenceUID", "1.2.3", "slices of 2 frames of reference under one series UID"),
        ("StudyInstanceUID", "1.2.3", "slices of 2 studies under one series UID"),
    ],
)
def test_mixed_series_are_refused(tmp_path, name, value, message):
    files = slices_of(Series(slices=24))
    setattr(files[3], name, value)
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / "a", files))


def test_the_best_series_is_chosen_and_said(tmp_path):
    study = generate_uid(), generate_uid()
    kinds = [
        {"number": 3, "step_mm": 5.0, "slices": 32},
        {"number": 4, "step_mm": 1.2, "slices": 110, "kernel": "H60s"},
        {"number": 5, "step_mm": 1.25, "slices": 110, "kernel": "H31s"},
        {"number": 6, "step_mm": 1.25, "slices": 110, "image_type": ("DERIVED", "SECONDARY", "MPR")},
        {"number": 7, "step_mm": 1.0, "slices": 150, "orientation": (1, 0, 0, 0, 0, -1), "table": (0, 1, 0)},
        {"number": 8, "step_mm": 1.0, "slices": 30, "kernel": "H31s"},
    ]
    for n, kind in enumerate(kinds):
        series = Series(shape=(8, 8), uids=(study[0], generate_uid(), study[1]), **kind)
        write(tmp_path / "a", slices_of(series), first=200 * n)
    chosen = [one.number for one in list_series(tmp_path / "a") if one.chosen]
    assert chosen == ["5"]
    found, notes = read(tmp_path / "a")
    assert found.geometry["series"] == "5"
    assert "series 5 was taken of 6" in notes[0]
    assert "axial, 110 slices 1.25 mm apart, kernel H31s (soft or standard)" in notes[0]
    with pytest.raises(InputError, match="no series of this number or UID; there are 3, 4, 5, 6, 7, 8"):
        read(tmp_path / "a", "9")


def test_a_series_is_chosen_by_its_uid(tmp_path):
    series = Series(slices=22)
    write(tmp_path / "a", slices_of(series))
    assert read(tmp_path / "a", series.uids[1])[0].geometry["series"] == "2"


def test_a_truncated_slice_is_refused_and_a_broken_header_is_left_out(tmp_path):
    folder = write(tmp_path / "a", slices_of(Series(slices=40)))
    names = sorted(folder.iterdir())
    data = names[5].read_bytes()
    names[5].write_bytes(data[:-100])
    with pytest.raises(FormatError, match=r"^a: series 2: a DICOM file is truncated: pixels are missing"):
        read(folder)
    names[5].write_bytes(data[:200])
    found, notes = read(folder)
    assert found.volume.shape[2] in (39, 40)
    assert found.geometry["missing_slices"] in (0, 1)
    assert len(notes) <= 2


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"PhotometricInterpretation": "MONOCHROME1"}, "to be shown inverted (MONOCHROME1); HU are taken as they are"),
        ({"RescaleType": "OD"}, "the values are in OD by RescaleType, and are taken as HU"),
    ],
)
def test_what_is_doubtful_of_the_values_is_said(tmp_path, changes, note):
    found, notes = read(write(tmp_path / "a", slices_of(Series(slices=22, changes=changes))))
    assert_faithful(found.volume)
    assert len(notes) == 1
    assert note in notes[0]


def test_without_a_rescale_stored_values_are_hu_and_that_is_said(tmp_path):
    files = slices_of(Series(slices=22, signed=True, intercept=0.0))
    for file in files:
        del file.RescaleSlope, file.RescaleIntercept
    found, notes = read(write(tmp_path / "a", files))
    assert_faithful(found.volume)
    assert "their stored values are taken as HU" in notes[0]


def test_values_that_int16_does_not_hold_become_float(tmp_path):
    series = Series(slices=22, slope=1.0, intercept=-1024.0, hu=lambda points: np.full(points.shape[:-1], 40_000.0))
    found, _ = read(write(tmp_path / "a", slices_of(series)))
    assert found.volume.data.dtype == np.float32
    assert (found.volume.data == 40_000).all()


def test_without_pydicom_one_line_says_how_to_install_it(tmp_path, monkeypatch):
    folder = write(tmp_path / "a", slices_of(Series(slices=2)))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'calvaria\[dicom\]'"):
        list_series(folder)


def test_a_large_study_that_cannot_be_used_is_refused_in_two_seconds(tmp_path):
    folder = write(tmp_path / "a", slices_of(Series(slices=400, shape=(64, 64), changes={"Modality": "MR"})))
    start = time.perf_counter()
    with pytest.raises(InputError, match="MR, not CT"):
        read(folder)
    assert time.perf_counter() - start < 2
