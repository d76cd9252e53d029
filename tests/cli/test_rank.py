"""`calvaria rank`: methods in order."""

from __future__ import annotations

import json

import pytest

from calvaria.io.scores import write_scores


def method(dsc: float, hd95_mm: float, cases: int = 8) -> dict[str, dict[str, float]]:
    return {
        f"c{n}": {"dsc": dsc + 0.001 * n, "bdsc": dsc, "hd95_mm": hd95_mm, "volume_error_percent": 1.0}
        for n in range(cases)
    }


@pytest.fixture
def tables(tmp_path):
    made = {"good": method(0.95, 1.0), "poor": method(0.80, 3.0), "mixed": method(0.90, 0.9)}
    return [write_scores(tmp_path / f"{name}.csv", scores) for name, scores in made.items()]


def test_the_best_stands_first(run, engine, tables):
    result = run("rank", *tables)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("3 methods over 8 cases\n")
    rows = [line.split() for line in result.out.splitlines()]
    assert [row[1] for row in rows if row and row[0].isdigit() and row[1] != "methods"] == ["good", "mixed", "poor"]


def test_the_json_holds_ranks_and_ranges(run, engine, tables):
    record = json.loads(run("rank", *tables, "--metric", "hd95_mm", "--json").out)
    assert [one["method"] for one in record["methods"]] == ["mixed", "good", "poor"]
    assert record["methods"][0]["ranks"] == {"hd95_mm": 1.0}
    assert (record["methods"][2]["low"], record["methods"][2]["high"]) == (3, 3)


def test_only_cases_of_all_tables_count(run, engine, tables, tmp_path):
    fewer = write_scores(tmp_path / "fewer.csv", method(0.7, 4.0, cases=5))
    result = run("rank", *tables, fewer)
    assert result.out.startswith("4 methods over 5 cases\n")
    assert "3 cases of good are not in every table and do not count" in result.err


def test_tables_of_one_name_are_told_apart_by_their_folders(run, engine, tmp_path):
    paths = []
    for name, dsc in (("one", 0.9), ("two", 0.8)):
        (tmp_path / name).mkdir()
        paths.append(write_scores(tmp_path / name / "scores.csv", method(dsc, 1.0)))
    record = json.loads(run("rank", *paths, "--json").out)
    assert [one["method"] for one in record["methods"]] == ["one/scores", "two/scores"]
    result = run("rank", paths[0], paths[0])
    assert result.code == 2
    assert "give each method a name of its own" in result.err


def test_cases_without_a_value_do_not_count_for_any_method(run, engine, tables, tmp_path):
    scores = method(0.85, 2.0)
    for name in ("c1", "c2"):
        scores[name]["bdsc"] = float("nan")
    result = run("rank", *tables, write_scores(tmp_path / "undefined.csv", scores))
    assert result.code == 0
    assert result.out.startswith("4 methods over 6 cases\n")
    assert result.err == "calvaria: warning: bdsc is not defined for 2 of 8 cases, which do not count\n"
    for row in scores.values():
        row["bdsc"] = float("nan")
    result = run("rank", *tables, write_scores(tmp_path / "undefined.csv", scores))
    assert result.code == 2
    assert "no case has a value of dsc, bdsc, hd95_mm in every table; choose others with --metric" in result.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--metric", "dice"), "cannot be ranked by 'dice'; there are dsc"),
        (("--metric", "volume_error_percent"), "cannot be ranked by 'volume_error_percent'"),
        (("--metric", "msd_mm"), "the table has no column 'msd_mm'"),
    ],
)
def test_metrics_that_do_not_rank(run, engine, tables, words, text):
    result = run("rank", *tables, *words)
    assert result.code == 2
    assert text in result.err


def test_one_table_is_no_ranking_and_strangers_share_nothing(run, engine, tables, tmp_path):
    assert "two tables at least" in run("rank", tables[0]).err
    other = write_scores(tmp_path / "other.csv", {"x": {"dsc": 1.0}})
    result = run("rank", tables[0], other)
    assert result.code == 2
    assert "no case in common" in result.err
