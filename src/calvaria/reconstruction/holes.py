"""The holes that were completed, described in the words of a report."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calvaria.reconstruction.box import box_grid, box_to_world
from calvaria.skull.canonical import CanonicalFrame
from calvaria.types import BoolArray
from calvaria.volume.components import label
from calvaria.volume.volume import Volume, bounding_box

PIXEL_MM = 1.0
"""Resolution at which the opening's area is counted, where voxels are not coarser."""

FRONTAL_Y_MM = -30.0
"""The coronal suture on the mean skull: what lies before is frontal bone."""

OCCIPITAL_Y_MM, OCCIPITAL_Z_MM = 50.0, 45.0
"""Behind the first and below the second, about the lambdoid suture, lies occipital bone."""

TEMPORAL_Z_MM = 15.0
"""Below, at the sides, lies temporal bone."""

MIDLINE_MM = 12.0
"""Nearer to the midsagittal plane than this a hole has no side."""


TOO_SMALL, KEPT_OPEN, BEYOND, NATURAL, NOT_POINTED_AT, REST = REASONS = (
    "too small",
    "kept open by the user",
    "beyond the scan's end",
    "natural opening",
    "not pointed at",
    "rest of a hole that was filled",
)
"""Why an opening is left: less missing bone than was asked for; the user's word; the scan does not show all of it; the
engine takes it for none that bone is missing in; something else was pointed at; the patch does not cover it all."""


@dataclass(frozen=True)
class Hole:
    """One piece of missing bone.

    Args:
        volume_ml: volume of the piece.
        area_cm2: area of its outline, seen along its thinnest direction.
        centre_mm: (x, y, z) centre of mass, world LPS mm.
        place: position on the head, in words; empty if its pose was not given.
    """

    volume_ml: float
    area_cm2: float
    centre_mm: tuple[float, float, float]
    place: str = ""

    @property
    def across_mm(self) -> float:
        """Diameter of the circle of the same area."""
        return float(2 * np.sqrt(self.area_cm2 * 100 / np.pi))


@dataclass(frozen=True)
class LeftOpen(Hole):
    """An opening of the vault that was not filled.

    Args:
        reason: one of `REASONS`.
    """

    reason: str = ""

    @property
    def meant(self) -> bool:
        """Whether the user decided so."""
        return self.reason in {KEPT_OPEN, NOT_POINTED_AT}


def holes_in(patch: Volume) -> tuple[Hole, ...]:
    """The separate pieces of a patch, largest first; none for an empty patch."""
    box = bounding_box(patch.mask)
    if box is None:
        return ()
    part = patch.crop(box)
    labels, count = label(part.mask, connectivity=6)
    holes = [_describe(part, labels == number) for number in range(1, count + 1)]
    return tuple(sorted(holes, key=lambda hole: -hole.volume_ml))


def left_open(openings: BoolArray, frame: CanonicalFrame) -> tuple[Hole, ...]:
    """Openings that were not completed, largest first, with their positions.

    Args:
        openings: bool on the box grid.
        frame: the skull's.
    """
    found = holes_in(Volume(openings, box_grid().moved(box_to_world(frame))))
    return tuple(replace(hole, place=place_of(hole.centre_mm, frame)) for hole in found)


def place_of(centre_mm: tuple[float, float, float], frame: CanonicalFrame) -> str:
    """Side and region of the vault of a world point, such as "left parietal"."""
    x, y, z = (frame.to_canonical[:3, :3] @ np.array(centre_mm) + frame.to_canonical[:3, 3]) / frame.scale
    if y < FRONTAL_Y_MM:
        region = "frontal"
    elif y > OCCIPITAL_Y_MM and z < OCCIPITAL_Z_MM:
        region = "occipital"
    else:
        region = "temporal" if z < TEMPORAL_Z_MM else "parietal"
    side = "midline" if abs(x) < MIDLINE_MM else ("left" if x > 0 else "right")
    return f"{side} {region}"


def left_open_line(hole: Hole) -> str:
    """One opening that was not completed, for the warnings."""
    x, y, z = hole.centre_mm
    line = (
        f"left open: {hole.volume_ml:.1f} ml, {hole.across_mm:.0f} mm across, {hole.place}, at ({x:.0f}, {y:.0f}, "
        f"{z:.0f}) mm"
    )
    return f"{line}: {hole.reason}" if isinstance(hole, LeftOpen) else line


def _describe(part: Volume, piece: np.ndarray) -> Hole:
    points = part.grid.to_world(np.argwhere(piece))
    centre = points.mean(axis=0)
    volume_ml = len(points) * part.grid.voxel_volume_mm3 / 1000
    some = points[:: max(1, len(points) // 20000)]
    _, axes = np.linalg.eigh(np.cov((some - centre).T) if len(some) > 1 else np.eye(3))
    pixel_mm = max(PIXEL_MM, *part.grid.spacing_mm)  # smaller pixels would show gaps between coarse voxels
    pixel = np.floor((points - centre) @ axes[:, 1:] / pixel_mm).astype(int)
    pixel -= pixel.min(axis=0)
    seen = np.zeros(pixel.max(axis=0) + 1, bool)
    seen[pixel[:, 0], pixel[:, 1]] = True
    area_mm2 = int(np.count_nonzero(seen)) * pixel_mm**2
    x, y, z = (round(float(v), 2) for v in centre)
    return Hole(round(volume_ml, 3), round(area_mm2 / 100, 2), (x, y, z))
