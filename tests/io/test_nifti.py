"""NIfTI headers that cannot be used."""

import gzip
import re
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.strategies import grids

from calvaria.errors import FormatError, GeometryError
from calvaria.io import read_volume, write_volume
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

DIM, DATATYPE, PIXDIM, VOX_OFFSET, SLOPE, FORMS, QUATERN, SROW, MAGIC = 40, 70, 76, 108, 112, 252, 256, 280, 344
XYZT_UNITS = 123


@pytest.fixture
def nifti(tmp_path):
    """A plain file, and a way to write numbers into its header."""
    data = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    write_volume(tmp_path / "a.nii", Volume(data, Grid.isotropic((2, 3, 4), 1.5, (1, 2, 3))))
    content = bytearray((tmp_path / "a.nii").read_bytes())

    def changed(*changes, name="a.nii"):
        for offset, form, *values in changes:
            struct.pack_into("<" + form, content, offset, *values)
        raw = bytes(content)
        (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return tmp_path / name

    return changed


NO_FORMS, QFORM_ONLY, SFORM_ONLY = (FORMS, "hh", 0, 0), (FORMS, "hh", 1, 0), (FORMS, "hh", 0, 1)


def test_without_sform_and_qform_the_orientation_must_be_stated(nifti):
    path = nifti(NO_FORMS)
    with pytest.raises(GeometryError, match=r"\(one is stored, but sform_code 0 says that it does not count\)"):
        read_volume(path)
    path = nifti((SROW, "12f", *[0] * 12))
    with pytest.raises(GeometryError, match=r"^a\.nii: the NIfTI header has neither sform nor qform.*orientation="):
        read_volume(path)
    volume = read_volume(path, orientation="RAS")
    np.testing.assert_array_equal(volume.affine, np.diag([-1.5, -1.5, 1.5, 1.0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([SFORM_ONLY, (SROW, "4f", 0, 0, 0, 0)], "the directions are singular|voxel spacing must be positive"),
        ([SFORM_ONLY, (SROW, "8f", 1, 1, 0, 0, 1, 1, 0, 0)], "the directions are singular"),
        ([SFORM_ONLY, (SROW, "f", np.nan)], "NaN or infinite"),
        ([SFORM_ONLY, (SROW, "f", np.inf)], "NaN or infinite"),
        ([(SROW, "12f", *[0] * 12), (QUATERN, "3f", 1, 1, 1)], "voxel spacing must be positive"),
        ([(FORMS, "hh", 1, 0), (QUATERN, "3f", 0.6, 0.8002, 0)], "squared length 1.00032, at most 1 is possible"),
        ([(FORMS, "hh", 1, 0), (PIXDIM + 4, "f", 0.0)], "voxel spacing must be three positive numbers"),
        ([(FORMS, "hh", 1, 0), (PIXDIM + 4, "f", -1.0)], "voxel spacing must be three positive numbers"),
        ([(FORMS, "hh", 1, 0), (PIXDIM + 4, "f", np.nan)], "voxel spacing must be three positive numbers"),
        ([(FORMS, "hh", 1, 0), (QUATERN, "3f", 1, 1, 1)], r"the directions \(qform\) are not a rotation"),
        ([(FORMS, "hh", 1, 0), (QUATERN, "3f", np.nan, 1, 1)], r"NaN|the directions"),
    ],
)
def test_a_grid_that_cannot_be_used_is_refused(nifti, changes, message):
    with pytest.raises(GeometryError, match=r"^a\.nii: .*(" + message + ")"):
        read_volume(nifti(*changes))


@pytest.mark.parametrize("spacing", [0.0, -1.0, np.nan])
def test_a_stated_orientation_still_needs_a_spacing(nifti, spacing):
    with pytest.raises(GeometryError, match="voxel spacing must be three positive numbers"):
        read_volume(nifti(NO_FORMS, (PIXDIM + 4, "f", spacing)), orientation="LPS")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([(DIM, "3h", 2, 6, 4)], r"one 3-D volume is wanted; found 2 axes of \[6, 4\] samples"),
        ([(DIM, "5h", 4, 2, 3, 2, 2)], r"one 3-D volume is wanted; found 4 axes of \[2, 3, 2, 2\] samples"),
        ([(DIM, "6h", 5, 2, 3, 4, 1, 3)], r"several channels"),
        ([(DIM, "2h", 3, 0)], "the NIfTI sizes must be positive"),
        ([(DIM, "2h", 3, -2)], "the NIfTI sizes must be positive"),
        ([(DIM, "h", 0)], "the NIfTI sizes must be positive"),
        ([(DIM, "h", 9)], "the NIfTI sizes must be positive"),
        ([(DIM, "4h", 3, 32767, 32767, 32767)], "more than the 1073741824 that are read"),
        ([(DIM, "4h", 3, 1000, 1000, 1000)], "truncated, or its header is wrong"),
        ([(DIM, "4h", 3, 2, 3, 5)], "truncated"),
        ([(DIM, "4h", 3, 2, 3, 3)], "longer than the header says"),
        ([(DATATYPE, "h", 32)], "voxels of NIfTI type complex64 are not read"),
        ([(DATATYPE, "h", 128)], "voxels of NIfTI type .* are not read"),
        ([(DATATYPE, "h", 1536)], "voxels of NIfTI type .* are not read"),
        ([(DATATYPE, "h", 77)], "voxels of NIfTI type code 77 are not read"),
        ([(VOX_OFFSET, "f", 0)], "puts the voxels at byte 0, which cannot be"),
        ([(VOX_OFFSET, "f", np.nan)], "puts the voxels at byte nan, which cannot be"),
        ([(VOX_OFFSET, "f", 1e30)], r"puts the voxels at byte 1e\+30, which cannot be"),
        ([(VOX_OFFSET, "f", 400)], "truncated"),
        ([(SLOPE, "2f", 1, np.nan)], "the NIfTI scale .* is not finite"),
        ([(SLOPE, "2f", np.inf, 0)], "the NIfTI scale .* is not finite"),
        ([(MAGIC, "4s", b"ni1")], r"a single-file NIfTI is wanted .* \(\.hdr and \.img\) again as \.nii\.gz"),
        ([(MAGIC, "4s", b"")], "a single-file NIfTI is wanted"),
    ],
)
def test_a_header_that_cannot_be_used_is_refused(nifti, changes, message, name):
    with pytest.raises(FormatError, match=rf"^{name}: .*" + message):
        read_volume(nifti(*changes, name=name))


@pytest.mark.parametrize("slope", [(0.0, 5.0), (np.nan, np.nan), (1.0, 0.0)])
def test_a_scale_that_says_nothing_leaves_the_stored_type(nifti, slope):
    assert read_volume(nifti((SLOPE, "2f", *slope))).data.dtype == np.int16


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kept", [3, 50, 100, 360, -1])
def test_a_truncated_file_is_refused(nifti, tmp_path, name, kept):
    content = nifti(name=name).read_bytes()
    (tmp_path / name).write_bytes(content[: min(kept, len(content) - 1)])
    with pytest.raises(FormatError, match=rf"^{name}: .*truncated"):
        read_volume(tmp_path / name)


def test_a_gzip_bomb_is_stopped(nifti, tmp_path, peak_memory):
    raw = nifti().read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(raw + bytes(100_000_000), 9))
    with peak_memory() as peak, pytest.raises(FormatError, match="longer than the header says"):
        read_volume(tmp_path / "a.nii.gz")
    assert peak.mb < 20  # nibabel, where this test is the first to load it


def test_a_file_cut_within_its_extensions_says_truncated(nifti):
    with pytest.raises(FormatError, match=r"^a\.nii\.gz: truncated"):
        read_volume(nifti((VOX_OFFSET, "f", 4096), name="a.nii.gz"))


def notes_on(path):
    notes = []
    read_volume(path, notes=notes)
    return [note for note in notes if "spans" not in note]


def test_a_sound_header_has_no_notes(nifti):
    for changes in ([], [QFORM_ONLY], [SFORM_ONLY], [(PIXDIM, "f", 0.0)]):
        assert notes_on(nifti(*changes)) == []


@pytest.mark.parametrize("row", [[0] * 12, [np.nan] * 12, [1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0]])
def test_an_sform_that_is_no_grid_leaves_the_place_to_the_qform(nifti, row):
    wanted = read_volume(nifti(SFORM_ONLY)).affine
    path = nifti((FORMS, "hh", 1, 1), (SROW, "12f", *row))
    np.testing.assert_allclose(read_volume(path).affine, wanted, atol=1e-6)
    assert notes_on(path) == ["the sform of the NIfTI header is no grid (zeros or NaN); the qform was used"]


@pytest.mark.parametrize("change", [(QUATERN, "3f", 1, 1, 1), (QUATERN, "f", np.nan)])
def test_a_qform_that_is_no_grid_leaves_the_place_to_the_sform(nifti, change):
    path = nifti(change)
    np.testing.assert_array_equal(read_volume(path).affine, read_volume(nifti(SFORM_ONLY)).affine)
    assert notes_on(path) == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([-1.5, 0, 0, 9, 0, -1.5, 0, -2, 0, 0, 1.5, 3], r"disagree by up to 10\.0 mm; the sform was used"),
        ([-1.5, 0, 0, -1, 0, 1.5, 0, -2, 0, 0, 1.5, 3], "disagree even on which side is left; the sform was used"),
    ],
)
def test_of_two_forms_that_disagree_the_sform_is_used_and_that_is_said(nifti, row, message):
    path = nifti((SROW, "12f", *row))
    np.testing.assert_allclose(read_volume(path).affine[:3], np.diag([-1, -1, 1]) @ np.reshape(row, (3, 4)))
    (note,) = notes_on(path)
    assert re.search(message, note)


def test_a_pixdim_that_is_not_the_sform_s_is_told(nifti):
    (note,) = notes_on(nifti(SFORM_ONLY, (PIXDIM + 12, "f", 1.0)))
    assert note.startswith("the NIfTI header's pixdim says voxels of 1.5 x 1.5 x 1 mm, its sform 1.5 x 1.5 x 1.5 mm;")


@pytest.mark.parametrize("code", [4, 5, 6, 7, 0])
def test_a_unit_that_says_nothing_is_taken_for_mm(nifti, code):
    assert read_volume(nifti((XYZT_UNITS, "B", code))).grid.spacing_mm == (1.5, 1.5, 1.5)


@pytest.mark.parametrize(("code", "mm"), [(1, 1000.0), (2, 1.0), (3, 0.001)])
@pytest.mark.parametrize("forms", [QFORM_ONLY, SFORM_ONLY])
def test_the_unit_counts_for_spacing_and_place(nifti, code, mm, forms):
    wanted = read_volume(nifti(forms)).affine
    affine = read_volume(nifti((XYZT_UNITS, "B", code))).affine
    np.testing.assert_allclose(affine[:3], wanted[:3] * mm, rtol=1e-6, atol=1e-9 * mm)
    zooms = read_volume(nifti(NO_FORMS), orientation="LPS").affine
    np.testing.assert_allclose(zooms.diagonal()[:3], [1.5 * mm] * 3, rtol=1e-6)


turns = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q[1:]) > 0.1)


@given(turn=turns, length=st.floats(1 - 1e-7, 1 + 5e-5), half=st.booleans(), left=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_itk_and_nibabel_read_the_same_quaternion(nifti, turn, length, half, left):
    """Half turns, whose vector is as long as it may be, and a little longer after rounding; and any other turn."""
    sitk, nibabel = pytest.importorskip("SimpleITK"), pytest.importorskip("nibabel")
    whole = np.array([0.0 if half else abs(turn[0]), *turn[1:]])
    vector = np.float32(whole[1:] / np.linalg.norm(whole) * (length if half else 1.0))
    path = nifti(QFORM_ONLY, (PIXDIM, "f", -1.0 if left else 1.0), (QUATERN, "3f", *vector))
    found = read_volume(path).grid
    image = sitk.ReadImage(str(path))
    for index in ((0, 0, 0), (1, 0, 0), (0, 2, 0), (1, 2, 3)):
        there = image.TransformIndexToPhysicalPoint(index)
        # Near half a turn ITK drops a real part under 3e-4, which moves the farthest voxel by 6e-4 of 6 mm.
        np.testing.assert_allclose(found.to_world(index), there, atol=5e-3)
    if np.sum(np.float64(vector) ** 2) < 1 + 3e-7:
        ours = np.diag([-1, -1, 1, 1]) @ found.affine
        np.testing.assert_allclose(nibabel.load(path).affine, ours, atol=5e-3)


@given(sform=grids(), qform=grids(), codes=st.sampled_from([(0, 1), (1, 0), (1, 1), (2, 4)]))
def test_nibabel_chooses_the_same_form(tmp_path_factory, sform, qform, codes):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(np.zeros(sform.shape, np.uint8), np.eye(4))
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    image.set_qform(to_ras @ qform.affine, code=codes[0], strip_shears=True)
    image.set_sform(to_ras @ sform.affine, code=codes[1], update_affine=False)
    path = tmp_path_factory.mktemp("forms") / "a.nii"
    nibabel.save(image, path)
    np.testing.assert_allclose(to_ras @ read_volume(path).affine, nibabel.load(path).affine, atol=2e-3)
