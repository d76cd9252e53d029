"""Principal modes of fields in the common box: a mean and the ways in which subjects differ from it.

Fields of many subjects and their mirror images have principal modes that are each either symmetric or antisymmetric in
x, so half of every mode is stored. Modes carry their standard deviation: a subject's field is the mean plus modes times
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
from calvaria.types import F32
from calvaria.volume.grid import Grid

Arrays = dict[str, NDArray[Any]]

MIN_STEP_MM = 0.02
"""Steps of the stored modes are not smaller than this: finer ones would store noise."""

CHUNK = 65536
"""Voxels whose modes are unpacked at a time."""

TRANSPOSE_CHUNK = 4096
"""Voxels whose packed modes are transposed at a time."""


@dataclass(frozen=True, eq=False)
class Modes:
    """Mean and modes on `box_grid(spacing_mm)`.

    Modes stay packed in memory as 8-bit steps of their own size, one row a voxel of the half x >= 0, and are unpacked
    where they are read.

    Args:
        mean_half: (I // 2 + 1, J, K) float32, mm: the mean at x >= 0.
        codes: (V_half, M) int8: modes at x >= 0, in steps.
        step_mm: (M,) float32: one step of each mode, mm a standard deviation.
        parity: (M,) +1 for symmetric modes, -1 for antisymmetric ones.
        spacing_mm: voxel edge of the grid.
        subjects: how many skulls they were made from.
    """

    mean_half: F32
    codes: NDArray[np.int8]
    step_mm: F32
    parity: NDArray[np.int8]
    spacing_mm: float
    subjects: int

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
        return whole(self.mean_half).reshape(-1)

    @cached_property
    def _mirror(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """For each voxel of the whole grid its row in ``codes``, and whether it lies at x < 0."""
        nx, ny, nz = self.grid.shape
        # Only x >= 0 is stored: a voxel at x < 0 reads the row of its mirror image.
        offset = np.abs(np.arange(nx) - nx // 2)
        row = offset[:, None] * (ny * nz) + np.arange(ny * nz)
        return row.reshape(-1), np.repeat(np.arange(nx) < nx // 2, ny * nz)

    def rows(self, voxels: NDArray[np.int64], modes: int) -> F32:
        """(N, ``modes``) the first modes at N flat voxel indices, mm."""
        row, left = self._mirror
        values = self.codes[row[voxels], :modes].astype(np.float32)
        values *= self.step_mm[:modes]
        # An antisymmetric mode changes its sign across the midline.
        values[left[voxels]] *= self.parity[:modes]
        return values

    def combine(self, weights: F32) -> F32:
        """(S, V) weighted sums of the first M modes on the whole grid, for (S, M) weights."""
        modes = weights.shape[1]
        scaled = weights * self.step_mm[:modes]
        # (M, 2 S): the weights of the stored half, then those of its mirror image, so that rows are unpacked once.
        both = np.concatenate([scaled, scaled * self.parity[:modes]]).T.astype(np.float32)
        half = np.empty((len(self.codes), both.shape[1]), np.float32)
        # All modes as floats at once would take four times the memory of the model.
        for start in range(0, len(half), CHUNK):
            half[start : start + CHUNK] = self.codes[start : start + CHUNK, :modes].astype(np.float32) @ both
        row, left = self._mirror
        count = len(weights)
        out = np.empty((count, len(row)), np.float32)
        out[:, ~left] = half[row[~left], :count].T
        out[:, left] = half[row[left], count:].T
        return out


def packed(modes: Modes, prefix: str = "") -> Arrays:
    """Mean and modes as integer arrays, for a safetensors file; ``prefix`` begins their names.

    The bytes of all modes are packed by zlib, mode by mode, since most modes are flat in most places.
    """
    # One mode after another: a mode's zeros lie together and compress well.
    codes = zlib.compress(np.ascontiguousarray(modes.codes.T).tobytes(), 9)
    arrays: Arrays = {
        "mean": np.round(modes.mean_half * 1000).astype(np.int16),
        "modes": np.frombuffer(codes, np.uint8),
        "mode_step_mm": modes.step_mm,
        "mode_parity": modes.parity,
        "spacing_mm": np.array([modes.spacing_mm], np.float64),
        # The name of the key is that of weights files in use.
        "people": np.array([modes.subjects], np.int64),
    }
    return {prefix + name: array for name, array in arrays.items()}


def unpacked(arrays: Arrays, prefix: str = "") -> Modes:
    """The modes that `packed` packed.

    Raises:
        InputError: the arrays are of another kind of model, or do not fit together.
    """
    try:
        mean = arrays[prefix + "mean"].astype(np.float32) / np.float32(1000)
        parity = arrays[prefix + "mode_parity"].astype(np.int8)
        step = arrays[prefix + "mode_step_mm"].astype(np.float32)
        spacing_mm = float(arrays[prefix + "spacing_mm"][0])
        subjects = int(arrays[prefix + "people"][0])
        codes = np.frombuffer(isal_zlib.decompress(arrays[prefix + "modes"].tobytes()), np.int8)
        # (M, V_half) -> (V_half, M): fits read all modes of a few voxels, which then lie together.
        codes = _transposed(codes.reshape(len(parity), mean.size))
        if len(step) != len(parity):
            raise ValueError(f"{len(step)} steps for {len(parity)} modes")
        check_half(mean, spacing_mm)
    except (KeyError, IndexError, ValueError, ArithmeticError, cast(Any, isal_zlib.error), GeometryError) as error:
        raise InputError(f"these weights are no shape model: {error}") from None
    return Modes(mean, codes, step, parity, spacing_mm, subjects)


def check_half(field: NDArray[Any], spacing_mm: float) -> None:
    """Refuse the half of a field that is not on `box_grid(spacing_mm)`.

    Raises:
        InputError: it is on another grid.
    """
    nx, ny, nz = box_grid(spacing_mm).shape
    if field.shape != (nx // 2 + 1, ny, nz):
        raise InputError(f"the shape model's grid {field.shape} is not that of this version; install its weights")


def _transposed(rows: NDArray[np.int8]) -> NDArray[np.int8]:
    """(M, N) -> (N, M), piece by piece: whole, a copy of rows so long misses the processor's caches."""
    out = np.empty(rows.shape[::-1], np.int8)
    for first in range(0, len(out), TRANSPOSE_CHUNK):
        out[first : first + TRANSPOSE_CHUNK] = rows[:, first : first + TRANSPOSE_CHUNK].T
    return out


def whole(half: F32) -> F32:
    """A symmetric field on the whole grid from its half at x >= 0."""
    return np.concatenate([half[:0:-1], half])


def fit_modes(examples: F32, spacing_mm: float, most: int) -> Modes:
    """Principal modes of fields and their mirror images.

    With mirror images the symmetric and the antisymmetric parts do not mix, so each is decomposed alone, in dual
    form (subjects x subjects).

    Args:
        examples: (N, I, J, K) float32, distances in mm on `box_grid(spacing_mm)`.
        spacing_mm: voxel edge of that grid.
        most: keep at most so many modes, those of largest variance.
    """
    count, nx = examples.shape[:2]
    # Both halves run from the midline outwards, so that mirrored voxels have the same index.
    right, left = examples[:, nx // 2 :], examples[:, nx // 2 :: -1]
    mean = (right.mean(axis=0) + left.mean(axis=0)) / 2
    bases, variances = [], []
    for sign in (1, -1):
        flat = ((right + sign * left) / 2).reshape(count, -1)
        # The mean is symmetric: the antisymmetric parts have none.
        if sign == 1:
            flat -= mean.reshape(-1)
        # Far fewer subjects than voxels: the (N, N) matrix has the same eigenvalues as the (V, V) covariance.
        values, vectors = np.linalg.eigh((flat @ flat.T).astype(np.float64) / count)
        # What is left are directions of rounding errors.
        kept = np.flatnonzero(values > 1e-6 * values.max())
        # (kept, V_half) modes scaled to one standard deviation, mm.
        bases.append((vectors[:, kept].T.astype(np.float32) @ flat) / np.float32(np.sqrt(count)))
        variances.append(values[kept])
    # Symmetric and antisymmetric modes compete for the places by their variance.
    order = np.argsort(-np.concatenate(variances), kind="stable")[:most]
    parity = np.repeat(np.array([1, -1], np.int8), [len(v) for v in variances])[order]
    modes = np.concatenate(bases)[order]
    step = np.maximum(np.abs(modes).max(axis=1) / 127.0, MIN_STEP_MM).astype(np.float32)
    codes = np.ascontiguousarray(np.round(modes / step[:, None]).astype(np.int8).T)
    return Modes(mean, codes, step, parity, spacing_mm, count)
