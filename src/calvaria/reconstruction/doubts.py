"""What makes a result doubtful although it was computed: a hole that the scan's end cuts. A line each, a warning.

The patch fits and looks right there, too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calvaria.errors import InputError
from calvaria.reconstruction.box import BoxField, box_grid, box_to_world
from calvaria.reconstruction.protocol import MAX_MISFIT_MM, SoftField
from calvaria.skull.canonical import CanonicalFrame
from calvaria.skull.edges import grid_ends
from calvaria.types import F64, BoolArray
from calvaria.volume.components import label
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

BEYOND_ML = 0.05
"""Less missing bone than this beyond the scan is rounding at its border."""

SIDES = (("left side", "right side"), ("back", "front"), ("vertex", "lower end"))
"""Of the head, by the canonical axes: towards plus and towards minus."""

VAULT_REACH_MM, FLOOR_MM = np.array([90.0, 110.0, 95.0]), -16.0
"""Bone of the vault lies so near to the origin of the mean skull's frame, and above this; shoulders and jaw do not."""

FACING_DOWN = -0.5
"""An end whose normal's canonical z is below this is the lower one, which every head scan has."""


def require_known_bone(soft: SoftField) -> None:
    """Refuse what an engine could not complete as a skull.

    Raises:
        InputError: the completion lies too far off the bone that is there.
    """
    if soft.misfit_mm > MAX_MISFIT_MM:
        raise InputError(
            f"the bone around what is missing lies {soft.misfit_mm:.1f} mm off that of known skulls (usual: less than "
            f"0.5 mm): this is no adult's head with holes; check the voxel spacing and what the mask holds"
        )


def scan_end_doubts(frame: CanonicalFrame, soft: SoftField, grid: Grid) -> tuple[str, ...]:
    """How much of a patch lies beyond the faces of the scan's grid: a line, or none.

    Args:
        frame: the pose.
        soft: the completion, in the common box.
        grid: of the scan, whole.

    An engine knows of the lower end (`CanonicalFrame.cuts`); what else the grid cuts looks
    like a hole that goes on, and is completed as one.
    """
    outside = _outside(frame, soft, grid)
    beyond_ml = len(outside) * _voxel_ml(frame)
    if beyond_ml < BEYOND_ML:
        return ()
    side = _side(_out(grid, outside, frame))
    return (f"the scan ends at the {side}: about {beyond_ml:.1f} ml of the patch would lie beyond and are left out",)


def beyond_scan_ml(frame: CanonicalFrame, soft: SoftField, grid: Grid) -> float:
    """How much of a patch lies beyond the faces of the scan's grid, ml; arguments as for `scan_end_doubts`."""
    return len(_outside(frame, soft, grid)) * _voxel_ml(frame)


def _outside(frame: CanonicalFrame, soft: SoftField, grid: Grid) -> F64:
    """(N, 3) world mm of the completed voxels beyond a grid."""
    world = _world((soft.distance_mm < 0) & soft.region, frame)
    return world[~_inside(grid, world)]


def unseen(mask: Volume, frame: CanonicalFrame, known: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What a scan does not show of the vault: a line for each end of its grid that cuts bone, but the lower one.

    Args:
        mask: the bone on the scan's whole grid.
        frame: its pose.
        known: lines of `scan_end_doubts`; an end that they name already is left out.
    """

    def in_vault(world_mm: F64) -> BoolArray:
        mean_mm = (world_mm @ frame.to_canonical[:3, :3].T + frame.to_canonical[:3, 3]) / frame.scale
        return np.asarray((np.abs(mean_mm) < VAULT_REACH_MM).all(axis=1) & (mean_mm[:, 2] > FLOOR_MM))

    normals = [end.normal @ frame.to_world[:3, :3] for end in grid_ends(mask, in_vault)]
    ends = [f"the scan ends at the {_side(normal)}:" for normal in normals if normal[2] >= FACING_DOWN]
    new = [end for end in ends if not any(end in line for line in known)]
    return tuple(f"{end} what lies beyond was not looked at" for end in new)


def within_scan(soft: SoftField, field: BoxField, frame: CanonicalFrame, grid: Grid, min_ml: float) -> SoftField:
    """A completion without the pieces that only reach into the scan from beyond its end.

    Where a scan ends at the vertex, what it does not show is completed like a hole, and the completion's rim lies in
    the scan as thin islands along the bone's edge.

    Args:
        soft: the completion.
        field: the skull that was completed.
        frame: its pose.
        grid: of the scan, whole.
        min_ml: less of a piece than this in the scan is no hole, if some of it lies beyond.
    """
    missing = (soft.distance_mm < 0) & (field.distance_mm > 0) & soft.region
    shown = np.zeros_like(missing)
    shown[missing] = _inside(grid, _world(missing, frame))
    if (shown == missing).all():
        return soft
    dropped = _reaching_out(missing, shown, min_ml / _voxel_ml(frame))
    if dropped[missing].all():
        return SoftField(soft.distance_mm, np.zeros_like(soft.region), 0.0)
    return replace(soft, region=soft.region & ~dropped)


def openings_within(openings: BoolArray, frame: CanonicalFrame, grid: Grid) -> BoolArray:
    """Openings of the head's wall, without those that go on beyond the scan, of which `unseen` tells.

    Args:
        openings: bool on the box grid.
        frame: the skull's.
        grid: of the scan, whole.
    """
    shown = np.zeros_like(openings)
    shown[openings] = _inside(grid, _world(openings, frame))
    return openings & ~_reaching_out(openings, shown, np.inf)


def _reaching_out(pieces: BoolArray, shown: BoolArray, voxels: float) -> BoolArray:
    """Those pieces that are not all shown, and of which fewer voxels than so many are."""
    labels, count = label(pieces)
    hidden = np.bincount(labels[pieces & ~shown], minlength=count + 1) > 0
    out = hidden & (np.bincount(labels[shown], minlength=count + 1) < voxels)
    out[0] = False
    return np.asarray(out[labels])


def _world(voxels: BoolArray, frame: CanonicalFrame) -> F64:
    """(N, 3) world mm of voxels of the box, in C order."""
    return box_grid().moved(box_to_world(frame)).to_world(np.argwhere(voxels))


def _voxel_ml(frame: CanonicalFrame) -> float:
    """Volume of a voxel of the box in the world."""
    return box_grid().voxel_volume_mm3 * float(np.prod(frame.scale)) / 1000


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


__all__ = [
    "beyond_scan_ml",
    "openings_within",
    "require_known_bone",
    "scan_end_doubts",
    "unseen",
    "within_scan",
]
