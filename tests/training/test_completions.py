"""Training cases of the correction: made from files, by priors that have not seen the person, once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.heads import SIDE, Head, family_engine, scan, truth_of

from calvaria.data.catalog import SkullCase
from calvaria.errors import GeometryError
from calvaria.io import write_volume
from calvaria.reconstruction.box import vault
from calvaria.reconstruction.correction import Completion
from calvaria.training import completions as module
from calvaria.training.completions import HOLES, LENGTHS, Hole, complete_hole, training_holes, write_completions
from calvaria.training.folds import FoldPriors
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume


@pytest.fixture(scope="module")
def hole(tmp_path_factory):
    """An unseen head with a hole at its side, as files."""
    folder = tmp_path_factory.mktemp("hole")
    head = Head(20, (SIDE,))
    defective = scan(head)
    write_volume(folder / "complete.nrrd", scan(replace(head, holes=())))
    write_volume(folder / "patch.nrrd", truth_of(head, defective))
    return Hole("train-1", "person", "official", folder / "complete.nrrd", folder / "patch.nrrd")


@pytest.fixture(scope="module")
def found(hole):
    return complete_hole(hole, family_engine())


def test_a_hole_is_completed_beside_its_truth(found):
    box = tuple(slice(i, i + n) for i, n in zip(found["start"], found["truth_mm"].shape, strict=True))
    assert set(found) == {*Completion._fields, "truth_mm", "start"} - {"depth"}
    assert all(found[name].dtype == np.int16 for name in LENGTHS)
    truth, ours = found["truth_mm"] < 0, found["values"] < 0
    asked = (found["gap_mm"] == 0) & (found["distance_mm"] > 0) & vault()[box]
    both = 2 * (truth & ours & asked).sum() / ((truth & asked).sum() + (ours & asked).sum())
    assert both > 0.9
    # Away from the hole the truth is what is there.
    away = (found["gap_mm"] > 1000) & found["known"]
    assert np.abs(found["truth_mm"] - found["distance_mm"])[away].max() <= 10


def test_a_completion_is_not_corrected_before_it_is_learned_from(hole, found):
    def refuse(completion):
        raise AssertionError

    prior = family_engine()
    corrected = type(prior)(prior.model, prior.template, correction=refuse)
    again = complete_hole(hole, corrected)
    for name, array in found.items():
        np.testing.assert_array_equal(again[name], array)


def test_a_hole_that_the_prior_does_not_find_gives_no_case(hole, tmp_path):
    head = scan(Head(20))
    speck = np.zeros(head.shape, bool)
    speck[tuple(np.argwhere(head.mask)[0])] = True
    write_volume(tmp_path / "speck.nrrd", head.with_data(speck))
    assert complete_hole(replace(hole, patch=tmp_path / "speck.nrrd"), family_engine()) is None


def test_files_of_two_grids_are_refused(hole, tmp_path):
    write_volume(tmp_path / "patch.nrrd", Volume(np.ones((4, 4, 4), bool), Grid.isotropic((4, 4, 4), 1.0)))
    with pytest.raises(GeometryError, match="train-1: complete skull and implant"):
        complete_hole(replace(hole, patch=tmp_path / "patch.nrrd"), family_engine())


def test_every_person_with_a_complete_skull_gets_every_hole(tmp_path, monkeypatch):
    cases = [
        SkullCase("a", "a", tmp_path / "a.nrrd", tmp_path / "a-patch.nrrd"),
        SkullCase("b", "b", tmp_path / "b.nrrd"),
        SkullCase("c", "c"),
    ]
    monkeypatch.setattr(module, "chosen", lambda root, people: cases if people == "train" else [])
    names = [one.name for one in training_holes(tmp_path)]
    assert names == [f"{kind}-a" for kind in HOLES] + [f"{kind}-b" for kind in HOLES[1:]]


def test_a_cut_hole_is_the_same_each_time(hole):
    cut = replace(hole, kind="parietotemporal", patch=None)
    one, two = (module._cut(cut) for _ in range(2))
    np.testing.assert_array_equal(one[1].data, two[1].data)
    assert one[1].mask.any()
    assert not (one[0].mask & one[1].mask).any()


def test_holes_are_completed_once(hole, found, tmp_path, monkeypatch):
    asked = []

    def complete(one, prior):
        asked.append(one.name)
        return None if one.kind == "bilateral" else found

    monkeypatch.setattr(module, "complete_hole", complete)
    monkeypatch.setattr(module, "_priors", lambda *told: priors)
    monkeypatch.setattr(FoldPriors, "missing", lambda self: [])
    monkeypatch.setattr(FoldPriors, "of", lambda self, person: None)
    priors = FoldPriors(type("Cache", (), {"path": tmp_path / "cache"})(), tmp_path, 4)  # type: ignore[arg-type]
    holes = [replace(hole, kind=kind) for kind in ("official", "bilateral", "random_1")]
    lines: list[str] = []
    for _ in range(2):
        paths = write_completions(holes, priors, lines.append)
        assert [path.name for path in paths] == ["official-train-1.npz", "random_1-train-1.npz"]
    assert asked == ["official-train-1", "bilateral-train-1", "random_1-train-1"]
    assert lines == ["holes completed: 3 of 3, 0 min left"]
    assert [path.name for path in write_completions(holes[:1], priors, lines.append)] == ["official-train-1.npz"]
