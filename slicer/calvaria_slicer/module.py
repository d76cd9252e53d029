"""One call of a module from its command line to the files that Slicer reads back."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from calvaria_slicer.asked import asked
from calvaria_slicer.program import FAILED_CHECK, clean_environment, find_program, run, tell

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    Words = Callable[[argparse.Namespace], Sequence[str]]
    Deliver = Callable[[argparse.Namespace, Path], None]


def call(script: str, words: Words, deliver: Deliver, argv: Sequence[str]) -> int:
    """Run a module.

    Slicer reads the outputs back only where the exit code is 0; so it is where a check failed, too: a line on stderr,
    which Slicer shows, says so.

    Args:
        script: the module's file; its XML lies beside it.
        words: the words that calvaria is called with, but for the output folder.
        deliver: puts the files of calvaria's folder to where Slicer wants them; raises LookupError where one lacks.
        argv: the command line.

    Returns:
        The exit code: 0 done, 1 or 2 with a line on stderr.
    """
    signal.signal(signal.SIGTERM, _stopped)
    parameters = asked(Path(script).with_suffix(".xml"), argv)
    name = Path(script).stem
    try:
        with _Folder(parameters.folder) as folder:
            hidden = None if parameters.folder else folder
            return _call(name, parameters, words(parameters), deliver, (folder, hidden))
    except (LookupError, ValueError) as error:
        return _failed(name, str(error))
    except OSError as error:
        return _failed(name, f"{error.filename}: {error.strerror}; wanted: a disk with room that can be written to")


def _call(
    name: str,
    parameters: argparse.Namespace,
    words: Sequence[str],
    deliver: Deliver,
    places: tuple[Path, Path | None],
) -> int:
    folder, hidden = places
    environment = clean_environment(os.environ)
    program = find_program(parameters.calvaria_command, environment)
    tell("starting", 0.0)
    code = run([*program, *words, "-o", str(folder)], environment, hidden)
    if code not in (0, FAILED_CHECK):
        if code not in (1, 2):
            return _failed(name, f"calvaria ended with {code} before it was done; run it alone to see why")
        return code
    deliver(parameters, folder)
    if code == FAILED_CHECK:
        sys.stderr.write(f"{name}: warning: a check failed, see above: look at the result before you use it\n")
    tell("done", 1.0)
    return 0


def one_of(folder: Path, pattern: str) -> list[Path]:
    """The files of a name in calvaria's folder, in order.

    Raises:
        LookupError: there is none.
    """
    found = sorted(folder.glob(pattern))
    if not found:
        raise LookupError(f"calvaria has left no {pattern}; wanted: a calvaria of the version of these modules")
    return found


def copy_image(source: Path, target: str) -> None:
    """Copy an image.

    Raises:
        LookupError: it is of another format than its new name says.
    """
    if not target.endswith("".join(source.suffixes)):
        raise LookupError(f"{Path(target).name}: the output must be in the input's format, {''.join(source.suffixes)}")
    shutil.copyfile(source, target)


def _failed(name: str, text: str) -> int:
    sys.stderr.write(f"{name}: {text}\n")
    return 2


def _stopped(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


class _Folder:
    """The folder for calvaria's files: the user's, or one that is gone afterwards."""

    def __init__(self, kept: str | None) -> None:
        self._kept = None if kept is None else Path(kept)
        if self._kept is not None and not self._kept.is_absolute():
            raise ValueError(
                f"{kept}: the folder to keep the files in must be named by its whole path, such as /home/you/{kept}"
            )

    def __enter__(self) -> Path:
        self._path = self._kept or Path(tempfile.mkdtemp(prefix="calvaria-"))
        return self._path

    def __exit__(self, *error: object) -> None:
        if self._kept is None:
            shutil.rmtree(self._path, ignore_errors=True)
