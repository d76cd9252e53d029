"""A skull that is nobody's: drawn from the shape model, for the demo and for trying things out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calvaria.models import load_shape_arrays
from calvaria.reconstruction.shape_prior.model import ShapeModel, bone_depth, plate_lack
from calvaria.synthesis.defects import cut_defect
from calvaria.volume import Grid, Volume, fill_holes, largest_component, resample

SPACING_MM = 0.8
"""Voxel edge of the sample."""

MODES = 60
"""Modes that are drawn; the finer ones would add only roughness."""

SPREAD = 0.7
"""Coefficients are drawn from a normal distribution of this standard deviation: a head well within the usual."""

ROUGH_MM, ROUGH_LENGTH_MM = 0.25, 6.0
"""Bumps that no mode describes: standard deviation and size. Without them the sample lies in the model's own span and
would be completed better than any real skull."""

PLATE = 0.7
"""Share of the usual thickness that every plate keeps."""

KINDS = ("random_1", "bilateral", "parietotemporal")
"""Kinds of defect, one after the other as the seed counts up."""


def sample_case(seed: int = 0) -> tuple[Volume, Volume]:
    """Draw a skull and cut a defect out of it.

    Args:
        seed: which skull and which defect.

    Returns:
        The defective skull and the patch that was cut out: masks of 0.8 mm voxels, LPS, canonical pose.
    """
    rng = np.random.default_rng(seed)
    complete = sample_skull(rng)
    _, defective, patch = cut_defect(complete, KINDS[seed % len(KINDS)], rng, np.eye(4))
    return defective, patch


def sample_skull(rng: np.random.Generator) -> Volume:
    """A complete skull drawn from the shipped shape model, as a mask of 0.8 mm voxels."""
    model = ShapeModel.from_arrays(load_shape_arrays())
    weights = SPREAD * rng.standard_normal((1, min(MODES, model.count))).astype(np.float32)
    distance = (model.mean + model.combine(weights)[0]).reshape(model.grid.shape)
    # A sum of modes blurs thin plates away: keep most of the usual thickness, so that the temples are closed.
    distance -= plate_lack(bone_depth(distance, model.spacing_mm), model.depth, PLATE)
    distance += ROUGH_MM * _bumps(model.grid.shape, ROUGH_LENGTH_MM / model.spacing_mm, rng)
    fine = resample(Volume(distance, model.grid), _fine_grid(model.grid), order=1, fill=9.0)
    bone = fill_holes(largest_component(fine.with_data(fine.data < 0)))
    return bone


def _fine_grid(coarse: Grid) -> Grid:
    shape = tuple(int((n - 1) * s / SPACING_MM) + 1 for n, s in zip(coarse.shape, coarse.spacing_mm, strict=True))
    return Grid.isotropic((shape[0], shape[1], shape[2]), SPACING_MM, coarse.affine[:3, 3])


def _bumps(shape: tuple[int, int, int], length_voxels: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise of unit standard deviation."""
    from scipy import ndimage

    noise = ndimage.gaussian_filter(rng.standard_normal(shape).astype(np.float32), length_voxels)
    return np.asarray(noise / noise.std(), np.float32)
