"""The frame around the commands: help, version, and what becomes of an error."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import calvaria
from calvaria import errors
from calvaria.cli.app import EXTRAS

ROOT = Path(__file__).parents[2]

COMMANDS = (
    "reconstruct",
    "refine",
    "design",
    "evaluate",
    "compare",
    "correlate",
    "rank",
    "plane",
    "demo",
    "models",
    "serve",
    "dicom",
    "data",
    "train",
    "benchmark",
)


def test_the_version_is_the_packages(run):
    result = run("--version")
    assert (result.code, result.out) == (0, f"calvaria {calvaria.__version__}\n")


def test_without_a_word_the_help_names_every_command(run):
    result = run()
    listed = re.findall(r"^  ([a-z]+)  ", result.out + result.err, re.MULTILINE)
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example_of_its_command(run, command):
    result = run(command, "--help")
    assert result.code == 0
    examples = result.out.split("Examples:")[1].strip().splitlines()
    assert examples
    assert all(line.strip().startswith(f"calvaria {command}") for line in examples)


@pytest.mark.parametrize("command", COMMANDS)
def test_options_that_every_command_has(run, command):
    inner = {
        "dicom": ("dicom", "list"),
        "train": ("train", "symmetry"),
        "data": ("data", "check"),
        "benchmark": ("benchmark", "table1"),
    }
    words = inner.get(command, (command,))
    text = run(*words, "--help").out
    for option in ("--json", "-q, --quiet", "-v, --verbose", "-h, --help"):
        assert option in text


@pytest.mark.parametrize("words", [["paint"], ["reconstruct", "--colour", "red"], ["reconstruct", "--kind", "shoe"]])
def test_a_call_that_is_not_understood_exits_2(run, words):
    result = run(*words)
    assert result.code == 2
    assert words[-1] in result.err or words[1] in result.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InputError, 2),
        (errors.FormatError, 2),
        (errors.GeometryError, 2),
        (errors.MissingExtraError, 2),
        (errors.QualityError, 3),
        (errors.CalvariaError, 1),
    ],
)
def test_an_error_of_ours_is_one_line_and_its_exit_code(run, engine, skull, tmp_path, error, code):
    engine.error = error("a.nrrd: first\n  second line")
    result = run("reconstruct", skull, "-o", tmp_path / "out")
    assert (result.code, result.err) == (code, "calvaria: a.nrrd: first second line\n")
    assert not (tmp_path / "out").exists()


def test_an_unexpected_error_is_called_a_bug(run, engine, skull, tmp_path):
    engine.error = ZeroDivisionError("division by zero")
    result = run("reconstruct", skull, "-o", tmp_path / "out")
    assert result.code == 1
    assert re.fullmatch(
        r"calvaria: this is a bug, please report it .*: ZeroDivisionError: division by zero\n", result.err
    )


@pytest.mark.parametrize(
    "words",
    [
        "train symmetry --cache x -o y",
        "train reconstruction --cache x -o y --network runet",
        "train sketches --cache x -o y",
        "benchmark table2 --data x --cache x -o y",
        "data deformations x -o y",
    ],
)
def test_a_command_that_needs_torch_says_how_to_get_it(words, tmp_path):
    without = "import sys; sys.modules['torch'] = None; from calvaria.cli import main; sys.exit(main(sys.argv[1:]))"
    run = subprocess.run(
        [sys.executable, "-c", without, *words.split()], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert re.fullmatch(r"calvaria: [^\n]*torch[^\n]*: pip install 'calvaria\[train\]'\n", run.stderr)


def test_a_missing_package_that_is_not_optional_is_a_bug(run, engine, skull, tmp_path):
    engine.error = ModuleNotFoundError("No module named 'scipy'", name="scipy")
    assert run("reconstruct", skull, "-o", tmp_path / "out").code == 1


def test_the_extras_that_are_named_install_what_is_missed():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for package, extra in EXTRAS.items():
        wanted = package.replace("_", "-")
        assert any(re.match(rf"{wanted}\b", line) for line in extras[extra]), package


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), errors.InputError("bad")])
def test_the_traceback_is_shown_only_with_v(run, engine, skull, tmp_path, error):
    engine.error = error
    assert "Traceback" not in run("reconstruct", skull, "-o", tmp_path / "out").err
    loud = run("reconstruct", skull, "-o", tmp_path / "out", "-v").err
    assert "Traceback" in loud
    assert loud.splitlines()[-1].startswith("calvaria: ")


def test_an_interruption_exits_130_and_leaves_nothing(run, engine, skull, tmp_path):
    engine.error = KeyboardInterrupt()
    before = sorted(tmp_path.iterdir())
    assert run("reconstruct", skull, "-o", tmp_path / "out").code == 130
    assert sorted(tmp_path.iterdir()) == before


def test_out_of_memory_says_what_to_do(run, engine, skull, tmp_path):
    engine.error = MemoryError()
    result = run("reconstruct", skull, "-o", tmp_path / "out")
    assert result.code == 1
    assert result.err.startswith("calvaria: out of memory: crop the volume")


def test_an_interruption_before_the_command_begins_exits_130_too(run, monkeypatch):
    def interrupt(app):
        raise KeyboardInterrupt

    monkeypatch.setattr("calvaria.cli.app.typer.main.get_command", interrupt)
    result = run("models")
    assert (result.code, result.err) == (130, "calvaria: interrupted; nothing half written is left\n")


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "calvaria.cli", "reconstruct", "nowhere.nrrd", "-o", "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "calvaria: nowhere.nrrd: no such file or folder\n"
