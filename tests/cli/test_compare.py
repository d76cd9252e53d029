"""`calvaria compare`: paired tests of two tables of scores."""

from __future__ import annotations

import json

import numpy as np
import pytest

from calvaria.io.scores import write_scores
from calvaria.metrics import compare_pairs


@pytest.fixture
def tables(tmp_path):
    """Twelve cases by two methods; the second is better by every metric but one."""
    rng = np.random.default_rng(0)
    first = {
        f"c{number:02}": {
            "dsc": rng.uniform(0.8, 0.9),
            "hd95_mm": rng.uniform(1, 2),
            "volume_error_percent": rng.normal(),
            "border_mm": 0.5,
        }
        for number in range(12)
    }
    second = {
        name: {
            "dsc": row["dsc"] + rng.uniform(0.01, 0.03),
            "hd95_mm": row["hd95_mm"] - rng.uniform(0.1, 0.2),
            "volume_error_percent": 0.0,
            "border_mm": np.nan if name == "c03" else 0.4,
        }
        for name, row in first.items()
    }
    return write_scores(tmp_path / "old.csv", first), write_scores(tmp_path / "new.csv", second), first, second


def test_the_table_says_what_is_tested_and_how_many_pairs(run, engine, tables):
    result = run("compare", *tables[:2])
    assert result.code == 0
    assert result.out.startswith("12 pairs; hypothesis: new (B) is better than old (A)\n")
    rows = {words[0]: words for words in map(str.split, result.out.splitlines()) if words}
    assert {"DSC", "HD95"} <= set(rows)
    assert "volume" not in rows  # neither more nor less is better
    assert result.err == "calvaria: warning: border_mm is not defined for 1 of 12 cases, which do not count for it\n"
    assert (rows["DSC"][1], rows["border"][2]) == ("12", "11")
    assert "nan" not in result.out


def test_the_json_holds_the_very_tests(run, engine, tables):
    record = json.loads(run("compare", *tables[:2], "--json").out)
    _, _, first, second = tables
    wanted = compare_pairs(
        [first[name]["dsc"] for name in first], [second[name]["dsc"] for name in first], higher_is_better=True
    )
    assert record["pairs"] == 12
    assert record["metrics"]["dsc"]["p_t"] == wanted.p_t
    assert record["metrics"]["dsc"]["better"] == 12
    assert record["metrics"]["dsc"]["p_adjusted"] == pytest.approx(3 * wanted.p_wilcoxon)
    assert record["metrics"]["border_mm"]["pairs"] == 11
    assert record["metrics"]["hd95_mm"]["mean_gain"] > 0


def test_one_metric_alone_needs_no_correction(run, engine, tables):
    record = json.loads(run("compare", *tables[:2], "--metric", "dsc", "--json").out)
    assert list(record["metrics"]) == ["dsc"]
    assert record["metrics"]["dsc"]["p_adjusted"] == record["metrics"]["dsc"]["p_wilcoxon"]


def test_cases_without_a_partner_are_said(run, engine, tables, tmp_path):
    fewer = write_scores(tmp_path / "fewer.csv", {name: tables[3][name] for name in list(tables[3])[2:]})
    result = run("compare", tables[0], fewer)
    assert "2 cases of old.csv have no partner and are left out: c00, c01" in result.err
    assert result.out.startswith("10 pairs;")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--metric", "dice"), "there is no metric 'dice'; there are dsc, bdsc"),
        (("--metric", "msd_mm"), "no metric is left that both tables have"),
    ],
)
def test_metrics_that_cannot_be_compared(run, engine, tables, words, text):
    result = run("compare", *tables[:2], *words)
    assert result.code == 2
    assert text in result.err


def test_a_metric_that_hardly_any_case_has_is_left_out(run, engine, tables, tmp_path):
    scores = {name: {**row, "gap_mm": 0.1 if name == "c01" else np.nan} for name, row in tables[3].items()}
    table = write_scores(tmp_path / "gaps.csv", scores)
    result = run("compare", table, table)
    assert "gap_mm is not defined for 11 of 12 cases and is left out" in result.err
    assert "gap" not in result.out.split("\n", 1)[1]
    result = run("compare", table, table, "--metric", "gap_mm")
    assert result.code == 2
    assert "no metric is left that both tables have for enough cases" in result.err


def test_an_empty_patch_has_no_mean_and_no_interval(run, engine, tables, tmp_path):
    scores = {name: {**row, "hd95_mm": np.inf if name == "c01" else row["hd95_mm"]} for name, row in tables[3].items()}
    result = run("compare", tables[0], write_scores(tmp_path / "one-empty.csv", scores), "--metric", "hd95_mm")
    row = next(line.split() for line in result.out.splitlines() if line.split()[:1] == ["HD95"])
    assert row[2] == "12"
    assert row[4:9] == ["inf", "n/a", "n/a", "to", "n/a"]


def test_tables_that_share_no_case(run, engine, tables, tmp_path):
    other = write_scores(tmp_path / "other.csv", {"x": {"dsc": 1.0}})
    result = run("compare", tables[0], other)
    assert result.code == 2
    assert result.err.endswith("calvaria: old.csv and other.csv have no case in common\n")


def test_too_few_pairs(run, engine, tables, tmp_path):
    few = write_scores(tmp_path / "few.csv", {name: tables[3][name] for name in list(tables[3])[:2]})
    result = run("compare", tables[0], few)
    assert result.code == 2
    assert "2 pairs: at least 3" in result.err
