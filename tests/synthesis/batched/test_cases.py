"""Training cases: what each must hold whatever was drawn, and that any of them can be made again."""

from __future__ import annotations

import pickle
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.synthesis.shells import cache_of, deformations_of, head, hole

from calvaria.datasets.cache import SkullCache, pack
from calvaria.errors import InputError
from calvaria.synthesis.augmentation.draw import NOTHING
from calvaria.synthesis.batched import cases as module
from calvaria.synthesis.batched.batches import SkullDataset, batches, tensors_of
from calvaria.synthesis.batched.cases import CaseMaker, CaseSettings, unpack_bits
from calvaria.synthesis.between import Blend, Deformations

STILL = CaseSettings(augmentation=NOTHING, blend_chance=0.0, rim_chance=0.0, unlabelled_share=0.0)
"""Heads and scans as they are."""

IDS = ["train-0", "train-1", "train-2", "test-3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cases")


@pytest.fixture(scope="module")
def cache(folder: Path) -> SkullCache:
    return cache_of(folder)


@pytest.fixture(scope="module")
def forms(folder: Path, cache: SkullCache) -> Deformations:
    return deformations_of(folder, cache)


def test_bits_are_unpacked_as_they_were_packed() -> None:
    mask = np.random.default_rng(0).random((7, 5, 3)) < 0.4
    assert np.array_equal(unpack_bits(torch.from_numpy(pack(mask)), mask.shape).numpy(), mask)


def test_every_case_keeps_what_training_relies_on(cache: SkullCache, forms: Deformations) -> None:
    maker = CaseMaker(cache, IDS, seed=3, deformations=forms)
    made = maker.make(range(10))
    assert made.shown.shape == (10, 1, *cache.grid.shape)
    for name in ("shown", "patch", "complete", "weight"):
        values = getattr(made, name)
        assert values.dtype == torch.float32
        assert set(torch.unique(values).tolist()) <= {0.0, 1.0}
    known = made.weight > 0
    assert not (made.patch.bool() & ~made.complete.bool() & known).any()
    assert (made.patch.flatten(1).sum(dim=1) > 0).all()
    sizes_ml = made.patch.flatten(1).sum(dim=1) * cache.grid.voxel_volume_mm3 / 1000
    assert sizes_ml.max() < 400


def test_without_artefacts_what_is_shown_and_the_patch_make_up_the_skull(cache: SkullCache) -> None:
    maker = CaseMaker(cache, IDS[:3], STILL, seed=1)
    made = maker.make(range(6))
    assert torch.equal(made.shown + made.patch, made.complete)
    assert made.weight.all()
    for n, row in enumerate(made.rows):
        assert np.array_equal(made.complete[n, 0].numpy() > 0, cache.bone(row))


def test_the_same_number_gives_the_same_case_alone_or_in_a_batch(cache: SkullCache, forms: Deformations) -> None:
    one = CaseMaker(cache, IDS, seed=5, deformations=forms)
    other = CaseMaker(cache, IDS, seed=5, deformations=forms)
    batch, alone = one.make([4, 7]), other.make([7])
    assert torch.equal(batch.shown[1:], alone.shown)
    assert torch.equal(batch.patch[1:], alone.patch)
    assert one.plan(4) == other.plan(4)
    assert CaseMaker(cache, IDS, seed=6, deformations=forms).plan(4) != one.plan(4)


def test_the_official_defect_is_the_sets_own(cache: SkullCache) -> None:
    settings = replace(STILL, kinds={"official": 1.0})
    made = CaseMaker(cache, ["train-0"], settings).make([0])
    assert made.kinds == ("official",)
    assert np.array_equal(made.patch[0, 0].numpy() > 0, cache.patch(0, "official"))
    assert CaseMaker(cache, ["train-2"], settings).plan(0).kind == "random_1"  # it has none of its own


def test_skulls_without_a_defect_are_shown_whole(cache: SkullCache) -> None:
    made = CaseMaker(cache, IDS[:3], replace(STILL, kinds={})).make([0, 1])
    assert made.kinds == ("", "")
    assert not made.patch.any()
    assert torch.equal(made.shown, made.complete)


def test_where_bone_may_be_missing_unseen_no_loss_counts(cache: SkullCache) -> None:
    settings = replace(STILL, unlabelled_share=1.0, kinds={"frontoorbital": 1.0})
    made = CaseMaker(cache, IDS, settings).make([0, 1])
    assert made.rows == (3, 3)
    bone, hidden = cache.bone(3), cache.hidden(3)
    assert np.array_equal(made.complete[0, 0].numpy() > 0, bone | (head((1.02, 1.0, 0.98)) & hole()))
    weight, patch, shown = (getattr(made, name)[0, 0].numpy() > 0 for name in ("weight", "patch", "shown"))
    assert not weight[hidden].any()
    assert weight[~hidden].all()
    assert not (shown & hidden).any()  # the old hole is open in what is shown
    assert patch.any()
    assert not (patch & hidden).any()


def test_a_blend_shapes_the_head_and_keeps_the_bone(cache: SkullCache, forms: Deformations) -> None:
    maker = CaseMaker(cache, IDS[:3], replace(STILL, kinds={}, blend_chance=1.0), deformations=forms)
    plan = replace(maker.plan(0), row=0, blend=Blend(0, (0, 1), (False, False), (0.0, 1.0)))
    bone = maker._made(0, plan, plan.blend)[2].numpy()
    still = maker._made(0, plan, None)[2].numpy()
    assert np.array_equal(still, cache.bone(0))

    def half_width(mask: np.ndarray, axis: int) -> float:
        return np.ptp(np.flatnonzero(mask[:, :, 40:].any(axis=tuple({0, 1, 2} - {axis})))) * 0.8

    # The flow of a velocity of s x is exp(s) x.
    assert half_width(bone, 0) == pytest.approx(half_width(still, 0) * np.exp(0.05), abs=1.7)
    assert half_width(bone, 1) == pytest.approx(half_width(still, 1) * np.exp(-0.03), abs=1.7)


def test_heads_are_rescaled_to_another_population(cache: SkullCache) -> None:
    wide = CaseMaker(cache, ["train-0"], replace(STILL, kinds={}, rescale=(1.08, 1.0, 1.0))).make([0])
    found = [np.ptp(np.flatnonzero(mask.any(axis=(1, 2)))) for mask in (cache.bone(0), wide.complete[0, 0].numpy() > 0)]
    assert found[1] == pytest.approx(1.08 * found[0], abs=1.5)
    with pytest.raises(InputError, match=r"heads are rescaled by factors between 0\.5 and 2"):
        CaseSettings(rescale=(3.0, 1.0, 1.0))


def test_skulls_that_take_no_defect_give_way_to_others(cache: SkullCache, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = CaseMaker(cache, IDS[:3], replace(STILL, kinds={"random_2": 1.0}))
    first = maker.plan(0).row
    real = module.draw_defects

    def draw(complete, grid, rng, kinds):  # type: ignore[no-untyped-def]
        if np.array_equal(complete[0].numpy(), cache.bone(first)):
            raise InputError("no sound defect")
        return real(complete, grid, rng, kinds)

    monkeypatch.setattr(module, "draw_defects", draw)
    assert maker.make([0]).rows == ((first + 1) % 3,)

    def never(*args: object) -> None:
        raise InputError("no sound defect")

    monkeypatch.setattr(module, "draw_defects", never)
    with pytest.raises(InputError, match=r"train-. and 9 other skulls: no sound defect"):
        maker.make([0])


def test_settings_that_make_no_sense_are_refused(cache: SkullCache, folder: Path) -> None:
    with pytest.raises(InputError, match=r"rim_chance lies between 0 and 1; got 1\.5"):
        CaseSettings(rim_chance=1.5)
    with pytest.raises(InputError, match="weights of kinds are at least 0, one of them above"):
        CaseSettings(kinds={"ball": 0.0})
    with pytest.raises(InputError, match="none of the 1 cases is in this cache"):
        CaseMaker(cache, ["train-900"])
    with pytest.raises(InputError, match="skulls between skulls need the deformations of two skulls"):
        CaseMaker(cache, ["train-0"], deformations=deformations_of(folder, cache))


def test_batches_come_in_order_and_go_on_where_they_stopped(cache: SkullCache) -> None:
    maker = CaseMaker(cache, IDS[:3], STILL, seed=2)
    whole = [made.rows for made in batches(maker, 2, 3)]
    assert whole == [maker.make(range(2 * n, 2 * n + 2)).rows for n in range(3)]
    assert [made.rows for made in batches(maker, 2, 1, first=2)] == whole[2:]
    assert list(batches(maker, 2, 0)) == []


def test_leaving_early_ends_the_thread(cache: SkullCache) -> None:
    before = threading.active_count()
    source = batches(CaseMaker(cache, IDS[:3], STILL), 1, 50)
    next(source)
    source.close()
    assert threading.active_count() == before


def test_what_goes_wrong_in_the_thread_is_raised_where_the_batch_is_asked_for(
    cache: SkullCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = CaseMaker(cache, IDS[:3], STILL)
    monkeypatch.setattr(maker, "make", lambda numbers: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(batches(maker, 1, 1))
    with pytest.raises(InputError, match=r"batches have 1 case or more, 1 is kept ready or more, .* got 0, 1, 2 and 1"):
        next(batches(maker, 0, 1))


def test_every_tensor_of_a_batch_is_handed_to_the_stream_that_asks(cache: SkullCache) -> None:
    one, two, three = (torch.full((1,), float(n)) for n in range(3))
    assert [float(t) for t in tensors_of({"a": one, "b": (two, (three, 1.0))})] == [0.0, 1.0, 2.0]
    cases = CaseMaker(cache, IDS, seed=0).make([0])
    assert len(list(tensors_of(cases))) == sum(isinstance(value, torch.Tensor) for value in vars(cases).values()) > 0


def test_a_dataset_serves_worker_processes_and_epochs(cache: SkullCache) -> None:
    maker = CaseMaker(cache, IDS[:3], STILL, seed=4)
    dataset = SkullDataset(maker, 3)
    dataset.epoch = 2
    item = dataset[1]
    assert len(dataset) == 3
    assert torch.equal(item["shown"], maker.make([7]).shown[0])
    assert (item["kind"], item["row"]) == (maker.make([7]).kinds[0], maker.make([7]).rows[0])
    with pytest.raises(IndexError):
        dataset[3]
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[1]["patch"], item["patch"])


def test_a_dataset_of_a_gpu_is_refused(cache: SkullCache) -> None:
    maker = CaseMaker(cache, IDS[:3], STILL)
    maker.device = torch.device("cuda")
    with pytest.raises(InputError, match="a dataset's cases are made on the CPU; this maker's are on cuda"):
        SkullDataset(maker, 3)
