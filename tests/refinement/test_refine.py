"""Patches of made-up heads that are wrong in one way each, refined by symmetry alone and by all that is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from tests.heads import Ball, Head, dice, rigid, scan, true_frame, truth_of

from calvaria.benchmarks.bad_starts import flat, half, shifted
from calvaria.errors import GeometryError, InputError
from calvaria.reconstruction.box import box_grid
from calvaria.reconstruction.postprocess import to_patch
from calvaria.reconstruction.protocol import Completion, SoftField
from calvaria.reconstruction.surface import to_box
from calvaria.refinement.descend import Level
from calvaria.refinement.refine import PAPER, TRUST, Displacement, Refinement, Settings, refine
from calvaria.skull.canonical import CanonicalFrame
from calvaria.volume import Volume

HOLE = Ball((58.0, 8.0, 46.0), 19.0)
HEAD = Head(20, (HOLE,), even=True)
"""Left and right the same: its mirror image shows where the patch belongs."""

POSE = rigid((5, -5, 10), (20, -10, 60))
SPACING_MM = (2.0, 2.0, 2.0)
STARTS = {"flat": flat, "half": half, "shifted": shifted, "truth": lambda truth, *_: truth}


@lru_cache(maxsize=1)
def case() -> tuple[Volume, Volume, CanonicalFrame]:
    """Defective skull, true patch, frame."""
    defective = scan(HEAD, POSE, SPACING_MM)
    return defective, truth_of(HEAD, defective, POSE), true_frame(HEAD, POSE)


@lru_cache(maxsize=2)
def prior(misfit_mm: float = 0.3) -> Completion:
    """A shape prior that knows the head."""
    _, _, frame = case()
    whole = to_box(scan(replace(HEAD, holes=())), true_frame(HEAD))
    far = np.linalg.norm(box_grid().centres_mm() * HEAD.scale - HOLE.centre_mm, axis=-1)
    return Completion(frame, whole, SoftField(whole.distance_mm, far < HOLE.radius_mm + 4, misfit_mm))


@lru_cache(maxsize=8)
def start(name: str) -> Volume:
    defective, truth, frame = case()
    return STARTS[name](truth, defective, frame)


@lru_cache(maxsize=8)
def refined(name: str, by: str) -> Refinement:
    """By symmetry alone, by all that is known, or by what is known without a shape prior."""
    defective, _, frame = case()
    given = {"symmetry": (None, PAPER), "all": (prior(),), "no prior": ()}[by]
    return refine(defective, start(name), frame, *given)


class TestBySymmetry:
    @pytest.mark.parametrize("name", ["flat", "shifted"])
    def test_a_bad_patch_is_brought_back(self, name):
        defective, truth, _ = case()
        out = refined(name, "symmetry")
        assert dice(start(name), truth) < 0.8
        assert dice(out.patch, truth) > 0.93
        report = out.report
        assert not report.declined
        assert report.reason == "moved by symmetry"
        assert report.symmetry_after < 0.9 * report.symmetry_before
        assert 0 < report.symmetry_after < report.symmetry_before < 1
        assert (report.apart_mm, report.added_ml) == (None, 0.0)
        assert not (out.patch.mask & defective.mask).any()

    def test_half_a_patch_is_not_torn(self):
        """What is not there cannot be displaced: it is moved a little, does not fold, and gets no worse."""
        _, truth, _ = case()
        out = refined("half", "symmetry")
        assert out.report.jacobian_min > 0
        assert dice(start("half"), truth) <= dice(out.patch, truth) < 0.9

    def test_a_good_patch_stays_good(self):
        _, truth, _ = case()
        out = refined("truth", "symmetry")
        assert dice(out.patch, truth) > 0.98
        assert out.report.symmetry_after <= out.report.symmetry_before * 1.01


class TestByAllThatIsKnown:
    @pytest.mark.parametrize("name", ["flat", "half"])
    def test_a_bad_patch_is_moved_to_what_the_shape_prior_expects(self, name):
        defective, truth, _ = case()
        out = refined(name, "all")
        assert dice(out.patch, truth) > max(0.93, dice(start(name), truth) + 0.15)
        assert not out.report.declined
        assert out.report.reason.startswith("moved by the shape prior, the rim and symmetry")
        assert out.report.apart_mm > 0.5
        assert not (out.patch.mask & defective.mask).any()

    def test_what_half_a_patch_lacks_is_added(self):
        _, truth, _ = case()
        report = refined("half", "all").report
        lacked = truth.volume_ml - start("half").volume_ml
        assert 0.85 * lacked < report.added_ml < 1.2 * lacked
        assert f"; {report.added_ml:.1f} ml that it lacked were added" in report.reason
        assert refined("flat", "all").report.added_ml == 0

    def test_a_patch_that_agrees_is_declined_and_stays_the_very_same(self):
        defective, truth, frame = case()
        out = refine(defective, truth, frame, prior(), Settings(agreement_mm=0.5))
        assert out.patch is truth
        assert out.report.declined
        assert 0 < out.report.apart_mm < 0.5
        assert out.report.reason == (
            f"it lies {out.report.apart_mm:.2f} mm from what the shape prior expects, which knows no better than that"
        )
        assert out.report.symmetry_before == out.report.symmetry_after > 0
        assert (out.report.mean_mm, out.report.max_mm, out.report.jacobian_min) == (0, 0, 1)
        assert not out.displacement.vectors_mm.any()

    def test_the_shape_priors_own_patch_is_declined_however_far_its_voxels_lie(self):
        defective, _, frame = case()
        own = to_patch(prior().soft, frame, defective)
        out = refine(defective, own, frame, prior(), Settings(agreement_mm=1e-6))
        assert out.patch is own
        assert out.report.declined
        assert out.report.apart_mm > 1e-6
        assert out.report.reason == "it is what the shape prior expects, which knows no better"


class TestTrust:
    """What is believed more where patch and shape prior differ."""

    def test_auto_is_what_is_done_unasked(self):
        assert TRUST["auto"] == Settings()

    def test_a_patch_that_is_trusted_is_refined_as_if_there_were_no_shape_prior(self):
        defective, _, frame = case()
        for name in ("flat", "half"):
            out = refine(defective, start(name), frame, prior(), TRUST["patch"])
            alone = refined(name, "no prior")
            assert replace(out.report, seconds=0) == replace(alone.report, seconds=0)
            assert (out.report.apart_mm, out.report.added_ml) == (None, 0.0)
            np.testing.assert_array_equal(out.patch.mask, alone.patch.mask)
            assert name != "flat" or out.report.reason.startswith("moved by the rim and symmetry")

    def test_a_prior_that_is_trusted_pulls_at_its_own_patch_and_at_one_that_agrees(self):
        defective, truth, frame = case()
        own = to_patch(prior().soft, frame, defective)
        assert refine(defective, own, frame, prior()).report.declined
        for patch in (own, truth):
            out = refine(defective, patch, frame, prior(), TRUST["prior"])
            assert not out.report.declined
            assert out.report.reason.startswith("moved by the shape prior, the rim and symmetry")
            assert out.report.mean_mm > 0
            assert dice(out.patch, own) > 0.95

    def test_a_bad_patch_is_moved_as_by_default_where_the_prior_is_trusted(self):
        defective, _, frame = case()
        out = refine(defective, start("flat"), frame, prior(), TRUST["prior"])
        np.testing.assert_array_equal(out.patch.mask, refined("flat", "all").patch.mask)


class TestWithoutAShapePrior:
    def test_a_patch_as_good_as_the_mirror_image_is_declined(self):
        defective, truth, frame = case()
        out = refine(defective, truth, frame)
        assert out.patch is truth
        assert out.report.declined
        assert out.report.apart_mm is None
        assert re.fullmatch(
            r"it lies 0\.\d\d mm from the other side's mirror image, which knows no better than that", out.report.reason
        )

    def test_a_bad_one_is_brought_back(self):
        _, truth, _ = case()
        out = refined("flat", "no prior")
        assert not out.report.declined
        assert out.report.reason.startswith("moved by the rim and symmetry")
        assert dice(out.patch, truth) > max(0.9, dice(start("flat"), truth) + 0.1)

    def test_where_the_other_side_is_missing_too_nothing_is_declined_by_it(self):
        """Both holes are filled, by patches that are right: there is no other side to agree with."""
        both = Head(20, (HOLE, Ball((-58.0, 8.0, 46.0), 19.0)), even=True)
        defective = scan(both, POSE, SPACING_MM)
        truth = truth_of(both, defective, POSE)
        out = refine(defective, truth, true_frame(both, POSE))
        assert not out.report.declined
        assert dice(out.patch, truth) > 0.97


@pytest.mark.parametrize("by", ["symmetry", "all"])
@pytest.mark.parametrize("name", ["flat", "half"])
def test_figures_and_displacement_agree(name, by):
    out = refined(name, by)
    report = out.report
    assert isinstance(out.displacement, Displacement)
    assert report.max_mm >= report.mean_mm > 0
    assert 0 < report.jacobian_min <= 1
    assert report.jacobian_min == pytest.approx(out.displacement.jacobians().min(), rel=1e-6)
    assert report.max_mm <= np.linalg.norm(out.displacement.vectors_mm, axis=0).max() + 1e-5
    assert report.seconds > 0
    # In world mm: where the patch lies it is about as large as the report says.
    points = out.patch.grid.to_world(np.argwhere(out.patch.mask))
    moved = np.linalg.norm(out.displacement.at(points), axis=1)
    assert moved.max() == pytest.approx(report.max_mm, rel=0.3)
    assert moved.mean() == pytest.approx(report.mean_mm, rel=0.5)


def test_the_mirrored_skull_and_patch_give_the_mirrored_result():
    """The evidence is symmetric, but its arrays are summed in another order and a descent stops somewhere else: voxels
    whose centre lies on the patch's surface to within some hundredths of a mm may turn out either way."""
    defective, _, _ = case()
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0])

    def mirrored(volume: Volume) -> Volume:
        """About the world's x = 0, on a right-handed grid again."""
        return Volume(volume.data, volume.grid.moved(mirror)).flip((0,))

    frame = true_frame(HEAD, mirror @ POSE @ mirror)
    out = refine(mirrored(defective), mirrored(start("flat")), frame, None, PAPER)
    wanted = mirrored(refined("flat", "symmetry").patch)
    assert out.patch.grid.same_as(wanted.grid)
    differ = np.count_nonzero(out.patch.mask != wanted.mask)
    assert differ < 0.01 * np.count_nonzero(wanted.mask)
    assert out.report.symmetry_before == pytest.approx(refined("flat", "symmetry").report.symmetry_before, rel=1e-3)


def test_twice_the_same_and_nothing_given_is_altered():
    defective, _, frame = case()
    given = Volume(start("flat").data.copy(order="K"), start("flat").grid)
    before = [defective.data.tobytes(), given.data.tobytes(), prior().soft.distance_mm.tobytes()]
    told: list[tuple[str, float]] = []
    again = refine(defective, given, frame, prior(), progress=lambda stage, share: told.append((stage, share)))
    assert again.patch.data.tobytes() == refined("flat", "all").patch.data.tobytes()
    assert again.displacement.vectors_mm.tobytes() == refined("flat", "all").displacement.vectors_mm.tobytes()
    assert [defective.data.tobytes(), given.data.tobytes(), prior().soft.distance_mm.tobytes()] == before
    assert again.patch is not given
    assert {stage for stage, _ in told} == {"refinement"}
    assert [share for _, share in told] == sorted(share for _, share in told)


def test_memory_order_stays_and_does_not_matter_nor_does_a_prior_that_is_given_no_say():
    defective, _, frame = case()
    assert defective.data.flags.f_contiguous
    assert refined("flat", "symmetry").patch.data.flags.f_contiguous
    one, other = (volume.with_data(volume.data.copy(order="C")) for volume in (defective, start("flat")))
    out = refine(one, other, frame, prior(), PAPER)
    assert out.patch.data.flags.c_contiguous
    assert not out.patch.data.flags.f_contiguous
    assert out.report.apart_mm is None
    np.testing.assert_array_equal(out.patch.mask, refined("flat", "symmetry").patch.mask)


def test_bone_in_the_patch_is_left_out():
    defective, _, frame = case()
    over = start("flat").with_data(start("flat").mask | (binary_dilation(start("flat").mask) & defective.mask))
    out = refine(defective, over, frame, None, PAPER)
    np.testing.assert_array_equal(out.patch.mask, refined("flat", "symmetry").patch.mask)


class TestLeftAsItIs:
    def check(self, patch: Volume, reason: str, given_prior: Completion | None = None) -> None:
        defective, _, frame = case()
        out = refine(defective, patch, frame, given_prior)
        assert out.patch is patch
        assert out.report.declined
        assert out.report.reason == reason
        assert (out.report.mean_mm, out.report.max_mm, out.report.jacobian_min) == (0, 0, 1)
        assert out.report.seconds >= 0
        assert not out.displacement.at(np.zeros((1, 3))).any()

    def test_an_empty_patch(self):
        self.check(case()[0].with_data(np.zeros(case()[0].shape, bool)), "there is no patch to refine")

    def test_a_patch_all_in_bone(self):
        self.check(case()[0], "there is no patch to refine", prior())

    def test_a_patch_beyond_the_part_that_is_compared(self):
        defective, _, frame = case()
        grid = defective.grid.pad((0, 0, 30), (0, 0, 0))
        patch = np.zeros(grid.shape, bool)
        patch[30:40, 30:40, 1:6] = True
        out = refine(defective.pad((0, 0, 30), (0, 0, 0), False), Volume(patch, grid), frame)
        assert out.report.declined
        assert out.report.reason == "it lies beyond the part of the head that is compared"
        assert out.patch.data is patch


class TestErrors:
    def test_another_grid(self):
        defective, truth, frame = case()
        with pytest.raises(GeometryError, match="defective skull and patch must lie on one grid; their shapes are"):
            refine(defective, truth.pad((1, 0, 0), (0, 0, 0), False), frame)
        moved = Volume(truth.data, truth.grid.moved(rigid(shift_mm=(1, 0, 0))))
        with pytest.raises(GeometryError, match=r"defective skull and patch must lie on one grid; .* 1 mm apart"):
            refine(defective, moved, frame)

    @pytest.mark.parametrize("which", ["skull", "patch"])
    def test_no_mask(self, which):
        defective, truth, frame = case()
        image = case()[0].with_data(truth.mask.astype(np.float32))
        given = (image, truth) if which == "skull" else (defective, image)
        with pytest.raises(InputError, match="a mask is wanted here, the volume holds float32"):
            refine(*given, frame)

    @pytest.mark.parametrize(
        "bad",
        [
            {"stiffness": 0.0},
            {"stiffness": -1.0},
            {"stiffness": float("nan")},
            {"stiffness": float("inf")},
            {"symmetry": -0.1},
            {"symmetry_beside_prior": -0.1},
            {"rim": float("inf")},
            {"prior": float("nan")},
            {"agreement_mm": -1.0},
        ],
    )
    def test_settings_that_cannot_be(self, bad):
        value = str(next(iter(bad.values())))
        with pytest.raises(InputError, match=f"a stiffness above 0, and weights and an agreement .*; got .*{value}"):
            Settings(**bad)

    @pytest.mark.parametrize("levels", [(), (Level(3, 5.0, 9),), (Level(4, 5.0, 9), Level(0, 5.0, 9))])
    def test_levels_that_cannot_be(self, levels):
        with pytest.raises(InputError, match="a refinement wants levels with steps of 4, 2 or 1 nodes, coarse to fine"):
            Settings(levels=levels)

    @pytest.mark.parametrize("steps", [(1, 2), (4, 1), (2, 4)])
    def test_levels_that_are_not_coarse_to_fine_by_halves(self, steps: Sequence[int]):
        with pytest.raises(InputError, match="coarse to fine"):
            Settings(levels=tuple(Level(step, 5.0, 9) for step in steps))


def test_a_flat_patch_of_a_real_skull_is_brought_back_by_symmetry(real_data: Path):
    from calvaria.benchmarks.cases import build, tasks_of
    from calvaria.reconstruction.engines import load_prior
    from calvaria.reconstruction.repose import settle
    from calvaria.skull.canonical import locate

    (task,) = tasks_of(real_data, "validation", ["parietotemporal"], 1)
    defective, truth = build(task)
    engine = load_prior()
    frame, _, _ = settle(defective, locate(defective, engine.template), engine)
    bad = flat(truth, defective, frame)
    out = refine(defective, bad, frame, None, PAPER)
    assert dice(out.patch, truth) > dice(bad, truth) + 0.1
    assert out.report.symmetry_after < out.report.symmetry_before
    assert not (out.patch.mask & defective.mask).any()
    assert out.report.jacobian_min > 0
    assert out.report.seconds < 60
