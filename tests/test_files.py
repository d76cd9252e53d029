import os
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest

from calvaria.errors import InputError
from calvaria.files import (
    atomic_folder,
    atomic_path,
    require_file,
    require_writable,
    require_writable_file,
    save_arrays,
    write_csv,
    write_text,
)


def test_what_was_written_appears_under_its_name_alone(tmp_path):
    with atomic_path(tmp_path / "a.nii.gz") as part:
        assert part.parent == tmp_path
        assert part.name.endswith("a.nii.gz")
        part.write_bytes(b"new")
        assert not (tmp_path / "a.nii.gz").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]
    assert (tmp_path / "a.nii.gz").read_bytes() == b"new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_after_an_error_or_an_interruption_the_old_file_is_there_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.nrrd"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_path(path) as part:
        part.write_bytes(b"half")
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["a.nrrd"]
    assert path.read_bytes() == b"old"


def test_a_full_disk_is_one_line_with_the_name(tmp_path):
    full = pytest.raises(InputError, match=r"^a\.nrrd: cannot be written: No space left on device$")
    with full, atomic_path(tmp_path / "a.nrrd") as part:
        part.write_bytes(b"half")
        raise OSError(28, os.strerror(28))
    assert list(tmp_path.iterdir()) == []


def test_new_files_get_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_bytes(b"")
    with atomic_path(tmp_path / "a") as part:
        part.write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("name", ["n" * 245 + ".nrrd", "n" * 250 + ".nrrd", "ü" * 125 + ".nrrd"])
def test_a_very_long_name_can_be_written(tmp_path, name):
    with atomic_path(tmp_path / name) as part, atomic_path(tmp_path / name) as other:
        assert len({part, other, tmp_path / name}) == 3
        part.write_bytes(b"x")
        other.write_bytes(b"y")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"x"


def test_writing_into_a_missing_folder_or_over_a_folder_is_refused(tmp_path):
    no_folder = pytest.raises(InputError, match=r"cannot be written: the folder .*missing does not exist$")
    with no_folder, atomic_path(tmp_path / "missing" / "a.nrrd"):
        pass
    with pytest.raises(InputError, match=r"cannot be written: this is a folder$"), atomic_path(tmp_path):
        pass


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "empty.nrrd").write_bytes(b"")
    (tmp_path / "folder.nrrd").mkdir()
    os.mkfifo(tmp_path / "pipe.nrrd")
    for name, message in {
        "missing.nrrd": r"missing\.nrrd: there is no such file$",
        "empty.nrrd": r"^empty\.nrrd: the file is empty \(0 bytes\)$",
        "folder.nrrd": r"^folder\.nrrd: this is a folder; a file is wanted$",
        "pipe.nrrd": r"^pipe\.nrrd: this is not a regular file$",
    }.items():
        with pytest.raises(InputError, match=message):
            require_file(tmp_path / name)
    with pytest.raises(InputError, match=r"no such file|cannot be read"):
        require_file("a\0b.nrrd")


def test_a_file_without_permission_is_named(tmp_path, monkeypatch):
    path = tmp_path / "secret.nrrd"
    path.write_bytes(b"x")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)  # root may read everything
    with pytest.raises(InputError, match=r"^secret\.nrrd: cannot be read: Permission denied$"):
        require_file(path)


def test_a_folder_appears_whole_or_stays_what_it_was(tmp_path):
    home = tmp_path / "case"
    with atomic_folder(home) as part:
        (part / "a").write_text("1")
        assert not home.exists()
    with pytest.raises(KeyboardInterrupt), atomic_folder(home) as part:
        (part / "b").write_text("2")
        raise KeyboardInterrupt
    assert [path.name for path in home.iterdir()] == ["a"]
    with atomic_folder(home) as part:
        (part / "c").write_text("3")
    assert [path.name for path in home.iterdir()] == ["c"]
    assert [path.name for path in tmp_path.iterdir()] == ["case"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    with (
        pytest.raises(InputError, match=r"cannot be written .*; choose another folder"),
        atomic_folder(tmp_path / "no" / "x"),
    ):
        pass


def test_a_folder_that_can_be_made_or_written_to_is_fine_and_left_as_it_is(tmp_path):
    require_writable(tmp_path / "a" / "b")
    require_writable(tmp_path)
    require_writable_file(tmp_path / "a" / "b.csv")
    (tmp_path / "old.csv").write_text("old")
    require_writable_file(tmp_path / "old.csv")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"old.csv": "old"}


@pytest.mark.parametrize(("inside", "reason"), [((), "it is a file"), (("a", "b"), r"\S+file is a file")])
def test_a_file_in_a_folders_place_is_refused_at_any_depth(tmp_path, inside, reason):
    (tmp_path / "file").write_text("")
    folder = (tmp_path / "file").joinpath(*inside)
    wanted = rf"^{folder}: cannot write the results there: {reason}; give another folder with -o$"
    with pytest.raises(InputError, match=wanted):
        require_writable(folder)
    with pytest.raises(InputError, match=r"cannot write the results there"):
        require_writable_file(folder / "a.csv")


def test_a_link_that_leads_nowhere_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"link: cannot write the results there: it is a file"):
        require_writable(tmp_path / "link")


@pytest.mark.parametrize("depth", [0, 2])
def test_a_folder_that_refuses_files_is_found_by_trying(tmp_path, monkeypatch, depth):
    tried = []

    def refuse(dir):
        tried.append(dir)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("calvaria.files.tempfile.TemporaryFile", refuse)
    folder = tmp_path.joinpath(*["deeper"] * depth)
    with pytest.raises(InputError, match=r"cannot write the results there: Permission denied; give another folder"):
        require_writable(folder)
    assert tried == [tmp_path]


def test_a_drive_that_is_not_there_and_a_name_that_is_none_are_refused(monkeypatch, tmp_path):
    with pytest.raises(InputError, match=r"File name too long"):
        require_writable(tmp_path / ("x" * 300))
    with pytest.raises(InputError, match=r"null byte"):
        require_writable(tmp_path / "a\0b")

    def gone(self):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("calvaria.files.Path.lstat", gone)
    with pytest.raises(InputError, match=r"out: cannot write the results there: there is no /; give another folder"):
        require_writable(tmp_path / "out")


def test_a_file_needs_a_folder_that_is_there_where_none_will_be_made(tmp_path):
    with pytest.raises(InputError, match=r"b\.csv: cannot be written: the folder \S+a does not exist"):
        require_writable_file(tmp_path / "a" / "b.csv", parents=False)
    with pytest.raises(InputError, match="cannot be written: this is a folder"):
        require_writable_file(tmp_path)


def test_new_folders_get_the_usual_permissions(tmp_path):
    before = os.umask(0o022)
    try:
        with atomic_folder(tmp_path / "case"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "case").stat().st_mode & 0o777 == 0o755


def test_a_file_or_a_link_in_the_place_of_a_folder_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").write_text("mine")
    (tmp_path / "link").symlink_to("real")
    for name in ("file", "link"):
        refused = pytest.raises(InputError, match=rf"{name}: cannot be written \(Not a directory\)")
        with refused, atomic_folder(tmp_path / name) as part:
            (part / "b").write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "real"]
    assert [path.name for path in (tmp_path / "link").iterdir()] == ["a"]


def test_texts_tables_and_arrays_appear_whole(tmp_path):
    write_text(tmp_path / "a.txt", "über\nlang\n")
    write_csv(tmp_path / "a.csv", ["id", "note"], [["p1", "a, b"], ["p2", 1.5]])
    save_arrays(tmp_path / "a.npz", one=np.arange(3), two=np.array("text"))
    assert (tmp_path / "a.txt").read_bytes() == "über\nlang\n".encode()
    assert (tmp_path / "a.csv").read_bytes() == b'id,note\r\np1,"a, b"\r\np2,1.5\r\n'
    with np.load(tmp_path / "a.npz") as arrays:
        assert sorted(arrays) == ["one", "two"]
        assert arrays["one"].tolist() == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) == 3


ROUNDS = 200
"""Writes of each process: without names of their own, two that write at once collide within a few."""


def write_a_file(path, who):
    for _ in range(ROUNDS):
        write_text(path, who * 5000)


def write_arrays_often(path, who):
    for _ in range(ROUNDS):
        save_arrays(path, who=np.full(500, ord(who)))


def fill_a_folder(path, who):
    for _ in range(ROUNDS):
        with atomic_folder(path) as part:
            write_text(part / "a", who)
            write_text(part / "b", who)


def at_once(write, path):
    """Two processes that write the same; their exit codes."""
    context = get_context("spawn")
    processes = [context.Process(target=partial(write, path, who)) for who in "xy"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    return [process.exitcode for process in processes]


def test_two_processes_that_write_one_file_both_succeed_and_the_last_wins(tmp_path):
    assert at_once(write_a_file, tmp_path / "a.txt") == [0, 0]
    assert (tmp_path / "a.txt").read_text() in ("x" * 5000, "y" * 5000)
    assert at_once(write_arrays_often, tmp_path / "a.npz") == [0, 0]
    with np.load(tmp_path / "a.npz") as arrays:
        assert len(set(arrays["who"])) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "a.txt"]


def test_two_processes_that_fill_one_folder_both_succeed_and_the_last_wins(tmp_path):
    assert at_once(fill_a_folder, tmp_path / "case") == [0, 0]
    assert len({path.read_text() for path in (tmp_path / "case").iterdir()}) == 1
    assert sorted(path.name for path in (tmp_path / "case").iterdir()) == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir()] == ["case"]
