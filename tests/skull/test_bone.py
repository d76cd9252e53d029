"""The bone of a mask or a CT, as it is stated or told by the values."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tests.skull.test_segment import phantom

from calvaria.errors import InputError
from calvaria.skull.bone import bone_of
from calvaria.volume import Grid, Volume

CT, BONE = phantom((3, 3, 3))


def mask_of(background: float, bone: float, dtype: str = "i2") -> Volume:
    return BONE.with_data(np.where(BONE.data, bone, background).astype(dtype))


@pytest.mark.parametrize("kind", ["auto", "mask"])
@pytest.mark.parametrize(("dtype", "bone"), [("u1", 1), ("u1", 255), ("f4", 1.0), ("f8", 0.5), ("i2", 400)])
def test_0_and_a_positive_value_are_a_mask_without_a_word(kind, dtype, bone):
    found = bone_of(mask_of(0, bone, dtype), kind)
    np.testing.assert_array_equal(found.bone.mask, BONE.mask)
    assert found.notes == ()
    assert found.threshold_hu is None


@pytest.mark.parametrize("kind", ["auto", "mask"])
@pytest.mark.parametrize(
    ("background", "bone", "dtype"),
    [
        (0, -1, "i1"),
        (-1, 0, "i2"),
        (0, -1000, "i2"),
        (-1000, 0, "i2"),
        (-1024, 3071, "i2"),
        (1, 2, "u1"),
        (-1, 1, "f4"),
    ],
)
def test_of_other_pairs_the_border_s_value_is_the_background_and_that_is_said(kind, background, bone, dtype):
    found = bone_of(mask_of(background, bone, dtype), kind)
    np.testing.assert_array_equal(found.bone.mask, BONE.mask)
    low, high = sorted((background, bone))
    assert found.notes == (
        f"the mask holds the values {low:g} and {high:g}: {bone:g} is taken for bone, the border's for background",
    )


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (BONE.with_data(np.zeros(BONE.shape, np.uint8)), "the mask is empty: no voxel is bone"),
        (BONE.with_data(np.zeros(BONE.shape, bool)), "the mask is empty: no voxel is bone"),
        (BONE.with_data(np.ones(BONE.shape, np.uint8)), "every voxel is bone, none is background"),
        (BONE.with_data(np.full(BONE.shape, -1000, np.int16)), "every voxel is -1000; a bone mask"),
        (BONE.with_data(np.full(BONE.shape, np.nan)), "the values contain NaN or infinity"),
        (
            BONE.with_data(~BONE.data),
            "9[0-9]% of the volume and most of its border are bone: .*exchanged; write the bone",
        ),
        (
            BONE.with_data(np.where(np.indices(BONE.shape)[0] < BONE.shape[0] // 2, -1, 0)),
            "the values -1 and 0 occur, and neither is clearly the background .*write the bone as 1",
        ),
    ],
)
def test_a_mask_that_is_none_is_refused_by_its_name(volume, message):
    with pytest.raises(InputError, match=r"^head\.nii: " + message):
        bone_of(volume, name="head.nii")


def test_the_labels_of_a_stated_mask_are_all_bone():
    labels = BONE.data.astype(np.int16) * (1 + (np.indices(BONE.shape)[0] > 30))
    found = bone_of(BONE.with_data(labels), "mask")
    np.testing.assert_array_equal(found.bone.mask, BONE.mask)
    assert found.notes == ("2 labels were found in the mask, and all above 0 are taken for bone",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            CT.data,
            "said to be a mask, but its values run from -1[0-9]+ to [0-9]+; .*leave --kind out, or say --kind ct",
        ),
        (BONE.data * np.linspace(0, 1, BONE.shape[2]), "said to be a mask, but .* this looks like a probability map"),
    ],
)
def test_a_stated_mask_of_many_values_is_refused(data, message):
    with pytest.raises(InputError, match=r"^a: " + message):
        bone_of(BONE.with_data(data), "mask", name="a")


def test_a_ct_has_its_threshold_and_a_mask_none():
    ct, _ = phantom()
    low, high = bone_of(ct), bone_of(ct, threshold_hu=1000)
    assert (low.threshold_hu, high.threshold_hu) == (250, 1000)
    assert 0 < high.bone.volume_ml < low.bone.volume_ml
    with pytest.raises(InputError, match=r"^a: a bone threshold of 300 HU is given, but the volume is a mask"):
        bone_of(BONE, threshold_hu=300, name="a")
    with pytest.raises(InputError, match=r"^a: a bone threshold lies from 100 to 1500 HU; got 50"):
        bone_of(CT, threshold_hu=50, name="a")


def test_a_mask_of_a_body_is_told():
    data = np.zeros((40, 40, 200), bool)
    data[5:30, 5:30, 2:190] = True
    (note,) = bone_of(Volume(data, Grid.isotropic(data.shape, 3.0))).notes
    assert re.match(r"the bone of the mask spans 564 mm, more than a head: crop", note)


def test_a_head_in_cm_is_told_by_its_size():
    with pytest.raises(InputError, match=r"^a\.stl: the bone spans 16\.\d mm at most, a head 90 or more: .*in cm"):
        bone_of(Volume(BONE.data, BONE.grid.moved(np.diag([0.1, 0.1, 0.1, 1.0]))), name="a.stl")
