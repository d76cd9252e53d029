"""Table 4 as it is printed."""

from __future__ import annotations

import math
import re

import pytest

from calvaria.benchmarks.comparison import Method, Outcome
from calvaria.benchmarks.comparison_table import PUBLISHED, TRAINING, Figures, table4
from calvaria.benchmarks.table import Row
from calvaria.cli import main

AS_PRINTED = [
    ("Proposed, segmentation-based", "0.90 / 0.91 / 1.68", "0.93 / 0.92 / 1.44"),
    ("Proposed, registration-based", "0.94 / 0.94 / 1.31", "0.95 / 0.95 / 1.28"),
    ("[37] Wodzinski 2024, heavy augmentation", "0.95 / 0.95 / 1.13", "0.97 / 0.96 / 1.07"),
    ("[22] Mahdi 2021, U-Net", "0.80 / 0.81 / 3.42", "0.90 / 0.93 / 3.59"),
    ("[22] Yang", "0.80 / 0.89 / 3.52", "n/a"),
    ("[34] Wodzinski 2021, linking datasets", "0.90 / 0.93 / 1.60", "0.93 / 0.95 / 1.48"),
    ("[38] Yu 2021, PCA-Skull", "n/a", "0.80 / 0.77 / 3.68"),
    ("[16] Kroviakov 2021, sparse CNN", "n/a", "0.85 / 0.95 / 2.65"),
    ("[26] Pathak 2021, V-Net", "n/a", "0.90 / 0.95 / 2.02"),
    ("[35] Wodzinski 2023, point-cloud transformer", "0.87 / 0.85 / 1.91", "0.90 / 0.89 / 1.71"),
    ("[8] Friedrich 2023, pcdiff (own split)", "0.87 / 0.89 / 2.45", "0.90 / 0.93 / 1.69"),
    ("[36] Wodzinski 2022, framework", "0.89 / 0.93 / 1.60", "0.93 / 0.95 / 1.47"),
    ("[18] Li 2023, sparse CNN", "n/a", "0.88 / 0.96 / 4.11"),
    ("[25] Mazzocchetti 2024, occupancy nets", "0.85 / 0.89 / 2.39", "0.90 / 0.93 / 1.86"),
    ("[12] Kesornsri 2024, CraNeXt", "0.86 / n/a / 2.12", "n/a"),
]
"""The paper's table, letter by letter."""

METHOD = Method("shape-prior", "shape-prior", "", "abc")


def row(case: str, kind: str, dsc: float = 0.9, hd95: float = 1.0, **more: object) -> Row:
    figures = {"bdsc": dsc, "hd95_mm": hd95, "seconds": 3.0, "cpu_seconds": 4.0, "peak_mb": 100.0}
    return Row(case, case.split("/", maxsplit=1)[0], kind, METHOD.key, 30.0, dsc, **{**figures, **more})


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line.strip())


def only(lines: list[str], start: str) -> str:
    (line,) = [line for line in lines if line.startswith(start)]
    return line


def test_every_published_row_is_printed_as_it_stands_in_the_paper():
    lines = table4([])
    assert [tuple(cells(line)[:3]) for line in lines[2:]] == AS_PRINTED
    assert cells(lines[1]) == ["method", "SkullBreak", "SkullFix", "training", "a case"]
    costs = {cells(line)[0]: cells(line)[3:] for line in lines[2:]}
    assert costs.pop("Proposed, segmentation-based") == ["below 500 A100 GPU h", "< 5 s, A6000"]
    assert costs.pop("Proposed, registration-based") == ["below 500 A100 GPU h", "< 15 s, A6000"]
    assert costs.pop("[37] Wodzinski 2024, heavy augmentation") == ["above 100,000 GPU h", "unknown"]
    assert costs.pop("[8] Friedrich 2023, pcdiff (own split)") == ["unknown", "1142 to 1210 s, A100"]
    assert {tuple(cost) for cost in costs.values()} == {("unknown", "unknown")}


def test_columns_stand_below_each_other():
    lines = table4([Outcome(METHOD, (row("train-004", "official"),))])
    starts = [line.index("SkullBreak") for line in lines if line.startswith("method ")]
    assert starts == [47, 47]
    assert only(lines, "Proposed, seg").index("0.90") == 47
    assert len(PUBLISHED) == 15


def test_the_stand_in_is_marked_and_its_holes_go_to_their_columns():
    rows = [row("train-004", "official", 0.95, 1.2), row("train-009", "official", 0.93, 1.4)]
    rows += [row("train-004", "bilateral", 0.8, 2.0), row("train-004", "random_1", 0.9, 3.0, cpu_seconds=8.0)]
    lines = table4([Outcome(METHOD, tuple(rows))])
    assert cells(only(lines, "shape-prior, ")) == [
        "shape-prior, STAND-IN",
        "0.85 / 0.85 / 2.50",
        "0.94 / 0.94 / 1.30",
        "below 1 CPU h",
        "5.0 CPU s",
    ]
    assert "cannot be ranked among the published rows" in only(lines, "STAND-IN: these are not the official test sets")
    assert only(lines, "shape-prior (weights") == (
        "shape-prior (weights abc), STAND-IN: 2 persons, 4 cases, 0 failed, 0 patches empty"
    )
    assert cells(only(lines, "official "))[:7] == ["official", "2", "0", "0.9400", "0.0141", "0.9300 0.9400", "0.9400"]
    assert only(lines, "all synthetic").split()[2:5] == ["2", "0", "0.8500"]


def test_official_test_sets_have_a_line_of_their_own():
    rows = [row("train-004", "official"), row("skullbreak:test-000/random_1", "random_1", 0.7, 2.0)]
    lines = table4([Outcome(METHOD, tuple(rows))])
    assert cells(only(lines, "shape-prior, STAND-IN"))[1:3] == ["n/a", "0.90 / 0.90 / 1.00"]
    assert cells(only(lines, "shape-prior, official"))[:3] == [
        "shape-prior, official test sets",
        "0.70 / 0.70 / 2.00",
        "n/a",
    ]
    assert "official skullbreak test set: 1 persons, 1 cases" in "\n".join(lines)
    alone = table4([Outcome(METHOD, (row("skullfix:test-050", "official"),))])
    assert not any("STAND-IN" in line for line in alone)
    assert cells(only(alone, "shape-prior, official"))[1:3] == ["n/a", "0.90 / 0.90 / 1.00"]


def test_failed_rows_are_counted_and_named_and_not_averaged():
    bad = Row("train-009", "train-009", "official", METHOD.key, error="009.nrrd: damaged")
    lines = table4([Outcome(METHOD, (row("train-004", "official"), bad))])
    assert "2 cases, 1 failed, 0 patches empty" in only(lines, "shape-prior (weights")
    assert lines[-1] == "FAILED: train-009 official shape-prior@abc: 009.nrrd: damaged"
    assert cells(only(lines, "shape-prior, "))[2] == "0.90 / 0.90 / 1.00"
    assert only(lines, "official ").split()[1:3] == ["2", "1"]
    nothing = table4([Outcome(METHOD, (bad,))])
    assert cells(only(nothing, "shape-prior, "))[1:] == ["n/a", "all failed", "below 1 CPU h", "not measured here"]


def test_a_patch_that_is_empty_is_not_hidden():
    rows = (row("train-004", "official"), row("train-009", "official", 0.0, math.inf))
    lines = table4([Outcome(METHOD, rows)])
    assert cells(only(lines, "shape-prior, "))[2] == "0.45 / 0.45 / inf"
    assert "0 failed, 1 patches empty" in only(lines, "shape-prior (weights")


def test_a_network_s_training_was_not_measured():
    method = Method("runs/runet.safetensors", "runs/runet.safetensors", "", "abc")
    lines = table4([Outcome(method, (row("train-004", "official"),))])
    assert cells(only(lines, "runs/runet.safetensors, "))[3] == "not measured here"


def test_what_the_prior_s_training_takes_is_what_its_command_says(capsys: pytest.CaptureFixture[str]):
    main(["train", "shape-prior", "--help"])
    assert "Takes 10 to 20 minutes on 2 cores" in " ".join(capsys.readouterr().out.split())
    assert TRAINING == {"shape-prior": "below 1 CPU h"}  # 2 cores for at most 20 minutes are 0.7 h


def test_a_figure_that_was_not_published_is_not_a_number():
    assert Figures(0.86, math.nan, 2.12).text == "0.86 / n/a / 2.12"
