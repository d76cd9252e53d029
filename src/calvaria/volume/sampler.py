"""A smoothed volume that answers values and gradients at any world point: the inner loop of every registration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calvaria.types import F32, F64
from calvaria.volume.gather import trilinear_at
from calvaria.volume.volume import Volume

Region = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
"""Lower and upper end along x, y, z, mm."""


class HalfSpace(Protocol):
    """The far side, ``normal . x >= offset_mm``, of a plane beyond which nothing is known."""

    @property
    def normal(self) -> F64:
        """(3,) unit vector towards the unknown."""

    @property
    def offset_mm(self) -> float:
        """Offset along the normal, mm."""


@dataclass(frozen=True, eq=False)
class Sampler:
    """A float volume, its gradient per mm, and where it is known."""

    table: F32  # (V, 4), C order: value, d/dx, d/dy, d/dz in world mm
    shape: tuple[int, int, int]
    inverse: F64
    unknown: tuple[HalfSpace, ...]

    @classmethod
    def smooth(cls, volume: Volume, sigma_mm: float, unknown: Sequence[HalfSpace] = ()) -> Sampler:
        """Blur a float volume by ``sigma_mm`` (zero outside its box, but see ``unknown``)."""
        from scipy import ndimage

        spacing = np.asarray(volume.grid.spacing_mm)
        pad = np.ceil(2.5 * sigma_mm / spacing).astype(int) + 1
        i, j, k = (int(p) for p in pad)
        padded = volume.pad((i, j, k), (i, j, k))
        data = padded.data.astype(np.float32)
        value = ndimage.gaussian_filter(data, sigma_mm / spacing, mode="constant", truncate=2.5)
        if unknown:
            # Divide by the blur of what is known, so that bone does not fade towards a cut edge.
            seen = known_mask(padded, unknown).astype(np.float32)
            share = ndimage.gaussian_filter(seen, sigma_mm / spacing, mode="nearest", truncate=2.5)
            value = value / np.maximum(share, 0.25)
        gradients = np.stack(np.gradient(value))
        world = np.tensordot(padded.grid.inverse[:3, :3].T.astype(np.float32), gradients, axes=1)
        table = np.stack([value, *world], axis=-1).reshape(-1, 4).astype(np.float32)
        return cls(table, padded.grid.shape, padded.grid.inverse, tuple(unknown))

    def _known(self, world_mm: F64) -> NDArray[np.bool_]:
        ok = np.ones(len(world_mm), bool)
        for space in self.unknown:
            ok &= world_mm @ space.normal < space.offset_mm
        return ok

    @cached_property
    def _value(self) -> F32:
        return np.ascontiguousarray(self.table[:, 0])

    def _index(self, world_mm: F64) -> F64:
        return np.asarray((world_mm @ self.inverse[:3, :3].T + self.inverse[:3, 3]).T)

    def values(self, world_mm: F64) -> tuple[F32, NDArray[np.bool_]]:
        """Values at (N, 3) points, trilinear, 0 outside; and whether each point is known."""
        return trilinear_at(self._value, self.shape, self._index(world_mm)), self._known(world_mm)

    def __call__(self, world_mm: F64) -> tuple[F32, NDArray[np.bool_], F32]:
        """Values, known flags and (N, 3) gradients per mm at (N, 3) points."""
        read = trilinear_at(self.table, self.shape, self._index(world_mm))
        return read[:, 0], self._known(world_mm), read[:, 1:]


def known_mask(volume: Volume, unknown: Sequence[HalfSpace]) -> NDArray[np.bool_]:
    """Whether each voxel's centre lies before every plane in ``unknown``."""
    known = np.ones(volume.shape, bool)
    axes = np.ogrid[tuple(slice(n) for n in volume.shape)]
    for space in unknown:
        step = space.normal @ volume.affine[:3, :3]
        start = space.normal @ volume.affine[:3, 3]
        # One full pass over the volume: both sides of the comparison are small.
        known &= axes[0] * step[0] + axes[1] * step[1] + (start - space.offset_mm) < -axes[2] * step[2]
    return known


def lattice(region: Region, spacing_mm: float) -> F64:
    """(N, 3) points of a box, symmetric about x = 0 when the box is.

    >>> lattice(((-1.0, 1.0), (0.0, 0.0), (0.0, 1.0)), 1.0).shape
    (6, 3)
    """
    axes = [np.arange(low, high + 1e-6, spacing_mm) for low, high in region]
    axes = [axis + (high - axis[-1]) / 2 for axis, (_, high) in zip(axes, region, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
