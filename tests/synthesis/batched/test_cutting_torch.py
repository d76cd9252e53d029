"""Synthetic defects in torch: the same voxels as numpy cuts, whatever the kind, grid and batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from calvaria.errors import GeometryError, InputError
from calvaria.synthesis.batched import cutting_torch
from calvaria.synthesis.batched.ageing_torch import apply_rims, near_mm
from calvaria.synthesis.batched.components import hooked, pieces
from calvaria.synthesis.batched.cutting_torch import apply_defects, cut_defects, draw_defects, sound
from calvaria.synthesis.defects import ALL_KINDS, ageing, apply_defect, cutting, sample_defect
from calvaria.synthesis.defects.prisms import PrismSpec
from calvaria.synthesis.defects.rim_changes import RIM_KINDS, Healing, Rim, sample_rim
from calvaria.synthesis.defects.sampling import sample_specs
from calvaria.synthesis.defects.shapes import DefectSpec
from calvaria.synthesis.defects.soundness import Figures, cut_clean, right_size
from calvaria.synthesis.defects.specs import Spec
from calvaria.volume.distance import distance_to
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

HERE = np.eye(4)
SEEDS = st.integers(0, 2**32)


def head(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Volume:
    """A shell of 7 mm, open below, on a grid along the canonical axes."""
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * spacing_mm + [0, 0, 20]
    grid = Grid(shape, affine)
    away = grid.centres_mm() - [0, 0, 10]
    return Volume(
        (np.linalg.norm(away / [72, 90, 70], axis=-1) <= 1) & (np.linalg.norm(away / [65, 83, 63], axis=-1) > 1), grid
    )


HEAD = head((62, 78, 56), (2.5, 2.5, 2.5))
UNEVEN = head((52, 98, 60), (3.0, 2.0, 2.4))


def batch(*volumes: Volume) -> torch.Tensor:
    return torch.from_numpy(np.stack([volume.mask for volume in volumes]))


@given(st.sampled_from(ALL_KINDS), SEEDS, st.sampled_from([HEAD, UNEVEN]))
@settings(max_examples=40)
def test_torch_cuts_what_numpy_cuts(kind: str, seed: int, complete: Volume) -> None:
    spec = sample_defect(kind, np.random.default_rng(seed))
    defective, patch = apply_defects(batch(complete), complete.grid, [spec])
    _, truth = apply_defect(complete, spec, HERE)
    assert np.count_nonzero(patch[0].numpy() ^ truth.mask) <= 2  # rounding may decide a voxel at the very edge
    assert not (defective & patch).any()
    assert np.array_equal((defective | patch)[0].numpy(), complete.mask)


def test_items_of_a_batch_do_not_touch_each_other_and_soft_bone_is_taken_at_a_half() -> None:
    specs = sample_specs(np.random.default_rng(1), 3, {"random_1": 1.0, "craniotomy": 1.0, "multiple": 1.0})
    both = batch(HEAD, HEAD, HEAD)
    _, together = apply_defects(both, HEAD.grid, specs)
    for item, spec in enumerate(specs):
        assert torch.equal(together[item], apply_defects(batch(HEAD), HEAD.grid, [spec])[1][0])
    soft = torch.where(both, 0.5, 0.49)
    assert torch.equal(apply_defects(soft, HEAD.grid, specs)[1], together)
    assert torch.equal(both, batch(HEAD, HEAD, HEAD))
    empty = apply_defects(both[:0], HEAD.grid, [])
    assert empty[0].shape == empty[1].shape == (0, *HEAD.shape)


def peg(size: int) -> Volume:
    """A plate, and on it a peg whose foot a ball of 20 mm about the origin takes."""
    grid = Grid.isotropic((81, 81, 61), 1.0, (-40.0, -40.0, -30.0))
    mask = np.zeros(grid.shape, bool)
    mask[:, :, 27:34] = True
    mask[40 - size : 41 + size, 40 - size : 41 + size, 34:58] = True
    return Volume(mask, grid)


@pytest.mark.parametrize("size", [3, 12])
def test_islands_follow_the_same_rules(size: int) -> None:
    ball = DefectSpec("ball", ((0.0, 0.0, 0.0, 20.0),))
    cuts = cut_defects(batch(peg(size)), peg(size).grid, [ball])
    truth = cutting._cut(peg(size), ball, peg(size).affine)
    assert np.array_equal(cuts.patch[0].numpy(), truth.patch)
    assert cuts.stray_ml[0] == pytest.approx(truth.stray_voxels / 1000.0)
    assert cuts.largest_piece[0] == pytest.approx(truth.largest_piece)


def test_nothing_is_cut_where_there_is_no_bone_or_no_grid() -> None:
    specs = [DefectSpec("ball", ((*at, 20.0),)) for at in ((0.0, 0.0, 0.0), (500.0, 0.0, 0.0))]
    cuts = cut_defects(batch(HEAD, HEAD), HEAD.grid, specs)
    assert not cuts.patch.any()
    assert cuts.largest_piece == (0.0, 0.0)
    assert sound(cuts, HEAD.grid, specs) == [False, False]


def numpy_says(specs: list[Spec], complete: Volume) -> list[bool]:
    cuts = [cutting._cut(complete, spec, complete.affine) for spec in specs]
    return [cutting._is_sound(cut, complete, spec, complete.affine) for cut, spec in zip(cuts, specs, strict=True)]


def torch_says(specs: list[Spec], complete: Volume) -> list[bool]:
    return sound(cut_defects(batch(*[complete] * len(specs)), complete.grid, specs), complete.grid, specs)


@given(SEEDS, st.sampled_from([HEAD, UNEVEN]))
@settings(max_examples=8)
def test_soundness_is_what_numpy_says(seed: int, complete: Volume) -> None:
    specs = sample_specs(np.random.default_rng(seed), 6, dict.fromkeys(ALL_KINDS, 1.0))
    assert torch_says(specs, complete) == numpy_says(specs, complete)


def hemicraniectomy(factor: float) -> PrismSpec:
    """A hemicraniectomy whose outline is larger by a factor."""
    spec = sample_defect("hemicraniectomy", np.random.default_rng(3))
    assert isinstance(spec, PrismSpec)
    middle = np.mean(spec.outline_mm, axis=0)
    outline = middle + factor * (np.array(spec.outline_mm) - middle)
    return replace(spec, outline_mm=tuple((float(a), float(b)) for a, b in outline))


@pytest.mark.parametrize(
    ("factor", "area_cm2", "verdict"), [(0.8, 85, False), (1.0, 128, True), (1.3, 173, False)], ids=str
)
def test_both_measure_the_area_of_hemicraniectomies(factor: float, area_cm2: float, verdict: bool) -> None:
    """Outlines that are too small, right and too large; but for the area everything is in order."""
    spec = hemicraniectomy(factor)
    cuts = cut_defects(batch(HEAD), HEAD.grid, [spec])
    patch = HEAD.with_data(cuts.patch[0].numpy())
    assert cutting.defect_area_cm2(patch, HEAD, HERE) == pytest.approx(area_cm2, abs=2)
    assert right_size("hemicraniectomy", patch.volume_ml)
    assert cut_clean(Figures(patch.volume_ml, cuts.largest_piece[0], cuts.smallest_part_ml[0], cuts.stray_ml[0]))
    assert torch_says([spec], HEAD) == numpy_says([spec], HEAD) == [verdict]


def test_a_hemicraniectomy_of_the_wrong_area_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting_torch, "sample_specs", lambda rng, count, kinds: [hemicraniectomy(1.3)] * count)
    drawn = iter([hemicraniectomy(0.8), hemicraniectomy(1.0)])
    monkeypatch.setattr(cutting_torch, "sample_defect", lambda kind, rng: next(drawn))
    specs, _ = draw_defects(batch(HEAD), HEAD.grid, np.random.default_rng(0), {"hemicraniectomy": 1.0})
    assert specs == [hemicraniectomy(1.0)]


def test_drawn_defects_are_sound_repeatable_and_of_the_kinds_first_drawn() -> None:
    skulls = batch(*[HEAD] * 8)
    specs, cuts = draw_defects(skulls, HEAD.grid, np.random.default_rng(4))
    assert all(sound(cuts, HEAD.grid, specs))
    assert torch.equal(cuts.patch, apply_defects(skulls, HEAD.grid, specs)[1])
    assert [spec.kind for spec in specs] == [spec.kind for spec in sample_specs(np.random.default_rng(4), 8)]
    assert draw_defects(skulls, HEAD.grid, np.random.default_rng(4))[0] == specs


def test_a_skull_that_takes_no_defect_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting_torch, "ATTEMPTS", 2)
    nothing = torch.zeros_like(batch(HEAD))
    with pytest.raises(InputError, match="item 0: no sound bilateral defect in 2 draws: it is no complete skull"):
        draw_defects(nothing, HEAD.grid, np.random.default_rng(0), {"bilateral": 1.0})


@pytest.mark.parametrize("shape", [(78, 62, 56), (1, 62, 78), (62, 78, 56, 1)])
def test_a_batch_off_the_grid_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError, match="a batch on this grid is"):
        apply_defects(torch.zeros(shape, dtype=torch.bool), HEAD.grid, [])


def test_as_many_specs_as_skulls_are_wanted() -> None:
    with pytest.raises(InputError, match="each skull gets one defect; got 1 skulls and 0 specs"):
        apply_defects(batch(HEAD), HEAD.grid, [])


# --- pieces ---------------------------------------------------------------------------------------------------------


@given(st.tuples(*[st.integers(1, 12)] * 3), st.floats(0, 1), SEEDS)
def test_pieces_are_those_of_scipy_by_either_way(shape: tuple[int, int, int], share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random(shape) < share
    truth, count = ndimage.label(mask)
    for find in (pieces, hooked):
        labels, sizes = find(torch.from_numpy(mask))
        assert np.array_equal(labels.numpy(), truth)
        assert sizes.tolist() == [0, *np.bincount(truth.ravel(), minlength=count + 1)[1:].tolist()]


def test_a_long_snake_is_one_piece() -> None:
    mask = np.zeros((21, 21, 5), bool)
    mask[::2] = True
    mask[1::4, -1, :1] = mask[3::4, 0, :1] = True  # plates joined at alternate ends
    labels, sizes = hooked(torch.from_numpy(mask))
    assert sizes.tolist() == [0, int(mask.sum())]
    assert labels.max() == 1


# --- rims -----------------------------------------------------------------------------------------------------------


@given(SEEDS, st.floats(0.3, 9.0), st.floats(0, 0.3))
def test_distances_are_exact_up_to_their_limit(seed: int, limit_mm: float, share: float) -> None:
    grid = Grid((9, 7, 8), np.diag([0.7, 1.0, 1.9, 1.0]))
    mask = np.random.default_rng(seed).random(grid.shape) < share
    found = near_mm(torch.from_numpy(mask), grid, limit_mm).numpy()
    np.testing.assert_allclose(found, distance_to(Volume(mask, grid), limit_mm=limit_mm), atol=1e-5)


def cut_one(kind: str, seed: int, complete: Volume) -> tuple[Volume, Volume, list[Rim]]:
    rng = np.random.default_rng(seed)
    spec = sample_defect(kind, rng)
    rims = [sample_rim(str(name), rng, spec) for name in rng.permutation(RIM_KINDS)[: int(rng.integers(0, 4))]]
    return *apply_defect(complete, spec, HERE), rims


@given(st.sampled_from(["random_1", "craniotomy", "multiple"]), SEEDS, st.sampled_from([HEAD, UNEVEN]))
@settings(max_examples=25)
def test_torch_changes_rims_as_numpy_does(kind: str, seed: int, complete: Volume) -> None:
    defective, patch, rims = cut_one(kind, seed, complete)
    bone, hole = apply_rims(batch(defective), batch(patch), complete.grid, [rims])
    truth = ageing.apply_rims(defective, patch, rims, HERE)
    assert np.count_nonzero(hole[0].numpy() ^ truth[1].mask) <= 4  # rounding may decide a voxel otherwise
    assert not (bone & hole).any()
    assert np.array_equal((bone | hole)[0].numpy(), complete.mask)


def test_each_item_has_its_own_changes_and_the_input_is_left_alone() -> None:
    defective, patch, _ = cut_one("random_1", 3, HEAD)
    bones, holes = batch(defective, defective), batch(patch, patch)
    _, hole = apply_rims(bones, holes, HEAD.grid, [[Healing(3.0, 1.0)], []])
    assert torch.equal(hole[1], holes[1])
    assert 0 < hole[0].sum() < holes[0].sum()
    assert torch.equal(holes, batch(patch, patch))
    none = torch.zeros_like(holes)
    assert torch.equal(apply_rims(bones, none, HEAD.grid, [[Healing(3.0, 1.0)], []])[0], bones)


def test_masks_that_do_not_fit_are_refused() -> None:
    masks = batch(HEAD)
    with pytest.raises(GeometryError, match="batches are"):
        apply_rims(masks, masks[:, 1:], HEAD.grid, [[]])
    with pytest.raises(InputError, match="each skull gets a list of changes; got 1 skulls and 0 lists"):
        apply_rims(masks, masks, HEAD.grid, [])
    with pytest.raises(InputError, match=r"masks are wanted here; got torch\.float32"):
        apply_rims(masks.float(), masks, HEAD.grid, [[]])
    sheared: NDArray[np.float64] = HEAD.affine.copy()
    sheared[0, 1] = 1.0
    with pytest.raises(GeometryError, match="axes of a training grid are at right angles"):
        apply_rims(masks, masks, Grid(HEAD.shape, sheared), [[]])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU HERE")
def test_a_gpu_cuts_and_changes_the_same() -> None:
    specs = sample_specs(np.random.default_rng(2), 6)
    rims = [[sample_rim(RIM_KINDS[n % 4], np.random.default_rng(n), spec)] for n, spec in enumerate(specs)]
    here, there = (apply_defects(batch(*[HEAD] * 6).to(device), HEAD.grid, specs) for device in ("cpu", "cuda"))
    changed = (apply_rims(*one, HEAD.grid, rims)[1].cpu() for one in (here, there))
    one, other = changed
    assert int((one ^ other).sum()) <= 12
