"""The regressions behind the expected accuracy."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from calvaria.benchmarks.confidence import check, fit, main, read_cases, stored
from calvaria.benchmarks.rows import write_table
from calvaria.benchmarks.scans import Row as ScanRow
from calvaria.benchmarks.table import Row, write_rows
from calvaria.errors import FormatError, InputError
from calvaria.models import Calibration, find
from calvaria.models.calibration import FEATURES, MEASURES, Cues, Regression

LOG_DSC = (-2.0, 0.5, 0.2, 1.0, 0.1)
"""ln(1 - DSC) = -2 + ln misfit / 2 + ln area / 5 + frontal share + ln voxel / 10, exactly."""


CUES = Cues(0.3, 40.0, 0.2, 0.6)


def cues(rng: np.random.Generator) -> Cues:
    return Cues(*(float(rng.uniform(*ends)) for ends in ((0.1, 0.5), (10, 90), (0, 1), (0.4, 5))))


def rows(count: int = 40, persons: int = 8, noise: float = 0.0) -> list[Row]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        told = cues(rng)
        loss = math.exp(np.dot(LOG_DSC, told.features) + noise * rng.standard_normal())
        truth = {"dsc": 1 - loss, "bdsc": 1 - loss / 2, "hd95_mm": 10 * loss, "outer_mm": 3 * loss}
        made.append(Row(f"c{number}", f"p{number % persons}", "k", "m", **truth, **vars(told)))
    return made


def cases(tmp_path, made: list[Row]):
    write_rows(tmp_path / "v.csv", made)
    return read_cases([tmp_path / "v.csv"])


def test_an_exact_relation_is_found(tmp_path):
    found = fit(cases(tmp_path, rows())).calibration
    assert found.measures["dsc"].weights == pytest.approx(LOG_DSC, abs=1e-4)
    # The others differ by a factor: by a constant of the logarithm.
    for name, factor in (("bdsc", 0.5), ("hd95_mm", 10.0), ("outer_mm", 3.0)):
        assert found.measures[name].weights[0] == pytest.approx(LOG_DSC[0] + math.log(factor), abs=1e-4)
        assert found.measures[name].weights[1:] == pytest.approx(LOG_DSC[1:], abs=1e-4)
        assert (found.measures[name].low, found.measures[name].high) == pytest.approx((0, 0), abs=1e-4)
    made = rows()
    limits = found.worst_misfit_mm, found.largest_cm2, found.thickest_mm
    each = (max(getattr(row, name) for row in made) for name in ("misfit_mm", "area_cm2", "voxel_mm"))
    assert limits == pytest.approx(tuple(each), rel=1e-5)


def test_limits_hold_nine_tenths_of_cases_that_were_not_fitted(tmp_path):
    many = cases(tmp_path, rows(3000, 60, noise=0.3))
    found = fit(many[:1000]).calibration
    one = found.measures["dsc"]
    assert (one.low, one.high) == pytest.approx((1.645 * 0.3, 1.645 * 0.3), rel=0.12)
    inside = [
        one.expected("dsc", case.cues).low <= case.truth[0] <= one.expected("dsc", case.cues).high
        for case in many[1000:]
    ]
    assert np.mean(inside) == pytest.approx(0.9, abs=0.02)


def test_one_case_that_went_wrong_does_not_pull_the_others(tmp_path):
    made = rows(60, noise=0.05)
    wrong = [replace(made[0], dsc=0.05, bdsc=0.05, hd95_mm=50.0, outer_mm=20.0), *made[1:]]
    pulled = fit(cases(tmp_path, wrong)).calibration.measures["dsc"]
    right = fit(cases(tmp_path, made)).calibration.measures["dsc"]
    assert pulled.log_loss(CUES) == pytest.approx(right.log_loss(CUES), abs=0.05)


def test_the_error_is_that_of_persons_left_out(tmp_path):
    # The last person's cases lie off by a half of the logarithm: fitted on, they would pull the line.
    made = [replace(row, dsc=1 - (1 - row.dsc) * math.exp(0.5)) if row.person == "p7" else row for row in rows()]
    found = fit(cases(tmp_path, made))
    away = [off for off, row in zip(found.off[:, 0], made, strict=True) if row.person == "p7"]
    assert away == pytest.approx([0.5] * len(away), abs=0.01)


def test_failed_rows_rows_without_a_hole_and_empty_patches_do_not_count(tmp_path):
    bad = [
        Row("x", "q", "k", "m", error="broken"),
        Row("y", "q", "k", "m", dsc=0.0, bdsc=0.0, hd95_mm=1.0, outer_mm=1.0, misfit_mm=0.0, area_cm2=0.0),
        replace(rows()[0], case="z", dsc=0.0, hd95_mm=math.inf),
        replace(rows()[0], case="one of two holes", hd95_mm=60.0),
    ]
    assert len(cases(tmp_path, rows() + bad)) == len(rows())


def test_scans_stand_beside_masks(tmp_path):
    write_rows(tmp_path / "masks.csv", rows())
    names = {"case", "person", "kind", *MEASURES, *vars(CUES)}
    some = [
        ScanRow(variant="5mm", **{name: value for name, value in asdict(row).items() if name in names})
        for row in rows(5)
    ]
    write_table(tmp_path / "scans.csv", ScanRow, some)
    both = read_cases([tmp_path / "masks.csv", tmp_path / "scans.csv"])
    assert [case.kind for case in both] == ["k"] * 40 + ["k 5mm"] * 5


@pytest.mark.parametrize(("count", "persons"), [(5, 5), (40, 1)])
def test_too_little_is_said(tmp_path, count, persons):
    with pytest.raises(InputError, match="too few for a regression"):
        fit(cases(tmp_path, rows(count, persons)))


def test_a_table_without_what_is_needed_is_said(tmp_path):
    (tmp_path / "old.csv").write_text("person,kind,dsc\np,k,0.9\n", encoding="utf-8")
    with pytest.raises(FormatError, match=r"old.csv: there is no column misfit_mm; make it again"):
        read_cases([tmp_path / "old.csv"])
    with pytest.raises(InputError, match="no such file"):
        read_cases([tmp_path / "none.csv"])
    columns = ",".join(("person", "kind", *vars(CUES), *MEASURES))
    (tmp_path / "bad.csv").write_text(f"{columns}\np,k,1,2\n", encoding="utf-8")
    with pytest.raises(FormatError, match=r"bad.csv: a line is damaged"):
        read_cases([tmp_path / "bad.csv"])


def used(low: float = 0.2, high: float = 0.2) -> Calibration:
    one = Regression(LOG_DSC, low, high)
    return Calibration(dict.fromkeys(MEASURES, one), 0.5, 90.0, 5.0)


def test_a_calibration_in_use_is_checked(tmp_path):
    made = cases(tmp_path, rows(10))
    right = [replace(one, truth=(one.truth[0],) * 4) for one in made]
    wrong = [replace(one, truth=(1 - (1 - one.truth[0]) * math.exp(0.3),) * 4) for one in made[:5]]
    beyond = [replace(made[0], cues=Cues(9.0, 40.0, 0.0, 0.6))]
    lines = check(right + wrong + beyond, used())
    assert lines[0] == "15 of 16 cases lie within what was tested"
    assert "67% within the limits" in lines[1]
    assert lines[-1].startswith("  k (n = 15): dsc 67%")
    assert check(beyond, used()) == ["0 of 1 cases lie within what was tested"]


def test_the_command_prints_what_is_stored_with_the_model(tmp_path, capsys):
    write_rows(tmp_path / "v.csv", rows())
    assert main([str(tmp_path / "v.csv")]) == 0
    out = capsys.readouterr().out
    assert "dsc: -2.000 +0.500 +0.200 +1.000 +0.100" in out
    (line,) = [line for line in out.splitlines() if line.startswith("to be stored")]
    read = Calibration.from_entry(json.loads("{" + line.partition("index.json: ")[2] + "}")["calibration"])
    assert read.measures["dsc"].weights == LOG_DSC
    assert len(LOG_DSC) == len(FEATURES)
    assert read.origin == "40 cases of 8 persons, v.csv"
    assert read.surface == find("shape-prior").calibration.surface
    assert "the calibration in use, on these rows:" in out


def test_what_is_stored_is_rounded_and_comes_back():
    one = Regression((1.02345678, 0.0, 0.0, 0.0, 0.0), 0.123456, 0.2)
    made = Calibration(dict.fromkeys(MEASURES, one), 0.35, 72.5, 5.0, "a, b")
    entry = json.loads("{" + stored(made) + "}")
    assert Calibration.from_entry(entry["calibration"]).measures["bdsc"] == Regression(
        (1.0235, 0, 0, 0, 0), 0.1235, 0.2
    )


def test_a_model_without_a_calibration_in_use_is_said(tmp_path, capsys):
    write_rows(tmp_path / "v.csv", rows())
    main([str(tmp_path / "v.csv"), "--model", "symmetry-vit"])
    assert "symmetry-vit has no calibration in use" in capsys.readouterr().out


def test_a_fault_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path / "none.csv")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
