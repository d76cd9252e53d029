"""`calvaria models`: what ships, and under which licence."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest


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
