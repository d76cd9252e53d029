"""The regression behind the expected accuracy."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from calvaria.benchmarks.confidence import check, fit_regression, main, stored
from calvaria.benchmarks.table import Row, write_rows
from calvaria.errors import InputError
from calvaria.models import Calibration, find


def rows(count: int = 40, persons: int = 8) -> list[Row]:
    """DSC = 1 - 0.4 mm - 0.01 ln cm2 - 0.1 frontal share, exactly."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        misfit, area = float(rng.uniform(0.1, 0.5)), float(rng.uniform(10, 90))
        frontal = float(rng.uniform(0, 1))
        dsc = 1 - 0.4 * misfit - 0.01 * float(np.log(area)) - 0.1 * frontal
        doubt = {"misfit_mm": misfit, "area_cm2": area, "frontal_share": frontal}
        made.append(Row(f"c{number}", f"p{number % persons}", "k", "m", dsc=dsc, **doubt))
    return made


def test_an_exact_relation_is_found():
    found = fit_regression(rows())
    fitted = found.calibration
    coefficients = fitted.intercept, fitted.per_misfit_mm, fitted.per_log_area, fitted.per_frontal
    assert coefficients == pytest.approx((1, -0.4, -0.01, -0.1), abs=1e-9)
    assert fitted.spread_dsc < 1e-9
    assert found.correlation == pytest.approx(1)
    assert fitted.largest_cm2 == max(row.area_cm2 for row in rows())


def test_the_error_is_that_of_persons_left_out():
    # The last person's cases lie 0.2 off: fitted on, they would pull the line; left out, they are missed by about 0.2.
    made = [Row(**(vars(r) | {"dsc": r.dsc - 0.2})) if r.person == "p7" else r for r in rows()]
    found = fit_regression(made)
    assert found.calibration.spread_dsc > 0.2 / np.sqrt(8)


def test_failed_rows_and_rows_without_a_hole_do_not_count():
    bad = [Row("x", "q", "k", "m", error="broken"), Row("y", "q", "k", "m", dsc=0.0, misfit_mm=0.0, area_cm2=0.0)]
    assert fit_regression(rows() + bad) == fit_regression(rows())


@pytest.mark.parametrize(("count", "persons"), [(5, 5), (40, 1)])
def test_too_little_is_said(count, persons):
    with pytest.raises(InputError, match="too few for a regression"):
        fit_regression(rows(count, persons))


def test_a_calibration_in_use_is_checked():
    used = Calibration(1.0, -0.1, -0.01, -0.1, 0.03, 0.35, 72.5)

    def exact(off: float) -> list[Row]:
        doubt = {"misfit_mm": 0.2, "area_cm2": 40.0, "frontal_share": 0.1}
        return [Row("c", "p", "k", "m", dsc=used.expected_dsc(0.2, 40.0, 0.1) + off, **doubt)]

    assert check(exact(0.0) + exact(0.0), used) == pytest.approx((2, 0, 0, 1), abs=1e-9)
    assert check(exact(-0.2) + exact(0.0), used) == pytest.approx((2, -0.1, 0.2 / 2**0.5, 0.5), abs=1e-9)
    assert check([Row("c", "p", "k", "m", dsc=0.5, misfit_mm=9.0, area_cm2=40.0, frontal_share=0.0)], used)[0] == 0


def test_cases_of_which_nothing_was_expected_do_not_count(tmp_path, capsys):
    known = [replace(row, misfit_mm=0.2, area_cm2=40.0) for row in rows()]  # within what was tested
    write_rows(tmp_path / "v.csv", [*(replace(row, expected_dsc=0.9) for row in known[:7]), *known[7:]])
    main([str(tmp_path / "v.csv")])
    assert f"as it is in use, on 7 of {len(rows())} cases" in capsys.readouterr().out


def test_the_command_prints_what_is_stored_with_the_model(tmp_path, capsys):
    write_rows(tmp_path / "v.csv", rows())
    main([str(tmp_path / "v.csv")])
    out = capsys.readouterr().out
    assert "expected DSC = 1.000 -0.400 x mm -0.0100 x ln cm2 -0.100 x frontal share" in out
    (line,) = [line for line in out.splitlines() if line.startswith("to be stored")]
    entry = json.loads("{" + line.partition("index.json: ")[2] + "}")["calibration"]
    read = Calibration.from_entry(entry)
    assert (read.intercept, read.per_misfit_mm, read.per_log_area, read.per_frontal) == (1.0, -0.4, -0.01, -0.1)
    assert read.origin == "v.csv, made with shape-prior"
    assert f"within twice +-{find('shape-prior').calibration.spread_dsc}" in out


def test_what_is_stored_is_rounded_and_comes_back():
    entry = json.loads("{" + stored(Calibration(1.02345678, -0.1, 0.0, 0.0, 0.03, 0.35, 72.5, "a, b")) + "}")
    assert Calibration.from_entry(entry["calibration"]) == Calibration(1.0235, -0.1, 0.0, 0.0, 0.03, 0.35, 72.5, "a, b")


def test_a_model_without_a_calibration_in_use_is_said(tmp_path, capsys):
    write_rows(tmp_path / "v.csv", rows())
    main([str(tmp_path / "v.csv"), "--model", "symmetry-vit"])
    assert "symmetry-vit has no calibration in use" in capsys.readouterr().out
