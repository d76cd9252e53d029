import os

import pytest

from calvaria.errors import InputError
from calvaria.files import atomic_folder, atomic_path, require_file


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


def test_a_very_long_name_can_be_written(tmp_path):
    with atomic_path(tmp_path / ("n" * 250 + ".nrrd")) as part:
        part.write_bytes(b"x")
    assert len(list(tmp_path.iterdir())) == 1


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
