"""What a displacement is worth: the symmetry loss of the completed skull, and how far it is from what else is expected.

All fields lie on one grid, symmetric about the plane x = 0, so that a mirror image is a flipped array. A signed
distance d counts as an amount of bone H(d), 1 deep in bone, 0 outside and smooth over `width_mm` to either side of the
surface: wide at first, so that surfaces far apart feel each other, then narrow.

The completed skull is V = H(min(bone, completed at x + u)): the larger of both, since where bone is there is bone. The
energy of a displacement is

    E(u) = sum((V - RV)^2) / (2 sum(V^2)) + sum_k sum(w_k (V - H(t_k))^2) / (2 sum(V_0^2))

the symmetry loss of the whole skull (Wodzinski et al., eq. 1 and 3) and, for each further kind of evidence, a target
t_k with weights w_k; V_0 is the skull at u = 0. Sums are over the head; only near the patch do they change.

Where the head's own asymmetry a is known, it is taken out of the comparison: both sides are moved half of it towards
each other, V = H(d - a / 2) with a antisymmetric in x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calvaria.types import F32, BoolArray
from calvaria.volume.gather import TrilinearReader
from calvaria.volume.grid import Box


class Evidence(NamedTuple):
    """Where the completed skull's surface is expected.

    Args:
        name: such as "rim".
        distance_mm: (I, J, K) signed distances, negative in bone.
        weight: (I, J, K) how much that counts at each node, against the symmetry loss's 2 a node.
    """

    name: str
    distance_mm: F32
    weight: F32


@dataclass(frozen=True, eq=False)
class Scene:
    """A skull and its patch on a grid symmetric in x.

    Args:
        bone_mm: (I, J, K) signed distance to the bone that is there, negative in it, truncated.
        completed_mm: ... to bone and patch.
        open: (I, J, K) bool: where the patch may come to lie.
        compared: (I, J, K) float32, symmetric: how much the two sides are compared there; 0 where either is unknown.
        spacing_mm: of the nodes.
        evidence: beside symmetry.
        symmetry: weight of the symmetry loss.
        asymmetry_mm: (I, J, K), antisymmetric: how much larger the distance at x should be than at its mirror image;
            None: not at all.
    """

    bone_mm: F32
    completed_mm: F32
    open: BoolArray
    compared: F32
    spacing_mm: float
    evidence: Sequence[Evidence] = ()
    symmetry: float = 1.0
    asymmetry_mm: F32 | None = None


def amount(distance_mm: NDArray[np.floating], width_mm: float) -> F32:
    """H: the amount of bone at a signed distance; 1 inside, 0 outside, with a continuous derivative."""
    part = np.clip(distance_mm / np.float32(width_mm), -1, 1)
    out: F32 = 0.5 - part * (0.75 - 0.25 * part * part)
    return out


def amount_slope(distance_mm: NDArray[np.floating], width_mm: float) -> F32:
    """The derivative of H, per mm."""
    part = np.clip(distance_mm / np.float32(width_mm), -1, 1)
    out: F32 = (part * part - 1) * np.float32(0.75 / width_mm)
    return out


@dataclass(eq=False)
class Energy:
    """The energy of displacements of one scene at one level.

    Args:
        scene: on its finest grid.
        box: of the scene's grid, whose border nodes do not move; starts and ends on nodes of the level.
        step: nodes of the scene between two of the level.
        width_mm: of H.
        start: (3, I, J, K) mm at the inner nodes of the level, or None for no displacement: from here on bone comes no
            farther than ``reach_mm``, and only the nodes that it can reach are looked at.
        reach_mm: see above.
    """

    scene: Scene
    box: Box
    step: int
    width_mm: float
    start: F32 | None = None
    reach_mm: float = 14.0
    shape: tuple[int, int, int] = field(init=False)

    def __post_init__(self) -> None:
        scene = self.scene
        a, b, c = (slice(s.start + self.step, s.stop - self.step, self.step) for s in self.box)
        inner = (a, b, c)
        self.shape = scene.open[inner].shape
        self._completed = TrilinearReader(scene.completed_mm)
        self._first = np.array([[s.start + self.step] for s in self.box])
        self._choose(np.nonzero(scene.open[inner]))
        if self.start is None:
            distance = scene.completed_mm[tuple(self._nodes)]
        else:
            distance = self._completed(self._there(self.start))[0]
        near = distance < self.width_mm + self.reach_mm
        self._choose(tuple(index[near] for index in self._inner))
        at = tuple(self._nodes)
        self._own_mm = scene.bone_mm[at]
        self._targets = [(e.weight[at], amount(e.distance_mm[at], self.width_mm)) for e in scene.evidence]
        # Compared are whole rows in x: a node's mirror image lies in its own row.
        every = slice(None, None, self.step)
        rows, head = (every, inner[1], inner[2]), (every, every, every)
        self._at = (self._nodes[0] // self.step, self._inner[1], self._inner[2])
        off_mm = scene.asymmetry_mm
        self._off_mm = None if off_mm is None else off_mm[at] / 2
        self._bone = self._seen(scene.bone_mm, rows)
        self._compared = np.ascontiguousarray(scene.compared[rows])
        whole_mm = np.minimum(scene.bone_mm, scene.completed_mm)
        whole = _sums(self._seen(whole_mm, head), scene.compared[head])
        part = _sums(self._seen(whole_mm, rows), self._compared)
        self._squared = whole[1]
        # What lies outside of the rows does not change.
        self._rest = whole[0] - part[0], whole[1] - part[1]

    def _choose(self, inner: tuple[NDArray[np.intp], ...]) -> None:
        """Take these inner nodes for those that move."""
        self._inner = inner
        self._nodes = np.stack(inner) * self.step + self._first

    def _there(self, moved: F32) -> NDArray[np.floating]:
        """(3, N) indices of the scene's grid: where the moving nodes are read."""
        here = np.stack([axis[self._inner] for axis in moved])
        return np.asarray(self._nodes + here / np.float32(self.scene.spacing_mm))

    def _seen(self, distance_mm: F32, where: Box) -> F32:
        """Amounts of bone as the two sides are compared: without the head's own asymmetry."""
        off_mm = self.scene.asymmetry_mm
        seen = distance_mm[where] if off_mm is None else distance_mm[where] - off_mm[where] / 2
        return amount(seen, self.width_mm)

    def __call__(self, moved: F32) -> tuple[float, F32]:
        """The energy of a displacement, and its derivative.

        Args:
            moved: (3, I, J, K) float32, mm, at the inner nodes of the level.
        """
        distance, slope, own = self._read(moved)
        total, by_distance = 0.0, np.zeros(len(distance), np.float32)
        if self.scene.symmetry:
            loss, by_seen, seen_mm = self._symmetry(distance)
            total += self.scene.symmetry * loss
            by_distance += np.float32(self.scene.symmetry) * by_seen * amount_slope(seen_mm, self.width_mm)
        if self._targets and self._squared:  # where no bone is compared, there is nothing to count by
            value, by_value = amount(distance, self.width_mm), np.zeros(len(distance), np.float32)
            for weight, target in self._targets:
                difference = value - target
                total += float(np.vdot(weight * difference, difference)) / (2 * self._squared)
                by_value += weight * difference / np.float32(self._squared)
            by_distance += by_value * amount_slope(distance, self.width_mm)
        out = np.zeros((3, *self.shape), np.float32)
        for axis, part in zip(out, np.where(own, 0, by_distance) * slope, strict=True):
            axis[self._inner] = part
        return total, out

    def symmetry_loss(self, moved: F32) -> float:
        """SL of the skull with the displaced patch, 0 to 1."""
        return self._symmetry(self._read(moved)[0])[0]

    def _symmetry(self, distance_mm: F32) -> tuple[float, F32, F32]:
        """SL, its derivative by the amounts at the moving nodes, and the distances that these are amounts of."""
        seen_mm = distance_mm if self._off_mm is None else distance_mm - self._off_mm
        skull, at = self._bone.copy(), self._at
        skull[at] = amount(seen_mm, self.width_mm)
        difference = skull - skull[::-1]
        off = difference * self._compared
        squared = self._rest[1] + float(np.vdot(skull * self._compared, skull))
        if squared == 0:
            return 0.0, np.zeros(len(distance_mm), np.float32), seen_mm
        loss = (self._rest[0] + float(np.vdot(off, difference))) / (2 * squared)
        # A node stands in the sum twice: as itself, and as its mirror image's mirror image.
        slope = 4 * off[at] - 4 * np.float32(loss) * (skull * self._compared)[at]
        return loss, slope / np.float32(2 * squared), seen_mm

    def _read(self, moved: F32) -> tuple[F32, F32, BoolArray]:
        """At the moving nodes the distance to the completed skull, its derivative by u, and where bone's own rules."""
        distance, gradient = self._completed(self._there(moved))
        own = self._own_mm <= distance
        return np.where(own, self._own_mm, distance), gradient / np.float32(self.scene.spacing_mm), own


def _sums(skull: F32, compared: F32) -> tuple[float, float]:
    """Weighted sums of (V - RV)^2 and of V^2."""
    off = (skull - skull[::-1]) ** 2 * compared
    return float(off.sum(dtype=np.float64)), float((skull**2 * compared).sum(dtype=np.float64))


__all__ = ["Energy", "Evidence", "Scene", "amount", "amount_slope"]
