"""`calvaria data list`, `check`, `split` and `duplicates`: the glue, on small sets of boxes and ready fingerprints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calvaria.datasets.duplicates import Duplicates, Pair
from calvaria.errors import InputError
from calvaria.io import write_volume
from calvaria.volume import Grid, Volume

GRID = Grid.isotropic((44, 50, 40), 4.0)
PEOPLE = 6


def box(number: int) -> np.ndarray:
    """A closed box of bone; the number takes one voxel away."""
    data = np.zeros(GRID.shape, bool)
    data[2:42, 2:48, 2:38] = True
    data[4:40, 4:46, 4:36] = False
    data[2 + number, 2, 2] = False
    return data


@pytest.fixture
def skulls(tmp_path: Path) -> Path:
    """Complete skulls 0 to 5 of six people."""
    root = tmp_path / "hospital"
    (root / "complete").mkdir(parents=True)
    for n in range(PEOPLE):
        write_volume(root / "complete" / f"p{n}.nrrd", Volume(box(n), GRID))
    return root


def test_all_sets_are_listed_with_their_licences(run, engine):
    result = run("data", "list")
    assert result.code == 0
    assert "skullbreak: SkullBreak: 114 training and 20 test skulls, five defects each\n" in result.out
    assert "licence: CC BY-NC-SA 4.0 (from CQ500)" in result.out
    sets = json.loads(run("data", "list", "--json").out)
    readable = {"autoimplant2020", "skullbreak", "mug500", "autoimplant2021", "folders"}
    assert {one["set"] for one in sets if one["readable"]} == readable
    assert {one["set"] for one in sets if not one["readable"]} == {"scidata2021", "cq500"}
    assert "cq500: CQ500: 491 head CTs (DICOM)" in result.out
    assert result.out.count("none that can be read as it comes") == 2


def test_the_cases_of_a_folder_are_listed(run, engine, skulls):
    result = run("data", "list", skulls)
    assert result.code == 0
    assert "hospital: cases of your own, 6 cases of 6 persons" in result.out
    assert json.loads(run("data", "list", skulls, "--json").out)["cases"][0] == {
        "id": "p0",
        "person": "p0",
        "kind": "clinical",
        "files": {"complete": "complete/p0.nrrd"},
    }


def test_a_whole_set_passes_the_check(run, engine, skulls):
    result = run("data", "check", skulls)
    assert result.code == 0
    assert "6 of 6 cases are whole;" in result.out
    assert result.err == ""


def test_damage_is_named_counted_and_exit_code_3(run, engine, skulls):
    (skulls / "complete" / "p1.nrrd").write_bytes(b"NRRD0004\n")
    (skulls / "complete" / "p9.nrrd").write_bytes((skulls / "complete" / "p0.nrrd").read_bytes())
    (skulls / "stray.nrrd").touch()
    for words in ((), ("--headers",)):
        result = run("data", "check", skulls, *words)
        assert result.code == 3
        assert "  p1: PROBLEM: p1.nrrd: " in result.out
        assert "  p9: PROBLEM: the same skull as p0, which counts as another person\n" in result.out
        assert "  1 files belong to no case: stray.nrrd\n" in result.out
        assert result.err.endswith("hospital: 2 of 7 cases have a problem\n")
    record = json.loads(run("data", "check", skulls, "--json").out)
    assert record["damaged"] == 2
    assert record["strays"] == ["stray.nrrd"]


def test_missing_published_cases_are_no_damage(run, engine, tmp_path):
    folder = tmp_path / "training_set" / "complete_skull"
    folder.mkdir(parents=True)
    write_volume(folder / "000.nrrd", Volume(box(0), GRID))
    result = run("data", "check", tmp_path)
    assert result.code == 0
    assert "  train-...: 1 of 100 published cases\n" in result.out
    assert "  missing: train-001, train-002, " in result.out
    assert " and 87 more\n" in result.out
    assert json.loads(run("data", "check", tmp_path, "--json").out)["counts"]["train-"] == {
        "there": 1,
        "published": 100,
    }


def test_headers_and_anatomy_exclude_each_other(run, engine, skulls):
    result = run("data", "check", skulls, "--headers", "--anatomy")
    assert result.code == 2
    assert "--headers reads no voxels, --anatomy needs them; choose one" in result.err


def test_a_split_is_drawn_and_checked(run, engine, skulls, tmp_path):
    file = tmp_path / "split.json"
    result = run("data", "split", skulls, "-o", file, "--test", "2", "--validation", "0.2", "--seed", "7")
    assert result.code == 0
    values = json.loads(file.read_text())
    assert [len(values[side]) for side in ("train", "validation", "test")] == [3, 1, 2]
    assert len(set(values["inputs"].values())) == PEOPLE
    assert f"sha256 {values['sha256']}" in result.out
    checked = run("data", "split", skulls, "--check", file)
    assert checked.code == 0
    assert checked.out.endswith("nobody is on two sides, and the cases are those of the split\n")


def test_a_changed_skull_fails_the_check(run, engine, skulls, tmp_path):
    file = tmp_path / "split.json"
    run("data", "split", skulls, "-o", file, "--test", "1", "--validation", "1")
    write_volume(skulls / "complete" / "p3.nrrd", Volume(box(20), GRID))
    (skulls / "complete" / "p4.nrrd").unlink()
    result = run("data", "split", skulls, "--check", file)
    assert result.code == 3
    assert "  p3: its skull is not the one that the split was drawn from\n" in result.out
    assert "  p4: in the split, not in the folder\n" in result.out
    assert "2 differences from the files; the split itself does not leak" in result.err


def test_persons_found_since_make_an_old_split_leak(run, engine, skulls, tmp_path):
    file, found = tmp_path / "split.json", tmp_path / "duplicates.json"
    run("data", "split", skulls, "-o", file, "--test", "1", "--validation", "1")
    values = json.loads(file.read_text())
    train, test = values["train"][0], values["test"][0]
    Duplicates((train, test), (Pair(train, test, 0.98, 0.9),)).save(found)
    result = run("data", "split", skulls, "--check", file, "--duplicates", found)
    assert result.code == 2
    assert f"the split leaks: {train} (train) and {test} (test) are one person" in result.err
    again = tmp_path / "again.json"
    assert (
        run("data", "split", skulls, "-o", again, "--duplicates", found, "--test", "1", "--validation", "1").code == 0
    )
    assert json.loads(again.read_text())["same_person"] == [sorted([train, test])]


def test_names_with_their_set_before_them_are_understood(run, engine, skulls, tmp_path):
    found = tmp_path / "duplicates.json"
    Duplicates((), (Pair("folders:p1", "folders:p2", 0.98, 0.9), Pair("folders:p1", "x:1", 0.98, 0.9))).save(found)
    file = tmp_path / "split.json"
    run("data", "split", skulls, "-o", file, "--duplicates", found, "--test", "1", "--validation", "1")
    assert json.loads(file.read_text())["same_person"] == [["p1", "p2"]]
    Duplicates((), (Pair("y:1", "x:1", 0.98, 0.9),)).save(found)
    result = run("data", "split", skulls, "-o", file, "--duplicates", found)
    assert result.code == 2
    assert (
        "none of its names, such as x:1, is a case here; run calvaria data duplicates on the same folders" in result.err
    )


def test_a_bad_skull_is_left_out_of_a_split(run, engine, skulls, tmp_path):
    (skulls / "complete" / "p1.nrrd").write_bytes(b"no skull")
    file = tmp_path / "split.json"
    result = run("data", "split", skulls, "-o", file, "--test", "1", "--validation", "1")
    assert result.code == 2
    assert "p1: p1.nrrd: " in result.err
    assert result.err.endswith("1 of 6 cases are left out: p1\n")
    assert "p1" not in json.loads(file.read_text())["inputs"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "give either -o FILE to draw a split or --check FILE to check one"),
        (("-o", "a.json", "--check", "b.json"), "give either -o FILE"),
        (("-o", "nowhere/split.json"), "nowhere does not exist"),
        (("--check", "none.json"), "none.json: no such split; packaged are: autoimplant2020"),
        (("-o", "x.json", "--duplicates", "none.json"), "none.json: there is no such file"),
        (("-o", "x.json"), "a split needs more than 25 persons with one complete skull; got 6"),
    ],
)
def test_bad_calls_of_split(run, engine, skulls, monkeypatch, tmp_path, words, text):
    monkeypatch.chdir(tmp_path)
    result = run("data", "split", skulls, *words)
    assert result.code == 2
    assert text in result.err
    assert not list(tmp_path.glob("*.json"))


@pytest.fixture
def search(monkeypatch):
    """A stand-in for the search: one pair of one person, one to be looked at, one bad skull."""

    def find(skulls, work, *, jobs, neighbours, progress):
        progress("half", 0.5)
        names = [skull.name for skull in skulls]
        pairs = (
            Pair(names[0], names[1], 0.981, 0.87),
            Pair(names[1], names[2], 0.91, 1.0, mirrored=True),
            Pair(names[2], names[3], 0.7, 1.0),
        )
        return Duplicates(tuple(names[:-1]), pairs, {names[-1]: "no skull"})

    monkeypatch.setattr("calvaria.datasets.duplicates.find_duplicates", find)


def test_duplicates_are_shown_and_written(run, engine, search, skulls, tmp_path):
    file = tmp_path / "duplicates.json"
    result = run("data", "duplicates", skulls, "-o", file, "--work", tmp_path / "work")
    assert result.code == 2
    assert "person 1: p0, p1\n" in result.out
    assert "look at these, left and right exchanged" in result.out
    assert (
        "2 skulls show 1 persons, 1 pairs are to be looked at; the most alike of the others overlap by 0.700"
        in result.out
    )
    assert result.err == "calvaria: p5: no skull\ncalvaria: 1 skulls could not be compared: p5\n"
    assert json.loads(file.read_text())["groups"] == [["p0", "p1"]]
    assert json.loads(run("data", "duplicates", skulls, "-o", file, "--json").out) == json.loads(file.read_text())


def test_duplicates_of_two_folders_have_the_folder_before_them(run, engine, search, skulls, tmp_path):
    (tmp_path / "clinic" / "defective").mkdir(parents=True)
    (tmp_path / "clinic" / "defective" / "x.nrrd").touch()
    file = tmp_path / "duplicates.json"
    run("data", "duplicates", tmp_path / "clinic", skulls, "-o", file)
    assert json.loads(file.read_text())["groups"] == [["clinic:x", "hospital:p0"]]


def test_the_result_needs_a_folder(run, engine, skulls):
    result = run("data", "duplicates", skulls, "-o", "nowhere/duplicates.json")
    assert result.code == 2
    assert "nowhere does not exist" in result.err


def test_a_folder_that_is_no_set(run, engine, tmp_path):
    for command in (("list",), ("check",), ("split", "-o", "x.json"), ("duplicates", "-o", "x.json")):
        result = run("data", command[0], tmp_path, *command[1:])
        assert result.code == InputError.exit_code
        assert "no set recognised by its layout" in result.err
