"""How large a defect is: the outer surface that its patch has, in cm2."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calvaria.skull.head import normals
from calvaria.types import FloatArray
from calvaria.volume.volume import Volume, bounding_box, indices_of

PROBES_MM = (2.0, 4.0, 6.0, 8.0, 10.0)
"""A face is on the outer surface when no bone lies this far outward of it: those of the inner table and of the marrow's
holes have bone over them."""

CELL_MM = 10.0
"""Faces are summed over cells of this size, within which a head is nearly flat: a staircase of voxels then has the
area of the smooth surface it stands for."""


def outer_area_cm2(patch: Volume, complete: Volume, to_canonical: FloatArray) -> float:
    """Area of the outer surface that a patch restores: what surgeons call the size of a craniectomy.

    Faces between the patch and the air outside are added up as vectors over cells of ``CELL_MM``; the lengths of the
    sums are the areas of the smooth pieces. Faces to the defective skull (the cut faces of the hole) and of the inner
    surface do not count. On a ball's shell right within 2 %.

    Args:
        patch: mask; an empty one has area 0.
        complete: the complete skull on the same grid.
        to_canonical: (4, 4) voxel index -> canonical mm.

    Raises:
        InputError: one of them is no mask.
    """
    box = bounding_box(patch.mask)
    if box is None:
        return 0.0
    start = np.array([s.start for s in box])
    index = indices_of(patch.mask[box]) + start
    sums: dict[tuple[int, ...], FloatArray] = {}
    for axis in range(3):
        for step in (-1, 1):
            face = np.zeros(3)
            face[axis] = step
            bare = index[~_bone_at(complete, index + face.astype(int))]
            middle = _mapped(bare + face / 2, to_canonical)
            middle = middle[~_covered(complete, middle, to_canonical)]
            if len(middle):
                _add(sums, middle, _face_vector(to_canonical, axis, step))
    return float(sum(np.linalg.norm(total) for total in sums.values())) / 100.0


def _add(sums: dict[tuple[int, ...], FloatArray], middle: FloatArray, vector: FloatArray) -> None:
    cells, counts = np.unique(np.floor(middle / CELL_MM).astype(int), axis=0, return_counts=True)
    for cell, count in zip(cells, counts, strict=True):
        name = tuple(cell.tolist())
        sums[name] = sums.get(name, np.zeros(3)) + count * vector


def _face_vector(to_canonical: FloatArray, axis: int, step: int) -> FloatArray:
    """(3,) outward normal of a voxel's face times its area, mm2, in canonical axes."""
    a, b = (to_canonical[:3, other] for other in range(3) if other != axis)
    vector: FloatArray = np.cross(a, b)
    return vector * np.sign(vector @ to_canonical[:3, axis]) * step


def _covered(complete: Volume, points_mm: FloatArray, to_canonical: FloatArray) -> NDArray[np.bool_]:
    """(N,) whether bone lies outward of canonical points."""
    covered = np.zeros(len(points_mm), bool)
    if len(points_mm):
        outward, back = normals(points_mm), np.linalg.inv(to_canonical)
        for probe in PROBES_MM:
            covered |= _bone_at(complete, np.rint(_mapped(points_mm + probe * outward, back)).astype(int))
    return covered


def _bone_at(complete: Volume, index: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,) bone at (N, 3) voxel indices; none outside the array."""
    inside = ((index >= 0) & (index < complete.shape)).all(axis=1)
    out = np.zeros(len(index), bool)
    out[inside] = complete.mask[tuple(index[inside].T)]
    return out


def _mapped(points: FloatArray, matrix: FloatArray) -> FloatArray:
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


__all__ = ["outer_area_cm2"]
