"""A whole clinical table: what is taken and refused, what is left in the folder, resuming, reading it again."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.clinical.head import known_frame, write_files
from tests.heads import dice

from calvaria.clinical import case as clinical_case
from calvaria.clinical import importing as clinical_import
from calvaria.clinical.importing import ImportReport, import_clinical
from calvaria.clinical.loader import read_clinical
from calvaria.clinical.simulate_set import SimulationSettings, simulate_clinical
from calvaria.datasets.catalog import SkullCase, autoimplant2020
from calvaria.errors import FormatError, InputError
from calvaria.io import read_mask, write_volume
from calvaria.jobs import DIED
from calvaria.skull.proportions import read_population
from calvaria.volume import Grid, Volume, resample_mask

LOADED: dict[object, clinical_case.ClinicalCase] = {}
"""Cases by what they are made from: the same is not worked out for every test."""


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Frames are known, and the ids of cases are noted as they are loaded."""
    monkeypatch.setattr(clinical_case, "locate", known_frame)
    loaded: list[str] = []
    load = clinical_case.load_case

    def noted(row, settings):
        loaded.append(row.id)
        files = [path.read_bytes() for path in (row.skull, row.implant, row.patch) if path is not None]
        key = (settings, row.kind, row.convention, *(hash(content) for content in files))
        if key not in LOADED:
            LOADED[key] = load(row, settings)
        return LOADED[key]

    monkeypatch.setattr(clinical_case, "load_case", noted)
    return loaded


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two good cases of one person, and two bad ones between them."""
    write_files(tmp_path / "set" / "a", "ras")
    (tmp_path / "set" / "broken.stl").write_bytes(b"solid nothing")
    lines = [
        "id,skull,implant,patch,person,notes",
        "p1,a/skull.nrrd,a/implant.stl,a/patch.ply,Q,Erika Mustermann",
        "p2,a/skull.nrrd,broken.stl,,,",
        ",a/skull.nrrd,a/implant.stl,,,",
        "p3,a/skull.nrrd,a/implant.stl,,Q,",
    ]
    path = tmp_path / "set" / "cases.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def run(table: Path, tmp_path: Path) -> Callable[[], ImportReport]:
    return lambda: import_clinical(table, tmp_path / "out", spacing_mm=2.0)


def test_good_cases_are_taken_and_bad_ones_named(known, run, tmp_path):
    told = []
    report = import_clinical(
        tmp_path / "set" / "cases.csv", tmp_path / "out", spacing_mm=2.0, progress=lambda *step: told.append(step)
    )
    out = tmp_path / "out"
    assert report.done == ("p1", "p3")
    assert [(one.name, one.line) for one in report.refused] == [("p2", 3), ("line 4", 4)]
    assert "broken.stl: " in report.refused[0].reason
    assert [text.partition(",")[0] for text, _ in told] == [f"{done} of 3 cases" for done in range(4)]
    assert all(text.endswith(" left") for text, _ in told[1:-1])
    assert sorted(path.name for path in out.iterdir()) == [
        "cases",
        "index.csv",
        "population.json",
        "refused.csv",
        "report.json",
    ]
    assert sorted(path.name for path in (out / "cases").iterdir()) == ["p1", "p3"]
    with (out / "refused.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["line"]) for row in rows] == [("p2", "3"), ("", "4")]
    record = json.loads((out / "report.json").read_text())
    assert (record["usable"], record["refused"]) == (2, 2)
    assert read_population(out / "population.json").count == 2


@pytest.mark.usefixtures("known", "dying_workers")
def test_cases_whose_process_died_are_refused_with_the_reason(table, tmp_path):
    report = import_clinical(table, tmp_path / "out", spacing_mm=2.0, jobs=2)
    assert report.done == ()
    assert {one.reason for one in report.refused if one.id} == {DIED}


def test_cases_are_read_as_others_are(known, run, tmp_path):
    run()
    first, second = read_clinical(tmp_path / "out")
    home = tmp_path / "out" / "cases" / "p1"
    assert first == SkullCase(
        "p1", "Q", None, home / "patch.nrrd", home / "defective.nrrd", "clinical", home / "implant.nrrd"
    )
    assert (second.id, second.person, second.patch) == ("p3", "Q", None)
    masks = [read_mask(path) for path in (first.defective, first.patch, first.implant)]
    assert all(mask.grid.same_as(clinical_case.aligned_grid(2.0)) for mask in masks)
    assert not (masks[0].mask & masks[1].mask).any()


def test_a_record_says_how_but_not_who(known, run, tmp_path):
    run()
    text = (tmp_path / "out" / "cases" / "p1" / "case.json").read_text()
    assert "Mustermann" not in text
    assert "skull.nrrd" not in text
    record = json.loads(text)
    assert record["implant"]["convention"] == "ras"
    assert len(record["input"]["sha256"]["skull"]) == 64
    assert set(record["files"]) == {"defective.nrrd", "patch.nrrd", "implant.nrrd"}


def test_a_case_that_is_there_is_not_made_again(known, run, tmp_path):
    run()
    assert run().kept == 2
    assert known == ["p1", "p2", "p3", "p2"]  # a refused one is tried again
    (tmp_path / "out" / "cases" / "p1" / "implant.nrrd").write_bytes(b"damaged")
    assert run().kept == 1
    assert import_clinical(tmp_path / "set" / "cases.csv", tmp_path / "out", spacing_mm=2.5).kept == 0


def test_a_case_whose_files_went_bad_is_gone(known, run, tmp_path):
    run()
    (tmp_path / "set" / "a" / "patch.ply").write_bytes(b"ply")
    report = run()
    assert report.done == ("p3",)
    assert [path.name for path in (tmp_path / "out" / "cases").iterdir()] == ["p3"]
    assert [case.id for case in read_clinical(tmp_path / "out")] == ["p3"]


def test_an_interrupted_run_leaves_whole_cases_and_goes_on(known, run, tmp_path, monkeypatch):
    load = clinical_case.load_case

    def stop(row, settings):
        if row.id == "p3":
            raise KeyboardInterrupt
        return load(row, settings)

    with monkeypatch.context() as patched:
        patched.setattr(clinical_case, "load_case", stop)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert [path.name for path in (tmp_path / "out" / "cases").iterdir()] == ["p1"]
    assert not (tmp_path / "out" / "index.csv").exists()
    assert run().kept == 1


def test_half_a_case_is_never_left(known, run, tmp_path, monkeypatch):
    def full(path, volume):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(clinical_import, "write_volume", full)
    report = run()
    assert report.done == ()
    assert "No space left on device" in report.refused[0].reason
    assert list((tmp_path / "out" / "cases").iterdir()) == []
    assert report.population is None
    assert read_clinical(tmp_path / "out") == []


def test_too_little_memory_refuses_a_case_and_not_the_rest(known, run, monkeypatch):
    def greedy(row, settings):
        raise MemoryError

    monkeypatch.setattr(clinical_case, "load_case", greedy)
    assert {one.reason for one in run().refused if one.id} == {"out of memory: crop the volume, or use fewer jobs"}


def test_cases_may_be_made_side_by_side(table, tmp_path):
    text = table.read_text().replace("a/implant.stl", "broken.stl")
    table.write_text(text)  # so that both processes are done at once
    report = import_clinical(table, tmp_path / "out", jobs=2)
    assert report.done == ()
    assert [one.line for one in report.refused] == [2, 3, 4, 5]


def test_the_folder_must_be_one(table, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="this folder cannot be made"):
        import_clinical(table, tmp_path / "file" / "out")
    with pytest.raises(InputError, match=r"spacing is from 0\.3 to 3 mm"):
        import_clinical(table, tmp_path / "out", spacing_mm=9)


def test_a_folder_that_is_no_import_is_refused(known, run, tmp_path):
    with pytest.raises(InputError, match=r"no index.csv in it; calvaria data import-clinical"):
        read_clinical(tmp_path)
    run()
    (tmp_path / "out" / "cases" / "p1" / "patch.nrrd").unlink()
    with pytest.raises(InputError, match=r"p1: patch.nrrd is gone from"):
        read_clinical(tmp_path / "out")
    (tmp_path / "out" / "index.csv").write_text("id,person\np1,Q\n")
    with pytest.raises(FormatError, match="its columns are not those"):
        read_clinical(tmp_path / "out")


def test_a_real_skull_goes_round(real_data, tmp_path, monkeypatch):
    """Simulated from a thinned real skull and imported again: the convention is found, the masks come back."""
    monkeypatch.setattr("calvaria.implant.body.STEP_MM", 1.0)
    case = next(case for case in autoimplant2020(real_data / "autoimplant2020") if case.id == "train-005")
    whole = read_mask(case.complete)
    data = whole.mask[::3, ::3, ::2]
    thin = Volume(data, Grid(data.shape, whole.affine @ np.diag([3.0, 3.0, 2.0, 1.0])))
    write_volume(tmp_path / "complete.nrrd", thin)
    settings = SimulationSettings(2, 1, ("parietotemporal",), ct_share=0, mask_share=0, patch_share=0)
    simulate_clinical([replace(case, complete=tmp_path / "complete.nrrd")], tmp_path / "sim", settings)
    lines = (tmp_path / "sim" / "cases.csv").read_text().splitlines()
    (tmp_path / "sim" / "one.csv").write_text("\n".join([lines[0], lines[2]]))  # the one in RAS
    report = import_clinical(tmp_path / "sim" / "one.csv", tmp_path / "out", spacing_mm=1.0)
    assert report.done == ("sim-001",)
    record = json.loads((tmp_path / "out" / "cases" / "sim-001" / "case.json").read_text())
    assert record["implant"]["convention"] == "ras"
    found = read_mask(tmp_path / "out" / "cases" / "sim-001" / "implant.nrrd")
    truth = read_mask(tmp_path / "sim" / "sim-001" / "truth" / "implant.nrrd")
    world = found.grid.moved(np.array(record["pose"]["canonical_to_world"]))
    assert dice(found, Volume(resample_mask(truth, world).mask, found.grid)) > 0.9
