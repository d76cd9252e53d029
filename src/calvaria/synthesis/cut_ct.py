"""A hole cut into a real CT: bone is replaced by soft tissue with the scan's own noise, as it is after an operation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calvaria.errors import InputError
from calvaria.types import F32
from calvaria.volume.distance import distance_to
from calvaria.volume.volume import Volume

TISSUE_HU = 40.0
"""What fills a hole: scalp, dura, brain."""

SOFT_HU = (0.0, 80.0)
"""Noise is measured where neighbouring values lie in this range: brain and muscle."""

BONY_HU = 90.0
"""Values above this, lightly smoothed, hold bone and are replaced; scalp and air in the hole stay."""

SMOOTH_VOXELS = 0.7
"""Standard deviation of that smoothing."""

EDGE_MM = 1.2
"""A hole ends softly over twice this, half at its edge: bone's share of the voxels along a sawn rim."""

AROUND_MM = 3.0
"""A hole holds all so near to the missing bone: voxels that are partly bone lie outside of it."""

LEVEL = 0.5
"""A voxel lies in a hole where more than this share of it does."""

APART_VOXELS = 4
"""Noise of voxels so far apart is independent."""

MIN_PAIRS = 200
"""Pairs of voxels of which noise can be measured."""


class Noise(NamedTuple):
    """Noise of a scan.

    Args:
        sd_hu: its standard deviation.
        grain_voxels: standard deviation of the blur that makes its grain, along each axis.
    """

    sd_hu: float
    grain_voxels: tuple[float, float, float]


def hole_of(missing: Volume, defective: Volume) -> Volume:
    """A soft hole around bone that is to go.

    Args:
        missing: that bone, a mask, not empty.
        defective: the bone that stays, on the same grid.

    Returns:
        float32, 1 in the hole and 0 outside; half where missing and staying bone meet.

    Raises:
        GeometryError: the two lie on different grids.
        InputError: there is no missing bone.
    """
    missing.grid.require_same(defective.grid, "the missing bone and the bone that stays")
    if not missing.mask.any():
        raise InputError("there is no missing bone, so no hole to cut")
    limit = AROUND_MM + 3 * EDGE_MM
    near, far = distance_to(missing, limit_mm=limit), distance_to(defective, limit_mm=limit)
    share = np.clip(0.5 + (far - near) / (4 * EDGE_MM), 0.0, 1.0)
    share[near > AROUND_MM] = 0.0
    return missing.with_data(share.astype(np.float32))


def cut_ct(ct: Volume, hole: Volume, rng: np.random.Generator) -> Volume:
    """Replace the bone in a hole by soft tissue.

    Args:
        ct: HU.
        hole: shares of 0 to 1 on the same grid, see `hole_of`; at the rim the two are mixed.
        rng: draws the noise of what is put in, which is like that of the scan.

    Returns:
        HU in the type of ``ct``, on its grid.

    Raises:
        GeometryError: the two lie on different grids.
        InputError: the scan shows no soft tissue of which its noise could be measured.
    """
    from scipy.ndimage import gaussian_filter

    ct.grid.require_same(hole.grid, "the CT and the hole")
    noise = noise_of(ct)
    smooth = gaussian_filter(ct.data, SMOOTH_VOXELS, output=np.float32)
    share = np.where(smooth > BONY_HU, hole.data, np.float32(0))
    tissue = TISSUE_HU + _drawn(noise, ct.shape, rng)
    out = ct.data + share * (tissue - ct.data)
    return ct.with_data((np.rint(out) if ct.data.dtype.kind in "iu" else out).astype(ct.data.dtype))


def noise_of(ct: Volume) -> Noise:
    """The noise of a scan's soft tissue, by differences of neighbouring voxels.

    Args:
        ct: HU.

    Raises:
        InputError: there is too little soft tissue.
    """
    sds, grains = [], []
    for axis in range(3):
        far, near = _spread(ct, axis, APART_VOXELS), _spread(ct, axis, 1)
        if far is None or near is None:
            raise InputError("the scan shows no soft tissue of which its noise could be measured; is it a CT in HU?")
        sds.append(far)
        # White noise blurred by s has the correlation exp(-1 / (4 s^2)) between neighbours.
        alike = 1 - (near / far) ** 2 if far else 0.0
        grains.append(float(np.sqrt(-0.25 / np.log(alike))) if 0.02 < alike < 1 else 0.0)
    a, b, c = grains
    return Noise(float(np.median(sds)), (a, b, c))


def _spread(ct: Volume, axis: int, apart: int) -> float | None:
    """Standard deviation of the noise by pairs of voxels some voxels apart, in soft tissue; None for too few."""
    lines = np.moveaxis(ct.data, axis, 0)
    one, other = lines[:-apart].astype(np.float32), lines[apart:].astype(np.float32)
    low, high = 2 * np.array(SOFT_HU)
    soft = (one + other > low) & (one + other < high) & (np.abs(one - other) < 2 * high)
    if np.count_nonzero(soft) < MIN_PAIRS:
        return None
    return float(1.4826 * np.median(np.abs(one[soft] - other[soft])) / np.sqrt(2))


def _drawn(noise: Noise, shape: tuple[int, int, int], rng: np.random.Generator) -> F32:
    """Noise like that of a scan."""
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(rng.standard_normal(shape, np.float32), noise.grain_voxels)
    found: F32 = field * np.float32(noise.sd_hu / field.std())
    return found


__all__ = ["LEVEL", "Noise", "cut_ct", "hole_of", "noise_of"]
