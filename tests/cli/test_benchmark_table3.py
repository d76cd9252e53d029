"""`calvaria benchmark table3` on a made-up set; what refines and what trains are stand-ins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from calvaria.benchmarks import networks, refining
from calvaria.benchmarks.networks import PRIOR, Model
from calvaria.benchmarks.refining import AS_IT_IS, REFINED, REG_SN, Row
from calvaria.benchmarks.rows import read_table
from calvaria.datasets.split import load_split


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The persons of the split's test and validation sides; what is in the files nobody reads."""
    folder = tmp_path / "autoimplant2020" / "training_set" / "complete_skull"
    folder.mkdir(parents=True)
    split = load_split()
    for name in (*split.test, *split.validation):
        (folder / f"{name.removeprefix('train-')}.nrrd").write_bytes(b"")
    return tmp_path / "autoimplant2020"


class Runner:
    """Stands for the work: Dice 0.8, and a gain of 0.05 by Reg-SN and 0.1 when refined."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, list[str]]] = []
        self.fails: str = ""
        self.stops_at: int = -1

    def __call__(self, task: Any, wanted: Any) -> list[Row]:
        if len(self.calls) == self.stops_at:
            raise KeyboardInterrupt
        self.calls.append((task.case.id, task.kind, list(dict.fromkeys(one.start.name for one in wanted))))
        figures = dict.fromkeys(("bdsc", "sdsc_1mm", "hd95_mm", "msd_mm", "border_mm"), 0.5)
        dsc = {AS_IT_IS: 0.8, REG_SN: 0.85, REFINED: 0.9}
        return [
            one.row(task, dsc=dsc[one.way], error=self.fails if one.way == REG_SN else "", **figures) for one in wanted
        ]


@pytest.fixture(autouse=True)
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    stand_in = Runner()
    monkeypatch.setattr(refining, "rows_of", stand_in)
    return stand_in


STARTS = [f"start: {name}" for name in ("flat", "shifted", "holed", "half")]


def test_all_is_run_on_every_kind_and_printed_beside_the_published_rows(run, data, tmp_path, runner):
    output = tmp_path / "new" / "t.csv"
    result = run("benchmark", "table3", "--data", data, "-o", output, "--limit", 3)
    assert (result.code, result.err) == (0, "")
    assert len(runner.calls) == 3 * 7
    assert {kind for _, kind, _ in runner.calls} == set(refining.KINDS)
    assert runner.calls[0][2] == [PRIOR, *STARTS]
    assert {name for name, _, _ in runner.calls} <= set(load_split().test)
    assert "[21 of 21] " in result.out
    assert "SkullFix: Seg-SN + Reg-SN" in result.out
    assert "0.945              0.951                   1.278       0.334" in result.out
    assert "hemicraniectomy: 3 persons" in result.out
    assert "start: half: refined against Reg-SN" in result.out
    assert len(read_table(output, Row, "refinements")) == 21 * 15


def test_an_interrupted_run_goes_on(run, data, tmp_path, runner):
    words = ("benchmark", "table3", "--data", data, "-o", tmp_path / "t.csv", "--kind", "official", "--limit", 3)
    runner.stops_at = 2
    assert run(*words).code == 130
    runner.stops_at = -1
    result = run(*words)
    assert (result.code, len(runner.calls)) == (0, 3)
    assert "2 of 3 cases are in t.csv already" in result.out


def test_the_side_the_kinds_and_no_bad_starts(run, data, tmp_path, runner):
    words = ("--side", "validation", "--kind", "random_1", "--kind", "official", "--kind", "random_1", "--no-starts")
    result = run("benchmark", "table3", "--data", data, "-o", tmp_path / "t.csv", "--limit", 1, *words, "--json")
    assert [call[1:] for call in runner.calls] == [("random_1", [PRIOR]), ("official", [PRIOR])]
    assert runner.calls[0][0] in load_split().validation
    assert [row["way"] for row in json.loads(result.out)[:3]] == [AS_IT_IS, REG_SN, REFINED]


def test_runets_are_trained_as_by_table2_and_a_named_one_replaces_them(run, data, tmp_path, monkeypatch, runner):
    pytest.importorskip("torch", reason="torch is not installed: nothing was trained")
    asked = []

    def train_all(base: Any, names: Any, alphas: Any, tell: Any, *, device: str) -> list[Model]:
        asked.append((base, names, alphas, device))
        return [Model(name, "w", f"{name}.safetensors") for name in ("runet", "runet-sym")]

    monkeypatch.setattr(networks, "train_all", train_all)
    known = refining.model_of
    monkeypatch.setattr(
        refining, "model_of", lambda name: known(name) if name == PRIOR else Model("runet", "other", name)
    )
    words = ("--cache", tmp_path / "c.safetensors", "--steps", 600, "--prior", tmp_path / "s.safetensors")
    words += ("--work", tmp_path / "work", "--device", "cpu", "--model", "mine.safetensors")
    output = tmp_path / "t.csv"
    result = run("benchmark", "table3", "--data", data, "-o", output, "--kind", "official", "--limit", 1, *words)
    assert (result.code, result.err) == (0, "")
    ((base, names, alphas, device),) = asked
    assert (names, alphas, device) == (["runet"], (0.0, 1.0), "cpu")
    assert base.output == tmp_path / "work" / "weights" / "runet.safetensors"
    assert (base.optimisation.steps, base.data.prior) == (600, tmp_path / "s.safetensors")
    assert runner.calls[0][2] == [PRIOR, "runet", "runet-sym", *STARTS]
    assert {row.weights for row in read_table(output, Row, "refinements") if row.start == "runet"} == {"other"}


def test_a_refinement_that_fails_is_counted_named_and_run_again(run, data, tmp_path, runner):
    words = ("--data", data, "-o", tmp_path / "t.csv", "--kind", "official", "--limit", 1, "--no-starts")
    runner.fails = "the plane is lost"
    result = run("benchmark", "table3", *words)
    case = load_split().test
    assert result.code == 2
    assert f"FAILED: {runner.calls[0][0]} official {PRIOR}, Reg-SN: the plane is lost" in result.out
    assert result.err == f"calvaria: 1 of 3 patches failed, of {runner.calls[0][0]} official\n"
    assert runner.calls[0][0] in case
    runner.fails = ""
    assert run("benchmark", "table3", *words).code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--kind", "crater"), "no such kind of defect: crater; known are official, "),
        (("--side", "train"), "'train' is not one of 'validation', 'test'"),
        (("--model", "nobody"), "there is no model called 'nobody'"),
        (("--prior", "s.safetensors"), "--prior: sketches are for training the RUNets; give the training cache too"),
        (("--limit", "0"), "Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_call_is_one_line_before_any_work(run, data, tmp_path, runner, words, message):
    result = run("benchmark", "table3", "--data", data, "-o", tmp_path / "t.csv", *words)
    assert result.code == 2
    assert message in " ".join(result.err.split())
    assert not runner.calls
    assert not (tmp_path / "t.csv").exists()


def test_another_table_is_not_overwritten(run, data, tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    result = run("benchmark", "table3", "--data", data, "-o", tmp_path / "t.csv")
    assert (result.code, result.err) == (2, "calvaria: t.csv: not a table of refinements; name another file\n")
    assert (tmp_path / "t.csv").read_text() == "a,b\n1,2\n"
