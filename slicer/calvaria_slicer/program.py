"""Running calvaria, which lies in an environment of its own, out of 3D Slicer's."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VARIABLE = "CALVARIA_COMMAND"
"""The environment variable that says where calvaria is."""

SLICERS = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONNOUSERSITE",
    "PYTHONSAFEPATH",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "DYLD_LIBRARY_PATH",
    "DYLD_FRAMEWORK_PATH",
    "QT_PLUGIN_PATH",
    "SSL_CERT_FILE",
)
"""What Slicer sets for its own Python and libraries: another Python does not start with it, or finds the wrong ones."""

STARTED_WITH = "APPLAUNCHER_0_"
"""Slicer's launcher keeps the environment that it was started in under such names."""

PROGRESS = re.compile(r"calvaria: progress ([01](?:\.\d+)?) (.*)")
"""How calvaria tells how far it is, where CALVARIA_PROGRESS asks for it."""

FROM, TO = 0.02, 0.95
"""The shares of the whole where calvaria begins and ends."""

FAILED_CHECK = 3
"""Its exit code where all files are there, and a check failed."""


def find_program(said: str | None, environment: Mapping[str, str]) -> list[str]:
    """The command that runs calvaria.

    Args:
        said: in the module's field; a path, or several words such as ``conda run -n calvaria calvaria``.
        environment: of calvaria.

    Raises:
        LookupError: there is none; one line that says how to name it.
    """
    for text in filter(None, (said, os.environ.get(VARIABLE))):
        if Path(text).is_file():
            return [text]
        words = shlex.split(text, posix=os.name != "nt")
        found = shutil.which(words[0], path=environment.get("PATH")) if words else None
        if found is None:
            raise LookupError(f"no program {text}; {_wanted()}")
        return [found, *words[1:]]
    found = shutil.which("calvaria", path=environment.get("PATH"))
    if found is None:
        raise LookupError(f"no program calvaria was found; {_wanted()}")
    return [found]


def _wanted() -> str:
    return (
        "wanted: the whole path of the one that pip installed, such as /home/you/calvaria/bin/calvaria, in the field "
        f"'Program calvaria' or in the environment variable {VARIABLE}"
    )


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment that Slicer was started in, or, where its launcher has not kept it, this one without Slicer's."""
    kept = {name[len(STARTED_WITH) :]: value for name, value in environ.items() if name.startswith(STARTED_WITH)}
    found = kept or {name: value for name, value in environ.items() if name not in SLICERS}
    return {**found, "CALVARIA_PROGRESS": "lines", "PYTHONUTF8": "1"}


def run(command: Sequence[str], environment: Mapping[str, str], hidden: Path | None) -> int:
    """Run calvaria: its progress goes to Slicer, its words to where they went.

    Args:
        command: all words.
        environment: of calvaria.
        hidden: a folder that is not kept: lines that are no more than a file in it are left out.

    Returns:
        The exit code.

    Raises:
        LookupError: it cannot be started.
    """
    try:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        raise LookupError(f"{command[0]} cannot be started: {error.strerror}; {_wanted()}") from error
    try:
        reader = threading.Thread(target=_pass_on, args=(process.stdout, hidden), daemon=True)
        reader.start()
        for line in process.stderr or ():
            found = PROGRESS.match(line)
            if found:
                tell(found[2].strip(), FROM + (TO - FROM) * float(found[1]))
            else:
                sys.stderr.write(_without(line, hidden))
                sys.stderr.flush()
        reader.join()
        return process.wait()
    finally:
        if process.poll() is None:  # Slicer ends us
            process.kill()
            process.wait()


def tell(stage: str, fraction: float) -> None:
    """Tell Slicer how far the work is."""
    stage = stage.replace("&", "and").replace("<", " ")
    sys.stdout.write(f"<filter-progress>{fraction:.3f}</filter-progress>\n<filter-comment>{stage}</filter-comment>\n")
    sys.stdout.flush()


def _pass_on(lines: Sequence[str], hidden: Path | None) -> None:
    for line in lines:
        if hidden is None or not line.startswith(str(hidden)):
            sys.stdout.write(line)
            sys.stdout.flush()


def _without(line: str, hidden: Path | None) -> str:
    """A line without where the files are, where they are not kept."""
    before, place, _ = line.partition(f"; the files are in {hidden}")
    return f"{before}\n" if hidden is not None and place else line
