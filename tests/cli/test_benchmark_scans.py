"""`calvaria benchmark scans`: what is run, printed and returned."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from calvaria.benchmarks import cases
from calvaria.benchmarks import scans as benchmark
from calvaria.benchmarks.rows import read_table
from calvaria.benchmarks.scan_heads import CT_KINDS, CT_VARIANTS, VARIANTS
from calvaria.benchmarks.scans import Row


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []

    def tasks(root: Any, side: str, kinds: tuple[str, ...], limit: int | None) -> list[Any]:
        found.append((root.name, side, kinds, limit))
        return [SimpleNamespace(case=SimpleNamespace(id="train-0", person="p0"), kind=kind) for kind in kinds]

    def row(task: Any, keep: Any) -> Row:
        found.append(keep)
        error = "no hole was found" if task.kind == "bilateral" else ""
        return Row(task.case, task.person, task.kind, task.variant, dsc=0.9, bdsc=0.9, hd95_mm=1.0, error=error)

    monkeypatch.setattr(cases, "tasks_of", tasks)
    monkeypatch.setattr(benchmark, "row_of", row)
    return found


def test_the_table_is_printed_and_the_rows_are_kept(run, asked, tmp_path):
    path, keep = tmp_path / "new" / "scans.csv", tmp_path / "keep"
    words = ("benchmark", "scans", "--data", "skulls", "-o", path, "--kind", "frontoorbital", "--limit", 2)
    words = (*words, "--variant", "5mm", "--keep", keep)
    result = run(*words)
    assert (result.code, result.err) == (0, "")
    assert asked == [("skulls", "validation", ("frontoorbital",), 2), keep, keep]
    assert "[2 of 2] train-0 frontoorbital 5mm: DSC 0.9000 bDSC 0.9000 HD95 1.00\n" in result.out
    assert "\n5mm                    1     0  0.0000 " in result.out
    assert len(read_table(path, benchmark.Row, "scans")) == 2
    assert "2 of 2 scans are in scans.csv already" in run(*words).out


def test_all_variants_are_the_default_and_failures_give_exit_code_2(run, asked, tmp_path):
    ct = tmp_path / "cranium.nrrd"
    ct.write_bytes(b"x")
    result = run("benchmark", "scans", "--data", "skulls", "-o", tmp_path / "scans.csv", "--ct", ct, "--json")
    assert result.code == 2
    assert asked[0] == ("skulls", "validation", ("parietotemporal", "frontoorbital", "bilateral"), 6)
    whole = 3 * (1 + len(VARIANTS)) + len(CT_KINDS) * (1 + len(CT_VARIANTS))
    assert f"{1 + len(VARIANTS)} of {whole} scans failed: train-0 bilateral mask, train-0 bilateral 1mm," in result.err
    assert len(json.loads(result.out)) == whole


def test_an_unknown_variant_lists_them(run, asked, tmp_path):
    result = run("benchmark", "scans", "--data", "skulls", "-o", tmp_path / "scans.csv", "--variant", "7mm")
    assert result.code == 2
    assert "no such variant: 7mm; known are 1mm, 1mm-sharp, 1.5mm-tilt-18" in " ".join(result.err.split())


def test_it_is_among_the_benchmarks(run):
    assert "scans" in run("benchmark", "--help").out
