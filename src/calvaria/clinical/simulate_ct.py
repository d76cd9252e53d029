"""A CT that a bone mask might have come from: air, soft tissue, bone, blur by the slices, noise."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError
from calvaria.volume.distance import distance_to
from calvaria.volume.grid import Grid
from calvaria.volume.resample import resample, resample_soft
from calvaria.volume.volume import Volume

AIR_HU, TISSUE_HU, BONE_HU = -1000.0, 40.0, 800.0
"""Air; brain and muscle, about; a mean of cortical bone and diploe."""

BONE_SPREAD_HU, GRAIN_MM = 120.0, 4.0
"""Bone varies by this standard deviation, over about this length."""

SCALP_MM = 5.0
"""Soft tissue around the hull of the bone."""

HULL_MM = 4.0
"""Step of the grid on which the hull is found."""


@dataclass(frozen=True)
class CtSpec:
    """How a CT is taken.

    Args:
        pixel_mm: voxel edge within a slice.
        slice_mm: distance and thickness of slices.
        noise_hu: standard deviation of the noise.
        seed: which noise.

    Raises:
        InputError: a size is not positive, or the noise negative.
    """

    pixel_mm: float = 0.8
    slice_mm: float = 1.25
    noise_hu: float = 15.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.pixel_mm > 0 and self.slice_mm > 0 and self.noise_hu >= 0):
            raise InputError(f"a CT needs positive voxels and noise of 0 HU or more; got {asdict(self)}")


def sample_ct(rng: np.random.Generator) -> CtSpec:
    """Draw how a CT is taken: slices of 1 to 1.5 mm, noise of 8 to 25 HU."""
    slice_mm, noise_hu = round(float(rng.uniform(1.0, 1.5)), 2), round(float(rng.uniform(8.0, 25.0)), 1)
    return CtSpec(slice_mm=slice_mm, noise_hu=noise_hu, seed=int(rng.integers(2**31)))


def synthesise_ct(skull: Volume, spec: CtSpec) -> Volume:
    """A CT of a head with this bone; the scalp is the hull of the bone, 5 mm further out.

    Args:
        skull: mask with the scan's whole field of view; slices run along its third axis.
        spec: how it is taken.

    Returns:
        int16 HU, on the same field of view.

    Raises:
        InputError: the volume is no mask, or holds too little bone for a hull.
    """
    grid = _retaken(skull.grid, spec)
    bone = resample_soft(skull, grid).data
    rng = np.random.default_rng(spec.seed)
    image = _tissue_share(skull, grid)
    image *= TISSUE_HU - AIR_HU
    image += AIR_HU
    image += bone * (BONE_HU + BONE_SPREAD_HU * _grain(grid, rng) - image)
    image += rng.normal(scale=spec.noise_hu, size=image.shape).astype(np.float32)
    return Volume(np.asfortranarray(np.rint(np.clip(image, -1024, 3071)).astype(np.int16)), grid)


def _retaken(grid: Grid, spec: CtSpec) -> Grid:
    """The same field of view in other voxels."""
    wanted = np.array([spec.pixel_mm, spec.pixel_mm, spec.slice_mm])
    steps = wanted / np.array(grid.spacing_mm)
    i, j, k = (max(int(n / step), 1) for n, step in zip(grid.shape, steps, strict=True))
    affine = grid.affine @ np.diag([*steps, 1.0])
    affine[:3, 3] = grid.to_world(steps / 2 - 0.5)  # the first voxels begin where the old ones did
    return Grid((i, j, k), affine)


def _tissue_share(skull: Volume, grid: Grid) -> NDArray[np.float32]:
    """Share of each voxel that is head: bone's hull, grown by the scalp."""
    from scipy.spatial import ConvexHull, QhullError

    steps = HULL_MM / np.array(grid.spacing_mm)
    i, j, k = (int(n / step) + 2 for n, step in zip(grid.shape, steps, strict=True))
    coarse = Grid((i, j, k), grid.affine @ np.diag([*steps, 1.0]))
    points = np.argwhere(resample_soft(skull, coarse).data > 0.3).astype(float)
    try:
        planes = ConvexHull(points).equations
    except (QhullError, ValueError) as error:
        raise InputError(f"there is too little bone for a head around it: {skull.volume_ml:.1f} ml") from error
    centres = np.stack(np.unravel_index(np.arange(coarse.size), coarse.shape), axis=1).astype(np.float64)
    within = np.arange(len(centres))
    for plane in planes:
        within = within[centres[within] @ plane[:3] + plane[3] <= 0]
    inside = np.zeros(coarse.size, bool)
    inside[within] = True
    hull = Volume(inside.reshape(coarse.shape), coarse)
    beyond = distance_to(hull, limit_mm=SCALP_MM + 3 * HULL_MM)
    # The hull passes through voxels' centres; a step of one voxel within the slice at the skin.
    skin = Volume(0.5 - (beyond - SCALP_MM) / grid.spacing_mm[0], coarse)
    return np.asarray(np.clip(resample(skin, grid, fill=0.0).data, 0.0, 1.0), np.float32)


def _grain(grid: Grid, rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise of about unit standard deviation."""
    steps = GRAIN_MM / np.array(grid.spacing_mm)
    i, j, k = (int(n / step) + 2 for n, step in zip(grid.shape, steps, strict=True))
    noise = Volume(
        rng.standard_normal((i, j, k), dtype=np.float32), Grid((i, j, k), grid.affine @ np.diag([*steps, 1.0]))
    )
    return np.asarray(resample(noise, grid).data, np.float32)


__all__ = ["CtSpec", "sample_ct", "synthesise_ct"]
