"""Small copies for the viewer: in their place in the world, which is RAS there."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from calvaria.volume import Grid, Mesh, Volume
from calvaria.web.views import SLICES, coarser, planes_of, show_head, slice_png, write_mz3

AFFINE = np.array([[0.0, -2.0, 0.0, 5.0], [1.0, 0.0, 0.0, -7.0], [0.0, 0.0, 3.0, 11.0], [0.0, 0.0, 0.0, 1.0]])


def test_a_copy_in_fewer_voxels_lies_where_it_lay():
    data = np.zeros((9, 8, 6), bool)
    data[4:8, 2:6, 0:4] = True
    volume = Volume(data, Grid(data.shape, AFFINE))
    small = coarser(volume, 4)
    assert small.shape == (3, 4, 3)

    def middle(one: Volume) -> np.ndarray:
        index = np.argwhere(np.ones(one.shape, bool))
        return np.average(one.grid.to_world(index), axis=0, weights=one.data.astype(float).ravel())

    np.testing.assert_allclose(middle(coarser(volume, 5))[2], middle(volume)[2], atol=1e-6)
    np.testing.assert_allclose(
        small.grid.to_world(np.array([[0, 0, 0]]))[0], volume.grid.to_world(np.array([[1, 0.5, 0.5]]))[0]
    )


def test_slices_lie_in_the_world_of_the_viewer(tmp_path: Path):
    volume = Volume(np.arange(24, dtype=np.int16).reshape(2, 3, 4), Grid((2, 3, 4), AFFINE))
    found = show_head(tmp_path, volume, ct=False)
    image = nib.load(tmp_path / "head.nii.gz")
    np.testing.assert_allclose(image.affine, np.diag([-1, -1, 1, 1]) @ AFFINE)
    assert (found["shape"], found["affine"]) == ([2, 3, 4], AFFINE.tolist())
    assert (np.asarray(image.dataobj).min(), np.asarray(image.dataobj).max()) == (0, 255)


def test_a_ct_is_shown_by_its_window(tmp_path: Path):
    volume = Volume(np.array([-1000, -200, 800, 1800, 3000], np.int16).reshape(5, 1, 1), Grid((5, 1, 1), np.eye(4)))
    show_head(tmp_path, volume, ct=True)
    assert np.load(tmp_path / SLICES)["head"].ravel().tolist() == [0, 0, 127, 255, 255]


def test_a_slice_is_a_picture_with_the_patch_in_red(tmp_path: Path):
    head, patch = np.zeros((4, 5, 6), np.uint8), np.zeros((4, 5, 6), np.uint8)
    patch[1, 2, 3] = 255
    np.savez(tmp_path / SLICES.removesuffix(".npz"), head=head, patch=patch, affine=np.eye(4))
    axial, sagittal = (np.asarray(Image.open(io.BytesIO(slice_png(tmp_path, *at)))) for at in ((2, 3), (0, 1)))
    assert axial.shape == (5, 4, 3) and sagittal.shape == (6, 5, 3)
    assert axial[2, 1, 0] > 100 and np.count_nonzero(axial.sum(axis=2)) == 1
    assert sagittal[2, 2, 0] > 100  # z grows upwards
    for axis, index in ((2, 6), (3, 0), (0, -1)):
        with pytest.raises(IndexError, match=f"no slice {index} along axis {axis}"):
            slice_png(tmp_path, axis, index)


def test_a_surface_is_written_as_the_viewer_reads_it(tmp_path: Path):
    mesh = Mesh(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 10.0]]), np.array([[0, 1, 2]]))
    write_mz3(tmp_path / "a.mz3", mesh, np.array([[1, 2, 3]] * 3, np.uint8))
    content = gzip.decompress((tmp_path / "a.mz3").read_bytes())
    assert np.frombuffer(content[:4], "<u2").tolist() == [0x5A4D, 0b111]
    assert np.frombuffer(content[4:16], "<u4").tolist() == [1, 3, 0]
    assert np.frombuffer(content[16:28], "<i4").tolist() == [0, 1, 2]
    vertices = np.frombuffer(content[28:64], "<f4").reshape(3, 3)
    np.testing.assert_array_equal(vertices, mesh.vertices_mm * [-1, -1, 1])
    assert list(content[64:]) == [1, 2, 3, 255] * 3


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_up_is_up_and_left_is_on_the_right_however_voxels_run(order: tuple, signs: tuple, tmp_path: Path):
    data, affine = np.zeros((4, 5, 6), np.uint8), np.eye(4)
    data[3, 4, 5] = 1  # to the left, to the back, up
    turned = data.transpose(order)[tuple(slice(None, None, signs[world]) for world in order)]
    for axis, world in enumerate(order):
        affine[:3, axis] = np.eye(3)[world] * signs[world]
    show_head(tmp_path, Volume(turned, Grid(turned.shape, affine)), ct=False)
    at = np.argwhere(turned)[0]
    corners = {"axial": (4, 3), "coronal": (0, 3), "sagittal": (0, 4)}
    for axis, plane in enumerate(planes_of(affine)):
        picture = np.asarray(Image.open(io.BytesIO(slice_png(tmp_path, axis, int(at[axis])))))
        assert tuple(np.argwhere(picture[..., 0])[0]) == corners[plane["name"]]
