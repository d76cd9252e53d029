"""What makes a result doubtful although it was computed: a line each, for the warnings and against an expected accuracy.

A wrong spacing of the file, and a hole that the scan's end cuts: in both the patch fits and looks right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from calvaria.reconstruction.box import box_grid, box_to_world, vault
from calvaria.reconstruction.protocol import SoftField
from calvaria.skull.canonical import CanonicalFrame
from calvaria.skull.checks import size_doubts
from calvaria.types import F64, BoolArray
from calvaria.volume.grid import Grid

if TYPE_CHECKING:
    from calvaria.skull.template import Template

BEYOND_ML = 0.05
"""Less missing bone than this beyond the scan is rounding at its border."""

SIDES = (("left side", "right side"), ("back", "front"), ("vertex", "lower end"))
"""Of the head, by the canonical axes: towards plus and towards minus."""


def doubts(frame: CanonicalFrame, soft: SoftField, grid: Grid, template: Template) -> tuple[str, ...]:
    """Everything that speaks against a result; none for a usual one.

    Args:
        frame: the pose.
        soft: the completion, in the common box.
        grid: of the scan, whole.
        template: the mean skull, which says how much bone a scan's end leaves out.
    """
    return size_doubts(frame, grid) + scan_end_doubts(frame, soft, grid, template)


def scan_end_doubts(frame: CanonicalFrame, soft: SoftField, grid: Grid, template: Template) -> tuple[str, ...]:
    """What a patch lacks because the scan ends: a line for each end that it, or where it may lie, reaches.

    Arguments as for `doubts`. An end that cuts bone is known (`CanonicalFrame.cuts`) and nothing is completed beyond
    it; where the hole has taken all bone at the end, the completion runs on, and what lies beyond can be counted.
    """
    near = np.argwhere(soft.region & vault())
    if not len(near):
        return ()
    to_world = box_to_world(frame)
    world = box_grid().moved(to_world).to_world(near)
    voxel_ml = abs(float(np.linalg.det(to_world[:3, :3]))) * box_grid().voxel_volume_mm3 / 1000
    missing = soft.distance_mm[tuple(near.T)] < 0
    lines, outside = [], ~_inside(grid, world)
    for cut in frame.cuts:
        plane = cut.moved(frame.to_world)
        past = world @ plane.normal > plane.offset_mm
        if past.any():
            beyond_ml = _bone_beyond_ml(template, frame, cut.normal, cut.offset_mm)
            lines.append(
                f"the scan ends at the {_side(cut.normal)} and cuts the hole: about {beyond_ml:.0f} ml of the head's "
                "bone lie beyond, and the patch lacks what of them is missing"
            )
            outside &= ~past
    beyond_ml = float(np.count_nonzero(missing & outside)) * voxel_ml
    if beyond_ml > BEYOND_ML:
        side = _side(_out(grid, world[missing & outside], frame))
        lines.append(
            f"the scan ends at the {side}: about {beyond_ml:.1f} ml of the patch would lie beyond it and are left out"
        )
    return tuple(lines)


def _inside(grid: Grid, world: F64) -> BoolArray:
    """Whether (N, 3) world points lie in some voxel of a grid."""
    index = grid.to_index(world)
    return np.asarray(((index > -0.5) & (index < np.array(grid.shape) - 0.5)).all(axis=1))


def _out(grid: Grid, world: F64, frame: CanonicalFrame) -> F64:
    """Canonical normal of the face of a grid behind which points lie farthest on the whole."""
    index = grid.to_index(world)
    past_mm = np.stack([-0.5 - index, index - (np.array(grid.shape) - 0.5)]) * np.asarray(grid.spacing_mm)
    sums = np.maximum(past_mm, 0).sum(axis=1)  # (2, 3): before and behind, along each axis
    end, axis = np.unravel_index(int(sums.argmax()), sums.shape)
    normal = grid.inverse[axis, :3] * (1.0 if end else -1.0)
    return np.asarray(normal @ frame.to_world[:3, :3])


def _side(normal: F64) -> str:
    """The side of the head that a canonical direction points to."""
    axis = int(np.abs(normal).argmax())
    return SIDES[axis][0 if normal[axis] > 0 else 1]


def _bone_beyond_ml(template: Template, frame: CanonicalFrame, normal: F64, offset_mm: float) -> float:
    """How much of the vault's bone a mean skull of this size has beyond a canonical plane, ml."""
    grid, weight = template.mean.grid, template.weight.data
    points = grid.centres_mm() * frame.scale
    beyond = (points @ normal > offset_mm) & (weight > 0)
    voxel_ml = grid.voxel_volume_mm3 * float(np.prod(frame.scale)) / 1000
    return float(template.mean.data[beyond].sum()) * voxel_ml


__all__ = ["doubts", "scan_end_doubts"]
