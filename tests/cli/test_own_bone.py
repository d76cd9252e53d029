"""``--pre-op`` and ``--flap`` on the command line."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize("command", ["reconstruct", "design"])
@pytest.mark.parametrize(("option", "name"), [("--pre-op", "pre_op"), ("--flap", "flap")])
def test_a_scan_of_own_bone_reaches_the_pipeline(run, engine, designer, skull, truth, tmp_path, command, option, name):
    assert run(command, skull, "-o", tmp_path / "out", option, truth, "--no-preview").code in {0, 3}
    assert [set(call["own"]) for call in engine.calls if "own" in call] == [{name, "own_name"}]


def test_what_is_own_bone_is_said(run, engine, skull, truth, tmp_path):
    result = run("reconstruct", skull, "-o", tmp_path / "out", "--pre-op", truth, "--no-preview")
    assert (
        "own bone (pre-op): 97% of the patch, 99% of the rim met; surfaces of both scans 0.05 mm apart, 98% of the "
        "vault within 0.5 mm" in result.out
    )
    assert json.loads((tmp_path / "out" / "result.json").read_text())["own_bone"]["scan"] == "pre-op"
    flap = run("reconstruct", skull, "-o", tmp_path / "other", "--flap", truth, "--no-preview")
    assert "own bone (flap): 97% of the patch, 99% of the rim met; kerf 1.5 mm, step at the rim 0.3 mm" in flap.out


@pytest.mark.parametrize("command", ["reconstruct", "design"])
def test_a_folder_of_cases_both_and_a_missing_file_are_refused(run, engine, skull, truth, tmp_path, command):
    cases = run(command, skull.parent, "-o", tmp_path / "out", "--pre-op", truth)
    assert cases.code == 2
    assert "is one patient's, and" in cases.err
    both = run(command, skull, "-o", tmp_path / "out", "--pre-op", truth, "--flap", truth)
    assert both.code == 2
    assert "give one of them" in both.err
    none = run(command, skull, "-o", tmp_path / "out", "--flap", tmp_path / "none.nrrd")
    assert none.code == 2
    assert "there is no such file or folder" in none.err
    assert not (tmp_path / "out").exists()
