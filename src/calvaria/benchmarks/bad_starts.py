"""The true patch made bad on purpose, each time in one way: what a refinement may be given to start from.

Wodzinski et al. say that a registration needs a start which is only roughly right; these are four ways of being roughly
right. Each takes the true patch, the defective skull and the skull's frame, and gives a mask off the bone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from calvaria.skull.canonical import CanonicalFrame
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.types import F32, F64, BoolArray
from calvaria.volume.distance import distance_to, reach_voxels
from calvaria.volume.gather import trilinear_at
from calvaria.volume.volume import Volume, bounding_box, indices_of

FLAT_MM = 5.0
"""How far the middle of a patch that is too flat lies inwards."""

SHIFT_MM = 3.0
"""How far a patch that is shifted lies backwards and up."""

HOLE_RADIUS_MM = 10.0
"""Radius of the ball that is taken out of the middle."""

MARGIN_MM = 10.0
"""Room around the patch: more than it is moved, and enough for its rim's bone."""

BadStart = Callable[[Volume, Volume, CanonicalFrame], Volume]
"""(true patch, defective skull on the same grid, frame of the skull) -> a patch."""


def flat(truth: Volume, defective: Volume, frame: CanonicalFrame) -> Volume:
    """The patch too flat: its middle, farthest from the bone, pushed inwards by `FLAT_MM`, its rim where it was.

    In between it sinks as a parabola does, which is what a dome lacks when it is flattened.

    Args:
        truth: mask of the true patch; may be empty.
        defective: mask of the bone, on the same grid, some of it beside the patch.
        frame: of the skull.
    """
    centre = frame.to_world[:3, :3] @ HEAD_CENTRE_MM + frame.to_world[:3, 3]

    def source(points_mm: F64, depth: F64) -> F64:
        outwards = points_mm - centre
        outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
        return np.asarray(points_mm + outwards * (FLAT_MM * depth * (2 - depth))[:, None])

    return _read_from(truth, defective, source)


def shifted(truth: Volume, defective: Volume, frame: CanonicalFrame) -> Volume:
    """The patch as a whole `SHIFT_MM` off, backwards and up at 45 degrees; arguments as for `flat`."""
    shift = SHIFT_MM * frame.to_world[:3, :3] @ np.array([0.0, 1.0, 1.0]) / np.sqrt(2)
    return _read_from(truth, defective, lambda points_mm, _: points_mm - shift)


def holed(truth: Volume, defective: Volume, frame: CanonicalFrame) -> Volume:
    """The patch without a ball of `HOLE_RADIUS_MM` around what lies farthest from the bone; arguments as for `flat`."""
    del frame
    index = indices_of(truth.mask)
    if not len(index):
        return truth
    points, depth = truth.grid.to_world(index), _to_bone_mm(truth, defective)[truth.mask]
    return _only(truth, np.linalg.norm(points - points[np.argmax(depth)], axis=1) > HOLE_RADIUS_MM)


def half(truth: Volume, defective: Volume, frame: CanonicalFrame) -> Volume:
    """The hind half of the patch, or the upper one of a patch that is higher than long; arguments as for `flat`.

    Never the left or the right half: of a hole in the middle of the head, that would be a matter of symmetry alone.
    """
    del defective
    points = truth.grid.to_world(indices_of(truth.mask)) @ frame.to_canonical[1:3, :3].T
    if not len(points):
        return truth
    along = points[:, np.argmax(np.ptp(points, axis=0))]
    return _only(truth, along > np.median(along))


BAD_STARTS: Mapping[str, BadStart] = {"flat": flat, "shifted": shifted, "holed": holed, "half": half}
"""By name."""


def _read_from(truth: Volume, defective: Volume, source: Callable[[F64, F64], F64]) -> Volume:
    """A patch that has at x what the truth has at ``source(x, depth)``, without the bone.

    Args:
        truth: the true patch.
        defective: the bone.
        source: of (N, 3) world mm and (N,) depths, 0 at the bone and 1 in the middle of the patch or farther.
    """
    truth.grid.require_same(defective.grid, "true patch and defective skull")
    out = np.zeros_like(truth.mask)
    box = bounding_box(truth.mask, reach_voxels(truth.grid, MARGIN_MM))
    if box is None:
        return truth.with_data(out)
    part, bone = truth.crop(box), defective.mask[box]
    to_bone_mm = _to_bone_mm(truth, defective)[box]
    depth = np.clip(to_bone_mm / to_bone_mm[part.mask].max(), 0.0, 1.0)
    index = indices_of(~bone)
    there = part.grid.to_index(source(part.grid.to_world(index), depth[tuple(index.T)].astype(np.float64)))
    table = np.ascontiguousarray(part.mask, np.float32).reshape(-1)
    # Read at the middle between 0 and 1, the surface is the truth's own where nothing is moved.
    kept = index[trilinear_at(table, part.shape, there.T) > 0.5]
    out[box][tuple(kept.T)] = True
    return truth.with_data(out)


def _to_bone_mm(truth: Volume, defective: Volume) -> F32:
    """(I, J, K) distance to the bone around the patch, mm; 0 farther away. 1 everywhere if there is no bone."""
    out = np.zeros(truth.shape, np.float32)
    box = bounding_box(truth.mask, reach_voxels(truth.grid, MARGIN_MM))
    if box is not None:
        distance = distance_to(defective.crop(box))
        out[box] = distance if np.isfinite(distance).all() else 1.0
    return out


def _only(truth: Volume, kept: BoolArray) -> Volume:
    """The patch with those of its voxels that are kept, (N,) in the order of `indices_of`."""
    out = np.zeros_like(truth.mask)
    out[tuple(indices_of(truth.mask)[kept].T)] = True
    return truth.with_data(out)


__all__ = ["BAD_STARTS", "FLAT_MM", "HOLE_RADIUS_MM", "SHIFT_MM", "BadStart", "flat", "half", "holed", "shifted"]
