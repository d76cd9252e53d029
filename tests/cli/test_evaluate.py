"""`calvaria evaluate`: figures for one patch, tables for many."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from calvaria.io import read_mask, write_mesh, write_volume
from calvaria.io.scores import read_scores
from calvaria.metrics import METRICS
from calvaria.results import evaluation
from calvaria.symmetry.plane import Plane
from calvaria.volume import extract_surface

PLAIN = [name for name, metric in METRICS.items() if metric.scope != "symmetry"]
"""What is measured without being asked for."""


@pytest.fixture
def shifted(tmp_path, truth):
    """The true patch, one voxel to the side."""
    path = tmp_path / "shifted.nrrd"
    volume = read_mask(truth)
    write_volume(path, volume.with_data(np.roll(volume.mask, 1, axis=0)))
    return path


@pytest.fixture
def folders(tmp_path, skull, truth, shifted):
    """Patches of three cases (one exact, one shifted, one without a truth), truths and skulls."""
    for name, source in {"patches": truth, "truths": truth, "skulls": skull}.items():
        (tmp_path / name).mkdir()
        for case in ("a", "b", "c"):
            shutil.copy(source, tmp_path / name / f"{case}.{name}.nrrd")
    shutil.copy(shifted, tmp_path / "patches" / "b.patches.nrrd")
    (tmp_path / "truths" / "c.truths.nrrd").unlink()
    return [tmp_path / "patches", tmp_path / "truths", "--defective", tmp_path / "skulls"]


@pytest.mark.usefixtures("small_pictures")
def test_a_folder_for_each_kind_is_scored_by_kind(run, engine, tmp_path, skull, truth, shifted):
    for part, source in {"patches": shifted, "truths": truth, "skulls": skull}.items():
        for kind in ("bilateral", "random_1"):
            (tmp_path / part / kind).mkdir(parents=True)
            shutil.copy(source, tmp_path / part / kind / "000.nrrd")
    folders = [tmp_path / "patches", tmp_path / "truths", "--defective", tmp_path / "skulls"]
    result = run("evaluate", *folders, "-o", tmp_path / "out", "--draw", "1", "--json")
    assert [case["case"] for case in json.loads(result.out)["cases"]] == ["bilateral/000", "random_1/000"]
    assert [path.name for path in (tmp_path / "out").glob("errors-*")] == ["errors-bilateral-000.png"]


def test_a_mesh_that_cannot_be_made_is_said_before_any_work(run, engine, monkeypatch, tmp_path, skull, truth):
    monkeypatch.setitem(sys.modules, "fast_simplification", None)
    result = run("evaluate", truth, truth, "--defective", skull, "-o", tmp_path / "out", "--mesh")
    assert result.code == 2
    assert "pip install 'calvaria[figures]'" in result.err
    assert not (tmp_path / "out").exists()


def test_the_truth_itself_is_perfect(run, engine, skull, truth):
    result = run("evaluate", truth, truth, "--defective", skull)
    assert (result.code, result.err) == (0, "")
    shown = {" ".join(words[:-1]): words[-1] for words in map(str.split, result.out.splitlines()) if len(words) > 1}
    assert (shown["DSC"], shown["bDSC"], shown["HD95 mm"], shown["SDSC 1"]) == ("1.000", "1.000", "0.00", "1.000")
    assert len(shown) == len(PLAIN) + 1  # and the heading
    assert "Dice overlap" not in result.out
    assert "Dice overlap" in run("evaluate", truth, truth, "--defective", skull, "-v").out


def test_a_shifted_patch_has_the_overlap_of_two_shifted_boxes(run, engine, skull, truth, shifted):
    result = run("evaluate", shifted, truth, "--defective", skull, "--json")
    scores = json.loads(result.out)["cases"][0]["scores"]
    assert scores["dsc"] == pytest.approx(5 / 6)  # six voxels wide, moved by one
    assert scores["volume_error_percent"] == 0
    assert scores["overlap_ml"] == pytest.approx(12 * 2 * 2 * 2.5 / 1000)  # one layer of 6 x 2 lies in the skull
    assert list(scores) == PLAIN


def test_an_empty_patch_is_scored_and_not_left_out(run, engine, skull, truth, tmp_path):
    path = tmp_path / "empty.nrrd"
    volume = read_mask(truth)
    write_volume(path, volume.with_data(np.zeros(volume.shape, bool)))
    result = run("evaluate", path, truth, "--defective", skull, "--json")
    scores = json.loads(result.out)["cases"][0]["scores"]
    assert scores["dsc"] == 0
    assert scores["hd95_mm"] is None
    assert " inf " in run("evaluate", path, truth, "--defective", skull).out


@pytest.mark.usefixtures("small_pictures")
def test_against_an_empty_truth_there_is_no_volume_error(run, engine, skull, truth, folders, tmp_path):
    volume = read_mask(truth)
    empty = volume.with_data(np.zeros(volume.shape, bool))
    write_volume(tmp_path / "empty.nrrd", empty)
    shown = run("evaluate", truth, tmp_path / "empty.nrrd", "--defective", skull).out
    rows = {" ".join(words[:-1]): words[-1] for words in map(str.split, shown.splitlines()) if words}
    assert rows["volume error %"] == rows["gap mm"] == "n/a"
    assert "nan" not in shown
    write_volume(tmp_path / "truths" / "c.truths.nrrd", empty)
    out = tmp_path / "out"
    result = run("evaluate", *folders, "-o", out)
    assert result.code == 0
    rows = [words for words in map(str.split, result.out.splitlines()) if words]
    assert next(words for words in rows if words[0] == "c")[6] == "n/a"
    assert next(words for words in rows if words[0] == "undefined")[6] == "1"
    assert next(words for words in rows if words[0] == "mean")[6] == "+0.0"
    record = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert record["cases"][2]["scores"]["volume_error_percent"] is None
    assert record["summary"]["volume_error_percent"]["undefined"] == 1
    assert record["summary"]["volume_error_percent"]["mean"] == 0
    assert math.isnan(read_scores(out / "scores.csv")["c"]["volume_error_percent"])
    assert "2 of 3" in (out / "report.html").read_text(encoding="utf-8")


def test_a_mesh_is_brought_onto_the_grid_of_the_truth(run, engine, skull, truth, tmp_path):
    path = tmp_path / "patch.stl"
    write_mesh(path, extract_surface(read_mask(truth)))
    result = run("evaluate", path, truth, "--defective", skull, "--json")
    assert json.loads(result.out)["cases"][0]["scores"]["dsc"] == 1.0


def test_folders_are_matched_and_what_fails_is_named(run, engine, folders):
    result = run("evaluate", *folders)
    assert result.code == 2
    assert result.err.splitlines() == [
        "calvaria: c: no file of that name in truths",
        "calvaria: 1 of 3 cases failed: c",
    ]
    rows = {words[0]: words[1:] for words in map(str.split, reversed(result.out.splitlines())) if words}
    assert rows["a"][0] == "1.000"
    assert rows["b"][0] == "0.833"
    assert rows["mean"][0] == "0.917"
    assert rows["worst"][0] == "0.833"


def test_all_metrics_go_into_a_csv_file(run, engine, folders, tmp_path):
    path = tmp_path / "scores.csv"
    record = json.loads(run("evaluate", *folders, "--csv", path, "--json").out)
    scores = read_scores(path)
    assert list(scores) == ["a", "b"]
    assert list(scores["b"]) == PLAIN
    assert scores["b"]["dsc"] == record["cases"][1]["scores"]["dsc"]
    assert run("evaluate", *folders, "--csv", tmp_path / "none" / "scores.csv").code == 2


def test_folders_as_json(run, engine, folders):
    record = json.loads(run("evaluate", *folders, "--json").out)
    assert [case["case"] for case in record["cases"]] == ["a", "b"]
    assert record["summary"]["sd"]["dsc"] == pytest.approx((1 - 5 / 6) / math.sqrt(2))
    assert record["failed"] == {"c": "no file of that name in truths"}


def test_truths_without_a_patch_are_warned_of(run, engine, folders, tmp_path):
    (tmp_path / "patches" / "a.patches.nrrd").unlink()
    (tmp_path / "patches" / "c.patches.nrrd").unlink()
    result = run("evaluate", *folders)
    assert (result.code, result.err) == (0, "calvaria: warning: 1 truths have no patch and are not scored: a\n")
    assert "mean" not in result.out


def test_a_file_and_a_folder_do_not_go_together(run, engine, truth, folders):
    result = run("evaluate", truth, *folders[1:])
    assert result.code == 2
    assert result.err == "calvaria: PATCH, TRUTH and --defective must be three files or three folders\n"


def test_grids_that_differ_are_refused(run, engine, skull, truth, tmp_path):
    path = tmp_path / "cropped.nrrd"
    write_volume(path, read_mask(truth).crop((slice(0, 20), slice(0, 24), slice(0, 20))))
    result = run("evaluate", path, truth, "--defective", skull)
    assert result.code == 2
    assert "must lie on one grid" in result.err


@pytest.mark.usefixtures("small_pictures")
def test_a_folder_of_results_has_tables_figures_and_a_page(run, engine, folders, tmp_path):
    out = tmp_path / "out"
    result = run("evaluate", *folders, "-o", out, "--mesh", "--draw", "1")
    assert result.code == 2  # c has no truth
    assert result.out.rstrip().endswith(str(out / "report.html"))
    assert {path.name for path in out.iterdir()} == {
        "scores.csv",
        "scores.json",
        "distributions.png",
        "scored.jsonl",
        "errors-b.png",
        "errors-b.ply",
        "report.html",
    }
    record = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert record["summary"]["dsc"]["worst_case"] == "b"
    assert record["failed"] == {"c": "no file of that name in truths"}
    assert record["definitions"]["dsc"] == METRICS["dsc"].definition
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "b: DSC 0.833" in page
    assert page.count("<img") == 2
    assert list(read_scores(out / "scores.csv")) == ["a", "b"]


def test_one_case_is_drawn_and_an_empty_truth_is_not(run, engine, skull, truth, shifted, tmp_path):
    assert run("evaluate", shifted, truth, "--defective", skull, "-o", tmp_path / "one").code == 0
    assert {path.name for path in (tmp_path / "one").iterdir()} == {
        "scores.csv",
        "scores.json",
        "errors-shifted.png",
        "report.html",
    }
    empty = tmp_path / "empty.nrrd"
    volume = read_mask(truth)
    write_volume(empty, volume.with_data(np.zeros(volume.shape, bool)))
    result = run("evaluate", shifted, empty, "--defective", skull, "-o", tmp_path / "two")
    assert result.code == 0
    assert "shifted: the true patch is empty; there are no errors to draw" in result.err
    assert not list((tmp_path / "two").glob("errors*"))


def test_without_matplotlib_the_page_is_plainer(run, engine, folders, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run("evaluate", *folders, "-o", tmp_path / "out", "--draw", "0")
    assert "warning: no distributions.png: figures are drawn by matplotlib: pip install" in result.err
    assert (tmp_path / "out" / "report.html").exists()


def test_cases_scored_side_by_side_have_the_same_figures(run, engine, folders, tmp_path):
    shutil.copy(tmp_path / "patches" / "a.patches.nrrd", tmp_path / "truths" / "c.truths.nrrd")
    (tmp_path / "patches" / "c.patches.nrrd").write_bytes(b"NRRD0004\nbroken")
    results = [run("evaluate", *folders, "--json", "--jobs", jobs) for jobs in (1, 2)]
    one, two = (json.loads(result.out) for result in results)
    assert one == two
    assert [case["case"] for case in one["cases"]] == ["a", "b"]
    assert list(one["failed"]) == ["c"]


def scored(monkeypatch) -> list[str]:
    """The patches that are scored from now on."""
    names: list[str] = []
    before = evaluation.score_files

    def note(files):
        names.append(files.patch.name)
        return before(files)

    monkeypatch.setattr(evaluation, "score_files", note)
    return names


def test_what_was_scored_is_kept_until_a_file_or_a_setting_changes(run, engine, folders, tmp_path, monkeypatch):
    names, call = scored(monkeypatch), ["evaluate", *folders, "-o", tmp_path / "out", "--draw", "0"]
    first = run(*call, "--json")
    assert names == ["a.patches.nrrd", "b.patches.nrrd"]
    assert "done already" not in first.out
    again = run(*call)
    assert names == ["a.patches.nrrd", "b.patches.nrrd"]
    assert "2 of 2 cases are done already; --again runs them, too" in again.out
    assert run(*call, "--json").out == first.out
    volume = read_mask(folders[0] / "a.patches.nrrd")
    write_volume(folders[0] / "a.patches.nrrd", volume.with_data(np.roll(volume.mask, 2, axis=1)))
    run(*call)
    assert names[2:] == ["a.patches.nrrd"]
    run(*call, "--again")
    assert names[3:] == ["a.patches.nrrd", "b.patches.nrrd"]
    run(*call, "--orientation", "LPS")
    assert names[5:] == ["a.patches.nrrd", "b.patches.nrrd"]


def test_an_evaluation_that_was_killed_goes_on(run, engine, folders, tmp_path, monkeypatch):
    names, call = scored(monkeypatch), ["evaluate", *folders, "-o", tmp_path / "out", "--draw", "0"]
    run(*call)
    path = tmp_path / "out" / "scored.jsonl"
    lines = [line for line in path.read_text().splitlines() if line]
    assert len(lines) == 2
    path.write_text(f"{lines[0]}\n\n{lines[1][:40]}")  # as it is when the process dies within the second line
    names.clear()
    assert "1 of 2 cases are done already" in run(*call).out
    assert names == ["b.patches.nrrd"]
    assert "2 of 2 cases are done already" in run(*call).out


def test_without_a_folder_nothing_is_kept(run, engine, folders, monkeypatch):
    names = scored(monkeypatch)
    run("evaluate", *folders)
    run("evaluate", *folders)
    assert len(names) == 4


def test_files_need_a_folder(run, engine, skull, truth, tmp_path):
    result = run("evaluate", truth, truth, "--defective", skull, "--mesh")
    assert result.code == 2
    assert "name a folder for them with -o" in result.err
    (tmp_path / "file").write_text("")
    result = run("evaluate", truth, truth, "--defective", skull, "-o", tmp_path / "file" / "out")
    assert result.code == 2
    assert result.err == (
        f"calvaria: {tmp_path / 'file' / 'out'}: cannot write the results there: {tmp_path / 'file'} is a file; "
        "give another folder with -o\n"
    )


def test_symmetry_is_measured_where_it_is_asked_for(run, engine, skull, truth, monkeypatch):
    plane = Plane([1.0, 0.0, 0.0], 23.0)
    monkeypatch.setattr("calvaria.skull.canonical.locate", lambda mask: SimpleNamespace(plane=plane))
    record = json.loads(run("evaluate", truth, truth, "--defective", skull, "--symmetry", "--json").out)
    found = record["cases"][0]["scores"]
    assert list(found) == list(METRICS)
    assert found["asymmetry_excess_mm"] == 0
    assert found["asymmetry_mm"] >= 0


@pytest.fixture
def asked(monkeypatch):
    """What a scheduler is asked for, which fails every second case."""
    calls = []

    def on_scheduler(work, items, address, shared, lost):
        calls.append((items, address, shared))
        return ((item, lost(item, "no worker") if n % 2 else work(item)) for n, item in enumerate(items))

    monkeypatch.setitem(sys.modules, "distributed", ModuleType("distributed"))
    monkeypatch.setattr("calvaria.results.cluster.on_scheduler", on_scheduler)
    return calls


@pytest.mark.usefixtures("small_pictures")
def test_a_scheduler_scores_what_is_not_yet_scored(run, engine, folders, tmp_path, monkeypatch, asked):
    monkeypatch.chdir(tmp_path)
    words = ["patches", "truths", "--defective", "skulls", "-o", "out", "--draw", "0", "--scheduler", "tcp://host:8786"]
    result = run("evaluate", *words, "--json")
    assert result.code == 2
    assert "calvaria: b: no worker\n" in result.err
    assert [one["case"] for one in json.loads(result.out)["cases"]] == ["a"]
    ((items, address, shared),) = asked
    assert [(name, files.patch) for name, files in items] == [
        (name, tmp_path / "patches" / f"{name}.patches.nrrd") for name in "ab"
    ]
    assert all(path.is_absolute() for _, files in items for path in (files.patch, files.truth, files.defective))
    assert (address, shared) == ("tcp://host:8786", Path("out"))
    result = run("evaluate", *words, "--json")  # the first is done
    assert [name for name, _ in asked[1][0]] == ["b"]
    assert [one["case"] for one in json.loads(result.out)["cases"]] == ["a", "b"]


@pytest.mark.usefixtures("asked")
def test_what_cannot_be_sent_to_a_scheduler_is_one_line(run, folders, skull, truth, tmp_path, monkeypatch):
    words = ["--scheduler", "tcp://host:8786"]
    result = run("evaluate", *folders, *words)
    assert (result.code, result.err) == (
        2,
        "calvaria: --scheduler: name a folder that this machine and all workers share with -o\n",
    )
    one = ["evaluate", truth, truth, "--defective", skull, "-o", tmp_path / "out", *words]
    assert run(*one).err == (
        "calvaria: --scheduler: truth.nrrd is one case; give a folder of cases, or leave this out\n"
    )
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = run("evaluate", *folders, "-o", tmp_path / "out", *words)
    assert result.err == "calvaria: --scheduler: cases are sent by Dask: pip install 'calvaria[cluster]'\n"
    assert not (tmp_path / "out").exists()
