"""What ``result.json`` and ``design.json`` hold, read back: files that anybody may have changed meanwhile."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from calvaria.errors import FormatError, one_line
from calvaria.files import require_file
from calvaria.results.record import Input
from calvaria.results.settings import Device, Kind, MaskFile, Settings, Trust, Word

if TYPE_CHECKING:
    from calvaria.reconstruction.confidence import Confidence

_KINDS: dict[str, tuple[type, ...]] = {
    "engine": (str,),
    "kind": (str,),
    "orientation": (str, type(None)),
    "preview": (bool,),
    "device": (str,),
    "threshold_hu": (int, float, type(None)),
    "min_hole_ml": (int, float),
    "refine": (bool,),
    "trust": (str,),
    "series": (str, type(None)),
    "study": (int, type(None)),
    "gate": (bool,),
}
"""Of the fields of `Settings`, as JSON has them."""

_CHOICES = {"kind": get_args(Kind), "device": get_args(Device), "trust": get_args(Trust)}


def read_json(path: Path) -> dict[str, Any]:
    """A file that holds one JSON object.

    Raises:
        InputError: there is no such file.
        FormatError: it holds no JSON, or no object.
    """
    try:
        found = json.loads(require_file(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or brackets without end
        raise FormatError(f"{path.name}: this is not JSON: {one_line(error)}") from error
    if not isinstance(found, dict):
        raise FormatError(f"{path.name}: a JSON object is wanted; got a {type(found).__name__}")
    return found


def require_schema(found: Mapping[str, Any], schema: int) -> None:
    """Make sure that a record is of the layout that is read.

    Raises:
        FormatError: it is of another.
    """
    if found.get("schema") != schema:
        raise FormatError(
            f"its schema is {found.get('schema')!r}, this version of calvaria reads {schema}; make it again with this "
            "version"
        )


@contextmanager
def as_written() -> Iterator[None]:
    """What goes wrong within, with names and kinds of values, is the fault of the record that is read.

    Raises:
        FormatError: in place of errors of Python's own.

    >>> with as_written():
    ...     {}["checks"]
    Traceback (most recent call last):
    calvaria.errors.FormatError: it has no 'checks': it is not as calvaria writes it
    """
    try:
        yield
    except KeyError as error:
        raise FormatError(f"it has no {error.args[0]!r}: it is not as calvaria writes it") from error
    except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise FormatError(f"a value in it is not of the kind that calvaria writes: {one_line(error)}") from error


def settings_from(found: Any) -> Settings:
    """What a reconstruction was asked for; what the record lacks is as by default.

    Raises:
        FormatError: it has other names, or values of another kind.
    """
    if not isinstance(found, dict):
        raise FormatError(f"the parameters of the reconstruction are a JSON object; got {found!r}")
    rest = {name: value for name, value in found.items() if name != "word"}
    for name, value in rest.items():
        if name not in _KINDS:
            raise FormatError(f"a reconstruction has no parameter {name}")
        fits = isinstance(value, _KINDS[name]) and isinstance(value, bool) == (_KINDS[name] == (bool,))
        if not fits or value not in _CHOICES.get(name, (value,)):
            raise FormatError(f"the reconstruction's {name} is none that it can have; got {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise FormatError(f"the reconstruction's {name} must be a number; got {value!r}")
    return Settings(**rest, word=_word_from(found.get("word", {})))


def _word_from(found: Any) -> Word:
    """What a record says that the user said.

    Raises:
        FormatError: it has other names, or values of another kind.
    """
    if not isinstance(found, dict):
        raise FormatError(f"the word of the reconstruction is a JSON object; got {found!r}")
    unknown = sorted(set(found) - {one.name for one in fields(Word)})
    if unknown:
        raise FormatError(f"the word of the reconstruction has no {unknown[0]}")
    with as_written():
        return Word(
            hole=_file_from(found.get("hole")),
            seed=tuple(_figures(one, 3) for one in found.get("seed", ())),
            box=None if found.get("box") is None else _figures(found["box"], 6),
            ignore=_file_from(found.get("ignore")),
            plane=None if found.get("plane") is None else _figures(found["plane"], 4),
            keep_open=tuple(
                _file(one) if isinstance(one, dict) else _figures(one, 3) for one in found.get("keep_open", ())
            ),
        )


def _file_from(found: Any) -> MaskFile | None:
    return None if found is None else _file(found)


def _file(found: Mapping[str, Any]) -> MaskFile:
    path, sha256 = found["path"], found["sha256"]
    if not isinstance(path, str) or not isinstance(sha256, str):
        raise TypeError(f"a file has a path and a sha256; got {found!r}")
    return MaskFile(path, sha256)


def _figures(found: Any, count: int) -> Any:
    """So many finite numbers, as a tuple."""
    figures = tuple(float(one) for one in found)
    if len(figures) != count or not all(math.isfinite(one) for one in figures):
        raise ValueError(f"{count} finite numbers are wanted; got {found!r}")
    return figures


def input_from(found: Mapping[str, Any]) -> Input:
    """What is recorded of a file; to be used within `as_written`."""
    shape, spacing = found["shape"], found["spacing_mm"]
    geometry = found.get("geometry")
    return Input(
        str(found["format"]),
        tuple(int(n) for n in shape),
        tuple(float(x) for x in spacing),
        str(found["sha256"]),
        None if geometry is None else dict(geometry),
    )


def confidence_from(found: Mapping[str, Any]) -> Confidence:
    """What accuracy a record says to expect; to be used within `as_written`."""
    from calvaria.models.calibration import Expected
    from calvaria.reconstruction.confidence import Confidence

    old = {name: found[name] for name in ("expected_dsc", "reason", "misfit_mm", "area_cm2", "frontal_share")}
    # Results of earlier versions have less.
    return Confidence(
        **old,
        voxel_mm=float(found.get("voxel_mm", 0.0)),
        outer_within_mm=found.get("outer_within_mm"),
        expected=tuple(Expected(**one) for one in found.get("expected", ())),
        beyond=str(found.get("beyond", "")),
    )


def texts_from(found: Any) -> tuple[str, ...]:
    """A list of texts; to be used within `as_written`.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise TypeError(f"a list of texts is wanted; got {found!r}")
    return tuple(found)


__all__ = [
    "as_written",
    "confidence_from",
    "input_from",
    "read_json",
    "require_schema",
    "settings_from",
    "texts_from",
]
