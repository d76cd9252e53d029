"""What the user says, the whole way: on made-up heads with their own model, on real skulls with the one that ships."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from tests import real_skulls
from tests.heads import BACK, SIDE, Ball, Head, dice, truth_of

from calvaria import pipeline
from calvaria.errors import InputError
from calvaria.io import read_volume
from calvaria.pipeline import Reconstruction, UserWord, reconstruct
from calvaria.reconstruction.directed import BEYOND_MASK_MM
from calvaria.skull.head import HEAD_CENTRE_MM, direction
from calvaria.symmetry.plane import Plane
from calvaria.volume import Grid, Volume
from calvaria.volume.distance import distance_to
from calvaria.volume.morphology import dilate_mm

BURR, OTHER = Ball((-38.0, -16.0, 62.0), 9.0), Ball((-30.0, 48.0, 58.0), 9.0)
"""1 ml each, much less than is filled without being asked for."""

HOLES = Head(21, (SIDE, BURR, OTHER))
GRID = Grid.isotropic((85, 109, 82), 2.0, (-84.0, -108.0, -74.0))
"""Symmetric about x = 0."""


@lru_cache(maxsize=2)
def defective() -> Volume:
    return HOLES.on(GRID)


def taken(*holes: Ball) -> Volume:
    """What some of the holes took from the head."""
    return truth_of(replace(HOLES, holes=holes), replace(HOLES, holes=holes).on(GRID))


@lru_cache(maxsize=1)
def by_mask() -> Reconstruction:
    return reconstruct(defective(), word=UserWord(hole=taken(BURR)))


@pytest.mark.usefixtures("family")
class TestWhatIsFilled:
    def test_a_mask_is_filled_however_small_and_nothing_else(self):
        result = by_mask()
        assert result.patch.volume_ml < 1.5
        assert dice(result.patch, taken(BURR)) > 0.9
        assert distance_to(taken(BURR))[result.patch.mask].max() <= BEYOND_MASK_MM
        assert not (result.patch.mask & defective().mask).any()

    def test_what_was_not_pointed_at_is_listed_and_does_not_fail(self):
        listed = by_mask().report.left_open
        assert {one.reason for one in listed} == {"not pointed at"}
        left = listed[0]
        assert left.place == "left parietal"
        assert left.volume_ml > 5
        assert np.linalg.norm(np.subtract(left.centre_mm, SIDE.centre_mm)) < 20
        places = by_mask().open_places
        assert places is not None
        assert places.volume_ml == pytest.approx(sum(one.volume_ml for one in listed), rel=0.05)
        assert {check.verdict for check in by_mask().report.checks} == {"pass"}
        assert not any(line.startswith("left open") for line in by_mask().report.warnings)

    def test_a_large_hole_is_filled_by_its_mask_and_settles_the_pose(self):
        result = reconstruct(defective(), word=UserWord(hole=taken(SIDE)))
        assert dice(result.patch, taken(SIDE)) > 0.92
        assert {one.reason for one in result.report.left_open} == {"not pointed at"}

    def test_a_mirrored_head_and_a_mirrored_mask_give_the_mirrored_patch(self):
        head, mask = (one.with_data(one.mask[::-1].copy(order="F")) for one in (defective(), taken(BURR)))
        mirrored = reconstruct(head, word=UserWord(hole=mask)).patch
        assert dice(mirrored.with_data(mirrored.mask[::-1]), by_mask().patch) > 0.97

    def test_a_point_in_bone_beside_a_hole_means_that_hole_and_a_box_what_lies_in_it(self):
        x, y, z = BURR.centre_mm
        low, high = (tuple(c + s * 14 for c in OTHER.centre_mm) for s in (-1, 1))
        result = reconstruct(defective(), word=UserWord(seeds_mm=((x - 11, y, z),), box_mm=(*high, *low)))
        assert dice(result.patch, taken(BURR, OTHER)) > 0.85
        assert [one.reason for one in result.report.left_open] == ["not pointed at"]

    def test_where_nothing_is_open_is_told_with_what_is_near(self):
        wanted = r"seed \(0, -80, 40\): no opening lies within 15 mm; the nearest, \d+\.\d ml, .* is \d+ mm from it"
        with pytest.raises(InputError, match=wanted):
            reconstruct(defective(), word=UserWord(seeds_mm=((0.0, -80.0, 40.0),)))

    def test_what_is_kept_open_is_not_filled_and_fails_no_check(self):
        result = reconstruct(Head(22, (SIDE, BACK)).on(GRID), word=UserWord(keep_open=(SIDE.centre_mm,)))
        (hole,) = result.holes
        assert np.linalg.norm(np.subtract(hole.centre_mm, BACK.centre_mm)) < 15
        assert [one.reason for one in result.report.left_open] == ["kept open by the user"]
        assert next(one for one in result.report.checks if one.name == "largest opening left").verdict == "pass"

    def test_a_mask_that_is_kept_open_has_nothing_of_the_patch(self):
        kept = dilate_mm(taken(BURR), 2.0)
        result = reconstruct(defective(), word=UserWord(keep_open=(kept, (0.0, 0.0, 200.0))))
        assert result.patch.volume_ml > 5
        assert not (result.patch.mask & kept.mask).any()
        assert any("nothing is open within 15 mm of (0, 0, 200)" in line for line in result.report.warnings)


@pytest.mark.usefixtures("family")
class TestBoneAndPlane:
    def test_bone_to_ignore_is_none_and_a_given_plane_is_the_frames(self):
        head = Head(21, (SIDE,)).on(GRID)
        gone = Head(21).on(GRID).mask & ~head.mask
        flap = head.with_data(np.roll(gone, -3, axis=0) & ~head.mask)  # sunk by 6 mm
        given = Plane(np.array([1.0, 0.03, -0.02]), 1.5)
        result = reconstruct(head.with_data(head.mask | flap.mask), word=UserWord(ignore=flap, plane=given))
        assert dice(result.patch, head.with_data(gone)) > 0.85
        np.testing.assert_array_equal(result.defective.mask, head.mask)
        np.testing.assert_array_equal(result.completed.mask, head.mask | result.patch.mask)
        assert any(line.startswith(f"ignored: {flap.volume_ml:.1f} ml") for line in result.report.warnings)
        np.testing.assert_allclose(result.plane.normal, given.normal, atol=1e-9)
        assert result.plane.offset_mm == pytest.approx(given.offset_mm)
        assert not any("the given plane" in line for line in result.report.warnings)


@pytest.mark.usefixtures("family")
@pytest.mark.parametrize(
    ("move", "said"),
    [
        (lambda mask: mask.with_data(mask.mask & False), "the hole's mask is empty: no voxel is set"),
        (
            lambda mask: Volume(mask.data, mask.grid.moved(np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3) * 900)),
            "lies elsewhere",
        ),
        (lambda mask: mask.with_data(defective().mask & dilate_mm(mask, 9.0).mask), "lie in bone that is there"),
    ],
)
def test_a_mask_that_says_no_hole_is_refused(move, said):
    with pytest.raises(InputError, match=said):
        reconstruct(defective(), word=UserWord(hole=move(taken(BURR))))


def test_an_engine_that_cannot_be_pointed_is_refused_in_a_line(monkeypatch):
    monkeypatch.setattr(pipeline, "load_engine", lambda name, device: object())
    with pytest.raises(InputError, match=r"the model 'net' finds holes in its own way: .* to a shape prior only"):
        reconstruct(defective(), engine="net", word=UserWord(seeds_mm=((0.0, 0.0, 0.0),)))


# ---- real skulls ---------------------------------------------------------------------------------------------------


def test_a_burr_hole_and_a_slit_of_a_real_skull_are_filled_by_a_mask_and_by_points(real_data):
    complete, frame = real_skulls.complete(real_data, "009")
    index = np.argwhere(complete.mask)
    ray = complete.grid.to_world(index) @ frame.to_canonical[:3, :3].T + frame.to_canonical[:3, 3] - HEAD_CENTRE_MM
    axis = direction(70, 50)
    burr = (np.linalg.norm(ray - (ray @ axis)[:, None] * axis, axis=1) < 7) & (ray @ axis > 20)
    axis = direction(-60, 40)
    side = np.cross(axis, [0, 0, 1]) / np.linalg.norm(np.cross(axis, [0, 0, 1]))
    slit = (np.abs(ray @ side) < 1.5) & (np.abs(ray @ np.cross(axis, side)) < 20) & (ray @ axis > 20)
    places = []
    for one in (burr, slit):
        data = np.zeros(complete.shape, bool, order="F" if complete.data.flags.f_contiguous else "C")
        data[tuple(index[one].T)] = True
        places.append(complete.with_data(data))
    truth = complete.with_data(places[0].mask | places[1].mask)
    skull = complete.with_data(complete.mask & ~truth.mask)
    assert [round(place.volume_ml, 1) for place in places] == [1.0, 0.8]
    by_mask = reconstruct(skull, word=UserWord(hole=truth))
    assert dice(by_mask.patch, truth) > 0.94  # 0.969
    x, y, z = places[1].grid.to_world(np.argwhere(places[1].mask)).mean(axis=0)
    by_point = reconstruct(skull, word=UserWord(seeds_mm=((x, y, z),)))
    assert dice(by_point.patch, places[1]) > 0.94  # 0.973
    assert [one.reason for one in by_point.report.left_open] == ["not pointed at"]


def test_the_temporal_gap_of_a_real_patient_is_filled_where_it_is_boxed(real_data):
    skull = read_volume(real_data / "clinical-postop" / "seg3d.nrrd")
    result = reconstruct(skull, word=UserWord(box_mm=(20.0, 40.0, 14.0, 46.0, 100.0, 72.0)))
    assert 1.5 < result.patch.volume_ml < 2.6
    middle = result.holes[0].centre_mm
    assert np.linalg.norm(np.subtract(middle, (29.3, 72.3, 31.2))) < 8
    # The burr hole before it, 12 mm across, is found too.
    assert any(np.linalg.norm(np.subtract(hole.centre_mm, (26.5, 44.2, 67.8))) < 4 for hole in result.holes)
