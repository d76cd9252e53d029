"""What becomes of a rim: on a slab with a straight cut every voxel's fate can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from calvaria.errors import GeometryError, InputError
from calvaria.synthesis.defects import ageing, apply_defect, sample_defect
from calvaria.synthesis.defects.ageing import apply_rims
from calvaria.synthesis.defects.prisms import PrismSpec
from calvaria.synthesis.defects.rim_changes import (
    LOOSE_MM,
    RIM_KINDS,
    Fragments,
    Healing,
    Rim,
    Roughening,
    Thinning,
    in_order,
    rim_from_json,
    rim_to_json,
    sample_rim,
)
from calvaria.synthesis.defects.shapes import DefectSpec
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

HERE = np.eye(4)
SPACING_MM = 0.5
SEEDS = st.integers(0, 2**32)


def cut_slab() -> tuple[Volume, Volume, NDArray[np.float64], NDArray[np.float64]]:
    """A slab 8 mm thick at the model head's top, missing at x > 0: both masks, and x and depth of each voxel, mm."""
    shape = (96, 24, 28)
    grid = Grid.isotropic(shape, SPACING_MM, ((1 - shape[0]) / 2 * SPACING_MM, -6.0, 73.0))
    x, _, z = np.moveaxis(grid.centres_mm(), -1, 0)
    slab = (z > 75.25) & (z < 83.25)  # the faces of its voxels
    depth = np.where(slab, np.minimum(z - 75.25, 83.25 - z), 0.0)
    return Volume(slab & (x < 0), grid), Volume(slab & (x > 0), grid), x, depth


BONE, HOLE, across_mm, deep_mm = cut_slab()
SLAB = BONE.mask | HOLE.mask
RIMS: st.SearchStrategy[Rim] = st.one_of(
    st.builds(Healing, st.floats(0, 4), st.floats(0, 4)),
    st.builds(Thinning, st.floats(0.1, 4), st.floats(0.5, 12)),
    st.builds(Roughening, st.floats(0.1, 1.5), SEEDS),
    st.builds(lambda x, r, s: Fragments(((x, 0.0, 80.0, r),), s), st.floats(0.5, 15), st.floats(0.5, 4), SEEDS),
)


@given(st.floats(0, 4), st.floats(0, 3.9))
@settings(max_examples=30)
def test_a_healed_rim_is_a_quarter_circle_on_either_table(grow: float, radius: float) -> None:
    bone, _ = apply_rims(BONE, HOLE, [Healing(grow, radius)], HERE)
    short = radius - np.minimum(deep_mm, radius)
    ends = grow - (radius - np.sqrt(np.maximum(radius**2 - short**2, 0)))
    sure = SLAB & (np.abs(across_mm - ends) > 1e-3) & (np.abs(across_mm) < max(grow, radius) - 0.01)
    assert np.array_equal(bone.mask[sure], (across_mm < ends)[sure])
    assert np.array_equal(
        bone.mask[np.abs(across_mm) > max(grow, radius)], BONE.mask[np.abs(across_mm) > max(grow, radius)]
    )


@given(st.floats(0.3, 3), st.floats(1, 15))
@settings(max_examples=30)
def test_a_thinned_rim_is_a_wedge(taper: float, width: float) -> None:
    bone, hole = apply_rims(BONE, HOLE, [Thinning(taper, width)], HERE)
    lost = taper * (1 + across_mm / width)
    sure = SLAB & (np.abs(deep_mm - lost) > 1e-3) & (across_mm > -width + 0.01) & (np.abs(across_mm) > 0.01)
    assert np.array_equal(bone.mask[sure], ((across_mm < 0) & (deep_mm >= lost))[sure])
    assert bone.volume_ml + hole.volume_ml == pytest.approx(BONE.volume_ml + HOLE.volume_ml)
    assert not (bone.mask & HOLE.mask).any()  # nothing grows


def test_a_roughened_rim_wavers_about_where_it_was() -> None:
    rough = [apply_rims(BONE, HOLE, [Roughening(1.0, seed)], HERE)[0].mask for seed in range(10)]
    before = BONE.mask.sum(axis=0)
    shift = np.stack([(bone.sum(axis=0) - before)[BONE.mask.any(axis=0)] * SPACING_MM for bone in rough])
    assert shift.std() == pytest.approx(1.0, abs=0.3)
    assert abs(shift.mean()) < 0.5  # a face of 12 x 8 mm holds few grains
    assert np.abs(shift).max() <= 4.0
    bone = BONE.with_data(rough[4])
    assert np.array_equal(apply_rims(BONE, HOLE, [Roughening(1.0, 4)], HERE)[0].mask, bone.mask)
    assert not np.array_equal(apply_rims(BONE, HOLE, [Roughening(1.0, 5)], HERE)[0].mask, bone.mask)


def test_fragments_are_loose_bone_in_the_hole() -> None:
    bone, hole = apply_rims(BONE, HOLE, [Fragments(((9.0, 0.0, 80.0, 3.0), (17.0, 0.0, 80.0, 2.0)), 1)], HERE)
    _, count = ndimage.label(bone.mask)
    assert count == 3
    first = bone.mask & ~BONE.mask & (across_mm < 13)
    assert across_mm[first].min() > LOOSE_MM
    assert first.sum() * SPACING_MM**3 == pytest.approx(math.pi * 3.0**2 * 8.0, rel=0.5)  # a rough column of bone
    assert np.array_equal(first.any(axis=(0, 1)), SLAB.any(axis=(0, 1)))  # as thick as the plate
    assert np.array_equal(hole.mask, SLAB & ~bone.mask)


def test_a_fragment_at_the_rim_keeps_its_gap() -> None:
    bone, _ = apply_rims(BONE, HOLE, [Fragments(((1.0, 0.0, 80.0, 4.0),), 1)], HERE)
    assert not bone.mask[(across_mm > 0) & (across_mm < LOOSE_MM)].any()


@given(st.lists(RIMS, max_size=3))
@settings(max_examples=40)
def test_the_parts_stay_two_parts_of_the_whole(rims: list[Rim]) -> None:
    bone, hole = apply_rims(BONE, HOLE, rims, HERE)
    assert not (bone.mask & hole.mask).any()
    assert np.array_equal(bone.mask | hole.mask, SLAB)
    assert BONE.mask.sum() == (SLAB & (across_mm < 0)).sum()  # what was given is not changed


def test_no_change_and_no_hole_change_nothing() -> None:
    assert np.array_equal(apply_rims(BONE, HOLE, [], HERE)[1].mask, HOLE.mask)
    whole, empty = BONE.with_data(SLAB), BONE.with_data(np.zeros_like(SLAB))
    bone, hole = apply_rims(whole, empty, [Healing(2.0, 1.0), Roughening(1.0)], HERE)
    assert np.array_equal(bone.mask, SLAB)
    assert not hole.mask.any()


def test_a_hole_that_heals_shut_is_no_hole() -> None:
    slit = SLAB & (np.abs(across_mm) < 1.5)
    bone, hole = apply_rims(BONE.with_data(SLAB & ~slit), BONE.with_data(slit), [Healing(3.0, 0.0)], HERE)
    assert not hole.mask.any()
    assert np.array_equal(bone.mask, SLAB)


def test_small_components_go_to_the_other_side() -> None:
    crumb, speck = BONE.mask.copy(), HOLE.mask.copy()
    crumb[70:72, 10:12, 10:12], speck[70:72, 10:12, 10:12] = True, False  # bone alone in the hole
    crumb[20:22, 10:12, 10:12], speck[20:22, 10:12, 10:12] = False, True  # a hole alone in the bone
    bone, hole = BONE.with_data(crumb), BONE.with_data(speck)
    ageing._tidy(bone, hole, (slice(0, 96), slice(0, 24), slice(0, 28)))
    assert np.array_equal(bone.mask, BONE.mask)
    assert np.array_equal(hole.mask, HOLE.mask)


def test_a_patch_that_is_a_speck_stays() -> None:
    tiny = np.zeros_like(SLAB)
    tiny[20:22, 10:12, 10:12] = True
    bone, hole = BONE.with_data(SLAB & ~tiny), BONE.with_data(tiny.copy())
    ageing._tidy(bone, hole, (slice(10, 30), slice(0, 24), slice(0, 28)))
    assert np.array_equal(hole.mask, tiny)


def test_fragments_come_last() -> None:
    parts: list[Rim] = [Fragments(((9.0, 0.0, 80.0, 3.0),)), Healing(1.0, 1.0), Roughening(0.5)]
    assert [rim.kind for rim in in_order(parts)] == ["healing", "roughening", "fragments"]
    bone, _ = apply_rims(BONE, HOLE, parts, HERE)
    assert ndimage.label(bone.mask)[1] == 2


@given(st.sampled_from(RIM_KINDS), st.sampled_from(["random_1", "craniotomy", "hemicraniectomy", "multiple"]), SEEDS)
def test_a_drawn_change_comes_back_from_json(kind: str, defect: str, seed: int) -> None:
    spec = sample_defect(defect, np.random.default_rng(seed))
    rim = sample_rim(kind, np.random.default_rng(seed), spec)
    assert rim.kind == kind
    assert rim_from_json(rim_to_json(rim)) == rim
    assert sample_rim(kind, np.random.default_rng(seed), spec) == rim
    if isinstance(rim, Fragments):
        points = np.array(rim.columns_mm)
        assert (spec.field_mm(points[:, :3]) <= -points[:, 3] - LOOSE_MM + 0.01).all()


def test_drawn_fragments_are_seen_on_a_head() -> None:
    grid = Grid.isotropic((90, 110, 80), 2.0, (-89.0, -109.0, -40.0))
    rho = np.linalg.norm((grid.centres_mm() - [0, 0, 10]) / [70, 88, 70], axis=-1)
    complete = Volume((rho < 1.0) & (rho > 0.9), grid)
    spec = DefectSpec("ball", ((0.0, 0.0, 80.0, 35.0),))
    defective, patch = apply_defect(complete, spec, HERE)
    rim = sample_rim("fragments", np.random.default_rng(2), spec)
    bone, hole = apply_rims(defective, patch, [rim], HERE)
    assert ndimage.label(bone.mask)[1] > ndimage.label(defective.mask)[1]
    assert np.array_equal(bone.mask | hole.mask, complete.mask)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Healing(-1.0, 1.0), "healing: grow_mm is a length of at least 0 mm; got -1"),
        (lambda: Healing(1.0, math.inf), "healing: round_mm"),
        (lambda: Thinning(0.0, 1.0), "thinning: taper_mm is a length above 0 mm"),
        (lambda: Roughening(math.nan), "roughening: rough_mm is a length above 0 mm; got nan"),
        (lambda: Fragments(()), "fragments are one or more"),
        (lambda: Fragments(((0.0, 0.0, 1.0),)), "fragments are one or more"),  # type: ignore[arg-type]
        (lambda: Fragments(((0.0, 0.0, 80.0, 0.0),)), "a fragment has a radius above 0"),
        (lambda: Fragments(((0.0, 0.0, 10.0, 3.0),)), "off the head centre"),
        (lambda: rim_from_json("{"), "not a change of a rim"),
        (lambda: rim_from_json('{"kind": "rusting"}'), "not a change of a rim: KeyError"),
        (lambda: rim_from_json('{"kind": "healing", "grow_mm": 1}'), "not a change of a rim: TypeError"),
        (lambda: rim_from_json("[1]"), "not a change of a rim"),
        (
            lambda: sample_rim("rusting", np.random.default_rng(0), DefectSpec("ball", ((0.0, 0.0, 80.0, 35.0),))),
            "one of healing, thinning, roughening, fragments; got 'rusting'",
        ),
        (
            lambda: sample_rim("fragments", np.random.default_rng(0), DefectSpec("ball", ((0.0, 0.0, 80.0, 3.0),))),
            "this ball hole has no room for a fragment of 1.5 mm",
        ),
    ],
)
def test_what_is_no_change_is_refused(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]


def test_masks_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(InputError, match="defective skull and patch overlap"):
        apply_rims(BONE, BONE, [], HERE)
    with pytest.raises(GeometryError, match="defective skull and patch must lie on one grid"):
        apply_rims(BONE, HOLE.permute((1, 0, 2)), [], HERE)
    with pytest.raises(GeometryError, match="invertible 4 x 4"):
        apply_rims(BONE, HOLE, [], np.zeros((4, 4)))


def test_the_change_is_the_same_however_the_head_lies() -> None:
    spec = PrismSpec(
        "craniotomy",
        (0.0, 0.0, 80.0),
        (0.0, 0.0, 1.0),
        (1.0, 0.0, 0.0),
        80.0,
        ((-12.0, -3.0), (12.0, -3.0), (0.0, 4.0)),
    )
    defective, patch = apply_defect(BONE.with_data(SLAB), spec, HERE)
    rims: list[Rim] = [Healing(1.3, 1.1), Roughening(0.6, 3)]
    bone, _ = apply_rims(defective, patch, rims, HERE)
    turn = np.array([[0, -1, 0, 5], [1, 0, 0, -7], [0, 0, 1, 11], [0, 0, 0, 1.0]])

    def move(volume: Volume) -> Volume:
        return Volume(volume.data, volume.grid.moved(turn)).permute((2, 0, 1)).flip((1,))

    moved, _ = apply_rims(move(defective), move(patch), rims, turn)
    assert np.count_nonzero(moved.mask ^ move(bone).mask) <= 2  # rounding may decide a voxel otherwise
