"""Where patch and skull meet on the outside of the head: the border metrics of Kodym et al. 2021.

A patch that is right on average may still stand proud of the skull along its edge, which the eye sees and the Dice does
not. The paper leaves open which voxels are outer, and what touching is; here, and named in every output:

- a voxel of the patch is *outer* if it has a face on air once patch and skull are joined, and the blurred surface there
  faces away from the head centre, a point 75 mm under the patch;
- it *touches* the skull if one of its 26 neighbours is bone. Where a patch stands proud by more than a voxel, only the
  foot of the step touches, so the border distance shows that there is a step rather than how high it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calvaria.metrics.curvature import PLANE_GRADIENT, blurred, gaussian_curvature, gradient_at
from calvaria.metrics.surface import AROUND, Voxels, any_beside, nearest_mm, surface_voxels
from calvaria.types import F64, BoolArray
from calvaria.volume.volume import Volume

MIN_GRADIENT = 0.25 * PLANE_GRADIENT
"""Border voxels where the gradient of the blurred mask is less (per mm) have no curvature: narrow gaps between thin
plates, as in a sinus, which the blur closes. On the vault there are none."""

HEAD_CENTRE_DEPTH_MM = 75.0
"""The head centre is taken to lie this far under a patch, about a head's radius of curvature."""


@dataclass(frozen=True, eq=False)
class OuterSurface:
    """The outside of a patch that lies in its skull.

    Args:
        joined: patch and skull, blurred; known near the voxels only.
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
        border_mm: mean distance from the prediction's border voxels to the true outer surface; NaN without a border,
            infinite without a true surface.
        curvature_mse: mean squared difference of Gaussian curvature over those where the gradient of the blurred
            mask is large enough to have one, mm^-4; NaN without, and without a true surface.
        border_voxels: how many there are.
    """

    outer_mm: float
    border_mm: float
    curvature_mse: float
    border_voxels: int


def outer_surface(patch: Volume, bone: BoolArray, head_mm: F64, other: Voxels | None = None) -> OuterSurface:
    """The outer voxels of a patch, and which of them touch the skull.

    Args:
        patch: (I, J, K) bool; may be empty.
        bone: (I, J, K) bool, the defective skull near the patch: 10 mm around it and more.
        head_mm: (3,) any point inside the head, such as the centroid of the skull.
        other: (N, 3) further voxels where the blurred field is wanted.

    Raises:
        GeometryError: the grid is sheared.
    """
    joined = patch.mask | bone
    voxels = surface_voxels(patch.mask, joined)
    field = blurred(patch.with_data(joined), at=voxels if other is None else np.concatenate([voxels, other]))
    if not len(voxels):
        return OuterSurface(field, voxels, np.zeros(0, bool))
    points = patch.grid.to_world(voxels)
    centre = points.mean(axis=0)
    down = head_mm - centre
    head_centre = centre + HEAD_CENTRE_DEPTH_MM * down / max(float(np.linalg.norm(down)), 1e-6)
    outwards = -np.einsum("ni,ni->n", gradient_at(field, voxels), points - head_centre)
    voxels = voxels[outwards > 0]
    return OuterSurface(field, voxels, any_beside(voxels, bone, AROUND))


def outer_surfaces(
    prediction: Volume, truth: Volume, bone: BoolArray, head_mm: F64
) -> tuple[OuterSurface, OuterSurface]:
    """The outsides of two patches in the same skull and on the same grid; arguments as for `outer_surface`."""
    ours = outer_surface(prediction, bone, head_mm)
    return ours, outer_surface(truth, bone, head_mm, ours.voxels[ours.border])


def border_errors(ours: OuterSurface, true: OuterSurface) -> BorderErrors:
    """Compare how a predicted and the true patch lie in their skull, from `outer_surfaces`."""
    border = ours.voxels[ours.border]
    there, back = nearest_mm(ours.points_mm, true.points_mm), nearest_mm(true.points_mm, ours.points_mm)
    both = np.concatenate([there, back])
    if not len(border):
        return BorderErrors(float(both.mean()) if len(both) else 0.0, np.nan, np.nan, 0)
    certain = np.linalg.norm(gradient_at(ours.joined, border), axis=1) >= MIN_GRADIENT
    if not len(true.voxels):  # no true patch, so no curvature that it should have
        certain[:] = False
    bend = gaussian_curvature(ours.joined, border[certain]) - gaussian_curvature(true.joined, border[certain])
    return BorderErrors(
        outer_mm=float(both.mean()),
        border_mm=float(there[ours.border].mean()),
        curvature_mse=float((bend**2).mean()) if len(bend) else np.nan,
        border_voxels=len(border),
    )


__all__ = ["BorderErrors", "OuterSurface", "border_errors", "outer_surface", "outer_surfaces"]
