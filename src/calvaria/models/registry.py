"""What ships with the package and what it was made from: a folder of weights, each with its hash and its card.

``weights/index.json`` lists every model: name, kind, file, SHA-256, licence, and its calibration where it has one. The
card stands beside the file as ``NAME.md``. A file whose hash differs is refused: a result must name the very weights
that made it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import FormatError, InputError
from calvaria.files import atomic_path, write_text
from calvaria.models.calibration import Calibration

Arrays = dict[str, NDArray[np.generic]]

WEIGHTS = Path(__file__).parent / "weights"

INDEX = "index.json"
"""Beside weights: what each file is."""

CALIBRATION = "calibration"
"""Key of an entry's calibration."""

LICENCE = "CC-BY-NC-SA-4.0"
"""Of everything that is fitted to skulls made from the CQ500 head CTs."""

SHAPE_PRIOR = "shape-prior"
"""Name of the shipped statistical shape model."""


@dataclass(frozen=True)
class ModelInfo:
    """A model that can be used.

    Args:
        name: what ``--model`` takes.
        kind: "shape-prior" or the kind of network.
        path: its file.
        sha256: hash that the file must have.
        licence: SPDX name; weights made from public skulls do not carry the code's licence.
        card: the model card, Markdown.
        size_bytes: size of the file.
        others: further files of the model beside it, such as a converted network's: name -> SHA-256.
        calibration: what its patches are worth; None if that was not measured, or if it makes no patches.
    """

    name: str
    kind: str
    path: Path
    sha256: str
    licence: str
    card: str
    size_bytes: int
    others: Mapping[str, str] = field(default_factory=dict)
    calibration: Calibration | None = None


def available(folder: Path = WEIGHTS) -> list[ModelInfo]:
    """All models in a folder, in the order of its index; none if there is no index.

    Raises:
        FormatError: the index is something else.
    """
    try:
        return [_info(folder, entry) for entry in _entries(folder)]
    except FormatError as error:
        raise FormatError(f"{folder / INDEX}: {error}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise FormatError(f"{folder / INDEX}: no index of models ({type(error).__name__}: {error})") from None


def _entries(folder: Path) -> list[dict[str, Any]]:
    index = folder / INDEX
    entries: list[dict[str, Any]] = json.loads(index.read_text(encoding="utf-8"))["models"] if index.exists() else []
    return entries


def _info(folder: Path, entry: dict[str, Any]) -> ModelInfo:
    path = folder / entry["file"]
    card = path.with_suffix(".md")
    return ModelInfo(
        entry["name"],
        entry["kind"],
        path,
        entry["sha256"],
        entry["licence"],
        card.read_text(encoding="utf-8") if card.exists() else "",
        path.stat().st_size if path.exists() else 0,
        entry.get("others", {}),
        Calibration.from_entry(entry[CALIBRATION]) if CALIBRATION in entry else None,
    )


def find(name: str, folder: Path = WEIGHTS) -> ModelInfo:
    """The model called ``name``, or the one in a .safetensors file that the index beside it lists.

    Raises:
        InputError: there is none; the message lists those that there are.
    """
    if name.endswith(".safetensors"):
        folder, file = Path(name).parent, Path(name).name
        models = available(folder)
        matches = [model for model in models if model.path.name == file]
    else:
        models = available(folder)
        matches = [model for model in models if model.name == name]
    if matches:
        return matches[0]
    names = ", ".join(m.name for m in models) or "none"
    raise InputError(f"there is no model called {name!r}; installed: {names}")


def load_arrays(model: ModelInfo) -> Arrays:
    """The arrays of a model's safetensors file, after checking its hash.

    Raises:
        InputError: the file is missing or is not the one that the index names.
    """
    from safetensors.numpy import load

    if not model.path.exists():
        raise InputError(f"{model.path.name}: the weights of {model.name!r} are missing; install calvaria again")
    content = model.path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != model.sha256:
        raise InputError(
            f"{model.path.name}: the weights are damaged or not the registered ones "
            f"(SHA-256 {found[:12]}..., wanted {model.sha256[:12]}...); install calvaria again"
        )
    return dict(load(content))


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]], about: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all; ``about`` goes into its header.

    The library's own ``save_file`` makes a file that its owner alone may read; one in a shared folder is for all.
    """
    from safetensors.numpy import save

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part:
        # The library writes the memory as it lies.
        part.write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, dict(about)))


def load_about(model: ModelInfo) -> dict[str, str]:
    """What the header of a model's file says about it, such as the sizes of a network."""
    from safetensors import safe_open

    with safe_open(model.path, framework="numpy") as file:
        return dict(file.metadata() or {})


@lru_cache(maxsize=2)
def load_shape_arrays(name: str = SHAPE_PRIOR) -> Arrays:
    """The arrays of a shape model, loaded once a process."""
    return load_arrays(find(name))


def register(
    path: Path,
    name: str,
    kind: str,
    licence: str,
    others: Sequence[Path] = (),
    *,
    calibration: Calibration | None = None,
) -> ModelInfo:
    """Enter a weights file, and others beside it, into their folder's index; an entry of the same name goes.

    Several trainings may end in one folder at once: each waits for its turn, and the index appears whole.

    Args:
        path: the weights.
        name: of the model.
        kind: of the model.
        licence: SPDX name.
        others: files that belong to it.
        calibration: what its patches are worth; by default that of the entry which goes, if that is of the very same
            weights: of others nothing was measured.
    """
    from filelock import FileLock

    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    entry: dict[str, Any] = {"name": name, "kind": kind, "file": path.name, "sha256": sha256, "licence": licence}
    if others:
        entry["others"] = {other.name: hashlib.sha256(other.read_bytes()).hexdigest() for other in others}
    index = path.parent / INDEX
    with FileLock(index.with_name(f".{INDEX}.lock")):
        before = _entries(path.parent)
        kept = [m[CALIBRATION] for m in before if m["name"] == name and m["sha256"] == sha256 and CALIBRATION in m]
        if calibration is not None or kept:
            entry[CALIBRATION] = kept[0] if calibration is None else calibration.to_entry()
        models = [m for m in before if m["name"] != name] + [entry]
        write_text(index, json.dumps({"models": models}, indent=1) + "\n")
    return _info(path.parent, entry)
