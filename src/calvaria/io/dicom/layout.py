"""Where the slices of one stack lie, from their positions alone: even, sheared by a tilt, with gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from calvaria.errors import GeometryError
from calvaria.types import F64

EVEN_RTOL = 0.01
"""Slices are evenly spaced when none is further than this share of the step from its place ..."""

EVEN_ATOL_MM = 0.01
"""... or than this: positions are written with two or three decimals."""

MAX_GAP = 2.5
"""Of the usual step: what lies in a wider gap is not made up."""

MAX_MISSING = 0.05
"""Share of the slices that may be missing and are made up between their neighbours: fewer than this."""

MAX_STEP_MM = 10.0
"""A stack with a wider step shows no skull that could be completed."""

COVERED = 0.9
"""A gap is no missing slice where the slices beside it are thicker than this share of it."""

MAX_GROWTH = 4
"""Uneven slices are not resampled to more than so many times their number: 2.5 mm ones in a stack of 5 mm double it."""

USUAL_SHARE = 0.1
"""The smallest step that at least this share of the gaps have is the one to resample at."""

SAME_PLACE_MM = 0.01
"""Two slices closer than this have one position."""

MAX_ASIDE_MM = 20.0
"""Slices that lie further aside of their place in the stack are refused; nearer ones are shifted back."""

ASIDE_PIXELS = 0.05
"""Slices that lie less than this share of a pixel aside are in their place: positions are rounded."""

UNIT_ATOL = 1e-2
"""How far the directions of rows and columns may be from unit length and a right angle."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the slices of a stack lie.

    Args:
        order: (N,) which slice of those given is the k-th along the normal.
        at_mm: (N,) of the sorted slices along the normal, from 0.
        aside_mm: (N, 2) of the sorted slices: how far aside of the straight stack, along rows and along columns.
        step: (3,) world mm from one slice of the volume to the next.
        count: slices of the volume.
        even: whether these are the slices given; otherwise the volume is resampled.
        gaps_mm: smallest, median, largest.
        missing: slices that are probably missing.
        tilt_degrees: between the stack and the slices' normal; signed as the rotation about the rows' direction.
    """

    order: np.ndarray
    at_mm: F64
    aside_mm: F64
    step: F64
    count: int
    even: bool
    gaps_mm: tuple[float, float, float]
    missing: int
    tilt_degrees: float

    @property
    def step_mm(self) -> float:
        """Between the planes of two slices of the volume, along the normal."""
        return float(self.at_mm[-1]) / (self.count - 1)


def axes_of(orientation: ArrayLike) -> F64:
    """The direction of the rows, of the columns and their normal, one a row: (3, 3), unit.

    Args:
        orientation: (6,) as ImageOrientationPatient.

    Raises:
        GeometryError: these are not two unit vectors at a right angle.
    """
    along, down = np.asarray(orientation, np.float64).reshape(2, 3)
    lengths = float(np.linalg.norm(along)), float(np.linalg.norm(down))
    off = max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(float(along @ down)))
    if not off <= UNIT_ATOL:
        raise GeometryError("ImageOrientationPatient is not two unit vectors at a right angle")
    along, down = along / lengths[0], down / lengths[1]
    normal = np.cross(along, down)
    return np.stack([along, down, normal / np.linalg.norm(normal)])


def layout_of(
    positions: ArrayLike, axes: F64, thickness_mm: Sequence[float | None], pixel_mm: float, fewest: int
) -> Layout:
    """Where slices lie.

    Args:
        positions: (N, 3) centres of the slices' first pixels, world mm, in any order, no two at one place.
        axes: (3, 3), see `axes_of`.
        thickness_mm: (N,) of the slices.
        pixel_mm: the smaller side of a pixel.
        fewest: slices that a volume needs.

    Raises:
        GeometryError: there are too few, two at one place, or gaps that are not filled.
    """
    points = np.asarray(positions, np.float64).reshape(-1, 3)
    if len(points) < fewest:
        raise GeometryError(f"{len(points)} slices; at least {fewest} are needed")
    along = points @ axes[2]
    order = np.argsort(along, kind="stable")
    points, at = points[order], along[order] - along[order[0]]
    gaps = np.diff(at)
    if gaps.min() < SAME_PLACE_MM:
        raise GeometryError(f"{int((gaps < SAME_PLACE_MM).sum()) + 1} slices lie in one place: the spacing is zero")
    count = len(points)
    mean = (points[-1] - points[0]) / at[-1]  # world mm for each mm along the normal
    aside = (points - points[0] - at[:, None] * mean) @ axes[:2].T
    straight = bool(np.abs(aside).max() <= max(ASIDE_PIXELS * pixel_mm, EVEN_ATOL_MM))
    step = at[-1] / (count - 1)
    off = np.abs(at - step * np.arange(count)).max()
    even = straight and bool(off <= max(EVEN_RTOL * step, EVEN_ATOL_MM))
    missing = 0
    if not even:
        thick = np.array([thickness_mm[n] or 0.0 for n in order])
        missing = _require_small_gaps(gaps, np.minimum(thick[1:], thick[:-1]))
        count = 1 + max(1, round(at[-1] / _usual(gaps)))
        if count > MAX_GROWTH * len(points):
            raise GeometryError(
                f"the slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart: even ones would be {count}, but there "
                f"are {len(points)}; export an even series"
            )
        step = at[-1] / (count - 1)
    if step > MAX_STEP_MM:
        raise GeometryError(f"the slices are {step:.1f} mm apart; at most {MAX_STEP_MM:g} mm are read")
    if np.abs(aside).max() > MAX_ASIDE_MM:
        raise GeometryError(
            f"a slice lies {np.abs(aside).max():.1f} mm aside of the stack; at most {MAX_ASIDE_MM:g} mm are read"
        )
    return Layout(
        order=order,
        at_mm=at,
        aside_mm=aside if not straight else np.zeros_like(aside),
        step=mean * step,
        count=count,
        even=even,
        gaps_mm=(float(gaps.min()), float(np.median(gaps)), float(gaps.max())),
        missing=missing,
        tilt_degrees=_tilt(mean, axes),
    )


def _usual(gaps: F64) -> float:
    return float(np.quantile(gaps, USUAL_SHARE, method="lower"))


def _require_small_gaps(gaps: F64, thick: F64) -> int:
    """How many slices are missing.

    Args:
        gaps: (N - 1,) between the slices, mm.
        thick: (N - 1,) thickness of the thinner of the two slices beside each, mm; 0 where it is not known.

    Raises:
        GeometryError: too many, or too many at one place.
    """
    usual = float(np.median(gaps))
    # A stack of 2.5 mm slices through the base and 5 mm ones above has no gap; thin slices far apart have. Nothing is
    # as thick as a damaged header may say.
    open_ = np.minimum(thick, MAX_STEP_MM) < COVERED * gaps
    widest = int(np.argmax(np.where(open_, gaps, 0.0)))
    if open_[widest] and gaps[widest] > MAX_GAP * usual:
        raise GeometryError(
            f"slices {widest + 1} and {widest + 2} are {gaps[widest]:.2f} mm apart, the others {usual:.2f} mm: "
            "some are missing; export the whole series"
        )
    missing = int(np.maximum(np.rint(gaps / usual) - 1, 0)[open_].sum())
    if missing >= MAX_MISSING * (len(gaps) + 1 + missing) and missing:
        raise GeometryError(f"about {missing} of {len(gaps) + 1 + missing} slices are missing; export the whole series")
    return missing


def _tilt(mean: F64, axes: F64) -> float:
    """Degrees between the stack and the normal; 0 to three decimals is 0."""
    sideways = axes[:2] @ mean
    angle = np.degrees(np.arctan2(np.linalg.norm(sideways), mean @ axes[2]))
    sign = -1.0 if sideways[np.argmax(np.abs(sideways))] < 0 else 1.0
    return round(float(sign * angle), 3) + 0.0


__all__ = ["SAME_PLACE_MM", "Layout", "axes_of", "layout_of"]
