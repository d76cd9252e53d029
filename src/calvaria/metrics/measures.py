"""All metrics of one case in one call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calvaria.errors import InputError
from calvaria.metrics.asymmetry import Mirror, asymmetry_mm
from calvaria.metrics.border import BorderErrors, OuterSurface, border_errors, outer_surfaces
from calvaria.metrics.score import Comparison
from calvaria.metrics.surface import FACES, beside, hausdorff_mm, nearest_mm
from calvaria.metrics.surfels import surface_dice, surfels, weighted_mean, weighted_percentile
from calvaria.types import F64
from calvaria.volume.volume import Volume, indices_of

Outsides = tuple[OuterSurface, OuterSurface]
"""Of the prediction and of the truth."""

CENTROID_STRIDE = 4
"""Every so many voxels along each axis of the skull are looked at for its centroid."""


def measure(prediction: Volume, truth: Volume, defective: Volume, mirror: Mirror | None = None) -> dict[str, float]:
    """Compare a predicted patch with the true one by every metric.

    Args:
        prediction: mask of the predicted patch. May be empty.
        truth: mask of the true patch, on the same grid. May be empty.
        defective: mask of the defective skull, on the same grid; a complete skull may stand in for it.
        mirror: (N, 3) world mm -> the points reflected about the mid-sagittal plane (``Plane.reflect``); None: the
            metrics of symmetry are left out.

    Returns:
        A value for every name in `METRICS`, in that order. Distances are 0 when both patches are empty and infinite
        when one is; border figures are NaN where the prediction has no border, and with the outer surface on a sheared
        grid, where a blur along the axes is none in space. What compares with the true patch alone (its volume, its cut
        face) is NaN where there is none.

    Raises:
        GeometryError: the three do not lie on one grid.
        InputError: one of them is no mask.
    """
    case = Comparison(prediction, truth, defective)
    head_mm = _centroid(defective)
    outsides = _outsides(case, head_mm)
    values = {**_voxels(case), **_surfels(case), **_border(outsides)}
    values |= {"gap_mm": gap_mm(case), "overlap_ml": _overlap_ml(case)}
    if mirror is not None:
        bone = defective.mask & ~truth.mask
        completed = [patch.with_data(bone | patch.mask) for patch in (prediction, truth)]
        values |= _symmetry(outsides, completed, head_mm, mirror)
    return values


def surface_dice_at(prediction: Volume, truth: Volume, tolerance_mm: float) -> float:
    """Surface Dice at any tolerance (Nikolov et al. 2018); `measure` has those at 0.5 and 1 mm.

    Args:
        prediction: mask of the predicted patch. May be empty.
        truth: mask of the true patch, on the same grid. May be empty.
        tolerance_mm: surfels at exactly this distance count as within.

    Returns:
        0 to 1; 1 when both are empty.

    Raises:
        GeometryError: the two do not lie on one grid.
        InputError: one of them is no mask, or the tolerance is not a number of 0 or more.

    >>> from calvaria.volume.grid import Grid
    >>> cube = np.pad(np.ones((3, 3, 3), bool), 2)
    >>> grid = Grid.isotropic((7, 7, 7), 1.0)
    >>> [surface_dice_at(Volume(cube, grid), Volume(np.roll(cube, 1, 0), grid), mm) for mm in (0.5, 1.0)]
    [0.65..., 1.0]
    """
    if not (np.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise InputError(f"a tolerance is a number of mm, 0 or more; got {tolerance_mm}")
    case = Comparison(prediction, truth, truth)
    ours, true = surfels(case.prediction, case.grid), surfels(case.truth, case.grid)
    there, back = nearest_mm(ours.points_mm, true.points_mm), nearest_mm(true.points_mm, ours.points_mm)
    return surface_dice(there, back, ours.area_mm2, true.area_mm2, tolerance_mm)


def _voxels(case: Comparison) -> dict[str, float]:
    scores, there, back = case.scores, case.to_truth_mm, case.to_prediction_mm
    return {
        "dsc": scores.dsc,
        "bdsc": scores.bdsc,
        "hd_mm": hausdorff_mm(there, back, 100.0),
        "hd95_mm": scores.hd95_mm,
        "hd95_max_mm": _larger_percentile(there, back),
    }


def _larger_percentile(there: F64, back: F64) -> float:
    if len(there) == 0 or len(back) == 0:
        return hausdorff_mm(there, back)
    return float(max(np.percentile(there, 95.0), np.percentile(back, 95.0)))


def _surfels(case: Comparison) -> dict[str, float]:
    ours = surfels(case.prediction, case.grid, case.prediction_surface)
    true = surfels(case.truth, case.grid, case.truth_surface)
    there, back = nearest_mm(ours.points_mm, true.points_mm), nearest_mm(true.points_mm, ours.points_mm)
    areas = ours.area_mm2, true.area_mm2
    return {
        "hd95_area_mm": max(weighted_percentile(there, areas[0], 95.0), weighted_percentile(back, areas[1], 95.0)),
        "sdsc_0.5mm": surface_dice(there, back, *areas, 0.5),
        "sdsc_1mm": surface_dice(there, back, *areas, 1.0),
        "msd_mm": _symmetric(weighted_mean(there, areas[0]), weighted_mean(back, areas[1])),
        "assd_mm": _symmetric(_mean(case.to_truth_mm), _mean(case.to_prediction_mm)),
        "volume_error_percent": case.scores.volume_error_percent,
    }


def _outsides(case: Comparison, head_mm: F64) -> Outsides | None:
    """Outer surfaces of prediction and truth; None on a sheared grid."""
    if not case.grid.is_orthogonal:
        return None
    prediction, truth = (Volume(mask, case.grid) for mask in (case.prediction, case.truth))
    return outer_surfaces(prediction, truth, case.bone, head_mm)


def _border(outsides: Outsides | None) -> dict[str, float]:
    found = BorderErrors(np.nan, np.nan, np.nan, 0) if outsides is None else border_errors(*outsides)
    return {
        "outer_mm": found.outer_mm,
        "border_mm": found.border_mm,
        "border_curvature_mse_mm4": found.curvature_mse,
    }


def _symmetry(outsides: Outsides | None, completed: Sequence[Volume], head_mm: F64, mirror: Mirror) -> dict[str, float]:
    if outsides is None:
        return {"asymmetry_mm": np.nan, "asymmetry_excess_mm": np.nan}
    ours, true = (
        asymmetry_mm(outside.points_mm, skull, head_mm, mirror)
        for outside, skull in zip(outsides, completed, strict=True)
    )
    return {"asymmetry_mm": ours, "asymmetry_excess_mm": ours - true}


def outer_mm(case: Comparison, defective: Volume) -> float:
    """Mean distance between the outer surfaces of both patches, mm, as `measure` has it; NaN on a sheared grid.

    Args:
        case: the two patches.
        defective: mask of their whole defective skull.
    """
    return _border(_outsides(case, _centroid(defective)))["outer_mm"]


def gap_mm(case: Comparison) -> float:
    """How far the prediction stays from the skull's cut face, mean over the face, mm.

    The face is the bone with a face on the true patch; from each of its voxels the distance to the prediction counts,
    less that to the true patch. Infinite for an empty prediction; without a face 0 when both patches are empty, else
    NaN: there is nothing to stay away from.
    """
    face = beside(case.truth_surface, case.bone, FACES)
    if not len(face):
        return 0.0 if not len(case.truth_surface) and not len(case.prediction_surface) else float("nan")
    at = case.grid.to_world(face)
    to_truth, to_ours = (nearest_mm(at, surface) for surface in (case.truth_surface_mm, case.prediction_surface_mm))
    return float(np.maximum(to_ours - to_truth, 0.0).mean())


def _overlap_ml(case: Comparison) -> float:
    return case.scores.overlap_voxels * case.grid.voxel_volume_mm3 / 1000.0


def _centroid(skull: Volume) -> F64:
    """(3,) world mm, of a thinned skull; the middle of the grid for an empty one."""
    thin = tuple(slice(None, None, CENTROID_STRIDE) for _ in range(3))
    index = indices_of(skull.mask[thin]) * CENTROID_STRIDE
    middle = index.mean(axis=0) if len(index) else (np.array(skull.shape) - 1) / 2
    return np.asarray(skull.grid.to_world(middle))


def _mean(distance_mm: F64) -> float:
    return float(distance_mm.mean()) if len(distance_mm) else float("nan")


def _symmetric(there: float, back: float) -> float:
    """Mean of two directed means: of an empty surface there is none."""
    if np.isnan(there) and np.isnan(back):
        return 0.0
    return float("inf") if np.isnan(there) or np.isnan(back) else (there + back) / 2


__all__ = ["gap_mm", "measure", "outer_mm", "surface_dice_at"]
