"""Table 3 as it is printed."""

from __future__ import annotations

import math
import re

import pytest

from calvaria.benchmarks.networks import PRIOR
from calvaria.benchmarks.networks import PUBLISHED as TABLE2
from calvaria.benchmarks.refining import AS_IT_IS, REFINED, REG_SN, Row
from calvaria.benchmarks.refining_table import NAMES, PUBLISHED, table3

AS_PRINTED = {
    "baseline": ("0.843", "0.743", "2.438", "0.787", "0.892", "0.881", "1.882", "0.554", "4.71"),
    "Seg-SN": ("0.904", "0.902", "1.678", "0.539", "0.927", "0.923", "1.437", "0.389", "4.69"),
    "Reg-SN": ("0.931", "0.926", "1.379", "0.381", "0.941", "0.945", "1.342", "0.338", "14.31"),
    "Seg-SN + Reg-SN": ("0.936", "0.932", "1.312", "0.372", "0.945", "0.951", "1.278", "0.334", "14.34"),
}
"""The paper's table, letter by letter: SkullBreak, SkullFix, seconds."""


def row(
    person: int, start: str = PRIOR, way: str = AS_IT_IS, dsc: float = 0.9, kind: str = "official", **more: object
) -> Row:
    figures = {"bdsc": dsc, "sdsc_1mm": dsc, "hd95_mm": 2.0, "msd_mm": 0.5, "border_mm": 0.4, "seconds": 1.25}
    figures |= {"cpu_seconds": 1.5, "peak_mb": 900.0}
    return Row(f"train-{person}", f"p{person}", kind, start, "w", way, "m", dsc, **{**figures, **more})  # type: ignore[arg-type]


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line.strip())


def starting(lines: list[str], start: str) -> list[str]:
    return [line for line in lines if line.startswith(start)]


def test_the_published_rows_of_each_set_stand_beside_our_holes():
    lines = table3([row(0), row(0, kind="random_1"), row(0, kind="hemicraniectomy")])
    for mark, columns in (("SkullBreak", slice(0, 4)), ("SkullFix", slice(4, 8))):
        shown = {cells(line)[0]: tuple(cells(line)[1:]) for line in starting(lines, f"{mark}: ")}
        assert shown == {f"{mark}: {name}": (*given[columns], given[8]) for name, given in AS_PRINTED.items()}
    order = [line for line in lines if line.endswith(" persons") or line.startswith(("Skull", PRIOR))]
    marks = [line.split(":")[0].split()[0] for line in order]
    assert marks == ["official", *["SkullFix"] * 4, PRIOR, "five", *["SkullBreak"] * 4, PRIOR, "hemicraniectomy", PRIOR]


def test_the_first_two_published_rows_are_those_of_table_2():
    for symmetric, start in ((False, "runet"), (True, "runet-sym")):
        assert TABLE2["runet", symmetric] == PUBLISHED[start, AS_IT_IS][:2]
    assert PUBLISHED.keys() == NAMES.keys()


def test_means_spread_worst_and_costs_are_printed_and_empty_patches_counted():
    rows = [
        row(0, "runet", REG_SN, 0.8, hd95_mm=1.0),
        row(1, "runet", REG_SN, 0.6, hd95_mm=2.0, declined=True, peak_mb=1000.4),
        row(2, "runet", REG_SN, 0.1, hd95_mm=math.inf, msd_mm=math.inf, border_mm=math.nan),
    ]
    (line,) = starting(table3(rows), "runet + Reg-SN")
    figures = "0.500 0.361 0.100 0.500 0.361 0.500 0.361 1.50 0.71 0.50 0.00 0.400 1 1 1.25 1.50 1000"
    assert line.split() == ["runet", "+", "Reg-SN", "3", *figures.split()]


def test_what_a_bad_start_cost_is_left_blank():
    rows = [row(0, "start: flat", seconds=math.nan, cpu_seconds=math.nan, peak_mb=math.nan)]
    lines = table3(rows)
    (line,) = starting(lines, "start: flat")
    assert "nan" not in "\n".join(lines)
    assert cells(line)[-2:] == ["0.400", "0"]


def test_gains_are_tested_over_persons_not_cases():
    rows = []
    for person, gain in enumerate([0.02, 0.05, 0.03, 0.04]):
        for kind in ("random_1", "random_2"):  # two cases of one person count once
            rows += [
                row(person, "runet", AS_IT_IS, 0.7, kind),
                row(person, "runet", REG_SN, 0.7 + gain, kind, hd95_mm=1.5),
            ]
    (line,) = starting(table3(rows), "runet: Reg-SN against as it is")
    assert cells(line)[1:3] == ["4", "+0.0350"]
    assert line.split()[-7:] == ["0.0625", "+0.50", "0.0625", "+0.000", "1.0000", "0", "none"]  # 1 / 2^4
    low, high = map(float, line.split()[-10:-7:2])
    assert 0.02 <= low < 0.035 < high <= 0.05


def test_the_three_pairs_of_ways_and_the_largest_loss_and_what_was_declined():
    rows = []
    for person in range(3):
        rows += [row(person, way=AS_IT_IS, dsc=0.9), row(person, way=REG_SN, dsc=0.88 - 0.01 * person)]
        rows += [row(person, way=REFINED, dsc=0.9 - 0.001 * (person == 1), declined=person == 2)]
    lines = starting(table3(rows), f"{PRIOR}: ")
    assert [cells(line)[0] for line in lines] == [
        f"{PRIOR}: Reg-SN against as it is",
        f"{PRIOR}: refined against as it is",
        f"{PRIOR}: refined against Reg-SN",
    ]
    assert cells(lines[0])[-2:] == ["0", "0.0400 (train-2 official)"]
    assert cells(lines[1])[-2:] == ["1", "0.0010 (train-1 official)"]
    assert cells(lines[2])[-1] == "none"


def test_bad_starts_are_compared_with_the_priors_patch_both_refined():
    rows = [
        row(p, start, way, 0.9 - 0.01 * (start != PRIOR))
        for p in range(3)
        for start in (PRIOR, "start: flat")
        for way in (AS_IT_IS, REFINED)
    ]
    (line,) = starting(table3(rows), f"start: flat against {PRIOR}, refined")
    assert cells(line)[1:3] == ["3", "-0.0100"]


def test_distances_are_tested_where_both_patches_have_them():
    rows = []
    for person in range(4):
        first = {"hd95_mm": math.inf, "msd_mm": math.inf, "border_mm": math.nan} if person == 0 else {}
        rows += [row(person, "runet", AS_IT_IS, 0.0 if person == 0 else 0.8, **first)]
        rows += [row(person, "runet", REG_SN, 0.8, hd95_mm=1.0)]
    (line,) = starting(table3(rows), "runet: Reg-SN against as it is")
    assert cells(line)[1:3] == ["4", "+0.2000"]
    assert line.split()[-6:-3] == ["+1.00", "0.1250", "+0.000"]  # of three persons: 1 / 2^3


def test_too_few_persons_are_not_tested():
    rows = [row(person, way=way) for person in range(2) for way in (AS_IT_IS, REG_SN)]
    assert not [line for line in table3(rows) if "against" in line]


@pytest.mark.parametrize("all_of_them", [False, True])
def test_failed_rows_are_named_and_left_out(all_of_them):
    bad = Row("train-1", "p1", "official", "runet", "w", REG_SN, "m", error="the plane is lost")
    lines = table3([bad] if all_of_them else [row(0, "runet", REG_SN), bad])
    assert lines[-1] == "FAILED: train-1 official runet, Reg-SN: the plane is lost"
    (line,) = starting(lines, "runet + Reg-SN")
    assert cells(line)[1:] == ["0", "all failed"] if all_of_them else cells(line)[1] == "1"
