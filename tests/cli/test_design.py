"""`calvaria design`: options, exit codes, and what is said; what it writes is tested with its results."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest

from calvaria.cli.implant_options import PANELS
from calvaria.errors import InputError
from calvaria.implant.settings import ImplantSettings


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def given(designer) -> ImplantSettings:
    """What the last implant was asked for with."""
    return [call["settings"] for call in designer.calls if "settings" in call][-1]


@pytest.fixture
def failing(designer):
    """A design whose clearance fails."""
    bad = replace(designer.checks[1], verdict="fail", value=0.1)
    designer.checks = (designer.checks[0], bad, designer.checks[2])
    return designer


def test_one_file_gives_the_files_and_the_words(run, designer, skull, tmp_path):
    out = tmp_path / "out"
    result = run("design", skull, "-o", out)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].startswith("implant: 45")
    assert lines[0].endswith(" g in PEEK")
    assert lines[1:3] == [
        "checks: 2 pass, 1 warn",
        "  warn  outer step  0.34 mm  (limit: at most 0.3 mm)  implant",
    ]
    assert lines[3] == "expected accuracy of the missing bone: DSC 0.94 (like the validation cases)"
    assert lines[4].startswith("took ")
    record = json.loads((out / "design.json").read_text())
    assert lines[5:] == [str(out / name) for name in record["files"]]
    assert set(files(out)) - set(record["files"]) == {
        "completed.nrrd",
        "patch.nrrd",
        "patch.stl",
        "preview.png",
        "result.json",
    }


def test_a_folder_of_results_is_designed_for_in_place(run, engine, designer, finished):
    asked = len(engine.calls)
    result = run("design", "-i", finished, "-o", finished, "--no-preview")
    assert (result.code, result.err) == (0, "")
    assert len(engine.calls) == asked
    assert {"implant.stl", "design.json", "patch.nrrd", "result.json"} <= set(files(finished))
    assert not {"design.png", "report.html"} & set(files(finished))


def test_json_prints_what_the_file_holds(run, designer, finished, tmp_path):
    result = run("design", finished, "-o", tmp_path / "out", "--json")
    assert json.loads(result.out) == json.loads((tmp_path / "out" / "design.json").read_text())


def test_quiet_says_nothing_and_verbose_every_check_and_the_seconds(run, designer, finished, tmp_path):
    designer.notes = ("two pieces",)
    loud = run("design", finished, "-o", tmp_path / "out")
    assert loud.err == "calvaria: warning: two pieces\n"
    assert "watertight" not in loud.out
    quiet = run("design", finished, "-o", tmp_path / "out", "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    verbose = run("design", finished, "-o", tmp_path / "out", "-v").out
    assert "  pass  watertight" in verbose
    assert "    body: 0.25 s" in verbose.splitlines()


def test_a_failed_check_exits_3_says_which_and_keeps_the_files(run, failing, finished, tmp_path):
    out = tmp_path / "out"
    result = run("design", finished, "-o", out)
    assert result.code == 3
    said = "1 check failed: clearance, least of implant: 0.1 mm (limit: at least 0.5 mm)"
    assert result.err == f"calvaria: results: {said}; the files are in {out}, marked in design.json\n"
    assert "  fail  clearance, least" in result.out
    assert "implant.stl" in files(out)
    record = json.loads((out / "design.json").read_text())
    assert record["verdict"] == "fail"
    quiet = run("design", finished, "-o", out, "-q", "--json")
    assert (quiet.code, quiet.err) == (3, result.err)
    assert json.loads(quiet.out)["verdict"] == "fail"


VALUES = {
    "thickness": "bone",
    "split": "never",
    "mark": "L 7",
    "plate_seats": 4,
    "max_triangles": 50_000,
    "flatten": 0.25,
    "min_wall_mm": 1.25,
}
"""What is given for each option that is no plain number in mm: for those half of the range."""


@pytest.mark.parametrize("field", fields(ImplantSettings), ids=lambda field: field.name)
def test_every_parameter_is_an_option_and_reaches_the_design(run, designer, finished, tmp_path, field):
    option = f"--{field.name.replace('_', '-')}"
    if isinstance(field.default, bool):
        words, value = [option], not field.default
    else:
        value = VALUES.get(field.name) or (field.metadata["low"] + field.metadata["high"]) / 2
        words = [option, value]
    assert run("design", finished, "-o", tmp_path / "out", "--no-preview", *words).code == 0
    assert given(designer) == replace(ImplantSettings(), **{field.name: value})
    record = json.loads((tmp_path / "out" / "design.json").read_text())
    assert record["parameters"] == given(designer).to_json()


def test_the_help_says_every_range_and_default_in_its_group(run):
    text = run("design", "--help").out
    groups = [line.rstrip(":") for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert groups == ["Arguments", "Options", "What you know", *PANELS]
    words = " ".join(text.split())
    for said in (
        "--clearance-mm MM Gap to the bone at the outer surface. [0.2 to 4 mm; default: 0.7]",
        "--bevel-deg DEG How far the rim leans inwards, besides the bone. [0 to 45 degrees; default: 0]",
        "--flatten SHARE",
        "--thickness <constant|bone> One thickness everywhere, or the missing bone's own. [default: constant]",
        "--plate-seats N Recesses for fixation plates along the rim, where bone is thick. [0 to 12; default: 0]",
        "--max-triangles N No more triangles than this, if it can be. [2000 to 2000000; default: 100000]",
        "--mould / --no-mould Also make a two-part mould for PMMA. [default: no]",
        "--mark TEXT Text engraved on the inner side; no name unless given. [default: none]",
    ):
        assert said in words


def test_every_parameter_has_a_group():
    assert sorted(name for names in PANELS.values() for name in names) == sorted(
        f.name for f in fields(ImplantSettings)
    )


def test_the_settings_of_a_design_make_the_same_bytes_again(run, designer, skull, tmp_path):
    words = ("--thickness-mm", 5.5, "--mould", "--mark", "L", "--kind", "mask", "--min-hole-ml", 0.5, "--refine")
    assert run("design", skull, "-o", tmp_path / "a", "--no-preview", *words).code == 0
    again = ("--no-preview", "--settings", tmp_path / "a" / "design.json")
    assert run("design", skull, "-o", tmp_path / "b", *again).code == 0
    one, two = (json.loads((tmp_path / name / "design.json").read_text()) for name in "ab")
    for changing in ("seconds", "peak_memory_mb"):
        del one[changing], two[changing]
    assert one == two
    for name in one["files"]:
        if name != "design.json":
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_what_stands_beside_the_settings_wins(run, designer, engine, skull, tmp_path):
    words = ("--thickness-mm", 5.5, "--mould", "--kind", "mask", "--min-hole-ml", 0.5)
    run("design", skull, "-o", tmp_path / "a", "--no-preview", *words)
    beside = ("--settings", tmp_path / "a" / "design.json", "--no-mould", "--clearance-mm", 1, "--min-hole-ml", 5)
    assert run("design", skull, "-o", tmp_path / "b", "--no-preview", *beside).code == 0
    assert given(designer) == ImplantSettings(thickness_mm=5.5, clearance_mm=1.0)
    assert [(call["kind"], call["min_hole_ml"]) for call in engine.calls if "kind" in call] == [
        ("mask", 0.5),
        ("mask", 5.0),
    ]


def test_options_on_the_missing_bone_reach_the_engine(run, designer, engine, skull, tmp_path):
    words = ("--kind", "ct", "--threshold-hu", 300, "--model", "mine", "--refine", "--device", "cpu", "--no-preview")
    assert run("design", skull, "-o", tmp_path / "out", *words).code == 0
    asked = engine.calls[0]
    assert (asked["kind"], asked["threshold_hu"], asked["engine"], asked["refine"], asked["device"]) == (
        "ct",
        300.0,
        "mine",
        True,
        "cpu",
    )
    record = json.loads((tmp_path / "out" / "design.json").read_text())
    assert record["reconstruction"] == json.loads((tmp_path / "out" / "result.json").read_text())["parameters"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.nrrd"], "nowhere.nrrd: no such file or folder"),
        ([], "no input was given; try: calvaria design skull.nrrd -o out"),
        (["{skull}", "-i", "other.nrrd"], "two inputs were given, Erika Mustermann.nrrd and other.nrrd; give one"),
        (["{skull}", "--clearance-mm", "5"], "--clearance-mm must be 0.2 to 4 mm; got 5"),
        (["{skull}", "--thickness-mm", "nan"], "--thickness-mm must be a number; got nan"),
        (["{skull}", "--plate-seats", "13"], "--plate-seats must be 0 to 12; got 13"),
        (
            ["{skull}", "--min-wall-mm", "3", "--thickness-mm", "2"],
            "no wall is thicker than the body: --min-wall-mm is 3, --thickness-mm 2",
        ),
        (["{skull}", "--mark", "x" * 25], "a mark has up to 24 printable characters; got '"),
        (["{skull}", "--settings", "{skull}"], "Erika Mustermann.nrrd: this is not JSON: "),
        (["{skull}", "--settings", "nowhere.json"], "nowhere.json: there is no such file"),
        (["{finished}", "--refine"], "--refine: the missing bone in {finished} is known; leave this out, or run"),
        (["{finished}", "--threshold-hu", "300"], "--threshold-hu: the missing bone in {finished} is known; "),
        (["{folder}", "--min-hole-ml", "3"], "--min-hole-ml: the missing bone in {folder} is known; leave this out"),
        (["{finished}/patch.stl/none"], "{finished}/patch.stl/none: no such file or folder"),
    ],
)
def test_a_call_that_cannot_be_done_is_one_line(run, designer, skull, finished, tmp_path, words, message):
    many = tmp_path / "many"
    shutil.copytree(finished, many / "a")
    places = {"skull": skull, "finished": finished, "folder": many}
    result = run("design", *(word.format(**places) for word in words), "-o", tmp_path / "out")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"calvaria: {message.format(**places)}")
    assert result.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert not any("settings" in call for call in designer.calls)


def test_a_folder_of_results_without_its_patch_is_one_line(run, designer, finished, tmp_path):
    (finished / "patch.nrrd").unlink()
    result = run("design", finished, "-o", tmp_path / "out")
    assert (result.code, result.out) == (2, "")
    wanted = "no patch beside result.json; wanted patch.nrrd, patch.nii.gz, patch.mha: run calvaria reconstruct"
    assert result.err == f"calvaria: {finished}: {wanted}\n"


@pytest.mark.parametrize("kind", ["images", "results"])
def test_a_folder_of_cases_gives_a_folder_each_and_the_bad_one_is_named(run, designer, skull, finished, tmp_path, kind):
    many = tmp_path / "many"
    many.mkdir()
    for name in "ac":
        if kind == "images":
            shutil.copy(skull, many / f"{name}.nrrd")
        else:
            shutil.copytree(finished, many / name)
    if kind == "images":
        (many / "b.nrrd").write_bytes(b"NRRD0004\nrubbish")
    else:
        (many / "b").mkdir()
        (many / "b" / "result.json").write_text("{")
    result = run("design", many, "-o", tmp_path / "out", "--no-preview")
    assert result.code == 2
    lines = result.err.splitlines()
    assert lines[0].startswith("calvaria: b: ")
    assert lines[1:] == ["calvaria: 1 of 3 cases failed: b"]
    assert files(tmp_path / "out") == ["a", "c", "designs.csv"]
    assert {"implant.stl", "design.json"} <= set(files(tmp_path / "out" / "c"))
    assert "2 of 3 cases done" in result.out
    assert "a: implant: 45" in result.out


def test_a_folder_of_results_may_take_its_implants_itself(run, designer, finished, tmp_path):
    many = tmp_path / "many"
    for name in "ab":
        shutil.copytree(finished, many / name)
    result = run("design", many, "-o", many, "--no-preview", "--json")
    assert result.code == 0
    found = json.loads(result.out)
    assert (found["done"], found["failed"]) == (2, 0)
    for case in found["cases"]:
        assert case["result"] == json.loads((many / case["case"] / "design.json").read_text())
        assert {"result.json", "implant.stl"} <= set(files(many / case["case"]))


def test_a_failed_check_in_a_folder_exits_3_and_names_the_case(run, failing, finished, tmp_path):
    shutil.move(finished, tmp_path / "many" / "a")
    result = run("design", tmp_path / "many", "-o", tmp_path / "out", "--no-preview")
    assert result.code == 3
    assert result.err == "calvaria: 1 of 1 designs failed a check: a; see design.json\n"
    assert "a: implant: 45" in result.out
    assert "1 check failed: clearance, least of implant: 0.1 mm (limit: at least 0.5 mm)" in result.out


def test_a_case_that_cannot_be_weighs_more_than_a_failed_check(run, failing, finished, tmp_path):
    shutil.move(finished, tmp_path / "many" / "a")
    (tmp_path / "many" / "b").mkdir()
    (tmp_path / "many" / "b" / "result.json").write_text("{")
    assert run("design", tmp_path / "many", "-o", tmp_path / "out", "--no-preview").code == 2


def test_several_processes_name_the_bad_cases_too(run, tmp_path):
    for name in "abc":
        (tmp_path / "many" / name).mkdir(parents=True)
        (tmp_path / "many" / name / "result.json").write_text("{")
    result = run("design", tmp_path / "many", "-o", tmp_path / "out", "--jobs", 2)
    assert result.code == 2
    assert result.err.splitlines()[-1] == "calvaria: 3 of 3 cases failed: a, b, c"
    assert files(tmp_path / "out") == ["designs.csv"]


def test_an_error_while_writing_leaves_nothing(run, designer, skull, tmp_path, monkeypatch):
    def refuse(path, meshes, metadata):
        raise InputError("implant.3mf: cannot be written: No space left on device")

    monkeypatch.setattr("calvaria.io.write_3mf", refuse)
    before = files(tmp_path)
    assert run("design", skull, "-o", tmp_path / "out").code == 2
    assert files(tmp_path) == before


def learned_of(designer) -> list[dict]:
    """What was told of a learned implant."""
    return [call["learned"] for call in designer.calls if "learned" in call]


def test_a_learned_implant_comes_from_the_model_that_completes_the_skull(run, designer, skull, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("calvaria.implant.learned.require_learned", lambda *given: asked.append(given))
    words = ("--model", "net.safetensors", "--device", "cpu")
    assert run("design", skull, "-o", tmp_path / "a", "--no-preview", *words, "--implant", "learned").code == 0
    assert asked == [("net.safetensors", "cpu")]
    assert learned_of(designer) == [{"learned": "net.safetensors", "device": "cpu"}]
    record = json.loads((tmp_path / "a" / "design.json").read_text())
    assert record["surface_from"] == "learned"
    # Its settings say so too, and what stands beside them wins.
    again = ("--settings", tmp_path / "a" / "design.json", "--no-preview")
    assert run("design", skull, "-o", tmp_path / "b", *again).code == 0
    assert len(learned_of(designer)) == 2
    assert run("design", skull, "-o", tmp_path / "c", *again, "--implant", "parametric").code == 0
    assert len(learned_of(designer)) == 2
    assert json.loads((tmp_path / "c" / "design.json").read_text())["surface_from"] == "field"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["{skull}"],
            "the model 'shape-prior' has no implant branch: a learned implant wants a",
        ),
        (["{skull}", "--thickness-mm", "5"], "thickness_mm is the parametric implant's: a learned implant has its own"),
        (["{finished}"], "results: a learned implant comes from the skull itself, not from results: give the skull's"),
    ],
)
def test_a_learned_implant_that_cannot_be_is_one_line(run, engine, designer, skull, finished, tmp_path, words, message):
    asked = len(engine.calls)
    said = [word.format(skull=skull, finished=finished) for word in words]
    result = run("design", *said, "-o", tmp_path / "out", "--implant", "learned")
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert len(engine.calls) == asked
    assert not (tmp_path / "out").exists()
