"""The options by which the user says what is known of a skull: the same for ``reconstruct`` and ``design``."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from calvaria.cli.in_place import Command, in_place_of
from calvaria.errors import InputError
from calvaria.results.settings import MaskFile, Word

PANEL = "What you know"
"""How the help groups them."""

PLACE = "mask or closed mesh, on any grid"

HELP = {
    "hole": ("MASK", f"Fill this ({PLACE}), whatever its size or shape; up to 0.5 mm beyond it, never in bone."),
    "seed": (
        "X,Y,Z",
        "Fill the opening at this point (LPS mm), or the nearest within 15 mm, however small; may be repeated. "
        "With --seed or --box only what is pointed at is filled.",
    ),
    "box": ("X0,Y0,Z0,X1,Y1,Z1", "Fill the openings that lie in this box (LPS mm) by at least half, however small."),
    "ignore": ("MASK", f"Bone in it does not count ({PLACE}): a misplaced flap, heterotopic bone, a sunk fragment."),
    "plane": ("NX,NY,NZ,D", "The mid-sagittal plane n.x = d, LPS mm; found by itself otherwise."),
    "keep_open": (
        "X,Y,Z|MASK",
        f"Leave open what is open at this point, or in this {PLACE}: a drain, a fontanelle; may be repeated.",
    ),
}
"""Option -> what stands for its value, and its help."""

SEVERAL = ("seed", "keep_open")


def with_word_options(command: Command) -> Command:
    """Give a command the options of the user's word in place of its parameter ``word``.

    That becomes what was given of them, by the names of `Word`'s fields: what was not is not in it.
    """
    return in_place_of("word", _options(), _given)(command)


def _given(**values: Any) -> dict[str, Any]:
    return {name: parsed(name, value) for name, value in values.items() if value}


Gate = Annotated[
    bool,
    typer.Option(
        "--gate/--no-gate",
        help="Exit 3, with all files there, where a check of the patch failed; what was measured is recorded anyway.",
    ),
]


def parsed(name: str, value: Any) -> Any:
    """What an option's text means, as `Word` has it.

    Raises:
        InputError: it is not so many numbers.

    >>> parsed("seed", ["1,2.5,-3"]), parsed("keep_open", ["drain.nrrd"])
    (((1.0, 2.5, -3.0),), (MaskFile(path='drain.nrrd', sha256=''),))
    """
    if name in {"hole", "ignore"}:
        return MaskFile(str(value))
    if name == "seed":
        return tuple(_figures("--seed", text, 3) for text in value)
    if name == "keep_open":
        return tuple(_point_or_file(text) for text in value)
    return _figures(f"--{name}", value, {"box": 6, "plane": 4}[name])


def require_one_head(word: Word) -> None:
    """Raise where something is said of one skull, and a folder of them is given.

    Raises:
        InputError: that is so.
    """
    for name in word.said:
        raise InputError(
            f"--{name.replace('_', '-')}: this is said of one skull, and a folder of cases was given; run it alone"
        )


def _point_or_file(text: str) -> Any:
    # A file's name may have commas, but is hardly made of figures alone.
    if (
        all(part.strip().lstrip("+-").replace(".", "", 1).isdigit() for part in text.split(","))
        and not Path(text).is_file()
    ):
        return _figures("--keep-open", text, 3)
    return MaskFile(text)


def _figures(option: str, text: str, count: int) -> Any:
    try:
        figures = tuple(float(part) for part in text.split(","))
    except ValueError:
        figures = ()
    if len(figures) != count or not all(math.isfinite(one) for one in figures):
        raise InputError(
            f"{option}: {count} numbers with commas between are wanted, such as {_example(count)}; got {text!r}"
        )
    return figures


def _example(count: int) -> str:
    return {3: "40,-25.5,60", 4: "1,0,0,2.5", 6: "20,-60,10,60,-20,50"}[count]


def _options() -> Iterator[inspect.Parameter]:
    for name, (metavar, said) in HELP.items():
        option = typer.Option(f"--{name.replace('_', '-')}", metavar=metavar, help=said, rich_help_panel=PANEL)
        kind: Any = list[str] | None if name in SEVERAL else (Path | None if name in {"hole", "ignore"} else str | None)
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


__all__ = ["HELP", "Gate", "parsed", "require_one_head", "with_word_options"]
