"""Synthetic defects, cut from complete skulls: drawn as parameters first, then applied without any chance.

The shapes follow the generator that the authors of SkullBreak published (github.com/OldaKodym/BUT_autoimplant_public):
one ball of N(28, 8) mm radius, up to seven of N(16, 4) mm on its surface, their union smoothed and its edge
roughened; the patch is the bone inside. Where each kind lies was not published: it is modelled here on a head in the
canonical frame (mm; +x left, +y posterior, +z superior; vertex near z = 80, brow near y = -80, z = -15). The shape is
a function of canonical mm, so a spec gives the same defect at any resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calvaria.data.shapes import KINDS, DefectSpec
from calvaria.errors import GeometryError, InputError
from calvaria.skull.canonical import LANDMARK_MM, LANDMARK_NORMAL
from calvaria.volume.grid import Box, Grid
from calvaria.volume.volume import BoolArray, Volume, bounding_box

FloatArray = NDArray[np.floating[Any]]

HEAD_CENTRE_MM = np.array([0.0, 0.0, 10.0])
HEAD_HALF_AXES_MM = np.array([70.0, 88.0, 70.0])
"""An ellipsoid about the outer vault in the canonical frame; defects are placed on it."""

PRIMARY_RADIUS_MM = (28.0, 8.0, 20.0, 44.0)
SECONDARY_RADIUS_MM = (16.0, 4.0, 8.0, 24.0)
"""Mean, standard deviation, smallest and largest radius; the published generator does not cut the tails."""

MOST_SECONDARY_BALLS = 7

BILATERAL_WIDTH = 0.75
"""A bilateral defect has two more balls, left and right, of this many times the primary radius."""

DEPTH_SD_MM = 5.0
"""How far the primary ball's centre lies off the model head, along the radius."""

RAGGED_MM = 1.8
"""Standard deviation of the edge's roughness: about that of the published elastic warp at 0.4 mm."""

VOLUME_ML = (15.0, 90.0)
"""Size a patch should have."""

ISLAND_ML = 3.0
"""Bone cut off from the skull up to this size goes to the patch; a defect that leaves a larger piece is not sound."""

LARGEST_PIECE = 0.85
"""The largest piece of bone inside the shape holds at least this part of it, or the defect is not sound."""

LEAST_SIDE = 0.2
"""A bilateral patch has at least this part of its volume on either side of the midline."""

BROW_MM = 6.0
"""A frontoorbital patch comes at least this near to the landmark plane, which ends it: it takes the brow."""

ATTEMPTS = 200
"""So many specs are drawn before a skull is given up."""

LOWEST_SINE = 0.15
"""Random defects are centred above this sine of elevation: z = 20 mm, as the published 32 mm above the landmarks."""

SMALLEST_DETERMINANT = 1e-3
"""Frames are rigid or nearly so, determinant about 1."""

THINNED_MM = 2.0
"""Step of the thinned skull on which a spec's size is judged first."""


def sample_defect(kind: str, rng: np.random.Generator) -> DefectSpec:
    """Draw a defect of a kind, for a head in the canonical frame.

    Args:
        kind: one of ``KINDS``.
        rng: where chance comes from; the same state gives the same spec.

    Returns:
        A spec. It knows no skull: whether the bone inside makes a sound patch is seen when it is applied, and
        :func:`cut_defect` draws until it does.

    Raises:
        InputError: an unknown kind.
    """
    if kind not in KINDS:
        raise InputError(f"a defect's kind is one of {', '.join(KINDS)}; got {kind!r}")
    centre = _place(kind, rng)
    radius = _radius(PRIMARY_RADIUS_MM, rng)
    if kind == "ball":
        return DefectSpec(kind, (_ball(centre, radius),))
    balls = [_ball(centre, radius)]
    small = _radius(SECONDARY_RADIUS_MM, rng)
    if kind == "bilateral":  # wide across the midline
        balls += [_ball(centre + side * np.array([radius, 0.0, 0.0]), BILATERAL_WIDTH * radius) for side in (-1.0, 1.0)]
    for _ in range(int(rng.integers(0, MOST_SECONDARY_BALLS + 1))):
        direction = rng.normal(size=3)
        balls.append(_ball(centre + radius * direction / np.linalg.norm(direction), small))
    return DefectSpec(kind, tuple(balls), RAGGED_MM, int(rng.integers(2**31)))


def _place(kind: str, rng: np.random.Generator) -> FloatArray:
    """(3,) canonical mm: the primary ball's centre."""
    side = rng.choice([-1.0, 1.0])
    if kind == "bilateral":
        azimuth, elevation = rng.normal(0.0, 10.0) + rng.choice([0.0, 180.0]), rng.uniform(35.0, 85.0)
    elif kind == "frontoorbital":
        azimuth, elevation = side * rng.uniform(12.0, 40.0), rng.uniform(2.0, 22.0)
    elif kind == "parietotemporal":
        azimuth, elevation = side * rng.uniform(70.0, 120.0), rng.uniform(2.0, 40.0)
    else:  # anywhere on the vault, evenly over its area
        azimuth, elevation = rng.uniform(-180.0, 180.0), np.degrees(np.arcsin(rng.uniform(LOWEST_SINE, 1.0)))
    a, e = np.radians([azimuth, elevation])
    direction = np.array([np.cos(e) * np.sin(a), -np.cos(e) * np.cos(a), np.sin(e)])
    centre: FloatArray = HEAD_CENTRE_MM + HEAD_HALF_AXES_MM * direction + rng.normal(0.0, DEPTH_SD_MM) * direction
    return centre


def _radius(law: tuple[float, float, float, float], rng: np.random.Generator) -> float:
    mean, sd, smallest, largest = law
    return float(np.clip(rng.normal(mean, sd), smallest, largest))


def _ball(centre: FloatArray, radius: float) -> tuple[float, float, float, float]:
    x, y, z = (round(float(v), 3) for v in centre)
    return x, y, z, round(radius, 3)


def apply_defect(complete: Volume, spec: DefectSpec, frame_to_world: ArrayLike) -> tuple[Volume, Volume]:
    """Cut a defect out of a complete skull.

    The patch is the largest piece of the bone inside the shape; the smaller pieces stay with the skull. Bone that the
    cut leaves without a connection to the skull goes to the patch, up to ``ISLAND_ML`` a piece.

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
    cut = _cut(complete, spec, _to_canonical(complete.grid, frame_to_world))
    return complete.with_data(complete.mask & ~cut.patch), complete.with_data(cut.patch)


def cut_defect(
    complete: Volume, kind: str, rng: np.random.Generator, frame_to_world: ArrayLike
) -> tuple[DefectSpec, Volume, Volume]:
    """Draw defects of a kind until one gives a sound patch on this skull.

    Sound means: of a size within ``VOLUME_ML``, nearly all of the bone inside the shape in one piece, no large bone
    left without connection; a bilateral one has a fair part on either side, a frontoorbital one reaches the brow.

    Args:
        complete: mask of the complete skull.
        kind: one of ``KINDS``.
        rng: where chance comes from.
        frame_to_world: (4, 4) canonical mm -> world LPS mm of this skull.

    Returns:
        The spec, the defective skull and the patch, as :func:`apply_defect` gives them.

    Raises:
        InputError: an unknown kind; or no sound defect was found, so the skull does not lie where the frame says.
        GeometryError: the frame is no invertible 4 x 4 matrix.
    """
    to_canonical = _to_canonical(complete.grid, frame_to_world)
    coarse = _thinned(complete)
    for _ in range(ATTEMPTS):
        spec = sample_defect(kind, rng)
        rough = _bone_inside(coarse, spec, _to_canonical(coarse.grid, frame_to_world))
        if rough is None or not _right_size(_millilitres(rough[1], coarse.grid), slack=0.1):
            continue
        cut = _cut(complete, spec, to_canonical)
        if _is_sound(cut, complete.grid, spec, to_canonical):
            return spec, complete.with_data(complete.mask & ~cut.patch), complete.with_data(cut.patch)
    raise InputError(
        f"no sound {kind} defect in {ATTEMPTS} draws: the mask ({complete.volume_ml:.0f} ml) is no complete skull, "
        "or it does not lie in the frame that was given"
    )


@dataclass(frozen=True, eq=False)
class _Cut:
    """What a shape takes out of a skull."""

    patch: BoolArray
    largest_piece: float
    """Part of the bone inside the shape that its largest piece holds."""
    stray_voxels: int
    """Size of the largest piece of bone that was left without connection, and is too large for the patch."""


def _cut(complete: Volume, spec: DefectSpec, to_canonical: FloatArray) -> _Cut:
    from scipy import ndimage

    patch = np.zeros_like(complete.mask)
    found = _bone_inside(complete, spec, to_canonical)
    if found is None:
        return _Cut(patch, 0.0, 0)
    box, inside = found
    labels, _ = ndimage.label(inside.T)  # files' arrays are Fortran ordered
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    patch[box] = np.equal(labels.T, sizes.argmax())
    stray = 0
    limit = ISLAND_ML * 1000.0 / complete.grid.voxel_volume_mm3
    for where in _islands(complete.mask & ~patch, patch, box):
        if len(where[0]) <= limit:
            patch[where] = True
        else:
            stray = max(stray, len(where[0]))
    return _Cut(patch, float(sizes.max() / sizes.sum()), stray)


def _bone_inside(skull: Volume, spec: DefectSpec, to_canonical: FloatArray) -> tuple[Box, BoolArray] | None:
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


def _islands(bone: BoolArray, patch: BoolArray, box: Box) -> list[tuple[NDArray[np.intp], ...]]:
    """Indices of each piece of bone that touches the patch and is not part of the skull's main piece."""
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


def _right_size(volume_ml: float, slack: float = 0.0) -> bool:
    return VOLUME_ML[0] * (1 - slack) <= volume_ml <= VOLUME_ML[1] * (1 + slack)


def _is_sound(cut: _Cut, grid: Grid, spec: DefectSpec, to_canonical: FloatArray) -> bool:
    voxels = int(np.count_nonzero(cut.patch))
    if (
        not _right_size(voxels * grid.voxel_volume_mm3 / 1000.0)
        or cut.largest_piece < LARGEST_PIECE
        or cut.stray_voxels
    ):
        return False
    index = np.nonzero(cut.patch.T)[::-1]
    x, y, z = (sum(to_canonical[r, c] * index[c] for c in range(3)) + to_canonical[r, 3] for r in range(3))
    if spec.kind == "bilateral":
        return bool(LEAST_SIDE <= (x > 0).mean() <= 1 - LEAST_SIDE)
    if spec.kind == "frontoorbital":
        return bool((LANDMARK_NORMAL[1] * y + LANDMARK_NORMAL[2] * z).max() >= LANDMARK_MM - BROW_MM)
    return True


def _thinned(volume: Volume) -> Volume:
    """Every n-th voxel, about ``THINNED_MM`` apart: enough to judge a size on."""
    a, b, c = (max(round(THINNED_MM / spacing), 1) for spacing in volume.grid.spacing_mm)
    data = volume.mask[::a, ::b, ::c]
    i, j, k = data.shape
    return Volume(data, Grid((i, j, k), volume.affine @ np.diag([a, b, c, 1.0])))


def _to_canonical(grid: Grid, frame_to_world: ArrayLike) -> FloatArray:
    """(4, 4) voxel index -> canonical mm."""
    frame = np.asarray(frame_to_world, dtype=np.float64)
    if frame.shape != (4, 4) or not np.isfinite(frame).all() or abs(np.linalg.det(frame)) < SMALLEST_DETERMINANT:
        raise GeometryError(f"a frame is an invertible 4 x 4 matrix, canonical mm -> world mm; got {frame.tolist()}")
    matrix: FloatArray = np.linalg.inv(frame) @ grid.affine
    return matrix


__all__ = ["KINDS", "DefectSpec", "apply_defect", "cut_defect", "sample_defect"]
