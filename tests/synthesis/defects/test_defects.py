"""Synthetic defects on a model head: an ellipsoidal shell in the canonical frame."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from calvaria.errors import GeometryError, InputError
from calvaria.io import read_mask
from calvaria.skull.canonical import LANDMARK_MM, LANDMARK_NORMAL, locate
from calvaria.skull.head import HEAD_CENTRE_MM, HEAD_HALF_AXES_MM
from calvaria.synthesis.defects import (
    ALL_KINDS,
    KINDS,
    DefectSpec,
    Spec,
    apply_defect,
    cut_defect,
    cutting,
    defect_area_cm2,
    sample_defect,
    sampling,
    soundness,
)
from calvaria.synthesis.defects.prisms import PrismSpec
from calvaria.synthesis.defects.sampling import (
    BIFRONTAL_CM2,
    BREGMA_Y_MM,
    BROW_GAP_MM,
    HEMI_CM2,
    KERF_MM,
    MIN_LENGTH_MM,
    SINUS_MM,
    sample_specs,
)
from calvaria.synthesis.defects.specs import MultipleSpec, spec_from_json
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

BALL = DefectSpec("ball", ((0.0, 0.0, 0.0, 20.0),))
HERE = np.eye(4)


def head(spacing_mm: float) -> Volume:
    """A shell of 7 mm, open below z = -45 mm, on a grid along the canonical axes."""
    low, high = np.array([-80.0, -98.0, -45.0]), np.array([80.0, 98.0, 88.0])
    i, j, k = (int(n) for n in np.ceil((high - low) / spacing_mm) + 1)
    grid = Grid.isotropic((i, j, k), spacing_mm, low)
    x, y, z = (np.arange(n) * spacing_mm + start for n, start in zip(grid.shape, low, strict=True))

    def inside(shrink: float) -> NDArray[np.bool_]:
        a, b, c = np.array([72.0, 90.0, 70.0]) - shrink
        return (x[:, None, None] / a) ** 2 + (y[:, None] / b) ** 2 + ((z - 10.0) / c) ** 2 <= 1

    return Volume(np.asfortranarray(inside(0.0) & ~inside(7.0)), grid)


HEAD = head(2.5)
SEEDS = st.integers(0, 2**32)


def drawn(kinds: tuple[str, ...]) -> st.SearchStrategy[Spec]:
    return st.builds(lambda kind, seed: sample_defect(kind, np.random.default_rng(seed)), st.sampled_from(kinds), SEEDS)


BALLS, SPECS = drawn(KINDS), drawn(ALL_KINDS)


def block(shape: tuple[int, int, int], spacing_mm: float = 1.0) -> Volume:
    """Solid bone, the canonical origin in its middle."""
    origin = [-(n - 1) / 2 * spacing_mm for n in shape]
    return Volume(np.ones(shape, bool), Grid.isotropic(shape, spacing_mm, origin))


def pieces(mask: NDArray[np.bool_]) -> int:
    return int(ndimage.label(mask)[1])


@given(SPECS)
def test_a_spec_comes_back_from_json(spec: Spec) -> None:
    assert type(spec).from_json(spec.to_json()) == spec
    assert spec_from_json(spec.to_json()) == spec


@given(SPECS)
@settings(max_examples=25)
def test_the_parts_make_up_the_whole_and_each_patch_is_one_piece(spec: Spec) -> None:
    defective, patch = apply_defect(HEAD, spec, HERE)
    assert not (defective.mask & patch.mask).any()
    assert np.array_equal(defective.mask | patch.mask, HEAD.mask)
    assert pieces(patch.mask) <= len(spec.parts)


@given(SPECS)
@settings(max_examples=25)
def test_the_shape_lies_within_its_bounds(spec: Spec) -> None:
    low, high = spec.bounds_mm()
    points = np.random.default_rng(0).uniform(low - 30, high + 30, (4000, 3))
    outside = ((points < low) | (points > high)).any(axis=1)
    field = spec.field_mm(points)
    assert field.dtype == np.float32
    assert (field[outside] > 0).all()


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_kind_gives_a_sound_patch_where_it_belongs(kind: str) -> None:
    spec, defective, patch = cut_defect(HEAD, kind, np.random.default_rng(5), HERE)
    least, most = soundness.SAWN_ML.get(kind, soundness.VOLUME_ML)
    assert least <= patch.volume_ml <= most
    assert pieces(patch.mask) == len(spec.parts)
    assert pieces(defective.mask) == 1
    x, y, z = patch.grid.to_world(np.argwhere(patch.mask)).T
    if kind == "bilateral":
        assert 0.2 <= (x > 0).mean() <= 0.8
        assert z.min() > 0
    elif kind == "frontoorbital":
        assert z.min() < -5  # down to the brow
        assert y.mean() < -50
    elif kind == "parietotemporal":
        assert abs(x.mean()) > 45
    again = cut_defect(HEAD, kind, np.random.default_rng(5), HERE)
    assert again[0] == spec
    assert np.array_equal(again[2].mask, patch.mask)


def test_a_ball_in_solid_bone_has_its_volume() -> None:
    _, patch = apply_defect(block((64, 64, 64)), BALL, HERE)
    assert patch.volume_ml == pytest.approx(4 / 3 * math.pi * 2.0**3, rel=0.01)
    points = np.array([[0.0, 0, 0], [20, 0, 0], [0, 30, 40]])
    np.testing.assert_allclose(BALL.field_mm(points), [-20, 0, 30], atol=1e-5)


@given(st.sampled_from(ALL_KINDS), st.integers(0, 1000))
@settings(max_examples=6)
def test_a_spec_means_the_same_defect_at_any_resolution(kind: str, seed: int) -> None:
    spec, _, coarse = cut_defect(HEAD, kind, np.random.default_rng(seed), HERE)
    fine = apply_defect(head(1.25), spec, HERE)[1]
    assert coarse.volume_ml == pytest.approx(fine.volume_ml, rel=0.06)
    at = np.rint(fine.grid.to_index(coarse.grid.to_world(np.argwhere(coarse.mask)))).astype(int)
    assert fine.mask[tuple(at.T)].mean() > 0.97  # but for voxels at the shell's own surface


@given(st.permutations(range(3)), st.sets(st.integers(0, 2)), st.integers(0, 100))
@settings(max_examples=15)
def test_the_patch_keeps_its_place_however_the_axes_lie(order: list[int], flipped: set[int], seed: int) -> None:
    spec = sample_defect("random_1", np.random.default_rng(seed))
    _, patch = apply_defect(HEAD, spec, HERE)

    def turn(volume: Volume) -> Volume:
        return volume.permute((order[0], order[1], order[2])).flip(tuple(sorted(flipped)))

    turned = apply_defect(turn(HEAD), spec, HERE)[1]
    # Rounding may decide a voxel at the very edge otherwise.
    assert np.count_nonzero(turned.mask ^ turn(patch).mask) <= 2


def test_the_patch_moves_with_the_head() -> None:
    spec, _, patch = cut_defect(HEAD, "parietotemporal", np.random.default_rng(1), HERE)
    angle = np.radians(25)
    move = np.eye(4)
    move[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    move[:3, 3] = 10, -40, 300
    moved = apply_defect(Volume(HEAD.data, HEAD.grid.moved(move)), spec, move)[1]
    assert np.count_nonzero(moved.mask ^ patch.mask) <= 2


def test_nothing_is_cut_where_there_is_no_bone() -> None:
    away = np.eye(4)
    away[0, 3] = 5000
    for frame in (away, HERE):  # beside the array; in the empty middle of the head
        defective, patch = apply_defect(HEAD, DefectSpec("ball", ((0, 0, 0, 20),)), frame)
        assert not patch.mask.any()
        assert np.array_equal(defective.mask, HEAD.mask)


def peg(size: int) -> Volume:
    """A plate with a hole-sized ball's worth of bone below a peg that only the ball holds: z up, plate at z = 0."""
    volume = block((81, 81, 61))
    mask = np.zeros(volume.shape, bool)
    mask[:, :, 27:34] = True  # the plate: z -3 to 3
    mask[40 - size : 41 + size, 40 - size : 41 + size, 34:58] = True  # the peg on it: z 4 to 27
    return volume.with_data(mask)


def test_a_small_island_goes_to_the_patch() -> None:
    complete = peg(3)  # the ball reaches z = 20; 7 x 7 x 7 voxels of the peg stand above it
    defective, patch = apply_defect(complete, BALL, HERE)
    assert pieces(defective.mask) == 1
    assert patch.mask[40, 40, 57]


def test_a_large_island_stays_and_is_unsound() -> None:
    complete = peg(12)
    defective, patch = apply_defect(complete, BALL, HERE)
    assert pieces(defective.mask) == 2
    assert defective.mask[40, 40, 57]
    assert not (defective.mask & patch.mask).any()
    assert cutting._cut(complete, BALL, complete.affine).stray_voxels > 3000


def test_a_second_piece_inside_the_shape_stays_with_the_skull() -> None:
    volume = block((81, 81, 61))
    mask = np.zeros(volume.shape, bool)
    mask[:, :, 20:26] = True  # two plates; the ball reaches both
    mask[:, :, 36:40] = True
    mask[0, :, :] = True  # joined at one side
    defective, patch = apply_defect(volume.with_data(mask), BALL, HERE)
    assert patch.mask[40, 40, 22]
    assert defective.mask[40, 40, 38]
    assert pieces(defective.mask) == 1


def test_islands_of_the_complete_skull_are_left_alone() -> None:
    complete = block((81, 81, 61))
    mask = np.zeros(complete.shape, bool)
    mask[:, :, 27:34] = True
    mask[40, 40, 57] = True
    defective, patch = apply_defect(complete.with_data(mask), BALL, HERE)
    assert defective.mask[40, 40, 57]
    assert not patch.mask[40, 40, 57]


@given(BALLS)
def test_sampled_radii_keep_to_their_limits(spec: DefectSpec) -> None:
    radii = [ball[3] for ball in spec.balls_mm]
    assert sampling.PRIMARY_RADIUS_MM[2] <= radii[0] <= sampling.PRIMARY_RADIUS_MM[3]
    assert len(radii) <= 1 + 2 + sampling.MAX_SECONDARY_BALLS
    assert (spec.ragged_mm == 0) == (spec.kind == "ball")


def test_the_edge_is_rough_by_as_much_as_asked() -> None:
    smooth, rough = (DefectSpec("random_1", BALL.balls_mm, mm, 3) for mm in (0.0, 1.8))
    points = np.random.default_rng(1).normal(size=(20000, 3))
    points *= 20 / np.linalg.norm(points, axis=1, keepdims=True)
    off = rough.field_mm(points) - smooth.field_mm(points)
    assert off.std() == pytest.approx(1.8, rel=0.25)
    assert not np.allclose(rough.field_mm(points), DefectSpec("random_1", BALL.balls_mm, 1.8, 4).field_mm(points))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "temporal"}, "kind is one of bilateral, .*; got 'temporal'"),
        ({"balls_mm": ()}, r"needs balls \(x, y, z, radius > 0\) in mm; got \(\)"),
        ({"balls_mm": ((0, 0, 0, -1),)}, "needs balls"),
        ({"ragged_mm": -1.0}, "at least 0 mm; got -1"),
    ],
)
def test_a_bad_spec_is_refused(values: dict[str, object], message: str) -> None:
    good: dict[str, object] = {"kind": "ball", "balls_mm": BALL.balls_mm}
    with pytest.raises(InputError, match=message):
        DefectSpec(**(good | values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"kind": "ball"}', '{"kind": "ball", "balls_mm": [[1, 2, 3, 4]], "x": 1}']
)
def test_bad_json_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a defect spec"):
        DefectSpec.from_json(text)


def test_an_unknown_kind_and_a_bad_frame_are_refused() -> None:
    with pytest.raises(InputError, match="kind is one of"):
        sample_defect("orbital", np.random.default_rng(0))
    for frame in (np.eye(3), np.zeros((4, 4)), np.full((4, 4), np.nan)):
        with pytest.raises(GeometryError, match="invertible 4 x 4 matrix, canonical mm -> world mm"):
            apply_defect(HEAD, BALL, frame)


def test_a_skull_that_takes_no_defect_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "ATTEMPTS", 3)
    with pytest.raises(
        InputError, match=r"no sound bilateral defect in 3 draws: the mask \(1 ml\) is no complete skull"
    ):
        cut_defect(block((10, 10, 10)), "bilateral", np.random.default_rng(0), HERE)


@given(SEEDS)
@example(31799)  # its vertices miss the outermost corner
@settings(max_examples=12)
def test_a_hemicraniectomy_is_large_spares_the_sinus_and_reaches_the_temporal_floor(seed: int) -> None:
    spec = sample_defect("hemicraniectomy", np.random.default_rng(seed))
    assert isinstance(spec, PrismSpec)
    assert HEMI_CM2[0] <= spec.outline_area_cm2() <= HEMI_CM2[1]
    length = np.ptp(np.array(spec.outline_mm)[:, 0])
    assert length >= MIN_LENGTH_MM - 0.01
    _, patch = apply_defect(HEAD, spec, HERE)
    x, _, z = patch.grid.to_world(np.argwhere(patch.mask)).T
    assert (np.abs(x) >= SINUS_MM[0]).all()
    assert len(np.unique(np.sign(x))) == 1
    assert z.min() < -20  # the floor lies at z = -35 before the ear
    assert defect_area_cm2(patch, HEAD, HERE) == pytest.approx(spec.outline_area_cm2(), rel=0.12)


def test_a_hemicraniectomy_whose_vertices_miss_its_outermost_corner_is_long_enough_all_the_same() -> None:
    """This one was 119.67 mm long; what is drawn after it stays what it was."""
    rng = np.random.default_rng(31799)
    spec = sample_defect("hemicraniectomy", rng)
    assert isinstance(spec, PrismSpec)
    assert np.ptp(np.array(spec.outline_mm)[:, 0]) == pytest.approx(MIN_LENGTH_MM, abs=0.01)
    assert rng.integers(2**31) == 1218504997


@given(st.integers(0, 2**32), st.integers(1, 40))
@settings(max_examples=30)
def test_no_hemicraniectomy_is_shorter_than_it_may_be(seed: int, count: int) -> None:
    for rng in np.random.default_rng(seed).spawn(count):
        spec = sample_defect("hemicraniectomy", rng)
        assert isinstance(spec, PrismSpec)
        assert np.ptp(np.array(spec.outline_mm)[:, 0]) >= MIN_LENGTH_MM - 0.01


@given(SEEDS)
@settings(max_examples=10)
def test_a_bifrontal_craniectomy_takes_the_forehead_from_side_to_side_and_spares_the_orbits(seed: int) -> None:
    spec = sample_defect("bifrontal", np.random.default_rng(seed))
    assert isinstance(spec, PrismSpec)
    assert BIFRONTAL_CM2[0] <= spec.outline_area_cm2() <= BIFRONTAL_CM2[1]
    _, patch = apply_defect(HEAD, spec, HERE)
    points = patch.grid.to_world(np.argwhere(patch.mask))
    x, y, z = points.T
    assert (0.42 < (x > 0).mean() < 0.58, x.min() < -50, x.max() > 50) == (True, True, True)
    gap = LANDMARK_MM - points @ LANDMARK_NORMAL  # above the supraorbital rim
    assert BROW_GAP_MM[0] - 3 < gap.min() < BROW_GAP_MM[1] + 3
    middle = abs(x) < 5  # on the midline it ends at the coronal suture
    assert BREGMA_Y_MM[0] - 3 < y[middle].max() < BREGMA_Y_MM[1] + 3
    assert z[middle].max() > 60
    assert defect_area_cm2(patch, HEAD, HERE) == pytest.approx(spec.outline_area_cm2(), rel=0.06)


@pytest.mark.parametrize("gap_mm", [0.0, 8.0, 22.0])
def test_the_brow_lies_on_the_forehead_so_far_above_the_landmarks(gap_mm: float) -> None:
    point = sampling._above_brow(gap_mm)
    assert pytest.approx(LANDMARK_MM - gap_mm) == point @ LANDMARK_NORMAL
    assert np.linalg.norm((point - HEAD_CENTRE_MM) / HEAD_HALF_AXES_MM) == pytest.approx(1.0)
    assert point[1] < -80


def test_a_new_kind_leaves_the_mix_of_a_batch_as_it_was() -> None:
    """Batches that ask for nothing in particular are of the eight kinds that they had before there was a bifrontal."""
    eight = ("bilateral", "frontoorbital", "parietotemporal", "random_1", "random_2")
    eight = (*eight, "craniotomy", "hemicraniectomy", "multiple")
    asked = sample_specs(np.random.default_rng(8), 60, dict.fromkeys(eight, 1.0))
    assert sample_specs(np.random.default_rng(8), 60) == asked
    assert {spec.kind for spec in asked} == set(eight)


@given(SEEDS)
@settings(max_examples=12)
def test_a_craniotomy_has_the_area_of_its_outline_and_never_cuts_the_other_side(seed: int) -> None:
    spec = sample_defect("craniotomy", np.random.default_rng(seed))
    assert isinstance(spec, PrismSpec)
    assert KERF_MM[0] <= spec.kerf_mm <= KERF_MM[1]
    _, patch = apply_defect(HEAD, spec, HERE)
    points = patch.grid.to_world(np.argwhere(patch.mask))
    assert (np.linalg.norm(points - spec.centre_mm, axis=1) < spec.reach_mm() + 15).all()
    if not spec.burrs_mm and points[:, 2].min() > 0:  # else the landmark plane may have cut it
        assert defect_area_cm2(patch, HEAD, HERE) == pytest.approx(spec.outline_area_cm2(), rel=0.15)


@given(SEEDS)
@settings(max_examples=10)
def test_several_defects_have_bone_between_them(seed: int) -> None:
    spec = sample_defect("multiple", np.random.default_rng(seed))
    assert isinstance(spec, MultipleSpec)
    single = [apply_defect(HEAD, part, HERE)[1].mask for part in spec.parts]
    _, patch = apply_defect(HEAD, spec, HERE)
    assert np.array_equal(patch.mask, np.logical_or.reduce(single))
    assert pieces(patch.mask) == sum(bool(one.any()) for one in single)


def test_specs_for_training_are_mixed_by_weight_and_repeatable() -> None:
    specs = sample_specs(np.random.default_rng(3), 200, {"ball": 3.0, "craniotomy": 1.0})
    assert specs == sample_specs(np.random.default_rng(3), 200, {"ball": 3.0, "craniotomy": 1.0})
    assert 120 <= sum(spec.kind == "ball" for spec in specs) <= 180
    assert {spec.kind for spec in specs} == {"ball", "craniotomy"}
    assert sample_specs(np.random.default_rng(3), 0) == []
    assert "ball" not in {spec.kind for spec in sample_specs(np.random.default_rng(3), 50)}


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"orbital": 1.0}, "kind is one of bilateral, .*; got 'orbital'"),
        ({"ball": 0.0}, "weights of kinds are at least 0, one of them above"),
        ({"ball": -1.0, "craniotomy": 2.0}, "at least 0"),
        ({}, "one of them above"),
    ],
)
def test_weights_that_mean_nothing_are_refused(kinds: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sample_specs(np.random.default_rng(0), 2, kinds)


@pytest.mark.parametrize("angle", [10.0, 25.0, 40.0])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.1, 1.7)])
def test_the_area_of_a_cap_is_that_of_geometry(angle: float, spacing: tuple[float, float, float]) -> None:
    radius, thickness, middle = 70.0, 6.0, np.array([0.0, 0.0, 10.0])
    low = np.array([-72.0, -72.0, -20.0])
    i, j, k = (int(n) for n in np.ceil((np.array([72.0, 72.0, 82.0]) - low) / spacing))
    grid = Grid((i, j, k), np.vstack([np.column_stack([np.diag(spacing), low]), [0, 0, 0, 1]]))
    away = grid.centres_mm() - middle
    rho = np.linalg.norm(away, axis=-1)
    shell = Volume((rho < radius) & (rho > radius - thickness), grid)
    tilt = np.radians(30)  # the cap's middle lies off every axis
    cosine = (away @ [np.sin(tilt), 0, np.cos(tilt)]) / np.maximum(rho, 1e-6)
    patch = shell.with_data(shell.mask & (cosine > np.cos(np.radians(angle))))
    truth = 2 * math.pi * radius**2 * (1 - math.cos(math.radians(angle))) / 100
    assert defect_area_cm2(patch, shell, HERE) == pytest.approx(truth, rel=0.04)


def test_holes_in_the_marrow_are_no_outer_surface() -> None:
    _, patch = apply_defect(HEAD, DefectSpec("ball", ((70.0, 0.0, 20.0, 25.0),)), HERE)
    area = defect_area_cm2(patch, HEAD, HERE)
    depth = ndimage.distance_transform_edt(HEAD.mask)
    hollow = HEAD.with_data(HEAD.mask & (depth < 1.5))  # two tables with nothing between them
    assert defect_area_cm2(hollow.with_data(patch.mask & hollow.mask), hollow, HERE) == pytest.approx(area, rel=0.03)


def test_an_empty_patch_has_no_area_and_another_grid_is_refused() -> None:
    nothing = HEAD.with_data(np.zeros(HEAD.shape, bool))
    assert defect_area_cm2(nothing, HEAD, HERE) == 0.0
    with pytest.raises(GeometryError, match="complete skull and patch must lie on one grid"):
        defect_area_cm2(block((4, 4, 4)), HEAD, HERE)


def test_a_part_that_meets_no_bone_makes_several_defects_unsound() -> None:
    far = DefectSpec("ball", ((0.0, 0.0, 0.0, 20.0),))
    near = DefectSpec("ball", ((70.0, 0.0, 20.0, 25.0),))
    cut = cutting._cut(HEAD, MultipleSpec((near, far)), HEAD.affine)
    assert (cut.largest_piece, cut.smallest_part) == (0.0, 0)
    assert np.array_equal(cut.patch, apply_defect(HEAD, near, HERE)[1].mask)
    assert not cutting._is_sound(cut, HEAD, MultipleSpec((near, far)), HEAD.affine)


def test_real_skulls_take_every_new_kind(real_data: Path) -> None:
    whole = read_mask(real_data / "autoimplant2020" / "training_set" / "complete_skull" / "030.nrrd")
    data = np.asfortranarray(whole.data[::3, ::3, ::2])
    i, j, k = data.shape
    thin = Volume(data, Grid((i, j, k), whole.affine @ np.diag([3.0, 3.0, 2.0, 1.0])))
    frame = locate(thin).to_world
    for kind in set(ALL_KINDS) - set(KINDS):
        spec, defective, patch = cut_defect(thin, kind, np.random.default_rng(1), frame)
        assert np.array_equal(defective.mask | patch.mask, thin.mask)
        assert pieces(patch.mask) == len(spec.parts)
        assert kind != "hemicraniectomy" or 95 <= defect_area_cm2(patch, thin, frame) <= 155
        assert kind != "bifrontal" or 80 <= defect_area_cm2(patch, thin, frame) <= 160
