"""Patches from elsewhere: what is taken as it is, what is changed and said, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from tests.heads import SIDE, Head, dice, rigid, scan, true_frame, truth_of

from calvaria.errors import InputError
from calvaria.reconstruction.box import BoxField, box_grid
from calvaria.reconstruction.given_patch import mask_of_patch, on_skull, prior_for
from calvaria.reconstruction.protocol import MAX_MISFIT_MM, Completion, SoftField
from calvaria.skull.canonical import GOOD_COST, CanonicalFrame
from calvaria.volume import Grid, Volume

HEAD = Head(20, (SIDE,))
POSE = rigid((10, -15, 30), (40, -30, 100))
DEFECTIVE = scan(HEAD, POSE, (3.0, 3.0, 3.0))
TRUTH = truth_of(HEAD, DEFECTIVE, POSE)
FRAME = true_frame(HEAD, POSE)


def shifted(mm: float, direction: tuple[float, float, float] = (1.0, 0.0, 0.0)) -> Volume:
    """The true patch at another place, in canonical directions."""
    move = np.eye(4)
    move[:3, 3] = POSE[:3, :3] @ (mm * np.array(direction))
    return Volume(TRUTH.data, TRUTH.grid.moved(move))


class TestMask:
    def test_a_mask_is_itself_and_numbers_of_two_values_are_a_mask(self):
        assert mask_of_patch(TRUTH) is TRUTH
        numbers = TRUTH.with_data(np.where(TRUTH.data, 255, 0).astype(np.uint8))
        np.testing.assert_array_equal(mask_of_patch(numbers).mask, TRUTH.mask)

    def test_a_ct_or_a_probability_map_is_refused(self):
        ct = TRUTH.with_data(np.linspace(-1000, 2000, TRUTH.data.size).reshape(TRUTH.shape).astype(np.int16))
        with pytest.raises(InputError, match=r"mask of two values.* from -1000 to 2000: it looks like a CT; give the"):
            mask_of_patch(ct)
        soft = TRUTH.with_data(np.linspace(0, 1, TRUTH.data.size).reshape(TRUTH.shape))
        with pytest.raises(InputError, match="from 0 to 1: it looks like a map of labels or of probabilities"):
            mask_of_patch(soft)
        with pytest.raises(InputError, match="the values contain NaN or infinity"):
            mask_of_patch(TRUTH.with_data(np.full(TRUTH.shape, np.nan)))

    def test_an_empty_or_an_inverted_one_is_refused(self):
        with pytest.raises(InputError, match="the patch is empty: no voxel is set; give the missing bone as a mask"):
            mask_of_patch(TRUTH.with_data(np.zeros(TRUTH.shape, np.uint8)))
        with pytest.raises(InputError, match="patch and background seem to be exchanged; write the patch as 1"):
            mask_of_patch(TRUTH.with_data(~TRUTH.mask))


class TestOnSkull:
    def test_a_good_patch_stays_as_it_is_without_a_word(self):
        patch, notes = on_skull(TRUTH, DEFECTIVE, FRAME)
        assert notes == ()
        assert patch.grid is DEFECTIVE.grid
        assert patch.data.flags.f_contiguous
        np.testing.assert_array_equal(patch.mask, TRUTH.mask)

    def test_on_another_grid_it_is_resampled_and_both_grids_are_said(self):
        fine = scan(HEAD, POSE, (2.0, 2.0, 2.0))
        patch, notes = on_skull(truth_of(HEAD, fine, POSE), DEFECTIVE, FRAME)
        assert patch.grid is DEFECTIVE.grid
        assert dice(patch, TRUTH) > 0.85
        shapes = [" x ".join(str(n) for n in volume.shape) for volume in (fine, DEFECTIVE)]
        assert notes[0].startswith(f"the patch has {shapes[0]} voxels of 2 x 2 x 2 mm from (")
        assert f"the skull {shapes[1]} voxels of 3 x 3 x 3 mm from (" in notes[0]
        assert notes[0].endswith("it was resampled onto the skull's grid")
        assert not (patch.mask & DEFECTIVE.mask).any()

    def test_bone_is_taken_off_and_how_much_is_said(self):
        from scipy.ndimage import binary_dilation

        wide = TRUTH.with_data(binary_dilation(TRUTH.mask, iterations=2))
        patch, notes = on_skull(wide, DEFECTIVE, FRAME)
        np.testing.assert_array_equal(patch.mask, wide.mask & ~DEFECTIVE.mask)
        overlap_ml = TRUTH.with_data(wide.mask & DEFECTIVE.mask).volume_ml
        assert notes == (f"{overlap_ml:.1f} ml of the patch lie in bone that is there, and are taken off it",)

    def test_a_trace_of_overlap_is_no_matter(self):
        touched = TRUTH.mask.copy()
        touched[tuple(np.argwhere(DEFECTIVE.mask)[0])] = True
        patch, notes = on_skull(TRUTH.with_data(touched), DEFECTIVE, FRAME)
        assert notes == ()
        np.testing.assert_array_equal(patch.mask, TRUTH.mask)

    def test_of_a_completed_skull_what_lies_beyond_the_bone_is_taken(self):
        completed = DEFECTIVE.with_data(DEFECTIVE.mask | TRUTH.mask)
        patch, notes = on_skull(completed, DEFECTIVE, FRAME)
        assert dice(patch, TRUTH) > 0.97
        assert patch.data.flags.f_contiguous
        assert notes == (
            f"the patch holds the bone of the skull: its {patch.volume_ml:.1f} ml beyond the bone are taken",
        )

    def test_the_skull_itself_is_no_patch(self):
        with pytest.raises(InputError, match="this is the skull itself: nothing of it is missing bone; give the"):
            on_skull(DEFECTIVE, DEFECTIVE, FRAME)

    def test_a_piece_of_the_bone_that_is_there_is_no_patch(self):
        piece = DEFECTIVE.mask & (np.indices(DEFECTIVE.shape)[2] > DEFECTIVE.shape[2] // 2 + 15)
        with pytest.raises(InputError, match=r"all of its [\d.]+ ml lie in bone that is there.* check that patch and"):
            on_skull(DEFECTIVE.with_data(piece), DEFECTIVE, FRAME)

    def test_what_lies_in_another_frame_is_refused(self):
        with pytest.raises(InputError, match=r"nothing of the patch lies on the skull's grid \(the patch has .*in mm"):
            on_skull(shifted(1000.0), DEFECTIVE, FRAME)

    def test_what_lies_beside_the_head_or_far_from_bone_is_refused(self):
        room = DEFECTIVE.pad((40, 40, 40), (40, 40, 40), False)
        with pytest.raises(InputError, match=r"the patch lies outside of the head \(its centre lies at \(.*one frame"):
            on_skull(shifted(60.0), room, FRAME)
        middle = np.linalg.norm(room.grid.centres_mm() - POSE[:3, 3] - POSE[:3, :3] @ [0, 0, 30], axis=-1) < 9
        with pytest.raises(InputError, match=r"no bone lies within 20 mm of the patch \(its centre lies at"):
            on_skull(room.with_data(middle), room, FRAME)

    @pytest.mark.parametrize("mm", [-12.0, 3.0, 12.0])
    def test_a_patch_at_a_wrong_place_of_the_head_is_taken(self, mm):
        room = DEFECTIVE.pad((10, 10, 10), (10, 10, 10), False)
        patch, _ = on_skull(shifted(mm), room, FRAME)
        assert patch.mask.any()


def completion(*, misfit_mm: float = 0.3, cost: float = 0.1, region_of: Volume | None = TRUTH) -> Completion:
    """The shape prior's answer, as far as it matters here."""
    grid = box_grid()
    frame = CanonicalFrame(FRAME.to_world, FRAME.scale, cost, ())
    region = np.zeros(grid.shape, bool)
    if region_of is not None:
        points = region_of.grid.to_world(np.argwhere(region_of.mask))
        mean_mm = (points @ frame.to_canonical[:3, :3].T + frame.to_canonical[:3, 3]) / frame.scale
        index = np.rint(grid.to_index(mean_mm)).astype(int)
        region[tuple(index[((index >= 0) & (index < grid.shape)).all(axis=1)].T)] = True
    zeros = np.zeros(grid.shape, np.float32)
    return Completion(frame, BoxField(zeros, region, (1.0, 1.0, 1.0)), SoftField(zeros, region, misfit_mm))


class TestPrior:
    def test_a_completion_of_the_patchs_hole_is_used(self):
        done = completion()
        assert prior_for(done, TRUTH) == (done, ())

    @pytest.mark.parametrize(
        ("wrong", "line"),
        [
            ({"misfit_mm": MAX_MISFIT_MM + 0.1}, "the bone is 1.6 mm unlike that of known skulls"),
            ({"cost": GOOD_COST + 0.01}, "the head is unlike those known (mismatch "),
            ({"region_of": None}, "the shape prior finds no hole in the skull"),
            (
                {
                    "region_of": Volume(
                        TRUTH.data,
                        Grid(TRUTH.shape, POSE @ np.diag([-1, 1, 1, 1]) @ np.linalg.inv(POSE) @ TRUTH.affine),
                    )
                },
                "the patch lies in none of the holes that the shape prior finds",
            ),
        ],
    )
    def test_otherwise_it_is_left_out_and_a_line_says_why(self, wrong, line):
        used, lines = prior_for(completion(**wrong), TRUTH)
        assert used is None
        assert len(lines) == 1
        assert lines[0].startswith(line)
        assert lines[0].endswith(": the patch is refined without the shape prior")
