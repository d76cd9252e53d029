"""What Slicer asks a module for: a command line as its XML describes it."""

from __future__ import annotations

import argparse
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NUMBERS = {"double": float, "float": float, "integer": int}
"""Tags of parameters with a number, and what reads it."""


def asked(xml: Path, words: Sequence[str]) -> argparse.Namespace:
    """The parameters of a call, by the names in the XML; without a call (``--xml``), print it and exit.

    Args:
        xml: the description of the module.
        words: the command line, in Slicer's order: flags, then what has an index.

    Raises:
        SystemExit: with 0 after ``--xml`` or ``--help``; with 2 and a line on stderr where the call is no such call.
    """
    text = xml.read_text(encoding="utf-8")
    if "--xml" in words:
        sys.stdout.write(text)
        raise SystemExit(0)
    root = ET.fromstring(text)
    parser = argparse.ArgumentParser(xml.stem, description=root.findtext("description"), allow_abbrev=False)
    parser.add_argument("--xml", action="store_true", help="print the description for 3D Slicer")
    parameters = [one for group in root.iter("parameters") for one in group if one.find("name") is not None]
    for one in sorted(parameters, key=lambda one: int(one.findtext("index", "-1"))):
        _add(parser, one)
    flags = {f"--{one.findtext('longflag')}" for one in parameters if one.tag != "boolean"}
    return parser.parse_args(_joined(words, flags))


def _add(parser: argparse.ArgumentParser, one: ET.Element) -> None:
    """One parameter of the description."""
    name, flag, text = (one.findtext(key, "") for key in ("name", "longflag", "description"))
    text, default = text.replace("%", "%%"), one.findtext("default") or None
    if not flag:
        parser.add_argument(name, help=text)
    elif one.tag == "boolean":
        parser.add_argument(f"--{flag}", dest=name, action="store_true", help=text)
    elif one.get("multiple") == "true":
        parser.add_argument(f"--{flag}", dest=name, action="append", default=[], help=text)
    else:
        parser.add_argument(f"--{flag}", dest=name, type=NUMBERS.get(one.tag, str), default=default, help=text)


def _joined(words: Sequence[str], flags: set[str]) -> list[str]:
    """Flags with their values in one word: a value may begin with a minus sign, as a point's does."""
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        value = next(rest, None) if word in flags else None
        found.append(word if value is None else f"{word}={value}")
    return found


def options(parameters: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """Parameters as options of calvaria, which are called the same but for the hyphens.

    Args:
        parameters: of the call.
        names: which; a yes or no is named only where it is yes.
    """
    found: list[str] = []
    for name in names:
        value, option = getattr(parameters, name), f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            found += [option] if value else []
        else:
            found += [option, f"{value:g}" if isinstance(value, float) else str(value)]
    return found


def search(parameters: argparse.Namespace) -> list[str]:
    """The options on what is looked for, which all modules have.

    Raises:
        ValueError: a point is none.
    """
    found = options(parameters, ["min_hole_ml"])
    if parameters.threshold_hu:
        found += options(parameters, ["threshold_hu"])
    for point in parameters.seed:
        found.append(f"--seed={lps(point)}")
    return found


def lps(point: str) -> str:
    """A point of Slicer's, in RAS mm, as calvaria has it.

    Raises:
        ValueError: it is no three numbers.

    >>> lps("41,22.5,-68")
    '-41,-22.5,-68'
    """
    try:
        right, front, up = (float(text) for text in point.split(","))
    except ValueError:
        raise ValueError(f"--seed: three numbers with commas between are wanted (RAS mm); got {point!r}") from None
    return f"{-right:.10g},{-front:.10g},{up:.10g}"
