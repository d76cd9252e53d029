"""Basins, curvature and conditions of the symmetry loss, where they are known."""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from tests.heads import SIDE, Head, grid_around, rigid

from calvaria.benchmarks import symmetry_loss
from calvaria.benchmarks.cases import OFFICIAL, Task
from calvaria.benchmarks.symmetry_loss import (
    ARM_MM,
    CHARTS,
    PICTURE,
    SKULLS,
    VIEWS,
    WAYS,
    Behaviour,
    Person,
    View,
    basin,
    behaviour,
    compared,
    condition,
    draw,
    evened,
    hessian,
    jacobians,
    main,
    table,
)
from calvaria.errors import InputError, MissingExtraError
from calvaria.skull.canonical import REGION_MM
from calvaria.symmetry.frame import ARMS_MM, numbers_of, plane_of
from calvaria.symmetry.optimise import Comparison, frame_of, turned
from calvaria.symmetry.plane import Plane
from calvaria.volume import Grid, Volume

COARSE = View("calvaria", 8.0, 9.0, REGION_MM)
"""A cheap view."""

SHORT = tuple(way._replace(reach=4) for way in WAYS)
"""A few offsets."""

POSE = rigid((0, 2, -3), (5, 0, 0))
"""Where that person's head lies."""

YAW, ROLL, SHIFT = range(3)


def shell(axes_mm: tuple[float, float, float], to_world: np.ndarray, spacing_mm: float = 4.0) -> Volume:
    """Bone fractions of an ellipsoid's shell, 8 mm thick, in a pose."""
    grid = grid_around(to_world, (spacing_mm,) * 3)
    points = (grid.centres_mm() - to_world[:3, 3]) @ to_world[:3, :3]
    rho = np.sqrt(((points / axes_mm) ** 2).sum(axis=-1))
    depth = (1 - rho) * np.linalg.norm(points, axis=-1) / np.maximum(rho, 0.1)
    return Volume(np.clip(0.5 + (4.0 - np.abs(depth - 4.0)) / spacing_mm, 0, 1).astype(np.float32), grid)


def half(way: int, one: Behaviour) -> float:
    return basin(WAYS[way].offsets, one.curves[way])


@lru_cache(maxsize=1)
def even_head() -> Behaviour:
    """A head whose sides are alike, in a pose of its own."""
    pose = rigid((0, 4, -6), (20, -15, 10))
    bone = Head(20, even=True).soft(grid_around(pose, (3.0, 3.0, 3.0)), pose)
    return behaviour(bone, COARSE, pose, pose[:3, 3])


@lru_cache(maxsize=1)
def person() -> Person:
    """An even head, and the same with a hole in its side, in every view, at a few offsets."""
    grid = grid_around(POSE, (5.0, 5.0, 5.0))
    whole, holed = (Head(20, holes, even=True).soft(grid, POSE) for holes in ((), (SIDE,)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(symmetry_loss, "WAYS", SHORT)
        patched.setattr(symmetry_loss, "VIEWS", tuple(view._replace(spacing_mm=15.0) for view in VIEWS))
        return compared(whole, holed, POSE)


@pytest.fixture
def short_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """The offsets at which `person` was looked at."""
    monkeypatch.setattr(symmetry_loss, "WAYS", SHORT)


# ---- the numbers told


@pytest.mark.parametrize(
    ("losses", "wanted"),
    [
        ([9, 4, 1, 0, 1, 4, 9], 3),
        ([9, 4, 1, 0, 1, 1, 9], 1),  # a step is no slope
        ([1, 4, 1, 0, 1, 4, 9], 2),
        ([9, 8, 7, 6, 3, 2, 4], 3),  # the valley's floor lies beside 0: from both ends the way leads down to it
        ([9, 8, 7, 6, 5, 4, 3], 3),
        ([0, 1, 2, 3, 2, 1, 0], 0),  # a hill
        ([1, 1, 1, 1, 1, 1, 1], 0),
    ],
)
def test_known_basins(losses: list[float], wanted: float) -> None:
    offsets = np.arange(-3.0, 4.0)
    assert basin(offsets, np.array(losses, float)) == wanted
    assert basin(offsets, np.array(losses[::-1], float)) == wanted


@given(st.integers(1, 39), st.floats(-0.4, 0.4))
def test_a_wave_falls_for_half_its_length(half_length: int, aside: float) -> None:
    offsets = np.arange(-40.0, 41.0)
    losses = -np.cos(np.pi * (offsets - aside) / half_length)
    assert basin(offsets, losses) == pytest.approx(half_length, abs=1.0)


@given(hnp.arrays(np.float64, (3, 3), elements=st.floats(-2, 2)), hnp.arrays(np.float64, 3, elements=st.floats(-2, 2)))
def test_the_second_derivatives_of_a_square_form_are_exact(form: np.ndarray, slope: np.ndarray) -> None:
    found = hessian(lambda step: float(step @ form @ step + slope @ step + 3.0))
    np.testing.assert_allclose(found, form + form.T, rtol=1e-9, atol=1e-7)


def test_known_conditions() -> None:
    assert condition(np.diag([2.0, 8.0, 4.0])) == pytest.approx(4)
    assert condition(np.diag([0.0, 8.0, 4.0])) == np.inf
    assert condition(np.diag([-1.0, 8.0, 4.0])) == np.inf
    np.testing.assert_allclose(evened(np.array([[4.0, 3.0], [3.0, 9.0]])), [[1.0, 0.5], [0.5, 1.0]])
    np.testing.assert_array_equal(evened(np.diag([0.0, 2.0])), np.diag([0.0, 2.0]))


# ---- the numbers that stand for a plane


def test_from_the_heads_middle_tilt_and_offset_go_apart_and_from_afar_they_do_not() -> None:
    frame = rigid((0, 0, 0), (7, 0, 0))
    network, one_arm, world, scaled = jacobians(frame, frame[:3, 3])
    # u tilts to +y: a turn about z, of 10 mm at the arm; v to +z: a turn about -y.
    np.testing.assert_allclose(network, [[0, 10 / ARMS_MM[1], 0], [-10 / ARMS_MM[0], 0, 0], [0, 0, 10]], atol=1e-6)
    np.testing.assert_allclose(one_arm, [[0, 10 / ARM_MM, 0], [-10 / ARM_MM, 0, 0], [0, 0, 10]], atol=1e-6)
    np.testing.assert_allclose(world, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(scaled, np.diag([1 / ARM_MM, 1 / ARM_MM, 1]), atol=1e-6)
    frame[:3, 3] = 7, 500, 0
    _, _, world, scaled = jacobians(frame, frame[:3, 3])
    # A turn about z by half a degree, the offset kept, moves a head 500 mm behind the origin by 4 mm.
    assert world[SHIFT] @ [0, np.radians(0.5), 0] == pytest.approx(-4.36, abs=0.01)
    np.testing.assert_allclose(world, [[1, 0, 0], [0, 1, 0], [0, -500, 1]], atol=1e-4)
    far = 500 / ARM_MM
    both = [(2 + far**2 + sign * far * np.sqrt(4 + far**2)) / 2 for sign in (1, -1)]
    even = np.diag([ARM_MM**2, ARM_MM**2, 1.0])
    assert condition(scaled.T @ even @ scaled) == pytest.approx(both[0] / both[1], rel=1e-4)


def test_the_curvature_along_the_networks_numbers_is_that_of_the_loss() -> None:
    pose = rigid((0, 4, -6), (20, -15, 10))
    bone = shell((60.0, 90.0, 75.0), pose)
    level = Comparison.build(bone, REGION_MM, COARSE.blur_mm, COARSE.spacing_mm)
    centre = pose[:3, 3] + [3.0, 10.0, -20.0]
    plane = Plane(pose[:3, 0], float(pose[:3, 0] @ pose[:3, 3]))
    here = numbers_of(plane, centre)

    def loss(numbers: np.ndarray) -> float:
        return level.loss(frame_of(plane_of(numbers, centre), pose[:3, 3], pose[:3, 2].tolist()))

    step = 0.05 * np.eye(3)
    direct = [(loss(here + one) - 2 * loss(here) + loss(here - one)) / 0.05**2 for one in step]
    network = jacobians(pose, centre)[0]
    local = hessian(lambda offset: level.loss(turned(pose, offset)))
    np.testing.assert_allclose(np.diag(network.T @ local @ network), direct, rtol=0.05)


# ---- the loss


def test_an_even_heads_loss_is_least_at_its_plane_and_falls_towards_it() -> None:
    found = even_head()
    for way, curve in zip(WAYS, found.curves, strict=True):
        assert curve.shape == way.offsets.shape
        assert way.offsets[curve.argmin()] == 0
        np.testing.assert_allclose(curve, curve[::-1], atol=0.02)  # voxels lie otherwise on the other side
        assert curve.max() > 20 * curve.min()
    assert found.curves[0][WAYS[0].reach] < 1e-3
    assert half(YAW, found) > 20
    assert half(ROLL, found) == half(SHIFT, found) == 20
    assert (found.curvature > 0).all()
    assert found.least.plane.angle_deg(Plane(rigid((0, 4, -6))[:3, 0], 0.0)) < 0.2
    assert found.least.loss <= min(curve.min() for curve in found.curves)


def test_a_ball_has_no_best_angle_but_a_best_offset() -> None:
    found = behaviour(shell((70.0, 70.0, 70.0), np.eye(4)), COARSE, np.eye(4), np.zeros(3))
    assert found.curves[YAW].max() < 0.005
    assert found.curves[ROLL].max() < 0.005
    assert found.curves[SHIFT][[0, -1]].min() > 0.2
    assert half(SHIFT, found) == 20
    assert found.curvature[SHIFT] > 10 * np.abs(found.curvature[[YAW, ROLL]]).max()


def test_a_long_head_looks_even_from_the_side_too() -> None:
    found = behaviour(shell((60.0, 80.0, 70.0), np.eye(4)), COARSE, np.eye(4), np.zeros(3))
    assert found.curves[YAW][[0, -1]].max() < 0.02  # the plane between front and back
    assert half(YAW, found) == pytest.approx(45, abs=5)
    assert found.curvature[YAW] > found.curvature[ROLL] > 0  # 60 : 80 is less round than 60 : 70
    ten = [curve[way.reach + 10] for way, curve in zip(WAYS, found.curves, strict=True)]
    assert ten[YAW] > 1.5 * ten[ROLL]


def test_only_the_networks_numbers_do_not_mind_where_the_head_lies() -> None:
    conditions = []
    for away in ((0.0, 0.0, 0.0), (0.0, 300.0, 400.0)):
        pose = rigid((0, 0, 0), away)
        conditions.append(behaviour(shell((60.0, 90.0, 75.0), pose), COARSE, pose, pose[:3, 3]).conditions)
    near, far = (dict(zip(CHARTS, values, strict=True)) for values in conditions)
    assert far["network"] == pytest.approx(near["network"], rel=0.01)
    assert far["network, evened"] == pytest.approx(near["network, evened"], rel=0.01)
    # The window ends below the middle, so that a roll about it shifts what is seen: not 1, but little.
    assert 1 < near["network, evened"] < 5
    assert far["world, mm"] > 100 * near["world, mm"]
    assert far["world, evened"] > 100 * near["world, evened"]
    assert far["world"] > far["world, mm"]


def test_a_hole_moves_the_minimum_and_most_where_bone_is_blurred_most() -> None:
    found = person()
    assert len(found.skulls) == len(SKULLS)
    assert all(len(skull) == len(VIEWS) for skull in found.skulls)
    degrees, mm = found.moved[:3].T
    assert degrees.min() > 0
    assert degrees[2] > 2 * degrees[:2].max()
    planes = [[one.least.plane for one in skull] for skull in found.skulls]
    middle = POSE[:3] @ [0.0, 0.0, 20.0, 1.0]
    apart = [one.apart_mm(other, middle) for one, other in zip(*planes, strict=True)]
    np.testing.assert_allclose(mm, apart[:3], atol=0.05)
    assert 0 < mm.max() < 3
    assert all(one.least.loss < other.least.loss for one, other in zip(*found.skulls, strict=True))


def test_no_hole_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symmetry_loss, "WAYS", SHORT)
    monkeypatch.setattr(symmetry_loss, "VIEWS", (COARSE,))
    bone = Head(21).soft(grid_around(None, (5.0, 5.0, 5.0)))
    found = compared(bone, bone, np.eye(4))
    np.testing.assert_allclose(found.moved, 0, atol=1e-6)
    assert found.skulls[0][0].least.loss == found.skulls[1][0].least.loss > 1e-4  # its sides differ


def test_without_bone_there_is_no_centre() -> None:
    empty = Volume(np.zeros((20, 20, 20), np.float32), Grid.isotropic((20, 20, 20), 5.0))
    with pytest.raises(InputError, match="there is no bone"):
        compared(empty, empty, np.eye(4))


# ---- table, figure, command


@pytest.mark.usefixtures("short_ways")
def test_the_table_has_a_line_for_each_view() -> None:
    one = person()
    lines = table([one, one])
    assert lines[0].startswith("persons: 2; from the world's origin to the head's centre: ")
    assert lines[0].endswith(f"{one.far_mm:.0f} mm, at most {one.far_mm:.0f} mm")
    for view in VIEWS:
        of_view = [line for line in lines if line.startswith(view.name)]
        assert len(of_view) == 3 * len(SKULLS) + 1
        moved = of_view[-1][len(view.name) :].split()
        wanted = one.moved[VIEWS.index(view)]
        assert [float(cell) for cell in moved] == pytest.approx(
            [wanted[0], 0, wanted[0], wanted[1], 0, wanted[1]], abs=0.006
        )
    assert max(map(len, lines)) <= 130


@pytest.mark.usefixtures("short_ways")
def test_the_figure_shows_every_loss() -> None:
    one = person()
    double = tuple(
        tuple(
            Behaviour(tuple(3 * curve for curve in seen.curves), seen.least, seen.curvature, seen.conditions)
            for seen in skull
        )
        for skull in one.skulls
    )
    panels = draw([one, Person(one.far_mm, double, one.moved)]).axes
    assert len(panels) == len(WAYS) * len(SKULLS)
    for number, panel in enumerate(panels):
        lines, bands = panel.get_lines(), panel.collections
        assert len(lines) == len(bands) == len(VIEWS)
        for view, line, band in zip(range(len(VIEWS)), lines, bands, strict=True):
            curve = one.skulls[number % len(SKULLS)][view].curves[number // len(SKULLS)]
            np.testing.assert_allclose(line.get_ydata(), 2 * curve)
            edge = band.get_paths()[0].vertices[:, 1]
            ends = (2 - np.sqrt(2)) * curve.min(), (2 + np.sqrt(2)) * curve.max()  # one sd below and above the mean
            assert (edge.min(), edge.max()) == pytest.approx(ends)
            assert line.get_linestyle() == ("-" if VIEWS[view].region == REGION_MM else "--")
        low, high = panel.get_ylim()
        assert low == 0
        assert high >= max(line.get_ydata().max() for line in lines)


@pytest.mark.usefixtures("short_ways")
def test_the_command_prints_the_table_and_writes_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(symmetry_loss, "tasks_of", lambda *_: [Task("a", OFFICIAL), Task("b", OFFICIAL)])
    monkeypatch.setattr(symmetry_loss, "person_of", lambda task: person())
    main(["--data", str(tmp_path), "-o", str(tmp_path / "new" / "folder")])
    told = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\[1 of 2, \d+ s left\]", told[0])
    assert told[1] == "[2 of 2]"
    assert told[2:-1] == table([person(), person()])
    with Image.open(tmp_path / "new" / "folder" / PICTURE) as picture:
        assert picture.format == "PNG"
        assert (np.asarray(picture.convert("L")) < 250).mean() > 0.01
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == [PICTURE]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--limit", "0"], "--limit is 1 or more; got 0"),
        (["--jobs", "-2"], "--jobs is 1 or more; got -2"),
        ([], "not-there"),
    ],
)
def test_a_bad_call_is_refused(tmp_path: Path, more: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        main(["--data", str(tmp_path / "not-there"), "-o", str(tmp_path / "out"), *more])
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_folders_place_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symmetry_loss, "tasks_of", lambda *_: [Task("a", OFFICIAL)])
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="out: a file stands where the folder"):
        main(["--data", str(tmp_path), "-o", str(tmp_path / "out")])
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


def test_without_matplotlib_it_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symmetry_loss, "tasks_of", lambda *_: [Task("a", OFFICIAL)])
    monkeypatch.setattr(symmetry_loss, "person_of", lambda task: pytest.fail("worked"))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'calvaria\[figures\]'"):
        main(["--data", str(tmp_path), "-o", str(tmp_path / "out")])


def test_nobody_gives_nothing_to_tell() -> None:
    with pytest.raises(InputError, match="no person for the table"):
        table([])
    with pytest.raises(InputError, match="no person to draw"):
        draw([])
