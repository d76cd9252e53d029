"""`calvaria plane`: the glue, with a stand-in for the estimate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.conftest import shell

from calvaria.errors import InputError
from calvaria.io import write_volume
from calvaria.symmetry import estimate as module
from calvaria.symmetry.estimate import PlaneEstimate
from calvaria.symmetry.plane import Plane
from calvaria.volume import Volume

SURE = PlaneEstimate(Plane([1.0, 0.0, 0.0], 12.5), "network+optimise", 0.0123, 0.5, 0.4, 0.2, np.zeros(3))
DOUBTED = PlaneEstimate(
    Plane([0.0, 1.0, 0.0], 1.0), "network", 0.6, 2.5, None, None, np.zeros(3), ("the two sides differ",)
)


@pytest.fixture
def estimates(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the stand-in answers, and what it was asked."""
    told: dict[str, Any] = {"answers": [SURE], "asked": []}

    def stand_in(mask: Volume, method: str, **options: Any) -> PlaneEstimate:
        told["asked"].append((method, options))
        answer = told["answers"][(len(told["asked"]) - 1) % len(told["answers"])]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(module, "estimate_plane", stand_in)
    return told


@pytest.fixture
def skull(tmp_path: Path) -> Path:
    write_volume(tmp_path / "skull.nrrd", shell())
    return tmp_path / "skull.nrrd"


def test_a_plane_is_told_in_words_and_as_json(run, estimates, skull):
    result = run("plane", skull)
    assert result.code == 0
    assert "plane: normal 1.0000 0.0000 0.0000, offset 12.50 mm" in result.out
    assert "symmetry loss 0.012, sides 0.5 mm apart; network and optimiser 0.4 degrees and 0.2 mm apart" in result.out
    told = json.loads(run("plane", skull, "--json").out)
    assert told["offset_mm"] == 12.5
    assert told["case"] == "skull"
    assert told["doubts"] == []


def test_method_model_and_up_are_handed_on(run, estimates, skull):
    assert run("plane", skull, "--method", "network", "--model", "symmetry-resnet", "--up", 0, -1, 0).code == 0
    assert estimates["asked"] == [("network", {"model": "symmetry-resnet", "up": (0.0, -1.0, 0.0)})]


def test_a_doubted_plane_ends_with_code_3(run, estimates, skull):
    estimates["answers"] = [DOUBTED]
    result = run("plane", skull)
    assert result.code == 3
    assert "the two sides differ" in result.err
    assert "network and optimiser" not in result.out


def test_a_bad_case_of_a_folder_is_named_and_the_rest_go_on(run, estimates, tmp_path):
    for name in ("a", "b", "c"):
        write_volume(tmp_path / f"{name}.nrrd", shell())
    estimates["answers"] = [SURE, InputError("there is no bone: the mask is empty"), SURE]
    result = run("plane", tmp_path)
    assert result.code == 2
    assert "b: there is no bone" in result.err
    assert "a: plane:" in result.out
    assert "c: plane:" in result.out


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("--method", "guess"), "--method is one of network, optimise, network+optimise; got 'guess'"),
        (("--up", "0", "0", "0"), "up is a direction"),
    ],
)
def test_bad_options_are_one_line(run, estimates, skull, arguments, wanted):
    result = run("plane", skull, *arguments)
    assert result.code == 2
    assert wanted in result.err


def test_a_file_that_is_not_there_is_one_line(run, estimates, tmp_path):
    result = run("plane", tmp_path / "none.nrrd")
    assert result.code == 2
    assert "no such file or folder" in result.err


def test_a_bone_threshold_for_a_mask_is_refused(run, estimates, skull):
    result = run("plane", skull, "--threshold-hu", 300)
    assert result.code == 2
    assert "a bone threshold of 300 HU is given, but the volume is a mask, which has no HU: leave" in result.err
    assert not estimates["asked"]
