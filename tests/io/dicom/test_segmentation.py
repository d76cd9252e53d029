"""Masks as DICOM SEG: every voxel in its place, whatever the orientation, and every frame on its slice."""

from __future__ import annotations

import itertools
import logging
import warnings
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given
from pydicom.dataset import Dataset
from tests.io.dicom.read_back import complaints, on_grid, points_of
from tests.io.dicom.source_files import SECRETS, ct_series, resampled, source_of
from tests.strategies import rotations

from calvaria.errors import GeometryError, InputError
from calvaria.io.dicom.modules import deidentified
from calvaria.io.dicom.segmentation import write_segmentation
from calvaria.io.dicom.source import DicomSource, SliceRef
from calvaria.volume import Grid, Volume

ORDERS = list(itertools.permutations(range(3)))
FLIPS = [tuple(axis for axis in range(3) if bits >> axis & 1) for bits in range(8)]
SHEAR = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, -0.334, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
"""A gantry tilt of 18.5 degrees."""


def base_grid(shape: tuple[int, int, int] = (9, 7, 5)) -> Grid:
    affine = np.diag([0.5, 0.6, 2.0, 1.0])
    affine[:3, 3] = [-101.25, 33.3, 612.5]
    return Grid(shape, affine)


def tilted_grid() -> Grid:
    return base_grid().moved(SHEAR)


def random_mask(grid: Grid, seed: int = 0) -> Volume:
    return Volume(np.random.default_rng(seed).random(grid.shape) > 0.6, grid)


@pytest.fixture
def source() -> DicomSource:
    return source_of(ct_series(base_grid()))


@pytest.mark.parametrize("flip", FLIPS, ids=str)
@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_voxels_keep_their_places_in_all_48_orientations(order, flip, tmp_path):
    grid = base_grid().permute(order).flip(flip)
    masks = {name: random_mask(grid, seed) for seed, name in enumerate(("completed", "patch", "implant"))}
    write_segmentation(tmp_path / "a.dcm", masks, source_of(ct_series(grid)))
    found = points_of(tmp_path / "a.dcm")
    assert list(found) == list(masks)
    for name, mask in masks.items():
        np.testing.assert_array_equal(on_grid(found[name], grid), mask.mask)


@pytest.mark.parametrize("flip", FLIPS, ids=str)
@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_simpleitk_sees_the_same_voxels_in_all_48_orientations(order, flip, tmp_path):
    # Whole bytes: of others GDCM, which reads for SimpleITK, makes up the voxels of the last byte.
    grid = base_grid((8, 6, 4)).permute(order).flip(flip)
    mask = random_mask(grid)
    write_segmentation(tmp_path / "a.dcm", {"patch": mask}, source_of(ct_series(grid)))
    image = SimpleITK.ReadImage(str(tmp_path / "a.dcm"))
    indices = np.argwhere(SimpleITK.GetArrayViewFromImage(image) != 0)[:, ::-1]
    points = np.array([image.TransformIndexToPhysicalPoint([int(x) for x in one]) for one in indices])
    np.testing.assert_array_equal(on_grid(points, grid), mask.mask)


@given(rotations())
def test_voxels_keep_their_places_on_oblique_and_tilted_grids(tmp_path_factory, rotation):
    turn = np.eye(4)
    turn[:3, :3] = rotation
    grid = tilted_grid().moved(turn)
    mask = random_mask(grid)
    path = tmp_path_factory.mktemp("oblique") / "a.dcm"
    write_segmentation(path, {"patch": mask}, source_of(ct_series(grid)))
    np.testing.assert_array_equal(on_grid(points_of(path)["patch"], grid), mask.mask)


def test_slices_of_a_tilted_stack_are_as_far_apart_as_along_their_normal(tmp_path):
    grid = tilted_grid()
    write_segmentation(tmp_path / "a.dcm", {"patch": random_mask(grid)}, source_of(ct_series(grid)))
    measures = pydicom.dcmread(tmp_path / "a.dcm").SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(2.0)
    assert [float(x) for x in measures.PixelSpacing] == pytest.approx([0.6, 0.5])
    assert grid.spacing_mm[2] > 2.1


def frames_and_slices(path: Path) -> list[tuple[tuple[float, ...], str, int | None]]:
    """Each frame's position, and the instance (and frame of it) that it names."""
    found = []
    for frame in pydicom.dcmread(path).PerFrameFunctionalGroupsSequence:
        (item,) = frame.DerivationImageSequence[0].SourceImageSequence
        place = tuple(float(x) for x in frame.PlanePositionSequence[0].ImagePositionPatient)
        found.append((place, item.ReferencedSOPInstanceUID, item.get("ReferencedFrameNumber")))
    return found


@pytest.mark.parametrize("grid", [base_grid(), base_grid().flip((2,)), tilted_grid()], ids=["plain", "down", "tilted"])
def test_every_frame_names_the_slice_that_it_lies_on(grid, tmp_path):
    series = ct_series(grid)
    masks = {"completed": random_mask(grid), "patch": random_mask(grid, 1)}
    write_segmentation(tmp_path / "a.dcm", masks, source_of(series))
    places = {one.SOPInstanceUID: [float(x) for x in one.ImagePositionPatient] for one in series}
    named = frames_and_slices(tmp_path / "a.dcm")
    assert len(named) == 10
    for place, uid, frame in named:
        assert place == pytest.approx(places[uid], abs=1e-6)
        assert frame is None
    (listed,) = pydicom.dcmread(tmp_path / "a.dcm").ReferencedSeriesSequence
    assert listed.SeriesInstanceUID == series[0].SeriesInstanceUID
    assert {one.ReferencedSOPInstanceUID for one in listed.ReferencedInstanceSequence} == set(places)


def test_frames_of_a_multi_frame_scan_are_named_by_number(tmp_path, source):
    enhanced = "1.2.840.10008.5.1.4.1.1.2.1"
    slices = tuple(SliceRef(enhanced, "1.2.3.4", frame) for frame in (5, 4, 3, 2, 1))
    multi = DicomSource(source.study_uid, source.series_uid, source.frame_uid, slices, source.header)
    grid = base_grid()
    write_segmentation(tmp_path / "a.dcm", {"patch": random_mask(grid)}, multi)
    heights = {round(float(grid.to_world((0, 0, k))[2]), 6): ref.frame for k, ref in enumerate(slices)}
    for place, uid, frame in frames_and_slices(tmp_path / "a.dcm"):
        assert (uid, frame) == ("1.2.3.4", heights[round(place[2], 6)])
    (listed,) = pydicom.dcmread(tmp_path / "a.dcm").ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert (listed.ReferencedSOPClassUID, listed.ReferencedSOPInstanceUID) == (enhanced, "1.2.3.4")
    assert complaints(tmp_path / "a.dcm") == ""


def test_a_resampled_scan_is_named_as_a_series_and_the_grid_is_kept(tmp_path, source):
    grid = Grid.isotropic((6, 7, 8), 1.5, (3.0, -2.0, 100.0))  # another number of slices than the scan has
    mask = random_mask(grid)
    write_segmentation(tmp_path / "a.dcm", {"patch": mask}, resampled(source))
    np.testing.assert_array_equal(on_grid(points_of(tmp_path / "a.dcm")["patch"], grid), mask.mask)
    found = pydicom.dcmread(tmp_path / "a.dcm")
    assert found.RelatedSeriesSequence[0].SeriesInstanceUID == source.series_uid
    assert "ReferencedSOPInstanceUID" not in str(found.PerFrameFunctionalGroupsSequence)
    assert "ReferencedSeriesSequence" not in found
    assert complaints(tmp_path / "a.dcm") == ""


def test_slices_of_a_resampled_scan_are_not_named_even_where_they_are_known(tmp_path, source):
    grid = Grid.isotropic((6, 7, 8), 1.5, (3.0, -2.0, 100.0))
    write_segmentation(tmp_path / "a.dcm", {"patch": random_mask(grid)}, replace(source, resampled=True))
    data = (tmp_path / "a.dcm").read_bytes()
    assert not any(ref.sop_instance_uid.encode() in data for ref in source.slices)


def test_frames_have_the_scans_rows_and_columns_where_the_volume_has_them_the_other_way_round(tmp_path):
    grid = base_grid()
    series = ct_series(grid)
    turned = grid.permute((1, 0, 2))
    mask = random_mask(turned)
    write_segmentation(tmp_path / "a.dcm", {"patch": mask}, source_of(series))
    found = pydicom.dcmread(tmp_path / "a.dcm")
    assert (found.Rows, found.Columns) == (series[0].Rows, series[0].Columns)
    np.testing.assert_array_equal(on_grid(points_of(tmp_path / "a.dcm")["patch"], turned), mask.mask)


def test_segments_say_in_codes_what_they_are(tmp_path, source):
    grid = base_grid()
    names = ("completed", "patch", "implant-1", "implant-2")
    write_segmentation(tmp_path / "a.dcm", {name: random_mask(grid) for name in names}, source)
    found = pydicom.dcmread(tmp_path / "a.dcm")
    assert [one.SegmentLabel for one in found.SegmentSequence] == list(names)
    types = [one.SegmentedPropertyTypeCodeSequence[0] for one in found.SegmentSequence]
    assert [(one.CodeValue, one.CodingSchemeDesignator) for one in types] == [
        ("89546000", "SCT"),
        ("272673000", "SCT"),
        ("40388003", "SCT"),
        ("40388003", "SCT"),
    ]
    assert (found.Modality, found.SegmentationType, found.BitsAllocated) == ("SEG", "BINARY", 1)


def test_an_empty_mask_is_a_segment_without_frames(tmp_path, source):
    grid = base_grid()
    empty = Volume(np.zeros(grid.shape, bool), grid)
    write_segmentation(tmp_path / "a.dcm", {"completed": random_mask(grid), "patch": empty}, source)
    found = points_of(tmp_path / "a.dcm")
    assert len(found["patch"]) == 0
    assert len(found["completed"]) == random_mask(grid).mask.sum()
    assert complaints(tmp_path / "a.dcm") == ""


def test_two_empty_masks_are_written_and_read_as_empty(tmp_path, source):
    grid = base_grid()
    empty = Volume(np.zeros(grid.shape, bool), grid)
    write_segmentation(tmp_path / "a.dcm", {"completed": empty, "patch": empty}, source)
    assert {name: len(points) for name, points in points_of(tmp_path / "a.dcm").items()} == {"completed": 0, "patch": 0}


def test_it_belongs_to_the_patient_and_the_study_and_is_new(tmp_path, source):
    write_segmentation(tmp_path / "a.dcm", {"patch": random_mask(base_grid())}, source)
    write_segmentation(tmp_path / "b.dcm", {"patch": random_mask(base_grid())}, source)
    one, two = (pydicom.dcmread(tmp_path / name) for name in ("a.dcm", "b.dcm"))
    assert str(one.PatientName) == SECRETS["PatientName"]
    assert one.PatientID == SECRETS["PatientID"]
    assert one.StudyInstanceUID == two.StudyInstanceUID == source.study_uid
    assert one.FrameOfReferenceUID == source.frame_uid
    assert len({one.SeriesInstanceUID, two.SeriesInstanceUID, source.series_uid}) == 3
    assert one.SOPInstanceUID != two.SOPInstanceUID
    assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
    assert one.Manufacturer == "calvaria"


def test_of_a_deidentified_source_nothing_of_the_patient_is_in_the_file(tmp_path, source):
    write_segmentation(tmp_path / "a.dcm", {"patch": random_mask(base_grid())}, deidentified(source))
    data = (tmp_path / "a.dcm").read_bytes()
    own = [source.study_uid, source.series_uid, source.frame_uid, *(ref.sop_instance_uid for ref in source.slices)]
    for secret in (*SECRETS.values(), "20200102", *own):
        assert secret.encode() not in data
    assert pydicom.dcmread(tmp_path / "a.dcm").PatientIdentityRemoved == "YES"
    assert complaints(tmp_path / "a.dcm") == ""


@pytest.mark.parametrize("grid", [base_grid(), tilted_grid()], ids=["plain", "tilted"])
def test_dciodvfy_finds_no_error(tmp_path, grid):
    masks = {name: random_mask(grid, seed) for seed, name in enumerate(("completed", "patch", "implant"))}
    write_segmentation(tmp_path / "a.dcm", masks, source_of(ct_series(grid)))
    assert complaints(tmp_path / "a.dcm") == ""


def raw_header(source: DicomSource, **odd: object) -> Dataset:
    """The header with values that are not as they should be, not looked at yet, as a file leaves them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in odd.items():
            setattr(source.header, keyword, value)
        file = BytesIO()
        source.header.save_as(file, implicit_vr=False, little_endian=True)
    return pydicom.dcmread(file, force=True)


def test_odd_values_of_the_patient_are_written_and_said_nowhere(tmp_path, source, caplog):
    source = replace(source, study_uid="no.uid.01")
    odd = {"PatientName": "Dora = at = all = four", "PatientSex": "unknown to anyone", "PatientBirthDate": "in 1949"}
    source = replace(source, header=raw_header(source, **odd))
    caplog.clear()
    write_segmentation(tmp_path / "a.dcm", {"patch": random_mask(base_grid())}, source)
    assert not caplog.records
    data = (tmp_path / "a.dcm").read_bytes()
    for value in odd.values():
        assert value.encode() in data
    assert logging.getLogger("pydicom").level == logging.WARNING


def test_a_header_that_cannot_be_written_is_refused_without_its_value(tmp_path, source):
    source.header["PatientSize"] = pydicom.DataElement("PatientSize", "DS", "1.7")
    source.header["PatientSize"].VR = "OB"
    with pytest.raises(InputError, match=r"a value in the header of the scan cannot be written as DICOM") as caught:
        write_segmentation(tmp_path / "a.dcm", {"patch": random_mask(base_grid())}, source)
    assert "1.7" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_masks_that_do_not_lie_on_the_scan_are_refused(tmp_path, source):
    grid = Grid((9, 7, 6), base_grid().affine)
    with pytest.raises(GeometryError, match=r"a\.dcm: the masks have 6 slices, the scan 5; give masks on the scan's"):
        write_segmentation(tmp_path / "a.dcm", {"patch": random_mask(grid)}, source)


def test_masks_on_different_grids_are_refused(tmp_path, source):
    masks = {"patch": random_mask(base_grid()), "completed": random_mask(base_grid().flip((0,)))}
    with pytest.raises(GeometryError, match=r"a\.dcm: the masks of a segmentation must lie on one grid; their corners"):
        write_segmentation(tmp_path / "a.dcm", masks, source)


def test_slices_that_are_no_rectangles_are_refused(tmp_path, source):
    grid = tilted_grid().permute((2, 1, 0))
    with pytest.raises(
        GeometryError, match=r"a\.dcm: rows and columns of a DICOM slice are at right angles; .* -0\.31"
    ):
        write_segmentation(tmp_path / "a.dcm", {"patch": random_mask(grid)}, resampled(source))


@pytest.mark.parametrize(
    ("names", "said"),
    [((), "a segmentation has at least one mask; got none"), (("hat",), r"completed, patch, implant .* got 'hat'")],
)
def test_masks_without_a_known_name_are_refused(tmp_path, source, names, said):
    with pytest.raises(InputError, match=said):
        write_segmentation(tmp_path / "a.dcm", {name: random_mask(base_grid()) for name in names}, source)
