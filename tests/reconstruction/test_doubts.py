"""Holes and vertices that the scan's end cuts, on made-up heads whose completion is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.heads import Ball, Head, boxed, scan, true_frame

from calvaria.errors import InputError
from calvaria.reconstruction.box import BoxField, box_grid, vault
from calvaria.reconstruction.doubts import (
    openings_within,
    require_known_bone,
    scan_end_doubts,
    unseen,
    within_scan,
)
from calvaria.reconstruction.protocol import SoftField
from calvaria.skull.canonical import CanonicalFrame
from calvaria.volume import Volume

TOP = Ball((0.0, 0.0, 78.0), 30.0)
HEAD = Head(21, (TOP,))


def completed(head: Head) -> tuple[CanonicalFrame, BoxField, SoftField]:
    """A head's frame, its field, and the completion that its own formula gives."""
    field = boxed(head)
    whole = boxed(replace(head, holes=()))
    region = (whole.distance_mm < 0) & (field.distance_mm > 0) & vault()
    return true_frame(head), field, SoftField(whole.distance_mm, region, 0.2)


def until(volume: Volume, z_mm: float) -> Volume:
    """The scan without what lies above; its axes are the world's."""
    return volume.crop((slice(None), slice(None), slice(0, round((z_mm - volume.affine[2, 3]) / volume.affine[2, 2]))))


class TestHolesAtTheEnd:
    def test_a_hole_within_the_scan_is_not_doubted(self):
        frame, _, soft = completed(HEAD)
        assert scan_end_doubts(frame, soft, scan(HEAD).grid) == ()

    def test_what_lies_beyond_is_told_in_ml(self):
        frame, _, soft = completed(HEAD)
        cut = until(scan(HEAD), 62.0)
        (line,) = scan_end_doubts(frame, soft, cut.grid)
        grid = box_grid()
        z = grid.centres_mm()[..., 2] * frame.scale[2]
        beyond = soft.region & (z > cut.grid.to_world([0, 0, cut.shape[2] - 0.5])[2])
        told = np.count_nonzero(beyond) * grid.voxel_volume_mm3 * np.prod(frame.scale) / 1000
        assert told > 1
        assert line == (
            f"the scan ends at the vertex: about {told:.1f} ml of the patch would lie beyond and are left out"
        )

    def test_the_side_is_the_heads_whichever_axis_it_is_stored_along(self):
        frame, _, soft = completed(Head(21, (Ball((60.0, 8.0, 40.0), 28.0),)))
        volume = scan(Head(21))
        cut = volume.crop((slice(0, round((62.0 - volume.affine[0, 3]) / 2.0)), slice(None), slice(None)))
        for stored in (cut, cut.permute((2, 0, 1)).flip((0, 1))):
            (line,) = scan_end_doubts(frame, soft, stored.grid)
            assert "the scan ends at the left side: about" in line


class TestUnseen:
    def test_a_vertex_that_is_not_in_the_scan_is_told(self):
        frame = true_frame(Head(21))
        assert unseen(scan(Head(21)), frame) == ()
        cut = until(scan(Head(21)), 60.0)
        assert unseen(cut, frame) == ("the scan ends at the vertex: what lies beyond was not looked at",)
        assert unseen(cut, frame, ("the scan ends at the vertex: about 3 ml of the patch",)) == ()

    def test_the_lower_end_goes_without_saying(self):
        head = Head(21)
        volume = scan(head)
        low = volume.crop((slice(None), slice(None), slice(35, None)))
        assert low.mask[:, :, 0].any()
        assert unseen(low, true_frame(head)) == ()


class TestWithinScan:
    def test_a_hole_within_the_scan_stays_as_it_is(self):
        frame, field, soft = completed(HEAD)
        assert within_scan(soft, field, frame, scan(HEAD).grid, 5.0) is soft

    def test_a_piece_that_only_reaches_in_from_beyond_is_dropped(self):
        frame, field, soft = completed(HEAD)
        top_mm = (box_grid().centres_mm()[..., 2] * frame.scale[2])[soft.region].min() + 4
        assert not within_scan(soft, field, frame, until(scan(HEAD), top_mm).grid, 5.0).region.any()

    def test_a_hole_that_goes_on_beyond_stays_whole(self):
        frame, field, soft = completed(HEAD)
        kept = within_scan(soft, field, frame, until(scan(HEAD), 70.0).grid, 5.0)
        np.testing.assert_array_equal(kept.region, soft.region)

    @pytest.mark.parametrize("min_ml", [0.5, 5.0])
    def test_another_hole_is_none_of_its_business(self, min_ml):
        side = Ball((60.0, 8.0, 30.0), 12.0)
        head = Head(21, (TOP, side))
        frame, field, soft = completed(head)
        x = box_grid().centres_mm()[..., 0]
        top_mm = (box_grid().centres_mm()[..., 2] * frame.scale[2])[soft.region & (x < 40)].min() + 3
        kept = within_scan(soft, field, frame, until(scan(head), top_mm).grid, min_ml)
        assert kept.region[x > 45].any() == soft.region[x > 45].any()
        if min_ml == 5.0:
            assert not kept.region[x < 35].any()


def test_an_opening_that_goes_on_beyond_the_scan_is_not_told_as_left_open():
    side = Ball((60.0, 8.0, 30.0), 12.0)
    head = Head(21, (TOP, side))
    frame, _, soft = completed(head)
    np.testing.assert_array_equal(openings_within(soft.region, frame, scan(head).grid), soft.region)
    kept = openings_within(soft.region, frame, until(scan(head), 68.0).grid)
    x = box_grid().centres_mm()[..., 0]
    np.testing.assert_array_equal(kept, soft.region & (x > 45))


def test_a_completion_that_is_far_off_the_bone_is_refused():
    _, _, soft = completed(HEAD)
    require_known_bone(soft)
    with pytest.raises(
        InputError, match=r"lies 2\.1 mm off that of known skulls .*: this is no adult's head with holes"
    ):
        require_known_bone(replace(soft, misfit_mm=2.1))
