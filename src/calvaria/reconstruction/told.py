"""What the user should read of a result."""

from __future__ import annotations

from collections.abc import Iterator

from calvaria.reconstruction.confidence import Confidence
from calvaria.reconstruction.holes import Hole
from calvaria.skull.canonical import CanonicalFrame

MIN_UPRIGHT = 0.5
"""Cosine of the angle between the head's axis and the file's, 60 degrees, below which a head counts as lying."""


def warnings_on(
    frame: CanonicalFrame,
    holes: tuple[Hole, ...],
    confidence: Confidence,
    lines: tuple[str, ...],
    min_hole_ml: float,
) -> Iterator[str]:
    """What the user should read, a line a matter, each once."""
    first = tuple(_of_holes(holes, confidence, lines, min_hole_ml))
    yield from first
    yield from (line for line in lines if line not in first)
    yield from on_posture(frame)


def _of_holes(
    holes: tuple[Hole, ...], confidence: Confidence, lines: tuple[str, ...], min_hole_ml: float
) -> Iterator[str]:
    if not holes:
        yield f"no defect of {min_hole_ml:g} ml or more was found: the patch is empty"
    elif confidence.expected_dsc is None or (confidence.beyond and confidence.beyond not in lines):
        yield confidence.reason


def on_posture(frame: CanonicalFrame) -> Iterator[str]:
    """A line where the head does not stand upright in the file."""
    if frame.to_world[2, 2] < MIN_UPRIGHT:
        yield "the head does not stand upright in the file's coordinates: check the orientation of the input"


__all__ = ["on_posture", "warnings_on"]
