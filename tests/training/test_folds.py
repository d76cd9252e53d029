"""Priors that have not seen a training person."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from calvaria.errors import InputError
from calvaria.training import folds as module
from calvaria.training.folds import FoldPriors, fold_of
from calvaria.training.shape_prior import LAYOUT

ROWS = list(range(12))


@pytest.fixture
def cache(monkeypatch):
    entries = [SimpleNamespace(id=f"train-{n}", person=f"person-{n}") for n in ROWS]
    monkeypatch.setattr(module, "train_rows", lambda cache: ROWS)
    return SimpleNamespace(entries=entries, path=Path("cache.safetensors"))


def write(work, row):
    """Fields that name their person."""
    field = np.full((3, 2, 2), 100 * row, np.int16)
    np.savez(work / f"field-{LAYOUT}-{row}.npz", example=field, depth=field)


def test_folds_deal_people_evenly_and_for_good():
    folds = [fold_of(f"person-{n}", 4) for n in range(400)]
    assert folds == [fold_of(f"person-{n}", 4) for n in range(400)]
    assert min(np.bincount(folds)) > 70


def test_a_prior_does_not_know_its_fold(cache, tmp_path, monkeypatch):
    given = []

    def fit_modes(examples, spacing_mm, most):
        given.append(sorted({int(value) for value in examples[:, 0, 0, 0]}))
        return "modes"

    monkeypatch.setattr(module, "fit_modes", fit_modes)
    monkeypatch.setattr(module, "ShapeModel", SimpleNamespace(of=lambda modes, depth: "model"))
    monkeypatch.setattr(module, "ShapePrior", lambda model, template: object())
    for row in ROWS:
        write(tmp_path, row)
    priors, made = FoldPriors(cache, tmp_path, 4), {}
    for person in (f"person-{row}" for row in ROWS):
        fold = fold_of(person, 4)
        assert made.setdefault(fold, priors.of(person)) is priors.of(person)
    assert len(given) == len(made) > 2
    for fold, rows in zip(made, given, strict=True):
        assert rows == [row for row in ROWS if fold_of(f"person-{row}", 4) != fold]


def test_too_few_people_are_named(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "train_rows", lambda cache: ROWS[:3])
    with pytest.raises(InputError, match="training persons in the other folds; 5 are needed"):
        FoldPriors(cache, tmp_path, 4).of("person-0")


def test_only_what_is_not_there_is_missing(cache, tmp_path):
    for row in (0, 3, 11):
        write(tmp_path, row)
    assert FoldPriors(cache, tmp_path, 4).missing() == [1, 2, 4, 5, 6, 7, 8, 9, 10]


def test_fields_that_are_missing_are_made(cache, tmp_path, monkeypatch):
    """A dry run asks for a prior before all fields were made."""
    made = []

    def write_field(self, row):
        made.append(row)
        write(tmp_path, row)

    monkeypatch.setattr(FoldPriors, "write_field", write_field)
    monkeypatch.setattr(module, "fit_modes", lambda examples, spacing_mm, most: "modes")
    monkeypatch.setattr(module, "ShapeModel", SimpleNamespace(of=lambda modes, depth: "model"))
    monkeypatch.setattr(module, "ShapePrior", lambda model, template: object())
    write(tmp_path, 0)
    FoldPriors(cache, tmp_path, 4).of("person-0")
    assert made == [row for row in ROWS if row and fold_of(f"person-{row}", 4) != fold_of("person-0", 4)]
