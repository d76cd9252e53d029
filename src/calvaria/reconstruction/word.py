"""What the user knows and says: what to fill, what to leave open, which bone not to count, where the midline runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calvaria.errors import InputError
from calvaria.volume.foreground import foreground_of, has_two_values, looks_inverted
from calvaria.volume.resample import resample_mask
from calvaria.volume.volume import Volume, indices_of

if TYPE_CHECKING:
    from calvaria.skull.canonical import CanonicalFrame
    from calvaria.symmetry.plane import Plane
    from calvaria.types import F64

Point = tuple[float, float, float]
"""World LPS mm."""

ODD_PLANE_DEG, ODD_PLANE_MM = 25.0, 25.0
"""A given plane that differs by more from the one that was found is doubtful: holes move the found one by 3 at most."""


@dataclass(frozen=True, eq=False)
class UserWord:
    """What the user says of a skull; world LPS mm, masks on any grid.

    With any of ``hole``, ``seeds_mm`` and ``box_mm`` only what they point at is filled, whatever its size; the mask
    goes with neither of the others.

    Args:
        hole: mask: fill this.
        seeds_mm: points: the opening at each is filled.
        box_mm: (x0, y0, z0, x1, y1, z1), two corners in any order: openings that lie in it by at least half are filled.
        ignore: mask: bone in it does not count and is left out of the completed skull.
        plane: the mid-sagittal plane.
        keep_open: points and masks: what is open there is not filled.

    Raises:
        InputError: a point is not three finite numbers; the box is not six, or is flat; or it stands beside a mask.
    """

    hole: Volume | None = None
    seeds_mm: tuple[Point, ...] = ()
    box_mm: tuple[float, float, float, float, float, float] | None = None
    ignore: Volume | None = None
    plane: Plane | None = None
    keep_open: tuple[Point | Volume, ...] = ()

    def __post_init__(self) -> None:
        for point in (*self.seeds_mm, *(one for one in self.keep_open if not isinstance(one, Volume))):
            if np.shape(point) != (3,) or not np.isfinite(point).all():
                raise InputError(f"a point is three finite numbers x, y, z, LPS mm; got {point}")
        if self.hole is not None and (self.seeds_mm or self.box_mm is not None):
            raise InputError("a mask of the hole says all of what is filled: leave seeds and box out, or the mask")
        if self.box_mm is None:
            return
        if np.shape(self.box_mm) != (6,) or not np.isfinite(self.box_mm).all():
            raise InputError(f"a box is six finite numbers x0, y0, z0, x1, y1, z1, LPS mm; got {self.box_mm}")
        if (np.abs(np.subtract(self.box_mm[:3], self.box_mm[3:])) == 0).any():
            raise InputError(f"a box's two corners differ along x, y and z; got {self.box_mm}")

    @property
    def points_at_something(self) -> bool:
        """Whether it says what to fill."""
        return self.hole is not None or bool(self.seeds_mm) or self.box_mm is not None


def given_mask(mask: Volume, what: str) -> Volume:
    """The voxels that are set in a mask that was given.

    Args:
        mask: booleans, or two values.
        what: it is called in messages, such as "the hole's mask".

    Returns:
        A mask on the same grid, not empty.

    Raises:
        InputError: it has other values, no voxel is set, or mask and background are exchanged.
    """
    if not mask.is_mask:
        if mask.data.dtype.kind not in "biuf" or not has_two_values(mask.data):
            raise InputError(
                f"{what} must have two values, such as 0 and 1; it has more: give the place alone as a mask"
            )
        mask = mask.with_data(foreground_of(mask.data))
    if not mask.mask.any():
        raise InputError(f"{what} is empty: no voxel is set; write the place as 1 and the background as 0")
    if looks_inverted(mask.mask):
        raise InputError(f"{what} covers most of its volume: write the place as 1 and the background as 0")
    return mask


def on_grid_of(mask: Volume, bone: Volume, what: str) -> Volume:
    """A mask from `given_mask` on the grid of a skull, in the order of its memory.

    Raises:
        InputError: nothing of it lies there.
    """
    placed = mask if mask.grid.same_as(bone.grid) else resample_mask(mask, bone.grid)
    if not placed.mask.any():
        raise InputError(
            f"{what} lies elsewhere (around {said(middle_of(mask))} mm): nothing of it lies on the skull's grid; check "
            "that both are in one frame"
        )
    return bone.with_data(np.asarray(placed.mask, order="F" if bone.data.flags.f_contiguous else "C"))


def without_ignored(bone: Volume, ignore: Volume) -> tuple[Volume, str]:
    """A skull without the bone that must not count, and a line that says how much that was.

    Raises:
        InputError: there is no bone in the mask, or no other.
    """
    what = "the mask of bone to ignore"
    given = given_mask(ignore, what)
    mask = on_grid_of(given, bone, what).mask & bone.mask
    if not mask.any():
        raise InputError(f"{what} holds no bone (it lies around {said(middle_of(given))} mm): check its frame")
    kept = bone.with_data(bone.mask & ~mask)
    if not kept.mask.any():
        raise InputError(f"{what} holds all of the bone: give only the bone that must not count")
    return (
        kept,
        f"ignored: {bone.with_data(mask).volume_ml:.1f} ml of bone, as was asked; it is not in the completed skull",
    )


def held_to(frame: CanonicalFrame, plane: Plane) -> tuple[CanonicalFrame, tuple[str, ...]]:
    """A frame turned onto the plane that was given, and a line where that is far from the one that was found."""
    found, middle = frame.plane, frame.to_world[:3, 3]
    degrees, apart_mm = plane.angle_deg(found), plane.apart_mm(found, middle)
    lines: tuple[str, ...] = ()
    if degrees > ODD_PLANE_DEG or apart_mm > ODD_PLANE_MM:
        lines = (
            f"the given plane is {degrees:.0f} degrees and {apart_mm:.0f} mm off the one that was found (usual: less "
            f"than {ODD_PLANE_DEG:.0f} and {ODD_PLANE_MM:.0f}): check normal and offset, world LPS mm",
        )
    return frame.onto(plane), lines


def middle_of(mask: Volume) -> F64:
    """(3,) world mm: the mean of the voxels that are set."""
    return mask.grid.to_world(indices_of(mask.mask).mean(axis=0))


def said(point_mm: F64 | Point) -> str:
    """A point in a message."""
    return f"({', '.join(f'{mm:.0f}' for mm in point_mm)})"


__all__ = ["Point", "UserWord", "given_mask", "held_to", "middle_of", "on_grid_of", "said", "without_ignored"]
