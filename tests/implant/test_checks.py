"""Every check passes for a good implant, and each fails or warns for one that is spoiled in its way."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from tests.implant.caps import fine_cap, in_design, polar, the_cap, thinned, with_body
from tests.implant.shapes import OUTER_MM, cap

from calvaria.implant.checks import DENSITIES, check, percentile, share_within, watertight
from calvaria.implant.parts import Check, Design, Part, Relief
from calvaria.implant.settings import ImplantSettings
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.volume import Mesh

ORDER = (
    "watertight",
    "components",
    "thickness, smallest",
    "thickness, largest",
    "thickness as asked",
    "thinnest wall",
    "overlap with bone",
    "clearance, smallest",
    "clearance, mean",
    "clearance, largest",
    "clearance as asked",
    "insertion path, smallest clearance",
    "relief for insertion, depth",
    "relief for insertion, volume",
    "left out as too narrow",
    "outer step at the rim",
    "change of curvature at the rim",
    "symmetry of the completed head",
    "outer area",
    "size class",
    "volume",
    "length, width, height",
    "fits a printer",
    "mass in PEEK",
    "mass in PMMA",
    "mass in PEKK",
    "mass in Ti-6Al-4V",
)


@lru_cache(maxsize=1)
def good() -> Design:
    return check(fine_cap())


def named(design: Design) -> dict[str, Check]:
    return {one.name: one for one in design.checks}


def checks_of(part: Part, **settings: object) -> dict[str, Check]:
    """What is said of a part, but for what takes long and is not about it."""
    return named(check(replace(in_design(part), settings=ImplantSettings(**settings))))  # type: ignore[arg-type]


def scaled(part: Part, add_mm: float) -> Part:
    """The body moved along the radii."""
    arm = part.body.vertices_mm - HEAD_CENTRE_MM
    radius = np.linalg.norm(arm, axis=1, keepdims=True)
    return with_body(part, HEAD_CENTRE_MM + arm * (1 + add_mm / radius))


def test_a_good_implant_passes_every_check_in_the_order_of_reading():
    design = good()
    assert tuple(one.name for one in design.checks) == ORDER
    assert {one.verdict for one in design.checks} == {"pass"}
    assert not design.failed
    assert all(one.part == "implant" for one in design.checks)
    assert all(one.source for one in design.checks)
    assert len(design.maps) == 1
    assert len(design.maps[0].thickness_mm) == len(the_cap().body.vertices_mm)
    found = named(design)
    assert found["thickness, smallest"].value == pytest.approx(4.0, abs=0.02)
    assert found["clearance, mean"].value == pytest.approx(0.68, abs=0.06)
    assert found["thinnest wall"].value == pytest.approx(4.0, abs=0.05)
    assert found["symmetry of the completed head"].value is None  # the other side is not in this scan
    assert found["size class"].value == "large"
    for material, density in DENSITIES.items():
        assert found[f"mass in {material}"].value == pytest.approx(density * the_cap().mesh.volume_ml, abs=1e-3)


def test_the_whole_ball_is_symmetric():
    found = named(check(cap()))["symmetry of the completed head"]
    assert found.verdict == "pass"
    assert 0 <= float(str(found.value)) < 0.3


def test_an_open_mesh_is_not_watertight():
    mesh = the_cap().mesh
    holed = Mesh(mesh.vertices_mm, mesh.faces[10:])
    assert watertight(mesh)
    assert not watertight(holed)
    assert not watertight(mesh.flipped())
    assert not watertight(Mesh.empty())
    found = named(check(in_design(replace(the_cap(), mesh=holed, body=holed))))
    assert found["watertight"].verdict == "fail"
    assert found["overlap with bone"].verdict == "fail"
    assert found["overlap with bone"].value is None


def test_two_pieces_are_too_many():
    mesh = the_cap().mesh
    away = Mesh(
        np.concatenate([mesh.vertices_mm, mesh.vertices_mm + np.array([40.0, 0, 0])]),
        np.concatenate([mesh.faces, mesh.faces + len(mesh.vertices_mm)]),
    )
    found = checks_of(replace(the_cap(), mesh=away))
    assert (found["components"].value, found["components"].verdict) == (2, "fail")
    assert found["watertight"].verdict == "pass"


def test_a_part_moved_into_bone_fails_where_it_must():
    found = checks_of(with_body(the_cap(), the_cap().body.vertices_mm + np.array([0.0, 2.0, 0.0])))
    assert found["overlap with bone"].verdict == "fail"
    assert float(str(found["overlap with bone"].value)) > 0.1
    assert found["clearance, smallest"].verdict == "fail"
    assert found["clearance as asked"].verdict == "warn"
    assert found["insertion path, smallest clearance"].verdict == "fail"


def test_more_clearance_than_asked_for_is_a_warning():
    found = checks_of(replace(the_cap(), asked_mm=the_cap().asked_mm - 0.35))
    assert found["clearance, smallest"].verdict == "pass"
    assert found["clearance as asked"].verdict == "warn"


def test_an_implant_that_cannot_be_put_in_fails():
    found = checks_of(replace(the_cap(), direction=np.array([1.0, 0.0, 0.0])))
    assert found["insertion path, smallest clearance"].verdict == "fail"
    assert found["overlap with bone"].verdict == "pass"


def test_a_way_in_closer_than_the_clearance_is_a_warning():
    found = checks_of(the_cap(), clearance_mm=0.7)
    assert found["insertion path, smallest clearance"].verdict == "pass"
    wide = replace(the_cap(), asked_mm=the_cap().asked_mm + 1.0)
    found = checks_of(wide, clearance_mm=1.7)
    assert found["insertion path, smallest clearance"].verdict == "warn"
    assert found["clearance, smallest"].verdict == "fail"


def test_a_thinned_body_fails_and_a_thin_spot_warns():
    found = checks_of(thinned(the_cap(), 1.0))
    assert found["thickness as asked"].verdict == "fail"
    assert found["thickness, smallest"].verdict == "warn"
    spot = checks_of(thinned(the_cap(), 1.0, 3.0))
    assert spot["thickness as asked"].verdict == "pass"
    assert spot["thickness, smallest"].verdict == "warn"
    assert spot["thinnest wall"].verdict == "pass"
    hollow = checks_of(thinned(the_cap(), 3.4, 4.0))
    assert hollow["thickness, smallest"].verdict == "fail"
    assert hollow["thinnest wall"].verdict == "fail"
    assert hollow["thinnest wall"].value == pytest.approx(0.6, abs=0.1)


def test_a_flange_may_be_as_thin_as_asked_for():
    part = thinned(the_cap(), 3.0, 4.0)
    found = checks_of(part, flange_width_mm=6.0, flange_mm=1.0)
    assert found["thinnest wall"].verdict == "pass"


def test_a_flange_along_the_edge_is_no_part_of_the_thickness():
    radius, angle = polar(the_cap().body.vertices_mm)
    near = (radius > OUTER_MM - 2.0) & (angle > angle.max() - 10.0 / OUTER_MM)
    arm = the_cap().body.vertices_mm - HEAD_CENTRE_MM
    thick = with_body(the_cap(), HEAD_CENTRE_MM + arm * np.where(near, 1 + 1.0 / radius, 1.0)[:, None])
    found = checks_of(thick)
    assert found["thickness as asked"].verdict == "fail"
    assert found["outer step at the rim"].verdict != "pass"
    found = checks_of(thick, flange_width_mm=4.0, flange_mm=1.0)
    assert found["thickness as asked"].verdict == "pass"
    assert found["outer step at the rim"].verdict == "pass"


def test_a_step_at_the_rim_warns_and_a_large_one_fails():
    assert checks_of(scaled(the_cap(), -0.6))["outer step at the rim"].verdict == "warn"
    assert checks_of(scaled(the_cap(), -0.6), offset_mm=0.6)["outer step at the rim"].verdict == "pass"
    large = checks_of(scaled(the_cap(), 1.4))["outer step at the rim"]
    assert (large.verdict, large.value) == ("fail", pytest.approx(1.4, abs=0.1))


def test_a_kink_at_the_rim_warns():
    arm = the_cap().body.vertices_mm - HEAD_CENTRE_MM
    radius, angle = polar(the_cap().body.vertices_mm)
    inside = np.maximum(angle.max() - angle, 0.0) * OUTER_MM
    bent = with_body(the_cap(), HEAD_CENTRE_MM + arm * (1 + 0.025 * inside**2 / radius)[:, None])
    assert checks_of(bent)["change of curvature at the rim"].verdict == "warn"


def test_an_asymmetric_head_is_a_warning():
    bulged = replace(cap(), parts=(scaled(the_cap(), 6.0),))
    assert named(check(bulged))["symmetry of the completed head"].verdict == "warn"


def test_much_relief_and_much_left_out_are_warnings():
    found = checks_of(replace(the_cap(), relief=Relief(2.5, 3.0, 1.0)))
    assert found["relief for insertion, depth"].value == 2.5
    assert found["relief for insertion, volume"].verdict == "warn"
    assert found["left out as too narrow"].verdict == "warn"


def test_what_no_printer_holds_and_nobody_cleared_is_a_warning():
    arm = the_cap().mesh.vertices_mm - HEAD_CENTRE_MM
    grown = Mesh(HEAD_CENTRE_MM + arm * [1.0, 4.0, 4.0], the_cap().mesh.faces)
    found = checks_of(replace(the_cap(), mesh=grown))
    assert found["fits a printer"].verdict == "warn"
    assert found["fits a printer"].value is False
    assert found["length, width, height"].verdict == "warn"


def test_implants_that_share_a_place_fail():
    part = the_cap()
    twin = replace(part, name="implant-2")
    both = replace(fine_cap(), parts=(replace(part, name="implant-1"), twin))
    design = check(both)
    shared = [one for one in design.checks if one.name == "overlap with other implants"]
    assert [one.verdict for one in shared] == ["fail", "fail"]
    assert shared[0].value == pytest.approx(part.mesh.volume_ml, rel=0.01)
    assert {one.part for one in design.checks} == {"implant-1", "implant-2"}
    assert len(design.maps) == 2


def test_without_any_bone_nothing_is_claimed():
    bare = replace(fine_cap(), bone=fine_cap().bone.with_data(np.zeros(fine_cap().bone.shape, bool)))
    found = named(check(bare))
    assert found["insertion path, smallest clearance"].value is None
    assert found["clearance, smallest"].verdict == "warn"
    assert found["outer step at the rim"].value is None


def test_shares_and_percentiles():
    off = np.array([0.0, 0.19, -0.21, 1.0])
    assert share_within(off, np.ones(4)) == 0.5
    assert share_within(off, np.array([1.0, 1, 0, 0])) == 1.0
    assert np.isnan(share_within(off, np.zeros(4)))
    assert percentile(np.array([np.nan, -2.0, 2.0])) == 2.0
    assert percentile(np.array([1.0, -2.0, 9.0]), 50) == 2.0
    assert percentile(np.full(3, np.nan)) is None
