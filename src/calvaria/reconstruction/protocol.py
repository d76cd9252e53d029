"""What every engine takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from calvaria.models.calibration import Calibration
from calvaria.reconstruction.box import BoxField
from calvaria.reconstruction.surface import BoneSurface
from calvaria.skull.canonical import CanonicalFrame
from calvaria.skull.template import Template
from calvaria.types import F32, BoolArray
from calvaria.volume.volume import Volume

Stage = Callable[[str], AbstractContextManager[object]]
"""Entered with "hole" while holes and pose are found, then with "completion" while the holes are completed."""

MAX_MISFIT_MM = 1.5
"""A completion that is so far off the bone around its hole is none of a skull: heads have 0.1 to 0.6, with slices half
as far apart as they should be 2 and more. An engine may give up on it, with an empty region."""


@dataclass(frozen=True, eq=False)
class Spread:
    """How far a completed surface may lie elsewhere, as its engine sees it: not calibrated.

    Args:
        points_mm: (N, 3) float32, points along the completed surface, in the common box.
        sd_mm: (N,) float32, standard deviation along the surface's normal there, mm.
    """

    points_mm: F32
    sd_mm: F32


@dataclass(frozen=True, eq=False)
class SoftField:
    """A completed skull before any threshold.

    Args:
        distance_mm: float32 on `box.box_grid()`: signed distance to the completed skull's surface, negative in bone;
            only meaningful in ``region``.
        region: bool on the same grid, where missing bone may lie; all False for a skull without a hole.
        misfit_mm: how far the completed surface is off the known bone near the hole (weighted root mean square).
        spread: how sure the engine is along the surface; None of an engine that cannot say.
    """

    distance_mm: F32
    region: BoolArray
    misfit_mm: float
    spread: Spread | None = None


class Completion(NamedTuple):
    """A skull in the pose that was settled, and what is missing there.

    Args:
        frame: the pose.
        field: the skull in the common box of that pose.
        soft: the completion, or a sketch of it.
    """

    frame: CanonicalFrame
    field: BoxField
    soft: SoftField


class Engine(Protocol):
    """Anything that completes a skull in the common box.

    Every engine gives an empty region for a healthy skull, is equivariant under mirroring, and is deterministic. How it
    settles the pose is up to it: :mod:`calvaria.reconstruction.repose` has the methods. None completes a skull twice in
    the same pose.
    """

    @property
    def calibration(self) -> Calibration | None:
        """The accuracy of its patches; None if that was not measured."""

    @property
    def template(self) -> Template:
        """The mean skull that defines the poses which the engine was made with."""

    def prepare(self) -> None:
        """Make what needs no skull; may run beside other work, before the first skull is given."""

    def complete(self, field: BoxField) -> SoftField:
        """Complete a skull in the pose that it is given in."""

    def reconstruct(
        self, skull: Volume, frame: CanonicalFrame, surface: BoneSurface | None = None, stage: Stage = nullcontext
    ) -> Completion:
        """Settle the pose, which a hole pulls, and complete the skull there.

        Args:
            skull: the defective skull, on any grid.
            frame: its canonical frame, found with the holes.
            surface: of the skull, if it has been found already.
            stage: entered with each stage's name.

        Returns:
            The completion; for a skull without holes an empty region in the frame that was given.

        Raises:
            InputError: there is too little bone for a skull.
        """


class Sketcher(Protocol):
    """Predicts quickly and roughly what is missing, well enough to settle the pose.

    An engine may be one or have one; `repose.settle` uses it.
    """

    @property
    def template(self) -> Template:
        """As for an engine."""

    def sketch(self, field: BoxField, before: SoftField | None = None) -> SoftField:
        """Complete a skull roughly and quickly; anew from an earlier sketch of the same skull, if given."""


@runtime_checkable
class Surveyor(Protocol):
    """An engine that also finds the holes that it does not complete."""

    def with_min_hole_ml(self, min_ml: float) -> Engine:
        """The same engine, but holes of less missing bone than this are left open."""

    def left_open(self, field: BoxField, soft: SoftField, sketch: SoftField | None = None) -> BoolArray:
        """Openings of the vault that a completion has left, bool on the box grid.

        Args:
            field: the skull in the common box.
            soft: the completion.
            sketch: of large holes that it left on purpose.
        """

    def openings(self, field: BoxField, sketch: SoftField) -> BoolArray:
        """Where the head's wall is open, however small or narrow, bool on the box grid.

        Args:
            field: the skull in the common box.
            sketch: of its large holes, which are among the openings all the same.
        """
