"""A folder of results, as ``reconstruct`` or ``refine`` left it, read back."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calvaria.errors import FormatError, InputError, naming
from calvaria.results.names import RESULT, WRITTEN
from calvaria.results.read_back import (
    as_written,
    confidence_from,
    input_from,
    read_json,
    require_schema,
    settings_from,
    texts_from,
)
from calvaria.results.record import SCHEMA, Input
from calvaria.results.settings import Settings

if TYPE_CHECKING:
    from calvaria.reconstruction.checks import Check
    from calvaria.reconstruction.confidence import Confidence
    from calvaria.types import F64
    from calvaria.volume import Volume

RIGID_ATOL = 1e-5
"""How far the rows of a rotation may be from unit length and right angles; nine decimals are written."""

VOLUME_ATOL_ML = 0.001
"""How far the patch's volume may be from what result.json says; four decimals are written."""

REFINE = "to design for another patch, give it to calvaria refine with the skull first"


@dataclass(frozen=True, eq=False)
class Finished:
    """What a folder of results holds.

    Args:
        defective: the bone that is there: the completed skull without the patch.
        patch: the missing bone, not empty; a mask on the same grid.
        frame_to_world: (4, 4) rigid, canonical mm -> world LPS mm.
        confidence: what accuracy to expect of the patch, or why none can be said.
        input: what is recorded of the skull's file.
        settings: what was asked for.
        warnings: that were given, one line each.
        ending: the suffix of its images.
        failed: gates that failed, where they were to count.
    """

    defective: Volume
    patch: Volume
    frame_to_world: F64
    confidence: Confidence
    input: Input
    settings: Settings
    warnings: tuple[str, ...]
    ending: str
    failed: tuple[Check, ...] = ()


def is_finished(folder: Path) -> bool:
    """Whether a folder is one of results, by the files in it."""
    return os.path.isfile(folder / RESULT)  # False, too, where the folder may not be read: who reads it says so


def read_finished(folder: Path) -> Finished:
    """Read back what ``reconstruct`` or ``refine`` wrote.

    Args:
        folder: with ``result.json``, ``patch.*`` and ``completed.*``.

    Raises:
        InputError: a file is missing or cannot be used, the patch is empty, or it is not the one that was written.
        FormatError: a file is damaged, or result.json is of another schema or not as calvaria writes it.
    """
    found = read_json(folder / RESULT)
    with naming(RESULT):
        require_schema(found, SCHEMA)
        with as_written():
            empty, volume_ml = bool(found["patch"]["empty"]), float(found["patch"]["volume_ml"])
            pose = _rigid(found["pose"]["canonical_to_world"])
            confidence, skull = confidence_from(found["confidence"]), input_from(found["input"])
            settings, warnings = settings_from(found["parameters"]), texts_from(found["warnings"])
            failed = _failed(found.get("checks", ())) if settings.gate else ()
    if empty:
        raise InputError("no hole was found in this skull: the patch is empty, so there is no implant to design")
    ending = next((one for one in WRITTEN if (folder / f"patch{one}").is_file()), None)
    if ending is None:
        raise InputError(f"no patch beside {RESULT}; wanted patch{', patch'.join(WRITTEN)}: run calvaria reconstruct")
    if not (folder / f"completed{ending}").is_file():
        raise InputError(f"no completed{ending} beside patch{ending}: run calvaria reconstruct again")
    defective, patch = _bone_and_patch(folder, ending, volume_ml)
    return Finished(defective, patch, pose, confidence, skull, settings, warnings, ending, failed)


def _failed(found: Any) -> tuple[Check, ...]:
    """The checks that failed, of those that a record has."""
    from calvaria.reconstruction.checks import Check

    return tuple(one for one in (Check(**values) for values in found) if one.verdict == "fail")


def _bone_and_patch(folder: Path, ending: str, volume_ml: float) -> tuple[Volume, Volume]:
    """The defective skull and the patch, which must be those that were written together."""
    from calvaria.io import read_mask

    patch, completed = (read_mask(folder / f"{name}{ending}") for name in ("patch", "completed"))
    patch.grid.require_same(completed.grid, f"patch{ending} and completed{ending}")
    if abs(patch.volume_ml - volume_ml) > VOLUME_ATOL_ML:
        # What the completed skull has beyond a changed patch would count as bone.
        raise InputError(
            f"patch{ending} is not the one that {RESULT} is about: it has {patch.volume_ml:.3f} ml, not "
            f"{volume_ml:.3f} ml; {REFINE}"
        )
    if (patch.mask & ~completed.mask).any():
        raise InputError(f"patch{ending} reaches beyond completed{ending}: they do not belong together; {REFINE}")
    defective = completed.with_data(completed.mask & ~patch.mask)
    if not defective.mask.any():
        raise InputError(f"completed{ending} holds nothing but the patch: there is no bone around the hole")
    return defective, patch


def _rigid(rows: Any) -> F64:
    """A pose as a matrix.

    Raises:
        FormatError: it is none, or is not rigid.
    """
    import numpy as np

    pose = np.asarray(rows, np.float64)
    turn = pose[:3, :3] if pose.shape == (4, 4) and np.isfinite(pose).all() else np.zeros((3, 3))
    square = np.allclose(turn @ turn.T, np.eye(3), atol=RIGID_ATOL) and np.linalg.det(turn) > 0
    if not square or not np.array_equal(pose[3], [0, 0, 0, 1]):
        raise FormatError("pose.canonical_to_world is no rigid map, (4, 4)")
    return pose


__all__ = ["Finished", "is_finished", "read_finished"]
