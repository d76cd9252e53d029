"""The picture of a refinement: what moved outwards is red, what moved inwards blue, what stayed has no colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tests.report.test_errors import reds_and_blues
from tests.report.test_sheet import skull_and_patch

from calvaria.errors import InputError
from calvaria.report import refinement, render_refinement
from calvaria.volume import Volume

SMALL_PX = 120


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refinement, "CELL_PX", SMALL_PX)


@dataclass
class Radial:
    """All has moved away from the origin by some mm: what is at x came from x - mm."""

    mm: float

    def at(self, points_mm: NDArray[np.floating]) -> NDArray[np.float64]:
        return -self.mm * points_mm / np.linalg.norm(points_mm, axis=1, keepdims=True)


def cells(image: object) -> NDArray[np.int64]:
    """(rows, columns, side, side, 3)."""
    pixels = np.asarray(image).astype(np.int64)
    step = SMALL_PX + refinement.GAP_PX
    tops = range(refinement.HEADER_PX + refinement.NOTE_PX, pixels.shape[0] - SMALL_PX + 1, step + refinement.NOTE_PX)
    lefts = [refinement.GAP_PX + column * step for column in range(3)]
    return np.array([[pixels[top : top + SMALL_PX, left : left + SMALL_PX] for left in lefts] for top in tops])


def orange(cell: NDArray[np.int64]) -> float:
    red, blue = cell[..., 0], cell[..., 2]
    return float(((red > 2 * blue) & (red > 60)).mean())


def test_what_moved_outwards_is_red_inwards_blue_and_what_stayed_has_no_colour() -> None:
    skull, patch = skull_and_patch()
    out, back, still = (cells(render_refinement(skull, patch, patch, Radial(mm))) for mm in (2.0, -2.0, 0.0))
    assert out.shape[:2] == (2, 3)
    for row in range(2):
        red, blue = reds_and_blues(out[row, 2])
        assert red > 0.02
        assert blue < 0.1 * red
        red, blue = reds_and_blues(back[row, 2])
        assert blue > 0.02
        assert red < 0.1 * blue
        assert sum(reds_and_blues(still[row, 2])) < 0.002


def test_the_same_holds_for_a_head_that_lies_turned() -> None:
    skull, patch = skull_and_patch()
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", (40, 20, 100), degrees=True).as_matrix()
    skull, patch = (Volume(one.data, one.grid.moved(turn)) for one in (skull, patch))
    red, blue = reds_and_blues(cells(render_refinement(skull, patch, patch, Radial(2.0), frame=turn))[0, 2])
    assert red > 0.02
    assert blue < 0.1 * red


def test_before_and_after_show_each_its_own_patch() -> None:
    skull, patch = skull_and_patch()
    small = patch.with_data(patch.mask & (np.indices(patch.shape)[2] > 30))
    before, after, _ = cells(render_refinement(skull, patch, small, Radial(0.0)))[0]
    assert orange(before) > 1.5 * orange(after) > 0.02


def test_the_colours_reach_as_far_as_the_patch_has_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    lay_out = refinement._sheet
    monkeypatch.setattr(refinement, "_sheet", lambda *parts: seen.append(parts[-1]) or lay_out(*parts))
    skull, patch = skull_and_patch()
    for mm in (0.0, 4.0):
        render_refinement(skull, patch, patch, Radial(mm))
    assert seen == [refinement.MIN_RANGE_MM, 5.0]


def test_what_cannot_be_drawn_is_refused() -> None:
    skull, patch = skull_and_patch()
    nothing = patch.with_data(np.zeros(patch.shape, bool))
    with pytest.raises(InputError, match="the given patch is empty: there is nothing to draw"):
        render_refinement(skull, nothing, patch, Radial(0.0))
    with pytest.raises(InputError, match="the refined patch is empty"):
        render_refinement(skull, patch, nothing, Radial(0.0))
    with pytest.raises(InputError, match="the defective skull is empty"):
        render_refinement(nothing, patch, patch, Radial(0.0))


def test_what_slid_along_its_own_surface_has_no_colour() -> None:
    class Turned:
        """2 mm about the vertical axis, along the surface of a head that is nearly round."""

        def at(self, points_mm: NDArray[np.floating]) -> NDArray[np.float64]:
            normals = points_mm / np.array([0.85, 1.1, 0.85]) ** 2
            along = np.cross(normals, [0.0, 0.0, 1.0])
            return 2.0 * along / np.linalg.norm(along, axis=1, keepdims=True)

    skull, patch = skull_and_patch()
    for cell in cells(render_refinement(skull, patch, patch, Turned()))[:, 2]:
        assert sum(reds_and_blues(cell)) < 0.01
