"""Real skulls go through every format unchanged, and quickly."""

import numpy as np
import pytest

from calvaria.errors import InputError
from calvaria.io import read_mask, read_volume, write_volume


@pytest.fixture(scope="module")
def skull(real_data):
    folder = real_data / "autoimplant2020" / "training_set"
    return sorted((folder / "complete_skull").glob("*.nrrd"))[0]


@pytest.mark.parametrize("extension", [".nrrd", ".mha", ".nii.gz"])
def test_a_skull_comes_back_from_every_format(skull, extension, tmp_path):
    volume = read_mask(skull)
    write_volume(tmp_path / f"a{extension}", volume)
    back = read_mask(tmp_path / f"a{extension}")
    assert np.array_equal(back.data, volume.data)
    assert back.grid.same_as(volume.grid)
    if extension != ".nii.gz":
        np.testing.assert_array_equal(back.affine, volume.affine)


def test_a_skull_is_read_as_simpleitk_reads_it(skull):
    sitk = pytest.importorskip("SimpleITK")
    image, volume = sitk.ReadImage(str(skull)), read_mask(skull)
    assert np.array_equal(sitk.GetArrayViewFromImage(image).T != 0, volume.data)
    for index in ((0, 0, 0), (511, 0, 0), (0, 511, 100)):
        np.testing.assert_allclose(
            volume.grid.to_world(index), image.TransformIndexToPhysicalPoint(index), rtol=0, atol=1e-9
        )


def test_the_clinical_ct_is_read_as_a_volume_and_refused_as_a_mask(real_data, tmp_path):
    path = real_data / "clinical-ct" / "cranium.nrrd"
    volume = read_volume(path)
    assert volume.data.dtype == np.int16
    np.testing.assert_allclose(volume.grid.spacing_mm, (0.957, 0.957, 1.5), atol=1e-3)
    write_volume(tmp_path / "a.mha", volume)
    assert np.array_equal(read_volume(tmp_path / "a.mha").data, volume.data)
    with pytest.raises(InputError, match=r"^cranium\.nrrd: a mask has .* it looks like a CT"):
        read_mask(path)
