"""What is written comes back: every format, every numeric type, any grid, any memory order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import grids

from calvaria.errors import InputError
from calvaria.io import read_mask, read_volume, write_volume
from calvaria.io.metaimage import factor
from calvaria.io.stream import SLAB, stored_type
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

EXACT = (".nrrd", ".mha")
NIFTI = (".nii", ".nii.gz")
TYPES = ("?", "i1", "u1", "<i2", ">i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", ">f8")


@st.composite
def volumes(draw):
    grid = draw(grids())
    shape = grid.shape
    kind = np.dtype(draw(st.sampled_from(TYPES)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if kind.kind in "iu":
        info = np.iinfo(kind)
        data = rng.integers(info.min, info.max, shape, kind.newbyteorder("="), endpoint=True).astype(kind)
    else:
        data = rng.normal(size=shape).astype(kind) if kind.kind == "f" else rng.random(shape) > 0.5
    if draw(st.booleans()):
        data = np.asfortranarray(data)
    return Volume(data, grid)


def stored(data):
    return data.astype(stored_type(data).newbyteorder("="))


@pytest.mark.parametrize("extension", EXACT)
def test_nrrd_and_metaimage_give_back_the_very_same_voxels_type_and_grid(extension, tmp_path_factory):
    path = tmp_path_factory.mktemp("io") / f"a{extension}"

    @given(volumes())
    def check(volume):
        write_volume(path, volume)
        back = read_volume(path)
        assert back.data.dtype == stored(volume.data).dtype
        assert back.data.flags.f_contiguous
        assert back.data.flags.writeable
        np.testing.assert_array_equal(back.data, volume.data)
        np.testing.assert_array_equal(back.affine, volume.affine)

    check()


@pytest.mark.parametrize("extension", NIFTI)
def test_nifti_gives_back_the_same_voxels_and_the_grid_to_float32(extension, tmp_path_factory):
    path = tmp_path_factory.mktemp("io") / f"a{extension}"

    @given(volumes())
    def check(volume):
        write_volume(path, volume)
        back = read_volume(path)
        assert back.data.dtype == stored(volume.data).dtype
        np.testing.assert_array_equal(back.data, volume.data)
        np.testing.assert_array_equal(back.affine, volume.affine.astype(np.float32))

    check()


@given(grids())
def test_spacing_and_directions_multiply_back_to_the_same_bits(grid):
    spacing, directions = factor(grid.affine[:3, :3])
    np.testing.assert_array_equal(directions * spacing, grid.affine[:3, :3])
    np.testing.assert_allclose(np.linalg.norm(directions, axis=0), 1.0, rtol=1e-11)


@pytest.mark.parametrize("extension", [*EXACT, *NIFTI])
def test_a_mask_comes_back_as_a_mask_and_twice_the_same_bytes(extension, tmp_path):
    mask = np.random.default_rng(1).random((5, 6, 7)) > 0.5
    volume = Volume(mask, Grid.isotropic((5, 6, 7), 0.5))
    for name in ("a", "b"):
        write_volume(tmp_path / (name + extension), volume)
    back = read_mask(tmp_path / f"a{extension}")
    assert back.is_mask
    np.testing.assert_array_equal(back.data, mask)
    assert (tmp_path / f"a{extension}").read_bytes() == (tmp_path / f"b{extension}").read_bytes()


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_larger_than_one_piece_are_written_whole(order, tmp_path):
    shape = (1024, 500, 35)
    data = np.zeros(shape, np.uint8, order=order)
    data[:, ::7, ::3] = np.arange(12, dtype=np.uint8)
    assert data.nbytes > SLAB
    write_volume(tmp_path / "a.nrrd", Volume(data, Grid.isotropic(shape, 1.0)))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nrrd").data, data)


def test_a_view_with_negative_strides_is_written_as_it_looks(tmp_path):
    volume = Volume(np.arange(24, dtype=np.int16).reshape(2, 3, 4), Grid.isotropic((2, 3, 4), 1.0)).flip((0, 2))
    write_volume(tmp_path / "a.mha", volume)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.mha").data, volume.data)


@pytest.mark.parametrize("name", ["a.nhdr", "a.mhd", "a.png", "a", "a.gz", "a.img"])
def test_other_extensions_are_refused_and_nothing_is_written(name, tmp_path):
    volume = Volume(np.zeros((2, 2, 2)), Grid.isotropic((2, 2, 2), 1.0))
    with pytest.raises(InputError, match=rf"^{name}: an image is written as \.nrrd, \.nii\.gz, \.nii, \.mha"):
        write_volume(tmp_path / name, volume)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("extension", [*EXACT, *NIFTI])
@pytest.mark.parametrize("kind", [complex, object, "S3", np.longdouble])
def test_voxels_that_are_no_plain_numbers_are_refused_and_nothing_is_written(extension, kind, tmp_path):
    volume = Volume(np.zeros((2, 2, 2), kind), Grid.isotropic((2, 2, 2), 1.0))
    with pytest.raises(InputError, match=r"^voxels of type .* cannot be stored"):
        write_volume(tmp_path / f"a{extension}", volume)
    assert list(tmp_path.iterdir()) == []


def test_an_axis_too_long_for_nifti_is_refused(tmp_path):
    volume = Volume(np.zeros((40000, 1, 1), np.uint8), Grid.isotropic((40000, 1, 1), 1.0))
    with pytest.raises(InputError, match=r"NIfTI holds at most 32767 voxels along an axis; got \(40000, 1, 1\)"):
        write_volume(tmp_path / "a.nii", volume)
