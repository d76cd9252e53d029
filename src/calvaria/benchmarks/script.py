"""How a benchmark is run as a script."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

UNREAD = 141
"""Exit code where the output is read no more: what a shell says of a program that ends by SIGPIPE (128 + 13)."""


def run_while_read(main: Callable[[], int | None]) -> int:
    """Run a script, and end without a word when its output is read no more, as by ``| head -1``.

    Args:
        main: gives the exit code, None for 0.

    Returns:
        The exit code.
    """
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left of the output would be written, and fail once more, when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    return code or 0


__all__ = ["UNREAD", "run_while_read"]
