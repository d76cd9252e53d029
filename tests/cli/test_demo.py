"""`calvaria demo`: the sample is written, reconstructed from its file, and held against its truth."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import numpy as np
import pytest

from calvaria.io import read_mask


@pytest.fixture
def sample(monkeypatch, skull, truth):
    """A stand-in for the drawn sample; remembers the seeds asked for."""
    seeds: list[int] = []

    def sample_case(seed=0):
        seeds.append(seed)
        return read_mask(skull), read_mask(truth)

    module = ModuleType("calvaria.synthesis.sample")
    module.sample_case = sample_case  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "calvaria.synthesis.sample", module)
    return seeds


def test_the_demo_ends_with_figures_a_picture_and_the_files(run, engine, sample, tmp_path):
    out = tmp_path / "out"
    result = run("demo", "-o", out)
    assert (result.code, result.err) == (0, "")
    assert "against the truth: DSC 1.000, bDSC 1.000, HD95 0.00 mm" in result.out
    assert f"look at {out / 'preview.png'}" in result.out
    assert result.out.splitlines()[-1] == "research software, not a medical device"
    made = sorted(path.name for path in out.iterdir())
    assert {"defective.nrrd", "truth.nrrd", "patch.nrrd", "preview.png", "result.json"} <= set(made)
    assert [line for line in result.out.splitlines() if line.startswith(str(out))] == [str(out / name) for name in made]


def test_the_picture_shows_the_truth_beside_the_patch(run, engine, sample, truth, tmp_path):
    run("demo", "-o", tmp_path / "out")
    _, _, reference = next(call["drawn"] for call in engine.calls if "drawn" in call)
    assert np.array_equal(reference.mask, read_mask(truth).mask)


def test_seed_and_json(run, engine, sample, tmp_path):
    result = run("demo", "-o", tmp_path / "out", "--seed", "3", "--json", "--no-preview")
    assert sample == [3]
    record = json.loads(result.out)
    assert record["scores"]["dsc"] == 1.0
    assert record == json.loads((tmp_path / "out" / "result.json").read_text())
    assert not (tmp_path / "out" / "preview.png").exists()


def test_a_demo_that_finds_nothing_still_ends(run, engine, sample, tmp_path):
    engine.empty = True
    result = run("demo", "-o", tmp_path / "out")
    assert result.code == 0
    assert "no defect of 5 ml or more" in result.out
    assert "HD95 infinite" in result.out


def test_there_is_no_gpu_to_ask_for(run, engine, sample, tmp_path):
    assert run("demo", "-o", tmp_path / "out", "--device", "cuda").code == 2
    assert not (tmp_path / "out").exists()
