"""`calvaria benchmark cascade` on made-up sets; what completes and designs is a stand-in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.training.cascades import clinical_set

from calvaria.benchmarks import cascade
from calvaria.benchmarks.cascade import DESIGN, IMPLANT, PRIOR, Method, Row
from calvaria.benchmarks.rows import read_table
from calvaria.datasets.split import load_split

SPLIT = load_split()


@pytest.fixture
def data(tmp_path):
    """The test persons' skulls; what is in the files nobody reads."""
    folder = tmp_path / "autoimplant2020" / "training_set" / "complete_skull"
    folder.mkdir(parents=True)
    for name in SPLIT.test:
        (folder / f"{name.removeprefix('train-')}.nrrd").write_bytes(b"")
    return tmp_path / "autoimplant2020"


@pytest.fixture
def clinical(tmp_path):
    return clinical_set(tmp_path / "clinical", [*SPLIT.test[:3], SPLIT.train[0]], masks=False)


class Runner:
    """Stands for the work."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, list[str]]] = []
        self.fails, self.stops_at = "", -1

    def __call__(self, task: Any, wanted: Any, settings: Any) -> list[Row]:
        if len(self.calls) == self.stops_at:
            raise KeyboardInterrupt
        self.calls.append((task.case.id, task.kind, [f"{one.what} {one.method.name}" for one in wanted]))
        figures = dict.fromkeys(("bdsc", "hd95_mm", "msd_mm", "outer_mm", "border_mm"), 0.5)
        return [
            one.row(task, dsc=0.8, **figures, error=self.fails if one.what == DESIGN else "", checks=20.0)
            for one in wanted
        ]


@pytest.fixture(autouse=True)
def runner(monkeypatch):
    stand_in = Runner()
    monkeypatch.setattr(cascade, "rows_of", stand_in)
    return stand_in


WORDS = ("benchmark", "cascade")


def test_without_a_network_the_prior_and_the_parametric_implant_stand_alone(run, data, clinical, tmp_path, runner):
    result = run(*WORDS, "--data", data, "--clinical", clinical, "-o", tmp_path / "c.csv", "--kind", "official")
    assert result.code == 0
    assert result.err == (
        "calvaria: warning: 1 clinical cases are left out, their persons are on other sides of the split: c3\n"
    )
    assert len(runner.calls) == 3 + len(SPLIT.test)
    assert runner.calls[0] == ("c0", "clinical", ["designed parametric"])  # this set has no patches
    assert runner.calls[3][1:] == ("official", [f"patch {PRIOR}"])
    assert "patches, official: 15 persons" in result.out
    assert "Kodym 2021: multi-branch" not in result.out
    assert "implants as they are designed: 3 persons" in result.out
    assert len(read_table(tmp_path / "c.csv", Row, "the cascade")) == 18


def test_networks_are_named_and_those_who_they_know_are_counted(run, clinical, tmp_path, runner, monkeypatch):
    models = {"a": Method("implant", "w", "a", ("implant",)), "b": Method("mine", "v", "b", ("patch", "implant"))}
    monkeypatch.setattr(cascade, "methods_of", lambda words: [models[word.partition("=")[2]] for word in words])
    monkeypatch.setattr(cascade, "seen_by", lambda method, task: method.engine == "b" and task.case.id == "c1")
    words = ("--weights", "implant=a", "--weights", "mine=b", "--no-designs", "--json")
    result = run(*WORDS, "--clinical", clinical, "-o", tmp_path / "c.csv", *words)
    assert result.code == 0
    assert "mine: 1 cases are left out, it learned from their persons: c1 clinical" in result.err
    told = json.loads(result.out)
    assert told["left_out"] == {"mine": ["c1 clinical"]}
    assert told["elsewhere"] == ["c3"]
    assert {row["what"] for row in told["rows"]} == {IMPLANT}
    both, one = ["implant implant", "implant mine"], ["implant implant"]
    assert [call[2] for call in runner.calls] == [both, one, both]


def test_an_interrupted_run_goes_on_and_failed_rows_are_named(run, clinical, tmp_path, runner):
    words = (*WORDS, "--clinical", clinical, "-o", tmp_path / "c.csv", "--limit", 2)
    runner.stops_at = 1
    assert run(*words).code == 130
    runner.stops_at, runner.fails = -1, "no way in"
    result = run(*words)
    assert result.code == 2
    assert "1 of 2 cases are in c.csv already" in result.out
    assert "FAILED: c1 clinical parametric, designed: no way in" in result.out
    assert result.err.endswith("calvaria: 1 of 2 rows failed, of c1 clinical parametric\n")
    runner.fails = ""
    assert run(*words).code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to run: give --data FOLDER, --clinical FOLDER or both"),
        (("--weights", "net.safetensors"), "--weights net.safetensors: NAME=FILE is wanted, such as multi-branch="),
        (("--weights", "x=shape-prior"), "--weights x=shape-prior: this model is no cascade (calvaria train cascade"),
        (("--weights", "x=nowhere"), "there is no model called 'nowhere'"),
        (("--clinical", "nowhere"), "nowhere: no index.csv in it"),
        (("--data", "{data}", "--kind", "crater"), "no such kind of defect: crater; known are official, "),
    ],
)
def test_a_wrong_call_is_one_line_before_any_work(run, data, tmp_path, runner, words, message):
    said = [word.format(data=data) for word in words]
    result = run(*WORDS, *said, "-o", tmp_path / "c.csv")
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not runner.calls
    assert not (tmp_path / "c.csv").exists()
