"""Augmentation as a whole: drawn, written down, applied to skulls with patches."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.heads import BACK, Head

from calvaria.deformation.warp import Warp
from calvaria.errors import GeometryError, InputError
from calvaria.synthesis.augmentation.artefacts import Artefacts, ScanEnd, Threshold
from calvaria.synthesis.augmentation.augment import (
    Augmentation,
    apply_artefacts,
    apply_augmentations,
    apply_geometry,
    split_bone,
)
from calvaria.synthesis.augmentation.draw import FOR_SYMMETRY, NOTHING, AugmentationSettings, sample_augmentation
from calvaria.synthesis.augmentation.thickness import Thickness
from calvaria.volume.grid import Grid

GRID = Grid.isotropic((60, 76, 56), 3.0, (-88.5, -112.5, -75.0))
ALWAYS = replace(
    AugmentationSettings(),
    **{field.name: 1.0 for field in fields(AugmentationSettings) if field.name.endswith("_chance")},
)

augmentations = st.builds(
    lambda seed, settings: sample_augmentation(np.random.default_rng(seed), settings),
    st.integers(0, 2**32),
    st.sampled_from([AugmentationSettings(), ALWAYS, FOR_SYMMETRY, NOTHING]),
)


@pytest.fixture(scope="module")
def skulls() -> tuple[torch.Tensor, torch.Tensor]:
    """Two complete heads and their patches, shares of bone."""
    complete = [Head(number).soft(GRID).data for number in (0, 20)]
    defective = [Head(number, (BACK,)).soft(GRID).data for number in (0, 20)]
    patch = [whole - hole for whole, hole in zip(complete, defective, strict=True)]
    return torch.from_numpy(np.stack(complete)).float(), torch.from_numpy(np.stack(patch)).clamp(0, 1).float()


# ---- drawing


@given(augmentations)
def test_an_augmentation_comes_back_from_json(drawn: Augmentation) -> None:
    text = drawn.to_json()
    assert "\n" not in text
    assert Augmentation.from_json(text) == drawn


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        Augmentation().to_json().replace("flip", "flap"),
        json.dumps({**json.loads(Augmentation().to_json()), "more": 1}),
        Augmentation(Warp(scale=(1.5, 1.0, 1.0))).to_json().replace("1.5", "150"),
        Augmentation().to_json().replace('"noise": null', '"noise": 3'),
    ],
)
def test_bad_json_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Augmentation.from_json(text)


def test_bad_json_is_named() -> None:
    with pytest.raises(InputError, match=r"not an augmentation: .*; see Augmentation\.to_json"):
        Augmentation.from_json("{}")


def test_one_seed_gives_one_augmentation() -> None:
    first, again = (sample_augmentation(np.random.default_rng(5)) for _ in range(2))
    assert first == again
    assert first != sample_augmentation(np.random.default_rng(6))


@given(st.integers(0, 1000))
def test_switching_artefacts_leaves_the_rest_as_it_is(seed: int) -> None:
    both = sample_augmentation(np.random.default_rng(seed), ALWAYS)
    some = sample_augmentation(np.random.default_rng(seed), replace(ALWAYS, slices_chance=0.0, thickness_chance=0.0))
    assert both.artefacts.slices is not None
    assert both.thickness is not None
    assert some == replace(both, thickness=None, artefacts=replace(both.artefacts, slices=None))


def test_nothing_draws_nothing_and_chances_are_kept() -> None:
    rng = np.random.default_rng(0)
    assert {sample_augmentation(rng, NOTHING) for _ in range(5)} == {Augmentation()}
    drawn = [sample_augmentation(rng) for _ in range(600)]
    for chance, share in (
        (0.5, np.mean([one.warp.flip for one in drawn])),
        (0.5, np.mean([one.artefacts.threshold is not None for one in drawn])),
        (0.1, np.mean([one.artefacts.streaks is not None for one in drawn])),
    ):
        assert share == pytest.approx(chance, abs=0.09)  # four standard deviations
    turns = np.array([one.warp.rotation_deg for one in drawn])
    assert turns.std() == pytest.approx(AugmentationSettings().rotation_sd_deg, rel=0.1)


@given(st.integers(0, 1000))
def test_heads_for_the_symmetry_network_have_a_plane(seed: int) -> None:
    drawn = sample_augmentation(np.random.default_rng(seed), FOR_SYMMETRY)
    assert drawn.warp.shear == (0.0, 0.0, 0.0)
    assert abs(drawn.warp.plane.normal[0]) > 0.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flip_chance": 1.5}, "flip_chance is a probability from 0 to 1; got 1.5"),
        ({"shape_mm": -1.0}, "shape_mm is at least 0; got -1"),
        ({"slice_mm": (5.0, 2.0)}, r"slice_mm is a range from low to high; got \(5.0, 2.0\)"),
        ({"end_mm": (1.0,)}, "end_mm is a range"),
        ({"level": (0.05, 0.5)}, "level lies within 0.1 to 0.9"),
        ({"slice_mm": (0.0, 2.0)}, "slice_mm above 0"),
        ({"noise": (-0.1, 0.2)}, "begin at 0 or above"),
    ],
)
def test_bad_settings_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AugmentationSettings(**values)  # type: ignore[arg-type]


# ---- applying


@given(augmentations, st.booleans())
@settings(max_examples=8)
def test_patch_and_skull_never_overlap_and_leave_no_seam(
    skulls: tuple[torch.Tensor, torch.Tensor], drawn: Augmentation, masks: bool
) -> None:
    complete, patch = skulls
    if masks:
        complete, patch = split_bone(complete, patch)
    moved, part = apply_geometry(complete, GRID, [drawn, drawn], patch)
    alone, none = apply_geometry(complete, GRID, [drawn, drawn])
    assert none is None
    assert part is not None
    assert moved.dtype == part.dtype == complete.dtype
    if masks:
        assert torch.equal(moved, alone)  # the two parts make up the whole
        assert not (part & ~moved).any()
        assert part.any()
    else:
        torch.testing.assert_close(moved, alone, atol=1e-6, rtol=0)
        assert (part <= moved).all()
        assert part.min() >= 0


@pytest.mark.parametrize("masks", [False, True])
def test_nothing_gives_the_same_bits(skulls: tuple[torch.Tensor, torch.Tensor], masks: bool) -> None:
    complete, patch = split_bone(*skulls) if masks else skulls
    heads = apply_augmentations(complete, patch, GRID, [Augmentation()] * 2)
    assert torch.equal(heads.complete, complete)
    assert torch.equal(heads.patch, patch)
    assert torch.equal(heads.shown, complete & ~patch if masks else complete - patch)
    assert heads.seen.all()


def test_artefacts_leave_the_truth_alone(skulls: tuple[torch.Tensor, torch.Tensor]) -> None:
    complete, patch = skulls
    drawn = [Augmentation(artefacts=Artefacts(Threshold(1.0, 0.7), end=ScanEnd(45.0)))] * 2
    heads = apply_augmentations(complete, patch, GRID, drawn)
    assert torch.equal(heads.complete, complete)
    assert torch.equal(heads.patch, patch)
    assert heads.patch[~heads.seen].sum() > 0  # the truth is whole; what counts says ``seen``
    assert not heads.shown[~heads.seen].any()
    shown, seen = apply_artefacts(complete - patch, GRID, drawn)
    assert torch.equal(shown, heads.shown)
    assert torch.equal(seen, heads.seen)


def test_what_is_known_moves_with_the_head(skulls: tuple[torch.Tensor, torch.Tensor]) -> None:
    known = torch.ones((2, *GRID.shape), dtype=torch.bool)
    known[:, :, :, :10] = False
    lifted = Augmentation(Warp(shift_mm=(0.0, 0.0, 30.0)))
    heads = apply_augmentations(*skulls, GRID, [Augmentation(), lifted], known)
    assert torch.equal(heads.seen[0], known[0])
    assert not heads.seen[1, :, :, :20].any()  # 30 mm are ten voxels, and below there was nothing
    assert heads.seen[1, :, :, 20:].all()


def test_each_head_of_a_batch_is_as_if_alone(skulls: tuple[torch.Tensor, torch.Tensor]) -> None:
    rng = np.random.default_rng(8)
    drawn = [sample_augmentation(rng, ALWAYS), replace(sample_augmentation(rng), thickness=None)]
    both = apply_augmentations(*skulls, GRID, drawn)
    for item, one in enumerate(drawn):
        alone = apply_augmentations(skulls[0][item : item + 1], skulls[1][item : item + 1], GRID, [one])
        for field in fields(alone):
            assert torch.equal(getattr(both, field.name)[item], getattr(alone, field.name)[0])


def test_skulls_get_thicker_and_thinner(skulls: tuple[torch.Tensor, torch.Tensor]) -> None:
    complete, patch = skulls
    for change_mm in (1.5, -1.5):
        moved, part = apply_geometry(complete, GRID, [Augmentation(thickness=Thickness(change_mm))] * 2, patch)
        assert part is not None
        assert (moved.sum() - complete.sum()) * change_mm > 0
        assert (part.sum() - patch.sum()) * change_mm > 0


def test_tensors_that_do_not_fit_are_refused(skulls: tuple[torch.Tensor, torch.Tensor]) -> None:
    complete, patch = skulls
    nothing = [Augmentation()] * 2
    with pytest.raises(InputError, match=r"both soft or both masks; got torch\.float32 and torch\.bool"):
        apply_geometry(complete, GRID, nothing, patch > 0.5)
    with pytest.raises(InputError, match="got 1 for 2 heads"):
        apply_augmentations(complete, patch, GRID, nothing[:1])
    with pytest.raises(GeometryError, match="volumes on a grid"):
        apply_augmentations(complete, patch[:, 1:], GRID, nothing)


def test_a_real_skull_stays_a_skull(real_data: Path) -> None:
    from calvaria.io import read_volume
    from calvaria.skull.canonical import locate
    from calvaria.volume import Volume, resample_soft

    folder = real_data / "autoimplant2020" / "training_set"
    masks = [read_volume(folder / name / "001.nrrd") for name in ("complete_skull", "implant")]
    masks = [mask.with_data(mask.data != 0) for mask in masks]
    to_canonical = locate(masks[0]).to_canonical
    soft = [resample_soft(Volume(mask.data, mask.grid.moved(to_canonical)), GRID).data for mask in masks]
    complete, patch = (torch.from_numpy(share)[None] for share in soft)
    rng = np.random.default_rng(0)
    for _ in range(5):
        heads = apply_augmentations(complete, patch, GRID, [sample_augmentation(rng)])
        assert 0.6 < float(heads.complete.sum() / complete.sum()) < 1.5
        assert 0.6 < float(heads.patch.sum() / patch.sum()) < 1.6
        assert float((heads.shown - heads.complete).abs().sum()) > 0
