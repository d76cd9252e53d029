"""The picture of a design: the implants are where they are, and their maps have the colours of their values."""

import dataclasses
from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.implant.shapes import cap, edge_deg

from calvaria.errors import InputError
from calvaria.implant.parts import Check, Design, Maps
from calvaria.implant.settings import ImplantSettings
from calvaria.report import design_picture, design_sheet, render_design
from calvaria.report.design_mesh import fewer
from calvaria.report.design_picture import _Side, _Stage
from calvaria.report.design_scene import clearance_scale, directions_of, rest_of_skull, thickness_scale
from calvaria.report.design_sheet import verdict
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.volume.mesh import Mesh


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(design_picture, "CELL_PX", (200, 180))
    monkeypatch.setattr(design_picture, "PLOT_PX", 60)
    monkeypatch.setattr(design_picture, "BAR_PX", 40)


@lru_cache
def light() -> Design:
    """The same with a twentieth of the bone's triangles."""
    return dataclasses.replace(cap(), host=fewer(cap().host, 20_000))


@lru_cache
def mapped() -> Design:
    """Thinner below the middle than above it, tight there and wide above."""
    design = light()
    part = design.parts[0]
    arm = part.body.vertices_mm - HEAD_CENTRE_MM
    wall = np.abs(np.arccos(arm[:, 0] / np.linalg.norm(arm, axis=1)) - np.radians(edge_deg())) < 0.004
    above = arm[:, 2] > 0
    maps = Maps(np.where(wall, np.nan, np.where(above, 5.0, 3.0)), np.where(wall, np.where(above, 1.4, 0.05), np.nan))
    return dataclasses.replace(design, maps=(maps,))


@lru_cache
def two_sided() -> Design:
    """The same implant again, on the other side of the ball."""
    design = light()
    part = design.parts[0]
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = 2 * HEAD_CENTRE_MM[0]
    mesh = part.mesh.moved(mirror)
    other = dataclasses.replace(part, name="implant-2", mesh=mesh, body=mesh, direction=-part.direction)
    return dataclasses.replace(design, parts=(dataclasses.replace(part, name="implant-1"), other))


def side(design: Design) -> _Side:
    return _Side(_Stage.of(design), tuple(directions_of(design)[0]))


def share(picture: NDArray[np.uint8], colour: str) -> float:
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    found = {
        "orange": (red > 1.8 * blue) & (red > 1.3 * green) & (red > 60),
        "teal": (green > 1.5 * red) & (blue > 1.4 * red) & (green > 60),
        "bone": (np.abs(red - green) < 0.15 * red) & (blue < 0.97 * red) & (red > 70),
        "arrow": (blue > 1.7 * red) & (blue > 1.15 * green) & (blue > 80),
        "yellow": (red > 2 * blue) & (green > 1.6 * blue) & (red > 60),
        "violet": (blue > 1.4 * green) & (blue > 1.2 * red) & (red > green),
    }
    return float(found[colour].mean())


def cells(design: Design) -> NDArray[np.uint8]:
    """(rows, columns, height, width, 3)."""
    pixels = np.asarray(render_design(design))
    (width, height), gap = design_picture.CELL_PX, design_sheet.GAP_PX
    tops = range(design_sheet.HEADER_PX, pixels.shape[0] - design_sheet.FOOTER_PX - height, height + gap)
    lefts = range(gap, pixels.shape[1] - width, width + gap)
    return np.array([[pixels[top : top + height, left : left + width] for left in lefts] for top in tops])


def test_the_implant_is_seen_in_place_on_the_head_and_on_its_way_in():
    shown = cells(mapped())
    assert shown.shape[:2] == (2, 3)
    in_place, on_the_head, drawn_out, _, _, inner = shown.reshape(-1, *shown.shape[2:])
    assert share(in_place, "orange") > 0.3
    assert share(in_place, "bone") > 0.05
    assert 0.02 < share(on_the_head, "orange") < share(on_the_head, "bone")
    assert share(drawn_out, "arrow") > 0.002
    assert share(drawn_out, "orange") > 0.03
    assert max(share(one, "arrow") for one in (in_place, on_the_head, inner)) == 0
    assert share(inner, "orange") > 0.25
    assert share(inner, "bone") < 0.01


def test_implants_on_two_sides_are_each_seen_from_theirs():
    shown = cells(two_sided())
    assert shown.shape[:2] == (4, 3)
    for rows, own, other in ((shown[:2], "orange", "teal"), (shown[2:], "teal", "orange")):
        assert share(rows[1, 2], own) > 0.25  # the inner side of this one alone
        assert share(rows[0, 0], other) == share(rows[1, 2], other) == 0


def test_the_head_is_seen_the_right_way_round():
    one = side(mapped())
    assert one.in_place().view.letters() == ("A", "P")  # the implant is at the left of the head
    assert one.inner().view.letters() == ("P", "A")
    turned = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])  # the head faces the world's +x
    assert side(dataclasses.replace(mapped(), frame_to_world=turned)).in_place().view.letters() == ("R", "L")


def test_the_colours_of_the_maps_are_those_of_their_values():
    one = side(mapped())
    thickness, clearance = one.thickness(), one.clearance()
    middle = thickness.picture.shape[0] // 2
    assert share(thickness.picture[:middle], "yellow") > 0.2
    assert share(thickness.picture[middle:], "violet") > 0.2
    assert share(thickness.picture[middle + 5 :], "yellow") == share(thickness.picture[: middle - 5], "violet") == 0
    middle = clearance.picture.shape[0] // 2
    above, below = (half.astype(int) for half in (clearance.picture[: middle - 5], clearance.picture[middle + 5 :]))
    assert (above[..., 2] > 1.6 * above[..., 0]).sum() > 80  # wide: blue
    assert (below[..., 0] > 2.0 * below[..., 2]).sum() > 80  # tight: red
    assert (above[..., 0] > 2.0 * above[..., 2]).sum() == 0
    assert thickness.note == "3.00 to 5.00 mm"
    assert clearance.note == "0.05 to 1.40 mm"


def test_the_plot_follows_the_rim():
    one = side(mapped())
    line = design_picture._along_rim(one.stage.design.parts[0], one.stage.design.maps[0])
    assert len(line) == 1
    along, least, most = line[0]
    edge = np.radians(edge_deg())
    assert along[-1] == pytest.approx(2 * np.pi * 80 * np.sin(edge), rel=0.01)
    assert (least <= most).all()
    quarter = len(along) // 4  # the outline begins at +y and goes up first
    assert least[quarter] == pytest.approx(1.4)
    assert most[3 * quarter] == pytest.approx(0.05)
    assert one.clearance().plot is not None


def test_without_maps_the_pictures_say_so():
    one = side(light())
    assert one.thickness().note == one.clearance().note == "not measured: the design has no map of it"
    assert one.thickness().scale is None
    assert share(one.thickness().picture, "yellow") == 0


def test_scales_hold_what_was_asked_and_what_was_found():
    design = mapped()
    thickness, clearance = thickness_scale(design), clearance_scale(design)
    assert (thickness.values[0], thickness.values[-1], thickness.mark_mm) == (3.0, 5.0, 4.0)
    assert clearance.values == pytest.approx((0, 0.35, 0.7, 1.05, 1.4))
    ivory = clearance.colours_of([0.7])[0]
    assert ivory.min() > 200
    assert clearance.colours_of([np.nan]).tolist() == [list(map(float, design_picture.UNKNOWN))]
    bone = dataclasses.replace(design, settings=ImplantSettings(thickness="bone", widening_mm=1.0))
    assert thickness_scale(bone).mark_mm is None
    assert thickness_scale(dataclasses.replace(design, surface_from="learned")).mark_mm is None
    assert clearance_scale(bone).values[-1] == pytest.approx(2.4)


def test_the_rest_of_the_skull_begins_where_the_bone_around_the_hole_ends():
    design = cap()
    assert rest_of_skull(design).is_empty  # the bone around the hole is the whole ball
    vertices, faces = design.host.vertices_mm, design.host.faces
    near = vertices[:, 0] > HEAD_CENTRE_MM[0] + 20
    half = dataclasses.replace(design, host=Mesh(vertices, faces[near[faces].all(axis=1)]))
    half = dataclasses.replace(half, host=half.host.shells[0])
    rest = rest_of_skull(half)
    reach = rest.vertices_mm[:, 0] - HEAD_CENTRE_MM[0]
    assert reach.min() == pytest.approx(-80, abs=2)
    assert 18 < reach.max() < 28


def check(verdict: str, name: str) -> Check:
    return Check(name, 1.0, "mm", "at most 0.3", verdict, "ours")  # type: ignore[arg-type]  # one of the three words


@pytest.mark.parametrize(
    ("verdicts", "text"),
    [
        ((), "not checked"),
        (("pass", "pass"), "all 2 checks passed"),
        (("pass", "warn"), "to be looked at: check 1"),
        (("warn", "fail", "fail", "fail"), "FAILED: check 1, check 2 and 1 more"),
    ],
)
def test_the_sheet_says_what_the_checks_found(verdicts, text):
    checks = tuple(check(verdict, f"check {n}") for n, verdict in enumerate(verdicts))
    assert verdict(dataclasses.replace(light(), checks=checks))[0] == text


def test_a_design_without_implants_is_refused():
    with pytest.raises(InputError, match="there is no implant in this design: there is nothing to draw"):
        render_design(dataclasses.replace(light(), parts=()))


def test_an_arrow_is_a_closed_body_that_points_the_way_in():
    direction = np.array([0.0, 0.6, -0.8])
    arrow = design_picture._arrow(np.zeros((1, 3)), direction)
    assert arrow.is_closed
    assert arrow.volume_ml > 0
    along = arrow.vertices_mm @ direction
    assert along.max() == pytest.approx(-design_picture.ARROW_GAP_MM)
    assert np.ptp(along) == pytest.approx(design_picture.ARROW_MM)
