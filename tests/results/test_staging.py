"""Results appear whole or not at all."""

from __future__ import annotations

import os

import pytest

from calvaria.errors import InputError
from calvaria.results.staging import require_room, staged

NAMES = ("patch.nrrd", "preview.png", "result.json")


def fill(folder, *names):
    for name in names:
        (folder / name).write_text("new")


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_files_arrive_in_a_folder_made_with_its_parents(tmp_path):
    output = tmp_path / "a" / "b"
    with staged(output, NAMES, last="result.json") as folder:
        fill(folder, "patch.nrrd", "result.json")
        assert not output.exists()
    assert contents(output) == {"patch.nrrd": "new", "result.json": "new"}
    assert [path.name for path in output.parent.iterdir()] == ["b"]


def test_files_of_an_earlier_run_give_way_and_others_stay(tmp_path):
    for name in (*NAMES, "notes.txt"):
        (tmp_path / name).write_text("old")
    with staged(tmp_path, NAMES, last="result.json") as folder:
        fill(folder, "patch.nrrd", "result.json")
    assert contents(tmp_path) == {"patch.nrrd": "new", "result.json": "new", "notes.txt": "old"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("exists", [True, False])
def test_an_error_leaves_everything_as_it_was(tmp_path, error, exists):
    output = tmp_path / "out"
    if exists:
        output.mkdir()
        (output / "result.json").write_text("old")
    with pytest.raises(error), staged(output, NAMES, last="result.json") as folder:
        fill(folder, "patch.nrrd", "result.json")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if exists else [])
    if exists:
        assert contents(output) == {"result.json": "old"}


def test_the_last_file_is_gone_while_the_others_move_and_comes_last(tmp_path, monkeypatch):
    (tmp_path / "result.json").write_text("old")
    moved = []

    def replace(source, target):
        assert not (tmp_path / "result.json").exists()
        moved.append(target.name)
        os.rename(source, target)

    monkeypatch.setattr("calvaria.results.staging.os.replace", replace)
    with staged(tmp_path, NAMES, last="result.json") as folder:
        fill(folder, "result.json", "patch.nrrd", "zebra.stl")
    assert moved == ["patch.nrrd", "zebra.stl", "result.json"]


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    output = tmp_path / "out"
    output.write_text("I am a file")
    with pytest.raises(InputError, match=r"out: cannot write the results there: it is a file; give another folder"):
        staged(output, NAMES, last="result.json").__enter__()


def test_a_full_disk_is_one_line_and_leaves_no_rest(tmp_path, monkeypatch):
    def replace(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("calvaria.results.staging.os.replace", replace)
    with (
        pytest.raises(InputError, match=r"cannot write the results there: No space left on device"),
        staged(tmp_path / "out", NAMES, last="result.json") as folder,
    ):
        fill(folder, "result.json")
    assert list((tmp_path / "out").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_room_is_looked_for_and_nothing_is_made(tmp_path):
    require_room(tmp_path / "a" / "b", NAMES)
    (tmp_path / "result.json").write_text("old")
    require_room(tmp_path, NAMES)
    assert contents(tmp_path) == {"result.json": "old"}


def test_a_folder_in_the_place_of_a_result_is_refused(tmp_path):
    (tmp_path / "preview.png").mkdir()
    with pytest.raises(
        InputError, match=r"preview\.png: this is a folder, where a file is to be written; take it away"
    ):
        require_room(tmp_path, NAMES)


def test_there_is_no_room_where_a_file_stands(tmp_path):
    (tmp_path / "out").write_text("I am a file")
    with pytest.raises(InputError, match=r"out: cannot write the results there: it is a file; give another folder"):
        require_room(tmp_path / "out", NAMES)
