"""A skull made small and comparable: soft bone of the upper skull on one grid, and the rigid overlap of two of them.

Two scans of one person differ in their grid, their tilt, where they end and where a hole is; the bone that both show is
the same after a rigid motion. The canonical frame does most of that motion; a registration of the pair does the rest.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.files import PathLike, save_arrays
from calvaria.io.images import read_mask
from calvaria.io.result import sha256_of
from calvaria.skull.canonical import REGION_MM, locate
from calvaria.skull.edges import CutPlane
from calvaria.types import F32, F64
from calvaria.volume.blocks import block_means, coarsen
from calvaria.volume.gather import trilinear_at
from calvaria.volume.gauss_newton import Linear, descend
from calvaria.volume.grid import Box, Grid
from calvaria.volume.resample import resample_soft
from calvaria.volume.rotation import rotation_matrix, rotation_vector
from calvaria.volume.sampler import Sampler, lattice
from calvaria.volume.volume import Volume

SPACING_MM = 2.0
"""Voxel edge of a fingerprint: a third of the thickness of a skull, and a hundred kilobytes a file."""

MARGIN_MM = 10.0
"""Bone kept around the compared region, so that a pose may be off by this without running out of bone."""

FORMAT = 1
"""Goes into the name of every kept file; counts up when what they hold changes its meaning."""


def fingerprint_grid() -> Grid:
    """The common grid of all fingerprints, canonical mm: `REGION_MM` and a margin; mirroring is a flip of axis 0."""
    low = np.array([ends[0] for ends in REGION_MM]) - MARGIN_MM
    high = np.array([ends[1] for ends in REGION_MM]) + MARGIN_MM
    i, j, k = (int(n) + 1 for n in np.round((high - low) / SPACING_MM))
    return Grid.isotropic((i, j, k), SPACING_MM, low)


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """The upper skull in its canonical frame.

    Args:
        bone: float32 on `fingerprint_grid`, the share of bone around each voxel, 0 to 1 in steps of 1/255.
        cuts: planes (canonical mm) beyond which the scan shows nothing.
        sha256: of the file it was made from; empty if it was made from a volume.
    """

    bone: Volume
    cuts: tuple[CutPlane, ...] = ()
    sha256: str = ""

    @cached_property
    def samplers(self) -> tuple[Sampler, ...]:
        """The bone smoothed for each of `LEVELS`."""
        coarse = coarsen(self.bone, COARSE_MM)
        return tuple(Sampler.smooth(coarse, sigma, self.cuts) for sigma, _ in LEVELS)

    @cached_property
    def sharp(self) -> F32:
        """The bone smoothed by `SHARP_MM`, on the fingerprint's grid."""
        from scipy.ndimage import gaussian_filter

        return np.asarray(gaussian_filter(self.bone.data, SHARP_MM / SPACING_MM, mode="nearest"), np.float32)

    @cached_property
    def gap_mm(self) -> F32:
        """Distance of each voxel to the nearest bone, mm; far beyond the grid where there is none."""
        from scipy.ndimage import distance_transform_edt

        bone = self.sharp > BONE
        if not bone.any():
            return np.full(bone.shape, FAR_MM, np.float32)
        return np.asarray(distance_transform_edt(~bone, sampling=SPACING_MM), np.float32)

    def at_level(self, level: int) -> tuple[F32, NDArray[np.bool_]]:
        """Smoothed bone at the points of a level, and whether the scan shows them."""
        return self.samplers[level].values(level_points(level))

    def known(self, points_mm: F64) -> NDArray[np.bool_]:
        """Whether (N, 3) canonical points lie on the scanned side of every cut."""
        inside = np.ones(len(points_mm), bool)
        for cut in self.cuts:
            inside &= points_mm @ cut.normal < cut.offset_mm
        return inside

    @cached_property
    def mirrored(self) -> Fingerprint:
        """The same skull with left and right exchanged."""
        data = np.ascontiguousarray(self.bone.data[::-1])
        cuts = tuple(CutPlane(cut.normal * [-1.0, 1.0, 1.0], cut.offset_mm) for cut in self.cuts)
        return Fingerprint(self.bone.with_data(data), cuts, self.sha256)


def fingerprint(mask: Volume) -> Fingerprint:
    """The fingerprint of a skull, complete or with holes.

    Args:
        mask: bone, at any position and orientation.

    Raises:
        InputError: it is no skull (see `calvaria.skull.canonical.locate`).
    """
    frame = locate(mask)
    soft = resample_soft(mask, fingerprint_grid().moved(frame.to_world))
    data = np.round(soft.data * 255).astype(np.uint8)
    return Fingerprint(Volume(_fraction(data), fingerprint_grid()), frame.cuts)


def fingerprint_of(path: PathLike, work: Path | None = None) -> Fingerprint:
    """The fingerprint of a file, kept in a work folder under the hash of the file's content.

    Args:
        path: a bone mask.
        work: folder of kept fingerprints; made if needed. None keeps nothing.

    Raises:
        InputError: the file cannot be read, is no mask or shows no skull; or the work folder cannot be written.
    """
    digest = sha256_of(path)
    kept = None if work is None else work / f"{digest[:32]}.v{FORMAT}.npz"
    found = None if kept is None else _load(kept)
    if found is not None:
        return Fingerprint(*found, digest)
    try:
        new = fingerprint(read_mask(path))
    except InputError as error:
        name = Path(path).name
        raise error if str(error).startswith(name) else type(error)(f"{name}: {error}") from error
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        _save(kept, new)
    return Fingerprint(new.bone, new.cuts, digest)


def _fraction(data: NDArray[np.uint8]) -> F32:
    return data.astype(np.float32) / np.float32(255)


def _save(path: Path, one: Fingerprint) -> None:
    planes = np.array([[*cut.normal, cut.offset_mm] for cut in one.cuts], np.float64).reshape(-1, 4)
    save_arrays(path, bone=np.round(one.bone.data * 255).astype(np.uint8), cuts=planes)


def _load(path: Path) -> tuple[Volume, tuple[CutPlane, ...]] | None:
    """What `_save` left; None where there is nothing, or nothing whole (it is then made anew)."""
    grid = fingerprint_grid()
    try:
        # Opened here: of a damaged archive, np.load would leave its own file open.
        with path.open("rb") as file, np.load(file) as arrays:
            bone, planes = arrays["bone"], arrays["cuts"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if bone.shape != grid.shape or bone.dtype != np.uint8:
        return None
    return Volume(_fraction(bone), grid), tuple(CutPlane(plane[:3], float(plane[3])) for plane in planes)


LEVELS = ((6.0, 8.0), (3.0, 5.0))
"""Smoothing of the bone and spacing of the compared points, mm, coarse to fine: from 10 degrees and 12 mm off, the
first comes within 1 degree, the second within a tenth of a millimetre."""

COARSE_MM = 4.0
"""Voxel edge of the bone that is smoothed for these levels."""

ROBUST = (0.10, 0.12)
"""Bone fraction at which a difference loses most of its weight, a level: a hole must not pull."""

STEPS = (12, 8)
"""Most Gauss-Newton steps a level."""

MAX_STEP, SETTLED_STEP = (0.15,) * 3 + (8.0,) * 3, (2e-4,) * 3 + (0.02,) * 3
"""Turn (radians) and shift (mm) of one step: the most that is taken, the least that is followed."""

SHARP_MM = 1.5
"""Smoothing of the bone whose overlap is measured: hides the voxels of the two scans, keeps the two tables apart."""

BONE = 0.4
"""Share of bone from which a point counts as bone where holes are looked for."""

HOLE_MM = 10.0
"""Bone of one skull that is farther than this from all bone of the other lies in the other's hole. Two persons' vaults,
laid on each other, are hardly ever as far apart."""

RIM_MM = 2.0
"""A hole's rim is left out this much beyond `HOLE_MM`: smoothed bone fades over it."""

FAR_MM = 1000.0
"""Stands for "no bone at all"."""


@dataclass(frozen=True)
class Overlap:
    """How two skulls agree after the rigid motion that lays one on the other.

    Args:
        dice: soft Dice of the bone where both scans show something and neither has a hole; 0 to 1, 0 for no bone.
        compared: share of the bone in sight of both scans that entered, 0 to 1: the rest lies in holes.
        turn_deg: angle of the motion between the two canonical frames.
        shift_mm: its length at the canonical origin.
    """

    dice: float
    compared: float
    turn_deg: float
    shift_mm: float


def overlap(a: Fingerprint, b: Fingerprint) -> Overlap:
    """The rigid overlap of two skulls.

    The pose is found by Gauss-Newton on the robust difference of the smoothed bone, starting from the two canonical
    frames; it must be within about 15 degrees and 15 mm. No scaling: two persons of one shape and two sizes differ.

    Args:
        a: laid still.
        b: moved onto it.
    """
    rotation, shift = np.eye(3), np.zeros(3)
    for level in range(len(LEVELS)):
        rotation, shift = _descend(a, b, level, rotation, shift)
    dice, compared = _compare(a, b, rotation, shift)
    turn = float(np.degrees(np.linalg.norm(rotation_vector(rotation))))
    return Overlap(dice, compared, turn, float(np.linalg.norm(shift)))


def _descend(a: Fingerprint, b: Fingerprint, level: int, rotation: F64, shift: F64) -> tuple[F64, F64]:
    """Gauss-Newton steps on the difference, with the gradient of the moved skull."""
    points = level_points(level)
    wanted, shown = a.at_level(level)
    sampler = b.samplers[level]

    def linear(pose: tuple[F64, F64]) -> Linear:
        lever = points @ pose[0].T
        value, ok, gradient = sampler(lever + pose[1])
        shared = (ok & shown).astype(np.float64)
        return Linear(value - wanted, np.concatenate([np.cross(lever, gradient), gradient], axis=1), shared)

    def move(pose: tuple[F64, F64], step: F64) -> tuple[F64, F64]:
        return rotation_matrix(step[:3]) @ pose[0], pose[1] + step[3:]

    return descend(
        (rotation, shift),
        linear,
        move,
        iterations=STEPS[level],
        robust=ROBUST[level],
        largest=MAX_STEP,
        settled=SETTLED_STEP,
    )


def _compare(a: Fingerprint, b: Fingerprint, rotation: F64, shift: F64) -> tuple[float, float]:
    """Soft Dice outside the holes, and the share of the bone that entered."""
    points, box = sharp_points()
    moved = points @ rotation.T + shift
    index = b.bone.grid.to_index(moved).T
    first, far_from_first = a.sharp[box], a.gap_mm[box]
    shape = first.shape
    second, far_from_second = (
        trilinear_at(np.ascontiguousarray(array).reshape(-1), array.shape, index).reshape(shape)
        for array in (b.sharp, b.gap_mm)
    )
    shown = (a.known(points) & b.known(moved)).reshape(shape)
    one, two = (first > BONE) & shown, (second > BONE) & shown
    lone = (one & (far_from_second > HOLE_MM)) | (two & (far_from_first > HOLE_MM))
    used = shown & ~_around(lone) if lone.any() else shown
    bone = np.count_nonzero(one | two)
    total = float(first[used].sum() + second[used].sum())
    if total <= 0 or bone == 0:
        return 0.0, 0.0
    dice = 2 * float(np.minimum(first, second)[used].sum()) / total
    return dice, float(np.count_nonzero((one | two) & used) / bone)


def _around(lone: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Within a hole's reach of the lone bone; in blocks of two voxels, an eighth of the work."""
    from scipy.ndimage import distance_transform_edt

    blocks = block_means(lone, (2, 2, 2)) > 0
    near = distance_transform_edt(~blocks, sampling=2 * SPACING_MM) <= HOLE_MM + RIM_MM
    for axis in range(3):
        near = near.repeat(2, axis=axis)
    i, j, k = lone.shape
    return np.asarray(near[:i, :j, :k])


@lru_cache(maxsize=len(LEVELS))
def level_points(level: int) -> F64:
    """(N, 3) canonical mm of the points that are compared at a level."""
    return lattice(REGION_MM, LEVELS[level][1])


@lru_cache(maxsize=1)
def sharp_points() -> tuple[F64, Box]:
    """(N, 3) canonical mm of the fingerprint's voxels inside `REGION_MM`, in C order, and where they lie in it."""
    grid, margin = fingerprint_grid(), round(MARGIN_MM / SPACING_MM)
    i, j, k = (slice(margin, n - margin) for n in grid.shape)
    return grid.crop((i, j, k)).centres_mm().reshape(-1, 3), (i, j, k)


__all__ = ["Fingerprint", "Overlap", "fingerprint", "fingerprint_grid", "fingerprint_of", "overlap"]
