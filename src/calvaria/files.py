"""A file that is to be read exists; a file that is written is whole or not there at all."""

from __future__ import annotations

import csv
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from calvaria.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PathLike = str | os.PathLike[str]

TRIES = 20
"""How often a folder is put in its place while others put theirs there."""

TAIL_BYTES = 200
"""So much of a name's end is in the name of its temporary file: most file systems stop at 255 bytes."""


def require_file(path: PathLike) -> Path:
    """The path of a file that exists and holds something.

    Raises:
        InputError: there is no such file, it is a folder, a device or empty, or it cannot be read.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{path.name or path}: this is a folder; a file is wanted")
        if not path.exists():
            raise InputError(f"{path}: there is no such file")
        if not path.is_file():
            raise InputError(f"{path.name}: this is not a regular file")
        if path.stat().st_size == 0:
            raise InputError(f"{path.name}: the file is empty (0 bytes)")
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise InputError(f"{path.name}: cannot be read: {_reason(error)}") from error
    return path


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    r"""A path to write to; what was written takes the place of ``path`` when the block ends without an error.

    The temporary file lies beside ``path`` (a rename within one folder is atomic), keeps its extension and has a name
    of its own: of several processes that write one file at once none fails, and the last wins. After an error or an
    interruption the temporary file is gone and ``path`` is what it was before.

    Raises:
        InputError: the folder does not exist, ``path`` is itself a folder, or the disk refuses the file.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_path(folder / "a.txt") as part:
    ...     _ = part.write_text("whole")
    >>> [p.name for p in folder.iterdir()]
    ['a.txt']
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: cannot be written: this is a folder")
    if not path.parent.is_dir():
        raise InputError(f"{path}: cannot be written: the folder {path.parent} does not exist")
    part = _beside(path)
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path.name}: cannot be written: {_reason(error)}") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; it takes the place of ``path`` when the block ends without an error.

    After an error or an interruption the temporary folder, which lies beside ``path``, is gone and ``path`` is what it
    was before. Of several processes that fill one folder at once none fails, and the last wins.

    Raises:
        InputError: the disk refuses.
    """
    part = _beside(path)
    try:
        part.mkdir()
    except OSError as error:
        raise _refused(path, error) from error
    try:
        yield part
        _take_place(part, path)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text(path: PathLike, text: str) -> None:
    r"""Write a text as UTF-8 with ``\n`` at the ends of its lines; the file appears whole or not at all.

    Raises:
        InputError: as `atomic_path`.
    """
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_csv(path: PathLike, heading: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table of values with commas (RFC 4180); the file appears whole or not at all.

    Raises:
        InputError: as `atomic_path`.
    """
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(heading)
        writer.writerows(rows)


def save_arrays(path: Path, **arrays: NDArray[np.generic]) -> None:
    """Write arrays as numpy's compressed archive; the file appears whole or not at all.

    Args:
        path: ends in ``.npz``.
        arrays: by name.

    Raises:
        InputError: as `atomic_path`.
    """
    import numpy as np

    with atomic_path(path) as part:
        np.savez_compressed(part, **arrays)  # type: ignore[arg-type] # names of arrays, never "allow_pickle"


def _take_place(part: Path, path: Path) -> None:
    """Give a finished folder its name; the folder that bears it so far goes when the new one is there."""
    for left in reversed(range(TRIES)):
        old = _beside(path)
        if path.is_dir() and not path.is_symlink():
            with suppress(FileNotFoundError):  # another process has just taken it away
                path.rename(old)
        try:
            part.replace(path)
        except OSError:
            # Another process has put its folder there meanwhile: that one goes, too. Anything else is an error.
            if left == 0 or not path.is_dir() or path.is_symlink():
                with suppress(OSError):
                    old.rename(path)
                raise
        else:
            return
        finally:
            shutil.rmtree(old, ignore_errors=True)


def _refused(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be written ({_reason(error)}); choose another folder")


def _beside(path: Path) -> Path:
    """A name that nothing has, in the same folder and with the same extension."""
    tail = path.name
    while len(os.fsencode(tail)) > TAIL_BYTES:
        tail = tail[1:]
    return path.with_name(f".{secrets.token_hex(6)}.part-{tail}")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def require_writable(folder: PathLike) -> None:
    """Make sure, before long work, that files can be written into a folder; nothing is left behind.

    Args:
        folder: need not be there, if it can be made: then a file is tried in the nearest folder above it that is.

    Raises:
        InputError: a file stands in the place of the folder or of one above it, or the system refuses a file there.
    """
    _try_a_file(Path(folder), Path(folder))


def require_writable_file(path: PathLike, *, parents: bool = True) -> None:
    """Make sure, before long work, that a file can be written; nothing is left behind.

    Args:
        path: the file; one that is there may be replaced.
        parents: whether folders that are missing will be made.

    Raises:
        InputError: ``path`` is a folder, or its folder cannot be written to, or is missing where none will be made.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: cannot be written: this is a folder")
    if not parents and not os.path.lexists(path.parent):
        raise InputError(f"{path}: cannot be written: the folder {path.parent} does not exist")
    _try_a_file(path.parent, path)


def _try_a_file(folder: Path, asked: Path) -> None:
    """Write a file into a folder, or the first above it that is there, and let it go again; ``asked`` is what is said.

    Raises:
        InputError: that failed.
    """
    try:
        with tempfile.TemporaryFile(dir=_nearest(folder.absolute(), asked.absolute())):
            pass
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise InputError(
            f"{asked}: cannot write the results there: {_reason(error)}; give another folder with -o"
        ) from error


def _nearest(folder: Path, asked: Path) -> Path:
    """The folder itself, or the first above it that is there.

    Raises:
        OSError: what is there is no folder, or nothing is.
    """
    for place in (folder, *folder.parents):
        try:
            place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if place.is_dir():
            return place
        raise NotADirectoryError("it is a file" if place == asked else f"{place} is a file")
    raise FileNotFoundError(f"there is no {folder.anchor}")
