"""The benchmark of implants: its own oracles on a spherical implant, good and spoiled, what is kept, and the table."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.implant.caps import fine_ball, fine_cap, the_cap, with_body

from calvaria.benchmarks import implants as module
from calvaria.benchmarks.implants import Row, common_ml, figures_of, insertable, row_of, run, table
from calvaria.benchmarks.rows import read_table
from calvaria.errors import FormatError, InputError, MissingExtraError
from calvaria.implant.checks import check
from calvaria.implant.parts import Design
from calvaria.implant.settings import ImplantSettings
from calvaria.jobs import DIED

SETTINGS = ImplantSettings()
DIGEST = module.settings_digest(SETTINGS)


def task(number: int = 0, kind: str = "bilateral") -> Any:
    return SimpleNamespace(case=SimpleNamespace(id=f"train-{number}", person=f"p{number}"), kind=kind)


def silent(line: str) -> None:
    del line


@lru_cache(maxsize=1)
def good() -> Design:
    return check(fine_cap())


def test_a_good_implant_has_nothing_in_common_with_bone_and_goes_in():
    assert common_ml(the_cap(), fine_ball()) == 0
    assert insertable(the_cap(), fine_ball(), 30.0)


def test_an_implant_moved_into_bone_is_found_by_both_oracles():
    part = with_body(the_cap(), the_cap().body.vertices_mm + np.array([0.0, 2.0, 0.0]))
    # About its side's area, seen along the way, times 1.3 mm: 74 mm x 4 mm.
    assert common_ml(part, fine_ball()) == pytest.approx(0.3, abs=0.15)
    assert not insertable(part, fine_ball(), 30.0)


def test_slabs_make_no_difference(monkeypatch):
    part = with_body(the_cap(), the_cap().body.vertices_mm + np.array([0.0, 2.0, 0.0]))
    whole = common_ml(part, fine_ball())
    monkeypatch.setattr(module, "SLAB_VOXELS", 1_000_000)
    assert common_ml(part, fine_ball()) == whole


def test_the_wrong_way_in_is_found_by_the_meshes():
    assert not insertable(replace(the_cap(), direction=np.array([1.0, 0.0, 0.0])), fine_ball(), 30.0)


def test_a_row_holds_the_checks_and_the_oracles(monkeypatch):
    monkeypatch.setattr(module, "build", lambda task: (fine_ball(), fine_ball()))
    asked = []

    def designer(defective: Any, settings: ImplantSettings) -> tuple[Design, float]:
        asked.append((defective, settings))
        return good(), 2.5

    row = row_of(task(), SETTINGS, designer)
    assert asked == [(fine_ball(), SETTINGS)]
    assert not row.error
    assert (row.case, row.person, row.kind, row.settings) == ("train-0", "p0", "bilateral", DIGEST)
    assert (row.parts, row.watertight, row.insertable, row.overlap_025_ml) == (1.0, True, True, 0.0)
    assert row.area_cm2 == pytest.approx(45.4, rel=0.01)
    assert row.clearance_share_within_02 > 95
    assert row.thickness_share_within_02 > 99
    assert 0.4 < row.clearance_min < row.clearance_mean < 0.75
    assert row.rim_step_p95_mm < 0.1
    assert row.failed == ""
    assert row.seconds == 2.5
    assert row.peak_mb > 10


def test_failed_checks_are_named_and_the_worst_of_two_implants_counts():
    part = the_cap()
    into_bone = replace(with_body(part, part.body.vertices_mm + np.array([0.0, 2.0, 0.0])), name="implant-2")
    two = check(replace(fine_cap(), parts=(part, into_bone)))
    row = figures_of(two)
    assert row["parts"] == 2
    assert row["overlap_025_ml"] > 0.1
    assert not row["insertable"]
    assert "overlap with bone" in row["failed"].split("; ")
    assert row["clearance_min"] < 0
    assert row["area_cm2"] == pytest.approx(2 * figures_of(good())["area_cm2"], rel=0.01)


def test_whatever_goes_wrong_is_named(monkeypatch):
    def refuse(task: Any) -> None:
        raise InputError("train-0: there is no complete skull")

    monkeypatch.setattr(module, "build", refuse)
    assert row_of(task(), SETTINGS).error == "train-0: there is no complete skull"
    monkeypatch.setattr(module, "build", lambda task: (fine_ball(), fine_ball()))

    def broken(defective: Any, settings: Any) -> tuple[Design, float]:
        raise ZeroDivisionError("no\nwall")

    row = row_of(task(), SETTINGS, broken)
    assert row.error == "ZeroDivisionError: no wall"
    assert math.isnan(row.seconds)


def test_the_program_itself_designs(monkeypatch):
    calls: list[Any] = []

    def reconstruct(defective: Any, kind: str) -> Any:
        calls.append((defective, kind))
        return SimpleNamespace(patch=fine_ball())

    def design(result: Any, settings: ImplantSettings) -> Design:
        calls.append(settings)
        return fine_cap()

    monkeypatch.setattr(
        module, "import_module", lambda name: SimpleNamespace(reconstruct=reconstruct, design=design, name=name)
    )
    found, seconds = module.design_of(fine_ball(), SETTINGS)
    assert calls == [(fine_ball(), "mask"), SETTINGS]
    assert found.checks  # an unchecked design is checked
    assert seconds > 0
    nothing = fine_ball().with_data(np.zeros(fine_ball().shape, bool))
    monkeypatch.setattr(
        module,
        "import_module",
        lambda name: SimpleNamespace(reconstruct=lambda defective, kind: SimpleNamespace(patch=nothing), name=name),
    )
    with pytest.raises(InputError, match="no hole was found, so there is no implant to design"):
        module.design_of(fine_ball(), SETTINGS)


def test_without_fcl_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "fcl", None)
    with pytest.raises(MissingExtraError, match="python-fcl, which is not installed: pip install python-fcl"):
        run([task()], SETTINGS, tmp_path / "a.csv", tell=silent)
    assert not (tmp_path / "a.csv").exists()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The holes whose implants were designed; hole 2 fails."""
    found: list[str] = []

    def fake(one: Any, settings: ImplantSettings) -> Row:
        found.append(one.case.id)
        error = "broken" if one.case.id == "train-2" else ""
        return Row(one.case.id, one.case.person, one.kind, module.settings_digest(settings), parts=1.0, error=error)

    monkeypatch.setattr(module, "row_of", fake)
    return found


def test_a_run_goes_on_from_its_file_and_tries_again_what_failed(asked, tmp_path):
    path, said = tmp_path / "out" / "implants.csv", []
    tasks = [task(n) for n in range(3)]
    rows = run(tasks, SETTINGS, path, tell=said.append)
    assert [row.case for row in rows] == ["train-0", "train-1", "train-2"]
    assert said[2] == "[3 of 3] train-2 bilateral: FAILED, broken"
    asked.clear()
    again = run([*tasks, task(3)], SETTINGS, path, tell=said.append)
    assert asked == ["train-2", "train-3"]
    assert "2 of 4 holes are in implants.csv already" in said
    assert repr(again[0]) == repr(rows[0])
    asked.clear()
    run(tasks[:1], ImplantSettings(thickness_mm=5.0), path, tell=silent)
    assert asked == ["train-0"]
    # The failed row, being run again each time, is not kept by another run.
    assert len(read_table(path, Row, "implants")) == 5 - 1


def test_a_file_that_is_no_such_table_is_refused(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(FormatError, match=r"other.csv: not a table of implants; name another file"):
        run([task()], SETTINGS, path, tell=silent)


def test_a_hole_whose_process_died_has_a_row():
    row = module._lost(module._Todo(task(4), SETTINGS))
    assert (row.case, row.settings, row.error) == ("train-4", DIGEST, DIED)


FINE = Row("train-0", "p0", "bilateral", DIGEST, 50.0, 1.0, True, 0.0, 98.0, 0.5, 0.7, 99.0, True, 0.2, "", 6.0, 900.0)


def test_the_table_counts_by_kind_and_shows_the_worst():
    rows = [
        FINE,
        replace(FINE, case="train-1", clearance_share_within_02=80.0, insertable=False, overlap_025_ml=0.2),
        replace(FINE, kind="hemicraniectomy", failed="thinnest wall", rim_step_p95_mm=0.6, seconds=9.0),
        Row("train-1", "p1", "hemicraniectomy", DIGEST, error="no hole"),
    ]
    lines = table(rows)
    by_name = {line.split()[0]: line.split()[1:] for line in lines[2:5]}
    assert by_name["bilateral"] == ["2", "0", "100", "50", "50", "100", "50", "100", "100"]
    assert by_name["hemicraniectomy"] == ["2", "1", "50", "50", "50", "50", "50", "0", "0"]
    assert by_name["all"] == ["4", "1", "75", "50", "50", "75", "50", "50", "50"]
    figures = {line.split()[0]: line.split()[1:] for line in lines[8:11]}
    assert figures["bilateral"][:4] == ["0.1000", "0.2000", "89.0", "80.0"]
    assert figures["all"][-4:] == ["7.0", "9.0", "900", "900"]
    assert lines[-2:] == ["FAILED: train-0 hemicraniectomy: thinnest wall", "FAILED: train-1 hemicraniectomy: no hole"]
    assert not [line for line in table([FINE]) if line.startswith(("all", "FAILED"))]


def test_a_table_of_nothing_but_errors_has_no_figures():
    lines = table([Row("train-1", "p1", "bilateral", DIGEST, error="no hole")])
    assert lines[2].split() == ["bilateral", "1", "1", *["0"] * 7]
    assert lines[6].split() == ["bilateral"]


def test_rows_come_back_as_they_were(tmp_path):
    path = Path(tmp_path / "rows.csv")
    module.write_table(path, Row, [FINE])
    assert read_table(path, Row, "implants") == [FINE]
