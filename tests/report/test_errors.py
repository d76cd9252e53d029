"""Pictures of errors: right where the patch is right, red and blue where it is not, and a mesh that says the same."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.metrics.test_border import shells
from tests.report.test_sheet import SEMI_AXES_MM, skull_and_large_patch, skull_and_patch

from calvaria.errors import GeometryError, InputError, MissingExtraError
from calvaria.io import read_mesh, write_mesh
from calvaria.report import colour_range, error_colours, error_mesh, errors, render_errors, sheet
from calvaria.report.render import BACKGROUND
from calvaria.volume import Volume

SMALL_PX = 120


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "CELL_PX", SMALL_PX)
    monkeypatch.setattr(errors, "MIN_RANGE_VOXELS", 0.0)  # the voxels of these heads are as large as their errors


def cells(image: object) -> NDArray[np.int64]:
    """(rows, columns, side, side, 3)."""
    pixels, step = np.asarray(image).astype(np.int64), SMALL_PX + errors.GAP_PX
    tops = range(errors.HEADER_PX + errors.NOTE_PX, pixels.shape[0] - SMALL_PX, step + errors.NOTE_PX)
    lefts = [errors.GAP_PX + column * step for column in range(errors.VIEWS_SHOWN + 1)]
    return np.array([[pixels[top : top + SMALL_PX, left : left + SMALL_PX] for left in lefts] for top in tops])


def reds_and_blues(cell: NDArray[np.int64]) -> tuple[float, float]:
    red, blue = cell[..., 0], cell[..., 2]
    return float(((red > 1.6 * blue) & (red > 50)).mean()), float(((blue > 1.4 * red) & (blue > 50)).mean())


def thicker(patch: Volume, skull: Volume, steps: int) -> Volume:
    from scipy.ndimage import binary_dilation, binary_erosion

    grow = binary_dilation if steps > 0 else binary_erosion
    return patch.with_data(grow(patch.mask, iterations=abs(steps)) & ~skull.mask)


def test_a_right_patch_has_no_colour_a_thick_one_is_red_and_a_thin_one_blue() -> None:
    skull, truth = skull_and_patch()
    right = cells(render_errors(truth, truth, skull))
    assert right.shape[:2] == (3, 3)
    assert max(sum(reds_and_blues(cell)) for row in right[:2] for cell in row) < 0.002
    thick = cells(render_errors(thicker(truth, skull, 1), truth, skull))
    thin = cells(render_errors(thicker(truth, skull, -1), truth, skull))
    for row in range(2):
        assert reds_and_blues(thick[row, 0])[0] > 0.02
        assert reds_and_blues(thick[row, 0])[1] == 0
        assert reds_and_blues(thin[row, 0])[1] > 0.02
        assert reds_and_blues(thin[row, 0])[0] == 0


def test_a_prediction_beyond_the_skulls_bounding_box_is_drawn_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    skull, truth = skull_and_large_patch((0, 0, 1))
    drawn: list[list[list[NDArray[np.uint8]]]] = []
    lay_out = errors._sheet

    def spy(rows: Any, views: Any, pictures: Any, title: str) -> Any:
        drawn.append(pictures)
        return lay_out(rows, views, pictures, title)

    monkeypatch.setattr(errors, "_sheet", spy)
    render_errors(truth, truth, skull)
    views = sheet.choose_views(skull, truth, np.eye(3))[: errors.VIEWS_SHOWN]
    for row in drawn[0]:
        for cell, view in zip(row, views, strict=False):
            seen = np.abs(cell.astype(int) - BACKGROUND).max(axis=-1) > 12
            rows, columns = (np.ptp(np.flatnonzero(seen.any(axis=axis))) for axis in (1, 0))
            right, down, _ = (np.linalg.norm(axis * SEMI_AXES_MM) for axis in view.axes())
            assert rows / columns == pytest.approx(down / right, rel=0.04)
        alone = np.abs(row[-1].astype(int) - BACKGROUND).max(axis=-1) > 12
        assert not (alone[[0, -1]].any() or alone[:, [0, -1]].any())


def test_an_empty_prediction_shows_what_is_missing() -> None:
    skull, truth = skull_and_patch()
    found = cells(render_errors(truth.with_data(np.zeros(truth.shape, bool)), truth, skull))
    assert len(found) == 1
    assert reds_and_blues(found[0, 0])[1] > 0.03


def test_what_cannot_be_drawn_is_refused() -> None:
    skull, truth = skull_and_patch()
    with pytest.raises(InputError, match="true patch is empty"):
        render_errors(truth, truth.with_data(np.zeros(truth.shape, bool)), skull)
    with pytest.raises(GeometryError, match="one grid"):
        render_errors(truth.crop((slice(1, None), slice(None), slice(None))), truth, skull)
    with pytest.raises(InputError, match="has no surface"):
        error_mesh(truth.with_data(np.zeros(truth.shape, bool)), truth, skull)


def test_a_mesh_has_the_error_at_every_vertex(tmp_path) -> None:
    truth, bone = shells()
    patch, _ = shells(1.6)
    whole, _ = error_mesh(patch, truth, truth.with_data(bone), decimate=False)
    mesh, found = error_mesh(patch, truth, truth.with_data(bone))
    assert len(mesh.faces) == pytest.approx(errors.KEPT * len(whole.faces), rel=0.1)
    assert mesh.open_edges == 0
    assert mesh.volume_ml == pytest.approx(whole.volume_ml, rel=0.01)
    middle = np.hypot(*mesh.vertices_mm[:, :2].T) < 9
    far = np.linalg.norm(mesh.vertices_mm, axis=1)
    assert np.median(found.values[middle & (far > 59)]) == pytest.approx(1.6, abs=0.3)
    assert np.median(found.values[middle & (far < 58)]) == pytest.approx(-1.6, abs=0.3)
    path = tmp_path / "errors.ply"
    write_mesh(path, mesh, values=found.values, colours=error_colours(found.values, 2.0))
    assert read_mesh(path).volume_ml == pytest.approx(mesh.volume_ml, rel=1e-5)


def test_without_the_package_a_mesh_says_what_to_install(monkeypatch) -> None:
    truth, bone = shells()
    monkeypatch.setitem(sys.modules, "fast_simplification", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'calvaria\[figures\]'"):
        error_mesh(truth, truth, truth.with_data(bone))


@given(st.lists(st.floats(-1e3, 1e3), max_size=20), st.floats(1e-4, 10.0))
def test_a_range_holds_most_values_and_is_a_round_number(values, least):
    found = colour_range(np.array(values), least)
    wanted = max(float(np.percentile(np.abs(values), errors.SHOWN_SHARE)), least) if values else least
    assert wanted * (1 - 1e-6) <= found <= 2.51 * wanted
    digits = found / 10 ** np.floor(np.log10(found) + 1e-9)
    assert min(abs(digits - step) for step in (1, 2, 5, 10)) < 1e-6


def test_colours_go_from_blue_over_ivory_to_red():
    low, middle, high, beyond = error_colours([-1.0, 0.0, 1.0, 7.0], 1.0)
    assert low[2] > 2 * low[0]
    assert high[0] > 2 * high[2]
    assert np.ptp(middle) < 25
    assert (beyond == high).all()
