"""The shape of what a surgeon's saw takes out: an outline on the head, cut through along the local normal.

The outline is drawn on a plane and laid on a sphere that bends as the head does there (azimuthal, equidistant from
the middle); the faces of the cut run towards the sphere's centre, as a craniotome held upright to the bone leaves
them. The prism ends a little below the model head's surface: it takes the vault, not what lies deeper.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from calvaria.errors import InputError
from calvaria.skull.head import below_surface
from calvaria.synthesis.defects.formulas import REACH_SD, above_landmarks, polygon, roughened
from calvaria.types import FloatArray
from calvaria.volume.namespace import Array, namespace_of

PRISM_KINDS = ("craniotomy", "hemicraniectomy", "bifrontal")
"""Kinds that are cut with a saw."""

INWARD_MM, OUTWARD_MM = 50.0, 35.0
"""The prism ends this far inside and outside the sphere it is laid on: the vault of any head lies between."""

MIDDLE_MM, HALF_SHELL_MM = (OUTWARD_MM - INWARD_MM) / 2, (OUTWARD_MM + INWARD_MM) / 2
"""The same two ends, as the middle and half the thickness of a shell about the sphere."""

UNIT_ATOL = 1e-3
"""Directions are kept with 5 digits: unit length and right angles hold to this."""

MAX_ANGLE = 2.0
"""Largest angle (radians) from the outline's middle to its edge as seen from the sphere's centre; no hole is wider."""


@dataclass(frozen=True)
class PrismSpec:
    """One craniotomy's shape, in canonical mm.

    Args:
        kind: one of ``PRISM_KINDS``.
        centre_mm: (x, y, z) on the model head's surface: the middle of the outline's plane.
        normal: (x, y, z) outward unit normal there.
        across: (x, y, z) unit vector at right angles to it: the outline's first axis; the second is normal x across.
        bend_mm: radius of the sphere that the plane is laid on.
        outline_mm: (a, b) vertices of a simple polygon about the middle, at least three.
        corner_mm: the polygon is grown by this all round, so its corners are rounded by this radius.
        kerf_mm: what the saw takes all round beyond the flap.
        burrs_mm: (a, b, r) of each burr hole.
        depth_mm: how far below the model head's surface the prism ends.
        midline_mm: no point nearer than this to the plane x = 0 is inside; 0: the plane is no limit.
        ragged_mm: standard deviation of the edge's roughness; 0 for a smooth edge.
        ragged_seed: which roughness.

    Raises:
        InputError: an unknown kind, fewer than three vertices, directions that are not at right angles, a length that
            is negative or not finite, an outline that goes further round the head than ``MAX_ANGLE``.
    """

    kind: str
    centre_mm: tuple[float, float, float]
    normal: tuple[float, float, float]
    across: tuple[float, float, float]
    bend_mm: float
    outline_mm: tuple[tuple[float, float], ...]
    corner_mm: float = 0.0
    kerf_mm: float = 0.0
    burrs_mm: tuple[tuple[float, float, float], ...] = ()
    depth_mm: float = 20.0
    midline_mm: float = 0.0
    ragged_mm: float = 0.0
    ragged_seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in PRISM_KINDS:
            raise InputError(f"a prism's kind is one of {', '.join(PRISM_KINDS)}; got {self.kind!r}")
        outline = np.array(self.outline_mm, dtype=float)
        if outline.ndim != 2 or outline.shape[0] < 3 or outline.shape[1] != 2 or not np.isfinite(outline).all():
            raise InputError(f"a prism's outline has three or more vertices (a, b) in mm; got {self.outline_mm}")
        if any(np.shape(burr) != (3,) or not np.isfinite(burr).all() or burr[2] <= 0 for burr in self.burrs_mm):
            raise InputError(f"a prism's burr holes are (a, b, radius > 0) in mm; got {self.burrs_mm}")
        n, t = np.array(self.normal), np.array(self.across)
        if not (np.allclose([n @ n, t @ t], 1.0, atol=UNIT_ATOL) and abs(n @ t) < UNIT_ATOL):
            raise InputError(f"normal and across are unit vectors at right angles; got {self.normal} and {self.across}")
        for name in ("bend_mm", "depth_mm", "corner_mm", "kerf_mm", "midline_mm", "ragged_mm"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0) or (value == 0 and name in {"bend_mm", "depth_mm"}):
                raise InputError(f"a prism's {name} is a length of at least 0 (bend, depth: above 0); got {value}")
        if self.reach_mm() / self.bend_mm > MAX_ANGLE:
            raise InputError(f"a prism's outline goes {self.reach_mm():.0f} mm from its middle: too far round the head")

    @property
    def parts(self) -> tuple[PrismSpec, ...]:
        """The spec itself: a shape that is cut as one."""
        return (self,)

    def reach_mm(self) -> float:
        """From the outline's middle to its farthest point, along the sphere."""
        flap = max(float(np.hypot(a, b)) for a, b in self.outline_mm) + self.corner_mm + self.kerf_mm
        burr = max((float(np.hypot(a, b)) + r for a, b, r in self.burrs_mm), default=0.0)
        return max(flap, burr) + REACH_SD * self.ragged_mm

    def outline_area_cm2(self) -> float:
        """Area of the outline with its rounding and kerf, without burr holes, on its plane."""
        a, b = np.array(self.outline_mm).T
        area = abs(float(a @ np.roll(b, -1) - b @ np.roll(a, -1))) / 2
        length = float(np.hypot(a - np.roll(a, -1), b - np.roll(b, -1)).sum())
        grown = self.corner_mm + self.kerf_mm
        return (area + length * grown + np.pi * grown**2) / 100.0

    def to_json(self) -> str:
        """The spec as one line of JSON; :meth:`from_json` gives it back exactly."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> PrismSpec:
        """The spec that :meth:`to_json` wrote.

        Raises:
            InputError: the text is not a spec.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            for name in ("centre_mm", "normal", "across"):
                x, y, z = (float(v) for v in values[name])
                values[name] = (x, y, z)
            for name in ("outline_mm", "burrs_mm"):
                values[name] = tuple(tuple(float(v) for v in row) for row in values[name])
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a prism spec: {error}; see PrismSpec.to_json") from None

    def field_mm(self, points_mm: ArrayLike) -> FloatArray:
        """Signed distance, roughly, to the shape's edge.

        Args:
            points_mm: (N, 3) canonical mm.

        Returns:
            (N,) float32 mm, negative inside the shape. The edge is right; inside, the distance to the faces is measured
            along the sphere of radius ``bend_mm``; outside the value is positive and at most the distance.
        """
        field: FloatArray = self.field(np.ascontiguousarray(np.asarray(points_mm, dtype=np.float32).T))
        return field

    def field(self, points: Array) -> Array:
        """The same at (3, N) float32 points, a numpy array or a torch tensor: (N,) of the same kind."""
        xp = namespace_of(points)
        a, b, radius = self._on_plane(points)
        field = xp.maximum(below_surface(points) - self.depth_mm, above_landmarks(points))
        field = xp.maximum(field, xp.abs(radius - (self.bend_mm + MIDDLE_MM)) - HALF_SHELL_MM)
        field = xp.maximum(field, xp.hypot(a, b) - self.reach_mm())
        if self.midline_mm > 0:
            side = 1.0 if self.centre_mm[0] >= 0 else -1.0
            field = xp.maximum(field, self.midline_mm - side * points[0])
        # The outline costs most: it is asked only where nothing else says no.
        left = field < 0
        field[left] = xp.maximum(field[left], self._faces(a[left], b[left], points[:, left]))
        return field

    def _faces(self, a: Array, b: Array, points: Array) -> Array:
        """Signed distance to the faces of the cut, at outline coordinates and the points they belong to."""
        xp = namespace_of(a)
        face = polygon(a, b, self.outline_mm) - (self.corner_mm + self.kerf_mm)
        for u, v, r in self.burrs_mm:
            face = xp.minimum(face, xp.hypot(a - u, b - v) - r)
        return roughened(face, points, self.ragged_mm, self.ragged_seed)

    def on_plane(self, points_mm: ArrayLike) -> FloatArray:
        """(N, 2) outline coordinates of (N, 3) canonical points, mm: where they lie on the outline's plane."""
        a, b, _ = self._on_plane(np.asarray(points_mm, dtype=np.float64).T)
        plane: FloatArray = np.stack([a, b], axis=1)
        return plane

    def _on_plane(self, points: Array) -> tuple[Array, Array, Array]:
        """Outline coordinates of (3, N) points, and their distance from the sphere's centre, mm."""
        xp = namespace_of(points)
        normal, across = np.array(self.normal), np.array(self.across)
        middle = (np.array(self.centre_mm) - self.bend_mm * normal).tolist()
        x, y, z = (points[axis] - middle[axis] for axis in range(3))
        along, beside, up = (
            x * e[0] + y * e[1] + z * e[2] for e in (across.tolist(), np.cross(normal, across).tolist(), self.normal)
        )
        off = xp.hypot(along, beside)
        stretch = self.bend_mm * xp.arctan2(off, up) / xp.clip(off, 1e-6, None)
        return along * stretch, beside * stretch, xp.hypot(off, up)

    def bounds_mm(self) -> FloatArray:
        """(2, 3) canonical mm: a box that holds the whole shape."""
        widest = self.reach_mm() / self.bend_mm
        inner, outer = max(self.bend_mm - INWARD_MM, 0.0), self.bend_mm + OUTWARD_MM
        normal = np.array(self.normal)
        middle = np.array(self.centre_mm) - self.bend_mm * normal
        # The farthest direction of the cone along an axis is the axis itself, or the cone's nearest edge.
        ends = []
        for sign in (-1.0, 1.0):
            cosine = np.cos(np.clip(np.arccos(np.clip(sign * normal, -1.0, 1.0)) - widest, 0.0, np.pi))
            ends.append(middle + sign * np.where(cosine > 0, outer * cosine, inner * cosine))
        bounds: FloatArray = np.stack(ends)
        return bounds


__all__ = ["PRISM_KINDS", "PrismSpec"]
