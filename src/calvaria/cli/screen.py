"""What the user sees: results on stdout, everything else on stderr, progress only on a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from calvaria.errors import one_line
from calvaria.jobs import Progress, unheard

if TYPE_CHECKING:
    from rich.console import RenderableType

PROGRESS = "CALVARIA_PROGRESS"
"""Set to ``lines`` by a program that calls this one and shows its progress, as our modules for 3D Slicer do."""


@dataclass
class Screen:
    """How much is said, and in which form; one object for each call of the program.

    Args:
        quiet: nothing but errors.
        verbose: also the seconds of each stage, and the traceback of an error.
        as_json: one JSON value on stdout in place of text.
    """

    quiet: bool = False
    verbose: bool = False
    as_json: bool = False

    def settle(self, *, quiet: bool, verbose: bool, as_json: bool) -> Screen:
        """Take over the options of a command; returns the screen itself."""
        self.quiet, self.verbose, self.as_json = quiet, verbose, as_json
        return self

    def say(self, text: str) -> None:
        """A line of the result, on stdout."""
        if not (self.quiet or self.as_json):
            sys.stdout.write(f"{text}\n")

    def show(self, renderable: RenderableType) -> None:
        """A table of the result, on stdout; never cut where stdout is no terminal."""
        if not (self.quiet or self.as_json):
            from rich.console import Console

            # rich takes 80 columns where there is no terminal; a file or a pipe has no edge.
            console = Console(highlight=False, width=None if sys.stdout.isatty() else 1000)
            console.print(renderable)

    def json(self, value: Any) -> None:
        """The result as JSON on stdout, if that was asked for; NaN and infinities become null."""
        if self.as_json:
            from calvaria.io.result import json_ready  # loads numpy: not before there is work

            sys.stdout.write(json.dumps(json_ready(value), indent=2, allow_nan=False) + "\n")

    def warn(self, text: str) -> None:
        """One line on stderr that the user should read, but that stops nothing."""
        if not self.quiet:
            sys.stderr.write(f"calvaria: warning: {one_line(text)}\n")

    def error(self, text: str) -> None:
        """One line on stderr; said even when quiet."""
        sys.stderr.write(f"calvaria: {one_line(text)}\n")

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A bar on stderr with the stage and the time left; silent when quiet or when stderr is no terminal.

        Where the environment's CALVARIA_PROGRESS is ``lines``, a line each time: ``calvaria: progress 0.250 fit``.
        """
        if os.environ.get(PROGRESS) == "lines":
            yield _progress_line
            return
        if self.quiet or not sys.stderr.isatty():
            yield unheard
            return
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", total=1.0)
            yield lambda stage, fraction: bar.update(task, description=stage, completed=fraction)


def _progress_line(stage: str, fraction: float) -> None:
    """How far the work is, for a program that reads it."""
    sys.stderr.write(f"calvaria: progress {min(max(fraction, 0.0), 1.0):.3f} {one_line(stage)}\n")
    sys.stderr.flush()
