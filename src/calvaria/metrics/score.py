"""The challenge's figures of one case: Dice, border Dice, 95 % Hausdorff distance.

Definitions follow the official evaluation code of AutoImplant 2021 (github.com/OldaKodym/evaluation_metrics).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from calvaria.metrics.overlap import BORDER_REACH_MM, dice, near_bone
from calvaria.metrics.surface import Voxels, hausdorff_mm, nearest_mm, surface_voxels
from calvaria.types import BoolArray
from calvaria.volume.grid import Box, Grid
from calvaria.volume.volume import Volume, bounding_box


@dataclass(frozen=True)
class Scores:
    """Figures of one patch against the truth.

    Args:
        dsc: Dice overlap, 0 to 1; 1 when both are empty.
        bdsc: the same over voxels at most 10 mm from the defective skull; NaN where there are patches, but no voxel of
            either lies so near.
        hd95_mm: 95th percentile of both directed surface distance sets pooled; 0 when both are empty, infinite
            when one is.
        volume_error_percent: predicted minus true volume in percent of the true one; 0 when both are empty, NaN when
            only the true one is.
        overlap_voxels: predicted voxels that lie in the defective skull; 0 is the contract.
    """

    dsc: float
    bdsc: float
    hd95_mm: float
    volume_error_percent: float
    overlap_voxels: int


class Comparison:
    """A predicted and a true patch beside their defective skull, cropped once; surfaces and distances on demand.

    All metrics read from here, so each surface and each set of distances is computed once.

    Args:
        prediction: mask of the predicted patch. May be empty.
        truth: mask of the true patch, on the same grid. May be empty.
        defective: mask of the defective skull, on the same grid; a complete skull may stand in for it, as the true
            patch is taken out of it.

    Raises:
        GeometryError: the three do not lie on one grid.
        InputError: one of them is no mask.
    """

    def __init__(self, prediction: Volume, truth: Volume, defective: Volume) -> None:
        truth.grid.require_same(prediction.grid, "the predicted and the true patch")
        truth.grid.require_same(defective.grid, "the true patch and the defective skull")
        box = _box(prediction.mask, truth.mask, truth.grid)
        self.grid: Grid = truth.grid.crop(box)
        self.prediction: BoolArray = _own(prediction.mask[box])
        self.truth: BoolArray = _own(truth.mask[box])
        self.bone: BoolArray = _own(defective.mask[box]) & ~self.truth

    @cached_property
    def near_bone(self) -> BoolArray:
        """(I, J, K) bool: voxels of either patch at most 10 mm from the defective skull."""
        return near_bone(self.prediction | self.truth, self.bone, self.grid, BORDER_REACH_MM)

    @cached_property
    def prediction_surface(self) -> Voxels:
        """(N, 3) indices: surface voxels of the predicted patch."""
        return surface_voxels(self.prediction)

    @cached_property
    def truth_surface(self) -> Voxels:
        """(M, 3) indices: surface voxels of the true patch."""
        return surface_voxels(self.truth)

    @cached_property
    def prediction_surface_mm(self) -> NDArray[np.float64]:
        """(N, 3) world mm of them."""
        return self.grid.to_world(self.prediction_surface)

    @cached_property
    def truth_surface_mm(self) -> NDArray[np.float64]:
        """(M, 3) world mm of them."""
        return self.grid.to_world(self.truth_surface)

    @cached_property
    def to_truth_mm(self) -> NDArray[np.float64]:
        """(N,) mm: from each surface voxel of the prediction to the true surface."""
        return nearest_mm(self.prediction_surface_mm, self.truth_surface_mm)

    @cached_property
    def to_prediction_mm(self) -> NDArray[np.float64]:
        """(M,) mm: from each surface voxel of the truth to the predicted surface."""
        return nearest_mm(self.truth_surface_mm, self.prediction_surface_mm)

    @cached_property
    def scores(self) -> Scores:
        """The challenge's figures."""
        predicted, true = int(np.count_nonzero(self.prediction)), int(np.count_nonzero(self.truth))
        return Scores(
            dsc=dice(self.prediction, self.truth),
            bdsc=self._border_dice(),
            hd95_mm=hausdorff_mm(self.to_truth_mm, self.to_prediction_mm),
            volume_error_percent=_percent_more(predicted, true),
            overlap_voxels=int(np.count_nonzero(self.prediction & self.bone)),
        )

    def _border_dice(self) -> float:
        """Dice near bone: two patches that both stay away from all bone have no border to agree on."""
        if not self.near_bone.any() and (self.prediction.any() or self.truth.any()):
            return math.nan
        return dice(self.prediction & self.near_bone, self.truth & self.near_bone)


def score(prediction: Volume, truth: Volume, defective: Volume) -> Scores:
    """Compare a predicted patch with the true one.

    Args:
        prediction: mask of the predicted patch. May be empty.
        truth: mask of the true patch. May be empty.
        defective: mask of the defective skull; the complete skull gives the same figures.

    Returns:
        The figures; see :class:`Scores` for the empty cases.

    Raises:
        GeometryError: the three do not lie on one grid.
        InputError: one of them is no mask.

    >>> from calvaria.volume.grid import Grid
    >>> skull = Volume(np.ones((4, 4, 4), bool), Grid.isotropic((4, 4, 4), 1.0))
    >>> patch = skull.with_data(np.arange(64).reshape(4, 4, 4) < 16)
    >>> score(patch, patch, skull)
    Scores(dsc=1.0, bdsc=1.0, hd95_mm=0.0, volume_error_percent=0.0, overlap_voxels=0)
    """
    return Comparison(prediction, truth, defective).scores


def _percent_more(predicted: int, true: int) -> float:
    if not true:  # of nothing there are no percent
        return math.nan if predicted else 0.0
    return 100.0 * (predicted - true) / true


def _box(prediction: BoolArray, truth: BoolArray, grid: Grid) -> Box:
    """Both patches and everything within the border's reach of them; one voxel when both are empty."""
    per_mm = np.linalg.norm(grid.inverse[:3, :3], axis=1)
    a, b, c = (int(n) for n in np.ceil(BORDER_REACH_MM * per_mm) + 1)
    boxes = [box for box in (bounding_box(prediction, (a, b, c)), bounding_box(truth, (a, b, c))) if box is not None]
    if not boxes:
        return slice(0, 1), slice(0, 1), slice(0, 1)
    i, j, k = (slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))
    return i, j, k


def _own(part: BoolArray) -> BoolArray:
    """A compact copy of a crop, so that the large array is read once (in C order, in which voxels are walked)."""
    return np.ascontiguousarray(part)


__all__ = ["Comparison", "Scores", "score"]
