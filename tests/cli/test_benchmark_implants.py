"""`calvaria benchmark implants`: what is run, printed and returned."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from calvaria.benchmarks import cases
from calvaria.benchmarks import implants as benchmark
from calvaria.benchmarks.implants import Row
from calvaria.benchmarks.rows import read_table


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []

    def tasks(root: Any, side: str, kinds: tuple[str, ...], limit: int | None) -> list[Any]:
        found.append((root.name, side, kinds, limit))
        return [SimpleNamespace(case=SimpleNamespace(id="train-0", person="p0"), kind=kind) for kind in kinds]

    def row(task: Any, settings: Any) -> Row:
        error = "no hole was found" if task.kind == "bilateral" else ""
        return Row(task.case.id, "p0", task.kind, benchmark.settings_digest(settings), parts=1.0, error=error)

    monkeypatch.setattr(cases, "tasks_of", tasks)
    monkeypatch.setattr(benchmark, "row_of", row)
    return found


def test_the_table_is_printed_and_the_rows_are_kept(run, asked, tmp_path):
    path = tmp_path / "new" / "implants.csv"
    words = ("benchmark", "implants", "--data", "skulls", "-o", path, "--kind", "hemicraniectomy", "--limit", 2)
    result = run(*words)
    assert (result.code, result.err) == (0, "")
    assert asked == [("skulls", "validation", ("hemicraniectomy",), 2)]
    assert "[1 of 1] train-0 hemicraniectomy\n" in result.out
    assert "\nhemicraniectomy    1     0 " in result.out
    assert len(read_table(path, benchmark.Row, "implants")) == 1
    assert "1 of 1 holes are in implants.csv already" in run(*words).out


def test_all_kinds_are_the_default_and_failures_give_exit_code_2(run, asked, tmp_path):
    result = run("benchmark", "implants", "--data", "skulls", "-o", tmp_path / "implants.csv", "--json")
    assert result.code == 2
    assert asked[0][2] == benchmark.KINDS
    assert "1 of 6 designs failed, of train-0 bilateral" in result.err
    assert len(json.loads(result.out)) == len(benchmark.KINDS) == 6


def test_it_is_among_the_benchmarks(run):
    assert "implants" in run("benchmark", "--help").out
