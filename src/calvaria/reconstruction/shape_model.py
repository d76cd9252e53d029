"""The statistical shape model: a mean skull and the ways in which skulls differ, as signed distances in the common box.

Skulls of many people and their mirror images have principal modes that are each either symmetric or antisymmetric in
x, so half of every mode is stored. Modes carry their standard deviation: a skull is the mean plus modes times
coefficients of unit variance, in mm.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.reconstruction.box import box_grid
from calvaria.volume.grid import Grid

F32 = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]

SPACING_MM = 3.2
"""Voxel edge of mean and modes, twice the canonical one: thresholding a true skull read from it costs 0.007 DSC."""

TRUNCATION_MM = 10.0
"""Distances of the examples are cut off here before the modes are taken."""

SMALLEST_STEP_MM = 0.01
"""Steps of the stored modes are not smaller than this: finer ones would store noise."""


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """Mean and modes on `box_grid(spacing_mm)`.

    Args:
        mean_half: (I // 2 + 1, J, K) float32, mm: the mean at x >= 0.
        modes_half: (M, I // 2 + 1, J, K) float32, mm a standard deviation.
        parity: (M,) +1 for symmetric modes, -1 for antisymmetric ones.
        spacing_mm: voxel edge of the grid.
        people: how many persons' skulls the model was made from.
    """

    mean_half: F32
    modes_half: F32
    parity: NDArray[np.int8]
    spacing_mm: float
    people: int

    @property
    def grid(self) -> Grid:
        """The grid of mean and modes, scaled canonical mm."""
        return box_grid(self.spacing_mm)

    @cached_property
    def mean(self) -> F32:
        """(V,) the whole mean, flat in C order."""
        return np.concatenate([self.mean_half[:0:-1], self.mean_half]).reshape(-1)

    @cached_property
    def modes(self) -> F32:
        """(V, M) all modes on the whole grid: one row a voxel."""
        left = self.modes_half[:, :0:-1] * self.parity[:, None, None, None]
        whole = np.concatenate([left, self.modes_half], axis=1).reshape(len(self.parity), -1)
        return np.ascontiguousarray(whole.T)

    def to_arrays(self) -> Arrays:
        """The model as arrays of whole numbers, for a safetensors file.

        Every mode is stored as 8-bit steps of its own size; the bytes of all modes are packed by zlib, since most
        modes are flat in most places.
        """
        flat = self.modes_half.reshape(len(self.parity), -1)
        step = np.maximum(np.abs(flat).max(axis=1) / 127.0, SMALLEST_STEP_MM).astype(np.float32)
        codes = np.round(flat / step[:, None]).astype(np.int8)
        packed = zlib.compress(codes.tobytes(), 9)
        return {
            "mean": np.round(self.mean_half * 1000).astype(np.int16),
            "modes": np.frombuffer(packed, np.uint8),
            "mode_step_mm": step,
            "mode_parity": self.parity.astype(np.int8),
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
            mean = arrays["mean"].astype(np.float32) / 1000
            parity = arrays["mode_parity"].astype(np.int8)
            step = arrays["mode_step_mm"].astype(np.float32)
            spacing_mm = float(arrays["spacing_mm"][0])
            people = int(arrays["people"][0])
            codes = np.frombuffer(zlib.decompress(arrays["modes"].tobytes()), np.int8)
            modes = codes.reshape(len(parity), *mean.shape).astype(np.float32) * step[:, None, None, None]
        except (KeyError, ValueError, zlib.error) as error:
            raise InputError(f"these weights are no shape model: {error}") from None
        nx, ny, nz = box_grid(spacing_mm).shape
        if mean.shape != (nx // 2 + 1, ny, nz):
            raise InputError(f"the shape model's grid {mean.shape} is not that of this version; install its weights")
        return cls(mean, modes, parity, spacing_mm, people)


def fit_modes(examples: NDArray[np.float32], spacing_mm: float, most: int | None = None) -> ShapeModel:
    """Principal modes of skulls and their mirror images.

    With mirror images the symmetric and the antisymmetric parts do not mix, so each is decomposed alone, in dual
    form (people x people).

    Args:
        examples: (N, I, J, K) float32, signed distances in mm on `box_grid(spacing_mm)`.
        spacing_mm: voxel edge of that grid.
        most: keep at most so many modes, those of largest variance; all by default.
    """
    count, nx = examples.shape[:2]
    start = nx // 2
    right, left = examples[:, start:], examples[:, start::-1]
    even, odd = (right + left) / 2, (right - left) / 2
    mean = even.mean(axis=0)
    modes, variance, parity = [], [], []
    for part, sign in ((even - mean, 1), (odd, -1)):
        flat = part.reshape(count, -1)
        gram = (flat @ flat.T).astype(np.float64) / count
        values, vectors = np.linalg.eigh(gram)
        kept = values > 1e-6 * values.max()
        modes.append((vectors[:, kept].T.astype(np.float32) @ flat) / np.sqrt(count))
        variance.append(values[kept])
        parity.append(np.full(int(kept.sum()), sign, np.int8))
    order = np.argsort(-np.concatenate(variance))[:most]
    all_modes = np.concatenate(modes)[order].reshape(-1, *mean.shape)
    return ShapeModel(mean, all_modes, np.concatenate(parity)[order], spacing_mm, count)
