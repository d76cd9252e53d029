from itertools import permutations, product

import numpy as np
import pytest

from calvaria.errors import GeometryError, InputError
from calvaria.io.frames import frame_to_lps, lps_grid, spacing_columns

FRAMES = ["".join(letters) for order in permutations(["LR", "PA", "SI"]) for letters in product(*order)]


def test_there_are_48_frames_and_each_is_a_signed_permutation():
    matrices = {frame_to_lps(frame).tobytes() for frame in FRAMES}
    assert len(matrices) == 48
    for frame in FRAMES:
        matrix = frame_to_lps(frame)
        np.testing.assert_array_equal(matrix @ matrix.T, np.eye(3))


@pytest.mark.parametrize(
    ("frame", "lps"),
    [
        ("LPS", (1, 2, 3)),
        ("RAS", (-1, -2, 3)),
        ("las", (1, -2, 3)),
        ("PIR", (-3, 1, -2)),  # 1 mm back, 2 mm down, 3 mm to the right
    ],
)
def test_a_point_goes_where_its_letters_say(frame, lps):
    np.testing.assert_array_equal(frame_to_lps(frame) @ [1, 2, 3], lps)


@pytest.mark.parametrize("frame", ["", "LP", "LPSA", "LRS", "LPL", "XYZ", "left"])
def test_other_letters_are_refused(frame):
    with pytest.raises(InputError, match=rf"orientation must be three letters.*got '{frame}'"):
        frame_to_lps(frame)


@pytest.mark.parametrize("frame", FRAMES)
def test_a_grid_in_a_frame_is_that_frame_turned_to_lps(frame):
    rng = np.random.default_rng(7)
    columns, origin = rng.normal(size=(3, 3)), rng.normal(size=3)
    grid = lps_grid("a", (2, 3, 4), columns, origin, frame)
    np.testing.assert_array_equal(grid.affine[:3, :3], frame_to_lps(frame) @ columns)
    np.testing.assert_array_equal(grid.affine[:3, 3], frame_to_lps(frame) @ origin)


def test_an_error_of_the_grid_names_the_file():
    with pytest.raises(GeometryError, match=r"^head\.mha: the directions are singular"):
        lps_grid("head.mha", (2, 2, 2), np.ones((3, 3)), np.zeros(3), "LPS")


@pytest.mark.parametrize("spacing", [(1, 1, 0), (1, -1, 1), (1, np.nan, 1), (1, 1, np.inf), (1, 1), (1, 1, 1, 1)])
def test_spacings_must_be_three_positive_numbers(spacing):
    with pytest.raises(GeometryError, match=r"^a: voxel spacing must be three positive numbers of mm; got \["):
        spacing_columns("a", spacing)
