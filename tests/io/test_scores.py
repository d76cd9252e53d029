"""Tables of scores: what is written is read, and what is no table is named."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calvaria.errors import FormatError, InputError
from calvaria.io.scores import read_scores, write_scores

LETTERS = st.characters(categories=("L", "N", "Zs"), include_characters="-_.,;\"'")
NAMES = st.text(LETTERS, min_size=1).map(str.strip).filter(bool)
PAIRS = st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAMES, PAIRS, min_size=1))
def test_what_is_written_is_read(tmp_path, cases):
    scores = {name: {"dsc": a, "hd95_mm": b} for name, (a, b) in cases.items()}
    assert read_scores(write_scores(tmp_path / "scores.csv", scores)) == scores


def test_figures_that_say_nothing_stay_so(tmp_path):
    path = write_scores(tmp_path / "a.csv", {"one": {"border_mm": math.nan, "hd_mm": math.inf}})
    found = read_scores(path)["one"]
    assert math.isnan(found["border_mm"])
    assert found["hd_mm"] == math.inf


def test_other_tables_are_read_too(tmp_path):
    path = tmp_path / "bench.csv"
    path.write_text("\ufeffcase,kind,model,dsc\np1,official,prior,0.9\np1,frontoorbital,prior,0.8\n", encoding="utf-8")
    assert read_scores(path) == {"p1 official": {"dsc": 0.9}, "p1 frontoorbital": {"dsc": 0.8}}


def test_only_columns_with_a_number_everywhere_are_kept(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("case,dsc,note\na,0.9,3\nb,0.8,good\n", encoding="utf-8")
    assert read_scores(path) == {"a": {"dsc": 0.9}, "b": {"dsc": 0.8}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,dsc\na,1\n", "a column 'case'"),
        ("case,dsc\n", "a row for each case"),
        ("case,dsc\na,1\na,2\n", "a stands there twice, again in line 3"),
        ("case,dsc\na\n", "line 2 has not as many values"),
        ("case,dsc\na,1,2\n", "line 2 has not as many values"),
        ("case,dsc\na,good\n", "no column holds a number"),
        ('case,dsc\n"a,1\n', "no CSV table"),
        ("\xff\xfe", "case"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, text, words):
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match=words):
        read_scores(path)


def test_a_binary_file_is_no_table(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(FormatError, match="no CSV table"):
        read_scores(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_scores(tmp_path / "none.csv")
    with pytest.raises(InputError, match="does not exist"):
        write_scores(tmp_path / "none" / "a.csv", {"a": {"dsc": 1.0}})
