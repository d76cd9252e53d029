"""The picture of a case, and its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

from calvaria.errors import GeometryError, InputError
from calvaria.io import read_mask
from calvaria.report import render_case, save_png, sheet
from calvaria.report.render import BACKGROUND
from calvaria.volume import Grid, Volume, bounding_box

SMALL_PX = 120


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "CELL_PX", SMALL_PX)


def skull_and_patch(outward: tuple[float, float, float] = (0.6, -0.6, 0.5)) -> tuple[Volume, Volume]:
    grid = Grid.isotropic((48, 60, 48), 3.5, (-82, -103, -82))
    points = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    distance = np.linalg.norm(points / [0.85, 1.1, 0.85], axis=-1)
    shell = (distance < 80) & (distance > 71)
    plate = shell & (points @ (np.array(outward) / np.linalg.norm(outward)) > 62)
    return Volume(shell & ~plate, grid), Volume(plate, grid)


def cells(image: Image.Image) -> NDArray[np.int64]:
    """(rows, columns, side, side, 3)."""
    pixels, side = np.asarray(image).astype(np.int64), sheet.CELL_PX
    step = side + sheet.GAP_PX
    tops = range(sheet.HEADER_PX, pixels.shape[0] - sheet.FOOTER_PX - side, step)
    lefts = range(sheet.GAP_PX, pixels.shape[1] - side, step)
    return np.array([[pixels[top : top + side, left : left + side] for left in lefts] for top in tops])


def share(cell: NDArray[np.int64], colour: str) -> float:
    red, blue = cell[46:, 16:-16, 0], cell[46:, 16:-16, 2]
    hit = (red > 2 * blue) & (red > 60) if colour == "orange" else (blue > 1.7 * red) & (blue > 60)
    return float(hit.mean())


def test_the_result_the_reference_and_the_bare_skull_stand_one_under_the_other() -> None:
    skull, patch = skull_and_patch()
    truth = Volume(patch.data, patch.grid)
    table = cells(render_case(skull, patch, truth))
    assert table.shape[:2] == (3, 4)
    for column in range(2):  # straight onto the patch, and the front
        assert share(table[0, column], "orange") > 0.03
        assert share(table[0, column], "blue") == 0
        assert share(table[1, column], "blue") == pytest.approx(share(table[0, column], "orange"), rel=0.1)
        assert share(table[2, column], "orange") == share(table[2, column], "blue") == 0


@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("role", ["patch", "reference"])
def test_a_layer_beyond_the_defective_skull_is_shown_whole(role: str, column: int) -> None:
    """A vertex hole: the patch is the topmost part of the head, outside the defective skull's bounding box."""
    skull, patch = skull_and_patch((0.0, 0.0, 1.0))
    cap = Volume(np.where(patch.grid.centres_mm()[..., 2] > 50, patch.mask | skull.mask, False), patch.grid)
    low = Volume(skull.mask & ~cap.mask, skull.grid)
    drawn = render_case(low, cap if role == "patch" else None, cap if role == "reference" else None)
    row = cells(drawn)[0 if role == "patch" else 1]
    names = [view.name for view in sheet.choose_views(low, cap, np.eye(3))]
    top = row[column]
    colour = "orange" if role == "patch" else "blue"
    if names[column] == "top" or column == 0:
        assert share(top, colour) > 0.2
    else:  # from the side the cap ends the head above: its outline is round, not cut off flat
        lit = top[16:-16, 16:-16].sum(axis=-1) > 150
        first = np.flatnonzero(lit.any(axis=1))[0]
        assert lit[first].sum() < 0.35 * lit.sum(axis=1).max()


def test_the_first_column_shows_the_patch_best() -> None:
    for outward in ((0.6, -0.6, 0.5), (0, 1, 0.4), (-1, 0, 0.3), (0, 0.2, 1)):
        row = cells(render_case(*skull_and_patch(outward)))[0]
        shares = [share(cell, "orange") for cell in row]
        assert max(shares) < 1.15 * shares[0]


SEMI_AXES_MM = np.array([0.85, 1.1, 0.85]) * 80
"""Of the ellipsoid that skull and patch are together."""


def skull_and_large_patch(outward: tuple[int, int, int], spacing_mm: float = 3.5) -> tuple[Volume, Volume]:
    """An ellipsoid's shell of which a third is missing, on a grid that ends where the shell does."""
    grid = Grid.isotropic((60, 66, 60), spacing_mm, np.array([-29.5, -32.5, -29.5]) * spacing_mm)
    points = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    distance = np.linalg.norm(points / SEMI_AXES_MM, axis=-1)
    whole = Volume((distance < 1) & (distance > 0.87), grid)
    plate = whole.mask & (points @ np.array(outward) > 0.35 * 68)
    box = bounding_box(whole.mask)
    assert box is not None
    return whole.with_data(whole.mask & ~plate).crop(box), whole.with_data(plate).crop(box)


@pytest.mark.parametrize("outward", [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)])
def test_a_patch_beyond_the_skulls_bounding_box_is_drawn_whole_in_every_view(
    outward: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    skull, patch = skull_and_large_patch(outward)
    _, truth = skull_and_large_patch(outward, 3.1)  # the reference lies on another grid
    drawn: list[list[list[NDArray[np.uint8]]]] = []
    lay_out = sheet._sheet

    def spy(rows: Any, views: Any, pictures: Any, span_mm: float) -> Image.Image:
        drawn.append(pictures)
        return lay_out(rows, views, pictures, span_mm)

    monkeypatch.setattr(sheet, "_sheet", spy)
    render_case(skull, patch, truth)
    table = drawn[0]  # without titles and letters
    views = sheet.choose_views(skull, patch, np.eye(3))
    scales = []
    for column, view in enumerate(views):
        right, down, _ = (np.linalg.norm(axis * SEMI_AXES_MM) for axis in view.axes())
        for row in (0, 1):  # the result and the reference
            seen = np.abs(table[row][column].astype(int) - BACKGROUND).max(axis=-1) > 12
            rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
            assert rows[0] > 0 and rows[-1] < SMALL_PX - 1
            scales += [np.ptp(rows) / (2 * down), np.ptp(columns) / (2 * right)]
    # One scale everywhere: a part that is cut off would make its picture shorter.
    np.testing.assert_allclose(scales, np.median(scales), rtol=0.04)


@pytest.mark.parametrize("patch", [None, "empty"])
def test_without_a_defect_the_picture_says_so(patch: str | None) -> None:
    skull, plate = skull_and_patch()
    empty = None if patch is None else plate.with_data(np.zeros(plate.shape, bool))
    whole = skull.with_data(skull.data | plate.data)
    image = render_case(whole, empty)
    table = cells(image)
    assert table.shape[:2] == (1, 4)
    assert share(table[0, 0], "orange") == 0
    note = table[0, 0, 24:44, :SMALL_PX]
    assert ((note[..., 0] > 2 * note[..., 2]) & (note[..., 0] > 100)).sum() > 50  # the words, in the patch's colour


def test_a_defect_that_was_missed_is_shown_beside_the_reference() -> None:
    skull, patch = skull_and_patch()
    table = cells(render_case(skull, None, patch))
    assert table.shape[0] == 3
    assert share(table[0, 0], "orange") == 0
    assert share(table[1, 0], "blue") > 0.03


def test_an_empty_reference_is_said_too() -> None:
    skull, patch = skull_and_patch()
    assert cells(render_case(skull, patch, patch.with_data(np.zeros(patch.shape, bool)))).shape[0] == 3


def test_a_tilted_head_with_its_frame_gives_the_same_picture() -> None:
    frame = np.eye(4)
    frame[:3, :3] = Rotation.from_euler("xyz", [25, -15, 30], degrees=True).as_matrix()
    frame[:3, 3] = (12, 300, -40)
    skull, patch = skull_and_patch()
    expected = np.asarray(render_case(skull, patch)).astype(int)
    moved = [Volume(v.data, v.grid.moved(frame)) for v in (skull, patch)]
    found = np.asarray(render_case(moved[0], moved[1], frame=frame)).astype(int)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 1


def test_two_runs_give_the_same_bytes() -> None:
    skull, patch = skull_and_patch()
    assert render_case(skull, patch).tobytes() == render_case(skull, patch).tobytes()


def test_bad_cases_are_refused() -> None:
    skull, patch = skull_and_patch()
    with pytest.raises(InputError, match="the defective skull is empty"):
        render_case(skull.with_data(np.zeros(skull.shape, bool)), patch)
    with pytest.raises(InputError, match="a mask is wanted here"):
        render_case(skull.with_data(skull.data.astype(np.int16)), patch)
    with pytest.raises(GeometryError, match="4 x 4"):
        render_case(skull, patch, frame=np.eye(3))


def test_a_picture_comes_back_from_its_file(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    for number, image in enumerate((pixels, Image.fromarray(pixels))):
        path = save_png(tmp_path / f"{number}.png", image)
        with Image.open(path) as read:
            np.testing.assert_array_equal(np.asarray(read), pixels)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.png", "1.png"]


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(InputError, match=r"x.jpg: pictures are written as PNG"):
        save_png(tmp_path / "x.jpg", pixels)
    with pytest.raises(InputError, match="does not exist; make it first"):
        save_png(tmp_path / "none" / "x.png", pixels)
    with pytest.raises(InputError, match=r"\(H, W, 3\) uint8; got \(4, 4\) uint8"):
        save_png(tmp_path / "x.png", pixels[..., 0])
    assert not list(tmp_path.iterdir())


def test_a_real_case_is_drawn(real_data: Path) -> None:
    folder = real_data / "autoimplant2020" / "training_set"
    complete, patch = (read_mask(folder / kind / "005.nrrd") for kind in ("complete_skull", "implant"))
    table = cells(render_case(complete.with_data(complete.data & ~patch.data), patch))
    assert share(table[0, 0], "orange") > 0.08
    assert share(table[1, 0], "orange") == 0


def test_openings_that_were_left_have_a_row_and_a_view_of_their_own() -> None:
    skull, patch = skull_and_patch()
    _, other = skull_and_patch((-0.5, 0.8, -0.3))  # where no view onto the patch looks
    bare = Volume(skull.mask & ~other.mask, skull.grid)
    plain = cells(render_case(bare, patch))
    table = cells(render_case(bare, patch, left_open=other))
    assert (plain.shape[0], table.shape[0]) == (2, 3)

    def magenta(cell: NDArray[np.int64]) -> float:
        red, green, blue = (cell[46:, 16:-16, k] for k in range(3))
        return float(((red > 1.4 * green) & (blue > 1.4 * green) & (red > 50)).mean())

    assert magenta(table[1, 3]) > 0.03
    assert magenta(table[0, 3]) == magenta(table[2, 3]) == 0
    empty = Volume(np.zeros_like(other.data), other.grid)
    np.testing.assert_array_equal(cells(render_case(bare, patch, left_open=empty)), plain)


def test_how_far_a_patch_may_be_off_colours_it_from_blue_to_red() -> None:
    skull, patch = skull_and_patch()
    middle = patch.grid.to_world(np.argwhere(patch.mask)).mean(axis=0)

    def off_by(points_mm: NDArray[np.floating]) -> NDArray[np.floating]:
        assert np.linalg.norm(points_mm - middle, axis=1).max() < 70  # asked only on the patch
        return np.where(points_mm[:, 2] > middle[2] - 12, 0.0, 5.0)

    table = cells(render_case(skull, patch, off_by=off_by))
    assert table.shape[:2] == (3, 4)
    plain, doubtful = table[0, 1], table[1, 1]
    red = (doubtful[..., 0] > 2 * doubtful[..., 2]) & (doubtful[..., 0] > 2 * doubtful[..., 1])
    blue = doubtful[..., 2] > 1.5 * doubtful[..., 0]
    orange = (plain[..., 0] > 2 * plain[..., 2]) & (plain[..., 0] > 60)
    # Words stand in the rows above.
    red, blue, orange = red[46:], blue[46:], orange[46:]
    assert red.sum() + blue.sum() == pytest.approx(orange.sum(), rel=0.15)
    assert min(red.sum(), blue.sum()) > 0.1 * orange.sum()
    assert np.argwhere(blue)[:, 0].mean() < np.argwhere(red)[:, 0].mean()  # above and below
    # The bone about it is as in the result; a patch that is not there is not doubted.
    assert (table[0, 1] == table[2, 1]).mean() > 0.6
    assert cells(render_case(skull, None, off_by=off_by)).shape[0] == 1


def test_colours_of_doubt_run_from_0_to_2_mm() -> None:
    colours = sheet.doubt_colours(np.array([0.0, 1.0, 2.0, 9.0]))
    assert colours[0] == pytest.approx(sheet.SURE)
    assert colours[2] == pytest.approx(sheet.DOUBTFUL)
    assert colours[3] == pytest.approx(sheet.DOUBTFUL)
    assert colours[1] == pytest.approx((colours[0] + colours[2]) / 2)
