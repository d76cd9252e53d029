"""Smooth random fields over the head: cubic B-splines with few knots, as functions of canonical mm.

Drawn in numpy from a seed, so that they are the same on every device. Displacements keep to a gradient below one, so
that space never folds: the refined control points bound a spline's gradient (de Boor 1978; Choi and Lee 2000 use the
same bound unrefined), and x + u(x) with a gradient below one is a one-to-one map with a positive Jacobian determinant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from calvaria.errors import InputError
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.types import F64

REACH_MM = 110.0
"""Knots reach this far from the head centre along each axis: half a head and some. Beyond, the outermost
ones go on."""

MAX_GRADIENT = 0.9
"""Bound on a displacement's gradient (largest row sum of |du_i / dx_j|). Below 1 nothing folds. The bound is about
twice the true value, so lengths change by half at the most."""

TABLE_MM = 4.0
"""Step of the table of a displacement; read linearly it is off by less than 0.1 mm for 2 mm on knots of 40 mm."""

SPLINE_VARIANCE = 151 / 315
"""Mean of the squared cubic B-splines' sum along one axis: what white control points keep of their variance."""


@dataclass(frozen=True)
class Bend:
    """A smooth displacement of the head's shape, and a mild asymmetry.

    Args:
        seed: which one.
        shape_mm: standard deviation along each axis of the part that moves left and right alike, mm.
        asymmetry_mm: the same of the part that moves them oppositely. What was symmetric about x = 0 lies about
            twice this apart from its mirror image, along each axis.
        knot_mm: distance of the spline's knots.

    Strong bends are scaled down as a whole so that they keep to `MAX_GRADIENT`: on knots of 40 mm, 1 mm comes out as
    asked and 2 mm as about 1.6 mm.

    Raises:
        InputError: a negative standard deviation, or knots closer than 10 mm or further apart than the head.
    """

    seed: int
    shape_mm: float = 0.0
    asymmetry_mm: float = 0.0
    knot_mm: float = 40.0

    def __post_init__(self) -> None:
        if not (0 <= self.shape_mm < np.inf and 0 <= self.asymmetry_mm < np.inf):
            raise InputError(
                f"a bend's standard deviations are at least 0 mm; got {self.shape_mm} and {self.asymmetry_mm}"
            )
        if not 10 <= self.knot_mm <= REACH_MM:
            raise InputError(f"a bend's knots are 10 to {REACH_MM:g} mm apart; got {self.knot_mm}")

    @property
    def is_none(self) -> bool:
        """Whether nothing is moved."""
        return self.shape_mm == 0 and self.asymmetry_mm == 0

    def control_mm(self) -> F64:
        """(3, N, N, N) mm: the displacement's control points, scaled down where their gradient would pass the limit."""
        count = knots_mm(self.knot_mm).size
        drawn = np.random.default_rng(self.seed).standard_normal((2, 3, count, count, count))
        drawn *= np.sqrt(2 / SPLINE_VARIANCE**3)  # 2: half of the variance goes with the other parity
        even, odd = drawn + mirrored(drawn), drawn - mirrored(drawn)
        control = self.shape_mm * even[0] / 2 + self.asymmetry_mm * odd[1] / 2
        gradient = gradient_bound(control, self.knot_mm)
        return np.asarray(control * min(1.0, MAX_GRADIENT / gradient) if gradient > 0 else control)

    def displacement(self) -> Displacement:
        """The displacement, ready to be read at points."""
        half = int(np.ceil(REACH_MM / TABLE_MM))
        along = np.arange(-half, half + 1) * TABLE_MM
        places = [np.asarray(along + middle, np.float64) for middle in HEAD_CENTRE_MM]
        return Displacement(spline_on(self.control_mm(), self.knot_mm, places))


def mirrored(control: F64) -> F64:
    """The control points of the displacement R u(R x), R the reflection about x = 0; (..., 3, N, N, N)."""
    flipped = np.flip(control, axis=-3).copy()
    flipped[..., 0, :, :, :] *= -1
    return flipped


def knots_mm(knot_mm: float) -> F64:
    """(N,) places of the knots along an axis, relative to the centre; symmetric, an odd number."""
    half = int(np.ceil(REACH_MM / knot_mm))
    return np.arange(-half, half + 1, dtype=np.float64) * knot_mm


def basis(along_mm: F64, knot_mm: float) -> F64:
    """(P, N) weights of the control points at (P,) places along an axis, relative to the centre; rows sum to one.

    Beyond the outermost knot the spline goes on as if its last control point were repeated.
    """
    knots = knots_mm(knot_mm)
    at = (along_mm - knots[0]) / knot_mm
    first = np.floor(at)
    t = at - first
    weights = ((1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6)
    rows, out = np.arange(at.size), np.zeros((at.size, knots.size))
    for step, weight in enumerate(weights):
        column = np.clip(first + step - 1, 0, knots.size - 1).astype(int)
        out[rows, column] += weight
    return out


def spline_on(control: F64, knot_mm: float, places_mm: Sequence[F64]) -> F64:
    """Values of a spline on a lattice along the axes.

    Args:
        control: (C, N, N, N) control points.
        knot_mm: distance of the knots.
        places_mm: x of (X,), y of (Y,), z of (Z,) lattice planes, canonical mm.

    Returns:
        (C, X, Y, Z).
    """
    bx, by, bz = (basis(at - middle, knot_mm) for at, middle in zip(places_mm, HEAD_CENTRE_MM, strict=True))
    values = by @ (control @ bz.T)  # (C, N, Y, Z)
    return np.asarray(np.einsum("xn,cnyz->cxyz", bx, values, optimize=True))


@dataclass(frozen=True, eq=False)
class Displacement:
    """A displacement as a table that is read linearly.

    Args:
        table_mm: (3, M, M, M) displacements on a lattice of `TABLE_MM` about the centre.
    """

    table_mm: F64

    def at(self, points_mm: F64) -> F64:
        """(P, 3) displacements, mm, at (P, 3) points; beyond the table that of its nearest face."""
        half = TABLE_MM * (self.table_mm.shape[1] - 1) / 2
        unit = torch.from_numpy((points_mm - HEAD_CENTRE_MM) / half).flip(
            -1
        )  # last axis first, as grid_sample wants it
        read = functional.grid_sample(
            torch.from_numpy(self.table_mm)[None], unit[None, :, None, None], padding_mode="border", align_corners=True
        )
        return np.asarray(read[0, :, :, 0, 0].T.numpy())


def gradient_bound(control: F64, knot_mm: float) -> float:
    """A bound on the largest row sum of |du_i / dx_j| of a displacement spline, tight to some percent.

    Args:
        control: (3, N, N, N) mm.
        knot_mm: distance of the knots.

    Returns:
        The bound; 0 for a uniform displacement.
    """
    from scipy.ndimage import maximum_filter

    fine = np.pad(control, ((0, 0), *[(2, 2)] * 3), mode="edge")
    for axis in (1, 2, 3):
        fine = _subdivided(fine, axis)
    total = np.zeros_like(fine)
    for axis in (1, 2, 3):
        step = np.abs(np.diff(fine, axis=axis, append=np.take(fine, [-1], axis=axis)))
        # The gradient in a cell is a mean of the differences that act there: 3 along their axis, 4 along the others.
        window = [1, 4, 4, 4]
        window[axis] = 3
        origin = [0, -1, -1, -1]  # 4 wide: from one before to two after
        origin[axis] = 0
        total += maximum_filter(step, size=window, mode="nearest", origin=origin)
    return float(total.max()) / (knot_mm / 2)


def _subdivided(control: F64, axis: int) -> F64:
    """The same spline along an axis with knots half as far apart (Lane and Riesenfeld 1980)."""
    moved = np.moveaxis(control, axis, 0)
    out = np.empty((2 * len(moved) - 3, *moved.shape[1:]))
    out[0::2] = (moved[:-1] + moved[1:]) / 2
    out[1::2] = (moved[:-2] + 6 * moved[1:-1] + moved[2:]) / 8
    return np.moveaxis(out, 0, axis)


__all__ = [
    "MAX_GRADIENT",
    "REACH_MM",
    "SPLINE_VARIANCE",
    "TABLE_MM",
    "Bend",
    "Displacement",
    "basis",
    "gradient_bound",
    "knots_mm",
    "mirrored",
    "spline_on",
]
