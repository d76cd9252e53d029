"""Figures of many cases, and the page that holds them."""

from __future__ import annotations

import base64
import io
import math
import re
import sys

import numpy as np
import pytest
from PIL import Image

from calvaria.errors import InputError, MissingExtraError
from calvaria.metrics import METRICS, correlate
from calvaria.report import distributions, evaluation_page, figures, scatter


def table(count: int = 12) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng(0)
    return {f"case-{n:02}": {name: float(rng.uniform(0.1, 1)) for name in METRICS} for n in range(count)}


def inked(picture: np.ndarray) -> float:
    return float((picture.min(axis=2) < 250).mean())


def test_every_metric_has_a_panel_and_more_cases_leave_more_ink():
    few, many = table(4), table(60)
    pictures = [distributions(scores, dict.fromkeys(scores, "all")) for scores in (few, many)]
    assert pictures[0].dtype == np.uint8
    assert pictures[0].shape == pictures[1].shape
    assert inked(pictures[1]) > inked(pictures[0]) > 0.01
    one = distributions({case: {"dsc": row["dsc"]} for case, row in few.items()}, dict.fromkeys(few, "all"))
    assert one.shape[0] < pictures[0].shape[0] / 2


def test_kinds_stand_side_by_side_and_infinite_or_undefined_values_are_no_obstacle():
    scores = table()
    scores["case-00"]["hd95_mm"] = math.inf
    scores["case-01"]["border_mm"] = math.nan
    for row in scores.values():
        row["overlap_ml"] = 0.0
        row["gap_mm"] = math.nan
    kinds = {case: ("bilateral", "official")[n % 2] for n, case in enumerate(scores)}
    two, one = distributions(scores, kinds), distributions(scores, dict.fromkeys(scores, "all"))
    assert (two != one).any()


def test_the_same_scores_give_the_same_picture():
    scores = table(5)
    first, second = (distributions(scores, dict.fromkeys(scores, "all")) for _ in range(2))
    assert (first == second).all()


def test_scatter_plots_show_every_metric():
    rng = np.random.default_rng(3)
    expert = rng.uniform(0, 10, 20)
    columns = {"dsc": 0.05 * expert + rng.normal(0, 0.1, 20), "hd95_mm": np.r_[np.inf, rng.uniform(1, 2, 19)]}
    found = {name: correlate(values, expert) for name, values in columns.items()}
    assert inked(scatter(columns, expert, found)) > 0.01


def test_without_matplotlib_a_figure_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'calvaria\[figures\]'"):
        distributions(table(2), dict.fromkeys(table(2), "all"))
    with pytest.raises(InputError, match="no case"):
        distributions({}, {})


def test_the_page_holds_everything_and_nothing_from_elsewhere():
    scores = {"<b>a</b>": {**table(1)["case-00"], "dsc": 0.123}, "b": table(2)["case-01"]}
    picture = Image.new("RGB", (30, 20), (200, 10, 10))
    page = evaluation_page(scores, {"b": picture}, np.full((8, 9, 3), 7, np.uint8), {"c": "no <truth>"})
    assert "&lt;b&gt;a&lt;/b&gt;" in page
    assert "<b>a</b>" not in page
    assert "no &lt;truth&gt;" in page
    assert "0.123" in page
    assert all(metric.title in page for metric in METRICS.values())
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    sizes = [Image.open(io.BytesIO(base64.b64decode(data))).size for data in images]
    assert sizes == [(9, 8), (30, 20)]
    assert "http" not in page


def test_the_page_says_how_many_cases_have_a_value():
    scores = table(4)
    scores["case-02"]["volume_error_percent"] = math.nan
    page = evaluation_page(scores, {})
    assert f"<tr><td>{METRICS['volume_error_percent'].title}</td><td>3 of 4</td>" in page
    assert f"<tr><td>{METRICS['dsc'].title}</td><td>4</td>" in page
    assert "nan" not in page.split("<h2>Definitions")[0]


def test_what_has_no_place_in_a_panel_is_counted():
    assert figures._lost([1.0, math.nan, math.inf, math.nan]) == "1 inf.\n2 n/a"
    assert figures._lost([1.0, 2.0]) == ""


def test_a_page_of_one_case_has_no_spread():
    page = evaluation_page({"a": table(1)["case-00"]}, {})
    assert "Evaluation of 1 case<" in page
    assert "<td>n/a</td>" in page
    assert "<img" not in page
