"""Synthetic defects cut out of complete skulls: a spec is drawn first, then applied without any chance.

The shapes and the distributions of their parameters stand in :mod:`calvaria.synthesis.defects.sampling`; a shape is a
function of canonical mm, so that a spec gives the same defect at any resolution. The patch is the bone inside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.errors import GeometryError, InputError
from calvaria.skull.canonical import LANDMARK_NORMAL
from calvaria.synthesis.defects.area import outer_area_cm2
from calvaria.synthesis.defects.sampling import sample_defect
from calvaria.synthesis.defects.shapes import KINDS, DefectSpec
from calvaria.synthesis.defects.soundness import ISLAND_ML, Figures, is_sound, right_size
from calvaria.synthesis.defects.specs import ALL_KINDS, Part, Spec
from calvaria.types import BoolArray, FloatArray
from calvaria.volume.grid import Box, Grid
from calvaria.volume.volume import Volume, bounding_box

ATTEMPTS = 200
"""So many specs are drawn before a skull is given up."""

MIN_DETERMINANT = 1e-3
"""Frames are rigid or nearly so, determinant about 1."""

THINNED_MM = 2.0
"""Step of the thinned skull on which a spec's size is judged first."""


def apply_defect(complete: Volume, spec: Spec, frame_to_world: ArrayLike) -> tuple[Volume, Volume]:
    """Cut a defect out of a complete skull.

    The patch is the largest piece of the bone inside the shape (of each part, where there are several); the smaller
    pieces stay with the skull. Bone that the cut leaves without a connection to the skull goes to the patch, up to
    ``ISLAND_ML`` a piece.

    Args:
        complete: mask of the complete skull; not changed.
        spec: the shape.
        frame_to_world: (4, 4) canonical mm -> world LPS mm of this skull.

    Returns:
        The defective skull and the patch, on the skull's grid; both together are the complete skull, and they do not
        overlap. The patch is empty where the shape meets no bone.

    Raises:
        GeometryError: the frame is no invertible 4 x 4 matrix.
        InputError: the skull is no mask.
    """
    cut = _cut(complete, spec, to_canonical_of(complete.grid, frame_to_world))
    return complete.with_data(complete.mask & ~cut.patch), complete.with_data(cut.patch)


def cut_defect(
    complete: Volume, kind: str, rng: np.random.Generator, frame_to_world: ArrayLike
) -> tuple[Spec, Volume, Volume]:
    """Draw defects of a kind until one gives a sound patch on this skull.

    What is sound :mod:`calvaria.synthesis.defects.soundness` says.

    Args:
        complete: mask of the complete skull.
        kind: one of ``ALL_KINDS``.
        rng: where chance comes from.
        frame_to_world: (4, 4) canonical mm -> world LPS mm of this skull.

    Returns:
        The spec, the defective skull and the patch, as :func:`apply_defect` gives them.

    Raises:
        InputError: an unknown kind; or no sound defect was found, so the skull does not lie where the frame says.
        GeometryError: the frame is no invertible 4 x 4 matrix.
    """
    to_canonical = to_canonical_of(complete.grid, frame_to_world)
    coarse = _thinned(complete)
    for _ in range(ATTEMPTS):
        spec = sample_defect(kind, rng)
        rough = _bone_inside(coarse, spec, to_canonical_of(coarse.grid, frame_to_world))
        if rough is None or not right_size(kind, _millilitres(rough[1], coarse.grid), slack=0.1):
            continue
        cut = _cut(complete, spec, to_canonical)
        if _is_sound(cut, complete, spec, to_canonical):
            return spec, complete.with_data(complete.mask & ~cut.patch), complete.with_data(cut.patch)
    raise InputError(
        f"no sound {kind} defect in {ATTEMPTS} draws: the mask ({complete.volume_ml:.0f} ml) is no complete skull, "
        "or it does not lie in the frame that was given"
    )


def defect_area_cm2(patch: Volume, complete: Volume, frame_to_world: ArrayLike) -> float:
    """Size of a defect: area of the outer surface that its patch restores (see :mod:`calvaria.synthesis.defects.area`).

    Args:
        patch: mask; an empty one has area 0.
        complete: mask of the complete skull on the same grid.
        frame_to_world: (4, 4) canonical mm -> world LPS mm of this skull.

    Raises:
        GeometryError: the grids differ, or the frame is no invertible 4 x 4 matrix.
        InputError: one of them is no mask.
    """
    complete.grid.require_same(patch.grid, "complete skull and patch")
    return outer_area_cm2(patch, complete, to_canonical_of(complete.grid, frame_to_world))


@dataclass(frozen=True, eq=False)
class _Cut:
    """What a shape takes out of a skull."""

    patch: BoolArray
    largest_piece: float
    """Share of the bone inside the shape that its largest piece holds; the smallest share, of several parts."""
    smallest_part: int
    """Voxels of the smallest part's piece."""
    stray_voxels: int
    """Size of the largest piece of bone that was left without connection, and is too large for the patch."""


def _cut(complete: Volume, spec: Spec, to_canonical: FloatArray) -> _Cut:
    patch = np.zeros_like(complete.mask)
    taken = [_take(complete, part, to_canonical, patch) for part in spec.parts]
    boxes = [box for box, _, _ in taken if box is not None]
    share, smallest = min(share for _, share, _ in taken), min(size for _, _, size in taken)
    stray = 0
    limit = ISLAND_ML * 1000.0 / complete.grid.voxel_volume_mm3
    for where in islands(complete.mask & ~patch, patch, _hull(boxes)) if boxes else ():
        if len(where[0]) <= limit:
            patch[where] = True
        else:
            stray = max(stray, len(where[0]))
    return _Cut(patch, share, smallest, stray)


def _take(complete: Volume, part: Part, to_canonical: FloatArray, patch: BoolArray) -> tuple[Box | None, float, int]:
    """Add the largest piece of bone inside a part to the patch: its box, its share of that bone, its voxels."""
    from scipy import ndimage

    found = _bone_inside(complete, part, to_canonical)
    if found is None:
        return None, 0.0, 0
    box, inside = found
    labels, _ = ndimage.label(inside.T)  # files' arrays are Fortran ordered
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    patch[box] |= np.equal(labels.T, sizes.argmax())
    return box, float(sizes.max() / sizes.sum()), int(sizes.max())


def _hull(boxes: list[Box]) -> Box:
    """The smallest box that holds some boxes."""
    i, j, k = (slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes)) for axis in range(3))
    return i, j, k


def _bone_inside(skull: Volume, spec: Spec, to_canonical: FloatArray) -> tuple[Box, BoolArray] | None:
    """The bone inside the shape, and the box it lies in; None when there is none."""
    low, high = spec.bounds_mm()
    ends = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    corners = np.column_stack([low + ends * (high - low), np.ones(8)]) @ np.linalg.inv(to_canonical).T
    first = np.maximum(np.floor(corners[:, :3].min(axis=0)), 0).astype(int)
    last = np.minimum(np.ceil(corners[:, :3].max(axis=0)) + 1, skull.shape).astype(int)
    if (last <= first).any():
        return None
    i, j, k = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    index = np.nonzero(skull.mask[i, j, k].T)[::-1]
    matrix = to_canonical.astype(np.float32)
    offset = (to_canonical[:3, :3] @ first + to_canonical[:3, 3]).astype(np.float32)
    points = np.stack([sum(matrix[r, c] * index[c].astype(np.float32) for c in range(3)) + offset[r] for r in range(3)])
    chosen = spec.field_mm(points.T) < 0
    if not chosen.any():
        return None
    inside = np.zeros(tuple(last - first), bool, order="F")
    inside[tuple(axis[chosen] for axis in index)] = True
    return (i, j, k), inside


def islands(bone: BoolArray, patch: BoolArray, box: Box) -> list[tuple[NDArray[np.intp], ...]]:
    """Pieces of bone that touch a patch and are not part of the skull's main piece.

    Args:
        bone: (I, J, K) the defective skull.
        patch: (I, J, K) the patch.
        box: where the patch lies.

    Returns:
        Indices of each piece's voxels, as ``np.nonzero`` gives them.
    """
    from scipy import ndimage

    i, j, k = (slice(max(s.start - 1, 0), min(s.stop + 1, n)) for s, n in zip(box, bone.shape, strict=True))
    labels, touching = _pieces_at(bone[i, j, k], patch[i, j, k])
    main = touching & _leaving(labels, (i, j, k), bone.shape)
    whole = bounding_box(bone)
    if len(main) != 1 and touching and whole is not None:  # pieces that leave the box may meet outside of it
        i, j, k = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip((i, j, k), whole, strict=True))
        labels, touching = _pieces_at(bone[i, j, k], patch[i, j, k])
        sizes = np.bincount(labels.T.ravel())
        main = {max(touching, key=lambda name: int(sizes[name]))}
    boxes = ndimage.find_objects(labels.T) if touching - main else []  # transposed: labels are Fortran ordered
    islands = []
    for name in sorted(touching - main):
        part = boxes[name - 1][::-1]
        index = np.nonzero(labels[part] == name)
        corner = [outer.start + inner.start for outer, inner in zip((i, j, k), part, strict=True)]
        islands.append(tuple(axis + start for axis, start in zip(index, corner, strict=True)))
    return islands


def _pieces_at(bone: BoolArray, patch: BoolArray) -> tuple[NDArray[np.int32], set[int]]:
    """Labels of the pieces of bone, and the names of those with a face on the patch."""
    from scipy import ndimage

    labels = ndimage.label(bone.T)[0].T
    names: set[int] = set()
    index = np.nonzero(patch.T)[::-1]
    for axis in range(3):
        for step in (-1, 1):
            beside = list(index)
            beside[axis] = np.clip(beside[axis] + step, 0, bone.shape[axis] - 1)
            names.update(np.unique(labels[tuple(beside)]).tolist())
    return labels, names - {0}


def _leaving(labels: NDArray[np.int32], box: Box, shape: tuple[int, ...]) -> set[int]:
    """Names of the pieces that reach a face of the box beyond which the array goes on."""
    faces = []
    for axis, (s, n) in enumerate(zip(box, shape, strict=True)):
        layers = np.moveaxis(labels, axis, 0)
        faces += [layers[0]] if s.start > 0 else []
        faces += [layers[-1]] if s.stop < n else []
    return {int(name) for face in faces for name in np.unique(face)}


def _millilitres(mask: BoolArray, grid: Grid) -> float:
    return int(np.count_nonzero(mask)) * grid.voxel_volume_mm3 / 1000.0


def _is_sound(cut: _Cut, complete: Volume, spec: Spec, to_canonical: FloatArray) -> bool:
    voxel_ml = complete.grid.voxel_volume_mm3 / 1000.0
    volume_ml = int(np.count_nonzero(cut.patch)) * voxel_ml
    figures = Figures(volume_ml, cut.largest_piece, cut.smallest_part * voxel_ml, cut.stray_voxels * voxel_ml)
    return is_sound(spec.kind, figures, _Measured(complete.with_data(cut.patch), complete, to_canonical))


@dataclass(frozen=True, eq=False)
class _Measured:
    """A patch of a complete skull, as :mod:`calvaria.synthesis.defects.soundness` asks for its measures."""

    patch: Volume
    complete: Volume
    to_canonical: FloatArray

    def left_share(self) -> float:
        return float((self._along(0) > 0).mean())

    def lowest_mm(self) -> float:
        return float((LANDMARK_NORMAL[1] * self._along(1) + LANDMARK_NORMAL[2] * self._along(2)).max())

    def area_cm2(self) -> float:
        return outer_area_cm2(self.patch, self.complete, self.to_canonical)

    def _along(self, axis: int) -> FloatArray:
        """(N,) canonical mm of the patch's voxels along an axis."""
        index = np.nonzero(self.patch.mask.T)[::-1]
        row = self.to_canonical[axis]
        return np.asarray(sum(row[c] * index[c] for c in range(3)) + row[3])


def _thinned(volume: Volume) -> Volume:
    """Every n-th voxel, about ``THINNED_MM`` apart: enough to judge a size on."""
    a, b, c = (max(round(THINNED_MM / spacing), 1) for spacing in volume.grid.spacing_mm)
    data = volume.mask[::a, ::b, ::c]
    i, j, k = data.shape
    return Volume(data, Grid((i, j, k), volume.affine @ np.diag([a, b, c, 1.0])))


def to_canonical_of(grid: Grid, frame_to_world: ArrayLike) -> FloatArray:
    """(4, 4) voxel index -> canonical mm, of a skull's grid and its frame.

    Raises:
        GeometryError: the frame is no invertible 4 x 4 matrix.
    """
    frame = np.asarray(frame_to_world, dtype=np.float64)
    if frame.shape != (4, 4) or not np.isfinite(frame).all() or abs(np.linalg.det(frame)) < MIN_DETERMINANT:
        raise GeometryError(f"a frame is an invertible 4 x 4 matrix, canonical mm -> world mm; got {frame.tolist()}")
    matrix: FloatArray = np.linalg.inv(frame) @ grid.affine
    return matrix


__all__ = [
    "ALL_KINDS",
    "KINDS",
    "DefectSpec",
    "Spec",
    "apply_defect",
    "cut_defect",
    "defect_area_cm2",
    "islands",
    "sample_defect",
    "to_canonical_of",
]
