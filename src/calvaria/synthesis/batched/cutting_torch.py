"""Synthetic defects cut out of whole batches of skulls: the torch twin of :mod:`calvaria.synthesis.defects`.

The shapes are the same formulas, and what becomes of small pieces follows the same rules, so both cut the same voxels
but for those where rounding decides. Items are cut one after the other, each within the box of its shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from calvaria.errors import GeometryError, InputError
from calvaria.skull.canonical import LANDMARK_NORMAL
from calvaria.synthesis.batched.components import pieces
from calvaria.synthesis.defects.area import outer_area_cm2
from calvaria.synthesis.defects.cutting import ATTEMPTS
from calvaria.synthesis.defects.sampling import sample_defect, sample_specs
from calvaria.synthesis.defects.soundness import ISLAND_ML, Figures, is_sound
from calvaria.synthesis.defects.specs import Part, Spec
from calvaria.volume.grid import Box, Grid
from calvaria.volume.volume import Volume

BONE = 0.5
"""Soft bone of this much or more is bone."""


@dataclass(frozen=True, eq=False)
class Cuts:
    """What shapes took out of a batch of skulls, and what tells whether it is sound.

    Args:
        defective: (B, X, Y, Z) bool, the defective skulls.
        patch: (B, X, Y, Z) bool, the patches; with the defective skull each makes up the complete one.
        largest_piece: (B,) share of the bone inside the shape that its largest piece holds; the smallest share, of
            several parts; 0 where the shape meets no bone.
        smallest_part_ml: (B,) volume of the smallest part's piece.
        stray_ml: (B,) the largest piece of bone that was left without connection, too large for the patch.
    """

    defective: Tensor
    patch: Tensor
    largest_piece: tuple[float, ...]
    smallest_part_ml: tuple[float, ...]
    stray_ml: tuple[float, ...]


def apply_defects(complete: Tensor, grid: Grid, specs: Sequence[Spec]) -> tuple[Tensor, Tensor]:
    """Cut one defect out of each skull of a batch.

    Args:
        complete: (B, X, Y, Z) complete skulls, bool or soft bone 0..1 (0.5 and more is bone); not changed.
        grid: where the voxels lie in canonical mm.
        specs: one shape an item.

    Returns:
        The defective skulls and the patches, (B, X, Y, Z) bool on the same device, as
        :func:`calvaria.synthesis.defects.apply_defect` gives them.

    Raises:
        GeometryError: the batch does not lie on the grid.
        InputError: there are more or fewer shapes than skulls.
    """
    cuts = cut_defects(complete, grid, specs)
    return cuts.defective, cuts.patch


def cut_defects(complete: Tensor, grid: Grid, specs: Sequence[Spec]) -> Cuts:
    """The same, with what tells whether the defects are sound; arguments and errors as :func:`apply_defects`."""
    if complete.ndim != 4 or tuple(complete.shape[1:]) != grid.shape:
        raise GeometryError(f"a batch on this grid is (B, *{grid.shape}); got {tuple(complete.shape)}")
    if len(specs) != len(complete):
        raise InputError(f"each skull gets one defect; got {len(complete)} skulls and {len(specs)} specs")
    bone = complete if complete.dtype == torch.bool else complete >= BONE
    patch = torch.zeros_like(bone)
    figures = [_cut(bone[item], patch[item], grid, spec) for item, spec in enumerate(specs)]
    shares, parts, strays = (tuple(column) for column in zip(*figures, strict=True)) if figures else ((), (), ())
    return Cuts(bone & ~patch, patch, shares, parts, strays)


def sound(cuts: Cuts, grid: Grid, specs: Sequence[Spec]) -> list[bool]:
    """Whether each defect of a batch is sound, by the rule of :mod:`calvaria.synthesis.defects.soundness`."""
    voxel_ml = grid.voxel_volume_mm3 / 1000.0
    sizes = [float(n) * voxel_ml for n in cuts.patch.flatten(1).sum(dim=1)]
    figures = zip(sizes, cuts.largest_piece, cuts.smallest_part_ml, cuts.stray_ml, strict=True)
    measured = (_Measured(patch, rest, grid) for patch, rest in zip(cuts.patch, cuts.defective, strict=True))
    return [
        is_sound(spec.kind, Figures(*of_one), patch)
        for spec, of_one, patch in zip(specs, figures, measured, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class _Measured:
    """A patch and its defective skull, (X, Y, Z) bool, as the rule of soundness asks for their measures."""

    patch: Tensor
    defective: Tensor
    grid: Grid

    def left_share(self) -> float:
        return float((self._points()[0] > 0).float().mean())

    def lowest_mm(self) -> float:
        _, y, z = self._points()
        return float((LANDMARK_NORMAL[1] * y + LANDMARK_NORMAL[2] * z).max())

    def area_cm2(self) -> float:
        # Few cases ask for it, and it takes milliseconds: on the CPU, by the one function that knows what an area is.
        patch, complete = (mask.cpu().numpy() for mask in (self.patch, self.patch | self.defective))
        return outer_area_cm2(Volume(patch, self.grid), Volume(complete, self.grid), self.grid.affine)

    def _points(self) -> Tensor:
        i, j, k = (slice(0, n) for n in self.grid.shape)
        return points_of(self.patch.nonzero(), (i, j, k), self.grid)


def draw_defects(
    complete: Tensor, grid: Grid, rng: np.random.Generator, kinds: Mapping[str, float] | None = None
) -> tuple[list[Spec], Cuts]:
    """Draw and cut one sound defect for each skull of a batch; unsound ones are drawn again, of the same kind.

    Args:
        complete: (B, X, Y, Z) complete skulls, bool or soft bone 0..1.
        grid: where the voxels lie in canonical mm.
        rng: where chance comes from; the same state gives the same defects.
        kinds: kind -> weight; None: all kinds but the plain ball, equally often.

    Returns:
        The specs, and what they cut.

    Raises:
        GeometryError: the batch does not lie on the grid.
        InputError: as :func:`sample_specs`; or a skull takes no sound defect, so it does not lie in the frame.
    """
    specs = sample_specs(rng, len(complete), kinds)
    cuts = cut_defects(complete, grid, specs)
    good = sound(cuts, grid, specs)
    for _ in range(ATTEMPTS):
        again = [item for item, well in enumerate(good) if not well]
        if not again:
            return specs, cuts
        fresh = [sample_defect(specs[item].kind, rng) for item in again]
        part = cut_defects(complete[again], grid, fresh)
        for item, well, spec in zip(again, sound(part, grid, fresh), fresh, strict=True):
            good[item], specs[item] = well, spec
        cuts = _put(cuts, again, part)
    item = good.index(False)
    raise InputError(
        f"item {item}: no sound {specs[item].kind} defect in {ATTEMPTS} draws: it is no complete skull, or it does not "
        "lie in canonical mm"
    )


def _put(cuts: Cuts, items: list[int], part: Cuts) -> Cuts:
    """Some items of a batch replaced."""
    defective, patch = cuts.defective.clone(), cuts.patch.clone()
    defective[items], patch[items] = part.defective, part.patch

    def put(old: tuple[float, ...], new: tuple[float, ...]) -> tuple[float, ...]:
        fresh = dict(zip(items, new, strict=True))
        return tuple(fresh.get(item, value) for item, value in enumerate(old))

    return Cuts(
        defective,
        patch,
        put(cuts.largest_piece, part.largest_piece),
        put(cuts.smallest_part_ml, part.smallest_part_ml),
        put(cuts.stray_ml, part.stray_ml),
    )


def _cut(bone: Tensor, patch: Tensor, grid: Grid, spec: Spec) -> tuple[float, float, float]:
    """Cut one skull, into its patch: share of the largest piece, ml of the smallest part, ml of the largest stray."""
    voxel_ml = grid.voxel_volume_mm3 / 1000.0
    taken = [_take(bone, patch, grid, part) for part in spec.parts]
    boxes = [box for box, _, _ in taken if box is not None]
    stray = 0
    if boxes:
        hull = [slice(min(b[a].start for b in boxes), max(b[a].stop for b in boxes)) for a in range(3)]
        stray = take_islands(bone, patch, (hull[0], hull[1], hull[2]), ISLAND_ML / voxel_ml)
    return min(share for _, share, _ in taken), min(size for _, _, size in taken) * voxel_ml, stray * voxel_ml


def _take(bone: Tensor, patch: Tensor, grid: Grid, part: Part) -> tuple[Box | None, float, int]:
    """Add the largest piece of bone inside a part to the patch: its box, its share of that bone, its voxels."""
    box = _box_of(part, grid)
    if box is None:
        return None, 0.0, 0
    index = bone[box].nonzero()
    index = index[part.field(points_of(index, box, grid)) < 0]
    if not len(index):
        return None, 0.0, 0
    low, high = index.amin(dim=0).tolist(), index.amax(dim=0).tolist()
    i, j, k = (slice(s.start + a, s.start + b + 1) for s, a, b in zip(box, low, high, strict=True))
    inside = torch.zeros_like(bone[i, j, k])
    inside[tuple((index - index.amin(dim=0)).T)] = True
    labels, sizes = pieces(inside)
    largest = int(sizes.argmax())
    patch[i, j, k] |= labels == largest
    return box, float(sizes[largest] / sizes.sum()), int(sizes[largest])


def _box_of(part: Part, grid: Grid) -> Box | None:
    """The voxels that a part's bounds touch; None when there are none."""
    ends = np.array(list(product((0, 1), repeat=3)))
    low, high = part.bounds_mm()
    corners = grid.to_index(low + ends * (high - low))
    first = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    last = np.minimum(np.ceil(corners.max(axis=0)) + 1, grid.shape).astype(int)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return (i, j, k) if (last > first).all() else None


def points_of(index: Tensor, box: Box, grid: Grid) -> Tensor:
    """(3, N) float32 canonical mm of (N, 3) voxel indices in a box of a grid."""
    i, j, k = index.T.to(torch.float32)
    first = [s.start for s in box]
    matrix = grid.affine[:3, :3].astype(np.float32).tolist()
    offset = (grid.affine[:3, :3] @ first + grid.affine[:3, 3]).astype(np.float32).tolist()
    return torch.stack([a * i + b * j + c * k + d for (a, b, c), d in zip(matrix, offset, strict=True)])


def take_islands(bone: Tensor, patch: Tensor, box: Box, limit_voxels: float) -> int:
    """Bone that the patch cut off from the skull goes to it, up to a size; voxels of the largest piece that is larger.

    The skull's main piece is what touches the patch and goes on beyond the box; where that is not one piece, the whole
    skull is looked at.
    """
    i, j, k = (slice(max(s.start - 1, 0), min(s.stop + 1, n)) for s, n in zip(box, bone.shape, strict=True))
    labels, sizes = pieces(bone[i, j, k] & ~patch[i, j, k])
    touching = _seen(labels[grown(patch[i, j, k])], sizes)
    main = touching & _leaving(labels, sizes, (i, j, k), bone.shape)
    if bool(touching.any()) and int(main.sum()) != 1:
        i, j, k = (slice(0, n) for n in bone.shape)
        labels, sizes = pieces(bone & ~patch)
        touching = _seen(labels[grown(patch)], sizes)
        main = torch.zeros_like(touching)
        main[(sizes * touching).argmax()] = True
    loose = touching & ~main
    small = loose & (sizes <= limit_voxels)
    if bool(small.any()):
        patch[i, j, k] |= small[labels]
    large = sizes[loose & ~small]
    return int(large.max()) if len(large) else 0


def grown(mask: Tensor) -> Tensor:
    """A mask and all voxels that share a face with it."""
    out = mask.clone()
    for axis in range(3):
        length = mask.shape[axis] - 1
        out.narrow(axis, 1, length).logical_or_(mask.narrow(axis, 0, length))
        out.narrow(axis, 0, length).logical_or_(mask.narrow(axis, 1, length))
    return out


def _seen(labels: Tensor, sizes: Tensor) -> Tensor:
    """(P + 1,) bool: the pieces whose labels are there; never 0, which is no piece."""
    seen = torch.zeros(len(sizes), dtype=torch.bool, device=labels.device)
    seen[labels.reshape(-1)] = True
    seen[0] = False
    return seen


def _leaving(labels: Tensor, sizes: Tensor, box: Box, shape: Sequence[int]) -> Tensor:
    """(P + 1,) bool: the pieces that reach a face of the box beyond which the array goes on."""
    faces = []
    for axis, (s, n) in enumerate(zip(box, shape, strict=True)):
        faces += [labels.select(axis, 0).reshape(-1)] if s.start > 0 else []
        faces += [labels.select(axis, -1).reshape(-1)] if s.stop < n else []
    return _seen(torch.cat(faces) if faces else labels.new_zeros(0), sizes)


__all__ = ["Cuts", "apply_defects", "cut_defects", "draw_defects", "sound"]
