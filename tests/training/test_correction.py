"""Training of the correction: its crops, its loss, that it learns, goes on where it stopped, and is written."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tests.heads import SIDE, Head, boxed, family_engine, family_template

from calvaria.errors import InputError
from calvaria.models import register
from calvaria.reconstruction.correction import CHANNELS, PREFIX, channels, shown_box
from calvaria.reconstruction.correction import SIDE as SIDEWAYS
from calvaria.reconstruction.engines import load_engine
from calvaria.reconstruction.shape_prior import distance_mm
from calvaria.training import correction as module
from calvaria.training.completions import LENGTHS
from calvaria.training.correction import CROP, Recipe, Shown, Trainer, build, crop, loss_of, read_hole
from calvaria.training.shape_prior import template_arrays

OFF_MM = 0.5
"""The truth lies so far outside of what the prior completes."""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A hole as `training.completions` writes it, whose truth is known."""
    field = boxed(Head(20, (SIDE,)))
    hole = (boxed(Head(20)).distance_mm < 0) & (field.distance_mm > 0)
    completion, _ = family_engine().completion(field, distance_mm(hole, 3.0))
    box = shown_box(completion.gap_mm)
    part = completion.crop(box)
    found = part._asdict() | {"truth_mm": np.where(part.gap_mm <= 2.5, part.values, part.distance_mm) - OFF_MM}
    del found["depth"]
    for name in LENGTHS:
        found[name] = np.round(np.clip(found[name], -12, 12) * 100).astype(np.int16)
    path = tmp_path_factory.mktemp("holes") / "side.npz"
    np.savez(path, **found, start=np.array([part.start for part in box]))
    return path, channels(part, box)


@pytest.fixture(scope="module")
def shown(file):
    return read_hole(file[0], family_engine()._depth)


def recipe_in(folder, **changes):
    recipe = Recipe(folder, folder / "cache", folder / "work", folder / "out.safetensors", steps=6, width=4)
    return replace(recipe, **changes)


def test_a_hole_is_read_as_it_will_be_shown(file, shown):
    assert shown.x.shape[0] == CHANNELS
    np.testing.assert_allclose(shown.x, file[1], atol=0.012)  # a difference of two that were rounded to 0.01
    assert 100 < shown.asked.sum() < shown.asked.size / 4


def test_a_crop_holds_missing_bone_and_is_mirrored_every_other_time(shown):
    sides = []
    for number in range(12):
        x, truth, asked = crop(shown, np.random.default_rng(number))
        assert x.shape == (CHANNELS, CROP, CROP, CROP)
        assert truth.shape == asked.shape == (CROP, CROP, CROP)
        assert asked.any()
        # The hole is on the left: only the mirror puts it on the right.
        sides.append(float(np.sign(x[SIDEWAYS][asked].mean())))
        start = np.where(asked, 3 * x[0], truth + OFF_MM)
        inside = asked & (np.abs(start) < 2)
        assert np.abs(truth - start + OFF_MM)[inside].max() < 0.1
    assert set(sides) == {-1.0, 1.0}


def test_a_crop_reaches_beyond_a_small_hole():
    asked = np.zeros((9, 8, 7), bool)
    asked[4, 4, 3] = True
    hole = Shown(np.ones((CHANNELS, *asked.shape), np.float16), np.ones(asked.shape, np.float16), asked)
    x, truth, found = crop(hole, np.random.default_rng(0))
    assert x.shape == (CHANNELS, CROP, CROP, CROP)
    assert (np.abs(x) == 1).all()
    assert (truth == 1).all()
    assert found.sum() == 1


def test_the_loss_is_least_at_the_truth_and_counts_only_what_is_asked():
    truth = torch.linspace(-3, 3, 31).reshape(1, 31, 1, 1).expand(1, 31, 5, 5).contiguous()
    asked = torch.ones_like(truth)
    error, overlap = loss_of(truth, truth, asked)
    assert (float(error), float(overlap)) == pytest.approx((0, 0), abs=1e-6)
    for off in (-0.4, 0.4):
        error, overlap = loss_of(truth + off, truth, asked)
        assert float(error) == pytest.approx(0.4, abs=0.05)
        assert float(overlap) > 0.01
    error, overlap = loss_of(truth + 0.4, truth, torch.zeros_like(truth))
    assert (float(error), float(overlap)) == pytest.approx((0, 0), abs=1e-6)


def test_it_begins_as_no_correction_and_learns_one(shown, tmp_path):
    trainer = Trainer(recipe_in(tmp_path, steps=60, rate=5e-3), [shown])
    first = trainer.advance()[0]
    assert first == pytest.approx(OFF_MM, abs=0.06)
    last = [trainer.advance()[0] for _ in range(59)]
    assert np.mean(last[-10:]) < 0.5 * first


def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(shown, tmp_path):
    whole = Trainer(recipe_in(tmp_path), [shown])
    for _ in range(6):
        whole.advance()
    half = Trainer(recipe_in(tmp_path), [shown])
    for _ in range(3):
        half.advance()
    torch.save(half.state(), tmp_path / "kept.pt")
    other = Trainer(recipe_in(tmp_path), [shown])
    other.resume(torch.load(tmp_path / "kept.pt", weights_only=True))
    for _ in range(3):
        other.advance()
    for name, value in whole.average.items():
        assert torch.equal(value, other.average[name]), name


@pytest.fixture
def stand_ins(file, tmp_path, monkeypatch):
    """A prior's file, one hole, and no skulls."""
    prior = family_engine()
    path = tmp_path / "prior.safetensors"
    arrays = {**prior.model.to_arrays(), **template_arrays(family_template())}
    save_file(arrays, path, metadata={"made_from": "heads"})
    register(path, "prior", "shape-prior", "MIT")
    monkeypatch.setattr(module, "SkullCache", lambda path: None)
    monkeypatch.setattr(module, "training_holes", lambda root, kinds: [None])
    monkeypatch.setattr(module, "write_completions", lambda holes, priors, note, jobs: [file[0]])
    return path


def test_the_prior_is_written_with_its_correction(stand_ins, tmp_path):
    lines: list[str] = []
    recipe = recipe_in(tmp_path, prior=str(stand_ins))
    assert build(recipe, lines.append, minutes=0.0) is None
    assert lines[-1] == "the time is over at step 1 of 6; the same command goes on from here"
    info = build(recipe, lines.append)
    assert "going on from step 1 of 6" in lines
    before, after = load_file(stand_ins), load_file(info.path)
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)
    own = set(after) - set(before)
    assert all(name.startswith(PREFIX) for name in own)
    assert {after[name].dtype for name in own} == {np.dtype(np.float16)}
    engine = load_engine(str(info.path))
    assert engine.correction is not None
    assert load_engine(str(stand_ins)).correction is None
    again = build(replace(recipe, output=tmp_path / "again.safetensors"), lines.append)
    for name, array in load_file(again.path).items():
        np.testing.assert_array_equal(array, after[name])


def test_a_correction_is_replaced_by_the_next(stand_ins, tmp_path):
    first = build(recipe_in(tmp_path, prior=str(stand_ins)), lambda line: None)
    second = build(
        recipe_in(tmp_path, prior=str(first.path), output=tmp_path / "b.safetensors", steps=7), lambda line: None
    )
    from calvaria.models.registry import load_about

    assert load_file(second.path).keys() == load_file(first.path).keys()
    assert json.loads(load_about(second)["correction"])["steps"] == 7
    assert load_about(second)["made_from"] == "heads"


def test_bad_recipes_are_refused(tmp_path, stand_ins, monkeypatch):
    with pytest.raises(InputError, match="steps and jobs are 1 or more"):
        recipe_in(tmp_path, steps=0)
    with pytest.raises(InputError, match="the width is a multiple of 4; got 6"):
        recipe_in(tmp_path, width=6)
    with pytest.raises(InputError, match="there is no model called 'none'"):
        build(recipe_in(tmp_path, prior="none"), lambda line: None)
    monkeypatch.setattr(module, "write_completions", lambda holes, priors, note, jobs: [])
    with pytest.raises(InputError, match="no hole of a training person was completed; nothing to learn from"):
        build(recipe_in(tmp_path, prior=str(stand_ins)), lambda line: None)
