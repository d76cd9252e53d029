"""The benchmark of scans: figures of known answers, what is kept and run again, and the table."""

from __future__ import annotations

import math
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from calvaria.benchmarks import scans as module
from calvaria.benchmarks.rows import read_table
from calvaria.benchmarks.scan_heads import MASK, Head, ScanTask
from calvaria.benchmarks.scans import Row, figures_of, row_of, run, solve, table
from calvaria.errors import FormatError, InputError, MissingExtraError
from calvaria.jobs import DIED
from calvaria.reconstruction.confidence import Confidence
from calvaria.skull.partial import Scan
from calvaria.volume.grid import Grid
from calvaria.volume.resample import resample_soft
from calvaria.volume.volume import Volume

FRAME = SimpleNamespace(to_canonical=np.eye(4))


def task(number: int = 0, variant: str = "1mm", kind: str = "bilateral") -> ScanTask:
    return ScanTask(f"train-{number}", f"p{number}", kind, variant, SimpleNamespace())  # type: ignore[arg-type]


def silent(line: str) -> None:
    del line


def shell(radius_mm: float = 66.0) -> np.ndarray:
    """A ball of bone, thick enough for every grid here."""
    radius = np.linalg.norm(grid().centres_mm(), axis=-1)
    return np.asarray((radius > 56) & (radius < radius_mm))


def grid() -> Grid:
    return Grid.isotropic((92, 92, 92), 1.5, (-68.25, -68.25, -68.25))


def hole() -> np.ndarray:
    return np.linalg.norm(grid().centres_mm() - [0, 0, 61.0], axis=-1) < 28


def head() -> Head:
    return Head(
        Volume(shell() & ~hole(), grid()),
        Volume(shell() & hole(), grid()),
        None,  # type: ignore[arg-type]
    )


def result(patch: Volume, defective: Volume, scan: Scan | None = None) -> Any:
    doubt = Confidence(0.9, "", 0.2, 40.0, 0.1)
    report = SimpleNamespace(warnings=("the scan is thick", "look"))
    return SimpleNamespace(
        patch=patch, defective=defective, frame=FRAME, soft=None, scan=scan, confidence=doubt, report=report
    )


def test_the_truth_itself_is_right_in_all_figures():
    known = head()
    figures = figures_of(result(known.patch, known.defective), known)
    assert (figures["dsc"], figures["bdsc"], figures["hd95_mm"], figures["volume_error_percent"]) == (1, 1, 0, 0)
    assert (figures["bone_dice"], figures["bone_volume_percent"], figures["bone_mm"]) == (1, 0, 0)
    assert figures["patch_ml"] == known.patch.volume_ml
    assert figures["expected_dsc"] == 0.9
    assert "surface_dsc" not in figures


def test_an_answer_on_the_scan_s_grid_is_brought_to_the_truth_and_off_its_bone():
    known = head()
    sheared = np.array([[1.0, 0, 0, -72], [0, 1.0, 0, -72], [0, 0.2, 2.0, -76], [0, 0, 0, 1]])
    where = Grid((145, 145, 76), sheared)
    whole = known.patch.with_data(shell() & (np.linalg.norm(grid().centres_mm() - [0, 0, 61.0], axis=-1) < 34))
    patch = Volume(resample_soft(whole, where).data > 0.5, where)  # reaches over the rim into bone
    bone = Volume(resample_soft(known.defective, where).data > 0.5, where)
    figures = figures_of(result(patch, bone), known)
    assert figures["dsc"] > 0.95
    assert abs(figures["volume_error_percent"]) < 5
    assert figures["bone_dice"] > 0.95
    assert abs(figures["bone_volume_percent"]) < 3
    assert figures["bone_mm"] < 0.4


def test_bone_that_is_too_thick_shows_by_how_much():
    known = head()
    thick = known.defective.with_data(shell(68.0) & ~hole())
    figures = figures_of(result(known.patch, thick), known)
    # Its outer surface, 59 % of all, is 2 mm off; its inner one is right.
    assert figures["bone_mm"] == pytest.approx(1.18, abs=0.15)
    assert figures["bone_volume_percent"] == pytest.approx(100 * (68**3 - 66**3) / (66**3 - 56**3), rel=0.15)
    assert figures["bone_dice"] < 0.92


def test_only_the_vault_counts():
    known = head()
    without_base = known.defective.mask & (grid().centres_mm()[..., 2] > module.VAULT_MM - 5)
    figures = figures_of(result(known.patch, known.defective.with_data(without_base)), known)
    assert figures["bone_dice"] == 1


def test_bone_between_voxels_is_taken_from_the_scan():
    known = head()
    coarse = Grid.isotropic((40, 40, 40), 3.5, (-68.25, -68.25, -68.25))
    hu = resample_soft(known.defective, coarse).data * 1000
    scan = Scan(Volume(hu.astype(np.float32), coarse), 500.0)
    bone = Volume(hu > 500, coarse)
    with_scan = figures_of(result(known.patch, bone, scan), known)
    without = figures_of(result(known.patch, bone), known)
    assert with_scan["bone_mm"] < without["bone_mm"]


def test_the_engine_s_surface_is_scored_beside_the_mask(monkeypatch):
    known = head()
    asked = []

    def to_patch(soft: Any, frame: Any, defective: Volume) -> Volume:
        asked.append((soft, frame, defective))
        return known.patch

    monkeypatch.setattr(module, "to_patch", to_patch)
    half = known.patch.mask & (grid().centres_mm()[..., 0] > 0)
    found = result(known.patch.with_data(half), known.defective)
    found.soft = "soft"
    figures = figures_of(found, known)
    assert asked == [("soft", FRAME, known.defective)]
    assert (figures["surface_dsc"], figures["surface_hd95_mm"]) == (1, 0)
    assert figures["dsc"] == pytest.approx(2 / 3, abs=0.02)


def test_pieces_in_other_holes_do_not_count():
    known = head()._replace(apart_mm=5.0)
    other = np.zeros(grid().shape, bool)
    other[30:60, 30:60, 0:4] = True
    figures = figures_of(result(known.patch.with_data(known.patch.mask | other), known.defective), known)
    assert figures["dsc"] == 1


def test_a_row_holds_figures_times_and_warnings(monkeypatch):
    known = head()
    monkeypatch.setattr(module, "head_of", lambda task, keep: known)
    monkeypatch.setattr(module, "solve", lambda task, keep: (result(known.patch, known.defective), 0.5, 7.0))
    row = row_of(task())
    assert (row.case, row.person, row.kind, row.variant) == ("train-0", "p0", "bilateral", "1mm")
    assert (row.dsc, row.read_seconds, row.seconds, row.error) == (1, 0.5, 7.0, "")
    assert math.isnan(row.surface_dsc)
    assert row.warnings == "the scan is thick; look"


def test_whatever_goes_wrong_is_named(monkeypatch):
    def refuse(task: Any, keep: Any) -> None:
        raise InputError("no series\ncan be used")

    monkeypatch.setattr(module, "solve", refuse)
    row = row_of(task())
    assert row.error == "no series can be used"
    assert math.isnan(row.dsc)

    def broken(task: Any, keep: Any) -> None:
        raise ZeroDivisionError("by 0")

    monkeypatch.setattr(module, "solve", broken)
    assert row_of(task()).error == "ZeroDivisionError: by 0"


def test_scans_go_the_way_of_the_command_and_masks_go_straight(monkeypatch, tmp_path):
    import calvaria.pipeline
    import calvaria.results.case

    known, calls = head(), []
    found = result(known.patch, known.defective)
    found.report.seconds = {}

    @contextmanager
    def study_of(task: ScanTask, keep: Path | None) -> Any:
        yield tmp_path / "study"

    def reconstructed(source: Path, settings: Any, *, clock: Any, notes: list[str]) -> Any:
        calls.append((source, settings.kind, settings.series))
        clock.lap("read")
        clock.lap("reconstruct")
        return found, None

    def reconstruct(volume: Volume, kind: str) -> Any:
        calls.append((volume, kind))
        return found

    monkeypatch.setattr(module, "head_of", lambda task, keep: known)
    monkeypatch.setattr(module, "study_of", study_of)
    monkeypatch.setattr(calvaria.results.case, "reconstructed", reconstructed)
    monkeypatch.setattr(calvaria.pipeline, "reconstruct", reconstruct)
    assert solve(task())[0] is found
    assert solve(task(variant=MASK))[:2] == (found, 0.0)
    assert calls == [(tmp_path / "study", "auto", None), (known.defective, "mask")]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scans that were made; scan 2 fails."""
    found: list[str] = []

    def fake(one: ScanTask, keep: Path | None) -> Row:
        found.append(one.case)
        return Row(*one.key[:1], one.person, *one.key[1:], dsc=0.9, error="broken" if one.case == "train-2" else "")

    monkeypatch.setattr(module, "row_of", fake)
    return found


def test_a_run_goes_on_from_its_file_and_tries_again_what_failed(asked, tmp_path):
    path, said = tmp_path / "out" / "scans.csv", []
    tasks = [task(n) for n in range(3)]
    rows = run(tasks, path, tell=said.append)
    assert [row.case for row in rows] == ["train-0", "train-1", "train-2"]
    assert said[2] == "[3 of 3] train-2 bilateral 1mm: FAILED, broken"
    asked.clear()
    again = run([*tasks, task(0, "5mm")], path, tell=said.append)
    assert asked == ["train-2", "train-0"]
    assert "2 of 4 scans are in scans.csv already" in said
    assert repr(again[0]) == repr(rows[0])


def test_a_file_that_is_no_such_table_is_refused(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(FormatError, match=r"other.csv: not a table of scans; name another file"):
        run([task()], path, tell=silent)


def test_without_pydicom_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'calvaria\[dicom\]'"):
        run([task()], tmp_path / "a.csv", tell=silent)
    assert not (tmp_path / "a.csv").exists()


def test_a_scan_whose_process_died_has_a_row():
    row = module._lost(task(4))
    assert (row.case, row.variant, row.error) == ("train-4", "1mm", DIED)


def row(case: str, variant: str, dsc: float, **more: Any) -> Row:
    return Row(case, case, "bilateral", variant, dsc=dsc, bdsc=dsc, hd95_mm=1.0, **more)


def test_the_table_has_mean_sd_and_worst_by_variant_and_the_loss():
    rows = [
        row("a", MASK, 0.94),
        row("b", MASK, 0.90),
        row("a", "5mm", 0.84, surface_dsc=0.88, bone_volume_percent=20.0, bone_mm=1.0, seconds=8.0),
        row("b", "5mm", 0.88, surface_dsc=0.90, bone_volume_percent=-30.0, bone_mm=2.0, seconds=10.0),
        Row("c", "c", "bilateral", "5mm", error="no head found"),
    ]
    lines = table(rows)
    mask, thick = (line.split() for line in lines[2:4])
    assert mask[:6] == [MASK, "2", "0", "0.9200", "0.0283", "0.9000"]
    assert thick[:4] == ["5mm", "3", "1", "0.0600"]
    assert thick[4:10] == ["0.8600", "0.0283", "0.8400", "0.8900", "0.0141", "0.8800"]
    bone = lines[7].split()
    assert bone == ["5mm", "-5.0", "35.4", "-30.0", "1.50", "0.71", "2.00", "9.0", "1.4", "10.0"]
    assert lines[-1] == "FAILED: c bilateral 5mm: no head found"


def test_an_empty_answer_shows_and_figures_that_are_not_there_leave_a_gap():
    lines = table([replace(row("a", "5mm", 0.0), hd95_mm=math.inf)])
    assert "inf nan inf" in lines[2]
    assert lines[-1].split() == ["5mm"]
    assert not [line for line in lines if line.startswith("FAILED")]


def test_rows_come_back_as_they_were(tmp_path):
    fine = Row("a", "p", "bilateral", "5mm", *[float(n) for n in range(18)], "thick, or so", "")
    module.write_table(tmp_path / "rows.csv", Row, [fine])
    assert read_table(tmp_path / "rows.csv", Row, "scans") == [fine]
    assert read_table(tmp_path / "none.csv", Row, "scans") == []
