"""``calvaria data make-defects``: the glue; what it calls is tested in tests/data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calvaria.synthesis.defects import make as module
from calvaria.synthesis.defects.make import Made, Settings


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A stand-in for the API that remembers its calls; skulls called "bad" fail, "bug" by our fault."""
    seen: list[dict[str, Any]] = []

    def make(
        skulls: dict[str, Path],
        output: Path,
        settings: Settings,
        *,
        jobs: int,
        progress: object,
        tell: Callable[..., None],
    ) -> Made:
        seen.append({"skulls": skulls, "output": output, "settings": settings, "jobs": jobs})
        made = Made({name: {"defects": {}} for name in skulls if name not in {"bad", "bug"}}, ["000"])
        for name in sorted({"bad", "bug"} & set(skulls)):
            made.failed[name] = "no skull"
            tell(name, "no skull")
        made.bugs += ["bug"] if "bug" in skulls else []
        return made

    monkeypatch.setattr(module, "make_defects", make)
    return seen


def folder_of(path: Path, *names: str) -> Path:
    path.mkdir(parents=True)
    for name in names:
        (path / f"{name}.nrrd").write_text("x", encoding="utf-8")
    return path


def test_options_arrive(calls, run, tmp_path):
    source = folder_of(tmp_path / "in", "000", "001")
    words = ("--kind", "ball", "--kind", "multiple", "--per-kind", 2, "--rim", "healing", "--seed", 7, "--jobs", 3)
    done = run("data", "make-defects", source, "-o", tmp_path / "out", *words)
    assert done.code == 0
    (call,) = calls
    assert call["settings"] == Settings(("ball", "multiple"), 2, ("healing",), 7)
    assert (sorted(call["skulls"]), call["jobs"], call["output"]) == (["000", "001"], 3, tmp_path / "out")
    assert done.out == f"2 of 2 skulls, 8 defects (1 were there already): {tmp_path / 'out'}\n"


@pytest.mark.parametrize("inner", ["", "complete_skull", "training_set/complete_skull"])
def test_the_skulls_of_a_set_are_found(calls, run, tmp_path, inner):
    folder_of(tmp_path / "in" / inner, "000")
    assert run("data", "make-defects", tmp_path / "in", "-o", tmp_path / "out").code == 0
    assert calls[0]["skulls"] == {"000": tmp_path / "in" / inner / "000.nrrd"}
    assert calls[0]["settings"] == Settings()


@pytest.mark.parametrize(("name", "code"), [("bad", 2), ("bug", 1)])
def test_bad_skulls_are_named_and_counted(calls, run, tmp_path, name, code):
    done = run("data", "make-defects", folder_of(tmp_path / "in", "000", name), "-o", tmp_path / "out", "--json")
    assert done.code == code
    assert f"calvaria: {name}: no skull\n" in done.err
    assert done.err.endswith(f"calvaria: 1 of 2 skulls failed: {name}\n")
    answer = json.loads(done.out)
    assert answer["failed"] == {name: "no skull"}
    assert list(answer["skulls"]) == ["000"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--kind", "orbital"), "there is no kind 'orbital'"),
        (("--rim", "rusting"), "there is no change of the rim 'rusting'"),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(calls, run, tmp_path, words, text):
    done = run("data", "make-defects", folder_of(tmp_path / "in", "000"), "-o", tmp_path / "out", *words)
    assert (done.code, done.out, calls) == (2, "", [])
    assert text in done.err
    assert done.err.count("\n") == 1


def test_a_folder_that_is_not_there_or_empty_is_refused(calls, run, tmp_path):
    done = run("data", "make-defects", tmp_path / "none", "-o", tmp_path / "out")
    assert done.code == 2
    assert "there is no such folder; give one of complete skulls" in done.err
    done = run("data", "make-defects", folder_of(tmp_path / "in"), "-o", tmp_path / "out")
    assert done.code == 2
    assert "no image in this folder" in done.err


def test_help_has_examples(run):
    done = run("data", "make-defects", "--help")
    assert done.code == 0
    assert "calvaria data make-defects autoimplant2020 -o defects" in done.out
