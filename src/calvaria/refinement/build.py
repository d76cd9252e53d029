"""From volumes to the scene in which a patch is displaced, and back to the input's grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calvaria.reconstruction.box import AIR_MM, box_grid, box_to_world, read_box
from calvaria.reconstruction.postprocess import below_zero, without_flakes
from calvaria.reconstruction.protocol import Completion
from calvaria.reconstruction.rays import meets_bone
from calvaria.reconstruction.surface import BoneSurface
from calvaria.refinement.displacement import Displacement
from calvaria.skull.canonical import SPACING_MM, CanonicalFrame
from calvaria.types import F32, F64, BoolArray
from calvaria.volume.components import label
from calvaria.volume.distance import reach_voxels
from calvaria.volume.gather import trilinear_at
from calvaria.volume.grid import Box, Grid
from calvaria.volume.sampler import known_mask
from calvaria.volume.volume import Volume, bounding_box, indices_of

HALF_X, HALF_Y = 64, 76
"""Nodes from the plane to the left or right end, and from the origin to the front or back end: 102 and 122 mm."""

BOTTOM_MM, NODES_Z = -63.2, 105
"""The lower end, and how many nodes lie above each other."""

COARSEST = 4
"""Nodes between two of the coarsest level: the box in which the patch moves starts and ends on such nodes."""

FAR_MM = 12.7
"""Distances are cut off here."""

ROOM_MM = 16.0
"""The box reaches so far beyond the patch: displacements fade out there."""

SHUT_MM = 12.0
"""Where bone lies nearer than this before or behind a point, the vault is not open there."""

BODY_MM = 2.0
"""Voxels so near to the displaced patch are looked at on the input's own grid."""


def scene_grid() -> Grid:
    """The grid of a scene in canonical mm, symmetric in x with a layer of nodes on the plane."""
    shape = (2 * HALF_X + 1, 2 * HALF_Y + 1, NODES_Z)
    return Grid.isotropic(shape, SPACING_MM, (-HALF_X * SPACING_MM, -HALF_Y * SPACING_MM, BOTTOM_MM))


@dataclass(frozen=True, eq=False)
class Ground:
    """What is the same for every patch of a skull.

    Args:
        frame: of the skull.
        defective: mask of its bone, on the input's grid.
        bone_mm: on `scene_grid`, signed distance to that bone.
        expected_mm: ... to the skull as the shape prior completes it; None without one.
        known: bool, where the scan shows anything.
    """

    frame: CanonicalFrame
    defective: Volume
    bone_mm: F32
    expected_mm: F32 | None
    known: BoolArray

    @classmethod
    def of(
        cls,
        defective: Volume,
        frame: CanonicalFrame,
        prior: Completion | None = None,
        surface: BoneSurface | None = None,
    ) -> Ground:
        """Lay a skull out.

        Args:
            defective: mask, not empty.
            frame: its canonical frame.
            prior: the shape prior's completion.
            surface: of the skull, if it has been found already.
        """
        grid = scene_grid().moved(frame.to_world)
        box = bounding_box(defective.mask)
        skull = defective if box is None else defective.crop(box)
        bone = (surface or BoneSurface.of(skull)).distances(grid, FAR_MM)
        known = known_mask(Volume(bone, scene_grid()), frame.cuts)
        return cls(frame, defective, bone, None if prior is None else np.minimum(_expected(prior, grid), bone), known)

    def completed_mm(self, patch: Volume) -> F32:
        """Signed distance to bone and patch together, on the scene's grid."""
        grid, out = scene_grid().moved(self.frame.to_world), self.bone_mm.copy()
        inner = bounding_box(patch.mask)
        if inner is None:
            return out
        # Within a margin of the patch: beyond it nothing changes.
        near = bounding_box(patch.mask, reach_voxels(patch.grid, FAR_MM))
        there = _covering(grid, patch.grid.crop(inner), FAR_MM)
        if near is None or there is None:
            return out
        part, bone = patch.crop(near), self.defective.crop(near)
        whole = BoneSurface.of(part.with_data(part.mask | bone.mask))
        out[there] = np.minimum(out[there], whole.distances(grid.crop(there), FAR_MM))
        return out

    def missing(self, completed_mm: F32) -> BoolArray:
        """Where patch or shape prior have bone and the skull has none."""
        bone = completed_mm < 0 if self.expected_mm is None else (completed_mm < 0) | (self.expected_mm < 0)
        return bone & (self.bone_mm > 0)

    def box(self, completed_mm: F32) -> Box | None:
        """Where the patch may move; None if there is none on the grid."""
        margin = int(np.ceil(ROOM_MM / SPACING_MM))
        inner = bounding_box(self.missing(completed_mm), (margin, margin, margin))
        if inner is None:
            return None
        a, b, c = (_aligned(part, n) for part, n in zip(inner, completed_mm.shape, strict=True))
        return a, b, c

    def open(self, completed_mm: F32, box: Box) -> BoolArray:
        """Where the patch may come to lie: the vault is open there, or bone is missing next to it."""
        from scipy.ndimage import binary_dilation

        near = np.zeros(completed_mm.shape, bool)
        near[box] = True
        steps = np.arange(-SHUT_MM, SHUT_MM + 0.1, SPACING_MM)
        free = near & (self.bone_mm > 0)
        open_ = free & ~meets_bone(free, self.bone_mm < 0, steps, scene_grid())
        out: BoolArray = near & (open_ | binary_dilation(self.missing(completed_mm)))
        return out


def _expected(prior: Completion, grid: Grid) -> F32:
    """Signed distance to the missing bone that the shape prior expects, on a grid of the world."""
    soft = np.where(prior.soft.region, np.minimum(prior.soft.distance_mm, AIR_MM), np.float32(AIR_MM))
    place = box_grid().moved(box_to_world(prior.frame))
    return read_box(soft, grid.centres_mm().reshape(-1, 3), AIR_MM, place).reshape(grid.shape)


def _covering(grid: Grid, part: Grid, margin_mm: float) -> Box | None:
    """Nodes of a grid around another grid; None where it lies beyond."""
    index, margin = grid.to_index(part.corners_mm()), margin_mm / np.asarray(grid.spacing_mm)
    low = np.clip(np.floor(index.min(axis=0) - margin), 0, grid.shape).astype(int)
    high = np.clip(np.ceil(index.max(axis=0) + margin) + 1, 0, grid.shape).astype(int)
    if (high - low < 2).any():
        return None
    a, b, c = (slice(int(i), int(j)) for i, j in zip(low, high, strict=True))
    return a, b, c


def _aligned(part: slice, count: int) -> slice:
    """A range of nodes that starts and ends on nodes of the coarsest level."""
    last = (count - 1) // COARSEST * COARSEST
    low = part.start // COARSEST * COARSEST
    high = min(-(-(part.stop - 1) // COARSEST) * COARSEST, last)
    return slice(min(low, last - 2 * COARSEST), max(high, low + 2 * COARSEST) + 1)


def displaced(
    ground: Ground, patch: Volume, completed_mm: F32, displacement: Displacement, scene_open: BoolArray
) -> Volume:
    """A patch displaced, on the input's grid.

    Args:
        ground: of its skull.
        patch: mask, on the skull's grid.
        completed_mm: on the scene's grid, signed distance to bone and patch.
        displacement: in canonical mm.
        scene_open: on the scene's grid: where the patch may lie.

    Returns:
        A mask that has no voxel in the bone. Beyond the displacement's grid the patch stays as it is.
    """
    from scipy.ndimage import binary_dilation

    box = bounding_box(patch.mask, reach_voxels(patch.grid, ROOM_MM))
    out = np.zeros(patch.shape, bool, order="F" if patch.data.flags.f_contiguous else "C")
    if box is None:
        return patch.with_data(out)
    part, bone = patch.crop(box), ground.defective.crop(box)
    nodes = np.argwhere(binary_dilation(scene_open, iterations=2))
    points = scene_grid().to_world(nodes)
    shift = displacement.at(points) / SPACING_MM
    far = completed_mm - np.float32(FAR_MM)
    field = np.full(far.shape, FAR_MM, np.float32)
    field[tuple(nodes.T)] = trilinear_at(far.reshape(-1), far.shape, (nodes + shift).T) + np.float32(FAR_MM - BODY_MM)
    field = np.minimum(field, np.float32(FAR_MM))
    place = scene_grid().moved(ground.frame.to_world)
    index = indices_of(below_zero(Volume(field, place), part.grid) & ~bone.mask)
    canonical = _moved(ground.frame.to_canonical, part.grid.to_world(index))
    there = part.grid.to_index(_moved(ground.frame.to_world, canonical + displacement.at(canonical)))
    whole = (part.mask | bone.mask).astype(np.float32).reshape(-1)
    set_ = trilinear_at(whole, part.shape, there.T) > 0.5
    new = np.zeros(part.shape, bool)
    new[tuple(index[set_].T)] = True
    out[box] = _of_patch(without_flakes(Volume(new | _beyond(ground, part, displacement), part.grid)), part.mask)
    return patch.with_data(out)


def _of_patch(moved: BoolArray, patch: BoolArray) -> BoolArray:
    """The pieces that share voxels with the given patch: bone of the rim that came loose is none."""
    labels, count = label(moved, connectivity=6)
    own = np.zeros(count + 1, bool)
    own[np.unique(labels[patch])] = True
    own[0] = False
    kept: BoolArray = own[labels]
    return kept if kept.any() else moved


def _beyond(ground: Ground, part: Volume, displacement: Displacement) -> BoolArray:
    """Voxels of a patch that lie beyond the grid of its displacement."""
    index = indices_of(part.mask)
    at = displacement.grid.to_index(_moved(ground.frame.to_canonical, part.grid.to_world(index)))
    outside = ((at < 0) | (at > np.array(displacement.grid.shape) - 1)).any(axis=1)
    out = np.zeros(part.shape, bool)
    out[tuple(index[outside].T)] = True
    return out


def _moved(matrix: F64, points: F64) -> F64:
    """(N, 3) points after an affine map, (4, 4)."""
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


__all__ = ["Ground", "displaced", "scene_grid"]
