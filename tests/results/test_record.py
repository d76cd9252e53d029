"""The record of a case: typed here, plain in result.json."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import get_args

import pytest
from tests.cli.conftest import POSE

from calvaria import pipeline
from calvaria.io import write_result_json
from calvaria.metrics import Scores
from calvaria.pipeline import ModelUsed
from calvaria.reconstruction.confidence import Confidence
from calvaria.reconstruction.holes import Hole, LeftOpen
from calvaria.refinement.refine import RefinementReport
from calvaria.results import settings
from calvaria.results.record import Input, Patch, Record, Seconds, SymmetryPlane, rounded_refinement
from calvaria.results.settings import Settings
from calvaria.results.summary import summary_lines, timing_lines

RECORD = Record(
    versions={"calvaria": "1"},
    input=Input(".nrrd", (3, 4, 5), (1.0, 1.0, 2.0), "0" * 64),
    parameters=Settings(),
    patch=Patch(False, 12.5),
    holes=(Hole(12.5, 30.0, (1.0, 2.0, 3.0), "left parietal"),),
    left_open=(LeftOpen(0.5, 1.0, (4.0, 5.0, 6.0), "right frontal", "kept open by the user"),),
    plane=SymmetryPlane((1.0, 0.0, 0.0), 4.0),
    confidence=Confidence(0.93, "as it is"),
    model=ModelUsed("prior", "1" * 64, "none"),
    pose=POSE,
    warnings=("look",),
    seconds=Seconds({"read": 0.5}, {"pose": 0.25}, 0.75),
    peak_memory_mb=500.0,
    files=("patch.nrrd", "result.json"),
)


def test_the_layout_is_the_documented_one():
    found = RECORD.to_json()
    assert set(found) == {
        "schema",
        "versions",
        "input",
        "parameters",
        "patch",
        "holes",
        "left_open",
        "plane",
        "confidence",
        "model",
        "pose",
        "warnings",
        "seconds",
        "peak_memory_mb",
        "files",
        "checks",
    }
    assert found["schema"] == 2
    assert found["input"] == {"format": ".nrrd", "shape": [3, 4, 5], "spacing_mm": [1, 1, 2], "sha256": "0" * 64}
    assert found["patch"] == {"empty": False, "volume_ml": 12.5}
    assert found["holes"] == [
        {"volume_ml": 12.5, "area_cm2": 30.0, "centre_mm": [1.0, 2.0, 3.0], "place": "left parietal"}
    ]
    assert [(hole["place"], hole["reason"]) for hole in found["left_open"]] == [
        ("right frontal", "kept open by the user")
    ]
    assert found["checks"] == []
    assert found["plane"] == {"normal": [1.0, 0.0, 0.0], "offset_mm": 4.0}
    assert found["seconds"] == {"read": 0.5, "stages": {"pose": 0.25}, "total": 0.75}
    assert set(found["pose"]) == {"canonical_to_world", "scale", "mismatch", "scan_ends"}
    assert found["warnings"] == ["look"]


def test_writing_it_twice_gives_the_same_bytes_and_what_it_says(tmp_path):
    for name in "ab":
        write_result_json(tmp_path / name, RECORD.to_json())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert json.loads((tmp_path / "a").read_text()) == RECORD.to_json()


def test_scores_stand_in_it_where_there_are_some_and_infinity_is_null():
    found = replace(RECORD, scores=Scores(0.0, 0.0, math.inf, -100.0, 0))
    assert found.to_json()["scores"]["hd95_mm"] is None
    assert "against the truth: DSC 0.000, bDSC 0.000, HD95 infinite" in summary_lines(found)


def test_a_refinement_stands_in_it_where_there_was_one():
    done = RefinementReport(False, "by symmetry", 0.1234567, 0.1, 0.81234, 3.14159, 0.765432, 1.23456, 0.56789, 2.34567)
    found = replace(RECORD, refinement=rounded_refinement(done), given_patch=RECORD.input).to_json()
    assert found["refinement"] == {
        "declined": False,
        "reason": "by symmetry",
        "symmetry_before": 0.12346,
        "symmetry_after": 0.1,
        "mean_mm": 0.812,
        "max_mm": 3.142,
        "jacobian_min": 0.7654,
        "seconds": 1.235,
        "apart_mm": 0.568,
        "added_ml": 2.3457,
    }
    assert found["given_patch"] == found["input"]
    assert found["schema"] == 2  # added to, not changed


def test_a_refinement_in_words():
    done = RefinementReport(False, "by symmetry", 0.0312, 0.0241, 0.81, 3.14, 0.7, 1.0)
    line = "refined: moved by 0.8 mm on average, 3.1 mm at most; symmetry loss 0.031 -> 0.024 (by symmetry)"
    assert summary_lines(replace(RECORD, refinement=done))[3] == line
    declined = replace(done, declined=True, reason="the mirror side is damaged too")
    line = "left as it was: the mirror side is damaged too"
    assert summary_lines(replace(RECORD, refinement=declined))[3] == line


def test_a_record_in_words():
    assert summary_lines(RECORD) == [
        "hole 1: 12.5 ml, 30.0 cm2",
        "patch: 12.5 ml",
        "left open: 0.5 ml, 11 mm across, right frontal, at (4, 5, 6) mm: kept open by the user",
        "expected accuracy: DSC 0.93 (as it is)",
        "took 0.8 s, 500 MB",
    ]
    assert timing_lines(RECORD) == ["  read: 0.50 s", "    pose: 0.25 s"]
    said = replace(RECORD, warnings=(summary_lines(RECORD)[2],))
    assert not any(line.startswith("left open") for line in summary_lines(said))  # once is enough
    nothing = replace(
        RECORD, left_open=(), patch=Patch(True, 0.0), holes=(), confidence=Confidence(None, "why"), peak_memory_mb=None
    )
    assert summary_lines(nothing) == [
        "no defect of 5 ml or more found: the patch is empty, the completed skull is the input's bone",
        "expected accuracy: unknown (why)",
        "took 0.8 s",
    ]


def test_of_a_weights_file_only_the_name_is_kept():
    assert Settings("/home/mustermann/w.safetensors").without_folders() == Settings("w.safetensors")


@pytest.mark.parametrize("name", ["Kind", "Device"])
def test_the_choices_are_the_pipelines(name):
    assert get_args(getattr(settings, name)) == get_args(getattr(pipeline, name))
