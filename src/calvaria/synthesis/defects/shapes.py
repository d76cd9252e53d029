"""The shape of a synthetic defect of balls joined smoothly, with a roughened edge, as a function of canonical mm."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from calvaria.errors import InputError
from calvaria.synthesis.defects.formulas import GRAIN_MM, REACH_SD, above_landmarks, roughened, smooth_minimum
from calvaria.types import FloatArray
from calvaria.volume.namespace import Array, namespace_of

KINDS = ("bilateral", "frontoorbital", "parietotemporal", "random_1", "random_2", "ball")
"""The five kinds of SkullBreak, and the plain ball: what is made of balls."""

BLEND_MM = 4.0
"""Creases between balls are rounded over this width, as healing does."""


@dataclass(frozen=True)
class DefectSpec:
    """One defect's shape, in canonical mm.

    Args:
        kind: one of ``KINDS``.
        balls_mm: centre and radius (x, y, z, r) of each ball.
        ragged_mm: standard deviation of the edge's roughness; 0 for a smooth edge.
        ragged_seed: which roughness.

    Raises:
        InputError: an unknown kind, no ball, or a ball without a positive radius.
    """

    kind: str
    balls_mm: tuple[tuple[float, float, float, float], ...]
    ragged_mm: float = 0.0
    ragged_seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"a defect's kind is one of {', '.join(KINDS)}; got {self.kind!r}")
        balls = np.array(self.balls_mm, dtype=float)
        if balls.ndim != 2 or balls.shape[1] != 4 or not np.isfinite(balls).all() or not (balls[:, 3] > 0).all():
            raise InputError(f"a defect needs balls (x, y, z, radius > 0) in mm; got {self.balls_mm}")
        if not self.ragged_mm >= 0:
            raise InputError(f"the roughness of a defect's edge is at least 0 mm; got {self.ragged_mm}")

    @property
    def parts(self) -> tuple[DefectSpec, ...]:
        """The spec itself: a shape that is cut as one."""
        return (self,)

    def to_json(self) -> str:
        """The spec as one line of JSON; :meth:`from_json` gives it back exactly."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> DefectSpec:
        """The spec that :meth:`to_json` wrote.

        Raises:
            InputError: the text is not a spec.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            values["balls_mm"] = tuple(tuple(float(v) for v in ball) for ball in values["balls_mm"])
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a defect spec: {error}; see DefectSpec.to_json") from None

    def field_mm(self, points_mm: ArrayLike) -> FloatArray:
        """Signed distance, roughly, to the shape's edge.

        Args:
            points_mm: (N, 3) canonical mm.

        Returns:
            (N,) float32 mm, negative inside the shape. Exact for one smooth ball; elsewhere the edge is right and the
            distance is within the roughness and the blend.
        """
        field: FloatArray = self.field(np.ascontiguousarray(np.asarray(points_mm, dtype=np.float32).T))
        return field

    def field(self, points: Array) -> Array:
        """The same at (3, N) float32 points, a numpy array or a torch tensor: (N,) of the same kind."""
        field = _distance(points, self.balls_mm[0])
        for ball in self.balls_mm[1:]:
            field = smooth_minimum(field, _distance(points, ball), BLEND_MM)
        field = roughened(field, points, self.ragged_mm, self.ragged_seed)
        return namespace_of(points).maximum(field, above_landmarks(points))

    def bounds_mm(self) -> FloatArray:
        """(2, 3) canonical mm: a box that holds the whole shape."""
        balls = np.array(self.balls_mm)
        reach = balls[:, 3:] + BLEND_MM + REACH_SD * self.ragged_mm
        bounds: FloatArray = np.stack([(balls[:, :3] - reach).min(axis=0), (balls[:, :3] + reach).max(axis=0)])
        return bounds


def _distance(points: Array, ball: tuple[float, float, float, float]) -> Array:
    """(N,) mm from (3, N) points to a ball, negative inside."""
    x, y, z, radius = ball
    squared = (points[0] - x) ** 2 + (points[1] - y) ** 2 + (points[2] - z) ** 2
    return namespace_of(points).sqrt(squared) - radius


__all__ = ["BLEND_MM", "GRAIN_MM", "KINDS", "DefectSpec"]
