"""`calvaria correlate`: metrics against an expert's scores."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image

from calvaria.io.scores import write_scores
from calvaria.metrics import correlate


@pytest.fixture
def tables(tmp_path):
    """Twenty cases whose Dice the expert follows, whose border error he dislikes, and two metrics that say nothing."""
    rng = np.random.default_rng(0)
    scores = {f"c{number:02}": rng.uniform(2, 9) for number in range(20)}
    metrics = {
        name: {
            "dsc": 0.8 + 0.01 * score + rng.normal(0, 0.005),
            "border_mm": 1 / score + rng.normal(0, 0.05),
            "volume_error_percent": (-1) ** number * (10 - score),
            "overlap_ml": 0.0,
            "asymmetry_mm": np.nan,
        }
        for number, (name, score) in enumerate(scores.items())
    }
    experts = {name: {"first": score, "second": round(score)} for name, score in scores.items()}
    return write_scores(tmp_path / "scores.csv", metrics), write_scores(tmp_path / "expert.csv", experts)


def test_global_and_border_metrics_stand_apart(run, engine, tables):
    result = run("correlate", *tables)
    assert result.code == 0
    assert result.out.startswith("20 cases; ")
    lines = [line.strip() for line in result.out.splitlines()]
    places = [
        next(n for n, line in enumerate(lines) if line.startswith(word)) for word in ("the whole", "DSC", "the bor")
    ]
    assert places == sorted(places)
    row = next(line.split() for line in lines if line.startswith("DSC"))
    assert row[1:3] == ["+", "20"]
    assert float(row[3]) > 0.8
    # Neither more nor less volume is better: its size counts.
    size = next(line.split() for line in lines if line.startswith("|volume"))
    assert size[3:5] == ["-", "20"]
    assert result.err.splitlines() == [
        "calvaria: warning: overlap_ml is the same for all cases, or defined for none, and is left out",
        "calvaria: warning: asymmetry_mm is the same for all cases, or defined for none, and is left out",
    ]


def test_the_json_holds_the_very_coefficients(run, engine, tables):
    from calvaria.io.scores import read_scores

    record = json.loads(run("correlate", *tables, "--score", "first", "--json").out)
    metrics, experts = (read_scores(path) for path in tables)
    wanted = correlate([metrics[name]["dsc"] for name in metrics], [experts[name]["first"] for name in metrics])
    assert record["metrics"]["dsc"]["pearson"] == wanted.pearson
    assert record["metrics"]["dsc"]["spearman_low"] == wanted.spearman_low
    assert record["metrics"]["volume_error_percent"]["spearman"] < -0.9


def test_values_that_are_not_defined_or_infinite(run, engine, tables, tmp_path):
    from calvaria.io.scores import read_scores

    scores = read_scores(tables[0])
    for number, row in enumerate(scores.values()):
        row["gap_mm"] = float(number) if number < 3 else np.nan
        row["border_mm"] = np.nan if number < 4 else row["border_mm"]
        row["hd95_mm"] = np.inf if number == 5 else float(number)
    result = run("correlate", write_scores(tmp_path / "holes.csv", scores), tables[1])
    assert result.code == 0
    assert "gap_mm is not defined for 17 of 20 cases and is left out" in result.err
    rows = {line.split()[0]: line.split() for line in result.out.splitlines() if line.split()}
    assert rows["border"][3] == "16"
    assert rows["HD95"][3:6] == ["20", "n/a", "n/a"]
    assert "nan" not in result.out


def test_several_experts_are_averaged(run, engine, tables):
    columns = [
        json.loads(run("correlate", *tables, *words, "--json").out)["metrics"]["dsc"]["pearson"]
        for words in (("--score", "first"), ("--score", "second"), ())
    ]
    assert len(set(columns)) == 3


def test_the_scatter_plots_are_drawn(run, engine, tables, tmp_path, monkeypatch):
    result = run("correlate", *tables, "-o", tmp_path / "out")
    assert result.out.rstrip().endswith("correlations.png")
    with Image.open(tmp_path / "out" / "correlations.png") as picture:
        assert picture.width > 600
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run("correlate", *tables, "-o", tmp_path / "none")
    assert result.code == 2
    assert "pip install 'calvaria[figures]'" in result.err


def test_cases_without_a_partner_are_said(run, engine, tables, tmp_path):
    fewer = write_scores(tmp_path / "fewer.csv", {f"c{number:02}": {"score": float(number)} for number in range(2, 25)})
    result = run("correlate", tables[0], fewer)
    assert "2 cases of scores.csv have no partner and are left out: c00, c01" in result.err
    assert "5 cases of fewer.csv" in result.err
    assert result.out.startswith("18 cases; ")


@pytest.mark.parametrize(
    ("rows", "words", "text"),
    [
        ({"x": {"score": 1.0}}, (), "have no case in common"),
        ({f"c{n:02}": {"score": 3.0} for n in range(20)}, (), "every case has the same score"),
        (
            {f"c{n:02}": {"score": float(n)} for n in range(20)},
            ("--score", "eye"),
            "no column of numbers is called 'eye'",
        ),
        ({f"c{n:02}": {"score": float(n)} for n in range(4)}, (), "4 cases: at least 5"),
        ({f"c{n:02}": {"score": float("nan")} for n in range(9)}, (), "score of c00 is not a finite number"),
    ],
)
def test_scores_that_cannot_be_used(run, engine, tables, tmp_path, rows, words, text):
    result = run("correlate", tables[0], write_scores(tmp_path / "other.csv", rows), *words)
    assert result.code == 2
    assert text in result.err


def test_a_table_without_metrics(run, engine, tables, tmp_path):
    other = write_scores(tmp_path / "other.csv", {f"c{n:02}": {"dice": float(n)} for n in range(20)})
    result = run("correlate", other, tables[1])
    assert result.code == 2
    assert "the table holds no metric; its columns should be called dsc" in result.err
    same = write_scores(tmp_path / "same.csv", {f"c{n:02}": {"dsc": 1.0} for n in range(20)})
    assert "no metric differs between the cases" in run("correlate", same, tables[1]).err
