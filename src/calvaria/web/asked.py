"""What the page asks for, as it came: checked, and made into settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

from calvaria.errors import InputError
from calvaria.implant.settings import PANELS, ImplantSettings
from calvaria.results.settings import Kind, Point, Settings, Word
from calvaria.web.brought import OWN_FOLDERS, Own

MAX_POINTS = 50
MAX_COORDINATE_MM = 10_000.0
MIN_OUTLINE = 3
KINDS = ("auto", "mask", "ct")

RUN_FIELDS = frozenset(
    {
        "series",
        "study",
        "kind",
        "threshold_hu",
        "min_hole_ml",
        "refine",
        "seeds",
        "keep_open",
        "box",
        "outline",
        "deidentify",
        "own",
    }
)


@dataclass(frozen=True)
class Asked:
    """What is asked for of a reconstruction.

    Args:
        settings: as the command line has them.
        outline: points around the rim of the hole, LPS mm; may be none.
        deidentify: DICOM results are not to say whose they are.
        own: which scan of the patient's own bone, brought beside, is to be used; None: none.
    """

    settings: Settings
    outline: tuple[Point, ...] = ()
    deidentify: bool = False
    own: Own | None = None


def run_asked(asked: Mapping[str, Any]) -> Asked:
    """What is asked for of a reconstruction.

    Raises:
        InputError: something is not what it should be.
    """
    unknown = sorted(set(asked) - RUN_FIELDS)
    if unknown:
        raise InputError(f"a run has no setting {unknown[0][:40]!r}")
    kind = asked.get("kind", "auto")
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}")
    series, study = asked.get("series"), asked.get("study")
    if series is not None and not (isinstance(series, str) and 0 < len(series) <= 80):
        raise InputError("series must be a number as it is listed")
    if study is not None and (isinstance(study, bool) or not isinstance(study, int) or not 0 < study < 10**6):
        raise InputError("study must be a number as it is listed")
    box = asked.get("box")
    corners = None if box is None else _numbers("box", box, 6)
    word = Word(
        seed=_points("seeds", asked.get("seeds", ())),
        keep_open=_points("keep_open", asked.get("keep_open", ())),
        box=cast("Any", corners),
    )
    threshold = asked.get("threshold_hu")
    settings = Settings(
        kind=cast("Kind", kind),
        threshold_hu=None if threshold is None else _number("threshold_hu", threshold, -1000, 3000),
        min_hole_ml=_number("min_hole_ml", asked.get("min_hole_ml", 5.0), 0.1, 1000),
        refine=_flag("refine", asked.get("refine", False)),
        series=series,
        study=study,
        word=word,
    )
    outline = _points("outline", asked.get("outline", ()))
    if outline and (len(outline) < MIN_OUTLINE or word.seed or word.box):
        raise InputError(f"an outline has {MIN_OUTLINE} places or more, and stands without points and a box")
    return Asked(settings, outline, _flag("deidentify", asked.get("deidentify", False)), own_of(asked.get("own")))


def own_of(found: Any) -> Own | None:
    """Which scan of the patient's own bone is meant, if any.

    Raises:
        InputError: there is none of that name.
    """
    if found is None:
        return None
    if not isinstance(found, str) or found not in OWN_FOLDERS:
        raise InputError(f"own must be one of {', '.join(OWN_FOLDERS)}")
    return found


def implant_of(asked: Mapping[str, Any]) -> ImplantSettings:
    """What is asked for of an implant.

    Raises:
        InputError: a parameter that there is not, or a value out of its range.
    """
    for name, value in asked.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name[:40]} must be a finite number")
    return ImplantSettings.from_json(dict(asked))


def implant_controls() -> list[dict[str, Any]]:
    """The parameters of an implant as the page offers them, by group: range, default, unit and help."""
    known = {one.name: one for one in fields(ImplantSettings)}
    return [{"title": title, "controls": [_control(known[name]) for name in names]} for title, names in PANELS.items()]


def _control(one: Any) -> dict[str, Any]:
    about = one.metadata
    found = {"name": one.name, "default": one.default, "help": about["help"], "source": about["source"]}
    if "low" in about:
        whole = isinstance(one.default, int)
        found |= {"kind": "number", "low": about["low"], "high": about["high"], "unit": about["unit"], "whole": whole}
    elif isinstance(one.default, bool):
        found["kind"] = "flag"
    elif one.name in CHOICES:
        found |= {"kind": "choice", "choices": list(CHOICES[one.name])}
    else:
        found["kind"] = "text"
    return found


CHOICES = {"thickness": ("constant", "bone"), "split": ("auto", "never")}
"""Parameters that are one of some words."""


def _points(name: str, found: Any) -> tuple[Point, ...]:
    if not isinstance(found, list | tuple) or len(found) > MAX_POINTS:
        raise InputError(f"{name} must be a list of up to {MAX_POINTS} points")
    return tuple(cast("Point", _numbers(name, one, 3)) for one in found)


def _numbers(name: str, found: Any, count: int) -> tuple[float, ...]:
    if not isinstance(found, list | tuple) or len(found) != count:
        raise InputError(f"{name}: {count} numbers are wanted, LPS mm")
    return tuple(_number(name, one, -MAX_COORDINATE_MM, MAX_COORDINATE_MM) for one in found)


def _number(name: str, found: Any, low: float, high: float) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float) or not low <= found <= high:
        raise InputError(f"{name} must be a number from {low:g} to {high:g}")
    return float(found)


def _flag(name: str, found: Any) -> bool:
    if not isinstance(found, bool):
        raise InputError(f"{name} must be true or false")
    return found


__all__ = ["Asked", "implant_controls", "implant_of", "own_of", "run_asked"]
