"""Holes and seats: how many, where, how wide, how deep; what does not fit is said."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree
from tests.implant import domes
from tests.implant.domes import RADIUS_MM, dome, ring
from tests.implant.shapes import cap

from calvaria.errors import InputError
from calvaria.implant.details import (
    MIN_FLOOR_MM,
    PILOT_DEPTH_MM,
    SEAT_DEPTH_MM,
    detailed,
    finished,
    hexagonal,
)
from calvaria.implant.places import Places
from calvaria.implant.settings import ImplantSettings
from calvaria.implant.solids import to_mesh
from calvaria.skull.head import HEAD_CENTRE_MM

INSET_MM = 2 * domes.INSET_MM
"""What the pieces that were cut out lack in depth: at both ends."""

HOLES = ImplantSettings(perforations=True)


def removed(part, bevel_deg=0.0):
    """What was cut out of a dome: (N, 3) vertices of each piece from the head's centre, and their volumes, mm3."""
    pieces = domes.removed(part, bevel_deg)
    return [to_mesh(one).vertices_mm - HEAD_CENTRE_MM for one in pieces], np.array([one.volume() for one in pieces])


def middles(pieces):
    """(N, 3) where pieces lie on the outer surface."""
    mean = np.array([(piece.max(axis=0) + piece.min(axis=0)) / 2 for piece in pieces])
    return RADIUS_MM * mean / np.linalg.norm(mean, axis=1, keepdims=True)


def to_outline(part, pieces):
    """The least distance of each piece from the longest outline."""
    tree = cKDTree(part.outline[0].points_mm - HEAD_CENTRE_MM)
    return np.array([tree.query(piece)[0].min() for piece in pieces])


def test_a_part_without_details_stays_as_it_is():
    part = dome(30.0)
    assert finished(part, ImplantSettings()) == (part, ())


@pytest.mark.parametrize("pitch", [10.0, 6.0])
def test_perforations_lie_one_pitch_apart_on_a_dome_of_140_cm2(pitch):
    part = dome(50.0)
    points, _ = part.sheet.at(hexagonal(Places(part), pitch))
    distances, _ = cKDTree(points).query(points, 7)
    inner = np.degrees(np.arccos((points - HEAD_CENTRE_MM)[:, 0] / RADIUS_MM)) < 50 - 12
    assert inner.sum() > 100 * (10 / pitch) ** 2 / 1.5
    assert distances[inner, 1:].min() > 0.9 * pitch
    assert distances[inner, 1:].max() < 1.1 * pitch


def test_perforations_go_through_along_the_normal_and_keep_off_the_rim():
    part, notes = detailed(dome(50.0), HOLES)
    assert notes == ()
    assert part.mesh.is_closed
    assert len(part.mesh.shells) == 1
    pieces, volumes = removed(part)
    assert part.mesh.genus == len(pieces)
    free_mm2 = 2 * np.pi * RADIUS_MM**2 * (1 - np.cos(np.radians(50.0) - 6 / RADIUS_MM))
    assert len(pieces) == pytest.approx(free_mm2 / (100 * np.sqrt(3) / 2), rel=0.12)
    assert volumes == pytest.approx(np.pi * (4 - INSET_MM), rel=0.01)  # 2 mm wide, 4 mm deep
    for piece, middle in zip(pieces, middles(pieces), strict=True):
        axis = middle / RADIUS_MM
        from_axis = np.linalg.norm(piece - (piece @ axis)[:, None] * axis, axis=1)
        assert from_axis.max() == pytest.approx(1.0, abs=0.02)
    assert 5.0 - 0.05 < to_outline(part, pieces).min() < 9.0


def test_a_hole_of_another_size_is_as_wide_as_asked():
    part, _ = detailed(dome(28.0), ImplantSettings(perforations=True, perforation_mm=3.0, pitch_mm=15.0))
    _, volumes = removed(part)
    assert volumes == pytest.approx(np.pi * 2.25 * (4 - INSET_MM), rel=0.01)


def test_an_implant_from_voxels_is_drilled_as_well():
    part, notes = finished(
        cap().parts[0], ImplantSettings(perforations=True, suture_holes=True, plate_seats=4, mark="A1")
    )
    assert notes == ()
    assert part.mesh.is_closed
    assert len(part.mesh.shells) == 1
    assert part.body is cap().parts[0].body
    row, pair = round(2 * np.pi * RADIUS_MM * np.sin(np.radians(27.5)) / 20), 2
    assert part.mesh.genus > row + pair + 20
    lost = 1000 * (part.body.volume_ml - part.mesh.volume_ml)
    drilled = 4 * np.pi * (part.mesh.genus - row - pair + 0.75**2 * (row + pair))
    assert lost == pytest.approx(drilled + 4 * (8 * 5 * 0.8 + np.pi * 0.75**2 * 2.2), rel=0.04)


def test_thin_places_are_not_drilled():
    whole = dome(40.0)
    half = whole.sheet.points_mm[..., 1] > 0
    part, _ = detailed(replace(whole, thickness_mm=np.where(half, 1.5, np.where(whole.sheet.hole, 4.0, np.nan))), HOLES)
    middle = middles(removed(part)[0])
    assert len(middle) > 30
    assert middle[:, 1].max() < 0.5  # a cell is 1 mm


def test_a_hole_keeps_off_a_wall_that_leans_inwards():
    leaning = dome(28.0, 6.0, 45.0)
    part, _ = detailed(leaning, ImplantSettings(perforations=True, pitch_mm=5.0, suture_holes=True))
    pieces, _ = removed(part, 45.0)
    assert part.mesh.genus == len(pieces)
    wall = leaning.body.vertices_mm[np.isfinite(leaning.asked_mm)] - HEAD_CENTRE_MM
    bottom = wall[np.linalg.norm(wall, axis=1) < RADIUS_MM - 5.9]  # where the wall meets the inner surface
    assert min(cKDTree(bottom).query(piece)[0].min() for piece in pieces) > 2.0 - 0.1
    upright, _ = detailed(dome(28.0, 6.0), ImplantSettings(perforations=True, pitch_mm=5.0, suture_holes=True))
    assert upright.mesh.genus > part.mesh.genus


def test_suture_holes_stand_in_a_row_and_two_in_the_middle():
    part, notes = detailed(dome(45.0), ImplantSettings(suture_holes=True))
    assert notes == ()
    pieces, volumes = removed(part)
    middle = middles(pieces)
    count = round(2 * np.pi * RADIUS_MM * np.sin(np.radians(45.0)) / 20)
    assert part.mesh.genus == len(pieces) == count + 2
    assert volumes == pytest.approx(np.pi * 0.75**2 * (4 - INSET_MM), rel=0.01)
    inwards = np.radians(45.0) - np.arccos(middle[:, 0] / RADIUS_MM)
    row = inwards < 0.2
    assert row.sum() == count
    assert inwards[row] * RADIUS_MM == pytest.approx(5.0, abs=0.05)
    assert cKDTree(middle[row]).query(middle[row], 2)[0][:, 1] == pytest.approx(18.2, abs=1.0)  # 20 mm at the rim
    pair = middle[~row]
    assert np.linalg.norm(pair[0] - pair[1]) == pytest.approx(6.0, abs=0.1)
    assert np.hypot(*pair.mean(axis=0)[1:]) < 1.5


def test_holes_keep_a_wall_between_them():
    wishes = ImplantSettings(perforations=True, pitch_mm=5.0, suture_holes=True, plate_seats=5)
    pieces, _ = removed(detailed(dome(30.0), wishes)[0])
    trees = [cKDTree(piece) for piece in pieces]
    gaps = [
        one.query(pieces[k])[0].min()
        for i, one in enumerate(trees)
        for k in range(i)
        if np.linalg.norm(pieces[i].mean(axis=0) - pieces[k].mean(axis=0)) < 15
    ]
    assert len(gaps) > 100
    assert min(gaps) > 2.0 - 0.15  # on the inner side a dome's holes come nearer to each other


@pytest.mark.parametrize(("thickness", "blind"), [(4.0, True), (3.5, False)])
def test_plate_seats_have_their_depth_and_a_pilot_hole(thickness, blind):
    part, notes = detailed(dome(40.0, thickness), ImplantSettings(plate_seats=6, thickness_mm=thickness))
    assert notes == ()
    pieces, volumes = removed(part)
    assert len(pieces) == 6
    assert part.mesh.genus == (0 if blind else 6)
    deep = PILOT_DEPTH_MM if blind else thickness
    assert volumes == pytest.approx(8 * 5 * (0.8 - INSET_MM / 2) + np.pi * 0.75**2 * (deep - 0.8), rel=0.03)
    assert (thickness - PILOT_DEPTH_MM >= MIN_FLOOR_MM) == blind
    for piece in pieces:
        radius = np.linalg.norm(piece, axis=1)
        assert RADIUS_MM - radius.min() == pytest.approx(deep, abs=0.03)
        assert np.sort(np.abs(RADIUS_MM - SEAT_DEPTH_MM - radius))[10] < 0.03
        inwards = RADIUS_MM * (np.radians(40.0) - np.arccos(piece[:, 0] / radius))
        assert inwards.max() == pytest.approx(8.0, abs=0.2)
        assert inwards.min() < 0.02  # open at the rim
        pilot = piece[radius < RADIUS_MM - 1.5]
        assert RADIUS_MM * (
            np.radians(40.0) - np.arccos(pilot[:, 0].mean() / np.linalg.norm(pilot.mean(axis=0)))
        ) == pytest.approx(4.0, abs=0.2)
    middle = middles(pieces)
    apart = 2 * RADIUS_MM * np.sin(np.radians(40.0 - 3)) * np.sin(np.pi / 6)
    assert cKDTree(middle).query(middle, 2)[0][:, 1] == pytest.approx(apart, abs=1.5)


def test_seats_go_where_bone_is_thick():
    part = dome(40.0)
    outline = part.outline[0]
    thick = outline.points_mm[:, 1] > 20.0
    some = replace(part, outline=(replace(outline, bone_mm=np.where(thick, 4.0, 2.9)),))
    drilled, notes = detailed(some, ImplantSettings(plate_seats=6))
    middle = middles(removed(drilled)[0])
    assert notes == ()
    assert len(middle) == 6
    assert middle[:, 1].min() > 20.0 - 9
    few, notes = detailed(
        replace(part, outline=(replace(outline, bone_mm=np.where(outline.points_mm[:, 1] > 50.0, 4.0, 0.0)),)),
        ImplantSettings(plate_seats=12),
    )
    found = len(removed(few)[0])
    assert 0 < found < 6
    assert notes == (f"implant: {found} of 12 plate seats fit: elsewhere along the rim bone is thinner than 3 mm",)


def test_a_thin_implant_gets_no_seats():
    part, notes = detailed(dome(30.0, 2.0), ImplantSettings(plate_seats=3, thickness_mm=2.0, min_wall_mm=1.5))
    assert notes == ("implant: no plate seats: 1.2 mm below them is less than min_wall_mm, 1.5",)
    assert part.mesh is part.body


def test_a_flange_gets_screw_holes_instead_of_seats():
    part = dome(40.0, 1.0)  # all flange
    wishes = ImplantSettings(plate_seats=5, flange_width_mm=8.0)
    drilled, notes = detailed(part, wishes)
    pieces, volumes = removed(drilled)
    assert notes == ()
    assert drilled.mesh.genus == len(pieces) == 5
    assert volumes == pytest.approx(np.pi * 1.1**2 * (1 - INSET_MM), rel=0.01)
    assert to_outline(drilled, pieces) == pytest.approx(4.0 - 1.1, abs=0.1)
    same, notes = detailed(part, replace(wishes, flange_width_mm=3.0))
    assert notes == ("implant: no screw holes: a flange of 3 mm is narrower than 5 mm",)
    assert same.mesh is part.mesh


def test_what_does_not_fit_on_a_small_implant_is_said():
    part, notes = detailed(
        dome(5.0), ImplantSettings(perforations=True, pitch_mm=14.0, suture_holes=True, plate_seats=12)
    )
    assert part.mesh.is_closed
    said = "\n".join(notes)
    assert "of 12 plate seats fit: the rim has no room for more" in said
    assert "of 2 suture holes along the rim fit; elsewhere walls would be too thin" in said
    assert "implant: no suture holes in the middle: there is no room for two of them" in said
    assert "implant: no perforation fits: it is too small or too thin (2 mm are needed)" in said


def test_perforations_without_a_wall_between_them_are_refused():
    with pytest.raises(InputError, match=r"perforations of 3 mm, 4 mm apart, leave no wall of 1 mm .* 4\.4 or more"):
        ImplantSettings(perforations=True, perforation_mm=3.0, pitch_mm=4.0)


def test_a_second_outline_is_kept_clear_too():
    part = dome(40.0)
    island = ring(np.radians(10.0), 7.0)
    drilled, _ = detailed(replace(part, outline=(part.outline[0], island)), HOLES)
    angle = np.degrees(np.arccos(middles(removed(drilled)[0])[:, 0] / RADIUS_MM))
    assert angle.min() > 10 + np.degrees(6.0 / RADIUS_MM) - 0.1


def test_what_is_said_to_go_through_but_does_not_is_noticed():
    whole = dome(30.0, 8.0)
    thin = replace(whole, thickness_mm=np.full(whole.sheet.hole.shape, 2.0))  # the body is thicker than it says
    _, notes = detailed(thin, HOLES)
    (note,) = notes
    assert note.startswith("implant: ")
    assert note.endswith(" holes should go through it; 0 do")


def test_the_mark_is_kept_clear_of_holes():
    part, notes = finished(dome(40.0), ImplantSettings(perforations=True, pitch_mm=5.0, mark="CP 7", suture_holes=True))
    assert notes == ()
    pieces, volumes = removed(part)
    letters = [piece for piece in pieces if np.linalg.norm(piece, axis=1).max() < RADIUS_MM - 3]
    holes = [piece for piece, volume in zip(pieces, volumes, strict=True) if volume > 5.0 and len(piece) < 200]
    assert len(letters) == 3
    assert len(holes) > 50
    tree = cKDTree(np.concatenate(letters))
    assert min(tree.query(hole)[0].min() for hole in holes) > 2.8
