"""The mid-sagittal plane by direct optimisation of the symmetry loss: the reference that a network is measured against.

The skull is compared with its mirror image at pairs of points that lie symmetrically about a trial plane, in a box of a
frame whose plane x = 0 the trial plane is. Many starts on strongly blurred bone, the best ones followed to finer levels
by Gauss-Newton, then a simplex search on the loss itself, so that its very minimum is found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from calvaria.errors import InputError
from calvaria.symmetry.plane import Plane
from calvaria.types import F64, BoolArray
from calvaria.volume.gauss_newton import Linear, descend
from calvaria.volume.rotation import rotation_matrix
from calvaria.volume.sampler import HalfSpace, Region, Sampler, lattice
from calvaria.volume.volume import Volume

MAX_STEP, SETTLED_STEP = (0.1, 0.1, 6.0), (1e-5, 1e-5, 1e-3)
"""Yaw, roll (radians) and offset (mm) of one step: the largest taken, and the smallest after which it goes on."""

ROBUST = 0.15
"""Bone fraction at which a difference between the two sides loses most of its weight: holes are no asymmetry."""

LEVELS = ((8.0, 9.0), (5.0, 6.0), (3.0, 4.0))
"""Blur of the bone and spacing of the compared points, mm, coarse to fine."""

MIN_GRADIENT = 0.04
"""Gradient magnitude of blurred bone, per mm, above which a point lies at a surface; on the surface it is 0.1."""

APART_DEG, APART_MM = 3.0, 3.0
"""Two planes that differ by less are the same candidate."""

STARTS = 4
"""Candidates that are followed from the coarsest level to the finest."""

MIN_LEFT = 0.2
"""With fewer of the points than this left, nothing is known of the plane."""

MIN_ABSENT = 0.12
"""Where less is absent, what was completed there pulls the plane less than that a head's two sides differ: without it
frontoorbital holes (7 % of the points) lost 0.009 DSC. Hemicraniectomies take 13 to 17 %, all other kinds up to 10."""

TOLERANCE_DEG, TOLERANCE_MM = 0.005, 0.005
"""The simplex search ends when the plane moves by less."""


@dataclass(frozen=True, eq=False)
class Optimum:
    """The best plane of a skull.

    Args:
        to_world: (4, 4) frame -> world, rigid; its plane x = 0 is the plane.
        loss: SL there, at the finest level.
        second: SL of the best candidate that is another plane; infinite if there is none.
    """

    to_world: F64
    loss: float
    second: float = float("inf")

    @property
    def plane(self) -> Plane:
        """The plane in world mm."""
        return plane_at(self.to_world)


@dataclass(frozen=True, eq=False)
class Comparison:
    """A skull at one level of blur, and the points at which its two sides are compared.

    Args:
        sampler: blurred bone in world mm.
        right: (N, 3) points of the frame with x > 0; each is compared with its mirror image.
    """

    sampler: Sampler
    right: F64

    @classmethod
    def build(
        cls, bone: Volume, region: Region, sigma_mm: float, spacing_mm: float, unknown: Sequence[HalfSpace] = ()
    ) -> Comparison:
        """Blur the bone by ``sigma_mm`` and lay points ``spacing_mm`` apart into a box of the frame, symmetric in x."""
        return cls.of(Sampler.smooth(bone, sigma_mm, unknown), region, spacing_mm)

    @classmethod
    def of(cls, sampler: Sampler, region: Region, spacing_mm: float) -> Comparison:
        """The same of bone that is blurred already."""
        half: Region = ((spacing_mm / 2, region[0][1]), region[1], region[2])
        return cls(sampler, lattice(half, spacing_mm))

    def without(self, to_world: F64, absent: Callable[[F64], BoolArray]) -> Comparison:
        """Only the points of which neither side is absent.

        Itself where that leaves less than `MIN_LEFT` of them, or takes less than `MIN_ABSENT`.

        Args:
            to_world: (4, 4) frame -> world.
            absent: (N, 3) world points -> whether bone is missing there, so that nothing is known.
        """
        rotation, shift = to_world[:3, :3], to_world[:3, 3]
        sides = (points @ rotation.T + shift for points in (self.right, self.right * [-1.0, 1.0, 1.0]))
        kept = ~np.logical_or(*(absent(side) for side in sides))
        left = float(kept.mean())
        return Comparison(self.sampler, self.right[kept]) if MIN_LEFT <= left <= 1 - MIN_ABSENT else self

    def loss(self, to_world: F64) -> float:
        """SL (eq. 1) of the frame's plane x = 0; 1 where there is no bone. Points beyond the scan do not count."""
        rotation, shift = to_world[:3, :3], to_world[:3, 3]
        (a, ok_a), (b, ok_b) = (
            self.sampler.values(points @ rotation.T + shift) for points in (self.right, self.right * [-1.0, 1.0, 1.0])
        )
        seen = ok_a & ok_b
        both = float((a[seen] ** 2 + b[seen] ** 2).sum())
        return float(((a[seen] - b[seen]) ** 2).sum()) / both if both > 0 else 1.0

    def apart_mm(self, to_world: F64) -> float:
        """How far a side's surface lies off the other's mirror image: median over the surface, mm.

        The difference of the blurred bone over its gradient magnitude. The median ignores holes, which are less than
        half of the head. NaN where there is no surface.
        """
        rotation, shift = to_world[:3, :3], to_world[:3, 3]
        a, ok_a, gradient = self.sampler(self.right @ rotation.T + shift)
        b, ok_b = self.sampler.values((self.right * [-1.0, 1.0, 1.0]) @ rotation.T + shift)
        magnitude = np.linalg.norm(gradient, axis=1)
        surface = ok_a & ok_b & (magnitude > MIN_GRADIENT)
        return float(np.median(np.abs(a - b)[surface] / magnitude[surface])) if surface.any() else float("nan")

    def descend(self, to_world: F64, iterations: int = 12, robust: float | None = ROBUST) -> F64:
        """Gauss-Newton steps on the difference between the two sides.

        Only yaw, roll and the offset along x change: they are the plane; pitch and the position within the plane stay.

        Args:
            to_world: (4, 4) rigid frame -> world to start from.
            iterations: largest number of steps.
            robust: difference at which a point loses most of its weight; None: plain least squares.

        Returns:
            (4, 4) the moved frame; ``to_world`` itself where there is no bone.
        """
        left = self.right * [-1.0, 1.0, 1.0]

        def linear(frame: F64) -> Linear:
            rotation, shift = frame[:3, :3], frame[:3, 3]
            sides = []
            for points in (self.right, left):
                value, ok, gradient = self.sampler(points @ rotation.T + shift)
                local = gradient @ rotation  # in the frame
                turn = np.cross(points, local)
                sides.append((value, ok, np.stack([turn[:, 1], turn[:, 2], local[:, 0]], axis=1)))
            (value_a, ok_a, jac_a), (value_b, ok_b, jac_b) = sides
            return Linear(value_a - value_b, jac_a - jac_b, (ok_a & ok_b).astype(np.float64))

        return descend(
            _frame(to_world[:3, :3], to_world[:3, 3]),
            linear,
            turned,
            iterations=iterations,
            robust=robust,
            largest=MAX_STEP,
            settled=SETTLED_STEP,
        )


def optimise(
    bone: Volume,
    region: Region,
    starts: Sequence[F64],
    *,
    robust: float | None = ROBUST,
    unknown: Sequence[HalfSpace] = (),
    levels: Sequence[tuple[float, float]] = LEVELS,
    polish: bool = True,
) -> Optimum:
    """The plane of the least symmetry loss over many starts.

    Args:
        bone: bone fraction, coarse or fine.
        region: box of the frame in which the two sides are compared, symmetric in x.
        starts: (4, 4) rigid frames -> world.
        robust: as for `Comparison.descend`; None for the loss as published, for complete skulls.
        unknown: beyond these planes the scan shows nothing.
        levels: blur and spacing, coarse to fine.
        polish: end with a simplex search on the loss (only with ``robust`` None).

    Raises:
        InputError: there is no start.
    """
    if not len(starts):
        raise InputError("the search for the plane needs at least one start; got none")
    first, *finer = [Comparison.build(bone, region, sigma, spacing, unknown) for sigma, spacing in levels]
    ranked = sorted(starts, key=first.loss)
    found = _distinct([first.descend(start, 20, robust) for start in _distinct(ranked, 3 * STARTS)], STARTS, first)
    for level in finer:
        found = _distinct([level.descend(frame, 12, robust) for frame in found], STARTS, level)
    last = (finer or [first])[-1]
    best = found[0]
    if polish and robust is None:
        best = _polished(last, best)
    return Optimum(best, last.loss(best), last.loss(found[1]) if len(found) > 1 else float("inf"))


def turned(to_world: F64, step: Sequence[float] | F64) -> F64:
    """A frame rotated about its y and z axes (radians) and moved along x (mm): the three freedoms of its plane."""
    rotation, shift = to_world[:3, :3], to_world[:3, 3]
    moved = shift + rotation @ np.array([float(step[2]), 0.0, 0.0])
    return _frame(rotation @ rotation_matrix(np.array([0.0, float(step[0]), float(step[1])])), moved)


def frame_of(plane: Plane, centre_mm: F64, up: Sequence[float] = (0.0, 0.0, 1.0)) -> F64:
    """(4, 4) a frame whose plane x = 0 is the plane, its origin the point of it nearest to ``centre_mm``.

    Args:
        plane: in world mm.
        centre_mm: (3,) world mm.
        up: unit vector; the frame's z axis is this direction, as nearly as it lies within the plane.
    """
    x = plane.normal
    z = np.asarray(up, np.float64) - (np.asarray(up) @ x) * x
    if np.linalg.norm(z) < 0.1:  # up lies across the plane: any direction within it
        other = np.eye(3)[int(np.argmin(np.abs(x)))]
        z = other - (other @ x) * x
    z /= np.linalg.norm(z)
    origin = centre_mm - float(plane.distance_mm(centre_mm)) * x
    return _frame(np.stack([x, np.cross(z, x), z], axis=1), origin)


def plane_at(to_world: F64) -> Plane:
    """The plane x = 0 of a frame, in world mm."""
    normal = to_world[:3, 0]
    return Plane(normal, float(normal @ to_world[:3, 3]))


def hemisphere(count: int) -> F64:
    """(count, 3) unit vectors spread evenly over the half of the sphere with x >= 0, x itself the first (Fibonacci)."""
    n = np.arange(count)
    x = 1 - n / max(count, 1)
    angle = n * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - x**2)
    return np.stack([x, ring * np.cos(angle), ring * np.sin(angle)], axis=1)


def _frame(rotation: F64, shift: F64) -> F64:
    frame = np.eye(4)
    frame[:3, :3], frame[:3, 3] = rotation, shift
    return frame


def _distinct(frames: Sequence[F64], count: int, level: Comparison | None = None) -> list[F64]:
    """The first ``count`` frames whose planes differ, in their order, or by the loss at a level."""
    kept: list[F64] = []
    for frame in frames if level is None else sorted(frames, key=level.loss):
        if not any(_same(frame, other) for other in kept):
            kept.append(frame)
        if len(kept) == count:
            break
    return kept


def _same(one: F64, other: F64) -> bool:
    angle = np.degrees(np.arccos(np.clip(abs(one[:3, 0] @ other[:3, 0]), 0, 1)))
    return bool(angle < APART_DEG and abs(one[:3, 0] @ (other[:3, 3] - one[:3, 3])) < APART_MM)


def _polished(level: Comparison, to_world: F64) -> F64:
    """The frame at the loss's own minimum: simplex search in units of 1 degree and 1 mm."""
    from scipy.optimize import minimize

    def at(x: F64) -> float:
        return level.loss(turned(to_world, [np.radians(x[0]), np.radians(x[1]), x[2]]))

    corners = np.concatenate([np.zeros((1, 3)), 0.3 * np.eye(3)])
    options = {"xatol": min(TOLERANCE_DEG, TOLERANCE_MM), "fatol": np.inf, "initial_simplex": corners, "maxiter": 200}
    found = minimize(at, np.zeros(3), method="Nelder-Mead", options=options)
    return turned(to_world, [np.radians(found.x[0]), np.radians(found.x[1]), found.x[2]])


__all__ = ["LEVELS", "ROBUST", "Comparison", "Optimum", "frame_of", "hemisphere", "optimise", "plane_at", "turned"]
