"""When a synthetic defect is sound: one rule for all that cut, whatever measures the figures.

Sound means: of a size that the kind has, nearly all of the bone inside the shape in one piece, no large bone left
without connection; a bilateral patch has a fair part on either side, a frontoorbital one reaches the brow, a
hemicraniectomy has the area that surgeons aim at, a bifrontal craniectomy one like it, on both sides. Numpy and torch
measure; what they found is judged here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from calvaria.skull.canonical import LANDMARK_MM
from calvaria.synthesis.defects.specs import MULTIPLE

VERSION = 2
"""Of the rule: another one lets other defects pass, so that the same seed gives other cases."""

VOLUME_ML = (15.0, 90.0)
"""Size that a patch of balls should have."""

SAWN_ML = {
    "craniotomy": (4.0, 80.0),
    "hemicraniectomy": (40.0, 150.0),
    "bifrontal": (30.0, 150.0),
    MULTIPLE: (8.0, 90.0),
}
"""The same for the other kinds: 3.5 to 11.5 cm across, 100 to 150 cm2, 80 to 160 cm2, and small ones together."""

MIN_PART_ML = 2.0
"""Each of several defects takes at least this."""

HEMICRANIECTOMY_CM2 = (95.0, 155.0)
"""Outer surface that a hemicraniectomy takes: 100 to 150 cm2, but for what a real head differs from the model's."""

BIFRONTAL_CM2 = (80.0, 160.0)
"""The same of a bifrontal craniectomy: 80 to 160 cm2 on the model head."""

ISLAND_ML = 3.0
"""Bone cut off from the skull up to this size goes to the patch; a defect that leaves a larger piece is not sound."""

MIN_PIECE_SHARE = 0.85
"""The largest piece of bone inside the shape holds at least this part of it, or the defect is not sound."""

MIN_SIDE_SHARE = 0.2
"""A bilateral or bifrontal patch has at least this part of its volume on either side of the midline."""

BROW_MM = 6.0
"""A frontoorbital patch comes at least this near to the landmark plane, which ends it: it takes the brow."""


@dataclass(frozen=True)
class Figures:
    """What was measured of a cut.

    Args:
        volume_ml: of the patch.
        piece_share: share of the bone inside the shape that its largest piece holds; the smallest share, of several
            parts; 0 where a part meets no bone.
        part_ml: volume of the smallest part's piece.
        stray_ml: the largest piece of bone that was left without connection, too large for the patch; 0: none.
    """

    volume_ml: float
    piece_share: float
    part_ml: float
    stray_ml: float


class Patch(Protocol):
    """A patch whose place and extent can be measured; only what its kind is judged by is asked for."""

    def left_share(self) -> float:
        """Share of its volume left of the midline (x > 0), 0 to 1."""

    def lowest_mm(self) -> float:
        """How far down it comes: the largest ``LANDMARK_NORMAL . x`` of its voxels' centres, mm."""

    def area_cm2(self) -> float:
        """Outer surface that it restores, see :mod:`calvaria.synthesis.defects.area`."""


def right_size(kind: str, volume_ml: float, slack: float = 0.0) -> bool:
    """Whether a patch has a size that its kind should have; ``slack`` widens the range by this part at both ends."""
    least, most = SAWN_ML.get(kind, VOLUME_ML)
    return least * (1 - slack) <= volume_ml <= most * (1 + slack)


def cut_clean(figures: Figures) -> bool:
    """Whether the shape took whole pieces and left none behind."""
    return figures.piece_share >= MIN_PIECE_SHARE and figures.part_ml >= MIN_PART_ML and figures.stray_ml == 0


def in_place(kind: str, patch: Patch) -> bool:
    """Whether a patch lies where its kind should, and takes the area that it should."""
    if kind == "hemicraniectomy":
        return HEMICRANIECTOMY_CM2[0] <= patch.area_cm2() <= HEMICRANIECTOMY_CM2[1]
    if kind == "bifrontal":
        return on_both_sides(patch) and BIFRONTAL_CM2[0] <= patch.area_cm2() <= BIFRONTAL_CM2[1]
    if kind == "bilateral":
        return on_both_sides(patch)
    if kind == "frontoorbital":
        return patch.lowest_mm() >= LANDMARK_MM - BROW_MM
    return True


def on_both_sides(patch: Patch) -> bool:
    """Whether a patch has a fair part of its volume on either side of the midline."""
    return MIN_SIDE_SHARE <= patch.left_share() <= 1 - MIN_SIDE_SHARE


def is_sound(kind: str, figures: Figures, patch: Patch) -> bool:
    """Whether a cut defect of a kind is sound; the patch is measured only where the figures are in order."""
    return right_size(kind, figures.volume_ml) and cut_clean(figures) and in_place(kind, patch)


__all__ = [
    "ISLAND_ML",
    "VERSION",
    "Figures",
    "Patch",
    "cut_clean",
    "in_place",
    "is_sound",
    "on_both_sides",
    "right_size",
]
