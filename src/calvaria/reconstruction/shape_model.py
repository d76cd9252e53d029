"""The statistical shape model: a mean skull and the ways in which skulls differ, as signed distances in the common box.

Skulls of many people and their mirror images have principal modes that are each either symmetric or antisymmetric in
x, so half of every mode is stored. Modes carry their standard deviation: a skull is the mean plus modes times
coefficients of unit variance, in mm.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from calvaria.errors import GeometryError, InputError
from calvaria.reconstruction.box import box_grid
from calvaria.volume.grid import Grid

F32 = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]

SPACING_MM = 2.4
"""Voxel edge of mean and modes: thresholding a true skull read from it costs 0.006 DSC; 3.2 mm cost 0.01 in the thin
bone of brow and temple."""

TRUNCATION_MM = 10.0
"""Distances of the examples are cut off here before the modes are taken."""

MOST_MODES = 200
"""Modes kept; more change nothing that validation shows."""

SMALLEST_STEP_MM = 0.02
"""Steps of the stored modes are not smaller than this: finer ones would store noise."""

NEAR_MM = 5.0
"""Bone within this distance is taken for one plate."""

CHUNK = 65536
"""Voxels whose modes are unpacked at a time."""

TRANSPOSED = 4096
"""Voxels whose packed modes are turned from columns to rows at a time."""


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """Mean and modes on `box_grid(spacing_mm)`.

    Modes stay packed in memory as 8-bit steps of their own size, one row a voxel of the half x >= 0, and are unpacked
    where they are read.

    Args:
        mean_half: (I // 2 + 1, J, K) float32, mm: the mean at x >= 0.
        codes: (V_half, M) int8: modes at x >= 0, in steps.
        step_mm: (M,) float32: one step of each mode, mm a standard deviation.
        parity: (M,) +1 for symmetric modes, -1 for antisymmetric ones.
        depth_half: (I // 2 + 1, J, K) float32, mm: the usual depth of the nearest bone, the median over people of the
            smallest distance within 5 mm; negative, minus half the thickness of a plate.
        spacing_mm: voxel edge of the grid.
        people: how many persons' skulls the model was made from.
    """

    mean_half: F32
    codes: NDArray[np.int8]
    step_mm: F32
    parity: NDArray[np.int8]
    depth_half: F32
    spacing_mm: float
    people: int

    @property
    def grid(self) -> Grid:
        """The grid of mean and modes, scaled canonical mm."""
        return box_grid(self.spacing_mm)

    @property
    def count(self) -> int:
        """Number of modes."""
        return len(self.parity)

    @cached_property
    def mean(self) -> F32:
        """(V,) the whole mean, flat in C order."""
        return _whole(self.mean_half).reshape(-1)

    @cached_property
    def depth(self) -> F32:
        """(I, J, K) the usual depth of the nearest bone on the whole grid, mm."""
        return _whole(self.depth_half)

    @cached_property
    def _mirror(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """For each voxel of the whole grid its row in ``codes``, and whether it lies at x < 0."""
        nx, ny, nz = self.grid.shape
        offset = np.abs(np.arange(nx) - nx // 2)
        row = offset[:, None] * (ny * nz) + np.arange(ny * nz)
        return row.reshape(-1), np.repeat(np.arange(nx) < nx // 2, ny * nz)

    def rows(self, voxels: NDArray[np.int64], modes: int) -> F32:
        """(N, ``modes``) the first modes at N flat voxel indices, mm."""
        row, left = self._mirror
        values = self.codes[row[voxels], :modes].astype(np.float32)
        values *= self.step_mm[:modes]
        values[left[voxels]] *= self.parity[:modes]
        return values

    def combine(self, weights: F32) -> F32:
        """(S, V) weighted sums of the first M modes on the whole grid, for (S, M) weights."""
        modes = weights.shape[1]
        scaled = weights * self.step_mm[:modes]
        both = np.concatenate([scaled, scaled * self.parity[:modes]]).T.astype(np.float32)
        half = np.empty((len(self.codes), both.shape[1]), np.float32)
        for start in range(0, len(half), CHUNK):
            half[start : start + CHUNK] = self.codes[start : start + CHUNK, :modes].astype(np.float32) @ both
        row, left = self._mirror
        count = len(weights)
        out = np.empty((count, len(row)), np.float32)
        out[:, ~left] = half[row[~left], :count].T
        out[:, left] = half[row[left], count:].T
        return out

    def to_arrays(self) -> Arrays:
        """The model as arrays of whole numbers, for a safetensors file.

        The bytes of all modes are packed by zlib, mode by mode, since most modes are flat in most places.
        """
        packed = zlib.compress(np.ascontiguousarray(self.codes.T).tobytes(), 9)
        return {
            "mean": np.round(self.mean_half * 1000).astype(np.int16),
            "modes": np.frombuffer(packed, np.uint8),
            "mode_step_mm": self.step_mm,
            "mode_parity": self.parity,
            "depth": np.clip(np.round(self.depth_half * 20), -127, 0).astype(np.int8),  # deeper than 6 mm is solid bone
            "spacing_mm": np.array([self.spacing_mm], np.float64),
            "people": np.array([self.people], np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> ShapeModel:
        """The model that `to_arrays` wrote.

        Raises:
            InputError: the arrays are of another kind of model, or do not fit together.
        """
        try:
            mean = arrays["mean"].astype(np.float32) / np.float32(1000)
            depth = arrays["depth"].astype(np.float32) / np.float32(20)
            parity = arrays["mode_parity"].astype(np.int8)
            step = arrays["mode_step_mm"].astype(np.float32)
            spacing_mm = float(arrays["spacing_mm"][0])
            people = int(arrays["people"][0])
            codes = np.frombuffer(isal_zlib.decompress(arrays["modes"].tobytes()), np.int8)
            codes = _transposed(codes.reshape(len(parity), mean.size))
            nx, ny, nz = box_grid(spacing_mm).shape
        except (KeyError, IndexError, ValueError, ArithmeticError, cast(Any, isal_zlib.error), GeometryError) as error:
            raise InputError(f"these weights are no shape model: {error}") from None
        if not mean.shape == depth.shape == (nx // 2 + 1, ny, nz) or len(step) != len(parity):
            raise InputError(f"the shape model's grid {mean.shape} is not that of this version; install its weights")
        return cls(mean, codes, step, parity, np.asarray(depth, np.float32), spacing_mm, people)


def _transposed(rows: NDArray[np.int8]) -> NDArray[np.int8]:
    """(M, N) -> (N, M), piece by piece: whole, a copy of rows so long misses the processor's caches."""
    out = np.empty(rows.shape[::-1], np.int8)
    for first in range(0, len(out), TRANSPOSED):
        out[first : first + TRANSPOSED] = rows[:, first : first + TRANSPOSED].T
    return out


def _whole(half: F32) -> F32:
    """A symmetric field on the whole grid from its half at x >= 0."""
    return np.concatenate([half[:0:-1], half])


def fit_modes(examples: F32, spacing_mm: float, most: int = MOST_MODES, depth_half: F32 | None = None) -> ShapeModel:
    """Principal modes of skulls and their mirror images.

    With mirror images the symmetric and the antisymmetric parts do not mix, so each is decomposed alone, in dual
    form (people x people).

    Args:
        examples: (N, I, J, K) float32, signed distances in mm on `box_grid(spacing_mm)`.
        spacing_mm: voxel edge of that grid.
        most: keep at most so many modes, those of largest variance.
        depth_half: see `ShapeModel`; that of the mean by default.
    """
    count, nx = examples.shape[:2]
    right, left = examples[:, nx // 2 :], examples[:, nx // 2 :: -1]
    mean = (right.mean(axis=0) + left.mean(axis=0)) / 2
    bases, variances = [], []
    for sign in (1, -1):
        flat = ((right + sign * left) / 2).reshape(count, -1)
        if sign == 1:
            flat -= mean.reshape(-1)
        values, vectors = np.linalg.eigh((flat @ flat.T).astype(np.float64) / count)
        kept = np.flatnonzero(values > 1e-6 * values.max())
        bases.append((vectors[:, kept].T.astype(np.float32) @ flat) / np.float32(np.sqrt(count)))
        variances.append(values[kept])
    order = np.argsort(-np.concatenate(variances), kind="stable")[:most]
    parity = np.repeat(np.array([1, -1], np.int8), [len(v) for v in variances])[order]
    modes = np.concatenate(bases)[order]
    step = np.maximum(np.abs(modes).max(axis=1) / 127.0, SMALLEST_STEP_MM).astype(np.float32)
    codes = np.ascontiguousarray(np.round(modes / step[:, None]).astype(np.int8).T)
    depth = mean if depth_half is None else depth_half
    return ShapeModel(mean, codes, step, parity, np.minimum(depth, 0), spacing_mm, count)


def bone_depth(distance_mm: F32, spacing_mm: float) -> F32:
    """The smallest signed distance within 5 mm, smoothed: minus half the thickness of the nearest plate.

    Args:
        distance_mm: (I, J, K) float32, signed distance, negative in bone.
        spacing_mm: voxel edge.
    """
    from scipy import ndimage

    reach = round(NEAR_MM / spacing_mm)
    ball = np.indices((2 * reach + 1,) * 3) - reach
    footprint = (ball**2).sum(axis=0) * spacing_mm**2 <= NEAR_MM**2 + 1e-6
    smallest = ndimage.minimum_filter(distance_mm, footprint=footprint)
    return np.asarray(ndimage.gaussian_filter(smallest, NEAR_MM / 2 / spacing_mm))
