"""Where patch and skull meet on the outside of the head: the border metrics of Kodym et al. 2021.

A patch that is right on average may still stand proud of the skull along its edge, which the eye sees and the Dice does
not. The paper leaves open which voxels are outer, and what touching is; here, and named in every output:

- a voxel of the patch is *outer* if it has a face on air once patch and skull are joined, and the blurred surface there
  looks away from the middle of the head, a point 75 mm under the patch;
- it *touches* the skull if one of its 26 neighbours is bone. Where a patch stands proud by more than a voxel, only the
  foot of the step touches, so the border distance tells that there is a step rather than how high it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calvaria.metrics.curvature import blurred, gaussian_curvature, gradient_at
from calvaria.metrics.surface import nearest_mm, surface_voxels
from calvaria.volume.volume import BoolArray, Volume

F64 = NDArray[np.float64]
Voxels = NDArray[np.intp]

MIDDLE_MM = 75.0
"""The middle of the head lies this far under a patch, about a head's radius of curvature."""


@dataclass(frozen=True, eq=False)
class OuterSurface:
    """The outside of a patch that lies in its skull.

    Args:
        joined: patch and skull, blurred.
        voxels: (N, 3) indices of the patch's outer voxels.
        border: (N,) bool, those that touch the skull.
    """

    joined: Volume
    voxels: Voxels
    border: BoolArray

    @property
    def points_mm(self) -> F64:
        """(N, 3) world mm of the outer voxels."""
        return self.joined.grid.to_world(self.voxels)


@dataclass(frozen=True)
class BorderErrors:
    """How a predicted patch meets the skull, against the true one.

    Args:
        outer_mm: mean distance between the two outer surfaces, all voxels of both pooled; 0 if both are empty,
            infinite if one is.
        border_mm: mean distance from the prediction's border voxels to the true outer surface; NaN without a border.
        curvature_mse: mean squared difference of Gaussian curvature over them, mm^-4; NaN without a border.
        border_voxels: how many there are.
    """

    outer_mm: float
    border_mm: float
    curvature_mse: float
    border_voxels: int


def outer_surface(patch: Volume, bone: BoolArray, head_mm: F64) -> OuterSurface:
    """The outer voxels of a patch, and which of them touch the skull.

    Args:
        patch: (I, J, K) bool; may be empty.
        bone: (I, J, K) bool, the defective skull near the patch: 10 mm around it and more.
        head_mm: (3,) any point inside the head, such as the centroid of the skull.

    Raises:
        GeometryError: the grid is sheared.
    """
    from scipy.ndimage import binary_dilation

    joined = patch.mask | bone
    field = blurred(patch.with_data(joined))
    voxels = np.argwhere(surface_voxels(joined) & patch.mask)
    if not len(voxels):
        return OuterSurface(field, voxels, np.zeros(0, bool))
    points = patch.grid.to_world(voxels)
    centre = points.mean(axis=0)
    down = head_mm - centre
    middle = centre + MIDDLE_MM * down / max(float(np.linalg.norm(down)), 1e-6)
    outwards = -np.einsum("ni,ni->n", gradient_at(field, voxels), points - middle)
    voxels = voxels[outwards > 0]
    beside = binary_dilation(bone, np.ones((3, 3, 3), bool))
    return OuterSurface(field, voxels, beside[tuple(voxels.T)])


def border_errors(prediction: OuterSurface, truth: OuterSurface) -> BorderErrors:
    """Compare the outsides of two patches in the same skull and on the same grid."""
    ours, true = prediction.points_mm, truth.points_mm
    there, back = nearest_mm(ours, true), nearest_mm(true, ours)
    both = np.concatenate([there, back])
    border = prediction.voxels[prediction.border]
    if not len(border):
        return BorderErrors(float(both.mean()) if len(both) else 0.0, np.nan, np.nan, 0)
    bend = gaussian_curvature(prediction.joined, border) - gaussian_curvature(truth.joined, border)
    return BorderErrors(
        outer_mm=float(both.mean()),
        border_mm=float(there[prediction.border].mean()),
        curvature_mse=float((bend**2).mean()),
        border_voxels=len(border),
    )


__all__ = ["BorderErrors", "OuterSurface", "border_errors", "outer_surface"]
