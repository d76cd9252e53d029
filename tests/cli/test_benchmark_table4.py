"""`calvaria benchmark table4` on made-up sets in the layouts of SkullBreak and SkullFix, with a made-up model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calvaria.benchmarks import cases, comparison
from calvaria.benchmarks.reconstruction import Answer
from calvaria.benchmarks.table import read_rows
from calvaria.datasets.duplicates import Duplicates, Pair
from calvaria.datasets.layouts import SKULLBREAK_KINDS
from calvaria.datasets.split import load_split
from calvaria.io import write_volume
from calvaria.volume import Grid, Volume

GRID = Grid.isotropic((41, 50, 34), 4.0, np.array([-80.0, -98.0, -44.0]))


def head() -> tuple[Volume, Volume]:
    """A shell of bone in the canonical frame, and a piece of its back."""
    x, y, z = np.moveaxis(GRID.to_world(np.moveaxis(np.indices(GRID.shape), 0, -1)), -1, 0)
    shells = [(x / (72 - s)) ** 2 + (y / (90 - s)) ** 2 + ((z - 10) / (70 - s)) ** 2 <= 1 for s in (0, 8)]
    bone = shells[0] & ~shells[1]
    return Volume(bone, GRID), Volume(bone & (y > 50) & (abs(x) < 30) & (z > 20), GRID)


COMPLETE, PATCH = head()
DEFECTIVE = Volume(COMPLETE.mask & ~PATCH.mask, GRID)


def lay(root: Path, volumes: dict[str, Volume]) -> None:
    """Write volumes under names that may have several, such as "implant/{000,001}"."""
    for name, volume in volumes.items():
        folder, _, numbers = name.rpartition("/")
        (root / folder).mkdir(parents=True, exist_ok=True)
        written = None
        for number in numbers.split(","):
            path = root / folder / f"{number}.nrrd"
            if written is None:
                write_volume(path, volume)
                written = path.read_bytes()
            path.write_bytes(written)


@pytest.fixture
def autoimplant(tmp_path: Path) -> Path:
    """AutoImplant 2020 with the persons of the split's test side and three test cases, none with truth."""
    numbers = ",".join(name.removeprefix("train-") for name in load_split().test)
    root = tmp_path / "autoimplant2020"
    lay(root / "training_set", {f"complete_skull/{numbers}": COMPLETE, f"implant/{numbers}": PATCH})
    lay(root, {"test_set_for_participants/003,050,051": DEFECTIVE})
    return root


@pytest.fixture
def skullbreak(tmp_path: Path) -> Path:
    root = tmp_path / "skullbreak"
    lay(root / "train", {"complete_skull/000": COMPLETE, "implant/bilateral/000": PATCH})
    lay(root / "test", {"complete_skull/000,001": COMPLETE})
    for kind in SKULLBREAK_KINDS:
        lay(root / "test", {f"defective_skull/{kind}/000,001": DEFECTIVE, f"implant/{kind}/000,001": PATCH})
    return root


@pytest.fixture(autouse=True)
def solved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models of all reconstructions; each gives back what is missing. Holes are cut in the model head's frame."""
    asked: list[str] = []

    def solve(defective: Volume, model: str) -> Answer:
        asked.append(model)
        return Answer(defective.with_data(COMPLETE.mask & ~defective.mask), 2.0, 1.5, 100.0, 1)

    monkeypatch.setitem(comparison.WAYS, "", solve)
    monkeypatch.setattr(cases, "_placed", dict)
    monkeypatch.setattr(cases, "canonical_frame", lambda complete: np.eye(4))
    return asked


def test_the_stand_in_is_printed_beside_the_published_rows(run, autoimplant, tmp_path, solved):
    output = tmp_path / "new" / "table4.csv"
    result = run("benchmark", "table4", "--data", autoimplant, "-o", output, "--limit", 2)
    assert (result.code, result.err) == (0, "")
    assert "[12 of 12] " in result.out
    assert "Proposed, registration-based                   0.94 / 0.94 / 1.31  0.95 / 0.95 / 1.28" in result.out
    assert "shape-prior, STAND-IN                          1.00 / 1.00 / 0.00  1.00 / 1.00 / 0.00" in result.out
    assert "STAND-IN: 2 persons, 12 cases, 0 failed" in result.out
    assert len(read_rows(output)) == len(solved) == 12
    again = run("benchmark", "table4", "--data", autoimplant, "-o", output, "--limit", 2)
    assert "12 of 12 cases are in table4.csv already" in again.out
    assert len(solved) == 12


def test_all_three_sets_at_once(run, autoimplant, skullbreak, tmp_path):
    pair = Pair("autoimplant2020:train-000", "skullbreak:test-001", 0.99, 1.0)
    Duplicates((pair.a, pair.b), (pair,)).save(tmp_path / "d.json")
    words = ("--data", autoimplant, "--skullbreak", skullbreak, "--skullfix", autoimplant, "--limit", 1)
    result = run("benchmark", "table4", *words, "--duplicates", tmp_path / "d.json", "-o", tmp_path / "t.csv")
    assert result.code == 0
    assert "shape-prior, official test sets                1.00 / 1.00 / 0.00  n/a" in result.out
    folder = "test_set_for_participants"
    assert result.err == (
        "calvaria: warning: skullfix: 3 of its test cases have no truth here and cannot be scored; "
        f"their patches, to be handed in: calvaria reconstruct {autoimplant / folder} -o patches-{folder} "
        "--no-preview --jobs 2\n"
    )
    assert {row.case.partition(":")[0] for row in read_rows(tmp_path / "t.csv")} == {load_split().test[0], "skullbreak"}


def test_persons_whom_the_model_learned_from_are_left_out_and_counted(run, autoimplant, tmp_path, solved):
    lay(autoimplant, {"test_set_for_participants/implant/003,050": PATCH})
    result = run("benchmark", "table4", "--skullfix", autoimplant, "-o", tmp_path / "t.csv", "--json")
    assert result.code == 0
    assert (
        "shape-prior: 2 cases are left out, it learned from their persons: skullfix:test-003, skullfix:test-050\n"
        in (result.err)
    )
    assert "skullfix: 1 of its test cases have no truth here" in result.err
    found = json.loads(result.out)
    assert found["rows"] == []
    assert list(found["left_out"].values()) == [["skullfix:test-003", "skullfix:test-050"]]
    assert found["without_truth"] == ["skullfix:test-051"]
    assert solved == []


def test_skullbreak_without_a_search_for_duplicates_says_how_to_search(run, skullbreak, tmp_path):
    result = run("benchmark", "table4", "--skullbreak", skullbreak, "-o", tmp_path / "t.csv")
    assert result.code == 0
    command = f"calvaria data duplicates {skullbreak} AUTOIMPLANT2020 -o duplicates.json --jobs 2"
    assert f"{command}, then --duplicates duplicates.json" in result.err
    assert "official skullbreak test set: 2 persons, 10 cases, 0 failed" in result.out


def test_persons_of_both_sets_are_left_out_of_skullbreak(run, skullbreak, tmp_path):
    pair = Pair("autoimplant2020:train-000", "skullbreak:test-001", 0.99, 1.0)
    Duplicates((pair.a, pair.b), (pair,)).save(tmp_path / "d.json")
    words = ("--skullbreak", skullbreak, "--duplicates", tmp_path / "d.json")
    result = run("benchmark", "table4", *words, "-o", tmp_path / "t.csv")
    assert result.code == 0
    assert result.err.startswith(
        "calvaria: warning: shape-prior: 5 cases are left out, it learned from their persons: "
    )
    assert "official skullbreak test set: 1 persons, 5 cases" in result.out


def test_damaged_files_are_named_and_counted_and_the_others_go_on(run, skullbreak, tmp_path):
    (skullbreak / "test" / "implant" / "random_2" / "000.nrrd").write_bytes(b"NRRD0004\nbroken")
    (skullbreak / "test" / "defective_skull" / "random_1" / "001.nrrd").write_bytes(b"")
    result = run("benchmark", "table4", "--skullbreak", skullbreak, "-o", tmp_path / "t.csv")
    assert result.code == 2
    assert "10 cases, 2 failed" in result.out
    assert len([line for line in result.out.splitlines() if line.startswith("FAILED: ")]) == 2
    assert result.err.splitlines()[-1] == (
        "calvaria: 2 of 10 cases failed: skullbreak:test-000/random_2 random_2, skullbreak:test-001/random_1 random_1"
    )


def test_an_interrupted_run_goes_on(run, skullbreak, tmp_path, monkeypatch, solved):
    whole = comparison.WAYS[""]

    def stop(defective: Volume, model: str) -> Answer:
        if len(solved) == 3:
            raise KeyboardInterrupt
        return whole(defective, model)

    output = tmp_path / "t.csv"
    with monkeypatch.context() as patched:
        patched.setitem(comparison.WAYS, "", stop)
        assert run("benchmark", "table4", "--skullbreak", skullbreak, "-o", output).code == 130
    assert len(read_rows(output)) == 3
    result = run("benchmark", "table4", "--skullbreak", skullbreak, "-o", output)
    assert (result.code, len(solved)) == (0, 10)
    assert "3 of 10 cases are in t.csv already" in result.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to run: give --data FOLDER, --skullbreak FOLDER or --skullfix FOLDER"),
        (("--skullbreak", "EMPTY"), "no SkullBreak skull found"),
        (("--skullfix", "EMPTY"), "no AutoImplant 2020 skull found"),
        (("--data", "EMPTY"), "no AutoImplant 2020 skull found"),
        (
            ("--skullbreak", "BREAK", "--model", "shape-prior+paint"),
            "nothing is called 'paint' that may follow a model",
        ),
        (("--skullbreak", "BREAK", "--model", "nobody"), "there is no model called 'nobody'"),
        (("--skullbreak", "BREAK", "--duplicates", "EMPTY/d.json"), "d.json: there is no such file"),
        (("--data", "DATA", "--side", "exam"), "a split has the sides train, validation, test; got 'exam'"),
    ],
)
def test_a_wrong_call_is_one_line_before_any_work(run, autoimplant, skullbreak, tmp_path, solved, words, message):
    (tmp_path / "empty").mkdir()
    places = {"EMPTY": tmp_path / "empty", "BREAK": skullbreak, "DATA": autoimplant}
    for name, place in places.items():
        words = tuple(word.replace(name, str(place)) for word in words)
    result = run("benchmark", "table4", *words, "-o", tmp_path / "t.csv")
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert (result.out, solved) == ("", [])
    assert not (tmp_path / "t.csv").exists()


def test_a_table_of_something_else_is_not_written_over(run, skullbreak, tmp_path, solved):
    path = tmp_path / "t.csv"
    path.write_text("name,age\nx,3\n")
    result = run("benchmark", "table4", "--skullbreak", skullbreak, "-o", path)
    assert result.code == 2
    assert "t.csv: the columns are not those of a benchmark" in result.err
    assert path.read_text() == "name,age\nx,3\n"
    assert solved == []


def test_several_models_have_a_line_each(run, skullbreak, tmp_path, monkeypatch, solved):
    monkeypatch.setitem(comparison.WAYS, "worse", lambda defective, model: Answer(DEFECTIVE, 1.0, 9.0, 1.0, 1))
    words = ("--model", "shape-prior", "--model", "shape-prior+worse", "--limit", 1)
    result = run("benchmark", "table4", "--skullbreak", skullbreak, *words, "-o", tmp_path / "t.csv")
    lines = [line.split() for line in result.out.splitlines() if ", official test sets" in line]
    assert [(line[0], line[4], line[-3]) for line in lines] == [
        ("shape-prior,", "1.00", "1.5"),
        ("shape-prior+worse,", "0.00", "9.0"),
    ]
    assert len(read_rows(tmp_path / "t.csv")) == 10
