"""NIfTI headers that cannot be used."""

import gzip
import struct

import numpy as np
import pytest

from calvaria.errors import FormatError, GeometryError
from calvaria.io import read_volume, write_volume
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

DIM, DATATYPE, PIXDIM, VOX_OFFSET, SLOPE, FORMS, QUATERN, SROW, MAGIC = 40, 70, 76, 108, 112, 252, 256, 280, 344


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


NO_FORMS = (FORMS, "hh", 0, 0)


def test_without_sform_and_qform_the_orientation_must_be_stated(nifti):
    path = nifti(NO_FORMS)
    with pytest.raises(GeometryError, match=r"^a\.nii: the NIfTI header has neither sform nor qform.*orientation="):
        read_volume(path)
    volume = read_volume(path, orientation="RAS")
    np.testing.assert_array_equal(volume.affine, np.diag([-1.5, -1.5, 1.5, 1.0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([(SROW, "4f", 0, 0, 0, 0)], "the directions are singular|voxel spacing must be positive"),
        ([(SROW, "8f", 1, 1, 0, 0, 1, 1, 0, 0)], "the directions are singular"),
        ([(SROW, "f", np.nan)], "NaN or infinite"),
        ([(SROW, "f", np.inf)], "NaN or infinite"),
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
