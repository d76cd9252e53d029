"""What the user says on the command line: parsed, read, handed on, recorded, used again; and gates with exit code 3."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from tests.cli.conftest import hole

from calvaria.io import read_mask, write_mesh, write_volume
from calvaria.reconstruction.checks import Check
from calvaria.volume import extract_surface

BAD = Check("largest opening left", 2.5, "cm2", "at most 1", "fail", "a burr hole has 1 to 2 cm2")
GOOD = Check("pose, size", 1.01, "", "0.87 to 1.11", "pass", "85 complete skulls")


@pytest.fixture
def mask(tmp_path):
    path = tmp_path / "masks" / "mustermann.nrrd"
    path.parent.mkdir()
    write_volume(path, hole())
    return path


def test_all_that_can_be_said_reaches_the_pipeline_and_the_record(run, engine, skull, mask, tmp_path):
    out = tmp_path / "out"
    said = ["--seed", "-1,2.5,3", "--seed", "4,5,6", "--box", "0,0,0,9,8,-7", "--plane", "1,0,0,23.5"]
    kept = ["--keep-open", "7,8,9", "--keep-open", mask, "--ignore", mask, "--no-gate"]
    assert run("reconstruct", skull, "-o", out, *said, *kept).code == 0
    word = engine.calls[0]["word"]
    assert (word.seeds_mm, word.box_mm) == (((-1.0, 2.5, 3.0), (4.0, 5.0, 6.0)), (0, 0, 0, 9, 8, -7))
    assert (word.plane.normal.tolist(), word.plane.offset_mm) == ([1.0, 0.0, 0.0], 23.5)
    assert word.keep_open[0] == (7.0, 8.0, 9.0)
    for one in (word.keep_open[1], word.ignore):
        np.testing.assert_array_equal(one.data > 0, hole().mask)
    file = {"path": "mustermann.nrrd", "sha256": hashlib.sha256(mask.read_bytes()).hexdigest()}
    parameters = json.loads((out / "result.json").read_text())["parameters"]
    assert parameters["gate"] is False
    assert parameters["word"] == {
        "hole": None,
        "seed": [[-1, 2.5, 3], [4, 5, 6]],
        "box": [0, 0, 0, 9, 8, -7],
        "ignore": file,
        "plane": [1, 0, 0, 23.5],
        "keep_open": [[7, 8, 9], file],
    }
    assert str(mask.parent) not in (out / "result.json").read_text()


def test_a_hole_may_be_a_closed_mesh(run, engine, skull, tmp_path):
    path = tmp_path / "hole.stl"
    write_mesh(path, extract_surface(hole().pad((1, 1, 1), (1, 1, 1))))
    assert run("reconstruct", skull, "-o", tmp_path / "out", "--hole", path).code == 0
    found = engine.calls[0]["word"].hole
    assert found.grid.same_as(read_mask(skull).grid)
    assert found.volume_ml == pytest.approx(hole().volume_ml, rel=0.2)


def test_with_nothing_said_the_pipeline_gets_no_word(run, engine, skull, tmp_path):
    run("reconstruct", skull, "-o", tmp_path / "out")
    assert engine.calls[0]["word"] is None


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("--seed", "1,2", "--seed: 3 numbers with commas between are wanted, such as 40,-25.5,60; got '1,2'"),
        ("--seed", "1,b,3", "got '1,b,3'"),
        ("--box", "1,2,3", "--box: 6 numbers"),
        ("--plane", "1,0,0,nan", "--plane: 4 numbers"),
        ("--keep-open", "1,2", "--keep-open: 3 numbers"),
        ("--hole", "none.nrrd", "none.nrrd: no such file; a mask or a closed mesh"),
        ("--box", "0,0,0,0,1,1", "a box's two corners differ"),
        ("--plane", "0,0,0,1", "a plane needs a normal"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_leaves_nothing(run, engine, skull, tmp_path, option, text, said):
    result = run("reconstruct", skull, "-o", tmp_path / "out", option, text)
    assert result.code == 2
    assert said in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["reconstruct", "design"])
def test_a_folder_of_cases_has_no_one_hole(run, engine, skull, tmp_path, command):
    result = run(command, skull.parent, "-o", tmp_path / "out", "--seed", "1,2,3")
    assert result.code == 2
    assert "--seed: this is said of one skull, and a folder of cases was given" in result.err


class TestGates:
    def test_a_failed_check_exits_3_with_all_files_there(self, run, engine, skull, tmp_path):
        engine.checks = (GOOD, BAD)
        out = tmp_path / "out"
        result = run("reconstruct", skull, "-o", out)
        assert result.code == 3
        assert "1 check failed: largest opening left: 2.5 cm2 (limit: at most 1 cm2); the files are in" in result.err
        assert "checks: 1 fail, 1 pass" in result.out
        found = json.loads((out / "result.json").read_text())
        assert [check["verdict"] for check in found["checks"]] == ["pass", "fail"]
        assert found["checks"][1] == {**vars(BAD)}
        assert (out / "patch.stl").is_file()

    def test_without_gates_it_is_only_recorded(self, run, engine, skull, tmp_path):
        engine.checks = (BAD,)
        assert run("reconstruct", skull, "-o", tmp_path / "out", "--no-gate").code == 0
        assert json.loads((tmp_path / "out" / "result.json").read_text())["checks"][0]["verdict"] == "fail"

    def test_a_folder_names_those_that_failed(self, run, engine, skull, tmp_path):
        engine.checks = (BAD,)
        result = run("reconstruct", skull.parent, "-o", tmp_path / "out")
        assert result.code == 3
        assert "cases failed a check: " in result.err

    def test_they_are_checks_of_the_design_too(self, run, engine, designer, skull, tmp_path):
        engine.checks = (GOOD, BAD)
        out = tmp_path / "out"
        result = run("design", skull, "-o", out)
        assert result.code == 3
        names = [check["name"] for check in json.loads((out / "design.json").read_text())["checks"]]
        assert names[0] == BAD.name
        assert GOOD.name not in names
        assert run("design", skull, "-o", tmp_path / "other", "--no-gate").code == 0
        assert run("design", out, "-o", out).code == 3


class TestAgain:
    def test_a_design_is_made_again_with_what_was_said(self, run, engine, designer, skull, mask, tmp_path):
        out = tmp_path / "out"
        run("design", skull, "-o", out, "--hole", mask, "--plane", "1,0,0,23")
        elsewhere = run("design", skull, "-o", tmp_path / "again", "--settings", out / "design.json")
        assert elsewhere.code == 2
        assert "mustermann.nrrd: no such file; give it again: a record keeps only the names of masks" in elsewhere.err
        beside = skull.parent / mask.name
        beside.write_bytes(mask.read_bytes())
        assert run("design", skull, "-o", tmp_path / "again", "--settings", out / "design.json").code == 0
        first, second = (call["word"] for call in engine.calls if "word" in call)
        np.testing.assert_array_equal(first.hole.data, second.hole.data)
        assert second.plane.offset_mm == 23
        beside.write_bytes(mask.read_bytes() + b"\n")
        changed = run("design", skull, "-o", tmp_path / "other", "--settings", out / "design.json")
        assert changed.code == 2
        assert "mustermann.nrrd: this is not the mask that the record was made with" in changed.err

    def test_what_is_said_anew_counts(self, run, engine, designer, skull, mask, tmp_path):
        out = tmp_path / "out"
        run("design", skull, "-o", out, "--seed", "1,2,3", "--plane", "1,0,0,23")
        run("design", skull, "-o", tmp_path / "again", "--settings", out / "design.json", "--seed", "4,5,6")
        word = engine.calls[-1]["word"] if "word" in engine.calls[-1] else engine.calls[-2]["word"]
        assert word.seeds_mm == ((4.0, 5.0, 6.0),)
        assert word.plane.offset_mm == 23

    @pytest.mark.parametrize(
        ("word", "said"),
        [
            ({"hole": 3}, "a value in it is not of the kind that calvaria writes"),
            ({"sed": []}, "the word of the reconstruction has no sed"),
            ({"seed": [[1, 2]]}, "3 finite numbers are wanted"),
            ([], "the word of the reconstruction is a JSON object"),
        ],
    )
    def test_a_record_that_says_nonsense_is_refused(self, run, engine, designer, skull, tmp_path, word, said):
        out = tmp_path / "out"
        run("design", skull, "-o", out)
        found = json.loads((out / "design.json").read_text())
        found["reconstruction"]["word"] = word
        (tmp_path / "changed.json").write_text(json.dumps(found))
        result = run("design", skull, "-o", tmp_path / "again", "--settings", tmp_path / "changed.json")
        assert result.code == 2
        assert said in result.err

    def test_of_a_known_patch_nothing_can_be_said(self, run, engine, designer, skull, tmp_path):
        out = tmp_path / "out"
        run("reconstruct", skull, "-o", out)
        result = run("design", out, "-o", out, "--seed", "1,2,3")
        assert result.code == 2
        assert "--seed: the missing bone in" in result.err


def test_the_help_has_all_of_it(run):
    for command in ("reconstruct", "design"):
        text = run(command, "--help").out
        for option in ("--hole", "--seed", "--box", "--ignore", "--plane", "--keep-open", "--gate"):
            assert option in text
