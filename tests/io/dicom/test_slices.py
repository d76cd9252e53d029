"""Slices that are written: they come back as they were, on tilted and oblique grids too, from among other series."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from calvaria.errors import GeometryError, InputError
from calvaria.io.dicom import read_dicom
from calvaria.io.dicom.slices import SeriesHeader, new_study, write_slices
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

pydicom = pytest.importorskip("pydicom")

HEADER = SeriesHeader(2, 2.5, "H30s")


def ct(grid: Grid) -> Volume:
    values = np.random.default_rng(0).integers(-1024, 3000, grid.shape)
    return Volume(values.astype(np.int16), grid)


def tilted(degrees: float, shape: tuple[int, int, int] = (24, 20, 30)) -> Grid:
    angle = np.deg2rad(degrees)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0.7, 0, 0], [0, 0.6 * np.cos(angle), 0], [0, 0.6 * np.sin(angle), 5.0]])
    affine[:3, 3] = (-81.23, -102.5, 33.3)
    return Grid(shape, affine)


@settings(max_examples=12)
@given(st.floats(-30, 30), st.tuples(*[st.floats(-3, 3)] * 3))
def test_a_series_comes_back_as_it_was(tmp_path_factory, degrees, turn):
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    volume = ct(tilted(degrees).moved(turned))
    folder = tmp_path_factory.mktemp("series")
    written = write_slices(folder, volume, HEADER, new_study())
    found = read_dicom(folder)
    assert found.volume.grid.same_as(volume.grid)
    assert np.array_equal(found.volume.data, volume.data)
    assert (found.source.series_uid, found.source.study_uid) == (written.series_uid, written.study_uid)
    assert found.source.slices == written.slices
    assert found.geometry["tilt_degrees"] == pytest.approx(degrees, abs=0.01)


def test_a_left_handed_grid_comes_back_in_its_place(tmp_path):
    volume = ct(tilted(0.0)).flip((1,))
    write_slices(tmp_path, volume, HEADER, new_study())
    found = read_dicom(tmp_path).volume
    assert found.flip((2,)).grid.same_as(volume.grid)
    assert np.array_equal(found.flip((2,)).data, volume.data)


def test_the_headers_say_what_was_asked_for(tmp_path):
    header = SeriesHeader(7, 4.5, "H60s", -18.0, description="Head")
    write_slices(tmp_path, ct(tilted(-18.0)), header, new_study())
    geometry = read_dicom(tmp_path).geometry
    assert (geometry["series"], geometry["thickness_mm"], geometry["kernel"]) == ("7", 4.5, "H60s")
    assert geometry["sharpness"] == "sharp"
    assert geometry["original"]
    one = pydicom.dcmread(next(tmp_path.iterdir()), stop_before_pixels=True)
    assert one.GantryDetectorTilt == -18.0
    assert (one.SeriesDescription, one.PatientName, one.PatientID) == ("Head", "", "")


def test_another_series_of_the_study_lies_beside_it(tmp_path):
    study = new_study()
    scout = SeriesHeader(1, 1.0, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    write_slices(tmp_path, ct(Grid.isotropic((30, 40, 1), 1.0)), scout, study)
    volume = ct(tilted(0.0))
    write_slices(tmp_path, volume, HEADER, study)
    assert len(list(tmp_path.iterdir())) == 31
    assert len({pydicom.dcmread(path).StudyInstanceUID for path in tmp_path.iterdir()}) == 1
    assert np.array_equal(read_dicom(tmp_path).volume.data, volume.data)


def test_the_names_do_not_say_where_slices_lie(tmp_path):
    write_slices(tmp_path, ct(tilted(0.0)), HEADER, new_study())
    names = sorted(path.name for path in tmp_path.iterdir())
    assert not any("." in name for name in names)
    heights = [pydicom.dcmread(tmp_path / name).ImagePositionPatient[2] for name in names]
    assert heights != sorted(heights)


def test_another_library_sees_the_same(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    volume = ct(tilted(0.0))
    write_slices(tmp_path, volume, HEADER, new_study())
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(image).T, volume.data)
    assert image.GetOrigin() == pytest.approx(volume.grid.to_world((0, 0, 0)))
    assert image.GetSpacing() == pytest.approx(volume.grid.spacing_mm)


def test_what_is_no_ct_is_refused(tmp_path):
    volume = ct(tilted(0.0))
    with pytest.raises(InputError, match=r"whole HU from -1024 to 31743; the volume holds float32 from .*: round and"):
        write_slices(tmp_path, volume.with_data(volume.data.astype(np.float32)), HEADER, new_study())
    low = volume.with_data(np.where(volume.data == volume.data.min(), -2000, volume.data))
    with pytest.raises(InputError, match="holds int16 from -2000 to"):
        write_slices(tmp_path, low.with_data(low.data.astype(np.int16)), HEADER, new_study())
    sheared = volume.affine.copy()
    sheared[:3, 1] += 0.1 * sheared[:3, 0]
    with pytest.raises(GeometryError, match="rows and columns of CT slices are at a right angle; those of the volume"):
        write_slices(tmp_path, Volume(volume.data, Grid(volume.shape, sheared)), HEADER, new_study())
    assert not list(tmp_path.iterdir())
