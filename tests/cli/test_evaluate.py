"""`calvaria evaluate`: figures for one patch, tables for many."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calvaria.cli.evaluate import summarise
from calvaria.io import read_mask, write_mesh, write_volume
from calvaria.io.scores import read_scores
from calvaria.metrics import METRICS
from calvaria.volume import extract_surface


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


def test_the_truth_itself_is_perfect(run, engine, skull, truth):
    result = run("evaluate", truth, truth, "--defective", skull)
    assert (result.code, result.err) == (0, "")
    shown = {" ".join(words[:-1]): words[-1] for words in map(str.split, result.out.splitlines()) if len(words) > 1}
    assert (shown["DSC"], shown["bDSC"], shown["HD95 mm"], shown["SDSC 1"]) == ("1.000", "1.000", "0.00", "1.000")
    assert len(shown) == len(METRICS) + 1  # and the heading
    assert "Dice overlap" not in result.out
    assert "Dice overlap" in run("evaluate", truth, truth, "--defective", skull, "-v").out


def test_a_shifted_patch_has_the_overlap_of_two_shifted_boxes(run, engine, skull, truth, shifted):
    result = run("evaluate", shifted, truth, "--defective", skull, "--json")
    scores = json.loads(result.out)["cases"][0]["scores"]
    assert scores["dsc"] == pytest.approx(5 / 6)  # six voxels wide, moved by one
    assert scores["volume_error_percent"] == 0
    assert scores["overlap_ml"] == pytest.approx(12 * 2 * 2 * 2.5 / 1000)  # one layer of 6 x 2 lies in the skull
    assert list(scores) == list(METRICS)


def test_an_empty_patch_is_scored_and_not_left_out(run, engine, skull, truth, tmp_path):
    path = tmp_path / "empty.nrrd"
    volume = read_mask(truth)
    write_volume(path, volume.with_data(np.zeros(volume.shape, bool)))
    result = run("evaluate", path, truth, "--defective", skull, "--json")
    scores = json.loads(result.out)["cases"][0]["scores"]
    assert scores["dsc"] == 0
    assert scores["hd95_mm"] is None
    assert " inf " in run("evaluate", path, truth, "--defective", skull).out


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
    rows = {words[0]: words[1:] for words in map(str.split, result.out.splitlines()) if words}
    assert rows["a"][0] == "1.000"
    assert rows["b"][0] == "0.833"
    assert rows["mean"][0] == "0.917"
    assert rows["worst"][0] == "0.833"


def test_all_metrics_go_into_a_csv_file(run, engine, folders, tmp_path):
    path = tmp_path / "scores.csv"
    record = json.loads(run("evaluate", *folders, "--csv", path, "--json").out)
    scores = read_scores(path)
    assert list(scores) == ["a", "b"]
    assert list(scores["b"]) == list(METRICS)
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


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_the_worst_dice_is_the_lowest_and_the_mean_lies_between(values):
    rows = summarise({str(number): {"dsc": value} for number, value in enumerate(values)})
    assert rows["worst"]["dsc"] == min(values)
    assert min(values) - 1e-12 <= rows["mean"]["dsc"] <= max(values) + 1e-12


def test_the_worst_volume_error_may_be_negative():
    rows = summarise({"a": {"volume_error_percent": 5.0}, "b": {"volume_error_percent": -20.0}})
    assert rows["worst"]["volume_error_percent"] == -20.0


def test_the_median_of_some_empty_patches():
    cases = {str(number): {"hd95_mm": value} for number, value in enumerate((1.0, math.inf, 3.0, math.inf, 2.0))}
    assert summarise(cases)["median"]["hd95_mm"] == 3.0
    del cases["0"]
    assert summarise(cases)["median"]["hd95_mm"] == math.inf
    assert math.isnan(summarise({**cases, "nan": {"hd95_mm": math.nan}})["median"]["hd95_mm"])


def test_an_infinite_distance_is_not_hidden_in_the_mean():
    rows = summarise({"a": {"hd95_mm": 1.0}, "b": {"hd95_mm": math.inf}})
    assert rows["mean"]["hd95_mm"] == math.inf
    assert math.isnan(rows["sd"]["hd95_mm"])
