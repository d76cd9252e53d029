"""The benchmark of own bone: which rows, how they are kept, and what the tables say."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from calvaria.benchmarks import own_bone
from calvaria.benchmarks.cases import Task
from calvaria.benchmarks.own_bone import SCANS, Row, flap_of, kept, main, moved, run, run_work, summary, works_of
from calvaria.datasets.catalog import SkullCase
from calvaria.errors import InputError
from calvaria.jobs import DIED
from calvaria.volume import Grid, Volume

GRID = Grid.isotropic((40, 40, 12), 1.0)


def task(number: int, person: str | None = None, kind: str = "hemicraniectomy") -> Task:
    return Task(SkullCase(f"train-{number:03d}", person or f"p{number}", None, None, None), kind)


TASKS = [task(1), task(2), task(3, "p2"), task(1, kind="parietotemporal")]


def test_own_scans_are_paired_with_their_person_others_with_nobodys_of_it():
    own = works_of(TASKS[:2], others=False)
    assert [work.key for work in own] == [
        (name, "hemicraniectomy", scan, name) for name in ("train-001", "train-002") for scan in SCANS
    ]
    others = {(work.task.case.id, work.owner.case.id) for work in works_of(TASKS[:3], others=True)}
    assert others == {
        ("train-001", "train-002"),
        ("train-001", "train-003"),
        ("train-002", "train-001"),
        ("train-003", "train-001"),
    }


def test_a_removed_piece_is_smaller_by_its_kerf_and_nothing_else():
    bone, hole = np.zeros(GRID.shape, bool), np.zeros(GRID.shape, bool)
    bone[:, :, 4:8] = True
    hole[8:30, 8:30, 4:8] = True
    piece = flap_of(Volume(bone & ~hole, GRID), Volume(hole, GRID), 2.0)
    assert np.count_nonzero(piece.mask) == 18 * 18 * 4
    assert piece.grid.to_world(np.argwhere(piece.mask)).min(axis=0).tolist() == [10, 10, 4]


def test_a_scan_lies_elsewhere_with_the_same_voxels():
    volume = Volume(np.ones(GRID.shape, bool), GRID)
    there = moved(volume, np.random.default_rng(1), (10.0, 30.0))
    turn = there.affine[:3, :3] @ np.linalg.inv(volume.affine[:3, :3])
    assert 10 <= np.degrees(np.arccos((np.trace(turn) - 1) / 2)) <= 30
    assert there.data is volume.data


def test_a_simulated_scan_is_made_once_and_kept(tmp_path):
    made: list[int] = []

    def make() -> Volume:
        made.append(1)
        return Volume(np.arange(8, dtype=np.int16).reshape(2, 2, 2), Grid((2, 2, 2), np.diag([1.0, 2, 3, 1])))

    one, two = (kept(tmp_path / "scans", "train-1 post", partial(make)) for _ in range(2))
    assert len(made) == 1
    np.testing.assert_array_equal(one.data, two.data)
    assert one.grid.same_as(two.grid)
    kept(None, "train-1 post", partial(make))
    assert len(made) == 2


def test_what_goes_wrong_is_named_in_the_row_and_tried_again(tmp_path, monkeypatch):
    works = works_of(TASKS[:1], others=False)
    row = run_work(works[0])
    assert "there is no complete skull" in row.error
    said: list[str] = []
    assert [one.error for one in run(works, tmp_path / "rows.csv", None, say=said.append)] == [row.error] * len(SCANS)
    assert "FAILED" in said[0]
    monkeypatch.setattr(own_bone, "run_work", good)
    assert [one.error for one in run(works, tmp_path / "rows.csv", None, say=said.append)] == [""] * len(SCANS)
    monkeypatch.setattr(own_bone, "run_work", refuse)
    assert [one.dsc for one in run(works, tmp_path / "rows.csv", None, say=said.append)] == [0.97] * len(SCANS)


def good(work: own_bone.Work, cache: Path | None = None) -> Row:
    return Row(*work.key, dsc=0.97)


def refuse(work: own_bone.Work, cache: Path | None = None) -> Row:
    raise AssertionError("it is in the file")


def test_a_case_whose_process_dies_is_named(dying_workers, tmp_path):
    rows = run(works_of(TASKS[:1], others=False), tmp_path / "rows.csv", None, jobs=2, say=lambda line: None)
    assert {row.error for row in rows} == {DIED}


def test_the_tables_hold_means_worst_and_both_distributions():
    own = [
        Row("a", "hemicraniectomy", "pre-op 1 mm", "a", 0.97, 0.98, 0.5, 1.0, 0.05, 0.2, 0.98, 1.0, seconds=9.0),
        Row("b", "hemicraniectomy", "pre-op 1 mm", "b", 0.99, 0.98, 0.7, 3.0, 0.07, 0.2, 0.90, 1.0, seconds=9.0),
        Row("c", "hemicraniectomy", "pre-op 1 mm", "c", error="no head"),
    ]
    lines = summary([*own, Row("a", "hemicraniectomy", "pre-op 1 mm", "b", agreeing=0.2, mean_mm=1.5)]).splitlines()
    assert lines[1].split()[:7] == ["hemicraniectomy", "pre-op", "1", "mm", "3", "1", "0.9800"]
    assert "0.9700" in lines[1]
    assert "agreeing, own: 2 fits, 0.900 to 0.980, median 0.940" in lines
    assert "agreeing, others: 1 fits, 0.200 to 0.200, median 0.200" in lines


def test_a_call_that_cannot_be_is_one_line(tmp_path, capsys, monkeypatch):
    assert main(["--data", str(tmp_path), "-o", str(tmp_path / "rows.csv")]) == 2
    assert capsys.readouterr().err.startswith("error: ")

    def stop(*_: object, **__: object) -> list[Row]:
        raise KeyboardInterrupt

    monkeypatch.setattr(own_bone, "tasks_of", lambda *_, **__: TASKS[:1])
    monkeypatch.setattr(own_bone, "run", stop)
    assert main(["--data", str(tmp_path), "-o", str(tmp_path / "rows.csv")]) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    monkeypatch.setattr(own_bone, "run", lambda works, *_, **__: [Row(*work.key, dsc=0.97) for work in works])
    assert main(["--data", str(tmp_path), "-o", str(tmp_path / "rows.csv"), "--others"]) == 0


def test_a_piece_that_is_missing_gives_an_error_of_ours():
    with pytest.raises(InputError):
        own_bone.cropped(TASKS[0])
