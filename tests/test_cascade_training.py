"""The script that trains the cascade within a budget: its commands are there, and a later call goes on."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path

import pytest
import typer.main

from calvaria.cli.app import app

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "cascade_training.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("cascade_training", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def words(tmp_path):
    return ["--data", "set", "--folder", str(tmp_path / "cascade")]


class Runner:
    """Stands for the processes."""

    def __init__(self, script, monkeypatch):
        self.commands, self.asked, self.fails = [], [], ""
        monkeypatch.setattr(script, "run", self.run)
        monkeypatch.setattr(script, "output_of", self.output_of)

    def run(self, command, end):
        self.commands.append(command)
        return 130 if self.fails and self.fails in command[-3] + command[2] else 0

    def output_of(self, command):
        self.asked.append(command)
        return json.dumps({"minutes": 100.0})


def test_every_command_and_option_is_there(script, words, tmp_path, capsys):
    models = [*script.SHARES, *script.OTHERS]
    all_of_them = ["--population", str(tmp_path / "p.json"), "--prior", "--commands", "--models", *models]
    assert script.main([*words, *all_of_them]) == 0
    lines = [line.split()[1:] for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [
        ["data", "cache"],
        ["data", "simulate-clinical"],
        ["data", "import-clinical"],
        *[["train", "cascade"]] * 10,
        ["data", "simulate-clinical"],
        ["data", "import-clinical"],
        ["benchmark", "cascade"],
    ]
    group = typer.main.get_command(app)
    for first, second, *rest in lines:
        command = group.commands[first].commands[second]
        known = {name for one in command.params for name in one.opts}
        given = {word.partition("=")[0] for word in rest if word.startswith("-")}
        assert given <= known, (first, second, given - known)
    assert not (tmp_path / "cascade").exists()


def test_steps_fill_a_models_share_of_the_budget_and_stay(script, words, tmp_path, monkeypatch):
    runner = Runner(script, monkeypatch)
    assert script.main([*words, "--budget", "360", "--models", "multi-branch", "patch"]) == 0
    plan = json.loads((tmp_path / "cascade" / "plan.json").read_text())
    # Of 360 minutes two thirds and a third, and of those nine tenths, in hundreds; 1000 steps take 100 minutes.
    assert plan == {"multi-branch": 2200, "patch": 1100}
    trained = [command for command in runner.commands if command[0] == "train"]
    assert [command[-2:] for command in trained] == [["--steps", "2200"], ["--steps", "1100"]]
    assert len(runner.asked) == 2
    script.main([*words, "--budget", "10", "--models", "multi-branch", "patch"])
    assert len(runner.asked) == 2  # a training goes on with as many steps


def test_a_piece_ends_where_the_time_is_over(script, words, monkeypatch):
    runner = Runner(script, monkeypatch)
    runner.fails = "import-clinical"
    monkeypatch.setattr(script, "run", lambda command, end: runner.run(command, end) or 130 * (command[1] == "cache"))
    assert script.main(words) == 130
    assert len(runner.commands) == 1


def test_what_runs_too_long_is_interrupted_and_a_training_is_told_its_time(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "_calvaria", lambda command: ["sleep", "20"])
    began = time.monotonic()
    assert script.run(["data", "cache"], began + 0.2) == 130
    assert time.monotonic() - began < 10
    assert script.run(["data", "cache"], began) == 130  # not begun
    told = []
    monkeypatch.setattr(script, "_calvaria", lambda command: told.append(command) or ["true"])
    command = ["train", "cascade", "-o", str(tmp_path / "x.safetensors")]
    assert script.run(command, time.monotonic() + 90) == 130  # it ended, and there are no weights yet
    assert told[0][-2] == "--minutes"
    assert 1.4 < float(told[0][-1]) <= 1.5
    (tmp_path / "x.safetensors").write_bytes(b"")
    assert script.run(command, time.monotonic() + 90) == 0
    assert "the time is over: the same call goes on" in capsys.readouterr().out


def test_without_a_population_nothing_is_rescaled(script, words, capsys):
    script.main([*words, "--commands", "--until", "models"])
    said = capsys.readouterr().out
    assert "--match" not in said
    assert "rescaled" not in said
    assert "benchmark" not in said


def test_ablations_share_their_cases_and_take_the_steps_that_are_asked_for(script, words, monkeypatch, tmp_path):
    runner = Runner(script, monkeypatch)
    models = ["bare", "with-doubt", "behind-prior"]
    script.main([*words, "--until", "models", "--models", *models, "--steps", "300", "--warmup", "50"])
    trained = [command for command in runner.commands if command[0] == "train"]
    assert not runner.asked
    kept = [Path(command[command.index("--kept-cases") + 1]).name for command in trained]
    assert kept == ["cases-doubt", "cases-doubt", "cases-behind"]
    assert [command[-2:] for command in trained] == [["--steps", "300"]] * 3
    assert ["--doubt" in command for command in trained] == [False, True, False]
    assert ["--clinical" in command for command in trained] == [False, False, True]
