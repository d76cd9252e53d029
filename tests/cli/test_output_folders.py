"""An output that cannot be written is said before anything is read, whatever the command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from calvaria.skull.segment import BONE_HU

IMAGE = ("calvaria.io.read_volume", "calvaria.io.read_mask")
COMMANDS = {
    "reconstruct SKULL -o OUT": IMAGE,
    "reconstruct FOLDER -o OUT": ("calvaria.cli.reconstruct.find_cases",),
    "refine SKULL SKULL -o OUT": IMAGE,
    "design SKULL -o OUT": IMAGE,
    "design FOLDER -o OUT": ("calvaria.cli.design.designable",),
    "demo -o OUT": ("calvaria.synthesis.sample.sample_case",),
    "evaluate SKULL SKULL --defective SKULL -o OUT": IMAGE,
    "evaluate SKULL SKULL --defective SKULL --csv OUT": IMAGE,
    "evaluate FOLDER FOLDER --defective FOLDER -o OUT": ("calvaria.results.evaluation.find_cases",),
    "correlate a.csv b.csv -o OUT": ("calvaria.io.scores.read_scores",),
    "data fetch autoimplant2020 -o OUT": ("calvaria.download.acquire.plan_for",),
    "data make-defects FOLDER -o OUT": ("calvaria.cli.data.make_defects.find_cases",),
    "data simulate-clinical --data FOLDER -o OUT": ("calvaria.datasets.catalog.autoimplant2020",),
    "data import-clinical a.csv -o OUT": ("calvaria.clinical.importing.import_clinical",),
    "data cache FOLDER -o OUT.safetensors": ("calvaria.datasets.catalog.read_set",),
    "data deformations a.safetensors -o OUT.safetensors": ("calvaria.synthesis.between.build_deformations",),
    "data duplicates FOLDER -o OUT": ("calvaria.datasets.catalog.find_sets",),
    "data split FOLDER -o OUT": ("calvaria.datasets.catalog.find_sets",),
    "train symmetry --cache a.safetensors -o OUT": ("calvaria.training.symmetry.build",),
    "train reconstruction --cache a.safetensors -o OUT": ("calvaria.training.reconstruction.build",),
    "train sketches --cache a.safetensors -o OUT": ("calvaria.training.sketches.build_sketches",),
    "train shape-prior --data FOLDER -o OUT": ("calvaria.training.shape_prior.build",),
    "benchmark table1 --data FOLDER -o OUT": ("calvaria.benchmarks.planes.tasks_by_side",),
    "benchmark table2 --data FOLDER --cache a.safetensors -o OUT": ("calvaria.benchmarks.cases.tasks_of",),
    "benchmark table3 --data FOLDER -o OUT": ("calvaria.benchmarks.cases.tasks_of",),
    "benchmark table4 --data FOLDER -o OUT": ("calvaria.benchmarks.comparison.tasks_of",),
}
"""Command -> what it would read or work with first."""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_in_the_outputs_place_is_said_before_any_work(run, skull, tmp_path, monkeypatch, command):
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("work has begun")

    for name in COMMANDS[command]:
        __import__(name.rpartition(".")[0])
        monkeypatch.setattr(name, refuse)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    places = {"OUT": tmp_path / "file" / "out", "SKULL": skull, "FOLDER": tmp_path / "folder"}
    words = [word for part in command.split() for word in _filled(part, places)]
    result = run(*words)
    assert (result.code, result.out) == (2, "")
    place = next(word for word in words if word.startswith(str(tmp_path / "file")))
    assert result.err == (
        f"calvaria: {place}: cannot write the results there: {tmp_path / 'file'} is a file; "
        "give another folder with -o\n"
    )
    assert (tmp_path / "file").read_text() == ""


def _filled(word: str, places: dict[str, Path]) -> list[str]:
    name, dot, ending = word.partition(".")
    return [f"{places[name]}{dot}{ending}"] if name in places else [word]


def test_a_folder_that_refuses_files_is_found_before_reading(run, engine, skull, tmp_path, monkeypatch):
    """Permissions do not stop root: the refusal itself is a stand-in."""

    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("calvaria.files.tempfile.TemporaryFile", refuse)
    result = run("reconstruct", skull, "-o", tmp_path / "out")
    assert result.code == 2
    wanted = "cannot write the results there: Permission denied; give another folder with -o"
    assert result.err == f"calvaria: {tmp_path / 'out'}: {wanted}\n"
    assert not engine.calls


@pytest.mark.skipif(sys.platform != "linux", reason="/sys is Linux's")
def test_a_file_system_that_holds_no_files_is_found_before_reading(run, engine, skull):
    result = run("reconstruct", skull, "-o", "/sys/out")
    assert result.code == 2
    assert result.err.startswith("calvaria: /sys/out: cannot write the results there: ")
    assert not engine.calls


def test_the_default_bone_threshold_that_is_told_is_the_one_used(run):
    for command in ("reconstruct", "refine", "plane"):
        told = " ".join(run(command, "--help").out.split())
        assert f"Bone of a CT ends at it. [default: half way up its edge, at {BONE_HU:g} or above]" in told
