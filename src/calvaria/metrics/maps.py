"""Where on the surface a patch is wrong: errors point by point, for pictures and coloured meshes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calvaria.metrics.curvature import blurred, gaussian_curvature
from calvaria.metrics.score import Comparison
from calvaria.metrics.surfels import surfels
from calvaria.types import F64, BoolArray
from calvaria.volume.distance import signed_distance
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

NEAREST = 20
"""Points of a map that a value between them is taken from: those within about two voxels."""

LIMIT_MM = 10.0
"""Errors are cut at this size."""


@dataclass(frozen=True, eq=False)
class ErrorMap:
    """Values at points of a surface.

    Args:
        points_mm: (N, 3) world mm.
        values: (N,) there.
    """

    points_mm: F64
    values: F64

    def at(self, points_mm: F64) -> F64:
        """(M,) values at other points near the surface: means of the nearest few, nearer ones counting more.

        Surfaces of masks are stairs; over some of them the error comes out finer than a voxel.
        """
        from scipy.spatial import cKDTree

        if not len(self.points_mm):
            return np.zeros(len(points_mm))
        count = min(NEAREST, len(self.points_mm))
        far, place = cKDTree(self.points_mm).query(points_mm, k=count, workers=-1)
        far, place = far.reshape(-1, count), place.reshape(-1, count)
        weight = 1.01 - (far / np.maximum(far[:, -1:], 1e-9)) ** 2
        values = self.values[place]
        return np.asarray((weight * values).sum(axis=1) / weight.sum(axis=1))


@dataclass(frozen=True, eq=False)
class ErrorMaps:
    """Errors of a predicted patch, on its own surface and on the true one's.

    Args:
        prediction_mm: on the prediction's surface, how far it stands beyond the true bone (positive) or within it.
        truth_mm: on the true surface, how far the prediction stands beyond it (positive) or stays behind.
        curvature_mm2: on the prediction's surface, Gaussian curvature of the completed skull less the true one, mm^-2;
            no points on a sheared grid.
    """

    prediction_mm: ErrorMap
    truth_mm: ErrorMap
    curvature_mm2: ErrorMap


def error_maps(prediction: Volume, truth: Volume, defective: Volume) -> ErrorMaps:
    """Where a predicted patch is wrong.

    Distances are differences of the signed distances to the two completed skulls: positive where the prediction has
    bone that the truth has not, 0 for the true patch itself, cut at 10 mm. So a patch that is too thick is positive on
    both sides.

    Args:
        prediction: mask of the predicted patch. May be empty.
        truth: mask of the true patch, on the same grid. May be empty.
        defective: mask of the defective skull, on the same grid.

    Raises:
        GeometryError: the three do not lie on one grid.
        InputError: one of them is no mask.
    """
    case = Comparison(prediction, truth, defective)
    ours, true = (case.bone | patch for patch in (case.prediction, case.truth))
    excess = sum(
        sign * signed_distance(Volume(mask, case.grid), limit_mm=LIMIT_MM) for sign, mask in ((1, true), (-1, ours))
    )
    distance = [
        _sampled(np.asarray(excess), surfels(patch, case.grid, surface).points_mm, case.grid)
        for patch, surface in ((case.prediction, case.prediction_surface), (case.truth, case.truth_surface))
    ]
    return ErrorMaps(distance[0], distance[1], _curvature(case, ours, true))


def _sampled(field: NDArray[np.float32], points_mm: F64, grid: Grid) -> ErrorMap:
    from scipy.ndimage import map_coordinates

    index = grid.to_index(points_mm).T
    values = map_coordinates(field, index, order=1, mode="nearest", output=np.float64)
    return ErrorMap(points_mm, np.clip(values, -LIMIT_MM, LIMIT_MM))


def _curvature(case: Comparison, ours: BoolArray, true: BoolArray) -> ErrorMap:
    voxels = case.prediction_surface
    if not case.grid.is_orthogonal or not len(voxels):
        return ErrorMap(np.zeros((0, 3)), np.zeros(0))
    first, second = (gaussian_curvature(blurred(Volume(mask, case.grid), at=voxels), voxels) for mask in (ours, true))
    return ErrorMap(case.prediction_surface_mm, first - second)


__all__ = ["LIMIT_MM", "ErrorMap", "ErrorMaps", "error_maps"]
