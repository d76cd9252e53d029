"""Pictures of shapes whose look is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from calvaria.errors import GeometryError, InputError
from calvaria.report import VIEWS, Layer, render_surfaces
from calvaria.report.render import BACKGROUND
from calvaria.volume import Grid, Volume

GREY = (200, 200, 200)
RED = (220, 30, 30)
BALL_MM = 30.0


def grid_around(
    spacing: tuple[float, float, float], half_mm: float = 45.0, turn: NDArray[np.float64] | None = None
) -> Grid:
    """A grid centred on the world's origin, its axes turned."""
    shape = tuple(int(np.ceil(2 * half_mm / s)) for s in spacing)
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) * spacing
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)  # type: ignore[arg-type]


def ball(grid: Grid, centre: tuple[float, float, float] = (0, 0, 0), radius: float = BALL_MM) -> Volume:
    index = np.indices(grid.shape).reshape(3, -1).T
    inside = np.linalg.norm(grid.to_world(index) - centre, axis=1) < radius
    return Volume(inside.reshape(grid.shape), grid)


def shown(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.abs(picture.astype(int) - BACKGROUND).max(axis=-1) > 12


def reddish(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return picture[..., 0].astype(int) > 1.8 * picture[..., 1]


def middle_of(mask: NDArray[np.bool_]) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


@pytest.mark.parametrize("view", VIEWS)
def test_a_ball_is_round_and_in_the_middle_and_of_the_right_size(view: str) -> None:
    picture = render_surfaces([Layer(ball(grid_around((1, 1, 1))), GREY)], view, 200, span_mm=100.0)
    disc = shown(picture)
    assert middle_of(disc) == pytest.approx((99.5, 99.5), abs=0.7)
    y, x = np.indices(disc.shape)
    truth = np.hypot(x - 99.5, y - 99.5) < BALL_MM * 2
    assert np.count_nonzero(disc ^ truth) < 0.03 * np.count_nonzero(truth)


def test_a_lit_ball_has_smooth_shading_brightest_towards_the_light() -> None:
    picture = render_surfaces([Layer(ball(grid_around((1, 1, 1))), GREY)], "front", 200, span_mm=100.0).astype(float)
    assert picture[80, 80, 0] > picture[120, 120, 0] + 10
    inner = picture[60:140, 60:140, 0]
    assert np.abs(np.diff(inner, axis=0)).max() < 8
    assert np.abs(np.diff(inner, axis=1)).max() < 8


@pytest.mark.parametrize(
    ("view", "marker", "side"),
    [
        ("front", (34, 0, 0), "right"),  # the patient's left
        ("front", (0, 0, 34), "up"),
        ("back", (34, 0, 0), "left"),
        ("left", (0, -34, 0), "left"),  # the face looks to the left
        ("right", (0, -34, 0), "right"),
        ("top", (0, -34, 0), "up"),
        ("top", (34, 0, 0), "left"),
        ("bottom", (34, 0, 0), "right"),
    ],
)
def test_left_and_right_up_and_down_are_not_mirrored(view: str, marker: tuple[float, float, float], side: str) -> None:
    grid = grid_around((1.2, 1.2, 1.2), 50)
    layers = [Layer(ball(grid), GREY), Layer(ball(grid, marker, 8), RED)]
    x, y = middle_of(reddish(render_surfaces(layers, view, 120, span_mm=110.0)))
    offset = {"left": -(x - 59.5), "right": x - 59.5, "up": -(y - 59.5), "down": y - 59.5}
    assert offset[side] > 30
    assert sorted(abs(v) for v in offset.values())[1] < 2


def test_a_patch_is_seen_in_its_colour_only_from_its_side() -> None:
    grid = grid_around((1.2, 1.2, 1.2))
    whole = ball(grid)
    front = np.broadcast_to(
        grid.to_world(np.indices(grid.shape).reshape(3, -1).T)[:, 1].reshape(grid.shape), grid.shape
    )
    patch = whole.with_data(whole.data & (front < -20))
    layers = [Layer(whole.with_data(whole.data & ~patch.data), GREY), Layer(patch, RED)]
    seen = np.count_nonzero(reddish(render_surfaces(layers, "front", 120, span_mm=100.0)))
    assert seen == pytest.approx(np.pi * (BALL_MM**2 - 20**2) * 1.2**2, rel=0.06)
    assert not reddish(render_surfaces(layers, "back", 120, span_mm=100.0)).any()


def test_what_lies_behind_or_inside_bone_is_not_seen() -> None:
    grid = grid_around((1.2, 1.2, 1.2))
    layers = [Layer(ball(grid, (0, -12, 0), 25), GREY), Layer(ball(grid, (0, 30, 0), 8), RED)]
    assert not reddish(render_surfaces(layers, "front", 100)).any()
    assert reddish(render_surfaces(layers, "back", 100)).any()


def test_a_hole_in_a_shell_shows_the_far_wall_and_its_edge() -> None:
    grid = grid_around((1, 1, 1))
    shell = ball(grid).data & ~ball(grid, radius=24).data
    hole = ball(grid, (0, -30, 0), 15).data
    through = render_surfaces([Layer(Volume(shell & ~hole, grid), GREY)], "front", 100, span_mm=80.0)
    closed = render_surfaces([Layer(Volume(shell, grid), GREY)], "front", 100, span_mm=80.0)
    assert shown(through)[50, 50]
    assert through[50, 50].mean() < 0.75 * closed[50, 50].mean()
    both_ends = Volume(shell & ~hole & ~ball(grid, (0, 30, 0), 15).data, grid)
    assert not shown(render_surfaces([Layer(both_ends, GREY)], "front", 100, span_mm=80.0))[45:55, 45:55].any()


TURNED = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()


@pytest.mark.parametrize(
    ("spacing", "turn"),
    [((0.7, 0.7, 2.4), None), ((1, 1, 1), TURNED), ((0.8, 0.9, 2.0), TURNED), ((-1, 1, 1), None), ((1, 1, -1), TURNED)],
)
def test_the_picture_does_not_depend_on_the_grid(spacing: tuple[float, ...], turn: NDArray[np.float64] | None) -> None:
    def picture(grid: Grid) -> NDArray[np.float64]:
        layers = [Layer(ball(grid), GREY), Layer(ball(grid, (20, -20, 15), 14), RED)]
        return render_surfaces(layers, "oblique", 80, span_mm=90.0).astype(float)

    sizes = tuple(abs(s) for s in spacing)
    other = grid_around(sizes, turn=turn).flip(tuple(a for a in range(3) if spacing[a] < 0))  # type: ignore[arg-type]
    difference = np.abs(picture(grid_around((1, 1, 1))) - picture(other)).max(axis=-1)
    assert np.median(difference) <= 1
    assert np.percentile(difference, 97) < 25
    assert difference.mean() < 4


def test_layers_may_lie_on_different_grids() -> None:
    bone, spot = ball(grid_around((1, 1, 1))), ball(grid_around((1.5, 0.9, 1.1), turn=TURNED), (0, -30, 0), 10)
    picture = render_surfaces([Layer(bone, GREY), Layer(spot, RED)], "front", 100, span_mm=100.0)
    assert middle_of(reddish(picture)) == pytest.approx((49.5, 49.5), abs=1)
    assert np.count_nonzero(reddish(picture)) == pytest.approx(np.pi * 10**2, rel=0.15)


def test_a_frame_sets_a_tilted_head_upright() -> None:
    frame = np.eye(4)
    frame[:3, :3] = TURNED
    frame[:3, 3] = (30, -200, 12)
    grid = grid_around((1.1, 1.1, 1.1))
    upright = [Layer(ball(grid), GREY), Layer(ball(grid, (0, -20, 20), 14), RED)]
    tilted = [Layer(Volume(layer.volume.data, layer.volume.grid.moved(frame)), layer.colour) for layer in upright]
    expected = render_surfaces(upright, "left", 80)
    found = render_surfaces(tilted, "left", 80, frame=frame)
    assert np.abs(expected.astype(int) - found).max() < 8


def test_bone_cut_off_by_the_volume_s_edge_is_closed() -> None:
    grid = Grid.isotropic((20, 20, 20), 2.0)
    picture = render_surfaces([Layer(Volume(np.ones(grid.shape, bool), grid), GREY)], "front", 100, span_mm=60.0)
    rows, columns = np.nonzero(shown(picture))
    assert np.ptp(rows) + 1 == pytest.approx(40 / 0.6, abs=3)
    assert np.ptp(columns) + 1 == pytest.approx(40 / 0.6, abs=3)


@pytest.mark.parametrize(("side", "seen"), [(1, False), (3, True)])
def test_a_single_voxel_is_too_small_to_be_drawn_and_a_few_are_not(side: int, seen: bool) -> None:
    grid = Grid.isotropic((side, side, side), 1.0)
    picture = render_surfaces([Layer(Volume(np.ones(grid.shape, np.float32), grid), GREY)], "top", 32)
    assert shown(picture).any() == seen


@pytest.mark.parametrize("empties", [0, 1, 2])
def test_nothing_gives_the_background(empties: int) -> None:
    empty = Volume(np.zeros((5, 5, 5), bool), Grid.isotropic((5, 5, 5), 1.0))
    picture = render_surfaces([Layer(empty, GREY)] * empties, "front", 32, background=(1, 2, 3))
    assert picture.shape == (32, 32, 3)
    assert (picture == (1, 2, 3)).all()


def test_an_empty_layer_changes_nothing() -> None:
    bone = ball(grid_around((2, 2, 2)))
    empty = Layer(bone.with_data(np.zeros(bone.shape, bool)), RED)
    once = render_surfaces([Layer(bone, GREY)], "front", 64)
    np.testing.assert_array_equal(once, render_surfaces([Layer(bone, GREY), empty], "front", 64))


def test_memory_order_changes_nothing() -> None:
    bone = ball(grid_around((1.3, 1.1, 1.2)))
    fortran = bone.with_data(np.asfortranarray(bone.data))
    pictures = [render_surfaces([Layer(v, GREY)], "oblique", 64).astype(int) for v in (bone, fortran)]
    assert np.abs(pictures[0] - pictures[1]).max() <= 2


def test_bad_calls_are_refused() -> None:
    bone = ball(grid_around((4, 4, 4)))
    with pytest.raises(InputError, match="at least 16 pixels a side; got 3"):
        render_surfaces([Layer(bone, GREY)], "front", 3)
    with pytest.raises(InputError, match="positive length in mm; got -1"):
        render_surfaces([Layer(bone, GREY)], "front", 32, span_mm=-1.0)
    with pytest.raises(InputError, match="no view named"):
        render_surfaces([Layer(bone, GREY)], "nowhere", 32)
    with pytest.raises(GeometryError, match="must not mirror"):
        render_surfaces([Layer(bone, GREY)], "front", 32, frame=np.diag([1, 1, -1, 1]))
    with pytest.raises(InputError, match="bone: a colour is three numbers"):
        Layer(bone, (0, 0, 256), "bone")
    with pytest.raises(InputError, match="from 0 to 1; these go from -1000 to 2000"):
        Layer(bone.with_data(np.where(bone.data, 2000, -1000)), GREY)
    with pytest.raises(InputError, match="from 0 to 1"):
        Layer(bone.with_data(np.full(bone.shape, np.nan)), GREY)
    with pytest.raises(InputError, match="got complex128"):
        Layer(bone.with_data(bone.data.astype(complex)), GREY)
