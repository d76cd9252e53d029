"""`calvaria reconstruct`: from a file, or a folder of files, to folders of results."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest

from calvaria.errors import InputError
from calvaria.io import read_mask, write_mesh, write_volume
from calvaria.volume import extract_surface


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path, skull):
    """Two good cases and a bad one."""
    cases = tmp_path / "cases"
    cases.mkdir()
    shutil.copy(skull, cases / "a.nrrd")
    (cases / "b.nrrd").write_bytes(b"NRRD0004\nrubbish")
    shutil.copy(skull, cases / "c.nrrd")
    return cases


def test_one_file_gives_the_promised_files(run, engine, skull, tmp_path):
    out = tmp_path / "out"
    result = run("reconstruct", skull, "-o", out)
    assert (result.code, result.err) == (0, "")
    assert files(out) == ["completed.nrrd", "patch.nrrd", "patch.stl", "preview.png", "result.json"]
    assert "hole 1: " in result.out
    assert "expected accuracy: DSC 0.94 (like the validation cases)" in result.out
    assert all(str(out / name) in result.out for name in files(out))


def test_the_images_on_disk_are_the_results(run, engine, skull, truth, tmp_path):
    run("reconstruct", skull, "-o", tmp_path / "out")
    patch, completed = (read_mask(tmp_path / "out" / f"{name}.nrrd") for name in ("patch", "completed"))
    assert np.array_equal(patch.mask, read_mask(truth).mask)
    assert np.array_equal(completed.mask, patch.mask | read_mask(skull).mask)
    assert patch.grid.same_as(read_mask(skull).grid)


@pytest.mark.parametrize(
    ("suffix", "written"), [(".nii.gz", ".nii.gz"), (".nii", ".nii.gz"), (".mha", ".mha"), (".nrrd", ".nrrd")]
)
def test_images_come_in_the_inputs_format(run, engine, skull, tmp_path, suffix, written):
    path = tmp_path / f"head{suffix}"
    write_volume(path, read_mask(skull))
    assert run("reconstruct", path, "-o", tmp_path / "out", "--no-preview").code == 0
    assert files(tmp_path / "out") == [f"completed{written}", f"patch{written}", "patch.stl", "result.json"]


def test_a_closed_mesh_is_read_as_bone(run, engine, skull, tmp_path, monkeypatch):
    path = tmp_path / "bone.stl"
    write_mesh(path, extract_surface(read_mask(skull)))
    asked = []

    def refuse(volume, **settings):
        asked.append(volume)
        raise InputError("seen")

    monkeypatch.setattr(sys.modules["calvaria.pipeline"], "reconstruct", refuse)
    assert run("reconstruct", path, "-o", tmp_path / "out").err == "calvaria: seen\n"
    assert asked[0].volume_ml == pytest.approx(read_mask(skull).volume_ml, rel=0.05)


def test_with_refine_the_patch_is_refined_and_what_was_done_is_said_and_drawn(run, engine, skull, tmp_path):
    plain = run("reconstruct", skull, "-o", tmp_path / "out")
    assert engine.calls[0]["refine"] is False
    assert "refined: moved" not in plain.out
    result = run("reconstruct", skull, "-o", tmp_path / "out", "--refine")
    assert (result.code, result.err) == (0, "")
    assert [call["refine"] for call in engine.calls if "refine" in call] == [False, True]
    assert files(tmp_path / "out") == [
        "completed.nrrd",
        "patch.nrrd",
        "patch.stl",
        "preview.png",
        "refinement.png",
        "result.json",
    ]
    moved = "refined: moved by 0.8 mm on average, 3.1 mm at most; symmetry loss 0.031 -> 0.024 (symmetry)"
    assert moved in result.out.splitlines()
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["parameters"]["refine"] is True
    assert record["refinement"]["symmetry_before"] == 0.03123
    run("reconstruct", skull, "-o", tmp_path / "out")
    assert "refinement.png" not in files(tmp_path / "out")  # of the run before


def test_an_empty_patch_is_not_refined(run, engine, skull, tmp_path):
    engine.empty = True
    result = run("reconstruct", skull, "-o", tmp_path / "out", "--refine")
    assert result.code == 0
    assert "refined" not in result.out
    assert "refinement.png" not in files(tmp_path / "out")
    assert "refinement" not in json.loads((tmp_path / "out" / "result.json").read_text())


def test_result_json_holds_the_figures_and_nobodys_name(run, engine, skull, tmp_path):
    engine.warnings = ("the lower edge is cut",)
    result = run("reconstruct", skull, "-o", tmp_path / "out", "--kind", "mask")
    text = (tmp_path / "out" / "result.json").read_text()
    record = json.loads(text)
    assert "Mustermann" not in text
    assert str(tmp_path) not in text
    assert len(record["input"]["sha256"]) == 64
    assert record["input"]["format"] == ".nrrd"
    assert record["schema"] == 2
    assert record["parameters"] == {
        "engine": "shape-prior",
        "kind": "mask",
        "orientation": None,
        "preview": True,
        "device": "auto",
        "threshold_hu": None,
        "min_hole_ml": 5.0,
        "refine": False,
        "trust": "auto",
        "series": None,
        "study": None,
        "word": {"hole": None, "seed": [], "box": None, "ignore": None, "plane": None, "keep_open": []},
        "gate": True,
    }
    assert record["seconds"]["stages"] == {"fit": 0.5, "pose": 0.25}
    assert record["seconds"]["total"] > 0
    assert 10 < record["peak_memory_mb"] < 10_000
    assert record["model"]["name"] == "stand-in"
    assert record["warnings"] == ["the lower edge is cut"]
    assert record["files"] == files(tmp_path / "out")
    assert result.err == "calvaria: warning: the lower edge is cut\n"


def test_json_prints_what_the_file_holds(run, engine, skull, tmp_path):
    result = run("reconstruct", "-i", skull, "-o", tmp_path / "out", "--json")
    assert json.loads(result.out) == json.loads((tmp_path / "out" / "result.json").read_text())


def test_quiet_prints_nothing_and_verbose_the_stages(run, engine, skull, tmp_path):
    assert run("reconstruct", skull, "-o", tmp_path / "out", "-q").out == ""
    assert "    pose: 0.25 s" in run("reconstruct", skull, "-o", tmp_path / "out", "-v").out


def test_a_skull_without_a_hole_is_no_error_and_says_so(run, engine, skull, tmp_path):
    engine.empty = True
    assert run("reconstruct", skull, "-o", tmp_path / "out").code == 0
    again = run("reconstruct", skull, "-o", tmp_path / "out")
    assert again.out.startswith("no defect of 5 ml or more found: the patch is empty")
    assert files(tmp_path / "out") == ["completed.nrrd", "patch.nrrd", "preview.png", "result.json"]
    assert json.loads((tmp_path / "out" / "result.json").read_text())["patch"] == {"empty": True, "volume_ml": 0.0}


def test_options_reach_the_engine(run, engine, skull, tmp_path):
    run("reconstruct", skull, "-o", tmp_path / "out", "--kind", "ct", "--model", "another", "--no-preview")
    assert [(call["engine"], call["kind"]) for call in engine.calls] == [("another", "ct")]


def test_the_smallest_hole_reaches_the_engine_and_stands_in_the_record(run, engine, skull, tmp_path):
    run("reconstruct", skull, "-o", tmp_path / "one", "--no-preview")
    run("reconstruct", skull, "-o", tmp_path / "two", "--min-hole-ml", "0.5", "--no-preview")
    assert [call["min_hole_ml"] for call in engine.calls] == [5.0, 0.5]
    record = json.loads((tmp_path / "two" / "result.json").read_text(encoding="utf-8"))
    assert record["parameters"]["min_hole_ml"] == 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{skull}", "-i", "other.nrrd"], "two inputs were given, Erika Mustermann.nrrd and other.nrrd; give one"),
        (["nowhere.nrrd"], "nowhere.nrrd: no such file or folder"),
        ([], "no input was given; try: calvaria reconstruct skull.nrrd -o out"),
    ],
)
def test_a_call_that_cannot_be_done_says_why(run, engine, skull, tmp_path, words, message):
    result = run("reconstruct", *(word.format(skull=skull) for word in words), "-o", tmp_path / "out")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"calvaria: {message}")
    assert not (tmp_path / "out").exists()


def test_the_same_input_in_both_spellings_is_fine(run, engine, skull, tmp_path):
    assert run("reconstruct", skull, "-i", skull, "-o", tmp_path / "out").code == 0


def test_an_error_while_writing_leaves_nothing(run, engine, skull, tmp_path, monkeypatch):
    def refuse(path, mesh):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("calvaria.io.write_mesh", refuse)
    before = files(tmp_path)
    assert run("reconstruct", skull, "-o", tmp_path / "out").code == 1
    assert files(tmp_path) == before


def test_an_input_that_the_results_would_replace_is_refused(run, engine, skull, tmp_path):
    path = tmp_path / "completed.nrrd"
    shutil.move(skull, path)
    before = path.read_bytes()
    result = run("reconstruct", path, "-o", tmp_path)
    assert result.code == 2
    assert result.err == "calvaria: completed.nrrd: the results would replace the input; give another folder with -o\n"
    assert path.read_bytes() == before


def test_warnings_of_a_folder_name_their_case(run, engine, folder, tmp_path):
    engine.warnings = ("the lower edge is cut",)
    (folder / "b.nrrd").unlink()
    result = run("reconstruct", folder, "-o", tmp_path / "out")
    assert result.err.splitlines() == [f"calvaria: warning: {name}: the lower edge is cut" for name in "ac"]


def test_the_bad_case_of_a_folder_is_named_and_the_rest_go_on(run, engine, folder, tmp_path):
    result = run("reconstruct", folder, "-o", tmp_path / "out", "--no-preview")
    assert result.code == 2
    lines = result.err.splitlines()
    assert lines[0].startswith("calvaria: b: b.nrrd: ")
    assert lines[1:] == ["calvaria: 1 of 3 cases failed: b"]
    assert files(tmp_path / "out") == ["a", "c", "results.csv"]
    assert files(tmp_path / "out" / "a") == files(tmp_path / "out" / "c")
    assert "2 of 3 cases done" in result.out


def test_a_folder_as_json(run, engine, folder, tmp_path):
    result = run("reconstruct", folder, "-o", tmp_path / "out", "--no-preview", "--json")
    record = json.loads(result.out)
    assert (record["done"], record["failed"]) == (2, 1)
    assert [case["case"] for case in record["cases"]] == ["a", "b", "c"]
    assert record["cases"][1]["result"] is None
    assert record["cases"][0]["result"] == json.loads((tmp_path / "out" / "a" / "result.json").read_text())


def test_a_bug_in_one_case_costs_the_others_nothing_but_exits_1(run, engine, folder, tmp_path):
    (folder / "b.nrrd").unlink()
    engine.error = ZeroDivisionError("division by zero")
    result = run("reconstruct", folder, "-o", tmp_path / "out")
    assert result.code == 1
    assert result.err.count("this is a bug, please report it: ZeroDivisionError") == 2


def test_several_processes_name_the_bad_cases_too(run, tmp_path):
    cases = tmp_path / "cases"
    cases.mkdir()
    for name in ("a", "b", "c"):
        (cases / f"{name}.nrrd").write_bytes(b"NRRD0004\nrubbish")
    result = run("reconstruct", cases, "-o", tmp_path / "out", "--jobs", 2)
    assert result.code == 2
    assert result.err.splitlines()[-1] == "calvaria: 3 of 3 cases failed: a, b, c"
    assert all(f"calvaria: {name}: {name}.nrrd: " in result.err for name in "abc")
    assert files(tmp_path / "out") == ["results.csv"]


def test_the_bone_threshold_is_handed_on_and_recorded(run, engine, skull, tmp_path):
    record = json.loads(run("reconstruct", skull, "-o", tmp_path / "out", "--threshold-hu", 300, "--json").out)
    assert engine.calls[0]["threshold_hu"] == 300.0
    assert record["parameters"]["threshold_hu"] == 300.0
