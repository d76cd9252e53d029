"""The symmetric mean skull to which poses are registered."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from calvaria.types import F64
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

SIGMA_MM = 3.0
"""Smoothing of the stored mean."""


@dataclass(frozen=True, eq=False)
class Template:
    """Mean bone fraction of many skulls, smoothed by 3 mm, and the share of these skulls that show each voxel.

    Args:
        mean: float32 on a grid in canonical mm, symmetric in x.
        weight: float32 on the same grid, 0 to 1.
    """

    mean: Volume
    weight: Volume

    def at(self, points_mm: F64, sigma_mm: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean, smoothed to ``sigma_mm`` in all, and weight at (N, 3) canonical points."""
        from scipy import ndimage

        grid: Grid = self.mean.grid
        extra = np.sqrt(max(sigma_mm**2 - SIGMA_MM**2, 0.0)) / np.asarray(grid.spacing_mm)
        mean = ndimage.gaussian_filter(self.mean.data, extra, mode="nearest")
        index = grid.to_index(points_mm).T
        read = [ndimage.map_coordinates(v, index, order=1, mode="nearest") for v in (mean, self.weight.data)]
        return read[0], read[1]


@lru_cache(maxsize=1)
def load_template() -> Template:
    """The mean skull of the shipped shape model."""
    from calvaria.models import load_shape_arrays

    return template_from(load_shape_arrays())


def template_from(arrays: dict[str, NDArray[np.generic]]) -> Template:
    """Unpack a template stored by the shape model (8 bit)."""
    mean, weight = (arrays[k].astype(np.float32) / 255.0 for k in ("template_mean", "template_weight"))
    shape = (mean.shape[0], mean.shape[1], mean.shape[2])
    grid = Grid(shape, arrays["template_affine"].astype(np.float64))
    return Template(Volume(mean, grid), Volume(weight, grid))
