"""Which of two values is the bone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calvaria.errors import InputError
from calvaria.volume.foreground import foreground_of, has_two_values, looks_inverted

pairs = st.lists(st.integers(-128, 127), min_size=2, max_size=2, unique=True)
box = np.zeros((6, 7, 8), bool)
box[2:4, 2:5, :3] = True


@given(pair=pairs, dtype=st.sampled_from([np.int8, np.int16, np.float32]), order=st.sampled_from("CF"))
def test_the_value_inside_is_the_bone_but_0_never_is_beside_a_positive_one(pair, dtype, order):
    background, bone = pair
    data = np.array(np.where(box, bone, background), dtype, order=order)
    assert has_two_values(data)
    wanted = ~box if bone == 0 < background else box  # beside 0 what is positive is set, wherever it lies
    np.testing.assert_array_equal(foreground_of(data), wanted)


@given(value=st.integers(-128, 127))
def test_a_third_value_is_seen_wherever_it_lies(value):
    data = np.where(box, 9, 5).astype(np.int8)
    for index in ((0, 0, 0), (5, 6, 7), (3, 3, 1)):
        changed = data.copy()
        changed[index] = value
        assert has_two_values(changed) == (value in (5, 9))


def test_booleans_pass_as_they_are():
    assert foreground_of(box) is box
    assert has_two_values(box)


def test_one_value_is_all_or_nothing_or_refused():
    assert foreground_of(np.full((2, 3, 4), 3)).all()
    assert not foreground_of(np.zeros((2, 3, 4))).any()
    with pytest.raises(InputError, match="every voxel is -2"):
        foreground_of(np.full((2, 3, 4), -2))


def test_a_mask_that_is_inverted_is_seen():
    assert looks_inverted(~box)
    assert not looks_inverted(box)
    assert not looks_inverted(np.pad(np.ones((8, 8, 8), bool), 1))  # full, but the border is free
    shell = np.ones((20, 20, 20), bool)
    shell[1:-1, 1:-1, 1:-1] = False
    assert not looks_inverted(shell)  # on the border, but little
