"""SimpleITK, nibabel and pynrrd read what we write, and we read what they write: same voxels, same places."""

import numpy as np
import pytest

from calvaria.io import read_volume, write_volume
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

sitk = pytest.importorskip("SimpleITK")

FORMATS = (".nrrd", ".mha", ".nii.gz", ".nii")
TYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
PLACE_ATOL_MM = {".nrrd": 1e-9, ".mha": 1e-9, ".nii.gz": 2e-4, ".nii": 2e-4}
"""NIfTI keeps float32 (ITK prefers its quaternion); the text formats keep every digit."""


def rotation(seed):
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.diag(r))


def affine_of(kind):
    turns = {
        "plain": np.eye(3),
        "flipped": np.diag([-1.0, 1.0, -1.0]),
        "left-handed": np.diag([1.0, 1.0, -1.0]),
        "permuted": np.eye(3)[:, [2, 0, 1]],
        "oblique": rotation(3),
        "oblique, left-handed": rotation(4) @ np.diag([1.0, -1.0, 1.0]) * np.sign(np.linalg.det(rotation(4))),
    }
    affine = np.eye(4)
    affine[:3, :3] = turns[kind] * [0.451172, 0.7, 2.5]
    affine[:3, 3] = [-120.2, 63.7, 11.1]
    return affine


KINDS = ("plain", "flipped", "left-handed", "permuted", "oblique", "oblique, left-handed")


def some(kind="oblique", dtype="i2"):
    shape = (4, 5, 6)
    data = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    return Volume(data, Grid(shape, affine_of(kind)))


def indices(shape):
    return [(0, 0, 0), (shape[0] - 1, 0, 0), (0, shape[1] - 1, 0), (1, 2, shape[2] - 1)]


def itk_image(volume):
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.data.T))
    image.SetSpacing(volume.grid.spacing_mm)
    image.SetOrigin(volume.affine[:3, 3].tolist())
    image.SetDirection((volume.affine[:3, :3] / volume.grid.spacing_mm).ravel().tolist())
    return image


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("extension", FORMATS)
def test_simpleitk_sees_our_voxels_in_their_places(extension, kind, tmp_path):
    volume, path = some(kind), tmp_path / f"a{extension}"
    write_volume(path, volume)
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, volume.data)
    for index in indices(volume.shape):
        there = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(there, volume.grid.to_world(index), rtol=0, atol=PLACE_ATOL_MM[extension])


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("extension", [*FORMATS, ".nhdr", ".mhd"])
def test_we_see_simpleitks_voxels_in_their_places(extension, kind, compressed, tmp_path):
    image, path = itk_image(some(kind)), tmp_path / f"a{extension}"
    sitk.WriteImage(image, str(path), useCompression=compressed)
    volume = read_volume(path)
    assert volume.data.dtype == np.int16
    np.testing.assert_array_equal(volume.data, sitk.GetArrayFromImage(image).T)
    for index in indices(volume.shape):
        there = image.TransformIndexToPhysicalPoint(index)
        atol = PLACE_ATOL_MM.get(extension, 1e-9)
        np.testing.assert_allclose(volume.grid.to_world(index), there, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("extension", FORMATS)
def test_every_numeric_type_goes_to_simpleitk_and_back(extension, dtype, tmp_path):
    volume = some("plain", dtype)
    write_volume(tmp_path / f"a{extension}", volume)
    image = sitk.ReadImage(str(tmp_path / f"a{extension}"))
    assert sitk.GetArrayViewFromImage(image).dtype == np.dtype(dtype)
    sitk.WriteImage(image, str(tmp_path / f"b{extension}"))
    back = read_volume(tmp_path / f"b{extension}")
    assert back.data.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(back.data, volume.data)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", "<u4", "<i8", "<f4", ">f8"])
def test_we_read_every_encoding_of_pynrrd(encoding, dtype, tmp_path):
    nrrd = pytest.importorskip("nrrd")
    data = np.random.default_rng(0).integers(0, 100, (3, 4, 5)).astype(dtype)
    header = {
        "space": "right-anterior-superior",
        "space directions": affine_of("oblique")[:3, :3].T,
        "space origin": [1.0, 2.0, 3.0],
        "encoding": encoding,
    }
    for name, detached in (("a.nrrd", False), ("a.nhdr", True)):
        nrrd.write(str(tmp_path / name), data, header, detached_header=detached)
        volume = read_volume(tmp_path / name)
        assert volume.data.dtype == data.dtype.newbyteorder("=")
        np.testing.assert_array_equal(volume.data, data)
        np.testing.assert_allclose(volume.affine[:3, :3], np.diag([-1, -1, 1]) @ affine_of("oblique")[:3, :3])
        np.testing.assert_array_equal(volume.affine[:3, 3], [-1, -2, 3])


@pytest.mark.parametrize("dtype", ["?", *TYPES])
def test_pynrrd_reads_what_we_write(dtype, tmp_path):
    nrrd = pytest.importorskip("nrrd")
    volume = some("oblique", dtype)
    write_volume(tmp_path / "a.nrrd", volume)
    data, header = nrrd.read(str(tmp_path / "a.nrrd"))
    np.testing.assert_array_equal(data, volume.data)
    assert header["space"] == "left-posterior-superior"
    np.testing.assert_array_equal(header["space directions"].T, volume.affine[:3, :3])
    np.testing.assert_array_equal(header["space origin"], volume.affine[:3, 3])


def to_ras(affine):
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


@pytest.mark.parametrize("sheared", [False, True])
def test_nibabel_sees_our_voxels_in_their_places(sheared, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    volume = some()
    if sheared:
        shear = np.eye(4)
        shear[0, 1] = 0.3
        volume = Volume(volume.data, Grid(volume.shape, shear @ volume.affine))
    write_volume(tmp_path / "a.nii.gz", volume)
    image = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), volume.data)
    np.testing.assert_allclose(image.affine, to_ras(volume.affine), atol=2e-5)
    assert image.header["sform_code"] == 1
    assert image.header["qform_code"] == (0 if sheared else 1)
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(image.header.get_zooms(), volume.grid.spacing_mm, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("only", ["sform", "qform"])
@pytest.mark.parametrize("image_type", ["Nifti1Image", "Nifti2Image"])
def test_we_see_nibabels_voxels_by_either_form(image_type, only, kind, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    volume = some(kind)
    image = getattr(nibabel, image_type)(volume.data, np.eye(4))
    image.set_sform(to_ras(volume.affine), code=2 if only == "sform" else 0)
    image.set_qform(to_ras(volume.affine), code=2 if only == "qform" else 0)
    for name in ("a.nii", "a.nii.gz"):
        nibabel.save(image, tmp_path / name)
        back = read_volume(tmp_path / name)
        np.testing.assert_array_equal(back.data, volume.data)
        np.testing.assert_allclose(back.affine, volume.affine, atol=1e-4)


def test_the_sform_is_preferred_to_the_qform(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.eye(4))
    image.set_sform(np.diag([-2.0, -2.0, 2.0, 1.0]), code=1)
    image.set_qform(np.diag([3.0, 3.0, 3.0, 1.0]), code=1)
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").affine, np.diag([2.0, 2.0, 2.0, 1.0]))


@pytest.mark.parametrize(("dtype", "wanted"), [("i2", "f4"), ("u1", "f4"), ("i4", "f8"), ("f4", "f4")])
def test_a_scale_is_applied_as_nibabel_does(dtype, wanted, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    stored = np.random.default_rng(0).integers(0, 100, (3, 4, 5)).astype(dtype)
    image = nibabel.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(1.0, 0.0)
    nibabel.save(image, tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[112:120] = np.array([0.5, -1024.0], "<f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "a.nii").write_bytes(raw)
    back = read_volume(tmp_path / "a.nii")
    assert back.data.dtype == np.dtype(wanted)
    np.testing.assert_array_equal(back.data, nibabel.load(tmp_path / "a.nii").get_fdata())
    np.testing.assert_array_equal(back.data, stored * 0.5 - 1024)


def test_a_big_endian_nifti_is_read(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    data = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4), header), tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[:4] == b"\0\0\x01\x5c"
    back = read_volume(tmp_path / "a.nii")
    assert back.data.dtype == np.int16
    np.testing.assert_array_equal(back.data, data)


def test_a_nifti_in_metres_becomes_mm(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.diag([-0.001, -0.002, 0.003, 1.0]))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii").grid.spacing_mm, (1.0, 2.0, 3.0), rtol=1e-6)


def test_axes_of_one_sample_are_left_out(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    data = np.arange(24, dtype=np.int16).reshape(2, 3, 4, 1)
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").data, data[..., 0])
