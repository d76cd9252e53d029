"""What becomes of a rim after the cut: it heals, thins, crumbles, and loose fragments stay in the hole.

A change works on the defective skull alone and never beyond the complete one: defective skull and patch stay two parts
of it that do not overlap. So the patch stays what a surgeon would want back: bone that healing adds leaves the patch,
bone that thinning takes joins it, and a loose fragment, being bone that is present, is no part of it.

Each change is a formula of two lengths, shared by numpy and torch: how far a voxel lies *beyond* the rim (mm into the
hole, negative in the skull), and its *depth* under the complete bone's free surface.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from calvaria.errors import InputError
from calvaria.skull.head import HEAD_CENTRE_MM, HEAD_HALF_AXES_MM
from calvaria.synthesis.defects.formulas import REACH_SD, roughness
from calvaria.synthesis.defects.specs import Spec
from calvaria.volume.namespace import Array, namespace_of

LOOSE_MM = 2.0
"""A fragment keeps at least this from the rim, so that it is loose at usual voxels."""

MIN_FRAGMENT_MM = 1.5
"""A fragment's radius, at least: smaller ones vanish at 1.6 mm."""

FRAGMENT_ROUGH = 0.35
"""Standard deviation of a fragment's outline, of its radius."""

GROW_MM, ROUND_MM = (0.5, 2.5), (1.0, 3.0)
TAPER_MM, WIDTH_MM = (0.8, 2.5), (4.0, 15.0)
ROUGH_MM = (0.5, 1.2)
FRAGMENT_MM, MAX_FRAGMENTS = (3.0, 8.0), 4
"""Ranges that are drawn from. Skulls heal little after a craniectomy, children's more: see the class of each."""

POSITIONS = 400
"""Points of the model head among which those of fragments are sought."""


@dataclass(frozen=True)
class Healing:
    """Bone grows a little into the hole, and the sharp edges of both tables are rounded.

    Args:
        grow_mm: how far bone grows into the hole in the middle of the plate.
        round_mm: radius of the rounding; at the free surface the rim recedes by it.

    Raises:
        InputError: a length is negative or not finite.
    """

    kind: ClassVar[str] = "healing"
    grow_mm: float
    round_mm: float

    def __post_init__(self) -> None:
        _require_lengths(self.kind, grow_mm=self.grow_mm, round_mm=self.round_mm)

    @property
    def reach_mm(self) -> float:
        """How far from the rim anything is changed."""
        return max(self.grow_mm, self.round_mm)

    @property
    def depth_mm(self) -> float:
        """Depths beyond this make no difference."""
        return self.round_mm

    def bone(self, beyond: Array, depth: Array, points: Array) -> Array:
        """(N,) bool, where bone is afterwards; (N,) lengths in mm and (3, N) canonical points of bone near the rim."""
        xp = namespace_of(beyond)
        short = self.round_mm - xp.clip(depth, None, self.round_mm)
        back = self.round_mm - xp.sqrt(xp.clip(self.round_mm**2 - short * short, 0.0, None))
        return beyond < self.grow_mm - back


@dataclass(frozen=True)
class Thinning:
    """Bone is lost from both tables towards the rim, which becomes a wedge.

    Args:
        taper_mm: what either table loses at the rim; thinner bone vanishes there.
        width_mm: this far from the rim nothing is lost; in between, evenly less.

    Raises:
        InputError: a length is not positive.
    """

    kind: ClassVar[str] = "thinning"
    taper_mm: float
    width_mm: float

    def __post_init__(self) -> None:
        _require_lengths(self.kind, positive=True, taper_mm=self.taper_mm, width_mm=self.width_mm)

    @property
    def reach_mm(self) -> float:
        """How far from the rim anything is changed."""
        return self.width_mm

    @property
    def depth_mm(self) -> float:
        """Depths beyond this make no difference."""
        return self.taper_mm

    def bone(self, beyond: Array, depth: Array, points: Array) -> Array:
        """(N,) bool, where bone is afterwards; as `Healing.bone`."""
        lost = self.taper_mm * (1.0 + beyond / self.width_mm)
        return (beyond < 0) & ((lost <= 0) | (depth >= lost))


@dataclass(frozen=True)
class Roughening:
    """The rim wavers: bone is lost here and left there.

    Args:
        rough_mm: standard deviation.
        seed: which roughness.

    Raises:
        InputError: the roughness is not positive.
    """

    kind: ClassVar[str] = "roughening"
    rough_mm: float
    seed: int = 0

    def __post_init__(self) -> None:
        _require_lengths(self.kind, positive=True, rough_mm=self.rough_mm)

    @property
    def reach_mm(self) -> float:
        """How far from the rim anything is changed."""
        return REACH_SD * self.rough_mm

    @property
    def depth_mm(self) -> float:
        """Depth makes no difference."""
        return 0.0

    def bone(self, beyond: Array, depth: Array, points: Array) -> Array:
        """(N,) bool, where bone is afterwards; as `Healing.bone`."""
        bone = beyond < 0
        near = namespace_of(beyond).abs(beyond) < self.reach_mm
        bone[near] = beyond[near] + self.rough_mm * roughness(points[:, near], self.seed) < 0
        return bone


@dataclass(frozen=True)
class Fragments:
    """Pieces of bone left in the hole, each the full thickness of the plate.

    They belong to the defective skull: they are bone that is present. Left where they were, so that the complete skull
    stays the sum of its parts.

    Args:
        columns_mm: (x, y, z, r) canonical point and radius of each: bone about the line from the centre of the model
            head through the point, at least ``LOOSE_MM`` from the rim.
        seed: which roughness of their outlines.

    Raises:
        InputError: no fragment, or one without a positive radius or at the model head's very centre.
    """

    kind: ClassVar[str] = "fragments"
    columns_mm: tuple[tuple[float, float, float, float], ...]
    seed: int = 0

    def __post_init__(self) -> None:
        columns = np.array(self.columns_mm, float)
        if columns.ndim != 2 or columns.shape[1] != 4 or not np.isfinite(columns).all():
            raise InputError(f"fragments are one or more of (x, y, z, radius) in mm; got {self.columns_mm}")
        if not (columns[:, 3] > 0).all() or not np.linalg.norm(columns[:, :3] - HEAD_CENTRE_MM, axis=1).all():
            raise InputError(f"a fragment has a radius above 0, off the head centre; got {self.columns_mm}")

    @property
    def reach_mm(self) -> float:
        """Distances from the rim beyond this make no difference."""
        return LOOSE_MM

    @property
    def depth_mm(self) -> float:
        """Depth makes no difference."""
        return 0.0

    def bone(self, beyond: Array, depth: Array, points: Array) -> Array:
        """(N,) bool, where bone is afterwards; as `Healing.bone`."""
        xp = namespace_of(beyond)
        inside = xp.zeros_like(beyond) > 0  # nowhere yet
        rough = 1.0 + FRAGMENT_ROUGH * roughness(points, self.seed)
        cx, cy, cz = HEAD_CENTRE_MM.tolist()
        for x, y, z, radius in self.columns_mm:
            axis = np.array([x - cx, y - cy, z - cz])
            ux, uy, uz = (axis / np.linalg.norm(axis)).tolist()
            dx, dy, dz = points[0] - cx, points[1] - cy, points[2] - cz
            along = dx * ux + dy * uy + dz * uz
            squared = xp.clip(dx * dx + dy * dy + dz * dz - along * along, 0.0, None)
            inside = inside | ((along > 0) & (xp.sqrt(squared) < radius * rough))
        return (beyond < 0) | ((beyond > LOOSE_MM) & inside)


Rim = Healing | Thinning | Roughening | Fragments
"""A change of the rim: ``kind``, ``reach_mm``, ``depth_mm``, ``bone``."""

RIMS: dict[str, type[Rim]] = {rim.kind: rim for rim in (Healing, Thinning, Roughening, Fragments)}
"""Every change by its name."""

RIM_KINDS = tuple(RIMS)


def rim_to_json(rim: Rim) -> str:
    """A change as one line of JSON; :func:`rim_from_json` gives it back exactly."""
    return json.dumps({"kind": rim.kind, **asdict(rim)})


def rim_from_json(text: str) -> Rim:
    """The change that :func:`rim_to_json` wrote.

    Raises:
        InputError: the text is no change of a rim.
    """
    try:
        values: dict[str, Any] = json.loads(text)
        rim = RIMS[values.pop("kind")]
        if "columns_mm" in values:
            values["columns_mm"] = tuple(tuple(float(v) for v in column) for column in values["columns_mm"])
        return rim(**values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"not a change of a rim: {error!r}; see rim_to_json") from None


def sample_rim(kind: str, rng: np.random.Generator, spec: Spec) -> Rim:
    """Draw a change of the rim of a defect.

    Args:
        kind: one of ``RIM_KINDS``.
        rng: where chance comes from; the same state gives the same change.
        spec: the defect's shape; fragments lie inside it.

    Raises:
        InputError: an unknown kind, or fragments in a hole that has no room for any.
    """
    if kind not in RIMS:
        raise InputError(f"a change of a rim is one of {', '.join(RIM_KINDS)}; got {kind!r}")
    if kind == "healing":
        return Healing(round(rng.uniform(*GROW_MM), 3), round(rng.uniform(*ROUND_MM), 3))
    if kind == "thinning":
        return Thinning(round(rng.uniform(*TAPER_MM), 3), round(rng.uniform(*WIDTH_MM), 3))
    if kind == "roughening":
        return Roughening(round(rng.uniform(*ROUGH_MM), 3), int(rng.integers(2**31)))
    return Fragments(_columns(spec, rng), int(rng.integers(2**31)))


def _columns(spec: Spec, rng: np.random.Generator) -> tuple[tuple[float, float, float, float], ...]:
    """Positions and radii of fragments: inside the shape, where the model head has its surface."""
    low, high = spec.bounds_mm()
    radial = rng.uniform(low, high, (POSITIONS, 3)) - HEAD_CENTRE_MM
    stretched = radial / HEAD_HALF_AXES_MM
    points = HEAD_CENTRE_MM + radial / np.linalg.norm(stretched, axis=1, keepdims=True)
    room = -spec.field_mm(points) - LOOSE_MM
    count, radii = int(rng.integers(1, MAX_FRAGMENTS + 1)), rng.uniform(*FRAGMENT_MM, MAX_FRAGMENTS)
    where = np.flatnonzero(room >= MIN_FRAGMENT_MM)[:count]
    if not len(where):
        raise InputError(f"this {spec.kind} hole has no room for a fragment of {MIN_FRAGMENT_MM} mm and its gap")
    columns = []
    for at, radius in zip(where, radii, strict=False):
        x, y, z = (round(float(v), 3) for v in points[at])
        columns.append((x, y, z, round(float(min(room[at], radius)), 3)))
    return tuple(columns)


def in_order(rims: Sequence[Rim]) -> list[Rim]:
    """The changes as they are applied: fragments last, or what follows would take them for small components."""
    return sorted(rims, key=lambda rim: isinstance(rim, Fragments))


def _require_lengths(what: str, *, positive: bool = False, **lengths: float) -> None:
    for name, value in lengths.items():
        if not (np.isfinite(value) and (value > 0 if positive else value >= 0)):
            raise InputError(f"{what}: {name} is a length {'above' if positive else 'of at least'} 0 mm; got {value}")


__all__ = [
    "RIM_KINDS",
    "Fragments",
    "Healing",
    "Rim",
    "Roughening",
    "Thinning",
    "in_order",
    "rim_from_json",
    "rim_to_json",
    "sample_rim",
]
