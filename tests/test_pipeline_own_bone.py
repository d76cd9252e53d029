"""The whole way with the patient's own bone: on made-up heads, and on real skulls seen through a scanner."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from tests.heads import Head, dice, scan
from tests.reconstruction.own_bone.parts import POSE, STEP, defective, piece, truth

from calvaria import pipeline
from calvaria.benchmarks.cases import tasks_of
from calvaria.benchmarks.own_bone import cropped, flap_of, moved
from calvaria.errors import InputError
from calvaria.pipeline import reconstruct
from calvaria.reconstruction.word import UserWord
from calvaria.volume import Volume


@pytest.mark.usefixtures("family")
class TestMadeUpHeads:
    def test_a_scan_from_before_is_the_patch_and_everything_is_told(self):
        told: list[str] = []
        old = scan(Head(22), POSE, STEP)
        result = reconstruct(defective(), pre_op=old, progress=lambda stage, done: told.append(stage))
        assert dice(result.patch, truth()) > 0.96
        assert not (result.patch.mask & defective().mask).any()
        np.testing.assert_array_equal(result.completed.mask, result.patch.mask | defective().mask)
        assert told == list(pipeline.OWN_STAGES)
        assert result.soft is None
        assert result.report.own_bone is not None
        assert result.report.own_bone.share > 0.9
        assert "are the patient's own bone" in result.confidence.reason

    def test_a_removed_piece_is_put_back(self):
        result = reconstruct(defective(), flap=piece(2.0, POSE))
        assert dice(result.patch, truth()) > 0.93
        assert result.report.own_bone is not None
        assert result.report.own_bone.scan == "flap"

    def test_a_whole_head_with_a_scan_from_before_has_nothing_missing(self):
        whole = scan(Head(22), None, STEP)
        result = reconstruct(whole, pre_op=scan(Head(22), POSE, STEP))
        assert not result.patch.mask.any()
        assert "no defect of 5 ml or more was found: the patch is empty" in result.report.warnings

    def test_own_bone_stays_where_the_user_lets_it_be(self):
        hole = truth()
        half = hole.with_data(hole.mask & (np.arange(hole.shape[1]) < np.argwhere(hole.mask)[:, 1].mean())[:, None])
        result = reconstruct(defective(), pre_op=scan(Head(22), POSE, STEP), word=UserWord(hole=half))
        assert 0.8 * half.volume_ml < result.patch.volume_ml < 1.35 * half.volume_ml
        assert result.report.own_bone is not None
        assert result.confidence.outer_within_mm is None

    def test_what_cannot_be_used_is_said_of_the_file(self):
        with pytest.raises(InputError, match=r"skull\.nrrd: old\.nrrd: this seems to be another person's"):
            reconstruct(defective(), pre_op=scan(Head(18), POSE, STEP), own_name="old.nrrd", name="skull.nrrd")
        with pytest.raises(InputError, match="leave --refine out"):
            reconstruct(defective(), pre_op=scan(Head(22), POSE, STEP), refine=True)


@lru_cache(maxsize=1)
def first_person(root: Path) -> tuple[Volume, Volume, Volume]:
    """The first validation person's skull with its hole, what is missing, and the whole skull."""
    return cropped(tasks_of(root, "validation", ("parietotemporal",), 1)[0])


class TestRealSkulls:
    def test_a_mask_from_before_in_another_pose_gives_the_bone_back(self, real_data):
        post, missing, whole = first_person(real_data)
        old = moved(whole, np.random.default_rng(1), (10.0, 30.0))
        result = reconstruct(post, pre_op=old)
        assert dice(result.patch, missing) > 0.985
        assert result.report.own_bone is not None
        assert result.report.own_bone.fit.agreeing > 0.95  # type: ignore[union-attr]

    def test_a_removed_piece_gives_its_bone_back(self, real_data):
        post, missing, _ = first_person(real_data)
        removed = moved(flap_of(post, missing, 1.5), np.random.default_rng(1), (0.0, 180.0))
        result = reconstruct(post, flap=removed)
        assert dice(result.patch, missing) > 0.96

    def test_another_persons_scan_is_refused(self, real_data):
        _, other = tasks_of(real_data, "validation", ("parietotemporal",), 2)
        post, whole = first_person(real_data)[0], cropped(other)[2]
        with pytest.raises(InputError, match=r"another person's: only [123]\d%"):
            reconstruct(post, pre_op=whole)
