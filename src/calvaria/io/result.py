"""``result.json``, the record beside every result, and the hashes in it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

from calvaria.errors import InputError
from calvaria.files import PathLike, require_file, write_text
from calvaria.volume.volume import Volume


def write_result_json(path: PathLike, result: Mapping[str, Any]) -> None:
    """Write a record as JSON: keys sorted, floats in their shortest exact form, whole or not at all.

    The same record gives the same bytes. numpy numbers and arrays, tuples and paths become plain JSON.

    Args:
        path: the file, usually ``result.json``; replaced if it is there.
        result: names to values; may be empty.

    Raises:
        InputError: a value is NaN or infinite, or cannot be said in JSON (with its name); or the disk refuses.
    """
    text = json.dumps(_plain(result, ""), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def json_ready(value: Any) -> Any:
    """The same value with what JSON cannot hold replaced: NaN and infinities by null, tuples by lists.

    >>> json_ready({"hd95_mm": float("inf"), "dsc": 1.0})
    {'hd95_mm': None, 'dsc': 1.0}
    """
    if isinstance(value, dict):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def sha256_of(path: PathLike) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits.

    Raises:
        InputError: there is no such file, or it is empty.
    """
    with require_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_volume(volume: Volume) -> str:
    """SHA-256 of a volume's voxels, their type and their affine, whatever file they came from."""
    mark = hashlib.sha256(f"{volume.data.dtype.str} {volume.shape}".encode())
    mark.update(np.ascontiguousarray(volume.affine).tobytes())
    mark.update(np.ascontiguousarray(volume.data.T).data)
    return mark.hexdigest()


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InputError(f"result.json: names must be text; found {key!r} in {where or 'the record'}")
        return {key: _plain(item, f"{where}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{n}]") for n, item in enumerate(value)]
    if isinstance(value, np.ndarray):
        return _plain(list(value) if value.ndim else value[()], where)
    if isinstance(value, np.floating):
        value = float(str(value))  # shortest form: float32(0.1) is 0.1, not 0.10000000149011612
    elif isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"result.json: {where} is {value}; a figure that does not exist is null (None) or left out")
    if isinstance(value, PurePath):
        return value.as_posix()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise InputError(f"result.json: {where} is a {type(value).__name__}, which JSON cannot say")
