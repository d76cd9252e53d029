"""The scores of cases that an earlier evaluation has left in its folder: one line a case, added as soon as it is known.

A line holds for the very bytes of the three files, the settings and the version of the program. An evaluation that was
killed leaves the lines of what it had done; one that was cut short counts as none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calvaria import __version__
from calvaria.errors import CalvariaError, InputError
from calvaria.results.kept import DETACHED
from calvaria.results.names import image_suffix

if TYPE_CHECKING:
    from calvaria.results.evaluation import Files

SCORED = "scored.jsonl"
"""Beside the tables of an evaluation."""

PATHS = ("patch", "truth", "defective")


class Scored:
    """The lines in an evaluation's folder.

    Args:
        folder: of the evaluation; need not be there.
        again: forget what is there.
    """

    def __init__(self, folder: Path, *, again: bool = False) -> None:
        """Read what is there."""
        self._path = folder / SCORED
        self._fresh = again
        self._lines: dict[str, dict[str, float]] = {} if again else _lines(self._path)
        self._keys: dict[str, str] = {}

    def kept(self, files: Mapping[str, Files]) -> dict[str, dict[str, float]]:
        """The scores of those cases whose files and settings are those of a line."""
        self._keys = {name: _key(one) for name, one in files.items()}
        return {name: self._lines[key] for name, key in self._keys.items() if key in self._lines}

    def add(self, name: str, scores: Mapping[str, float]) -> None:
        """Add the line of a case that was given to `kept`.

        Raises:
            InputError: the disk refuses.
        """
        key = self._keys[name]
        if not key:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("w" if self._fresh else "a", encoding="utf-8") as file:
                # The line before may have been cut short.
                file.write(f"\n{json.dumps({'key': key, 'scores': dict(scores)})}\n")
        except OSError as error:
            raise InputError(
                f"{self._path}: cannot be written: {error.strerror}; give another folder with -o"
            ) from error
        self._fresh = False


def _key(files: Files) -> str:
    """One hash of all that scores depend on; "" where the files do not tell."""
    from calvaria.io import sha256_of

    found: dict[str, Any] = asdict(files) | {"calvaria": __version__}
    try:
        for name in PATHS:
            path: Path = getattr(files, name)
            if image_suffix(path) in DETACHED or path.is_dir():
                return ""
            found[name] = sha256_of(path)
    except CalvariaError:  # scoring it will say so
        return ""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _lines(path: Path) -> dict[str, dict[str, float]]:
    """Key -> scores, of all lines that are whole."""
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    found: dict[str, dict[str, float]] = {}
    for text in texts:
        try:
            line = json.loads(text)
            found[str(line["key"])] = {str(name): float(value) for name, value in line["scores"].items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return found


__all__ = ["SCORED", "Scored"]
