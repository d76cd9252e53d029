"""Every error that calvaria raises on purpose.

::

    CalvariaError            exit code 1: our fault, unless a subclass says otherwise
    ├── InputError           exit code 2: a file, a value or a call that cannot be used
    │   ├── FormatError      the file itself is damaged or of a kind that is not read
    │   ├── GeometryError    the grid: shape, spacing, directions, two grids that differ
    │   └── MissingExtraError  an optional package is needed; the message has the line to install it
    └── QualityError         exit code 3: done, but a quality check failed

A message is one line: which file or case, what was wanted, what was found, what to do.
"""

from collections.abc import Iterator
from contextlib import contextmanager


def one_line(text: object) -> str:
    """Any text or exception on one line.

    >>> one_line("two   words")
    'two words'
    """
    return " ".join(str(text).split())


class CalvariaError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 1


class InputError(CalvariaError):
    """The input or the call cannot be used as it is."""

    exit_code = 2


class FormatError(InputError):
    """A file is damaged, or of a kind that is not read."""


class GeometryError(InputError):
    """A grid is not usable, or two grids differ where they must agree."""


class MissingExtraError(InputError):
    """An optional package is needed for what was asked."""


class QualityError(CalvariaError):
    """The work was done, but the result did not pass its own checks."""

    exit_code = 3


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Let what is raised within begin with the name of the file or case, unless it does.

    >>> with naming("head.nrrd"):
    ...     raise InputError("the mask is empty")
    Traceback (most recent call last):
    calvaria.errors.InputError: head.nrrd: the mask is empty
    """
    try:
        yield
    except CalvariaError as error:
        if str(error).startswith(f"{name}:"):
            raise
        raise type(error)(f"{name}: {error}") from error


__all__ = [
    "CalvariaError",
    "FormatError",
    "GeometryError",
    "InputError",
    "MissingExtraError",
    "QualityError",
]
