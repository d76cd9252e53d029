"""A given patch from its file to its folder."""

from __future__ import annotations

import json
from threading import Barrier

import pytest
from PIL import Image
from tests.cli.conftest import MOVED

from calvaria.errors import InputError
from calvaria.io import read_mask
from calvaria.results.record import rounded_refinement
from calvaria.results.refining import run_refine
from calvaria.results.settings import Settings


def test_what_is_given_back_is_what_the_file_holds(engine, skull, truth, tmp_path, capsys):
    told = []
    record = run_refine(skull, truth, tmp_path / "out", Settings(), lambda *state: told.append(state))
    assert record.to_json() == json.loads((tmp_path / "out" / "result.json").read_text())
    assert record.files == tuple(sorted(path.name for path in (tmp_path / "out").iterdir()))
    assert "refinement.png" in record.files
    assert record.refinement == rounded_refinement(MOVED)
    assert record.parameters.refine
    assert tuple(capsys.readouterr()) == ("", "")
    assert [fraction for _, fraction in told] == sorted(fraction for _, fraction in told)
    assert (told[0], told[-1]) == (("read", 0.0), ("done", 1.0))


def test_the_picture_shows_the_patch_before_and_after(engine, skull, truth, tmp_path):
    run_refine(skull, truth, tmp_path / "out", Settings())
    bone, before, after, _ = next(call["moved"] for call in engine.calls if "moved" in call)
    assert (before.mask == read_mask(truth).mask).all()
    assert (after.mask == read_mask(truth).mask).all()
    assert (bone.mask == read_mask(skull).mask).all()


def test_a_folder_that_cannot_be_written_is_found_before_reading(engine, monkeypatch, skull, truth, tmp_path):
    def refuse(path, **options):
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("calvaria.io.read_volume", refuse)
    (tmp_path / "out" / "refinement.png").mkdir(parents=True)
    with pytest.raises(InputError, match=r"refinement\.png: this is a folder, where a file is to be written"):
        run_refine(skull, truth, tmp_path / "out", Settings())


def test_both_pictures_are_drawn_at_the_same_time(engine, monkeypatch, skull, truth, tmp_path):
    met = Barrier(2, timeout=20)

    def waiting(*given, **asked):
        met.wait()
        return Image.new("RGB", (4, 4))

    monkeypatch.setattr("calvaria.report.render_case", waiting)
    monkeypatch.setattr("calvaria.report.render_refinement", waiting)
    record = run_refine(skull, truth, tmp_path / "out", Settings())
    assert {"preview.png", "refinement.png"} < set(record.files)


@pytest.mark.parametrize("which", ["render_case", "render_refinement"])
def test_a_picture_that_fails_leaves_no_results_behind(engine, monkeypatch, skull, truth, tmp_path, which):
    def fail(*given, **asked):
        raise InputError("there is nothing to draw")

    monkeypatch.setattr(f"calvaria.report.{which}", fail)
    with pytest.raises(InputError, match="there is nothing to draw"):
        run_refine(skull, truth, tmp_path / "out", Settings())
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
