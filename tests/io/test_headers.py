"""The grid from the header alone is the grid of the whole file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import grids

from calvaria.errors import FormatError, GeometryError, InputError
from calvaria.io import read_volume, write_volume
from calvaria.io.headers import read_grid
from calvaria.volume import Volume


@given(grid=grids(), suffix=st.sampled_from([".nrrd", ".nii.gz", ".nii", ".mha"]))
def test_the_grid_is_that_of_the_voxels(tmp_path_factory, grid, suffix):
    path = tmp_path_factory.mktemp("headers") / f"a{suffix}"
    write_volume(path, Volume(np.zeros(grid.shape, np.uint8), grid))
    found, whole = read_grid(path), read_volume(path).grid
    assert found.shape == whole.shape
    assert np.array_equal(found.affine, whole.affine)


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        (b"", InputError, "the file is empty"),
        (b"\x89PNG and more", FormatError, "not an image that is read"),
        (b"NRRD0004\ntype: uint8\n\n", FormatError, "the NRRD header has no field 'dimension'"),
        (
            b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n\n12345678",
            GeometryError,
            "the NRRD header has no space directions",
        ),
        (
            b"NDims = 3\nDimSize = 2 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n",
            FormatError,
            "three positive",
        ),
    ],
)
def test_a_header_that_cannot_be_used(tmp_path, content, error, text):
    path = tmp_path / "a.nrrd"
    path.write_bytes(content)
    with pytest.raises(error, match=text):
        read_grid(path)


def test_an_absurd_size_is_refused(tmp_path):
    path = tmp_path / "a.nrrd"
    path.write_bytes(
        b"NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 2000 2000 2000\nencoding: gzip\n"
        b"space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n\n"
    )
    with pytest.raises(FormatError, match="the header says 2000 x 2000 x 2000 voxels"):
        read_grid(path)


def test_an_orientation_helps_where_the_file_says_none(tmp_path):
    path = tmp_path / "a.nrrd"
    path.write_bytes(b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nspacings: 1 2 3\nencoding: raw\n\n12345678")
    assert read_grid(path, orientation="LPS").spacing_mm == (1.0, 2.0, 3.0)
