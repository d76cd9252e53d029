"""Heads moved and bent: affine maps and smooth displacements, volumes read once through both.

A map is a function of canonical mm, worked out on a coarse net of nodes and read linearly between them. Only cells of
the net that can see bone are read: most of a head's box is air or brain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from calvaria.deformation.bend import Bend
from calvaria.deformation.flow import DisplacementFields, read
from calvaria.errors import GeometryError, InputError
from calvaria.skull.head import HEAD_CENTRE_MM
from calvaria.symmetry.plane import Plane
from calvaria.types import F64
from calvaria.volume.grid import Grid
from calvaria.volume.rotation import rotation_matrix

Triple = tuple[float, float, float]

CELL = 4
"""Voxels along an edge of the net's cells. At 1.5 mm a displacement read linearly across is off by about 0.02 mm."""

INVERSE_STEPS = 60
"""Iterations that undo a displacement. Each takes the error down by the displacement's gradient, in truth at most about
a half: what is left after so many is rounding."""

WHOLE_VOXELS = 1e-9
"""A map that takes voxels to voxels within this many voxels copies them."""

MAX_SHEAR = 0.9
MAX_SCALE = 4.0
"""Beyond these a map has nothing to do with a head; they keep it invertible."""


@dataclass(frozen=True)
class Warp:
    """Where a head is moved: mirrored, bent, scaled and sheared along its own axes, turned, then shifted.

    Args:
        flip: mirrored about x = 0 first.
        bend: smooth displacement of the mirrored head, or None.
        scale: factors along x, y, z.
        shear: what is added to x per y, to x per z, and to y per z. The first two tilt the head's two sides against
            each other: leave them 0 where the symmetry plane must stay one.
        rotation_deg: rotation vector (axis times angle), canonical axes.
        shift_mm: translation.

    Scales, shears and rotations are about the head centre, `calvaria.skull.head.HEAD_CENTRE_MM`.

    Raises:
        InputError: a scale, shear or other number that is out of all proportion.
    """

    flip: bool = False
    bend: Bend | None = None
    scale: Triple = (1.0, 1.0, 1.0)
    shear: Triple = (0.0, 0.0, 0.0)
    rotation_deg: Triple = (0.0, 0.0, 0.0)
    shift_mm: Triple = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if not all(1 / MAX_SCALE <= factor <= MAX_SCALE for factor in self.scale):
            raise InputError(f"a head's scales lie between {1 / MAX_SCALE:g} and {MAX_SCALE:g}; got {self.scale}")
        if not all(abs(tangent) <= MAX_SHEAR for tangent in self.shear):
            raise InputError(f"a head's shears lie between +-{MAX_SHEAR:g}; got {self.shear}")
        if not np.isfinite([*self.rotation_deg, *self.shift_mm]).all():
            raise InputError(f"rotation and shift are finite; got {self.rotation_deg} and {self.shift_mm}")

    @property
    def affine(self) -> F64:
        """(4, 4) mm of the mirrored and bent head -> mm of the moved one."""
        stretch = np.diag(self.scale)
        tilt = np.eye(3)
        tilt[0, 1], tilt[0, 2], tilt[1, 2] = self.shear
        out = np.eye(4)
        out[:3, :3] = rotation_matrix(np.radians(self.rotation_deg)) @ tilt @ stretch
        out[:3, 3] = HEAD_CENTRE_MM + self.shift_mm - out[:3, :3] @ HEAD_CENTRE_MM
        return out

    @property
    def is_bent(self) -> bool:
        """Whether there is more than an affine map."""
        return self.bend is not None and not self.bend.is_none

    @property
    def plane(self) -> Plane:
        """Where the mid-sagittal plane x = 0 of the head goes, canonical mm of the moved head.

        Raises:
            GeometryError: the map shears left against right: the head has no symmetry plane then.
        """
        if self.shear[0] or self.shear[1]:
            raise GeometryError(
                f"a head sheared by {self.shear} has no symmetry plane; keep the first two shears 0 where one is wanted"
            )
        affine = self.affine
        normal = np.asarray(np.linalg.inv(affine[:3, :3])[0], np.float64)
        return Plane(normal, float(normal @ (affine[:3, :3] @ [0.0, *HEAD_CENTRE_MM[1:]] + affine[:3, 3])))

    def source_mm(self, points_mm: ArrayLike) -> F64:
        """Where in the head the voxels of the moved head come from.

        Args:
            points_mm: (P, 3) canonical mm, moved head.

        Returns:
            (P, 3) canonical mm, head as it was.
        """
        back = np.linalg.inv(self.affine)
        points: F64 = np.asarray(points_mm, np.float64) @ back[:3, :3].T + back[:3, 3]
        if self.is_bent and self.bend is not None:
            points += self.bend.displacement().at(points)
        if self.flip:
            points[:, 0] *= -1
        return points

    def moved_mm(self, points_mm: ArrayLike) -> F64:
        """Where points of the head go; undoes :meth:`source_mm` to less than a thousandth of a mm.

        Args:
            points_mm: (P, 3) canonical mm, head as it was.

        Returns:
            (P, 3) canonical mm, moved head.
        """
        target = np.array(points_mm, np.float64)
        if self.flip:
            target[:, 0] *= -1
        points = target
        if self.is_bent and self.bend is not None:
            displacement = self.bend.displacement()
            for _ in range(INVERSE_STEPS):  # a contraction: the displacement's gradient is below 1
                points = target - displacement.at(points)
        affine = self.affine
        return np.asarray(points @ affine[:3, :3].T + affine[:3, 3])


def warp_volumes(volumes: Tensor, grid: Grid, warps: Sequence[Warp], forms: DisplacementFields | None = None) -> Tensor:
    """Read volumes through the maps of their heads; all channels of a head through one map.

    A map that takes voxels to voxels (none, a mirror image on a symmetric grid, a shift by whole voxels) copies them
    exactly. Outside of the array there is nothing (0, False).

    Args:
        volumes: (B, X, Y, Z) or (B, C, X, Y, Z); floating, or bool: made soft, interpolated, cut at 0.5 last.
        grid: canonical mm, the same before and after.
        warps: B maps.
        forms: B displacements: before it is moved, each head takes another form, whose bone at p is that of the volume
            at p + form(p); None for their own.

    Returns:
        A tensor of the same shape, dtype and device.

    Raises:
        GeometryError: the tensor does not lie on the grid.
        InputError: as many maps and forms as heads are wanted; the dtype is neither floating nor bool.
    """
    check_volumes(volumes, grid, len(warps))
    channels = volumes if volumes.dim() == 5 else volumes[:, None]  # (B, C, X, Y, Z)
    each = _each(forms, len(warps))
    moved = [_warped(head, grid, warp, form) for head, warp, form in zip(channels, warps, each, strict=True)]
    return torch.stack(moved).reshape(volumes.shape)


def _each(forms: DisplacementFields | None, count: int) -> list[DisplacementFields | None]:
    """The form of each head, a batch of one."""
    if forms is None:
        return [None] * count
    if len(forms.values_mm) != count:
        raise InputError(f"one form a head is wanted; got {len(forms.values_mm)} for {count} heads")
    return [DisplacementFields(values[None], forms.grid) for values in forms.values_mm]


def check_volumes(volumes: Tensor, grid: Grid, count: int) -> None:
    """Raise unless the tensor holds ``count`` heads on the grid.

    Raises:
        GeometryError: the tensor does not lie on the grid, or the grid's axes do not run along x, y, z.
        InputError: another number of heads, or a dtype that is neither floating nor bool.
    """
    if volumes.dim() not in (4, 5) or tuple(volumes.shape[-3:]) != grid.shape:
        raise GeometryError(
            f"(B, [C,] X, Y, Z) volumes on a grid of {grid.shape} are wanted; got {tuple(volumes.shape)}"
        )
    if not np.array_equal(grid.affine[:3, :3], np.diag(grid.spacing_mm)):
        raise GeometryError("a grid along the canonical axes is wanted; bring the skull into its canonical frame first")
    if len(volumes) != count:
        raise InputError(f"one set of parameters a head is wanted; got {count} for {len(volumes)} heads")
    if not (volumes.dtype == torch.bool or volumes.is_floating_point()):
        raise InputError(f"soft bone (floating) or masks (bool) are wanted; got {volumes.dtype}")


def _warped(head: Tensor, grid: Grid, warp: Warp, form: DisplacementFields | None) -> Tensor:
    """One head, (C, X, Y, Z)."""
    if not warp.is_bent and form is None:
        copied = _copied(head, grid, warp)
        if copied is not None:
            return copied
    soft = head.float() if head.dtype == torch.bool else head
    x, y, z = grid.shape
    values = read_cells(soft, _nodes(grid, warp, form, head.device))[:, :x, :y, :z]
    return values > 0.5 if head.dtype == torch.bool else values


def _copied(head: Tensor, grid: Grid, warp: Warp) -> Tensor | None:
    """The head copied voxel by voxel; None where the affine map takes voxels between voxels."""
    mirror = np.diag([-1.0 if warp.flip else 1.0, 1.0, 1.0, 1.0])
    to_source = grid.inverse @ mirror @ np.linalg.inv(warp.affine) @ grid.affine
    shift = np.rint(to_source[:3, 3])
    off = np.abs(to_source[:3, 3] - shift) + np.abs(to_source[:3, :3] - mirror[:3, :3]) @ np.array(grid.shape)
    if off.max() > WHOLE_VOXELS:
        return None
    if not warp.flip and not shift.any():
        return head
    if warp.flip:  # out[i] = in[shift - i], and in[j] stands at n - 1 - j of the flipped array
        head, shift[0] = head.flip(1), grid.shape[0] - 1 - shift[0]
    out = torch.zeros_like(head)
    taken, write = [slice(None)], [slice(None)]
    for n, step in zip(grid.shape, shift.astype(int).tolist(), strict=True):
        start, stop = max(0, -step), max(0, -step, min(n, n - step))
        write.append(slice(start, stop))
        taken.append(slice(start + step, stop + step))
    out[tuple(write)] = head[tuple(taken)]
    return out


def _nodes(grid: Grid, warp: Warp, form: DisplacementFields | None, device: torch.device) -> Tensor:
    """(3, I, J, K) float32: where the net's nodes are read, as indices of the grid; the last cells may hang over."""
    counts = [-(-n // CELL) + 1 for n in grid.shape]
    index = np.stack(np.meshgrid(*[np.arange(n) * CELL for n in counts], indexing="ij"), axis=-1).reshape(-1, 3)
    source = warp.source_mm(grid.to_world(index)).T.reshape(3, *counts)
    points = torch.from_numpy(np.ascontiguousarray(source, np.float32)).to(device)
    if form is not None:
        points = points + read(form.values_mm, form.grid, points[None])[0]
    first, spacing = (
        torch.tensor(v, dtype=torch.float32, device=device) for v in (grid.affine[:3, 3], grid.spacing_mm)
    )
    return (points - first.reshape(3, 1, 1, 1)) / spacing.reshape(3, 1, 1, 1)


def read_cells(soft: Tensor, nodes: Tensor) -> Tensor:
    """Trilinear values at the voxels of a net's cells, `CELL` along each edge; cells that see no bone are not read.

    Args:
        soft: (C, X, Y, Z), zero outside.
        nodes: (3, I + 1, J + 1, K + 1): where the first voxel of each cell is read, as indices; linear in between.

    Returns:
        (C, CELL I, CELL J, CELL K).
    """
    cells = [n - 1 for n in nodes.shape[1:]]
    halves = (slice(None, -1), slice(1, None))
    corners = torch.stack(
        [nodes[:, i, j, k].reshape(3, -1) for i in halves for j in halves for k in halves]
    )  # (8, 3, M)
    seen = _sees_bone(soft, corners.amin(dim=0), corners.amax(dim=0)).nonzero()[:, 0]
    size = torch.tensor(soft.shape[1:], device=soft.device)[:, None]
    unit = ((2 * corners[:, :, seen] + 1) / size - 1).flip(1)  # (8, 3, S), last axis first, as grid_sample wants it
    # One cell after the other: its 64 voxels lie close together, also in memory.
    points = (unit.permute(2, 1, 0).reshape(-1, 8) @ _corner_weights(soft.device)).reshape(1, -1, 3, CELL**3, 1)
    values = functional.grid_sample(soft[None], points.movedim(2, -1).to(soft.dtype), align_corners=False)
    blocks = soft.new_zeros(len(soft), corners.shape[2], CELL**3)
    blocks[:, seen] = values[0, :, :, :, 0]
    whole = blocks.reshape(-1, *cells, CELL, CELL, CELL).permute(0, 1, 4, 2, 5, 3, 6)
    return whole.reshape(len(soft), *[n * CELL for n in cells])


def _corner_weights(device: torch.device) -> Tensor:
    """(8, 64) weights of a cell's corners at its voxels."""
    along = torch.arange(CELL, device=device) / CELL
    one = torch.stack([1 - along, along])  # (2, 4)
    return torch.einsum("ai,bj,ck->abcijk", one, one, one).reshape(8, -1)


def _sees_bone(soft: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(M,) whether there may be anything but 0 in boxes from ``low`` to ``high``, (3, M) indices: by blocks of 2."""
    total = _any_of_two(soft != 0).to(torch.int32)
    for axis in range(3):
        total = total.cumsum(axis, dtype=torch.int32)
    total = functional.pad(total, (1, 0, 1, 0, 1, 0))  # [i, j, k]: how many blocks before block (i, j, k) are not empty
    top = torch.tensor(total.shape, device=soft.device)[:, None] - 1
    first = (low.floor().long() // 2).clamp(min=0).minimum(top)
    last = ((high.floor().long() + 1) // 2 + 1).clamp(min=0).minimum(top).maximum(first)
    ends = (first, last)
    count = torch.zeros_like(total[0, 0, :1])
    for i, j, k in product((0, 1), repeat=3):
        sign = 1 if (i + j + k) % 2 else -1  # inclusion and exclusion of the box's eight corners
        count = count + sign * total[ends[i][0], ends[j][1], ends[k][2]]
    return count > 0


def _any_of_two(occupied: Tensor) -> Tensor:
    """(C, X, Y, Z) bool -> (X / 2, Y / 2, Z / 2), rounded up: whether any channel of the block is True."""
    occupied = occupied[0] if len(occupied) == 1 else occupied.any(dim=0)
    for axis in range(3):
        if occupied.shape[axis] % 2:
            occupied = torch.cat([occupied, torch.zeros_like(occupied.narrow(axis, 0, 1))], dim=axis)
        shape = list(occupied.shape)
        pairs = occupied.reshape(*shape[:axis], shape[axis] // 2, 2, *shape[axis + 1 :])
        occupied = pairs.select(axis + 1, 0) | pairs.select(axis + 1, 1)
    return occupied


__all__ = ["CELL", "Triple", "Warp", "check_volumes", "read_cells", "warp_volumes"]
