"""`calvaria models`: what ships or was trained, and under which licence."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from calvaria.models import register


@pytest.fixture
def shipped(monkeypatch):
    model = SimpleNamespace(
        name="shape-prior",
        kind="shape",
        path=Path("/somewhere/shape-prior.safetensors"),
        sha256="0123456789abcdef" * 4,
        licence="CC BY-NC-SA 4.0",
        card="# Shape prior\n\nFitted to public skulls.",
        size_bytes=12_340_000,
    )
    monkeypatch.setattr("calvaria.models.available", lambda: [model], raising=False)
    return model


def test_the_table_has_size_and_licence(run, shipped):
    result = run("models")
    assert (result.code, result.err) == (0, "")
    assert "shape-prior shape 12.3 CC BY-NC-SA 4.0 0123456789ab" in " ".join(result.out.split())
    assert "Fitted to public skulls" not in result.out


def test_verbose_prints_the_card(run, shipped):
    assert shipped.card in run("models", "-v").out


def test_json_has_the_whole_hash_and_no_path(run, shipped):
    (model,) = json.loads(run("models", "--json").out)
    assert model["sha256"] == shipped.sha256
    assert model["file"] == "shape-prior.safetensors"
    assert "somewhere" not in str(model)


def test_a_folder_of_ones_own(run, tmp_path):
    (tmp_path / "net.safetensors").write_bytes(b"0" * 2_000_000)
    (tmp_path / "net.md").write_text("# My net")
    register(tmp_path / "net.safetensors", "my-net", "reconstruction-network", "MIT")
    result = run("models", str(tmp_path), "-v")
    assert (result.code, result.err) == (0, "")
    assert "my-net reconstruction-network 2.0 MIT" in " ".join(result.out.split())
    assert "# My net" in result.out
    assert "shape-prior" not in result.out


def test_a_folder_without_models_says_what_to_do(run, tmp_path):
    result = run("models", str(tmp_path / "none"))
    assert result.code == 2
    assert "no models here; `calvaria train` writes them" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("text", ["nothing", "[]", '{"models": [{"name": "x"}]}'])
def test_an_index_that_is_none(run, tmp_path, text):
    (tmp_path / "index.json").write_text(text)
    result = run("models", str(tmp_path))
    assert result.code == 2
    assert "index.json: no index of models" in result.err
    assert result.err.count("\n") == 1
