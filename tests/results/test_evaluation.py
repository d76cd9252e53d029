"""Cases scored from their files; the command's own words are tested with it (tests/cli/test_evaluate.py)."""

from __future__ import annotations

import os
import shutil
import signal

import numpy as np
import pytest

from calvaria.errors import InputError
from calvaria.io import read_mask, write_volume
from calvaria.results import evaluation
from calvaria.results.evaluation import Files, Folder, match_files, score_all, write_folder


def die(case: tuple[str, Files]) -> str:
    if case[0] == "a":
        os.kill(os.getpid(), signal.SIGKILL)
    return "scored"


@pytest.fixture
def folders(tmp_path, skull, truth):
    """Patches, truths and skulls of three cases; one lacks its truth, one its skull, one truth its patch."""
    for part, source, names in (("patches", truth, "abc"), ("truths", truth, "abd"), ("skulls", skull, "acd")):
        (tmp_path / part).mkdir()
        for name in names:
            shutil.copy(source, tmp_path / part / f"{name}.{part}.nrrd")
    return [tmp_path / part for part in ("patches", "truths", "skulls")]


def test_files_are_matched_and_what_is_missing_is_told(folders, capsys):
    found = match_files(*folders)
    assert list(found.files) == ["a"]
    assert found.failed == {"b": "no file of that name in skulls", "c": "no file of that name in truths"}
    assert found.unused == ["d"]
    assert tuple(capsys.readouterr()) == ("", "")


def test_a_case_whose_process_died_is_a_line(monkeypatch, skull, truth):
    monkeypatch.setattr(evaluation, "_attempt", die)
    found = dict(score_all(dict.fromkeys("ab", Files(truth, truth, skull)), 2))
    assert found["a"] == "a worker process died, probably for want of memory; use fewer --jobs"


def test_want_of_memory_costs_the_one_case(monkeypatch, skull, truth):
    def fail(files):
        raise MemoryError

    monkeypatch.setattr(evaluation, "score_files", fail)
    assert dict(score_all({"a": Files(truth, truth, skull)})) == {"a": "out of memory: use fewer --jobs"}


def test_a_folder_is_written_without_a_word_and_what_is_left_out_is_given_back(skull, truth, tmp_path, capsys):
    empty = tmp_path / "empty.nrrd"
    volume = read_mask(truth)
    write_volume(empty, volume.with_data(np.zeros(volume.shape, bool)))
    files = {"a": Files(truth, empty, skull)}
    scores = {name: found for name, found in score_all(files) if isinstance(found, dict)}
    told: list[tuple[str, float]] = []
    left_out = write_folder(
        Folder(tmp_path / "out", ["a"]), scores, {"b": "bad"}, files, lambda *state: told.append(state)
    )
    assert left_out == ["a: the true patch is empty; there are no errors to draw"]
    assert told == [("drawing a", 0.0)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "scores.csv", "scores.json"]
    assert tuple(capsys.readouterr()) == ("", "")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"out: cannot write the results there: \S+file is a file"):
        write_folder(Folder(tmp_path / "file" / "out", []), {}, {}, {})
