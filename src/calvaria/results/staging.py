"""A set of result files appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from calvaria.errors import InputError
from calvaria.files import require_writable
from calvaria.results.unfinished import sweep, unfinished


def require_room(output: Path, names: Sequence[str]) -> None:
    """Make sure, before long work, that results can be written; nothing is made.

    Args:
        output: the folder for the results; need not be there.
        names: the files that may come to lie in it.

    Raises:
        InputError: ``output`` is a file, or cannot be written to, or a folder stands in the place of one of the files.
    """
    require_writable(output)
    for name in names:
        if (output / name).is_dir():
            raise InputError(f"{output / name}: this is a folder, where a file is to be written; take it away")


@contextmanager
def staged(output: Path, names: Sequence[str], last: str | Sequence[str]) -> Iterator[Path]:
    """A temporary folder whose files move to ``output`` when the block ends without an error.

    The folder lies on the same disk as ``output``, so a move is a rename: a reader never meets half a file. The
    files called ``last`` are taken away first and moved last, so where they are, the others belong to them. What a run
    that was killed has left of the same output is taken away; what another run is filling stays.

    Args:
        output: the folder for the results; made, with its parents, if it is not there.
        names: every file that a run of this kind may leave in ``output``; those that this run does not make are
            removed from there, so that no file of an earlier run stands beside newer ones. Others are left alone.
        last: the name that is moved last, or several in their order.

    Raises:
        InputError: ``output`` is a file, or cannot be written to.
    """
    with ExitStack() as stack:
        try:
            parent, name = _place(output), output.absolute().name
            for place in {parent, output.absolute().parent}:
                sweep(place, name)
            folder = stack.enter_context(unfinished(parent, name))
        except OSError as error:
            raise _cannot_write(output, error) from error
        yield folder
        try:
            _publish(folder, output, names, (last,) if isinstance(last, str) else last)
        except OSError as error:
            raise _cannot_write(output, error) from error


def _place(output: Path) -> Path:
    """Where the temporary folder lies: in ``output`` if that is there (it may be a disk of its own), else beside it."""
    if output.exists() and not output.is_dir():
        raise NotADirectoryError("it is a file")
    parent = output if output.is_dir() else output.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    return parent


def _publish(folder: Path, output: Path, names: Sequence[str], last: Sequence[str]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for name in reversed(last):
        (output / name).unlink(missing_ok=True)
    ranks = {name: rank for rank, name in enumerate(last)}
    made = sorted(files_in(folder), key=lambda name: (ranks.get(name, -1), name))
    for name in set(names) - set(made):
        (output / name).unlink(missing_ok=True)
    for below in {(output / name).parent for name in names} - {output}:
        with suppress(OSError):  # it is not empty, or not there
            below.rmdir()
    for name in made:
        (output / name).parent.mkdir(exist_ok=True)
        os.replace(folder / name, output / name)


def files_in(folder: Path) -> list[str]:
    """Names of the files in a folder and the folders in it, with a slash between, in order."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _cannot_write(output: Path, error: OSError) -> InputError:
    reason = error.strerror or str(error)
    return InputError(f"{output}: cannot write the results there: {reason}; give another folder with -o")
