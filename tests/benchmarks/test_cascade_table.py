"""The cascade's tables as they are printed."""

from __future__ import annotations

import math

import pytest

from calvaria.benchmarks.cascade import DESIGN, IMPLANT, PARAMETRIC, PATCH, PRIOR, Row
from calvaria.benchmarks.cascade_table import _pairs, table


def row(person=0, what=PATCH, method=PRIOR, dsc=0.9, kind="clinical", **more):
    figures = {"bdsc": dsc, "hd95_mm": 2.0, "msd_mm": 0.6, "outer_mm": 0.5, "border_mm": 0.4, "seconds": 1.5}
    figures |= {"border_curvature_mse_mm4": 2e-7, "cpu_seconds": 1.25, "peak_mb": 900.0}
    return Row(f"c{person}", f"p{person}", kind, what, method, "w", "s", dsc, **{**figures, **more})


def starting(lines, start):
    return [line.split() for line in lines if line.startswith(start)]


def test_the_published_figures_stand_beside_clinical_cases_alone():
    lines = table([row(), row(kind="official"), row(what=IMPLANT, method="multi-branch")])
    patches = {tuple(line[2:]) for line in starting(lines, "Kodym 2021: ")}
    assert patches == {
        ("patch", "75", "0.98", "0.45", "0.96"),
        ("rescaled", "75", "0.83", "0.38", "0.94"),
        ("multi-branch", "75", "0.67", "0.37", "0.75"),
        ("implant", "75", "0.85", "0.10", "0.77", "0.44"),
        ("multi-branch", "75", "0.88", "0.07", "0.65", "0.33"),
    }
    assert len(starting(lines, "Kodym 2021: ")) == 5
    headings = [line for line in lines if line.endswith(" persons")]
    assert headings == [
        "patches, clinical: 1 persons",
        "patches, official: 1 persons",
        "implants as they were learned: 1 persons",
    ]
    # In the columns of ours: outer and border.
    heading = next(line for line in lines if line.startswith("method"))
    assert next(line for line in lines if "rescaled" in line).index("0.83") == heading.index("outer mm")


def test_patches_are_told_by_kodyms_measures_and_empty_ones_counted():
    rows = [
        row(0),
        row(1, dsc=0.7, outer_mm=0.7),
        row(2, dsc=0.0, hd95_mm=math.inf, outer_mm=math.inf, border_mm=math.nan),
    ]
    (line,) = starting(table(rows), PRIOR)
    figures = "3 0.533 0.473 0.000 0.533 0.473 2.00 0.00 0.600 0.141 0.400 0.000 2.00e-07 1 1.50 1.25 900"
    assert line == [PRIOR, *figures.split()]


def test_designs_say_how_many_failed_which_check():
    rows = [
        row(0, DESIGN, PARAMETRIC, checks=24.0),
        row(0, DESIGN, "multi-branch", checks=24.0, failed="thinnest wall; watertight"),
        row(1, DESIGN, "multi-branch", checks=24.0, failed="thinnest wall"),
        row(2, DESIGN, "multi-branch", error="finds no hole"),
    ]
    lines = table(rows)
    (parametric,), (learned,) = starting(lines, PARAMETRIC), starting(lines, "multi-branch")
    assert parametric[-5:] == ["24", "0", "1.50", "1.25", "900"]
    assert learned[-5:] == ["24", "2", "1.50", "1.25", "900"]
    assert "  failed checks, multi-branch: thinnest wall 2, watertight 1" in lines
    assert lines[-1] == "FAILED: c2 clinical multi-branch, designed: finds no hole"


def test_each_model_is_tested_against_those_before_it_and_the_prior_by_three_tests():
    rows = []
    for person in range(6):
        for method, gain in (("multi-branch", 0.2), ("patch", 0.0), (PRIOR, 0.1)):
            noise = 0.01 * person
            rows.append(row(person, method=method, dsc=0.7 + gain, outer_mm=0.8 - gain - noise * (1 + gain)))
    lines = table(rows)
    pairs = [line[:3] for line in starting(lines, ("multi-branch against", "patch against"))]
    assert pairs == [
        *[["multi-branch", "against", "patch"]] * 4,
        *[["multi-branch", "against", PRIOR]] * 4,
        *[["patch", "against", PRIOR]] * 4,
    ]
    outer = next(line for line in lines if line.startswith("multi-branch against patch") and "outer mm" in line).split()
    assert outer[5:7] == ["6", "+0.2050"]
    t, sign, rank = map(float, outer[-3:])
    assert t < 0.001
    assert (sign, rank) == pytest.approx((1 / 64, 1 / 64), abs=1e-4)
    dsc = next(line for line in lines if line.startswith("patch against shape-prior") and " DSC " in line).split()
    assert dsc[4:6] == ["6", "-0.1000"]
    assert float(dsc[-1]) > 0.9


def test_too_few_persons_are_not_tested():
    rows = [row(n, method=method) for n in range(2) for method in (PRIOR, "patch")]
    assert not [line for line in table(rows) if " against " in line]


def test_additions_are_tested_against_the_bare_model():
    assert _pairs(["shape-prior", "bare", "with-soft"]) == [
        ("shape-prior", "with-soft"),
        ("bare", "with-soft"),
    ]
