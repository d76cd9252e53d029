"""What every engine takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from calvaria.reconstruction.box import BoxField
from calvaria.skull.template import Template
from calvaria.types import F32, BoolArray

MAX_MISFIT_MM = 1.5
"""A completion that is so far off the bone around its hole is none of a skull: heads have 0.1 to 0.6, with slices half
as far apart as they should be 2 and more. An engine may give up on it, with an empty region."""


@dataclass(frozen=True, eq=False)
class SoftField:
    """A completed skull before any threshold.

    Args:
        distance_mm: float32 on `box.box_grid()`: signed distance to the completed skull's surface, negative in bone;
            only meaningful in ``region``.
        region: bool on the same grid, where missing bone may lie; all False for a skull without a hole.
        misfit_mm: how far the completed surface is off the known bone near the hole (weighted root mean square).
    """

    distance_mm: F32
    region: BoolArray
    misfit_mm: float


class Engine(Protocol):
    """Anything that completes a skull in the common box.

    Every engine gives an empty region for a healthy skull, is equivariant under mirroring, and is deterministic.
    """

    @property
    def calibrated(self) -> bool:
        """Whether the expected accuracy of :mod:`calvaria.reconstruction.confidence` was fitted on this engine."""

    @property
    def template(self) -> Template:
        """The mean skull that defines the poses which the engine was made with."""

    def prepare(self) -> None:
        """Make what needs no skull; may run beside other work, before the first skull is given."""

    def sketch(self, field: BoxField, before: SoftField | None = None) -> SoftField:
        """Complete a skull roughly and quickly, well enough to see its pose; anew from an earlier sketch, if given."""

    def complete(self, field: BoxField, sketch: SoftField | None = None) -> SoftField:
        """Complete a skull, from a sketch that was renewed once or oftener, if there is one already."""


@runtime_checkable
class Surveyor(Protocol):
    """An engine that also knows of the holes that it does not fill."""

    def with_min_hole_ml(self, min_ml: float) -> Engine:
        """The same engine, but holes of less missing bone than this are left open."""

    def left_open(self, field: BoxField, soft: SoftField) -> BoolArray:
        """Openings of the head's wall that a completion has left, bool on the box grid."""
