"""The challenge's metrics: closed forms, a plain reimplementation, and the public scorer on real skulls."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from calvaria.errors import GeometryError, InputError
from calvaria.metrics import Comparison, Scores, score
from calvaria.metrics.overlap import dice, near_bone
from calvaria.metrics.surface import hausdorff_mm, nearest_mm, surface_voxels, within_mm
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

BoolArray = NDArray[np.bool_]
SPACINGS = st.tuples(*[st.sampled_from([0.4, 0.5, 0.625, 1.0, 2.5])] * 3)


def grid_of(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Grid:
    return Grid(shape, np.diag([*spacing, 1.0]))


def box(shape: tuple[int, int, int], low: tuple[int, int, int], high: tuple[int, int, int]) -> BoolArray:
    mask = np.zeros(shape, bool, order="F")
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


def plain_scores(a: BoolArray, b: BoolArray, bone: BoolArray, spacing: tuple[float, float, float]) -> Scores:
    """The definitions over the whole array, by full distance transforms."""

    def overlap(x: BoolArray, y: BoolArray) -> float:
        return 2 * int((x & y).sum()) / int(x.sum() + y.sum()) if (x | y).any() else 1.0

    def edge(mask: BoolArray) -> BoolArray:
        return mask & ~ndimage.binary_erosion(mask, ndimage.generate_binary_structure(3, 1))

    bone = bone & ~b
    far = ndimage.distance_transform_edt(~bone, sampling=spacing) if bone.any() else np.full(bone.shape, np.inf)
    near = far <= 10.0 + 1e-6
    if a.any() and b.any():
        to_b = ndimage.distance_transform_edt(~edge(b), sampling=spacing)[edge(a)]
        to_a = ndimage.distance_transform_edt(~edge(a), sampling=spacing)[edge(b)]
        hd95 = float(np.percentile(np.concatenate([to_b, to_a]), 95))
    else:
        hd95 = math.inf if (a | b).any() else 0.0
    difference = 100.0 * (int(a.sum()) - int(b.sum()))
    volume = difference / int(b.sum()) if b.any() else (math.nan if a.any() else 0.0)
    border = overlap(a & near, b & near) if ((a | b) & near).any() or not (a | b).any() else math.nan
    return Scores(overlap(a, b), border, hd95, volume, int((a & bone).sum()))


@st.composite
def blobs(draw: st.DrawFn) -> tuple[BoolArray, BoolArray, BoolArray, tuple[float, float, float]]:
    shape = draw(st.tuples(st.integers(3, 24), st.integers(3, 24), st.integers(3, 24)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    thresholds = [draw(st.sampled_from([0.02, 0.3, 0.6, 2.0])) for _ in range(3)]
    masks = [ndimage.gaussian_filter(rng.normal(size=shape), 1.5) * 5 > t for t in thresholds]
    return masks[0], masks[1], masks[2], draw(SPACINGS)


@given(blobs())
def test_random_masks_score_as_the_plain_definitions_say(case: tuple[BoolArray, ...]) -> None:
    a, b, bone, spacing = case
    grid = grid_of(a.shape, spacing)
    found = score(*(Volume(np.asfortranarray(m), grid) for m in (a, b, bone)))
    wanted = plain_scores(a, b, bone, spacing)
    assert (found.dsc, found.overlap_voxels) == (wanted.dsc, wanted.overlap_voxels)
    assert found.bdsc == pytest.approx(wanted.bdsc, abs=0, nan_ok=True)
    assert found.hd95_mm == pytest.approx(wanted.hd95_mm, abs=1e-6)
    assert found.volume_error_percent == pytest.approx(wanted.volume_error_percent, nan_ok=True)


@given(blobs(), st.permutations(range(3)), st.sets(st.integers(0, 2)))
def test_scores_do_not_depend_on_how_the_axes_lie(
    case: tuple[BoolArray, ...], order: list[int], flipped: set[int]
) -> None:
    a, b, bone, spacing = case
    volumes = [Volume(m, grid_of(a.shape, spacing)) for m in (a, b, bone)]
    plain = score(*volumes)
    turned = score(*(v.permute((order[0], order[1], order[2])).flip(tuple(sorted(flipped))) for v in volumes))
    assert turned.hd95_mm == pytest.approx(plain.hd95_mm)
    assert turned.dsc == plain.dsc
    assert turned.bdsc == pytest.approx(plain.bdsc, abs=0, nan_ok=True)


@given(blobs())
def test_swapping_prediction_and_truth_keeps_dice_and_hausdorff(case: tuple[BoolArray, ...]) -> None:
    a, b, _, spacing = case
    one, two = (Volume(m, grid_of(a.shape, spacing)) for m in (a, b))
    there, back = score(one, two, one), score(two, one, one)
    assert there.dsc == back.dsc
    assert there.hd95_mm == pytest.approx(back.hd95_mm)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("step", [1, 3])
def test_a_cube_shifted_along_one_axis(axis: int, step: int) -> None:
    """Half of the lateral faces' voxels keep their place: what moved is `step` layers at either end."""
    spacing, n, shape = (0.5, 0.75, 2.0), 10, (30, 30, 30)
    a = box(shape, (10, 10, 10), (20, 20, 20))
    b = np.roll(a, step, axis)
    grid = grid_of(shape, spacing)
    comparison = Comparison(Volume(a, grid), Volume(b, grid), Volume(np.zeros(shape, bool), grid))
    assert comparison.scores.dsc == pytest.approx((n - step) / n)
    # The furthest are the voxels inside the leading and trailing faces, `step` layers from the other cube.
    assert comparison.to_truth_mm.max() == pytest.approx(step * spacing[axis])
    assert hausdorff_mm(comparison.to_truth_mm, comparison.to_prediction_mm, 100) == pytest.approx(step * spacing[axis])
    assert len(comparison.to_truth_mm) == n**3 - (n - 2) ** 3
    assert comparison.scores.volume_error_percent == 0


def test_two_parallel_plates_are_their_gap_apart() -> None:
    shape, grid = (20, 20, 20), grid_of((20, 20, 20), (0.4, 0.4, 1.5))
    a, b = box(shape, (0, 0, 4), (20, 20, 5)), box(shape, (0, 0, 9), (20, 20, 10))
    assert score(Volume(a, grid), Volume(b, grid), Volume(a, grid)).hd95_mm == pytest.approx(5 * 1.5)


def test_voxels_at_exactly_ten_millimetres_count_as_near() -> None:
    grid = grid_of((60, 3, 3), (0.4, 1.0, 1.0))
    bone, plate = box((60, 3, 3), (0, 0, 0), (1, 3, 3)), box((60, 3, 3), (1, 0, 0), (60, 3, 3))
    assert int(near_bone(plate, bone, grid).sum()) == 25 * 9  # 0.4 mm steps: 10 mm is the 25th layer


def test_without_bone_nothing_is_near() -> None:
    grid = grid_of((8, 8, 8), (1.0, 1.0, 1.0))
    assert not near_bone(np.ones((8, 8, 8), bool), np.zeros((8, 8, 8), bool), grid).any()
    assert not near_bone(np.zeros((8, 8, 8), bool), np.ones((8, 8, 8), bool), grid).any()


def test_a_sheared_grid_is_measured_in_the_world() -> None:
    affine = np.eye(4)
    affine[0, 1] = 1.0  # axis 1 runs diagonally: voxel (0, 1, 0) lies at (1, 1, 0)
    a, b = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), bool)
    a[4, 2, 4], b[4, 6, 4] = True, True
    grid = Grid((9, 9, 9), affine)
    assert score(Volume(a, grid), Volume(b, grid), Volume(a, grid)).hd95_mm == pytest.approx(4 * math.sqrt(2))


def test_both_empty_is_perfect_and_one_empty_is_infinitely_far() -> None:
    grid = grid_of((6, 6, 6), (1.0, 1.0, 1.0))
    empty, full = Volume(np.zeros((6, 6, 6), bool), grid), Volume(box((6, 6, 6), (2, 2, 2), (4, 4, 4)), grid)
    bone = Volume(box((6, 6, 6), (0, 0, 0), (2, 6, 6)), grid)
    assert score(empty, empty, full) == Scores(1.0, 1.0, 0.0, 0.0, 0)
    assert score(empty, full, bone) == Scores(0.0, 0.0, math.inf, -100.0, 0)
    assert score(full, empty, empty).hd95_mm == math.inf
    assert score(full, empty, full).overlap_voxels == 8


def test_against_an_empty_truth_there_is_no_volume_error_and_without_bone_no_border() -> None:
    grid = grid_of((6, 6, 6), (1.0, 1.0, 1.0))
    empty, full = Volume(np.zeros((6, 6, 6), bool), grid), Volume(np.ones((6, 6, 6), bool), grid)
    assert math.isnan(score(full, empty, empty).volume_error_percent)
    assert score(empty, empty, empty).volume_error_percent == 0
    for pair in ((full, empty), (empty, full), (full, full)):
        assert math.isnan(score(*pair, empty).bdsc)


@given(blobs())
def test_a_complete_skull_stands_in_for_the_defective_one(case: tuple[BoolArray, ...]) -> None:
    a, b, bone, spacing = case
    grid = grid_of(a.shape, spacing)
    prediction, truth = Volume(a, grid), Volume(b, grid)
    assert score(prediction, truth, Volume(bone | b, grid)) == score(prediction, truth, Volume(bone & ~b, grid))


def test_grids_that_differ_are_refused() -> None:
    mask = np.ones((4, 4, 4), bool)
    here, shifted = (
        Volume(mask, Grid.isotropic((4, 4, 4), 1.0)),
        Volume(mask, Grid.isotropic((4, 4, 4), 1.0, (0, 0, 1))),
    )
    small = Volume(mask[:3], Grid.isotropic((3, 4, 4), 1.0))
    with pytest.raises(GeometryError, match=r"predicted and the true patch must lie on one grid; .* 1 mm apart"):
        score(shifted, here, here)
    with pytest.raises(GeometryError, match=r"the defective skull must lie on one grid; their shapes"):
        score(here, here, small)
    with pytest.raises(GeometryError, match=r"two masks of one shape are wanted; got \(4, 4, 4\) and \(3, 4, 4\)"):
        dice(mask, mask[:3])


def test_an_image_is_no_mask() -> None:
    grid = Grid.isotropic((4, 4, 4), 1.0)
    mask, image = Volume(np.ones((4, 4, 4), bool), grid), Volume(np.ones((4, 4, 4), np.uint8), grid)
    with pytest.raises(InputError, match="a mask is wanted here"):
        score(image, mask, mask)


@given(blobs())
def test_surface_voxels_are_what_one_erosion_removes(case: tuple[BoolArray, ...]) -> None:
    mask = case[0]
    eroded = ndimage.binary_erosion(mask, ndimage.generate_binary_structure(3, 1))
    assert np.array_equal(surface_voxels(mask), np.argwhere(mask & ~eroded))
    solid = mask | case[1]
    wider = ndimage.binary_erosion(solid, ndimage.generate_binary_structure(3, 1))
    assert np.array_equal(surface_voxels(mask, solid), np.argwhere(mask & ~wider))


@given(st.integers(0, 2**32), st.integers(0, 400), st.integers(0, 400), st.floats(0.1, 30.0))
def test_points_within_reach_are_those_whose_nearest_target_is(seed: int, n: int, m: int, reach: float) -> None:
    rng = np.random.default_rng(seed)
    points, targets = rng.uniform(0, 40, (n, 3)), rng.uniform(0, 15, (m, 3))
    distance = nearest_mm(points, targets)
    if n and m:
        plain = np.sqrt(((points[:, None] - targets[None]) ** 2).sum(-1)).min(1)
        np.testing.assert_allclose(distance, plain)
    assert np.array_equal(within_mm(points, targets, reach), distance <= reach)


def test_hausdorff_pools_both_directions() -> None:
    there, back = np.zeros(98), np.array([10.0, 10.0])
    assert hausdorff_mm(there, back) == 0.0  # the larger of two percentiles would be 10
    assert hausdorff_mm(there, back, 100) == 10.0
    assert hausdorff_mm(np.array([]), np.array([])) == 0.0
    assert hausdorff_mm(there, np.array([])) == math.inf


def load_scorer(data: Path) -> ModuleType:
    path = data.parent / "score.py"
    if not path.is_file():
        pytest.skip(f"NO ORACLE: {path.name} does not lie beside the data folder")
    spec = importlib.util.spec_from_file_location("oracle", path)
    if spec is None or spec.loader is None:
        pytest.skip(f"NO ORACLE: {path.name} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("number", "shift"), [("009", (0, -3, 2))])
def test_a_moved_official_implant_scores_as_the_public_scorer_says(
    real_data: Path, number: str, shift: tuple[int, int, int]
) -> None:
    oracle = load_scorer(real_data)
    folder = real_data / "autoimplant2020" / "training_set"
    complete, spacing = oracle.read(folder / "complete_skull" / f"{number}.nrrd")
    truth, _ = oracle.read(folder / "implant" / f"{number}.nrrd")
    moved = np.roll(truth, shift, (0, 1, 2))
    defective = complete & ~truth
    grid = grid_of(complete.shape, tuple(spacing))
    found = score(Volume(moved, grid), Volume(truth, grid), Volume(complete, grid))
    dsc, bdsc, hd95, volume, overlap = oracle.score(moved, truth, defective, np.asarray(spacing))
    assert (found.dsc, found.bdsc, found.overlap_voxels) == (dsc, bdsc, overlap)
    assert found.hd95_mm == pytest.approx(hd95, abs=1e-9)
    assert found.volume_error_percent == pytest.approx(volume)
    assert overlap > 0
