"""`calvaria refine`: two files to a folder of results, and what is said of those that cannot be used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from tests.cli.conftest import GRID, MOVED, defective, hole

from calvaria.io import read_mask, write_mesh, write_volume
from calvaria.refinement.refine import TRUST
from calvaria.results.settings import Trust
from calvaria.volume import Grid, Volume, extract_surface


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def patch(tmp_path):
    """The missing piece, in a file whose name is a patient's."""
    path = tmp_path / "Mustermann patch.nrrd"
    write_volume(path, hole())
    return path


def test_two_files_give_the_promised_files_and_words(run, engine, skull, patch, tmp_path):
    out = tmp_path / "out"
    result = run("refine", skull, patch, "-o", out)
    assert (result.code, result.err) == (0, "")
    assert files(out) == ["completed.nrrd", "patch.nrrd", "patch.stl", "preview.png", "refinement.png", "result.json"]
    moved = "refined: moved by 0.8 mm on average, 3.1 mm at most; symmetry loss 0.031 -> 0.024 (symmetry)"
    assert moved in result.out.splitlines()
    assert all(str(out / name) in result.out for name in files(out))
    assert np.array_equal(read_mask(out / "patch.nrrd").mask, hole().mask)
    assert np.array_equal(read_mask(out / "completed.nrrd").mask, hole().mask | defective().mask)


def test_what_was_asked_for_reaches_the_engine(run, engine, skull, patch, tmp_path):
    words = ("--kind", "ct", "--threshold-hu", "300", "--model", "mine.safetensors", "--device", "cpu", "--no-preview")
    assert run("refine", skull, patch, "-o", tmp_path / "out", *words).code == 0
    asked = engine.calls[0]
    assert (asked["kind"], asked["threshold_hu"], asked["engine"], asked["device"]) == (
        "ct",
        300.0,
        "mine.safetensors",
        "cpu",
    )
    assert (asked["name"], asked["patch_name"]) == (skull.name, patch.name)
    assert files(tmp_path / "out") == ["completed.nrrd", "patch.nrrd", "patch.stl", "result.json"]


def test_the_record_names_both_files_by_their_content_and_nobody(run, engine, skull, patch, tmp_path):
    result = run("refine", skull, patch, "-o", tmp_path / "out", "--json", "--no-preview")
    record = json.loads(result.out)
    text = (tmp_path / "out" / "result.json").read_text()
    assert record == json.loads(text)
    assert "Mustermann" not in text
    assert record["parameters"]["refine"] is True
    assert set(record["refinement"]) == {
        "declined",
        "reason",
        "symmetry_before",
        "symmetry_after",
        "mean_mm",
        "max_mm",
        "jacobian_min",
        "seconds",
        "apart_mm",
        "added_ml",
    }
    assert record["given_patch"]["format"] == ".nrrd"
    assert record["given_patch"]["sha256"] != record["input"]["sha256"]
    assert set(record["seconds"]) == {"read", "load", "refine", "write", "stages", "total"}


@pytest.mark.parametrize("trust", ["auto", "patch", "prior"])
def test_what_is_trusted_reaches_the_engine_and_the_record(run, engine, skull, patch, tmp_path, trust):
    words = ("--json", "--no-preview", *(("--trust", trust) if trust != "auto" else ()))
    record = json.loads(run("refine", skull, patch, "-o", tmp_path / "out", *words).out)
    assert engine.calls[0]["trust"] == record["parameters"]["trust"] == trust


def test_another_word_for_what_is_trusted_is_refused(run, engine, skull, patch, tmp_path):
    result = run("refine", skull, patch, "-o", tmp_path / "out", "--trust", "nobody")
    assert (result.code, result.out) == (2, "")
    assert "Invalid value for '--trust': " in result.err
    assert "'nobody' is not one of 'auto', 'patch', 'prior'" in result.err
    assert not engine.calls
    assert not (tmp_path / "out").exists()


def test_the_words_for_what_is_trusted_are_those_of_the_refinement():
    assert get_args(Trust) == tuple(TRUST)


def test_a_declined_patch_is_said_with_its_reason(run, engine, skull, patch, tmp_path):
    engine.report = replace(MOVED, declined=True, reason="the mirror side is damaged too")
    out = run("refine", skull, patch, "-o", tmp_path / "out", "--no-preview").out
    assert "left as it was: the mirror side is damaged too" in out.splitlines()


def test_a_closed_mesh_is_a_patch_on_the_skulls_grid(run, engine, skull, tmp_path):
    path = tmp_path / "implant.stl"
    write_mesh(path, extract_surface(hole()))
    assert run("refine", skull, path, "-o", tmp_path / "out", "--no-preview").code == 0
    given = engine.calls[0]["patch"]
    assert given.grid.same_as(read_mask(skull).grid)
    assert given.volume_ml == pytest.approx(hole().volume_ml, rel=0.1)


def test_what_is_doubtful_of_the_patchs_file_is_said(run, engine, skull, tmp_path):
    path = tmp_path / "patch.nrrd"
    write_volume(path, Volume(hole().data, Grid.isotropic(GRID.shape, 1.0)))
    words = ("--no-preview", "--quiet", "--json")
    (line,) = json.loads(run("refine", skull, path, "-o", tmp_path / "out", *words).out)["warnings"]
    assert line.startswith("the patch: the image spans 24 x 24 x 20 mm by its header")


def test_warnings_are_said_and_quiet_says_nothing(run, engine, skull, patch, tmp_path):
    engine.warnings = ("3.0 ml of the patch lie in bone",)
    result = run("refine", skull, patch, "-o", tmp_path / "out", "--no-preview")
    assert result.err == "calvaria: warning: 3.0 ml of the patch lie in bone\n"
    result = run("refine", skull, patch, "-o", tmp_path / "out", "--no-preview", "-q")
    assert (result.out, result.err) == ("", "")
    assert "refine: " in run("refine", skull, patch, "-o", tmp_path / "out", "--no-preview", "-v").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.nrrd", "{patch}"], "nowhere.nrrd: no such file"),
        (["{skull}", "nowhere.nrrd"], "nowhere.nrrd: no such file"),
        (["{skull}", "{folder}"], "{folder}: this is a folder; give one skull and one patch, each a file"),
        (["{skull}", "{patch}", "--device", "cuda"], "--device cuda: the shape prior runs on the CPU only; "),
    ],
)
def test_a_call_that_cannot_be_done_is_one_line(run, engine, skull, patch, tmp_path, words, message):
    places = {"skull": skull, "patch": patch, "folder": tmp_path}
    result = run("refine", *(word.format(**places) for word in words), "-o", tmp_path / "out")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"calvaria: {message.format(**places)}")
    assert result.err.count("\n") == 1
    assert not engine.calls
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("which", ["skull", "patch"])
def test_results_do_not_take_an_inputs_place(run, engine, skull, patch, tmp_path, which):
    out = tmp_path / "out"
    out.mkdir()
    mine = out / "patch.nrrd"
    mine.write_bytes({"skull": skull, "patch": patch}[which].read_bytes())
    words = {"skull": (mine, patch), "patch": (skull, mine)}[which]
    result = run("refine", *words, "-o", out)
    assert result.code == 2
    wanted = "the results would replace the input; give another folder with -o"
    assert result.err == f"calvaria: patch.nrrd: {wanted}\n"
    assert files(out) == ["patch.nrrd"]


def test_a_mesh_that_is_open_is_one_line(run, engine, skull, tmp_path):
    mesh = extract_surface(hole())
    path = tmp_path / "open.stl"
    write_mesh(path, replace(mesh, faces=mesh.faces[1:]))
    result = run("refine", skull, path, "-o", tmp_path / "out")
    assert result.code == 2
    assert result.err.startswith("calvaria: open.stl: the mesh must be closed; 3 of its edges have no partner")
    assert result.err.count("\n") == 1
    assert not engine.calls
