"""One case from its file to its folder: what is given back, what is said, and what comes before any work."""

from __future__ import annotations

import json

import pytest

from calvaria.errors import InputError
from calvaria.io import read_mask
from calvaria.results.case import run_case
from calvaria.results.settings import Settings


@pytest.fixture
def unread(monkeypatch):
    """Reading an input is an error."""

    def refuse(path, **options):
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("calvaria.io.read_volume", refuse)


def test_what_is_given_back_is_what_the_file_holds_and_nothing_is_printed(engine, skull, truth, tmp_path, capsys):
    told = []
    record = run_case(skull, tmp_path / "out", Settings(), lambda *state: told.append(state), read_mask(truth))
    assert record.to_json() == json.loads((tmp_path / "out" / "result.json").read_text())
    assert record.scores is not None
    assert record.scores.dsc == 1.0
    assert record.files == tuple(sorted(path.name for path in (tmp_path / "out").iterdir()))
    assert record.model.name == "stand-in"
    assert tuple(capsys.readouterr()) == ("", "")
    assert [fraction for _, fraction in told] == sorted(fraction for _, fraction in told)
    assert told[0] == ("read", 0.0)
    assert told[-1] == ("done", 1.0)


def test_the_threshold_is_handed_on_and_recorded(engine, skull, tmp_path):
    record = run_case(skull, tmp_path / "out", Settings(kind="ct", threshold_hu=300.0, preview=False))
    assert engine.calls[0]["threshold_hu"] == 300.0
    assert record.to_json()["parameters"]["threshold_hu"] == 300.0


def test_a_folder_that_cannot_be_written_is_found_before_reading(engine, unread, skull, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"out: cannot write the results there: \S+file is a file; give another"):
        run_case(skull, tmp_path / "file" / "out", Settings())
    (tmp_path / "out" / "patch.stl").mkdir(parents=True)
    with pytest.raises(InputError, match=r"patch\.stl: this is a folder, where a file is to be written"):
        run_case(skull, tmp_path / "out", Settings())
    with pytest.raises(AssertionError, match="was read"):  # the check alone did not stop it
        run_case(skull, tmp_path / "fine", Settings())
    assert not (tmp_path / "fine").exists()
