"""The recipe of the shape prior: its parts on made-up heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.heads import SIDE, Head, boxed, family_engine

from calvaria.datasets.catalog import SkullCase
from calvaria.errors import InputError
from calvaria.reconstruction.box import box_grid
from calvaria.reconstruction.shape_prior.model import MODEL_SPACING_MM, MODEL_TRUNCATION_MM
from calvaria.training import shape_prior
from calvaria.training.recipes.shape_prior import ShapePriorRecipe
from calvaria.training.shape_prior import (
    _example_field,
    _save_field,
    _sides,
    _some,
    _wall,
    example,
    fill,
    fingerprint,
    impute,
    load_field,
)


def test_an_unknown_choice_of_subjects_is_refused(tmp_path):
    with pytest.raises(InputError, match="subjects is one of train, all; got 'some'"):
        ShapePriorRecipe(root=tmp_path, output=tmp_path / "x.safetensors", subjects="some")


def test_an_unknown_way_of_joining_is_refused(tmp_path):
    with pytest.raises(InputError, match="unlabelled is one of filled, left-out, none; got 'guessed'"):
        ShapePriorRecipe(root=tmp_path, output=tmp_path / "x.safetensors", unlabelled="guessed")


def test_too_few_examples_are_refused(tmp_path):
    with pytest.raises(InputError, match="needs 5 complete skulls or more; got 2"):
        ShapePriorRecipe(root=tmp_path, output=tmp_path / "x.safetensors", complete=2)


def test_fewer_examples_are_among_the_more():
    cases = [SkullCase(str(n), str(n)) for n in range(20)]
    ten, five = _some(cases, 10), _some(cases, 5)
    assert ten[:5] == five
    assert len({case.id for case in ten}) == 10
    assert _some(cases, None) == cases


def test_holes_join_filled_or_left_out_or_not_at_all(tmp_path):
    holed, filled = boxed(Head(20, (SIDE,))), boxed(Head(20))
    _save_field(tmp_path / "a.npz", holed)
    _save_field(tmp_path / "a.filled.npz", filled)
    case = SkullCase("a", "a", None, None, tmp_path / "a.nrrd")
    assert _example_field(tmp_path, case, "none") is None
    joined = _example_field(tmp_path, case, "filled")
    np.testing.assert_allclose(joined.distance_mm, filled.distance_mm, atol=0.051)
    left_out = _example_field(tmp_path, case, "left-out")
    changed = np.abs(holed.distance_mm - filled.distance_mm) > 0.3
    assert changed.any()
    assert not left_out.known[changed].any()
    far = box_grid().centres_mm()[..., 0] < -20
    np.testing.assert_array_equal(left_out.known[far], joined.known[far])
    assert _example_field(tmp_path, SkullCase("b", "b", None, None, None), "filled") is None


def test_the_sides_of_all_examples_make_the_wall(tmp_path):
    cases = [SkullCase(str(n), str(n), tmp_path / f"{n}.nrrd") for n in (20, 21, 22)]
    for number, case in zip((20, 21, 22), cases, strict=True):
        _save_field(tmp_path / f"{case.id}.npz", boxed(Head(number)))
    joined = SkullCase("a", "a", None, None, tmp_path / "a.nrrd")
    _save_field(tmp_path / "a.npz", boxed(Head(23, (SIDE,))))
    notes: list[str] = []

    def note(line: str, fraction: float) -> None:
        assert 0 <= fraction <= 1
        notes.append(line)

    _sides([*cases, joined], tmp_path, 1, note)
    assert notes == ["tables of the vault: 3 of 3 (22)"]  # the hole of the fourth was not filled
    _save_field(tmp_path / "a.filled.npz", boxed(Head(23)))
    _sides([*cases, joined], tmp_path, 1, note)
    assert notes[1:] == ["tables of the vault: 1 of 1 (a)"]
    walls = {way: _wall([*cases, joined], tmp_path, way) for way in ("filled", "left-out", "none")}
    assert {way: wall.outer.subjects for way, wall in walls.items()} == {"filled": 4, "left-out": 4, "none": 3}
    # At the vertex of the mean head: from within to without, through the wall.
    grid = box_grid(MODEL_SPACING_MM)
    nx, ny, _ = grid.shape
    wall = walls["filled"]
    column = np.s_[nx // 2, ny // 2]
    z = grid.centres_mm()[column][:, 2]
    outer, inner = (part.mean.reshape(grid.shape)[column] for part in (wall.outer, wall.inner))
    across = (z > 70) & (z < 90)
    assert (np.diff(outer[across]) > 0).all()
    bone = np.maximum(outer, inner)[z > 40] < 0
    assert 4.0 < bone.sum() * MODEL_SPACING_MM < 11.0
    assert wall.misfit_half[0][ny // 2][(z > 72) & (z < 80)].max() < 0.3
    # What was filled is told by the others where it was left out, so that the two differ, and nowhere far from there.
    apart = np.abs(walls["filled"].outer.mean - walls["left-out"].outer.mean).reshape(grid.shape)
    assert apart.max() > 0.02
    assert apart[:, : ny // 6].max() < 0.01


def test_several_processes_leave_the_same_files(tmp_path):
    cases = [SkullCase(str(n), str(n), tmp_path / f"{n}.nrrd") for n in (20, 21)]
    for jobs in (1, 2):
        work = tmp_path / str(jobs)
        work.mkdir()
        for case in cases:
            _save_field(work / f"{case.id}.npz", boxed(Head(int(case.id))))
        _sides(cases, work, jobs, lambda line, fraction: None)
    for case in cases:
        one, other = (dict(np.load(tmp_path / str(jobs) / f"{case.id}.sides.npz")) for jobs in (1, 2))
        assert one.keys() == other.keys() == {"outer", "inner"}
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_field_comes_back_from_the_work_folder(tmp_path):
    field = boxed(Head(20, (SIDE,)))
    _save_field(tmp_path / "one.npz", field)
    back = load_field(tmp_path / "one.npz")
    np.testing.assert_allclose(back.distance_mm, field.distance_mm, atol=0.051)
    np.testing.assert_array_equal(back.known, field.known)
    assert back.scale == field.scale
    assert [path.name for path in tmp_path.iterdir()] == ["one.npz"]  # no half files


def test_an_example_is_the_truncated_distance_on_the_models_grid():
    field = boxed(Head(20))
    found = example(field)
    grid = box_grid(MODEL_SPACING_MM)
    assert found.shape == grid.shape
    assert np.abs(found).max() <= MODEL_TRUNCATION_MM + 1e-4
    # Grids of 1.6 and 2.4 mm share every third and second voxel.
    index = box_grid().to_index(grid.centres_mm())
    shared = (np.abs(index - np.round(index)).max(axis=-1) < 1e-6) & (np.round(index) < box_grid().shape).all(axis=-1)
    at = np.round(index[shared]).astype(int)
    there = np.clip(field.distance_mm[tuple(at.T)], -MODEL_TRUNCATION_MM, MODEL_TRUNCATION_MM)
    smooth = np.abs(there) > 2.0  # on the surfaces themselves the smoothing shows
    assert np.abs(found[shared] - there)[smooth].mean() < 0.15


def test_a_filled_skull_is_like_the_complete_one():
    whole, holed = boxed(Head(20)), boxed(Head(20, (SIDE,)))
    filled = fill(holed, family_engine())
    assert filled is not None
    lacking = np.abs(holed.distance_mm - whole.distance_mm) > 1.0
    before = np.abs(holed.distance_mm - whole.distance_mm)[lacking].mean()
    after = np.abs(filled.distance_mm - whole.distance_mm)[lacking].mean()
    assert after < 0.25 * before
    far = box_grid().centres_mm()[..., 0] < 0
    np.testing.assert_array_equal(filled.distance_mm[far], holed.distance_mm[far])


def test_a_complete_skull_is_not_filled():
    assert fill(boxed(Head(23)), family_engine()) is None


def test_what_a_scan_does_not_show_is_told_by_the_others():
    rng = np.random.default_rng(0)
    shape = box_grid(9.6).shape
    basis = rng.standard_normal((3, *shape)).astype(np.float32)
    basis[:2] += basis[:2, ::-1]
    weights = rng.standard_normal((12, 3)).astype(np.float32)
    truth = np.tensordot(weights, basis, axes=1)
    known = np.ones(truth.shape, bool)
    known[0, :, :, :4] = False
    seen = np.where(known, truth, 99).astype(np.float32)
    found = impute(seen, known, modes=8, spacing_mm=9.6)
    hidden = ~known[0]
    np.testing.assert_array_equal(found[known], truth[known])
    wrong = np.sqrt(((found[0] - truth[0])[hidden] ** 2).mean())
    assert wrong < 0.4 * np.sqrt((truth[0][hidden] ** 2).mean())


def test_examples_that_show_everything_are_left_alone():
    examples = np.random.default_rng(1).standard_normal((3, 5, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(impute(examples, np.ones(examples.shape, bool)), examples)


def test_another_input_has_another_work_folder(tmp_path):
    def case(name: str, content: bytes) -> SkullCase:
        path = tmp_path / f"{name}.nrrd"
        path.write_bytes(content)
        return SkullCase(name, name, path, None, None)

    one, other = case("a", b"123"), case("b", b"123")
    assert fingerprint([one]) == fingerprint([one])
    assert len({fingerprint([one]), fingerprint([other]), fingerprint([one, other]), fingerprint([])}) == 4
    before = fingerprint([one])
    assert isinstance(one.complete, Path)
    one.complete.write_bytes(b"1234")
    assert fingerprint([one]) != before


def test_what_an_earlier_version_left_is_not_gone_on_with(tmp_path, monkeypatch):
    before = fingerprint([])
    monkeypatch.setattr(shape_prior, "LAYOUT", shape_prior.LAYOUT - 1)
    assert fingerprint([]) != before
