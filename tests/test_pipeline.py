"""The whole way: on made-up heads with their own model, and on real skulls with the one that ships."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tests import real_skulls
from tests.heads import BACK, SIDE, Ball, Head, dice, rigid, scan, truth_of
from threadpoolctl import threadpool_info, threadpool_limits

from calvaria import pipeline
from calvaria.errors import InputError
from calvaria.io import read_mask
from calvaria.metrics import score
from calvaria.pipeline import Reconstruction, evaluate, reconstruct
from calvaria.reconstruction.box import box_to_world
from calvaria.skull.bone import bone_of
from calvaria.skull.head import HEAD_CENTRE_MM, direction
from calvaria.skull.segment import Segmentation
from calvaria.volume import Grid, Volume, coarsen, resample_mask

TOP = Ball((0.0, 30.0, 73.0), 36.0)
"""A hole behind the vertex."""

POSE = rigid((15, -20, 30), (50, -40, 200))


@pytest.mark.usefixtures("family")
class TestMadeUpHeads:
    def test_two_holes_of_a_leaning_head_are_filled(self):
        head = Head(22, (SIDE, BACK))
        defective = scan(head, POSE)
        told: list[tuple[str, float]] = []
        result = reconstruct(defective, progress=lambda stage, done: told.append((stage, done)))
        truth = truth_of(head, defective, POSE)
        assert dice(result.patch, truth) > 0.88
        assert result.patch.grid is defective.grid
        assert result.patch.data.flags.f_contiguous
        assert not (result.patch.mask & defective.mask).any()
        np.testing.assert_array_equal(result.completed.mask, result.patch.mask | defective.mask)
        assert [hole.volume_ml > 5 for hole in result.holes[:2]] == [True, True]
        self.check_report(result)
        assert [stage for stage, _ in told] == list(pipeline.STAGES)
        assert [done for _, done in told] == sorted(pipeline.STAGES.values())

    def test_linear_algebra_keeps_to_one_thread_and_has_its_own_again_afterwards(self):
        def threads() -> set[int]:
            return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

        told = []
        with threadpool_limits(2, user_api="blas"):
            reconstruct(scan(Head(23)), progress=lambda stage, done: told.append(threads()))
            assert threads() == {2}
        assert told == [{1}] * len(pipeline.STAGES)

    def check_report(self, result: Reconstruction) -> None:
        assert result.report.model.sha256 == "0" * 64
        assert set(result.report.seconds) == set(pipeline.STAGES) - {"done"}
        to_world, scale = np.array(result.report.pose.canonical_to_world), np.array(result.report.pose.scale)
        np.testing.assert_allclose(to_world, result.frame.to_world, atol=1e-8)
        np.testing.assert_allclose(to_world[:3, :3].T @ to_world[:3, :3], np.eye(3), atol=1e-7)
        assert np.linalg.det(to_world[:3, :3]) > 0
        assert np.abs(scale - 1).max() > 0.001  # a head of the mean's size would not tell the two apart
        np.testing.assert_allclose(to_world @ np.diag([*scale, 1]), box_to_world(result.frame), atol=1e-5)

    def test_a_complete_head_gives_an_empty_patch_and_says_so(self):
        result = reconstruct(scan(Head(23)))
        assert not result.patch.mask.any()
        assert result.holes == ()
        assert result.confidence.expected_dsc is None
        assert result.report.warnings == ("no defect of 5 ml or more was found: the patch is empty",)

    def test_a_head_that_lies_upside_down_is_filled_with_a_warning(self):
        pose = rigid((180, 0, 0))
        head = Head(20, (SIDE,))
        defective = scan(head, pose)
        result = reconstruct(defective)
        assert dice(result.patch, truth_of(head, defective, pose)) > 0.85
        assert any("does not stand upright" in warning for warning in result.report.warnings)

    def test_how_the_voxels_are_stored_changes_nothing_in_the_world(self):
        defective = Head(20, (SIDE,)).on(Grid.isotropic((90, 112, 84), 2.0, (-89.0, -111.0, -75.0)))
        stored = defective.permute((1, 2, 0)).flip((0, 2))
        one, other = reconstruct(defective).patch, reconstruct(stored).patch
        assert dice(one.permute((1, 2, 0)).flip((0, 2)), other) > 0.97

    def test_a_mask_of_numbers_is_a_mask(self):
        defective = scan(Head(20, (SIDE,)))
        numbers = defective.with_data(np.where(defective.data, 255, 0).astype(np.uint8))
        np.testing.assert_array_equal(bone_of(numbers).bone.data, defective.data)

    def test_a_bone_threshold_is_no_matter_of_masks(self):
        with pytest.raises(
            InputError, match=r"threshold of 300 HU is given, but the volume is a mask.* leave --threshold"
        ):
            bone_of(scan(Head(20, (SIDE,)), None, (6.0, 6.0, 6.0)), threshold_hu=300)
        with pytest.raises(InputError, match="the volume is a mask, which has no HU"):
            reconstruct(scan(Head(20, (SIDE,)), None, (6.0, 6.0, 6.0)), threshold_hu=300)

    def test_the_bone_threshold_reaches_the_segmentation(self, monkeypatch):
        asked: list[float | None] = []

        def segment(ct: Volume, threshold_hu: float | None, name: str, *, stated: bool) -> Segmentation:
            asked.append(threshold_hu)
            return Segmentation(scan(Head(20, (SIDE,))), threshold_hu)

        monkeypatch.setattr("calvaria.skull.bone.segment_bone", segment)
        ct = scan(Head(20), None, (6.0, 6.0, 6.0))
        bone_of(ct, "ct")
        bone_of(ct, "ct", 180.0)
        reconstruct(ct, kind="ct", threshold_hu=500.0)
        assert asked == [None, 180.0, 500.0]

    @pytest.mark.parametrize("factor", [0.7, 0.8])
    def test_slices_too_near_give_a_warning_and_no_expectation(self, factor):
        head = scan(Head(20, (SIDE,)))
        affine = head.affine.copy()
        affine[:3, 2] *= factor
        result = reconstruct(Volume(head.data, Grid(head.shape, affine)))
        assert result.confidence.expected_dsc is None
        assert any(f"check the voxel spacing (2 x 2 x {2 * factor:g} mm)" in line for line in result.report.warnings)

    def test_a_head_of_a_newborns_size_is_refused_with_its_measures(self):
        head = scan(Head(20, (SIDE,)))
        affine = head.affine.copy()
        affine[:3, :3] *= 0.6
        with pytest.raises(InputError, match=r"the head measures \d+ x \d+ x \d+ mm .*adult ones .*1.2 x 1.2 x 1.2 mm"):
            reconstruct(Volume(head.data, Grid(head.shape, affine)))

    def test_a_hole_cut_by_the_scans_end_is_told_and_nothing_expected(self):
        defective = scan(Head(21, (TOP,)))
        assert not any("scan ends" in line for line in reconstruct(defective).report.warnings)
        top = int(np.flatnonzero(defective.mask.any(axis=(0, 1)))[-1])
        cut = defective.crop((slice(None), slice(None), slice(0, top - 3)))
        result = reconstruct(cut)
        told = [line for line in result.report.warnings if "the scan ends at the vertex: about" in line]
        assert len(told) == 1
        assert result.patch.volume_ml > 5
        assert result.confidence.expected_dsc is None

    @pytest.mark.parametrize("below_mm", [14.0, 22.0])
    def test_a_vertex_that_is_not_in_the_scan_is_no_hole(self, below_mm):
        complete = scan(Head(22), None, (2.0, 2.0, 4.0))
        top = int(np.flatnonzero(complete.mask.any(axis=(0, 1)))[-1])
        result = reconstruct(complete.crop((slice(None), slice(None), slice(0, top - int(below_mm / 4)))))
        assert not result.patch.mask.any()
        assert "the scan ends at the vertex: what lies beyond was not looked at" in result.report.warnings
        assert {one.reason for one in result.report.left_open} <= {"beyond the scan's end"}

    def test_a_small_hole_is_told_and_filled_where_it_is_asked_for(self):
        head = Head(21, (Ball((38.0, -16.0, 62.0), 11.0),))
        defective = scan(head)
        result = reconstruct(defective)
        assert not result.patch.mask.any()
        (left,) = result.report.left_open
        assert 0.4 < left.volume_ml < 5
        assert left.place.startswith("left")
        assert any(line.startswith("left open: ") for line in result.report.warnings)
        asked = reconstruct(defective, min_hole_ml=1.0)
        assert dice(asked.patch, truth_of(head, defective)) > 0.8
        assert asked.report.left_open == ()

    @pytest.mark.parametrize("wanted", [0.0, 0.2, float("nan"), float("inf")])
    def test_a_least_hole_that_is_no_usable_volume_is_refused(self, wanted):
        with pytest.raises(InputError, match=r"the smallest hole to fill must be 0\.5 ml or more; got"):
            reconstruct(scan(Head(20), None, (6.0, 6.0, 6.0)), min_hole_ml=wanted)

    def test_an_empty_mask_is_refused(self):
        empty = Volume(np.zeros((30, 30, 30), bool), Grid.isotropic((30, 30, 30), 3.0))
        with pytest.raises(InputError, match="the mask is empty: no voxel is bone"):
            reconstruct(empty)

    def test_what_is_no_skull_is_refused(self):
        cube = np.zeros((50, 50, 50), bool)
        cube[10:40, 10:40, 10:40] = True
        with pytest.raises(InputError, match="does not resemble a skull"):
            reconstruct(Volume(cube, Grid.isotropic(cube.shape, 4.0)))


def test_evaluate_is_the_score():
    head = Head(20, (SIDE,))
    defective = scan(head, None, (3.0, 3.0, 3.0))
    truth = truth_of(head, defective)
    assert evaluate(truth, truth, defective) == score(truth, truth, defective)
    assert evaluate(truth, truth, defective).dsc == 1


def test_an_unknown_engine_is_refused_before_any_work():
    with pytest.raises(InputError, match="there is no model called 'guess'"):
        reconstruct(scan(Head(20), None, (6.0, 6.0, 6.0)), engine="guess")


# ---- real skulls, and the model that ships -------------------------------------------------------------------------

CASE = "012"
LEAST = {"official": 0.85, "turned": 0.80, "cut": 0.80, "slices": 0.80}
"""Least Dice."""


@pytest.fixture
def skull(real_data: Path) -> tuple[Volume, Volume]:
    """A real defective skull and its missing bone."""
    return _skull(real_data / "autoimplant2020" / "training_set")


@lru_cache(maxsize=1)
def _skull(folder: Path) -> tuple[Volume, Volume]:
    complete, implant = (read_mask(folder / kind / f"{CASE}.nrrd") for kind in ("complete_skull", "implant"))
    return complete.with_data(complete.mask & ~implant.mask), implant


@pytest.fixture
def completed(real_data: Path) -> Reconstruction:
    """What comes of that skull as it is."""
    return _completed(real_data / "autoimplant2020" / "training_set")


@lru_cache(maxsize=1)
def _completed(folder: Path) -> Reconstruction:
    return reconstruct(_skull(folder)[0])


def test_the_official_defect_of_a_real_skull(skull, completed):
    defective, truth = skull
    result = completed
    assert evaluate(result.patch, truth, defective).dsc > LEAST["official"]
    assert result.patch.grid is defective.grid
    assert not (result.patch.mask & defective.mask).any()
    assert result.report.model.licence == "CC-BY-NC-SA-4.0"


def turned(volume: Volume, degrees: float, spacing_mm: float) -> Volume:
    """The same head turned in the world about an oblique axis, resampled on the world's axes."""
    turn = np.eye(4)
    axis = np.array([1.0, -2.0, 2.0]) / 3
    turn[:3, :3] = Rotation.from_rotvec(np.radians(degrees) * axis).as_matrix()
    moved = Volume(volume.data, volume.grid.moved(turn))
    ends = moved.grid.corners_mm()
    low, high = ends.min(axis=0), ends.max(axis=0)
    i, j, k = (int(n) for n in np.ceil((high - low) / spacing_mm) + 1)
    return resample_mask(moved, Grid.isotropic((i, j, k), spacing_mm, low))


def test_a_real_skull_turned_by_30_degrees(skull):
    defective, truth = (turned(volume, 30.0, 1.0) for volume in skull)
    truth = truth.with_data(truth.mask & ~defective.mask)
    assert dice(reconstruct(defective).patch, truth) > LEAST["turned"]


def test_a_real_skull_cut_at_its_lower_edge(skull):
    defective, truth = skull
    height = Volume(defective.data, defective.grid).grid.to_world(np.argwhere(coarsen(truth, 6.0).data > 0.5))
    assert len(height)
    k = int(np.argwhere(truth.data.any(axis=(0, 1)))[0, 0])
    up = defective.grid.affine[2, 2] > 0
    keep = slice(max(k - 10, 0), None) if up else slice(0, None)
    cut, missing = (volume.crop((slice(None), slice(None), keep)) for volume in (defective, truth))
    assert dice(reconstruct(cut).patch, missing) > LEAST["cut"]


def test_a_real_skull_in_slices_of_2_5_mm(skull):
    defective, truth = skull
    i, j, k = defective.grid.shape
    wide = defective.grid.affine.copy()
    step = 2.5 / defective.grid.spacing_mm[2]
    wide[:3, 2] *= step
    grid = Grid((i, j, int(k / step)), wide)
    sliced, missing = resample_mask(defective, grid), resample_mask(truth, grid)
    missing = missing.with_data(missing.mask & ~sliced.mask)
    assert dice(reconstruct(sliced).patch, missing) > LEAST["slices"]


FAULTS = {"near": (1, 1, 0.7), "nearer": (1, 1, 0.8), "apart": (1, 1, 1.2)}
"""What a header's spacing is multiplied by."""


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_wrong_slice_spacing_of_a_real_skull_is_told(skull, completed, name):
    defective, _ = skull
    assert not any("voxel spacing" in line for line in completed.report.warnings)
    affine = defective.affine.copy()
    affine[:3, :3] *= np.array(FAULTS[name])
    result = reconstruct(Volume(defective.data, Grid(defective.shape, affine)))
    assert result.confidence.expected_dsc is None
    assert any("times as high as the mean" in line for line in result.report.warnings)


@pytest.mark.parametrize("name", ["spacing lost", "a newborn's size", "half the slices' distance"])
def test_a_real_skull_of_an_impossible_size_is_refused_at_once(skull, name):
    defective, _ = skull
    spacing = np.array(defective.grid.spacing_mm)
    factors = {"spacing lost": 1 / spacing, "a newborn's size": 0.6, "half the slices' distance": np.array([1, 1, 0.5])}
    affine = defective.affine.copy()
    affine[:3, :3] *= factors[name]
    with pytest.raises(InputError, match="check the voxel spacing"):
        reconstruct(Volume(defective.data, Grid(defective.shape, affine)))


@pytest.mark.parametrize(("number", "missing_mm"), [("009", 15), ("022", 22), ("014", 30)])
def test_a_complete_real_skull_without_its_vertex_in_slices_of_4_mm_gets_nothing(real_data, number, missing_mm):
    complete = read_mask(real_data / "autoimplant2020" / "training_set" / "complete_skull" / f"{number}.nrrd")
    step = 4 / complete.grid.spacing_mm[2]
    top = int(np.flatnonzero(complete.mask.any(axis=(0, 1)))[-1]) - int(missing_mm / complete.grid.spacing_mm[2])
    wide = complete.affine.copy()
    wide[:3, 3] = complete.grid.to_world([0, 0, (step - 1) / 2])
    wide[:3, 2] *= step
    i, j, _ = complete.shape
    result = reconstruct(resample_mask(complete, Grid((i, j, int(top / step)), wide)))
    assert not result.patch.mask.any()
    assert any("the scan ends at the vertex" in line for line in result.report.warnings)


def test_a_vertex_hole_of_a_real_skull_that_the_scan_cuts_is_told_with_what_lies_beyond(real_data):
    complete, frame = real_skulls.complete(real_data, "009")
    index = np.argwhere(complete.mask)
    place = complete.grid.to_world(index) @ frame.to_canonical[:3, :3].T + frame.to_canonical[:3, 3]
    taken = (np.hypot(place[:, 0] - 35, place[:, 1] - 10) < 35) & (place[:, 2] > 20)
    top = int(index[:, 2].max()) - round(10 / complete.grid.spacing_mm[2])
    data = complete.mask.copy()
    data[tuple(index[taken].T)] = False
    cut = complete.with_data(data).crop((slice(None), slice(None), slice(0, top)))
    result = reconstruct(cut)
    truth = cut.with_data(complete.mask[:, :, :top] & ~cut.mask)
    assert dice(result.patch, truth) > 0.88
    assert result.confidence.beyond.startswith("the scan ends at the vertex")
    assert result.confidence.outer_within_mm is None
    assert any(re.match(r"the scan ends at the vertex: about \d+\.\d ml of", line) for line in result.report.warnings)


def test_burr_holes_of_a_real_skull_are_told_and_filled_where_asked_for(real_data):
    complete, frame = real_skulls.complete(real_data, "009")
    index = np.argwhere(complete.mask)
    ray = complete.grid.to_world(index) @ frame.to_canonical[:3, :3].T + frame.to_canonical[:3, 3] - HEAD_CENTRE_MM
    data = complete.mask.copy()
    for azimuth, elevation, diameter_mm in ((70, 50, 14), (-40, 40, 20)):
        axis = direction(azimuth, elevation)
        along = ray @ axis
        taken = (np.linalg.norm(ray - along[:, None] * axis, axis=1) < diameter_mm / 2) & (along > 20)
        data[tuple(index[taken].T)] = False
    defective = complete.with_data(data)
    truth = complete.with_data(complete.mask & ~data)
    left = reconstruct(defective)
    assert not left.patch.mask.any()
    assert [round(hole.across_mm) for hole in left.report.left_open] == pytest.approx([20, 14], abs=2)
    filled = reconstruct(defective, min_hole_ml=0.5)
    assert dice(filled.patch, truth) > 0.9
    assert filled.report.left_open == ()


def test_the_hole_of_a_real_patient_is_closed(real_data: Path) -> None:
    result = real_skulls.patient(real_data)
    (hole,) = result.holes
    # A frontal hole down to the brow; its half closed would have half the area.
    assert 12 < hole.area_cm2 < 18
    assert 6 < hole.volume_ml < 11
    bone = np.argwhere(result.defective.mask)
    front = result.defective.grid.to_world(bone)[:, 1].min()
    assert abs(hole.centre_mm[1] - front) < 40
