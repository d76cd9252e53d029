"""The bone of whatever was given: a mask as it is, or what is segmented out of a CT."""

from __future__ import annotations

from typing import Literal

import numpy as np

from calvaria.errors import InputError, naming
from calvaria.skull.kinds import MAX_LABELS, kind_of, require_numbers, what_else
from calvaria.skull.segment import MAX_HEAD_MM, Segmentation, segment_bone
from calvaria.volume.foreground import foreground_of, has_two_values, looks_inverted
from calvaria.volume.volume import Volume, bounding_box

MIN_HEAD_MM = 30.0
"""Bone that spans less in every direction is no head (a newborn's spans 90), but one in cm, which spans 15 to 25."""


def bone_of(
    volume: Volume,
    kind: Literal["auto", "mask", "ct"] = "auto",
    threshold_hu: float | None = None,
    *,
    name: str = "the volume",
) -> Segmentation:
    """The bone of a CT, or of a mask.

    Args:
        volume: a CT, see `segment_bone`, or a mask: booleans or two values, see `calvaria.volume.foreground`.
        kind: what it is; "auto" decides by its values. A stated kind is obeyed wherever that is possible: a "ct" may be
            a dry skull, a "mask" may have several labels, which are all taken for bone.
        threshold_hu: bone of a CT ends at it, HU; None: half way up its edge, see `segment_bone`.
        name: of the file or case; messages begin with it.

    Returns:
        The bone as a mask on the same grid, not empty, and what is doubtful of it.

    Raises:
        InputError: the volume is not what ``kind`` says, or nothing that is known; it holds no bone; or a threshold is
            given for a mask.
    """
    with naming(name):
        found = kind_of(volume, name) if kind == "auto" else kind
        if found == "ct":
            return segment_bone(volume, threshold_hu, name, stated=kind == "ct")
        if threshold_hu is not None:
            raise InputError(
                f"a bone threshold of {threshold_hu:g} HU is given, but the volume is a mask, which has no HU: "
                "leave --threshold-hu out, or give the CT"
            )
        return _of_mask(volume, name)


def _of_mask(volume: Volume, name: str) -> Segmentation:
    bone = volume
    notes: list[str] = []
    if not volume.is_mask:
        require_numbers(volume, name)
        if has_two_values(volume.data):
            bone = volume.with_data(foreground_of(volume.data))
            notes += _notes_on_values(volume, bone)
        else:
            bone = volume.with_data(volume.data > 0)
            notes.append(f"{_labels_of(volume)} labels were found in the mask, and all above 0 are taken for bone")
    box = bounding_box(bone.mask)
    if box is None:
        raise InputError("the mask is empty: no voxel is bone")
    if bone.mask.all():
        raise InputError("every voxel is bone, none is background: this is no mask of a skull")
    if looks_inverted(bone.mask):
        raise InputError(
            f"{np.count_nonzero(bone.mask) / bone.mask.size:.0%} of the volume and most of its border are bone: bone "
            "and background seem to be exchanged; write the bone as 1 and the background as 0"
        )
    longest = max((p.stop - p.start) * s for p, s in zip(box, bone.grid.spacing_mm, strict=True))
    if longest < MIN_HEAD_MM:
        raise InputError(
            f"the bone spans {longest:.3g} mm at most, a head 90 or more: check the voxel size, or for a mesh the unit "
            "(is it in cm or m?), and export it in mm"
        )
    if longest > MAX_HEAD_MM:
        notes.append(f"the bone of the mask spans {longest:.0f} mm, more than a head: crop it to the head")
    return Segmentation(bone, None, tuple(notes))


def _notes_on_values(volume: Volume, bone: Volume) -> list[str]:
    """A line where it was guessed which of two values is the bone."""
    low, high = volume.data.min(), volume.data.max()
    if low in (0, high):
        return []
    value = volume.data[bone.mask][0]
    return [f"the mask holds the values {low:g} and {high:g}: {value:g} is taken for bone, the border's for background"]


def _labels_of(volume: Volume) -> int:
    """How many labels a map has.

    Raises:
        InputError: it is no map of labels.
    """
    data = volume.data
    if data.dtype.kind == "f" and not np.array_equal(data, np.round(data)):
        raise InputError(f"said to be a mask, but its values are not two, nor labels: {what_else(volume)}")
    if data.min() < 0 or len(labels := np.unique(data)) > MAX_LABELS:
        raise InputError(
            f"said to be a mask, but its values run from {data.min():g} to {data.max():g}; a mask has two values, such "
            "as 0 and 1; leave --kind out, or say --kind ct"
        )
    return len(labels) - int(labels[0] == 0)


__all__ = ["bone_of"]
