"""Named views, frames, and the view onto a patch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from tests.strategies import rotations

from calvaria.errors import GeometryError, InputError
from calvaria.report import VIEWS, View
from calvaria.report.views import frame_axes, named_view, view_onto
from calvaria.volume import Grid, Volume

LETTERS = {"front": "RL", "back": "LR", "left": "AP", "right": "PA", "top": "LR", "bottom": "RL"}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_the_axes_of_a_view_are_a_rotation(view: View) -> None:
    axes = view.axes()
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)
    assert axes[2] @ view.direction > 0
    assert axes[1] @ view.up < 0


@pytest.mark.parametrize(("name", "letters"), LETTERS.items())
def test_the_sides_are_as_a_person_standing_there_sees_them(name: str, letters: str) -> None:
    assert "".join(VIEWS[name].letters()) == letters


def test_a_slanted_view_has_no_letters() -> None:
    assert View("slanted", (1, 1, 0)).letters() == ("", "")


def test_a_view_along_its_own_up_is_refused() -> None:
    with pytest.raises(GeometryError, match=r"view 'x': direction .* must span a plane"):
        View("x", (0, 0, 1))
    with pytest.raises(GeometryError, match="must span a plane"):
        View("x", (0, 0, 0))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="no view named 'nose'; choose one of front, back, left"):
        named_view("nose")


@given(rotations())
def test_a_frame_gives_its_rotation_whatever_its_scale(rotation: np.ndarray) -> None:
    frame = np.eye(4)
    frame[:3, :3] = rotation * 1.7
    np.testing.assert_allclose(frame_axes(frame), rotation, atol=1e-9)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.eye(3), "finite 4 x 4"),
        (np.full((4, 4), np.nan), "finite 4 x 4"),
        (np.diag([-1.0, 1, 1, 1]), "must not mirror"),
        (np.diag([0.0, 1, 1, 1]), "must not mirror or flatten"),
    ],
)
def test_a_frame_that_is_none_is_refused(frame: np.ndarray, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        frame_axes(frame)


def shell_and_plate(outward: tuple[float, float, float]) -> tuple[Volume, Volume]:
    grid = Grid.isotropic((60, 60, 60), 3.0, (-88.5, -88.5, -88.5))
    points = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    distance = np.linalg.norm(points, axis=-1)
    shell = (distance < 80) & (distance > 72)
    plate = shell & (points @ (np.array(outward) / np.linalg.norm(outward)) > 70)
    return Volume(shell & ~plate, grid), Volume(plate, grid)


@pytest.mark.parametrize("outward", [(0, -1, 0), (1, 0, 0.4), (-1, 0.5, 0.3), (0, 0.6, 0.8), (0, 0, 1)])
def test_the_view_onto_a_patch_looks_against_its_normal(outward: tuple[float, float, float]) -> None:
    skull, plate = shell_and_plate(outward)
    view = view_onto(plate, skull)
    assert -view.axes()[2] @ (np.array(outward) / np.linalg.norm(outward)) > 0.985


def test_the_view_onto_a_patch_is_meant_in_the_frame() -> None:
    skull, plate = shell_and_plate((1, 0, 0.4))
    turn = frame_axes(np.block([[np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.zeros((3, 1))], [0, 0, 0, 1]]))
    seen = view_onto(plate, skull, turn).axes()[2] @ turn.T
    np.testing.assert_allclose(seen, view_onto(plate, skull).axes()[2], atol=1e-6)


def test_the_view_onto_a_patch_does_not_depend_on_memory_order() -> None:
    skull, plate = shell_and_plate((1, 0.5, 0.4))
    fortran = plate.with_data(np.asfortranarray(plate.data))
    assert view_onto(fortran, skull).direction == pytest.approx(view_onto(plate, skull).direction)
    turned = plate.flip((0, 2)).permute((2, 0, 1))
    assert view_onto(turned, skull).direction == pytest.approx(view_onto(plate, skull).direction)


def test_a_ball_is_seen_along_the_line_from_the_skulls_middle() -> None:
    skull, _ = shell_and_plate((1, 0, 0))
    ball = np.linalg.norm(skull.grid.to_world(np.moveaxis(np.indices(skull.shape), 0, -1)) - [0, -60, 0], axis=-1) < 12
    assert -view_onto(skull.with_data(ball), skull).axes()[2] @ [0, -1, 0] > 0.98


def test_a_patch_without_a_skull_is_seen_from_the_front_or_along_its_normal() -> None:
    skull, plate = shell_and_plate((0, -1, 0))
    view = view_onto(plate, skull.with_data(np.zeros(skull.shape, bool)))
    assert view.axes()[2] @ [0, 1, 0] > 0.98


def test_an_empty_patch_cannot_be_looked_at() -> None:
    skull, _ = shell_and_plate((1, 0, 0))
    with pytest.raises(InputError, match="the patch is empty"):
        view_onto(skull.with_data(np.zeros(skull.shape, bool)), skull)
